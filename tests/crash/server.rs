//! The program under test, as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Child,
    dir: PathBuf,
    config: PathBuf,
    port: u16,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    pub fn write_config(dir: &Path, sink_port: u16, webhook: &str) -> PathBuf {
        let port = free_port();
        let config = dir.join("carom.conf");
        let text = format!(
            "host-name mta.crash.example\nspool spool\nsmtp-listener 127.0.0.1:{port}\n\
             <source 127.0.0.0/8>\n    always-allow-relaying yes\n    suppress-local-dsn yes\n</source>\n\
             <domain *>\n    smtp-hosts [127.0.0.1]:{sink_port}\n    use-starttls no\n    retry-after 1s\n    \
             retry-recipients-after 1s\n    max-smtp-out 8\n</domain>\n\
             <acct-file acct/acct.csv>\n    records d,b,t,tq,r\n    max-size 1M\n</acct-file>\n\
             <acct-file acct/growing/moves.csv>\n    records d,b,t,tq,r\n    max-size 1M\n    \
             move-to acct/moved\n    move-interval 1s\n</acct-file>\n\
             <acct-file acct/acct.parquet>\n    records d,b,t,tq,r\n    close-rows 400\n    close-after 1s\n</acct-file>\n\
             <acct-file |/bin/sh {pipe}>\n    records d,b,t,tq,r\n    retry-interval 1s\n</acct-file>\n\
             <acct-webhook {webhook}>\n    records d,b,t,tq,r\n    batch-interval 0s\n    batch-format lines\n    \
             retry-interval 1s\n</acct-webhook>\n",
            pipe = dir.join("reader.sh").display(),
        );
        // Whatever it has read is on its disk before it reads on; a record that it had not whole comes again.
        let reader = format!("#!/bin/sh\nexec cat >> {}.$$\n", dir.join("piped").display());
        std::fs::write(dir.join("reader.sh"), reader).unwrap();
        std::fs::write(&config, text).unwrap();
        config
    }

    pub fn start(dir: &Path, config: &Path, kill_at: Option<&str>) -> Server {
        Server::start_at(dir, config, kill_at, None)
    }

    /// The same, by a clock that can be put back.
    pub fn start_at(dir: &Path, config: &Path, kill_at: Option<&str>, clock: Option<&Clock>) -> Server {
        let text = std::fs::read_to_string(config).unwrap();
        let port =
            text.split("smtp-listener 127.0.0.1:").nth(1).unwrap().lines().next().unwrap().trim().parse().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
        command.arg("run").arg("--config").arg(config).arg("--root").arg(dir).current_dir(dir);
        if let Some(step) = kill_at {
            command.args(["--kill-at", step]);
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        if let Some(clock) = clock {
            clock.rules(&mut command);
        }
        let child = command.env("CAROM_LOG", "warn").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut server = Server { child, dir: dir.to_owned(), config: config.to_owned(), port };
        if kill_at.is_none() {
            server.wait_listening();
        }
        server
    }

    pub fn smtp_port(&self) -> u16 {
        self.port
    }

    fn wait_listening(&mut self) {
        // Each set of pattern rules that events in the ledger are stamped with is compiled again.
        let end = Instant::now() + Duration::from_secs(90);
        while Instant::now() < end {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut line = String::new();
                if BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("220") {
                    return;
                }
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended at start with {status}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not listen:\n{}", self.log());
    }

    /// Other columns and other patterns, put in force while files are open. It may die of the step it was given.
    pub fn reload_with(&self, round: usize) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let base = text.split("# changes").next().unwrap().to_owned();
        let base = base.replace("    record-fields d *,userString\n", "");
        let changed = match round % 2 {
            0 => base,
            _ => base.replace(
                "records d,b,t,tq,r\n    max-size",
                "records d,b,t,tq,r\n    record-fields d *,userString\n    max-size",
            ),
        };
        let patterns = "# changes\n<bounce-category-patterns>\n/no such user/ changed\n</bounce-category-patterns>\n";
        std::fs::write(&self.config, changed + patterns).unwrap();
        self.carom(&["reload", "--config", self.config.to_str().unwrap()]);
    }

    /// The newest value of `key` in the status.
    pub fn status(&self, key: &str) -> serde_json::Value {
        let out = self.carom(&["status", "--json", "--config", self.config.to_str().unwrap()]);
        let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        status[key].clone()
    }

    fn carom(&self, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
        command.args(args).arg("--root").arg(&self.dir).current_dir(&self.dir).output().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Whether it died by itself, at the step it was given.
    pub fn wait_dead_or_kill(&mut self, patience: Duration) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(9), "it ended, but not at a step:\n{}", self.log());
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        false
    }

    /// What it answers to `RCPT TO` for this address, or what it refused before that.
    pub fn answer_to_recipient(&self, address: &str) -> String {
        use std::io::Write;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "HELO c.example\r\nMAIL FROM:<s@from.example>\r\nRCPT TO:<{address}>\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines();
        let answers: Vec<String> = (0..4).map(|_| lines.next().unwrap().unwrap()).collect();
        let refused = answers.iter().find(|a| !a.starts_with('2'));
        refused.unwrap_or(&answers[3]).clone()
    }

    /// Until the status says that nothing is queued and every output has written all there is.
    pub fn wait_drained(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut last = String::new();
        while Instant::now() < end {
            let out = Command::new(env!("CARGO_BIN_EXE_carom"))
                .args(["status", "--json", "--config"])
                .arg(&self.config)
                .arg("--root")
                .arg(&self.dir)
                .current_dir(&self.dir)
                .output()
                .unwrap();
            last = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
            if let Ok(status) = serde_json::from_slice::<serde_json::Value>(&out.stdout)
                && status["queuedRecipients"] == 0
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("still not drained: {last}\n{}", self.log());
    }

    /// Until every output has written, and the webhook been told, all there is.
    pub fn wait_told(&self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            let outputs = self.status("outputs");
            let lags = outputs.as_array().into_iter().flatten().map(|o| o["lag"].as_u64().unwrap_or(1));
            if outputs.is_array() && lags.sum::<u64>() == 0 {
                return;
            }
            assert!(Instant::now() < end, "the outputs are behind: {outputs}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// SIGTERM; it must leave in order.
    pub fn terminate(&mut self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        // Four outputs may each be compiling pattern rules for what they are behind with.
        let end = Instant::now() + Duration::from_secs(90);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "stopped with {status}:\n{}", self.log());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("does not stop:\n{}", self.log());
    }
}

/// A clock of the server's own (Debian's package `libfaketime`), so many seconds from the real one.
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// `None`, said aloud, where the library is not installed.
    pub fn new(dir: &Path) -> Option<Clock> {
        let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
        let library = places.map(|p| Path::new(p).join("faketime/libfaketimeMT.so.1")).into_iter().find(|p| p.exists());
        if library.is_none() {
            eprintln!("SKIPPED: libfaketime is not installed (package libfaketime)");
        }
        let clock = Clock { library: library?, offset: dir.join("clock") };
        clock.set(0);
        Some(clock)
    }

    /// At once, also for servers that run.
    pub fn set(&self, seconds: i64) {
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, &self.offset).unwrap();
    }

    fn rules(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// `carom store verify` or `repair` on a store that no server has open: whether it says that all is well, and its words.
pub fn store_command(what: &str, spool: &Path) -> (bool, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_carom")).args(["store", what]).arg(spool).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(matches!(out.status.code(), Some(0 | 1)), "{what}: {text}");
    (out.status.success(), text)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut text = String::new();
            if let Ok(mut f) = std::fs::File::open(self.dir.join("log")) {
                let _ = f.read_to_string(&mut text);
            }
            eprintln!(
                "--- the server's log, last lines\n{}",
                text.lines().rev().take(30).collect::<Vec<_>>().join("\n")
            );
        }
    }
}
