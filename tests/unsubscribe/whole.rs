//! The whole program: what is sent has links, and whoever follows one is in the records, with his list.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::running::client::Client;
use crate::running::next_hop::NextHop;
use crate::running::server::{Place, free_port, rows};

use super::endpoint::{FORM, ONE_CLICK};

fn place(hop: &NextHop, port: u16, add: &str) -> Place {
    let place = Place::new(
        hop,
        &format!(
            "<return-path-token>\nkey k1 0123456789abcdef0123456789abcdef\n</return-path-token>\n\
             <unsubscribe-listener 127.0.0.1:{port}>\n</unsubscribe-listener>\n\
             <acct-file acct/leavers.csv>\nrecords f\nrecord-fields f *,jobId\n</acct-file>\n"
        ),
    );
    let config = place.config().replacen(
        "always-allow-relaying yes\n",
        &format!(
            "always-allow-relaying yes\nprocess-x-job yes\nadd-list-unsubscribe {add}\n\
             list-unsubscribe-url http://127.0.0.1:{port}/u\nlist-unsubscribe-mailto out@unsub.running.example\n"
        ),
        1,
    );
    place.write(&config);
    place
}

fn wait_for<T>(what: &str, place: &Place, there: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < end, "no {what}\n{}", place.log());
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The value of a header field of a mail, unfolded.
fn field(mail: &str, name: &str) -> Option<String> {
    let head = mail.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
    head.split("\r\n").find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
}

/// Path and token of the link, and the subject of the mail.
fn ways(mail: &str, port: u16) -> (String, String) {
    let value = field(mail, "List-Unsubscribe").unwrap_or_else(|| panic!("no link: {mail}"));
    let (page, mail) = value.split_once(", ").unwrap();
    let path = page.strip_prefix(&format!("<http://127.0.0.1:{port}")).unwrap().strip_suffix('>').unwrap();
    let subject = mail.strip_prefix("<mailto:out@unsub.running.example?subject=").unwrap().strip_suffix('>').unwrap();
    (path.to_owned(), subject.replace("%20", " "))
}

