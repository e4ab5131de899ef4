//! A next hop that takes everything, but puts off whoever is called `later...` until it is told to forgive, and knows
//! nobody called `gone...`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Book {
    forgiven: AtomicBool,
    offers_dsn: AtomicBool,
    said: Mutex<Vec<String>>,
    attempts: Mutex<Vec<String>>,
    taken: Mutex<Vec<String>>,
    mails: Mutex<Vec<String>>,
}

pub struct NextHop {
    port: u16,
    book: Arc<Book>,
}

impl NextHop {
    pub fn start() -> NextHop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let book = Arc::new(Book::default());
        let shared = book.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let book = shared.clone();
                std::thread::spawn(move || {
                    let _ = serve(&stream, &book);
                });
            }
        });
        NextHop { port, book }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Takes what it has put off so far.
    pub fn forgive(&self) {
        self.book.forgiven.store(true, Ordering::SeqCst);
    }

    /// Recipients whose mail it has taken, one entry for each delivery.
    pub fn taken(&self) -> Vec<String> {
        self.book.taken.lock().unwrap().clone()
    }

    /// From now on it says in EHLO that it understands DSN (RFC 3461).
    pub fn offer_dsn(&self) {
        self.book.offers_dsn.store(true, Ordering::SeqCst);
    }

    /// The MAIL and RCPT commands it was given, without their line ends.
    pub fn said(&self) -> Vec<String> {
        self.book.said.lock().unwrap().clone()
    }

    /// The contents it has taken, with the line ends of SMTP.
    pub fn mails(&self) -> Vec<String> {
        self.book.mails.lock().unwrap().clone()
    }

    /// How often RCPT named this address.
    pub fn attempts(&self, address: &str) -> usize {
        self.book.attempts.lock().unwrap().iter().filter(|a| *a == address).count()
    }
}

fn serve(stream: &TcpStream, book: &Book) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream;
    let mut lines = BufReader::new(stream);
    out.write_all(b"220 hop.example ESMTP\r\n")?;
    let mut rcpts: Vec<String> = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or("").to_ascii_uppercase();
        if matches!(verb.as_str(), "MAIL" | "RCPT") {
            book.said.lock().unwrap().push(line.trim_end().to_owned());
        }
        match verb.as_str() {
            "EHLO" if book.offers_dsn.load(Ordering::SeqCst) => {
                out.write_all(b"250-hop.example\r\n250-DSN\r\n250 8BITMIME\r\n")?
            }
            "EHLO" => out.write_all(b"250-hop.example\r\n250 8BITMIME\r\n")?,
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or("").to_owned();
                book.attempts.lock().unwrap().push(address.clone());
                if address.starts_with("later") && !book.forgiven.load(Ordering::SeqCst) {
                    out.write_all(b"451 4.2.0 later\r\n")?;
                } else if address.starts_with("gone") {
                    out.write_all(b"550 5.1.1 no such user\r\n")?;
                } else {
                    rcpts.push(address);
                    out.write_all(b"250 2.1.5 ok\r\n")?;
                }
            }
            "DATA" if rcpts.is_empty() => out.write_all(b"554 5.5.1 no recipients\r\n")?,
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                let mut mail = String::new();
                while line != ".\r\n" {
                    line.clear();
                    if lines.read_line(&mut line)? == 0 {
                        return Ok(());
                    }
                    if line != ".\r\n" {
                        mail.push_str(&line);
                    }
                }
                book.mails.lock().unwrap().push(mail);
                book.taken.lock().unwrap().append(&mut rcpts);
                out.write_all(b"250 2.0.0 taken\r\n")?;
            }
            "QUIT" => return out.write_all(b"221 2.0.0 bye\r\n"),
            _ => {
                rcpts.clear();
                out.write_all(b"250 2.0.0 ok\r\n")?;
            }
        }
    }
}
