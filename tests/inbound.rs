//! Bounces and complaints mailed to a running server, as an operator sees them: records, suppression, quarantine.
//!
//! The real program, on ports that were free, in a folder of its own; every wait is bounded.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::running::client::Client;
use crate::running::next_hop::NextHop;
use crate::running::server::{Place, rows};

const STOPS_WITHIN: Duration = Duration::from_secs(20);

const PROCESSORS: &str = "
<acct-file acct/reports.csv>
    records rb,rs,f
    record-fields rb *,format
</acct-file>
<return-path-token>
    header X-Ref
    encrypt-header yes
    key k1 0123456789abcdef0123456789abcdef
</return-path-token>
<domain *>
    add-token-header yes
</domain>
<bounce-processor>
    deliver-unmatched-email no
    <address-list>
        domain bounce.running.example
        address /^bounces-[0-9]+@/
    </address-list>
</bounce-processor>
<feedback-loop-processor>
    deliver-unmatched-email no
    <address-list>
        address fbl@running.example
    </address-list>
</feedback-loop-processor>
";

fn dsn(rcpt: &str) -> String {
    format!(
        "From: MAILER-DAEMON@there.example\r\nSubject: Undelivered Mail\r\nContent-Type: multipart/report; \
         report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n--b\r\nContent-Type: \
         message/delivery-status\r\n\r\nReporting-MTA: dns; there.example\r\n\r\nFinal-Recipient: rfc822; {rcpt}\r\nAction: \
         failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n--b--\r\n"
    )
}

/// A complaint about `original` in which every address was blotted out.
fn redacted(original: &str) -> String {
    // With the at sign: the three letters alone may stand in the token by chance.
    let original = original.replace("Message-ID", "X-Message-ID").replace("ann@", "xxx@");
    format!(
        "From: fbl@there.example\r\nSubject: complaint\r\nContent-Type: multipart/report; report-type=feedback-report; \
         boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nComplaint.\r\n--b\r\nContent-Type: \
         message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\nVersion: 1\r\n\r\n--b\r\nContent-Type: \
         message/rfc822\r\n\r\n{original}\r\n--b--\r\n"
    )
}

/// The records of `reports.csv` of this type, once there are so many.
fn records(place: &Place, kind: &str, count: usize) -> Vec<HashMap<String, String>> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let all = if place.path("acct").exists() { rows(place, kind) } else { Vec::new() };
        let found: Vec<_> = all.into_iter().filter(|r| r.contains_key("attributedBy")).collect();
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < end, "{} records of type {kind} instead of {count}\n{}", found.len(), place.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn check_config(place: &Place) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_carom"));
    command.arg("check-config").arg(place.path("carom.conf")).arg("--root").arg(place.path(""));
    let out = command.output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

