//! A message that bounces is reported to its sender: once, in a form that our own report room understands, and to
//! nobody who must not be written to. From SMTP in to SMTP out through a whole node; the store's part under power cuts.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests on real sockets")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carom::config::Config;
use carom::delivery::notify::{self, Ending};
use carom::delivery::outcome::DiagType;
use carom::event::{Action, AddressKey, Event, EventId, Events, Kind, MessageId, Scope, SourceType, StoreId, Time};
use carom::node::{Node, Options};
use carom::report::{Recognised, ReportKind, recognise};
use carom::sim::disk::SimDisk;
use carom::store::{Envelope, Finish, Message, Recipient, Route, Store};
use carom::suppress::{Entry, Mail};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::mail::handed_in;

const MAIL: &str =
    "From: News <news@sender.example>\r\nMessage-ID: <m1@sender.example>\r\nSubject: Hello\r\n\r\nText\r\n";

// ---- the report itself

fn config(lines: &str) -> Config {
    let text = format!("host-name mta.sender.example\npostmaster p@sender.example\nspool /nowhere\n{lines}");
    let loaded = carom::config::parse_str("test", &text);
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

fn message(rcpts: &[&str], body: &[u8]) -> Message {
    let queued = Time::from_secs(1_700_000_000);
    let mail = handed_in(MessageId(7), queued, "news@sender.example", rcpts.iter().copied(), body.to_vec());
    let envelope = Envelope {
        env_id: "env-1".into(),
        job: "job".into(),
        vmta: "v".into(),
        src_mta: "feeder".into(),
        message_id_header: "m1@sender.example".into(),
        ..mail.envelope
    };
    Message { envelope, ..mail }
}

fn refused(rcpt: u16, text: &str) -> Ending {
    Ending {
        rcpt,
        action: Action::Failed,
        status: "5.1.1".parse().unwrap(),
        text: text.into(),
        diag_type: DiagType::Smtp,
        mta: "mx.example.net".into(),
        mta_ip: Some("192.0.2.9".parse().unwrap()),
        last_attempt: Time::from_secs(1_700_000_100),
        retry_until: Time::UNKNOWN,
    }
}

fn report_on(config: &Config, message: &Message, failures: &[Ending]) -> (Arc<Message>, String, Recognised) {
    let ids = (StoreId(0xab), MessageId(9));
    let (report, received) = notify::report(config, message, failures, ids, Time::from_secs(1_700_000_200));
    assert_eq!(received.len(), 1);
    let text = String::from_utf8_lossy(&report.body).into_owned();
    let recognised = recognise(&report.body);
    (report, text, recognised)
}

#[test]
fn a_report_says_who_failed_and_why_and_is_understood_by_our_own_report_room() {
    let mut mail = message(&["ann@example.net", "bob@example.net"], MAIL.as_bytes());
    mail.envelope.rcpts[1].orcpt = "rfc822;robert@example.net".into();
    let expired = Ending {
        status: "4.4.7".parse().unwrap(),
        text: "delivery time expired: not delivered within 60 s, after 1 attempt".into(),
        diag_type: DiagType::Own,
        mta: "".into(),
        mta_ip: None,
        last_attempt: Time::UNKNOWN,
        ..refused(1, "")
    };
    let (report, text, read) = report_on(&config(""), &mail, &[refused(0, "550 5.1.1 no such user"), expired]);
    assert_eq!((read.kind, read.format), (ReportKind::Bounce, "dsn"));
    assert_eq!((read.reporting_mta.as_str(), read.env_id.as_str()), ("mta.sender.example", "env-1"));
    assert_eq!(read.original.message_id, "m1@sender.example");
    assert_eq!(read.arrival_date, "Tue, 14 Nov 2023 22:13:20 +0000");
    let one = &read.results[0];
    assert_eq!(
        (one.rcpt.as_str(), one.action, one.status),
        ("ann@example.net", Some(Action::Failed), "5.1.1".parse().ok())
    );
    assert_eq!((one.diag_type.as_str(), one.diag.as_str()), ("smtp", "550 5.1.1 no such user"));
    assert_eq!(one.remote_mta, "mx.example.net");
    let two = &read.results[1];
    assert_eq!(
        (two.rcpt.as_str(), two.action, two.status),
        ("bob@example.net", Some(Action::Failed), "4.4.7".parse().ok())
    );
    assert_eq!((two.orcpt.as_str(), two.diag_type.as_str()), ("rfc822;robert@example.net", "x-carom"));
    assert_eq!(read.results.len(), 2);
    let full = Ending { status: "4.4.7".parse().unwrap(), ..refused(0, "451 4.2.2 mailbox full") };
    let (_, of_full, _) = report_on(&config(""), &mail, &[full]);
    assert!(of_full.contains("Its time ran out. The last attempt was on Tue, 14 Nov 2023"), "{of_full}");
    let program =
        Ending { diag_type: DiagType::Unix, text: "exit status 67 (EX_NOUSER): no\nann".into(), ..refused(0, "") };
    let (_, _, read) = report_on(&config(""), &mail, &[program]);
    let one = &read.results[0];
    assert_eq!((one.diag_type.as_str(), one.diag.as_str()), ("x-unix", "exit status 67 (EX_NOUSER): no ann"));

    for line in [
        "To: <news@sender.example>",
        "Auto-Submitted: auto-replied",
        "Last-Attempt-Date: Tue, 14 Nov 2023 22:15:00 +0000",
        "This is the mail system at mta.sender.example.",
        "  <ann@example.net>",
        "    mx.example.net (192.0.2.9) said:",
        "    550 5.1.1 no such user",
        "Content-Type: text/rfc822-headers",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("<MAILER-DAEMON@mta.sender.example>"), "{text}");
    assert!(!text.contains("\r\nText"), "the header alone is returned");
    let e = &report.envelope;
    assert_eq!(
        (&*e.orig, e.no_dsn, e.route, &*e.vmta, e.src_type),
        ("", true, Route::Deliver, "{default}", SourceType::Internal)
    );
    assert_eq!(
        (&*e.rcpts[0].address, e.rcpts[0].notify, e.body_len as usize),
        ("news@sender.example", 1, report.body.len())
    );
    assert!(text.contains(&format!("Message-ID: <{}>", e.message_id_header)), "{text}");
    assert!(!notify::wanted(&config(""), e), "never a report about a report");
}

#[test]
fn the_operator_chooses_who_it_is_from_and_whether_all_is_returned() {
    let config = config("custom-dsn-from-header \"Zustellung Süd <bounces@sender.example>\"\n");
    let mut mail = message(&["ann@example.net"], MAIL.replace("Text", "Grüße").as_bytes());
    mail.envelope.return_full = true;
    let (report, text, read) = report_on(&config, &mail, &[refused(0, "550 no")]);
    assert!(text.contains("<bounces@sender.example>") && !text.contains("MAILER-DAEMON"), "{text}");
    assert!(text.contains("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n"), "{text}");
    assert!(text.contains("Subject: Hello\r\n\r\nGrüße\r\n"), "{text}");
    assert!(report.envelope.eight_bit);
    assert_eq!(
        (read.results[0].rcpt.as_str(), read.original.message_id.as_str()),
        ("ann@example.net", "m1@sender.example")
    );
    // Too large to be returned: its header is.
    mail.body = [MAIL.as_bytes(), &vec![b'x'; 2 << 20]].concat().into();
    let (report, text, _) = report_on(&config, &mail, &[refused(0, "550 no")]);
    assert!(report.body.len() < 8192 && text.contains("text/rfc822-headers"), "{}", report.body.len());
}

#[test]
fn what_comes_from_outside_can_not_write_fields_lines_or_parts_of_its_own() {
    let reply = "550 no\r\nFinal-Recipient: rfc822; victim@example.org\r\n\r\n--x\r\nünknöwn";
    let mut mail = message(&["ann@example.net", "jürgen@bücher.example"], MAIL.as_bytes());
    mail.envelope.env_id = "a\r\nX-Evil: 1".into();
    let (report, text, read) = report_on(&config(""), &mail, &[refused(0, reply), refused(1, &"x".repeat(5000))]);
    assert!(
        text.lines().all(|l| !l.starts_with("X-Evil") && !l.starts_with("Final-Recipient: rfc822; victim")),
        "{text}"
    );
    assert!(report.body.is_ascii() && text.split("\r\n").all(|l| l.len() <= 998 && !l.contains(['\r', '\n'])));
    assert_eq!(read.results.len(), 2);
    assert_eq!(read.results[0].rcpt, "ann@example.net");
    assert!(read.results[0].diag.ends_with("?nkn?wn"), "{:?}", read.results[0].diag);
    assert!(text.contains("Final-Recipient: utf-8; j\\x{FC}rgen@xn--bcher-kva.example"), "{text}");
}

#[test]
fn a_message_that_knows_the_boundary_does_not_end_its_part() {
    let mail = message(&["ann@example.net"], MAIL.as_bytes());
    let boundary = |text: &str| text.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (_, text, _) = report_on(&config(""), &mail, &[refused(0, "550 no")]);
    let guessed = boundary(&text);
    let mut evil = message(
        &["ann@example.net"],
        format!("X: y\r\n--{guessed}\r\n\r\nFinal-Recipient: rfc822;v@x.example").as_bytes(),
    );
    evil.envelope.return_full = true;
    let (_, text, read) = report_on(&config(""), &evil, &[refused(0, "550 no")]);
    assert_ne!(boundary(&text), guessed);
    assert_eq!(read.results.len(), 1);
}

proptest! {
    #[test]
    fn any_reply_and_address_give_a_report_about_the_right_recipient(
        reply in "\\PC{0,80}|(?s).{0,300}", other in "\\PC{1,60}", body in proptest::collection::vec(any::<u8>(), 0..300), whole: bool,
    ) {
        let mut mail = message(&["ann@example.net", &other], &body);
        mail.envelope.return_full = whole;
        mail.envelope.env_id = reply.as_str().into();
        let (report, _, read) = report_on(&config(""), &mail, &[refused(0, &reply), refused(1, &reply)]);
        prop_assert_eq!((read.kind, read.results.len()), (ReportKind::Bounce, 2));
        prop_assert_eq!(&read.results[0].rcpt, "ann@example.net");
        prop_assert_eq!(read.results[0].status, "5.1.1".parse().ok());
        prop_assert!(report.body.is_ascii() || whole);
    }
}

#[test]
fn nobody_is_written_to_who_must_not_be() {
    let config = config(
        "<bounce-processor>\n<address-list>\ndomain bounce.sender.example\naddress returns\n</address-list>\n</bounce-processor>\n\
         <feedback-loop-processor>\n<address-list>\naddress fbl@sender.example\n</address-list>\n</feedback-loop-processor>\n\
         <return-path-token>\ndomain rp.sender.example\nkey k1 0123456789abcdef\n</return-path-token>\n",
    );
    let from = |orig: &str| Envelope { orig: orig.into(), ..message(&["ann@example.net"], b"").envelope };
    for (orig, wanted) in [
        ("news@sender.example", true),
        ("fbl@other.example", true),
        ("", false),
        ("no address", false),
        ("x@Bounce.sender.example", false),
        ("returns@anywhere.example", false),
        ("FBL@sender.example", false),
        ("t-1@rp.sender.example", false),
    ] {
        assert_eq!(notify::wanted(&config, &from(orig)), wanted, "{orig}");
    }
    let quiet = Envelope { no_dsn: true, ..from("news@sender.example") };
    assert!(!notify::wanted(&config, &quiet) && !notify::asked_for(&quiet, &quiet.rcpts[0]));
    for (bits, asked) in [(0, true), (1, false), (2, false), (4, true), (8, false), (12, true)] {
        let rcpt = Recipient { address: "ann@example.net".into(), orcpt: "".into(), notify: bits };
        assert_eq!(notify::asked_for(&from("news@sender.example"), &rcpt), asked, "NOTIFY {bits}");
    }
}

// ---- with everything around it

/// Sender, recipients, content.
type Taken = (String, Vec<String>, Vec<u8>);

/// A server for every domain; refuses recipients whose address contains `bad`, for now those with `later`.
#[derive(Clone, Default)]
struct Mx(Arc<Mutex<Vec<Taken>>>);

impl Mx {
    async fn start() -> (Mx, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mx = Mx::default();
        let this = mx.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move { this.serve(BufReader::new(stream)).await });
            }
        });
        (mx, port)
    }

    async fn serve(self, mut stream: BufReader<TcpStream>) -> Option<()> {
        let path = |line: &str| line[line.find('<').unwrap() + 1..line.find('>').unwrap()].to_owned();
        let (mut sender, mut rcpts) = (String::new(), Vec::new());
        let mut reply = "220 mx.example.net";
        loop {
            stream.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
            let line = line(&mut stream).await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            reply = match &line[..4] {
                "MAIL" => {
                    (sender, rcpts) = (path(&line), Vec::new());
                    "250 ok"
                }
                "RCPT" if line.contains("later") => "450 4.2.1 try later",
                "RCPT" if line.contains("bad") => "550 5.1.1 no such user here",
                "RCPT" => {
                    rcpts.push(path(&line));
                    "250 ok"
                }
                "DATA" if rcpts.is_empty() => "554 5.5.1 no recipients",
                "DATA" => {
                    stream.get_mut().write_all(b"354 go on\r\n").await.ok()?;
                    let mut content = Vec::new();
                    loop {
                        let line = self::line(&mut stream).await?;
                        if line == b".\r\n" {
                            break;
                        }
                        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                    }
                    self.0.lock().unwrap().push((sender.clone(), rcpts.clone(), content));
                    "250 2.0.0 taken"
                }
                _ => "250 ok",
            };
        }
    }

    /// What came from the null sender.
    fn reports(&self) -> Vec<(Vec<String>, Recognised)> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(s, ..)| s.is_empty()).map(|(_, to, mail)| (to.clone(), recognise(mail))).collect()
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let n = stream.read_until(b'\n', &mut line).await.ok()?;
    (n > 0).then_some(line)
}

