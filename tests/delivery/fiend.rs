//! A server that answers whatever a test wants it to, when it wants to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// What a connection does with what it was told.
#[derive(Clone)]
pub enum Does {
    /// Answers these octets, line ends included.
    Says(String),
    /// As [`Does::Says`], one octet at a time.
    Dribbles(String, Duration),
    /// Says nothing and listens on.
    Nothing,
    /// Closes.
    HangsUp,
    /// Closes after this time.
    HangsUpAfter(Duration),
}

/// One reply line.
pub fn says(line: &str) -> Does {
    Does::Says(format!("{line}\r\n"))
}

/// A usual server's answer, for those that behave badly only at one place.
pub fn usual(line: &str, ehlo: &str) -> Does {
    match line.split(' ').next().unwrap_or_default() {
        "connect" => says("220 fiend.example"),
        "EHLO" => Does::Says(ehlo.into()),
        "DATA" => says("354 go on"),
        "QUIT" => Does::HangsUp,
        _ => says("250 ok"),
    }
}

pub struct Fiend {
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Fiend {
    /// Asks `answer` at `connect`, at each command line, and at `.` for the end of the content. Each connection has a
    /// clone of it.
    pub async fn start(answer: impl FnMut(&str) -> Does + Clone + Send + 'static) -> Fiend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = lines.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut answer, heard) = (answer.clone(), heard.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::from("connect");
                    loop {
                        heard.lock().unwrap().push(line.clone());
                        let does = answer(&line);
                        let content = matches!(&does, Does::Says(text) if text.starts_with("354"));
                        let done = match does {
                            Does::Says(text) => stream.get_mut().write_all(text.as_bytes()).await,
                            Does::Dribbles(text, pause) => {
                                for octet in text.bytes() {
                                    if stream.get_mut().write_all(&[octet]).await.is_err() {
                                        return;
                                    }
                                    tokio::time::sleep(pause).await;
                                }
                                Ok(())
                            }
                            Does::Nothing => Ok(()),
                            Does::HangsUp => return,
                            Does::HangsUpAfter(pause) => return tokio::time::sleep(pause).await,
                        };
                        if done.is_err() {
                            return;
                        }
                        loop {
                            line.clear();
                            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                                return;
                            }
                            line.truncate(line.trim_end().len());
                            if !content || line == "." {
                                break;
                            }
                            heard.lock().unwrap().push(format!("content {line}"));
                        }
                    }
                });
            }
        });
        Fiend { address, lines }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn heard(&self, what: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(what)).count()
    }

    /// For `smtp-hosts`.
    pub fn hosts(&self) -> String {
        format!("smtp-hosts [127.0.0.1]:{}", self.address.port())
    }
}
