//! The simulated world over real sockets: provider dialogues, mail that comes back, and `carom send` against a provider,
//! interrupted and gone on with.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs programs and servers")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carom::cli::send::client::{Client, Envelope, EnvelopeOutcome, Server as Submit, TlsUse};
use carom::sim::book::{self, Line, Stage};
use carom::sim::desk::Role;
use carom::sim::postman::{self, Destination, Tally};
use carom::sim::provider::{Options, Providers, Server};
use carom::sim::script::{Behaviour, Script};
use carom::sim::world::PROVIDERS;

fn role(script: Script) -> Role {
    Role {
        provider: &PROVIDERS[0],
        script,
        limits: false,
        feedback_address: "fbl@fbl.sender.example".into(),
        reports: true,
        starttls: true,
        own_domains_only: false,
    }
}

fn submit(address: SocketAddr, tls: TlsUse) -> Submit {
    Submit { host: address.ip().to_string(), port: address.port(), ehlo: "test".into(), credentials: None, tls }
}

fn who(script: Script, domain: &str, wanted: Behaviour) -> String {
    (0..).map(|i| format!("user{i}@{domain}")).find(|a| script.behaviour(a) == wanted).unwrap()
}

const CONTENT: &[u8] = b"Message-ID: <1@sender.example>\r\nSubject: x\r\n\r\n.dotted\r\n";

async fn mail(client: &mut Client, rcpt: &str) -> Result<String, String> {
    let envelope = Envelope { from: "bounce@sender.example", rcpt, eight_bit: false };
    match client.envelope(envelope).await.unwrap() {
        EnvelopeOutcome::Refused(reply) => Err(reply.text),
        EnvelopeOutcome::Ready => {
            let reply = client.content(CONTENT, None).await.0.unwrap();
            if reply.is_positive() { Ok(reply.text) } else { Err(reply.text) }
        }
    }
}

#[tokio::test]
async fn every_provider_answers_on_its_own_address_and_on_one_port() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new(1);
    let options = Options { script, limits: true, feedback_address: String::new(), books: Some(dir.path().to_owned()) };
    let (providers, _reports) = Providers::start(&options).await.unwrap();
    for provider in PROVIDERS {
        let address = SocketAddr::from((provider.address, providers.port()));
        let tls = if provider.starttls { TlsUse::Unverified } else { TlsUse::Off };
        let mut client = Client::connect(&submit(address, tls)).await.unwrap();
        let domain = provider.domains[0].0;
        mail(&mut client, &who(script, domain, Behaviour::Accept)).await.unwrap();
        let reply = mail(&mut client, &who(script, domain, Behaviour::UnknownUser)).await.unwrap_err();
        assert!(reply.starts_with("55"), "{reply}");
        let reply = mail(&mut client, "someone@elsewhere.example").await.unwrap_err();
        assert!(reply.contains("relaying denied"), "{reply}");
        client.quit().await;
    }
    let books = providers.stop().await.unwrap();
    assert_eq!(books.len(), PROVIDERS.len());
    for path in books {
        let lines = book::read(&path).unwrap();
        let stages: Vec<_> = lines.iter().map(|l| (l.stage, l.accepted)).collect();
        let wanted = [
            (Stage::Connect, true),
            (Stage::Rcpt, true),
            (Stage::Data, true),
            (Stage::Rcpt, false),
            (Stage::Rcpt, false),
        ];
        assert_eq!(stages, wanted, "{}", path.display());
    }
}

#[tokio::test]
async fn a_later_bounce_and_a_complaint_are_mailed_to_who_takes_the_senders_mail() {
    let home_log = tempfile::tempdir().unwrap();
    let home_log = home_log.path().join("home.jsonl");
    let home_role = Role { reports: false, ..role(Script::accept_all()) };
    let (home, _none) = Server::listen("127.0.0.1:0".parse().unwrap(), home_role, Some(&home_log)).await.unwrap();
    let script = Script::new(1);
    let (server, reports) = Server::listen("127.0.0.1:0".parse().unwrap(), role(script), None).await.unwrap();
    let tally = std::sync::Arc::new(Tally::default());
    let destination = Destination::Server(home.address());
    let postman = tokio::spawn(postman::carry(reports, destination, None, "mx.mailhost.example", tally.clone()));
    let mut client = Client::connect(&submit(server.address(), TlsUse::Off)).await.unwrap();
    for behaviour in [Behaviour::LaterBounce, Behaviour::Complaint] {
        mail(&mut client, &who(script, "mailhost.example", behaviour)).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while tally.delivered.load(std::sync::atomic::Ordering::Relaxed) < 2 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    postman.abort();
    home.stop().await.unwrap();
    server.stop().await.unwrap();
    let lines = book::read(&home_log).unwrap();
    let mut to: Vec<_> = lines.iter().filter(|l| l.stage == Stage::Data).map(|l| l.rcpt.as_str()).collect();
    to.sort_unstable();
    assert_eq!(to, ["bounce@sender.example", "fbl@fbl.sender.example"]);
}

/// `carom sink` as a process, and its log.
struct Sink {
    child: std::process::Child,
    address: String,
    /// Open for as long as the sink may print.
    _out: BufReader<std::process::ChildStdout>,
}

impl Sink {
    fn start(log: &Path, more: &[&str]) -> Sink {
        let mut child = Command::new(env!("CARGO_BIN_EXE_carom"))
            .args(["sink", "--listen", "127.0.0.1:0", "--log"])
            .arg(log)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Sink { child, address, _out: out }
    }

    /// Stops it orderly and reads its book.
    fn stop(mut self, log: &Path) -> Vec<Line> {
        signal(&self.child, "TERM");
        self.child.wait().unwrap();
        book::read(log).unwrap()
    }
}

fn signal(child: &std::process::Child, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
}

fn send(dir: &Path, server: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    command
        .args(["send", "--json", "--from", "News <news@sender.example>", "--subject", "Hello {{name}}"])
        .args(["--body", "Dear {{name}}, hello.", "--server", server, "--to-csv"])
        .arg(dir.join("list.csv"))
        .args(more)
        .stdout(Stdio::piped());
    command
}

fn result(command: &mut Command) -> serde_json::Value {
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&out.stderr)))
}