fn ask(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: u\r\nContent-Type: {FORM}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn leavers(place: &Place, count: usize) -> Vec<HashMap<String, String>> {
    wait_for("record of a leaver", place, || {
        let found = if place.path("acct").exists() { rows(place, "f") } else { Vec::new() };
        (found.len() >= count).then_some(found)
    })
}

const NEWS: &str =
    "From: <news@from.example>\r\nX-Unsubscribe-List: weekly\r\nX-Job: spring\r\nSubject: hello\r\n\r\nhello\r\n";

#[test]
fn two_recipients_of_one_message_get_two_links_and_each_leaves_for_himself() {
    let hop = NextHop::start();
    let port = free_port();
    let place = place(&hop, port, "yes");
    let _server = place.start();
    let mut client = Client::connect(place.smtp_port());
    assert_eq!(client.mail_to("news@from.example", &["ann@there.example", "bob@there.example"], NEWS), 250);
    let mails = wait_for("two mails", &place, || Some(hop.mails()).filter(|m| m.len() == 2));
    let (first, second) = (ways(&mails[0], port), ways(&mails[1], port));
    assert_ne!(first, second, "each has his own");
    for mail in &mails {
        assert_eq!(field(mail, "List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
        assert!(!mail.contains("X-Unsubscribe-List") && mail.lines().all(|line| line.len() < 1000), "{mail}");
        assert!(!mail.contains("@there.example"), "the link shows nobody's address: {mail}");
    }
    // Opening both links is no wish; the button of one is.
    for (path, _) in [&first, &second] {
        let page = ask(port, "GET", path, "");
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("weekly"), "{page}");
    }
    assert!(ask(port, "POST", &second.0, ONE_CLICK).starts_with("HTTP/1.1 200 "));
    // The other one writes, from another address of his, and through a program that answers as programs do.
    let (_, subject) = &first;
    let mut mx = Client::connect(place.smtp_port());
    let mail = format!("From: <me@elsewhere.example>\r\nSubject: RE: {subject}\r\n\r\nPlease.\r\n");
    assert_eq!(mx.mail("me@elsewhere.example", "Out@unsub.running.example", &mail), 250);
    let seen = leavers(&place, 2);
    let mut rcpts: Vec<&str> = seen.iter().map(|r| r["rcpt"].as_str()).collect();
    rcpts.sort_unstable();
    assert_eq!(rcpts, ["ann@there.example", "bob@there.example"]);
    let mut hows: Vec<&str> = seen.iter().map(|r| r["userAgent"].as_str()).collect();
    hows.sort_unstable();
    assert_eq!(hows, ["mail", "one-click"]);
    for row in &seen {
        for (name, value) in [
            ("feedbackType", "opt-out-list"),
            ("format", "unsubscribe"),
            ("attributedBy", "header-token"),
            ("list", "weekly"),
            ("jobId", "spring"),
            ("orig", "news@from.example"),
        ] {
            assert_eq!(row[name], value, "{name}: {row:?}");
        }
    }
    assert_eq!(hop.taken().len(), 2, "mail to the unsubscribe address went nowhere else");
}

/// The record of the end of this mail.
fn end_of(place: &Place, rcpt: &str, job: &str) -> HashMap<String, String> {
    wait_for(&format!("end of {job} to {rcpt}"), place, || {
        let all = ["d", "b"]
            .into_iter()
            .flat_map(|kind| if place.path("acct").exists() { rows(place, kind) } else { Vec::new() });
        all.into_iter().find(|r| r.get("rcpt").is_some_and(|r| r == rcpt) && r.get("jobId").is_some_and(|j| j == job))
    })
}

#[test]
fn who_has_left_a_list_gets_no_more_of_it_and_everything_else() {
    let hop = NextHop::start();
    let port = free_port();
    let place = place(&hop, port, "yes");
    let _server = place.start();
    let mut client = Client::connect(place.smtp_port());
    let mail = |list: &str, job: &str| {
        format!("From: <news@from.example>\r\nList-Id: News <{list}>\r\nX-Job: {job}\r\nSubject: s\r\n\r\nhello\r\n")
    };
    assert_eq!(client.mail("news@from.example", "ann@there.example", &mail("weekly.from.example", "first")), 250);
    let sent = wait_for("the mail", &place, || hop.mails().into_iter().next());
    let (path, _) = ways(&sent, port);
    assert!(ask(port, "POST", &path, ONE_CLICK).starts_with("HTTP/1.1 200 "));
    leavers(&place, 1);
    place.wait_for("entry", |s| s["suppressedAddresses"] == 1);

    for (list, job) in [("Weekly.From.Example", "second"), ("daily.from.example", "third")] {
        assert_eq!(client.mail("news@from.example", "ann@there.example", &mail(list, job)), 250);
    }
    assert_eq!(client.mail("news@from.example", "bob@there.example", &mail("weekly.from.example", "fourth")), 250);
    let plain = "From: <news@from.example>\r\nX-Job: fifth\r\nSubject: your order\r\n\r\nhello\r\n";
    assert_eq!(client.mail("news@from.example", "ann@there.example", plain), 250);
    let ended = end_of(&place, "ann@there.example", "second");
    assert_eq!((ended["type"].as_str(), ended["bounceCat"].as_str()), ("b", "suppressed"), "{ended:?}");
    assert!(ended["dsnDiag"].contains("unsub"), "{ended:?}");
    assert_eq!(ended["suppressedBy"], leavers(&place, 1)[0]["eventId"], "by the click");
    for (rcpt, job) in [("ann@there.example", "third"), ("bob@there.example", "fourth"), ("ann@there.example", "fifth")]
    {
        assert_eq!(end_of(&place, rcpt, job)["type"], "d", "{job}");
    }
    let (code, said) = place.carom(&["suppress", "list"]);
    assert!(code == 0 && said.contains("ann@there.example") && said.contains("unsub"), "{said}");
}

#[test]
fn mail_to_the_unsubscribe_address_that_names_no_link_is_kept_and_unsubscribes_nobody() {
    let hop = NextHop::start();
    let port = free_port();
    let place = place(&hop, port, "yes");
    let _server = place.start();
    let mut mx = Client::connect(place.smtp_port());
    let token = "ab".repeat(60);
    for subject in ["unsubscribe", "stop it, ann@there.example", &format!("unsubscribe {token}")] {
        let mail = format!("From: <ann@there.example>\r\nSubject: {subject}\r\n\r\nunsubscribe me\r\n");
        assert_eq!(mx.mail("ann@there.example", "out@unsub.running.example", &mail), 250);
    }
    // A complaint mailed there is none.
    let arf = "From: <a@b.example>\r\nSubject: x\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
               --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: opt-out-list\r\nVersion: 1\r\n\
               Original-Rcpt-To: <ann@there.example>\r\n\r\n--b--\r\n";
    assert_eq!(mx.mail("a@b.example", "out@unsub.running.example", arf), 250);
    place.wait_for("quarantine", |s| s["reportQuarantine"]["mails"] == 4);
    let status = place.status();
    assert_eq!((&status["reports"]["unsubscribeProcessed"], &status["reports"]["events"]), (&4.into(), &0.into()));
    let (code, said) = place.carom(&["report", "quarantine", "list", "--processor", "unsubscribe"]);
    assert!(code == 0 && said.contains("out@unsub.running.example"), "{said}");
    assert!(hop.taken().is_empty(), "and none of it was relayed");
}

#[test]
fn on_request_only_mail_that_names_its_list_gets_links_and_nobodys_own_are_touched() {
    let hop = NextHop::start();
    let port = free_port();
    let place = place(&hop, port, "on-request");
    let _server = place.start();
    let mut client = Client::connect(place.smtp_port());
    let plain = "From: <news@from.example>\r\nSubject: plain\r\n\r\nhello\r\n";
    let own = "From: <news@from.example>\r\nSubject: own\r\nX-Unsubscribe-List: weekly\r\n\
               List-Unsubscribe: <https://own.example/>\r\n\r\nhello\r\n";
    let asks = NEWS.replace("hello\r\n\r\n", "asks\r\n\r\n");
    for content in [plain, own, &asks] {
        assert_eq!(client.mail("news@from.example", "ann@there.example", content), 250);
    }
    let mails = wait_for("three mails", &place, || Some(hop.mails()).filter(|m| m.len() == 3));
    for mail in &mails {
        let link = field(mail, "List-Unsubscribe");
        match field(mail, "Subject").as_deref() {
            Some("plain") => assert_eq!(link, None),
            Some("own") => assert_eq!(link.as_deref(), Some("<https://own.example/>")),
            _ => assert!(link.unwrap().contains("/u/"), "{mail}"),
        }
    }
}
