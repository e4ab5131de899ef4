//! The other side of both connections: a client that loads the server and knows what was acknowledged, and a next hop
//! that remembers what it answered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the next hop answered to recipient N: 552 "mailbox full" for N % 20 == 3, 550 for those below, once 451 for N % 20 == 4, else 250.
pub struct Sink {
    port: u16,
    answers: Arc<Mutex<BTreeMap<u64, Vec<u16>>>>,
}

/// The number in `uN@...`.
pub fn number(address: &str) -> Option<u64> {
    let at = address.find("@bulk.example")?;
    let digits = address[..at].rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whose mailbox is full.
pub fn is_full(n: u64) -> bool {
    n % 20 == 3
}

/// The mailbox that twenty full ones are folded to.
pub fn folded(n: u64) -> String {
    format!("full{}", n / 400)
}

/// The local part of recipient N.
fn local(n: u64) -> String {
    if is_full(n) { format!("{}+u{n}", folded(n)) } else { format!("u{n}") }
}

impl Sink {
    pub fn start() -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(Mutex::new(BTreeMap::<u64, Vec<u16>>::new()));
        let book = answers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let book = book.clone();
                std::thread::spawn(move || {
                    let _ = serve(&stream, &book);
                });
            }
        });
        Sink { port, answers }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn answers(&self, n: u64) -> Vec<u16> {
        self.answers.lock().unwrap().get(&n).cloned().unwrap_or_default()
    }
}

fn serve(stream: &TcpStream, book: &Mutex<BTreeMap<u64, Vec<u16>>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream;
    let mut lines = BufReader::new(stream);
    out.write_all(b"220 sink.example ESMTP\r\n")?;
    let mut taken: Vec<u64> = Vec::new();
    let mut line = String::new();
    let note = |n: u64, code: u16| book.lock().unwrap().entry(n).or_default().push(code);
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or("").to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                out.write_all(b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")?
            }
            "RCPT" => {
                let n = number(&line).unwrap_or(0);
                let seen_451 = book.lock().unwrap().get(&n).is_some_and(|a| a.contains(&451));
                if is_full(n) {
                    note(n, 552);
                    out.write_all(b"552 5.2.2 mailbox full\r\n")?;
                } else if n % 20 < 4 {
                    note(n, 550);
                    out.write_all(b"550 5.1.1 user unknown\r\n")?;
                } else if n % 20 == 4 && !seen_451 {
                    note(n, 451);
                    out.write_all(b"451 4.2.0 try later\r\n")?;
                } else {
                    taken.push(n);
                    out.write_all(b"250 2.1.5 ok\r\n")?;
                }
            }
            "DATA" if taken.is_empty() => out.write_all(b"554 5.5.1 no valid recipients\r\n")?,
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                loop {
                    line.clear();
                    if lines.read_line(&mut line)? == 0 {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                }
                taken.drain(..).for_each(|n| note(n, 250));
                out.write_all(b"250 2.0.0 taken\r\n")?;
            }
            "QUIT" => {
                out.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            _ => {
                taken.clear();
                out.write_all(b"250 2.0.0 ok\r\n")?;
            }
        }
    }
}

/// Messages to `uN@bulk.example`, N counting up for ever.
pub struct Load {
    next: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
}

pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn new() -> Load {
        Load { next: Arc::new(AtomicU64::new(1)), acknowledged: Arc::default() }
    }

    pub fn acknowledged(&self) -> BTreeSet<u64> {
        self.acknowledged.lock().unwrap().clone()
    }

    pub fn run(&self, port: u16, connections: usize) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..connections)
            .map(|_| {
                let (stop, next, acknowledged) = (stop.clone(), self.next.clone(), self.acknowledged.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                            let _ = feed(&stream, &stop, &next, &acknowledged);
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                })
            })
            .collect();
        Clients { stop, threads }
    }
}

impl Clients {
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for t in self.threads {
            t.join().unwrap();
        }
    }
}

fn feed(
    stream: &TcpStream,
    stop: &AtomicBool,
    next: &AtomicU64,
    acknowledged: &Mutex<BTreeSet<u64>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let mut out = stream;
    let mut lines = BufReader::new(stream);
    let mut reply = move || -> std::io::Result<u16> {
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.get(..3).and_then(|c| c.parse().ok()).unwrap_or(0));
            }
        }
    };
    reply()?;
    out.write_all(b"EHLO client.example\r\n")?;
    reply()?;
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        write!(out, "MAIL FROM:<s@from.example>\r\nRCPT TO:<{}@bulk.example>\r\nDATA\r\n", local(n))?;
        let codes = [reply()?, reply()?, reply()?];
        if codes != [250, 250, 354] {
            return Ok(());
        }
        let body = "x".repeat(70) + "\r\n";
        write!(out, "From: <s@from.example>\r\nSubject: crash test {n}\r\n\r\n{}.\r\n", body.repeat(20))?;
        if reply()? == 250 {
            acknowledged.lock().unwrap().insert(n);
        }
    }
    out.write_all(b"QUIT\r\n")
}