fn list(dir: &Path, count: usize) -> Vec<String> {
    let all: Vec<String> = (0..count).map(|i| format!("row{i}@mailhost.example")).collect();
    let mut file = std::fs::File::create(dir.join("list.csv")).unwrap();
    writeln!(file, "email,name").unwrap();
    for (i, address) in all.iter().enumerate() {
        writeln!(file, "{address},Name {i}").unwrap();
    }
    all
}

fn arrivals(book: &[Line]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for line in book.iter().filter(|l| l.stage == Stage::Data && l.accepted) {
        *counts.entry(line.rcpt.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn a_run_stopped_by_ctrl_c_and_resumed_reaches_each_row_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("sink.jsonl");
    let sink = Sink::start(&log, &[]);
    let all = list(dir.path(), 400);
    let child = send(dir.path(), &sink.address, &["--rate", "300", "--connections", "3"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    signal(&child, "INT");
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let first: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let sent = first["sent"].as_u64().unwrap();
    assert!(first["interrupted"] == true && sent > 0 && sent < 400, "{first}");
    assert_eq!(first["inDoubt"].as_array().unwrap().len(), 0, "{first}");

    // Without --resume nobody is mailed twice by mistake.
    let refused = send(dir.path(), &sink.address, &[]).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--resume"));

    let second = result(&mut send(dir.path(), &sink.address, &["--resume"]));
    assert_eq!(second["sent"].as_u64().unwrap() + sent, 400, "{second}");
    let book = sink.stop(&log);
    let arrived = arrivals(&book);
    assert!(all.iter().all(|a| arrived.get(a.as_str()) == Some(&1)) && arrived.len() == 400);
}

#[test]
fn a_run_killed_and_resumed_sends_no_row_twice_and_lists_those_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("sink.jsonl");
    let sink = Sink::start(&log, &[]);
    let all = list(dir.path(), 2000);
    let mut child = send(dir.path(), &sink.address, &["--connections", "4"]).spawn().unwrap();
    let state = dir.path().join("list.csv.send-state");
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::metadata(&state).map_or(0, |m| m.len()) < 2000 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let second = result(&mut send(dir.path(), &sink.address, &["--resume"]));
    let in_doubt: Vec<u64> = second["inDoubt"].as_array().unwrap().iter().map(|r| r.as_u64().unwrap()).collect();
    // At most one message per connection was under way.
    assert!(in_doubt.len() <= 4, "{second}");
    let third = result(&mut send(dir.path(), &sink.address, &["--resume"]));
    assert_eq!((&third["sent"], third["inDoubt"].as_array().unwrap().len()), (&0.into(), in_doubt.len()));
    let book = sink.stop(&log);
    let arrived = arrivals(&book);
    for (i, address) in all.iter().enumerate() {
        let times = arrived.get(address.as_str()).copied().unwrap_or(0);
        let doubtful = in_doubt.contains(&(i as u64 + 1));
        assert!(times == 1 || (doubtful && times == 0), "{address} arrived {times} times");
    }
}

#[test]
fn refusals_are_grouped_malformed_rows_named_and_greylisted_ones_sent_on_retry() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("sink.jsonl");
    let sink = Sink::start(&log, &["--profile", "providers", "--seed", "1"]);
    let script = Script::new(1);
    let domain = "mailhost.example";
    let [unknown, grey, fine] =
        [Behaviour::UnknownUser, Behaviour::Greylist, Behaviour::Accept].map(|b| who(script, domain, b));
    let csv = format!("name,email\nA,{unknown}\nB,not-an-address\nC,{grey}\nD,{fine}\n");
    std::fs::write(dir.path().join("list.csv"), csv).unwrap();
    let summary = result(&mut send(dir.path(), &sink.address, &[]));
    sink.stop(&log);
    assert_eq!(summary["sent"], 2, "{summary}");
    assert_eq!(summary["refused"][0]["example"], unknown.as_str());
    assert_eq!(
        (&summary["malformed"][0]["line"], &summary["malformed"][0]["text"]),
        (&3.into(), &"not-an-address".into())
    );
}

#[test]
fn a_dry_run_shows_the_first_message_and_sends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    list(dir.path(), 3);
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    let out = command
        .args([
            "send",
            "--dry-run",
            "--from",
            "news@sender.example",
            "--subject",
            "Hi {{name}}",
            "--body",
            "x",
            "--to-csv",
        ])
        .arg(dir.path().join("list.csv"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("Subject: Hi Name 0") && text.contains("3 messages ready"), "{text}");
    assert!(!dir.path().join("list.csv.send-state").exists());
}

#[test]
fn the_sink_takes_a_dialogue_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("sink.jsonl");
    let sink = Sink::start(&log, &[]);
    let stream = TcpStream::connect(&sink.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone().unwrap()), stream);
    writer
        .write_all(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nSubject: x\r\n\r\n.\r\nQUIT\r\n")
        .unwrap();
    let mut text = String::new();
    while reader.read_line(&mut text).unwrap() > 0 {}
    let codes: Vec<&str> = text.lines().filter(|l| l.as_bytes()[3] == b' ').map(|l| &l[..3]).collect();
    assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"]);
    assert_eq!(arrivals(&sink.stop(&log)).len(), 1);
}
