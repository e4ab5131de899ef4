//! The real nats-server, with JetStream in a folder.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Broker {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    /// What its configuration file says besides.
    config: String,
    /// How to log in.
    pub login: fn(&Path) -> async_nats::ConnectOptions,
}

impl Broker {
    /// `None`, said aloud, where there is no nats-server.
    pub fn start(dir: &Path) -> Option<Broker> {
        Broker::start_with(dir, "")
    }

    /// With this in its configuration file.
    pub fn start_with(dir: &Path, config: &str) -> Option<Broker> {
        let there = Command::new("nats-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            eprintln!("SKIPPED: nats-server is not installed (package nats-server)");
            assert!(std::env::var_os("CAROM_REQUIRE_NATS").is_none(), "nats-server is required");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let login = |_: &Path| async_nats::ConnectOptions::new();
        let mut broker = Broker { dir: dir.join("broker"), port, child: None, config: config.to_owned(), login };
        broker.restart();
        Some(broker)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn restart(&mut self) {
        let config = self.dir.with_extension("conf");
        std::fs::write(&config, &self.config).unwrap();
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(config)
            .args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"])
            .arg(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "nats-server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// How many messages a stream has, and the different event ids in them.
    pub async fn stream(&self, name: &str) -> (usize, BTreeSet<String>) {
        let client = (self.login)(&self.dir).connect(self.url()).await.unwrap();
        let stream = async_nats::jetstream::new(client).get_stream(name).await.unwrap();
        let state = stream.cached_info().state.clone();
        let mut ids = BTreeSet::new();
        for seq in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(seq).await.unwrap();
            let record: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let id = record["eventId"].as_str().unwrap().to_owned();
            assert_eq!(message.headers.get("Nats-Msg-Id").map(|v| v.as_str()), Some(id.as_str()));
            ids.insert(id);
        }
        (usize::try_from(state.messages).unwrap(), ids)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
