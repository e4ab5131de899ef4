//! As an analyst I find every field of every record type filled whenever its value is known: a real run, with TLS, a user,
//! a job, an ENVID, an ORCPT, a pool, headers, and the three kinds of report, against the matrix of
//! reference/accounting.md, 3.2.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

mod hop;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carom::event::fields::Field;
use carom::event::{Kind, Kinds};

type Row = HashMap<String, String>;

/// Fields that a type carries by the matrix or by ours, and that this run can't know; with the reason.
const EMPTY: &[(&str, &str, &str)] = &[
    ("d", "bounceCat", "a delivery has no category"),
    ("d", "bounceRule", "a delivery has no category"),
    ("b", "dlvSize", "refused at RCPT: nothing was sent"),
    ("t", "dlvSize", "refused at RCPT: nothing was sent"),
    ("tq", "replyCode", "nobody answered"),
    ("rs", "bounceCat", "a success has no category"),
    ("rs", "bounceRule", "a success has no category"),
    ("rs", "classifierVersion", "a success has no category"),
];

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn say(lines: &mut BufReader<TcpStream>, line: &str) -> String {
    lines.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    reply(lines)
}

fn reply(lines: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        lines.read_line(&mut line).unwrap();
        if line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    }
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut lines = BufReader::new(stream);
    assert!(reply(&mut lines).starts_with("220"));
    assert!(say(&mut lines, "EHLO app.example").starts_with("250"));
    lines
}

fn send(lines: &mut BufReader<TcpStream>, mail: &str, rcpt: &str, content: &str) {
    assert!(say(lines, mail).starts_with("250"), "{mail}");
    let answer = say(lines, rcpt);
    assert!(answer.starts_with("250"), "{rcpt}: {answer}");
    assert!(say(lines, "DATA").starts_with("354"));
    let answer = say(lines, &format!("{}\r\n.", content.replace('\n', "\r\n")));
    assert!(answer.starts_with("250"), "{answer}");
}

/// The columns a type can have in CSV, each by name.
fn asked(kind: Kind) -> String {
    let all = carom::event::fields::FIELDS.iter().filter(|f| f.kinds.contains(kind));
    let names = all.map(|f| f.name).filter(|n| !matches!(*n, "type" | "headers" | "arf"));
    let mut names: Vec<&str> = names.collect();
    if kind != Kind::TransientQueue {
        names.push("header_X-Camp");
    }
    if kind == Kind::Feedback {
        names.push("arf_Version");
    }
    names.join(",")
}

fn rows(dir: &Path) -> Vec<Row> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let mut reader = csv::Reader::from_path(entry.path()).unwrap();
        found.extend(reader.deserialize::<Row>().map(Result::unwrap));
    }
    found
}

const ORIGINAL: &str = "Message-ID: <m1@from.example>\nList-Id: The weekly <weekly.from.example>\nX-Camp: spring\nFrom: <news@from.example>\nSubject: hello\n";

fn report(kind: &str, fields: &str) -> String {
    format!(
        "From: <mailer-daemon@mx.there.example>\nTo: <bounce@bounce.example>\nSubject: report\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type={kind}; boundary=B\n\n--B\nContent-Type: text/plain\n\n\
         A report.\n\n--B\nContent-Type: message/{kind}\n\n{fields}\n--B\nContent-Type: message/rfc822\n\n\
         {ORIGINAL}To: <ann@there.example>\n\nhello\n--B--\n"
    )
}

