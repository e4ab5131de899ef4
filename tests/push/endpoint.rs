//! A small HTTP server that answers as it is told and remembers what it was sent.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::Value;

/// What a request gets.
pub enum Answer {
    Status(u16),
    RetryAfter(u16, u64),
    /// 204, or 413 where the body is longer than this.
    UpTo(usize),
    /// Too late.
    Slow(Duration),
    /// The connection ends without an answer.
    HangUp,
    /// The same, though what came was taken.
    AcceptAndHangUp,
}

/// A request as it came.
#[derive(Clone)]
pub struct Request {
    pub at: Instant,
    pub headers: Vec<(String, String)>,
    /// Unpacked.
    pub body: Vec<u8>,
    pub accepted: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn records(&self) -> Vec<Value> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Array(all)) => all,
            Ok(one) => vec![one],
            Err(_) => {
                let text = std::str::from_utf8(&self.body).unwrap();
                text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
            }
        }
    }
}

/// As a receiver would, by schemas/README.md.
pub fn verify(key: &str, request: &Request) {
    let header = request.header("carom-signature").expect("signed");
    let mut parts = header.split(',');
    let time = parts.next().unwrap().strip_prefix("t=").unwrap();
    let mac = parts.next().unwrap().strip_prefix("v1=").unwrap();
    let mac = data_encoding::HEXLOWER.decode(mac.as_bytes()).unwrap();
    let signed = [time.as_bytes(), b".", &request.body].concat();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &signed, &mac).expect("a right signature");
    let age = jiff::Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    assert!((0..120).contains(&age), "{age}");
}

pub struct Endpoint {
    scheme: &'static str,
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Endpoint {
    /// `answer` is asked with the number of the request, from 1.
    pub fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Endpoint {
        Endpoint::serving("http", answer, Some)
    }

    /// The same behind TLS. Its certificate, PEM, signed by itself.
    pub fn start_tls(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> (Endpoint, String) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let wrap = move |stream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(rustls::StreamOwned::new(session, stream))
        };
        (Endpoint::serving("https", answer, wrap), made.cert.pem())
    }

    fn serving<S: Read + Write>(
        scheme: &'static str,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
    ) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer, wrap) = (Arc::clone(&requests), Arc::new(answer), Arc::new(wrap));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer, wrap) = (Arc::clone(&seen), Arc::clone(&answer), Arc::clone(&wrap));
                std::thread::spawn(move || {
                    let _ = wrap(stream).map(|stream| serve(stream, &seen, answer.as_ref()));
                });
            }
        });
        Endpoint { scheme, port, requests }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/hook", self.scheme, self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The ids of the events that were accepted.
    pub fn accepted(&self) -> BTreeSet<String> {
        let requests = self.requests();
        let records = requests.iter().filter(|r| r.accepted).flat_map(Request::records);
        records.map(|r| r["eventId"].as_str().unwrap().to_owned()).collect()
    }
}

fn serve<S: Read + Write>(
    stream: S,
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(usize) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => headers.extend(line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()))),
            }
        }
        let of = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        let mut body = vec![0; of("content-length").unwrap().parse().unwrap()];
        reader.read_exact(&mut body)?;
        if of("content-encoding").as_deref() == Some("gzip") {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
            body = plain;
        }
        let answer = {
            let mut seen = seen.lock().unwrap();
            let answer = match answer(seen.len() + 1) {
                Answer::UpTo(most) => Answer::Status(if body.len() > most { 413 } else { 204 }),
                other => other,
            };
            let accepted = matches!(answer, Answer::Status(200..=299) | Answer::AcceptAndHangUp);
            seen.push(Request { at: Instant::now(), headers: headers.clone(), body, accepted });
            answer
        };
        let stream = reader.get_mut();
        match answer {
            Answer::Status(204) => write!(stream, "HTTP/1.1 204 X\r\n\r\n")?,
            Answer::Status(code) => write!(stream, "HTTP/1.1 {code} X\r\nContent-Length: 2\r\n\r\nno")?,
            Answer::RetryAfter(code, s) => {
                write!(stream, "HTTP/1.1 {code} X\r\nRetry-After: {s}\r\nContent-Length: 0\r\n\r\n")?;
            }
            // Has become a status above.
            Answer::UpTo(_) => {}
            Answer::Slow(time) => {
                std::thread::sleep(time);
                return Ok(());
            }
            Answer::HangUp | Answer::AcceptAndHangUp => return Ok(()),
        }
        stream.flush()?;
    }
}