struct House {
    node: Node,
    mx: Mx,
    _dir: tempfile::TempDir,
}

impl House {
    async fn start(source: &str, rest: &str) -> House {
        let (mx, port) = Mx::start().await;
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "host-name mta.sender.example\npostmaster p@sender.example\nsmtp-listener 127.0.0.1:0\n\
             name-server 127.0.0.1\nspool {0}/spool\ncommand-socket {0}/sock\n\
             <source 127.0.0.1>\nalways-allow-relaying yes\naccept-invalid-recipients yes\n{source}\n</source>\n\
             <domain *>\nsmtp-hosts [127.0.0.1]:{port}\nuse-starttls no\nretry-recipients-after 1s\n</domain>\n{rest}\n",
            dir.path().display()
        );
        let loaded = carom::config::parse_str("test", &text);
        let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let options = Options { root: Some(dir.path().to_owned()), ..Options::default() };
        House { node: Node::start(config, options).await.unwrap(), mx, _dir: dir }
    }

    /// Hands a message in and waits until all that follows from it is done.
    async fn send(&self, from: &str, to: &[&str]) {
        let to: Vec<String> = to.iter().map(|r| format!("<{r}>")).collect();
        self.send_with(&format!("<{from}>"), &to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    /// As [`House::send`], with paths and parameters as they stand in the commands.
    async fn send_with(&self, from: &str, to: &[&str]) {
        self.send_mail(from, to, MAIL).await;
    }

    async fn send_mail(&self, from: &str, to: &[&str], mail: &str) {
        let stream = TcpStream::connect(self.node.smtp_addresses()[0]).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut commands = vec!["EHLO feeder.sender.example".to_owned(), format!("MAIL FROM:{from}")];
        commands.extend(to.iter().map(|r| format!("RCPT TO:{r}")));
        commands.extend(["DATA".to_owned(), format!("{mail}.")]);
        self::line(&mut stream).await.unwrap();
        for command in commands {
            stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
            loop {
                let reply = self::line(&mut stream).await.unwrap();
                assert!(matches!(reply[0], b'2' | b'3'), "{command}: {}", String::from_utf8_lossy(&reply));
                if reply[3] == b' ' {
                    break;
                }
            }
        }
        for _ in 0..2000 {
            if self.node.queue().queued_recipients() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still queued: {:?}", self.node.queue().status());
    }

    /// How many events of this kind the ledger has.
    async fn count(&self, kind: Kind) -> usize {
        self.node.store().flush().await.unwrap();
        count(self.node.store(), kind)
    }

    async fn stop(self) {
        self.node.stop().await.unwrap();
    }
}

fn count(store: &Store, kind: Kind) -> usize {
    let ledger = store.ledger();
    let mut reader = ledger.reader(ledger.start()).unwrap();
    let mut n = 0;
    while let Some(chunk) = reader.next(1000).unwrap() {
        n += chunk.batches().flat_map(|b| b.iter()).filter(|e| e.as_ref().unwrap().kind == kind).count();
    }
    n
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_gets_one_report_about_all_recipients_that_failed_together() {
    let house = House::start("process-x-envid yes", "").await;
    house.send("news@sender.example", &["good@example.net", "bad1@example.net", "bad2@example.net"]).await;
    let reports = house.mx.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let (to, read) = &reports[0];
    assert_eq!((to.as_slice(), read.kind), (["news@sender.example".to_owned()].as_slice(), ReportKind::Bounce));
    let failed: Vec<_> = read.results.iter().map(|r| (r.rcpt.as_str(), r.diag.as_str(), r.action)).collect();
    let said = "550 5.1.1 no such user here";
    let expected = [("bad1@example.net", said, Some(Action::Failed)), ("bad2@example.net", said, Some(Action::Failed))];
    assert_eq!(failed, expected);
    assert_eq!(read.original.message_id, "m1@sender.example");
    // Received: three recipients and the report; delivered: one recipient and the report.
    let counts =
        (house.count(Kind::Received).await, house.count(Kind::Bounced).await, house.count(Kind::Delivered).await);
    assert_eq!(counts, (4, 2, 2));
    assert_eq!(house.node.store().usage().queued_recipients, 0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notify_says_of_what_the_sender_hears_and_its_own_names_are_given_back() {
    let house = House::start("", "").await;
    let from = "<news@sender.example> ENVID=spring+2B7 RET=FULL";
    let to = [
        "<bad1@example.net> NOTIFY=NEVER",
        "<bad2@example.net> NOTIFY=SUCCESS",
        "<bad3@example.net> NOTIFY=FAILURE ORCPT=rfc822;Bad+2BThree@old.example",
        "<good1@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;one@old.example",
        "<good2@example.net>",
    ];
    house.send_with(from, &to).await;
    let taken = house.mx.0.lock().unwrap().clone();
    let raw: Vec<_> = taken.iter().filter(|(s, ..)| s.is_empty()).map(|t| String::from_utf8_lossy(&t.2)).collect();
    let reports = house.mx.reports();
    assert_eq!(reports.len(), 2, "one about the failure, one about the success: {reports:?}");
    let of = |kind| reports.iter().position(|(_, r)| r.kind == kind).unwrap();
    let (bounce, status) = (of(ReportKind::Bounce), of(ReportKind::Status));
    for at in [bounce, status] {
        let read = &reports[at].1;
        assert_eq!((read.env_id.as_str(), read.results.len()), ("spring+7", 1));
    }
    let failed = &reports[bounce].1.results[0];
    assert_eq!((failed.rcpt.as_str(), failed.orcpt.as_str()), ("bad3@example.net", "rfc822;Bad+Three@old.example"));
    assert!(
        raw[bounce].contains("message/rfc822") && raw[bounce].contains("\r\nText\r\n"),
        "RET=FULL: {}",
        raw[bounce]
    );
    let passed_on = &reports[status].1.results[0];
    assert_eq!(
        (passed_on.rcpt.as_str(), passed_on.orcpt.as_str(), passed_on.action, passed_on.diag.as_str()),
        ("good1@example.net", "rfc822;one@old.example", Some(Action::Relayed), "250 2.0.0 taken")
    );
    assert!(raw[status].contains("text/rfc822-headers") && raw[status].contains("passed on for this recipient"));
    house.stop().await;
    // Who sends in bulk wants none of it.
    let quiet = House::start("suppress-local-dsn yes", "").await;
    quiet.send_with(from, &to).await;
    assert_eq!(quiet.mx.reports().len(), 0);
    quiet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_a_domain_with_type_file_ends_in_files_and_is_recorded_as_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let domains = format!(
        "<domain box.example>\ntype file\nfile-format append-mbox\nfile-destination {at}/$user\n</domain>\n\
         <domain new.example>\ntype file\nfile-destination {at}/new\n</domain>"
    );
    let house = House::start("", &domains).await;
    let success = "<a/Ann+x@box.example> NOTIFY=SUCCESS";
    house.send_with("<news@sender.example>", &[success, "<bob@box.example>", "<ann@new.example>"]).await;
    let mbox = std::fs::read_to_string(dir.path().join("a_ann")).unwrap();
    assert!(mbox.starts_with("From news@sender.example ") && mbox.ends_with("\n\nText\n\n"), "{mbox}");
    assert!(std::fs::read_to_string(dir.path().join("bob")).unwrap().contains("Subject: Hello\n"));
    assert_eq!(std::fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    let reports = house.mx.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].1.results[0].action, Some(Action::Delivered));
    // Three in files, and the report by SMTP.
    assert_eq!(house.count(Kind::Delivered).await, 4);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_bounces_and_mail_of_the_null_sender_are_not_reported() {
    let house = House::start("", "").await;
    house.send("bad-sender@sender.example", &["bad@example.net"]).await;
    assert_eq!(house.count(Kind::Bounced).await, 2, "the message and the report about it");
    house.send("", &["bad3@example.net"]).await;
    assert_eq!((house.count(Kind::Bounced).await, house.count(Kind::Received).await), (3, 3));
    assert_eq!(house.mx.reports().len(), 0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_s_address_causes_no_report_and_a_recipient_that_was_suppressed_when_it_came_does() {
    let processor =
        "<bounce-processor>\n<address-list>\ndomain bounce.sender.example\n</address-list>\n</bounce-processor>";
    let house = House::start("", processor).await;
    house.send("b@bounce.sender.example", &["bad@example.net"]).await;
    assert_eq!((house.mx.reports().len(), house.count(Kind::Bounced).await), (0, 1));
    // The bounce has put the address on the suppression list, once it got there.
    for _ in 0..500 {
        if house.node.suppression().check("bad@example.net", &Mail::default(), Time::from_secs(1)).is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.send("news@sender.example", &["bad@example.net"]).await;
    let reports = house.mx.reports();
    assert_eq!((reports.len(), house.count(Kind::Bounced).await), (1, 2));
    let failed = &reports[0].1.results[0];
    assert_eq!((failed.rcpt.as_str(), failed.status), ("bad@example.net", "5.7.1".parse().ok()));
    assert!(failed.diag.contains("recipient is in suppression list \"auto:hard\""), "{failed:?}");
    house.send_with("<news@sender.example>", &["<bad@example.net> NOTIFY=NEVER"]).await;
    assert_eq!((house.mx.reports().len(), house.count(Kind::Bounced).await), (1, 3));
    assert!(house.node.suppression().check("bad@example.net", &Mail::default(), Time::from_secs(1)).is_some());
    house.stop().await;
}

/// Everybody whom the header section shows to be suppressed ends with his record; whether the sender hears of it is the
/// source's choice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_suppressed_by_job_list_or_virtual_mta_ends_after_data_and_a_source_that_drops_says_nothing() {
    for (source, reported) in [("process-x-job yes", 1), ("process-x-job yes\nsuppression-outcome drop", 0)] {
        let house = House::start(source, "").await;
        let list = house.node.suppression();
        for (address, scope) in
            [("a", "job spring"), ("b", "list weekly"), ("c", "vmta {default}"), ("d", "job autumn")]
        {
            let by = EventId { store: StoreId(1), seq: 1 };
            let scope: Scope = scope.parse().unwrap();
            let entry = Entry { rule: "complaint".into(), by, scope: scope.clone(), ..Entry::default() };
            let subject = list.hasher().address(&AddressKey::of(&format!("{address}@example.net")));
            list.apply(&subject.in_scope(&scope), &entry);
        }
        let to = ["a@example.net", "b@example.net", "c@example.net", "d@example.net"]
            .map(|r| format!("<{r}> NOTIFY=FAILURE"));
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        house.send_mail("<news@sender.example>", &to, &format!("X-Job: spring\r\nList-Id: x <weekly>\r\n{MAIL}")).await;
        assert_eq!((house.count(Kind::Bounced).await, house.count(Kind::Delivered).await), (3, 1 + reported));
        let reports = house.mx.reports();
        assert_eq!(reports.len(), reported);
        for report in reports {
            let rcpts: Vec<_> = report.1.results.iter().map(|r| r.rcpt.as_str()).collect();
            assert_eq!(rcpts, ["a@example.net", "b@example.net", "c@example.net"], "one report for all");
        }
        house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_file_is_obeyed_from_the_first_mail_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("never.txt");
    std::fs::write(&file, "\u{feff}# never\r\nann@example.net\r\npostmaster\r\nno address at all\r\n").unwrap();
    let list = format!("<address-list Never>\naddress-file {}\n</address-list>", file.display());
    let house = House::start("suppression-lists Never\nsuppress-local-dsn yes", &list).await;
    house.send("news@sender.example", &["Ann@Example.net", "postmaster@any.example", "bob@example.net"]).await;
    assert_eq!((house.count(Kind::Bounced).await, house.count(Kind::Delivered).await), (2, 1));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_is_suppressed_while_it_waits_causes_no_report() {
    let house = House::start("", "").await;
    let suppress = async {
        while house.count(Kind::Transient).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let entry = Entry {
            rule: "hard".into(),
            by: EventId { store: StoreId(1), seq: 1 },
            time: Time::from_secs(1),
            category: "bad-mailbox".into(),
            ..Entry::default()
        };
        let list = house.node.suppression();
        let subject = list.hasher().address(&AddressKey::of("later@example.net"));
        list.apply(&subject.in_scope(&Scope::global()), &entry);
    };
    tokio::join!(house.send("news@sender.example", &["later@example.net"]), suppress);
    assert_eq!((house.mx.reports().len(), house.count(Kind::Bounced).await), (0, 1));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_is_reported_and_what_is_thrown_away_on_purpose_is_not() {
    let rest = "<domain late.example>\nsmtp-hosts [127.0.0.1]:1\nbounce-after 2s\nretry-after 1s\n</domain>\n\
                <domain thrown.example>\ntype discard\ndiscard-as-bounce yes\n</domain>";
    let house = House::start("", rest).await;
    house.send("news@sender.example", &["ann@late.example", "bob@thrown.example"]).await;
    let reports = house.mx.reports();
    assert_eq!((reports.len(), house.count(Kind::Bounced).await), (1, 2));
    let failed: Vec<_> = reports[0].1.results.iter().map(|r| (r.rcpt.as_str(), r.status, r.action)).collect();
    assert_eq!(failed, [("ann@late.example", "4.4.7".parse().ok(), Some(Action::Failed))]);
    assert!(reports[0].1.results[0].diag.starts_with("delivery time expired"), "{:?}", reports[0].1.results[0]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_can_do_without_reports_or_want_the_whole_message() {
    let house = House::start("suppress-local-dsn yes", "").await;
    house.send("news@sender.example", &["bad@example.net"]).await;
    assert_eq!((house.mx.reports().len(), house.count(Kind::Bounced).await), (0, 1));
    house.stop().await;

    let house = House::start("dsn-return-default full", "").await;
    house.send("news@sender.example", &["bad@example.net"]).await;
    assert_eq!(house.mx.reports().len(), 1);
    let mails = house.mx.0.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&mails[0].2).contains("Subject: Hello\r\n\r\nText\r\n"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_it_is_told_while_mail_waits_for_a_host_or_for_a_reply() {
    let terms = "notify-of-delay-every 3s\nbounce-after 7s\nretry-after 1s";
    let rest = format!(
        "<domain late.example>\nsmtp-hosts [127.0.0.1]:1\n{terms}\n</domain>\n<domain example.net>\n{terms}\n</domain>"
    );
    let house = House::start("", &rest).await;
    let to = [
        "<ann@late.example> NOTIFY=DELAY ORCPT=rfc822;old@old.example",
        "<bob@late.example>",
        "<later@example.net> NOTIFY=DELAY,FAILURE",
    ];
    house.send_with("<news@sender.example> ENVID=spring RET=FULL", &to).await;
    let taken = house.mx.0.lock().unwrap().clone();
    let raw: Vec<_> = taken.iter().map(|t| String::from_utf8_lossy(&t.2).into_owned()).collect();
    let reports = house.mx.reports();
    let mut told: Vec<(String, Option<Action>)> =
        reports.iter().flat_map(|(_, r)| r.results.iter().map(|r| (r.rcpt.clone(), r.action))).collect();
    told.sort();
    let of = |rcpt: &str, action| (rcpt.to_owned(), Some(action));
    let expected = [
        of("ann@late.example", Action::Delayed),
        of("ann@late.example", Action::Delayed),
        of("bob@late.example", Action::Failed),
        of("later@example.net", Action::Failed),
        of("later@example.net", Action::Delayed),
        of("later@example.net", Action::Delayed),
    ];
    assert_eq!(told, expected, "twice three seconds of seven");
    let first = &reports[0].1;
    assert_eq!((first.kind, first.env_id.as_str()), (ReportKind::Status, "spring"));
    let ann = first.results.iter().find(|r| r.rcpt == "ann@late.example").unwrap();
    assert_eq!(
        (ann.orcpt.as_str(), ann.status, ann.diag_type.as_str()),
        ("rfc822;old@old.example", "4.0.0".parse().ok(), "x-carom")
    );
    assert!(ann.diag.starts_with("not delivered yet; last failure of the queue: "), "{ann:?}");
    for text in
        ["Subject: Your message is delayed", "Will-Retry-Until: ", "nothing needs to be done", "Its header is attached"]
    {
        assert!(raw[0].contains(text), "{text}\n{}", raw[0]);
    }
    assert!(!raw[0].contains("\r\nText\r\n"), "RET=FULL is about failures: {}", raw[0]);
    house.stop().await;
    let quiet = House::start("suppress-local-dsn yes", &rest).await;
    quiet.send_with("<news@sender.example>", &to).await;
    assert_eq!(quiet.mx.reports().len(), 0);
    quiet.stop().await;
}

// ---- when the power goes

#[test]
fn after_a_power_cut_bounce_and_report_are_both_there_once_or_both_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = carom::store::Options { segment_bytes: 64 << 10, reserve_bytes: 0, ..Default::default() };
    let open = |disk: &SimDisk| Store::open(Arc::new(disk.clone()), Path::new("spool"), &options);
    let (mut with, mut without) = (0, 0);
    for seed in 0..60 {
        let disk = SimDisk::new();
        let acknowledged = runtime.block_on(async {
            let store = open(&disk).unwrap().store;
            let id = store.next_message_id();
            let mut mail = message(&["ann@example.net"], MAIL.as_bytes());
            mail.envelope.id = id;
            let mail = Arc::new(mail);
            store.accept(mail.clone(), Events::new()).await.unwrap();
            let ids = (store.id(), store.next_message_id());
            let (report, received) =
                notify::report(&config(""), &mail, &[refused(0, "550 no")], ids, Time::from_secs(9));
            let mut finish = Finish::new();
            finish.recipient(id, 0).event(&Event { message: id, ..Event::new(Kind::Bounced, Time::from_secs(9)) });
            finish.message(report, received);
            disk.cut_after(seed % 4);
            store.finish(finish).await.is_ok()
        });
        disk.power_cut(seed);
        let opened = open(&disk).unwrap();
        let mut queued = Vec::new();
        opened
            .store
            .for_each_queued(&mut |e, states| queued.push((e.orig.to_string(), e.no_dsn, states.len())))
            .unwrap();
        let events = (count(&opened.store, Kind::Bounced), count(&opened.store, Kind::Received));
        let report = [(String::new(), true, 1)];
        match events {
            (1, 1) => assert_eq!(queued, report, "seed {seed}"),
            other => {
                assert_eq!(other, (0, 0), "seed {seed}");
                assert_eq!(queued, [("news@sender.example".to_owned(), false, 1)], "seed {seed}");
                assert!(!acknowledged, "seed {seed}: durable when finish returns");
            }
        }
        (with, without) = (with + events.0, without + 1 - events.0);
    }
    assert!(with > 5 && without > 5, "the cut came on both sides: {with} {without}");
}
