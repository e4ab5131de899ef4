//! A small HTTP server that answers as it is told and remembers what it was sent.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::Value;

/// What a request gets.
pub enum Answer {
    Status(u16),
    RetryAfter(u16, u64),
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
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Endpoint {
    /// `answer` is asked with the number of the request, from 1.
    pub fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let _ = serve(stream, &seen, answer.as_ref());
                });
            }
        });
        Endpoint { port, requests }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
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

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(usize) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
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
            let answer = answer(seen.len() + 1);
            let accepted = matches!(answer, Answer::Status(200..=299) | Answer::AcceptAndHangUp);
            seen.push(Request { at: Instant::now(), headers: headers.clone(), body, accepted });
            answer
        };
        match answer {
            Answer::Status(204) => write!(stream, "HTTP/1.1 204 X\r\n\r\n")?,
            Answer::Status(code) => write!(stream, "HTTP/1.1 {code} X\r\nContent-Length: 2\r\n\r\nno")?,
            Answer::RetryAfter(code, s) => {
                write!(stream, "HTTP/1.1 {code} X\r\nRetry-After: {s}\r\nContent-Length: 0\r\n\r\n")?;
            }
            Answer::Slow(time) => {
                std::thread::sleep(time);
                return Ok(());
            }
            Answer::HangUp | Answer::AcceptAndHangUp => return Ok(()),
        }
    }
}
