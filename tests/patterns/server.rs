//! A server in a folder of its own, and a next hop that refuses `odd...` in words that nobody has heard.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Said;

const PATIENCE: Duration = Duration::from_secs(60);

/// Recipients and contents of what was taken.
type Taken = Arc<Mutex<Vec<(Vec<String>, String)>>>;

pub struct Server {
    dir: tempfile::TempDir,
    port: u16,
    taken: Taken,
    child: Option<Child>,
}

impl Server {
    pub fn new(more: &str) -> Server {
        let taken = Taken::default();
        let hop = next_hop(taken.clone());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("own.conf"), "# nothing yet\n").unwrap();
        std::fs::write(
            dir.path().join("carom.conf"),
            format!(
                "host-name mta.patterns.example\npostmaster p@mta.patterns.example\nspool spool\n\
                 bounce-pattern-file own.conf\nsmtp-listener 127.0.0.1:{port}\n<source 127.0.0.0/8>\n\
                 always-allow-relaying yes\nsuppress-local-dsn yes\n</source>\n<domain *>\nsmtp-hosts [127.0.0.1]:{hop}\n\
                 use-starttls no\n</domain>\n<acct-file acct/acct.csv>\nrecords d,b,t\n</acct-file>\n{more}"
            ),
        )
        .unwrap();
        Server { dir, port, taken, child: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn carom(&self, args: &[&str]) -> Said {
        let config = self.path("carom.conf");
        let root = self.dir.path().to_str().unwrap().to_owned();
        super::carom(self.dir.path(), &[args, &["--config", config.to_str().unwrap(), "--root", &root]].concat(), "")
    }

    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
        command.arg("run").arg("--config").arg(self.path("carom.conf")).arg("--root").arg(self.dir.path());
        command.current_dir(self.dir.path()).env_remove("CAROM_LOG").env_remove("RUST_LOG");
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let end = Instant::now() + PATIENCE;
        while self.carom(&["status"]).code != 0 {
            assert!(Instant::now() < end, "does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
        let end = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn send(&self, to: &str) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let mut last = || loop {
            let line = lines.next().unwrap().unwrap();
            if line.as_bytes().get(3) == Some(&b' ') {
                return line;
            }
        };
        let mut out = &stream;
        last();
        for command in ["EHLO c.example", "MAIL FROM:<s@sender.example>", &format!("RCPT TO:<{to}>"), "DATA"] {
            out.write_all(format!("{command}\r\n").as_bytes()).unwrap();
            let answer = last();
            assert!(answer.starts_with(['2', '3']), "{command}: {answer}");
        }
        out.write_all(b"From: s@sender.example\r\nSubject: x\r\n\r\nx\r\n.\r\n").unwrap();
        let answer = last();
        assert!(answer.starts_with("250"), "{answer}");
    }

    pub fn wait_for(&self, what: &str, there: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.carom(&["status", "--json"]).json();
            if there(&status) {
                return status;
            }
            assert!(Instant::now() < end, "no {what}: {status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The mail that the next hop got for this address, waited for.
    pub fn mail_to(&self, address: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let taken = self.taken.lock().unwrap().clone();
            if let Some((_, mail)) = taken.iter().find(|(to, _)| to.iter().any(|a| a == address)) {
                return mail.clone();
            }
            assert!(Instant::now() < end, "no mail to {address}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn next_hop(taken: Taken) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let taken = taken.clone();
            std::thread::spawn(move || {
                let _ = serve(&stream, &taken);
            });
        }
    });
    port
}

fn serve(stream: &TcpStream, taken: &Taken) -> std::io::Result<()> {
    let mut out = stream;
    let mut lines = BufReader::new(stream);
    out.write_all(b"220 hop.example ESMTP\r\n")?;
    let (mut rcpts, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.get(..4).unwrap_or("").to_ascii_uppercase().as_str() {
            "EHLO" => out.write_all(b"250 hop.example\r\n")?,
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or("").to_owned();
                if address.starts_with("odd") {
                    let reply = format!("550 5.9.9 <{address}> was frobnicated by the grommet, ask the zebra\r\n");
                    out.write_all(reply.as_bytes())?;
                } else {
                    rcpts.push(address);
                    out.write_all(b"250 2.1.5 ok\r\n")?;
                }
            }
            "DATA" if rcpts.is_empty() => out.write_all(b"554 5.5.1 no recipients\r\n")?,
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                let mut mail = String::new();
                loop {
                    line.clear();
                    if lines.read_line(&mut line)? == 0 {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    mail.push_str(&line);
                }
                taken.lock().unwrap().push((std::mem::take(&mut rcpts), mail));
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