#[test]
fn a_complaint_without_any_address_is_tied_by_the_token_in_the_header_and_ends_the_mailing() {
    let hop = NextHop::start();
    let place = Place::new(&hop, PROCESSORS);
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    assert_eq!(client.send("ann@there.example"), 250);
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    let delivered = hop.mails().remove(0);
    assert!(delivered.starts_with("X-Ref: "), "{delivered}");
    assert_eq!(client.mail("", "fbl@running.example", &redacted(&delivered)), 250);
    let f = records(&place, "f", 1).remove(0);
    assert_eq!(
        ["rcpt", "attributedBy", "orig", "repSourceIp", "feedbackType", "format"].map(|c| f[c].as_str()),
        ["ann@there.example", "header-token", "news@from.example", "127.0.0.1", "abuse", "arf"]
    );
    assert!(!f["timeSent"].is_empty());
    let (code, said) = place.carom(&["suppress", "check", "ann@there.example"]);
    assert_eq!(code, 1, "{said}");
    // With a made-up token it only says what our Received field in it says, which proves nothing.
    assert_eq!(client.send("bob@there.example"), 250);
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    let delivered = hop.mails().remove(1);
    let made_up = delivered.replace("X-Ref: ", "X-Ref: aaaaaaaa");
    assert_eq!(client.mail("", "fbl@running.example", &redacted(&made_up)), 250);
    let f = records(&place, "f", 2).remove(1);
    assert_eq!((f["rcpt"].as_str(), f["attributedBy"].as_str()), ("bob@there.example", "headers"));
    assert_eq!(place.carom(&["suppress", "check", "bob@there.example"]).0, 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
}

/// What a host that speaks DSN (RFC 3461) reports of a mail that it passed on to another, who refused it: it names what
/// it was given, and returns nothing of the mail.
fn dsn_of(commands: &[String], final_rcpt: &str) -> String {
    let parameter = |name: &str| {
        let mut words = commands.iter().rev().flat_map(|c| c.split(' '));
        words.find_map(|w| w.strip_prefix(name)).unwrap_or("").replace("+2B", "+")
    };
    let named = dsn(final_rcpt)
        .replace("Final-Recipient", &format!("Original-Recipient: {}\r\nFinal-Recipient", parameter("ORCPT=")));
    let names = format!("Original-Envelope-Id: {}\r\nReporting-MTA", parameter("ENVID="));
    named.replace("Reporting-MTA", &names)
}

#[test]
fn a_bounce_of_mail_that_was_passed_on_is_tied_by_envid_and_orcpt_and_suppresses_nobody() {
    let hop = NextHop::start();
    hop.offer_dsn();
    let place = Place::new(&hop, PROCESSORS);
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    let mail = "From: <news@from.example>\r\nSubject: hello\r\n\r\nhello\r\n";
    let (from, to) = (
        "<news@bounce.running.example> RET=HDRS ENVID=spring+2B7",
        "<ann@there.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;ann+2Bold@old.example",
    );
    assert_eq!(client.mail_with(from, to, mail), 250);
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    let said = hop.said();
    assert_eq!(
        said,
        [
            "MAIL FROM:<news@bounce.running.example> RET=HDRS ENVID=spring+2B7",
            "RCPT TO:<ann@there.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;ann+2Bold@old.example"
        ]
    );
    let bounce = dsn_of(&said, "third@elsewhere.example");
    assert_eq!(client.mail("", "news@bounce.running.example", &bounce), 250);
    let rb = records(&place, "rb", 1).remove(0);
    assert_eq!(
        ["attributedBy", "envId", "orig", "orcpt", "rcpt"].map(|c| rb[c].as_str()),
        [
            "envelope-id",
            "spring+7",
            "news@bounce.running.example",
            "rfc822;ann+old@old.example",
            "third@elsewhere.example"
        ]
    );
    let d = loop {
        match rows(&place, "d").pop() {
            Some(d) => break d,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    assert_eq!(["envId", "orcpt"].map(|c| d[c].as_str()), ["spring+7", "rfc822;ann+old@old.example"]);
    assert_eq!(rb["messageId"], d["messageId"]);
    for address in ["ann@there.example", "third@elsewhere.example"] {
        assert_eq!(
            place.carom(&["suppress", "check", address]).0,
            0,
            "{address}: whoever knows an ENVID may write this"
        );
    }
    // Of a sender that gives neither, only the recipient goes along: RFC 3461, 5.2.1 forbids a relay to make up more.
    assert_eq!(client.mail("news@bounce.running.example", "bob+x@there.example", mail), 250);
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    assert_eq!(
        hop.said()[2..],
        ["MAIL FROM:<news@bounce.running.example>", "RCPT TO:<bob+x@there.example> ORCPT=rfc822;bob+2Bx@there.example"]
    );
    // ignore-dsn keeps all of it back.
    place.write(&place.config().replacen("<domain *>\n", "<domain *>\nignore-dsn yes\n", 1));
    assert_eq!(place.carom(&["reload"]).0, 0);
    place.wait_for("idle connections to end", |s| s["queuedRecipients"] == 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    assert_eq!(client.mail_with(from, to, mail), 250);
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    assert_eq!(hop.said()[4..], ["MAIL FROM:<news@bounce.running.example>", "RCPT TO:<ann@there.example>"]);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
}

#[test]
fn a_header_of_the_returned_mail_takes_the_place_of_a_field_where_the_operator_says_so() {
    let hop = NextHop::start();
    let mapped = "<acct-file acct/jmrp.csv>\nrecords f\nrecord-fields f *,header_X-HmXmrOriginalRecipient,header_Subject\n\
                  map-header-to-field f header_X-Campaign userAgent\n\
                  map-header-to-field f header_X-HmXmrOriginalRecipient rcpt\n</acct-file>\n";
    let place = Place::new(
        &hop,
        &PROCESSORS.replace("records rb,rs,f", "records rb,rs").replacen('\n', &format!("\n{mapped}"), 1),
    );
    let _server = place.start();
    let mut client = Client::connect(place.smtp_port());
    let complaint = "From: staff@hotmail.example\r\nSubject: complaint about message from 192.0.2.20\r\nMIME-Version: 1.0\r\n\
                     Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n\
                     X-HmXmrOriginalRecipient: ann@hotmail.example\r\nX-Campaign: c7\r\nMessage-ID: <m@example.com>\r\n\
                     From: news@example.com\r\nTo: undisclosed@hotmail.example\r\nSubject: May\r\n\r\nHello\r\n--b--\r\n";
    assert_eq!(client.mail("staff@hotmail.example", "fbl@running.example", complaint), 250);
    let f = records(&place, "f", 1).remove(0);
    assert_eq!(
        ["rcpt", "userAgent", "header_X-HmXmrOriginalRecipient", "header_Subject", "format"].map(|c| f[c].as_str()),
        ["ann@hotmail.example", "c7", "ann@hotmail.example", "May", "jmrp"]
    );
}

#[test]
fn a_replay_happens_once_however_often_the_server_is_killed_in_it() {
    let hop = NextHop::start();
    let place = Place::new(&hop, PROCESSORS);
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    let count: u64 = 200;
    for n in 0..count {
        let mail =
            format!("From: gw@acme.example\r\nSubject: Notice\r\n\r\nrecipient u{n}@there.example: 550 gone\r\n");
        assert_eq!(client.mail("gw@acme.example", "bounces-17@bounce.running.example", &mail), 250);
    }
    place.wait_for("all in the quarantine", |s| s["reportQuarantine"]["mails"] == count);
    let with_pattern = PROCESSORS.replacen(
        "<address-list>",
        "<email-patterns>\nbody-pattern-file acme.pattern\n</email-patterns>\n<address-list>",
        1,
    );
    std::fs::write(place.path("acme.pattern"), "recipient (?<r>\\S+): (?<diag>.*)\n").unwrap();
    place.write(&place.config().replace(PROCESSORS, &with_pattern));
    assert_eq!(place.carom(&["reload"]).0, 0);
    // Killed while it replays, at other places each time; what was not reached stays and is replayed by the next.
    let replayed = || place.log().matches("report replayed from the quarantine").count();
    let mut left = vec![count];
    for after in [1, 10, 25] {
        std::thread::scope(|scope| {
            let begun = replayed();
            let replay = scope.spawn(|| place.carom(&["report", "quarantine", "replay", "--all"]));
            while replayed() < begun + after && !replay.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            server.signal("KILL");
            server.wait(STOPS_WITHIN);
        });
        std::fs::remove_file(place.path("spool/carom.sock")).ok();
        server = place.start();
        left.push(place.status()["store"]["queuedMessages"].as_u64().unwrap());
    }
    assert!(left.windows(2).any(|w| 0 < w[1] && w[1] < w[0]), "no kill came in the middle of a replay: {left:?}");
    let (_, said) = place.carom(&["report", "quarantine", "replay", "--all"]);
    place.wait_for("an empty quarantine", |s| s["store"]["queuedMessages"] == 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
    let mut recorded: Vec<String> = rows(&place, "rb").iter().map(|r| r["rcpt"].clone()).collect();
    let mut all: Vec<String> = (0..count).map(|n| format!("u{n}@there.example")).collect();
    recorded.sort();
    all.sort();
    assert_eq!(recorded, all, "one record for each, in all files together; the last replay said: {said}");
}

#[test]
fn what_is_not_understood_is_quarantined_and_replayed_when_a_pattern_has_been_added() {
    let hop = NextHop::start();
    let place = Place::new(&hop, PROCESSORS);
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    for n in 0..3 {
        let mail =
            format!("From: gw@acme.example\r\nSubject: Notice {n}\r\n\r\nrecipient u{n}@there.example: 550 gone\r\n");
        assert_eq!(client.mail("gw@acme.example", "bounces-17@bounce.running.example", &mail), 250);
    }
    place.wait_for("three mails in the quarantine", |s| s["reportQuarantine"]["mails"] == 3);
    assert_eq!(place.status()["store"]["queuedMessages"], 0, "they are not waiting for delivery");
    let (code, listed) = place.carom(&["report", "quarantine", "list", "--json", "--subject", "notice 1"]);
    assert_eq!((code, listed.lines().count()), (0, 1), "{listed}");
    let one: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = one["id"].to_string();
    let (_, text) = place.carom(&["report", "quarantine", "list"]);
    assert!(text.contains("Notice 2") && text.contains("3 shown of 3"), "{text}");
    let (_, raw) = place.carom(&["report", "quarantine", "show", &id, "--raw"]);
    assert!(raw.ends_with("recipient u1@there.example: 550 gone\r\n"), "{raw}");
    let (code, said) = place.carom(&["report", "quarantine", "replay", "--all"]);
    assert!(code == 1 && said.contains("3 still not understood"), "{code} {said}");

    // A pattern file with a mistake is refused by file and line, and the running server goes on as it is.
    let with_pattern = PROCESSORS.replacen(
        "<address-list>",
        "<email-patterns>\nbody-pattern-file acme.pattern\nlog-match-info yes\n</email-patterns>\n<address-list>",
        1,
    );
    let config = place.config().replace(PROCESSORS, &with_pattern);
    place.write(&config);
    std::fs::write(place.path("acme.pattern"), "# of the gateway\nrecipient (?<r>[: (?<diag>.*)\n").unwrap();
    let (code, said) = check_config(&place);
    assert!(code == Some(2) && said.contains("acme.pattern:2"), "{code:?} {said}");
    assert_ne!(place.carom(&["reload"]).0, 0);
    // A doubt is told by the reload, too, and does not hold it up.
    std::fs::write(place.path("acme.pattern"), "never (?<r>\\S+): (?<reason>.*)\n").unwrap();
    let (code, said) = place.carom(&["reload"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\nwarning: ") && said.contains("the group reason fills no field"), "{said}");
    std::fs::write(place.path("acme.pattern"), "# of the gateway\nrecipient (?<r>\\S+): (?<diag>.*)\n").unwrap();
    let (code, said) = place.carom(&["reload"]);
    assert_eq!(code, 0, "{said}");

    let (code, said) = place.carom(&["report", "quarantine", "replay", &id]);
    assert!(code == 0 && said.contains("1 mails replayed (1 events)"), "{code} {said}");
    let (code, said) = place.carom(&["report", "quarantine", "replay", &id]);
    assert!(code == 1 && said.contains("not in the quarantine"), "a replay happens once: {code} {said}");
    let rb = records(&place, "rb", 1).remove(0);
    assert_eq!(
        ["rcpt", "format", "dsnDiag"].map(|c| rb[c].as_str()),
        ["u1@there.example", "acme.pattern", "smtp;550 gone"]
    );
    // New mail of that kind is understood at once.
    let mail = "From: gw@acme.example\r\nSubject: Notice\r\n\r\nrecipient new@there.example: 550 gone\r\n";
    assert_eq!(client.mail("gw@acme.example", "x@bounce.running.example", mail), 250);
    assert_eq!(records(&place, "rb", 2)[1]["rcpt"], "new@there.example");
    assert!(place.log().contains("matched body-pattern defined in file:"), "{}", place.log());

    // Without a server the commands open the store.
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
    let (code, said) = place.carom(&["report", "quarantine", "replay", "--subject", "Notice 2"]);
    assert!(code == 0 && said.contains("1 mails replayed"), "{code} {said}");
    let (code, said) = place.carom(&["report", "quarantine", "drop", "--all"]);
    assert!(code == 2 && said.contains("--yes"), "{code} {said}");
    let (code, said) = place.carom(&["report", "quarantine", "drop", "--all", "--yes"]);
    assert!(code == 0 && said.contains("1 mails dropped"), "{code} {said}");
    let _server = place.start();
    assert_eq!(records(&place, "rb", 3)[2]["rcpt"], "u2@there.example");
    assert_eq!(place.status()["reportQuarantine"]["mails"], 0);
}

#[test]
fn a_report_that_was_acknowledged_has_its_record_once_however_often_the_server_is_killed() {
    let hop = NextHop::start();
    let place = Place::new(&hop, PROCESSORS);
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut server = place.start();
        let mut client = Client::connect(place.smtp_port());
        for n in 0..40 {
            let rcpt = format!("r{round}n{n}@there.example");
            assert_eq!(client.mail("", "bounces@bounce.running.example", &dsn(&rcpt)), 250);
            acknowledged.push(rcpt);
        }
        // Now, a little later, while reports wait for their second look, and after it.
        std::thread::sleep(Duration::from_millis([0, 400, 3300][round]));
        server.signal("KILL");
        server.wait(STOPS_WITHIN);
        std::fs::remove_file(place.path("spool/carom.sock")).ok();
    }
    let mut server = place.start();
    place.wait_for("every report read", |s| s["store"]["queuedMessages"] == 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
    let mut recorded: Vec<String> = rows(&place, "rb").iter().map(|r| r["rcpt"].clone()).collect();
    recorded.sort();
    acknowledged.sort();
    assert_eq!(recorded, acknowledged, "one record for each, in all files together");
}
