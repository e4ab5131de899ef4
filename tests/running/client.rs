//! A sender: one SMTP connection, one reply code at a time.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

pub struct Client {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut client = Client { stream, lines };
        assert_eq!(client.reply(), 220);
        assert_eq!(client.say("EHLO client.example"), 250);
        client
    }

    fn reply(&mut self) -> u16 {
        let mut line = String::new();
        loop {
            line.clear();
            self.lines.read_line(&mut line).unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.get(..3).and_then(|c| c.parse().ok()).unwrap_or(0);
            }
        }
    }

    fn say(&mut self, line: &str) -> u16 {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    /// What RCPT is answered; the transaction is given up.
    pub fn rcpt(&mut self, address: &str) -> u16 {
        assert_eq!(self.say("MAIL FROM:<news@from.example>"), 250);
        let code = self.say(&format!("RCPT TO:<{address}>"));
        assert_eq!(self.say("RSET"), 250);
        code
    }

    /// What the final dot is answered.
    pub fn send(&mut self, address: &str) -> u16 {
        self.mail("news@from.example", address, "From: <news@from.example>\r\nSubject: hello\r\n\r\nhello\r\n")
    }

    /// What the final dot of this mail is answered; no line of it begins with a dot.
    pub fn mail(&mut self, from: &str, to: &str, content: &str) -> u16 {
        self.mail_with(&format!("<{from}>"), &format!("<{to}>"), content)
    }

    /// As [`Client::mail`], to several.
    pub fn mail_to(&mut self, from: &str, to: &[&str], content: &str) -> u16 {
        assert_eq!(self.say(&format!("MAIL FROM:<{from}>")), 250);
        for rcpt in to {
            assert_eq!(self.say(&format!("RCPT TO:<{rcpt}>")), 250);
        }
        assert_eq!(self.say("DATA"), 354);
        self.say(&format!("{content}."))
    }

    /// As [`Client::mail`], with paths and parameters as they stand in the commands.
    pub fn mail_with(&mut self, from: &str, to: &str, content: &str) -> u16 {
        assert_eq!(self.say(&format!("MAIL FROM:{from}")), 250);
        assert_eq!(self.say(&format!("RCPT TO:{to}")), 250);
        assert_eq!(self.say("DATA"), 354);
        self.say(&format!("{content}."))
    }

    /// The certificate shown after STARTTLS, as DER.
    pub fn certificate(mut self) -> Vec<u8> {
        assert_eq!(self.say("STARTTLS"), 220);
        let seen = Arc::new(Seen::default());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(seen.clone())
            .with_no_client_auth();
        let name = ServerName::try_from("mta.running.example").unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream).unwrap();
        }
        seen.0.lock().unwrap().clone()
    }
}

/// Takes any certificate and remembers it.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Vec<u8>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
