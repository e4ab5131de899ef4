//! A mail server that does as it is told, on a real socket.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// What it answers; the default takes everything.
#[derive(Clone)]
pub struct Says {
    pub greeting: &'static str,
    pub ehlo: &'static str,
    pub mail: &'static str,
    /// (what the line contains, reply)
    pub rcpt: Vec<(&'static str, &'static str)>,
    pub data: &'static str,
    pub end: &'static str,
    /// Closes without a word when a line contains this; `.` is the final dot.
    pub hangs_up_at: &'static str,
    /// Waits before it answers the final dot.
    pub thinks: Duration,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Says 220 to STARTTLS and then nonsense.
    pub breaks_tls: bool,
}

impl Default for Says {
    fn default() -> Says {
        Says {
            greeting: "220 mx.example.net ready",
            ehlo: "250-mx.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 1000000",
            mail: "250 2.1.0 ok",
            rcpt: Vec::new(),
            data: "354 go on",
            end: "250 2.0.0 queued",
            hangs_up_at: "\0",
            thinks: Duration::ZERO,
            tls: None,
            breaks_tls: false,
        }
    }
}

/// What it has seen.
#[derive(Clone, Default)]
pub struct Seen {
    pub lines: Vec<String>,
    /// Sender, recipients, content.
    pub messages: Vec<(String, Vec<String>, Vec<u8>)>,
    pub connections: u32,
    pub now: u32,
    pub most_at_once: u32,
    pub encrypted: u32,
}

pub struct Mx {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    says: Arc<Mutex<Says>>,
}

impl Mx {
    pub async fn start(says: Says) -> Mx {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let says = Arc::new(Mutex::new(says));
        let (to_seen, to_say) = (seen.clone(), says.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, says) = (to_seen.clone(), to_say.lock().unwrap().clone());
                {
                    let mut seen = seen.lock().unwrap();
                    seen.connections += 1;
                    seen.now += 1;
                    seen.most_at_once = seen.most_at_once.max(seen.now);
                }
                tokio::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let mut stream = BufReader::new(stream);
                    if let Some(After::Tls) = serve(&mut stream, &says, &seen, true).await {
                        if says.breaks_tls {
                            let _ = stream.get_mut().write_all(b"500 this is no TLS\r\n").await;
                        } else {
                            let acceptor = tokio_rustls::TlsAcceptor::from(says.tls.clone().unwrap());
                            if let Ok(stream) = acceptor.accept(stream.into_inner()).await {
                                seen.lock().unwrap().encrypted += 1;
                                serve(&mut BufReader::new(stream), &says, &seen, false).await;
                            }
                        }
                    }
                    seen.lock().unwrap().now -= 1;
                });
            }
        });
        Mx { address, seen, says }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub fn now_says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// For `smtp-hosts`.
    pub fn hosts(&self) -> String {
        format!("smtp-hosts [127.0.0.1]:{}", self.address.port())
    }
}

enum After {
    Tls,
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    says: &Says,
    seen: &Mutex<Seen>,
    greet: bool,
) -> Option<After> {
    if greet {
        say(stream, says.greeting).await?;
    }
    let (mut sender, mut rcpts) = (String::new(), Vec::new());
    loop {
        let line = line(stream).await?;
        let line = String::from_utf8(line).unwrap().trim_end().to_owned();
        seen.lock().unwrap().lines.push(line.clone());
        if says.hangs_up_at != "." && line.contains(says.hangs_up_at) {
            return None;
        }
        let verb = line.split(' ').next().unwrap();
        match verb {
            "EHLO" => {
                let offer = if says.tls.is_some() || says.breaks_tls { "\r\n250 STARTTLS" } else { "" };
                let ehlo = if greet && !offer.is_empty() {
                    says.ehlo.replace("250 SIZE", "250-SIZE")
                } else {
                    says.ehlo.into()
                };
                say(stream, &format!("{ehlo}{}", if greet { offer } else { "" })).await?;
            }
            "STARTTLS" => {
                say(stream, "220 go").await?;
                return Some(After::Tls);
            }
            "MAIL" => {
                sender = path(&line);
                rcpts.clear();
                say(stream, says.mail).await?;
            }
            "RCPT" => {
                let reply = says.rcpt.iter().find(|(what, _)| line.contains(what)).map_or("250 2.1.5 ok", |(_, r)| r);
                if reply.starts_with('2') {
                    rcpts.push(path(&line));
                }
                say(stream, reply).await?;
            }
            "DATA" if rcpts.is_empty() => say(stream, "554 5.5.1 no valid recipients").await?,
            "DATA" => {
                say(stream, says.data).await?;
                if !says.data.starts_with('3') {
                    continue;
                }
                let mut content = Vec::new();
                loop {
                    let line = self::line(stream).await?;
                    if line == b".\r\n" {
                        break;
                    }
                    content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                }
                if says.hangs_up_at == "." {
                    return None;
                }
                tokio::time::sleep(says.thinks).await;
                if says.end.starts_with('2') {
                    seen.lock().unwrap().messages.push((sender.clone(), rcpts.clone(), content));
                }
                say(stream, says.end).await?;
            }
            "QUIT" => {
                say(stream, "221 bye").await?;
                return None;
            }
            _ => say(stream, "250 ok").await?,
        }
    }
}

fn path(line: &str) -> String {
    line[line.find('<').unwrap() + 1..line.find('>').unwrap()].to_owned()
}

async fn line<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let n = stream.read_until(b'\n', &mut line).await.ok()?;
    (n > 0).then_some(line)
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, text: &str) -> Option<()> {
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
    stream.get_mut().flush().await.ok()
}
