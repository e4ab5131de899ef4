//! A folder with a configuration, the program run in it, and the files it writes there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::next_hop::NextHop;

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder of its own.
pub struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    /// With a configuration that relays to `hop`; `more` is put behind it.
    pub fn new(hop: &NextHop, more: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), port: free_port() };
        let (port, next) = (place.port, hop.port());
        place.write(&format!(
            "host-name mta.running.example\npostmaster p@mta.running.example\nspool spool\n\
             smtp-listener 127.0.0.1:{port}\n<source 127.0.0.0/8>\nalways-allow-relaying yes\n</source>\n\
             <domain *>\nsmtp-hosts [127.0.0.1]:{next}\nuse-starttls no\nmax-smtp-out 4\nretry-after 1s\n\
             retry-recipients-after 1s\n</domain>\n<acct-file acct/acct.csv>\nrecords d,b,t\n</acct-file>\n\
             <acct-file acct/acct.parquet>\nrecords d,b,t\n</acct-file>\n{more}"
        ));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn smtp_port(&self) -> u16 {
        self.port
    }

    pub fn config(&self) -> String {
        std::fs::read_to_string(self.path("carom.conf")).unwrap()
    }

    pub fn write(&self, config: &str) {
        std::fs::write(self.path("carom.conf"), config).unwrap();
    }

    /// A fresh self-signed certificate with its key in `name`; its DER.
    pub fn write_certificate(&self, name: &str) -> Vec<u8> {
        let pair = rcgen::generate_simple_self_signed(["mta.running.example".to_owned()]).unwrap();
        std::fs::write(self.path(name), pair.cert.pem() + &pair.signing_key.serialize_pem()).unwrap();
        pair.cert.der().to_vec()
    }

    fn command(&self, config: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
        command.args(args).arg("--config").arg(config).arg("--root").arg(self.dir.path());
        command.current_dir(self.dir.path()).env_remove("CAROM_LOG").env_remove("RUST_LOG");
        command
    }

    /// A command with this place's configuration: its exit code and all it said.
    pub fn carom(&self, args: &[&str]) -> (i32, String) {
        self.carom_with(&self.path("carom.conf"), args)
    }

    pub fn carom_with(&self, config: &Path, args: &[&str]) -> (i32, String) {
        let out = self.command(config, args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (out.status.code().unwrap_or(-1), said)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Starts the server and waits until it takes commands.
    pub fn start(&self) -> Server {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&self.path("carom.conf"), &["run"]);
        let mut server = Server { child: command.stdout(Stdio::null()).stderr(log).spawn().unwrap() };
        let end = Instant::now() + Duration::from_secs(30);
        while self.carom(&["status"]).0 != 0 {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("ended at start with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < end, "does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
        server
    }

    pub fn status(&self) -> Value {
        let (code, said) = self.carom(&["status", "--json"]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    pub fn wait_for(&self, what: &str, there: impl Fn(&Value) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status();
            if there(&status) {
                return;
            }
            assert!(Instant::now() < end, "no {what}: {status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

/// The server's process; killed when a test fails.
pub struct Server {
    child: Child,
}

impl Server {
    pub fn signal(&mut self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its exit code.
    pub fn wait(&mut self, patience: Duration) -> i32 {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("does not stop within {patience:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The records of a type in the CSV files, by column name.
pub fn rows(place: &Place, kind: &str) -> Vec<HashMap<String, String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place.path("acct")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "csv") {
            let mut reader = csv::Reader::from_path(entry.path()).unwrap();
            found.extend(reader.deserialize::<HashMap<String, String>>().map(Result::unwrap));
        }
    }
    found.retain(|row| row["type"] == kind);
    found
}