#[test]
fn every_field_of_every_record_type_is_filled_when_its_value_is_known() {
    let hop = hop::start();
    let closed = free_port();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let lists: String = Kind::ALL.iter().map(|k| format!("record-fields {} {}\n", k.name(), asked(*k))).collect();
    let config = format!(
        "host-name mta.example\npostmaster p@mta.example\nspool spool\nsmtp-listener 127.0.0.1:{port}\n\
         <source 127.0.0.0/8>\nalways-allow-relaying yes\nallow-unencrypted-plain-auth yes\nprocess-x-job yes\nprocess-x-envid yes\n\
         process-x-virtual-mta yes\nsuppress-local-dsn yes\n</source>\n\
         <source {{auth}}>\nalways-allow-relaying yes\nallow-unencrypted-plain-auth yes\nprocess-x-job yes\nprocess-x-envid yes\n\
         process-x-virtual-mta yes\nsuppress-local-dsn yes\naccept-invalid-recipients yes\n</source>\n\
         <smtp-user app>\npassword secret\n</smtp-user>\n\
         <virtual-mta v1>\nsmtp-source-host 127.0.0.1 v1.mta.example\n</virtual-mta>\n\
         <virtual-mta-pool pool1>\nvirtual-mta v1\n</virtual-mta-pool>\n\
         <domain *>\nsmtp-hosts [127.0.0.1]:{hop}\nuse-starttls yes\nretry-after 1s\nretry-recipients-after 1s\n</domain>\n\
         <domain down.example>\nsmtp-hosts [127.0.0.1]:{closed}\n</domain>\n\
         <bounce-processor>\n<address-list>\ndomain bounce.example\n</address-list>\n</bounce-processor>\n\
         <feedback-loop-processor>\n<address-list>\ndomain fbl.example\n</address-list>\n</feedback-loop-processor>\n\
         <acct-file acct/acct.csv>\nrecords all\n{lists}user-string node-7\n</acct-file>\n"
    );
    std::fs::write(dir.path().join("carom.conf"), config).unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    command.args(["run", "--config", "carom.conf"]).current_dir(dir.path()).env_remove("CAROM_CONFIG");
    let mut child = Guard(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let said = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end && child.0.try_wait().unwrap().is_none(), "{}", said());
        std::thread::sleep(Duration::from_millis(30));
    }

    let mut app = connect(port);
    let login = say(&mut app, &format!("AUTH PLAIN {}", data_encoding::BASE64.encode(b"\0app\0secret")));
    assert!(login.starts_with("235"), "{login}");
    let content = |job: &str| {
        format!("{ORIGINAL}X-Job: {job}\nX-EnvID: env1\nX-Virtual-MTA: pool1\nTo: <x@y.example>\n\nhello\n")
    };
    for rcpt in ["ann@there.example", "bad@there.example", "later@there.example", "ann@down.example"] {
        let rcpt = format!("RCPT TO:<{rcpt}> ORCPT=rfc822;old+2B{rcpt}");
        send(&mut app, "MAIL FROM:<news@from.example>", &rcpt, &content("job1"));
    }
    let path = dir.path().join("acct");
    let wait_for = |kinds: &[&str]| {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let rows = rows(&path);
            if kinds.iter().all(|k| rows.iter().any(|r| r["type"] == *k)) {
                return rows;
            }
            assert!(Instant::now() < end, "not all of {kinds:?}: {rows:?}\n{}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_for(&["r", "d", "b", "t", "tq"]);
    let mut mx = connect(port);
    let status = |action: &str, status: &str, diag: &str| {
        report(
            "delivery-status",
            &format!(
                "Reporting-MTA: dns; relay.there.example\nOriginal-Envelope-Id: env1\n\nOriginal-Recipient: \
                 rfc822;ann@old.example\nFinal-Recipient: rfc822;ann@there.example\nAction: {action}\nStatus: {status}\n\
                 Remote-MTA: dns; mx.there.example (192.0.2.9)\nDiagnostic-Code: smtp; {diag}\n"
            ),
        )
    };
    let to = "RCPT TO:<news@bounce.example>";
    send(&mut mx, "MAIL FROM:<>", to, &status("failed", "5.1.1", "550 5.1.1 no such user"));
    send(&mut mx, "MAIL FROM:<>", to, &status("relayed", "2.0.0", "250 2.0.0 ok"));
    let arf = "Feedback-Type: abuse\nUser-Agent: ExampleFBL/1.0\nVersion: 1\nOriginal-Mail-From: <news@from.example>\n\
               Original-Rcpt-To: <ann@there.example>\nOriginal-Envelope-Id: env1\nReported-Domain: from.example\n\
               Reporting-MTA: dns; fbl.there.example\nSource-IP: 192.0.2.77\n";
    send(&mut mx, "MAIL FROM:<fbl@there.example>", "RCPT TO:<news@fbl.example>", &report("feedback-report", arf));
    wait_for(&["rb", "rs", "f"]);
    // The address that was refused for good is suppressed by now; here its mail is accepted and ended by a record.
    let again = content("job2").replace("env1", "env2");
    send(&mut app, "MAIL FROM:<news@from.example>", "RCPT TO:<bad@there.example> ORCPT=rfc822;o@old.example", &again);
    let end = Instant::now() + Duration::from_secs(30);
    let rows = loop {
        let rows = rows(&path);
        if rows.iter().any(|r| r["type"] == "b" && !r["suppressedBy"].is_empty()) {
            break rows;
        }
        assert!(Instant::now() < end, "nobody is suppressed: {rows:?}\n{}", said());
        std::thread::sleep(Duration::from_millis(50));
    };

    let mut missing = Vec::new();
    for kind in Kind::ALL {
        let row = rows.iter().find(|r| r["type"] == kind.name()).unwrap();
        for name in asked(*kind).split(',') {
            let excused = EMPTY.iter().any(|(k, n, _)| (*k, *n) == (kind.name(), name));
            // Only mail that was not tried says why it was not.
            let filled = !row[name].is_empty() || name == "suppressedBy";
            if !filled && !excused {
                missing.push(format!("{kind} {name}"));
            }
            if filled && excused {
                missing.push(format!("{kind} {name}, which is no longer to be excused"));
            }
        }
    }
    assert!(missing.is_empty(), "empty, though known: {missing:?}\n{rows:#?}\n{}", said());
    let of_job = |job: &str| rows.iter().find(|r| r["type"] == "b" && r["jobId"] == job).unwrap();
    assert_eq!(of_job("job2")["suppressedBy"], of_job("job1")["eventId"], "the record that suppressed it is named");
    assert_eq!(
        (of_job("job2")["orcpt"].as_str(), of_job("job2")["bounceCat"].as_str()),
        ("rfc822;o@old.example", "suppressed")
    );

    let one = |kind: &str| rows.iter().find(|r| r["type"] == kind).unwrap();
    let (d, b, t, tq) = (one("d"), one("b"), one("t"), one("tq"));
    for row in [d, b, t] {
        assert_eq!(
            (row["jobId"].as_str(), row["envId"].as_str(), row["rcvSmtpUser"].as_str()),
            ("job1", "env1", "app")
        );
        assert_eq!((row["vmta"].as_str(), row["vmtaPool"].as_str()), ("v1", "pool1"));
        assert_eq!(row["queue"], "there.example/v1");
        assert_eq!(row["orcpt"], format!("rfc822;old+{}", row["rcpt"]));
        assert_eq!((row["header_X-Camp"].as_str(), row["userString"].as_str()), ("spring", "node-7"));
        assert_eq!((row["dlvTlsProtocol"].as_str(), row["dlvEsmtpAvailable"].as_str()), ("TLSv1.3", "8BITMIME,SIZE"));
        assert_eq!((row["dlvSourceIp"].as_str(), row["srcMta"].as_str()), ("127.0.0.1", "app.example (127.0.0.1)"));
    }
    assert_eq!((d["dsnDiag"].as_str(), d["dsnStatus"].as_str()), ("smtp;250 2.0.0 taken as Q17", "2.0.0 (success)"));
    assert_eq!((b["bounceCat"].as_str(), b["replyCode"].as_str()), ("bad-mailbox", "550"));
    assert_eq!((t["dsnAction"].as_str(), t["smtpStage"].as_str()), ("delayed", "rcpt"));
    assert_eq!((tq["queue"].as_str(), tq["dlvDestinationIp"].as_str()), ("down.example/v1", "127.0.0.1"));
    assert_eq!(one("r")["vmta"], "pool1", "what was asked for");
    let (rb, rs, f) = (one("rb"), one("rs"), one("f"));
    for row in [rb, rs, f] {
        assert_eq!((row["rcpt"].as_str(), row["envId"].as_str()), ("ann@there.example", "env1"));
        assert_eq!((row["jobId"].as_str(), row["attributedBy"].as_str()), ("job1", "message-id"));
        assert_eq!((row["queue"].as_str(), row["vmta"].as_str()), ("there.example/v1", "v1"));
        assert_eq!(row["messageId"], d["messageId"]);
        assert!(row["latencyMs"].parse::<u64>().unwrap() < 60_000, "{}", row["latencyMs"]);
    }
    assert_eq!((rb["dsnMta"].as_str(), rb["bounceCat"].as_str()), ("mx.there.example (192.0.2.9)", "bad-mailbox"));
    assert_eq!((f["feedbackType"].as_str(), f["dlvSourceIp"].as_str()), ("abuse", "192.0.2.77"));
}

/// Killed whatever happens.
struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The matrix itself: no field is offered for a type that can't carry it, and none is missing.
#[test]
fn the_field_table_has_what_the_matrix_of_the_reference_says() {
    let matrix: &[(&str, &str)] = &[
        ("timeLogged", "d b t tq r rb rs f"),
        ("timeQueued", "d b t"),
        ("totalSecondsQueued", "d b t"),
        ("orig", "d b t r rb rs f"),
        ("rcpt", "d b t r rb rs f"),
        ("orcpt", "d b t r rb rs"),
        ("dsnAction", "d b t rs"),
        ("dsnStatus", "d b t tq rb rs"),
        ("dsnDiag", "d b t tq rb rs"),
        ("dsnMta", "d b t tq rb rs"),
        ("dsnReportingMta", "rb"),
        ("bounceCat", "d b t rb rs"),
        ("srcType", "d b t r rb rs"),
        ("srcMta", "d b t r rb rs"),
        ("dlvType", "d b t tq"),
        ("dlvSourceIp", "d b t tq f"),
        ("dlvDestinationIp", "d b t tq"),
        ("dlvEsmtpAvailable", "d b t"),
        ("dlvSize", "d b t"),
        ("vmta", "d b t tq r"),
        ("vmtaPool", "d b t r"),
        ("jobId", "d b t r"),
        ("envId", "d b t r rb rs f"),
        ("queue", "d b t tq"),
        ("rcvSourceIp", "r"),
        ("rcvDestinationIp", "r"),
        ("rcvSmtpUser", "d b t r"),
        ("dlvTlsProtocol", "d b t"),
        ("dlvTlsCipher", "d b t"),
        ("userString", "d b t tq r"),
        ("format", "rb rs f"),
        ("repSourceIp", "f"),
        ("feedbackType", "f"),
        ("userAgent", "f"),
        ("reportingMta", "f"),
        ("reportedDomain", "f"),
    ];
    for (name, kinds) in matrix {
        let field = Field::by_name(name).unwrap_or_else(|| panic!("no field {name}"));
        let wanted: Vec<Kind> = kinds.split(' ').map(|k| k.parse().unwrap()).collect();
        assert!(wanted.iter().all(|k| field.kinds.contains(*k)), "{name}: {:?} instead of {kinds}", field.kinds);
        assert_ne!(field.kinds, Kinds::default());
    }
}
