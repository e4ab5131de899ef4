//! A next hop with TLS that takes mail, refuses `bad...` for good and puts off `later...`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Its port.
pub fn start() -> u16 {
    let pair = rcgen::generate_simple_self_signed(["hop.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let tls = Arc::new(tls);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tls = tls.clone();
            std::thread::spawn(move || {
                let _ = serve(stream, tls);
            });
        }
    });
    port
}

fn serve(mut stream: TcpStream, tls: Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 hop.example ESMTP\r\n")?;
    if talk(&mut stream, true)? {
        let session = ServerConnection::new(tls).map_err(std::io::Error::other)?;
        talk(&mut StreamOwned::new(session, stream), false)?;
    }
    Ok(())
}

/// Whether the client wants to go on in TLS.
fn talk<S: Read + Write>(stream: &mut S, clear: bool) -> std::io::Result<bool> {
    let mut lines = BufReader::new(stream);
    let (mut line, mut rcpts) = (String::new(), 0);
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let answer = match line.get(..4).unwrap_or("").to_ascii_uppercase().as_str() {
            "EHLO" if clear => "250-hop.example\r\n250-8BITMIME\r\n250 STARTTLS\r\n",
            "EHLO" => "250-hop.example\r\n250-8BITMIME\r\n250 SIZE 1000000\r\n",
            "STAR" => {
                lines.get_mut().write_all(b"220 2.0.0 go on\r\n")?;
                lines.get_mut().flush()?;
                return Ok(true);
            }
            "RCPT" if line.contains("<bad") => "550 5.1.1 no such user\r\n",
            "RCPT" if line.contains("<later") => "452 4.2.2 mailbox full, over quota\r\n",
            "RCPT" => {
                rcpts += 1;
                "250 2.1.5 ok\r\n"
            }
            "DATA" if rcpts == 0 => "554 5.5.1 no recipients\r\n",
            "DATA" => {
                lines.get_mut().write_all(b"354 go on\r\n")?;
                lines.get_mut().flush()?;
                while line != ".\r\n" {
                    line.clear();
                    if lines.read_line(&mut line)? == 0 {
                        return Ok(false);
                    }
                }
                "250 2.0.0 taken as Q17\r\n"
            }
            "QUIT" => {
                lines.get_mut().write_all(b"221 2.0.0 bye\r\n")?;
                lines.get_mut().flush()?;
                return Ok(false);
            }
            _ => {
                rcpts = 0;
                "250 2.0.0 ok\r\n"
            }
        };
        lines.get_mut().write_all(answer.as_bytes())?;
        lines.get_mut().flush()?;
    }
}
