//! `carom run` as an operator has it: stopped, reloaded with good and with broken files, started twice, asked and told
//! about suppressed addresses while it runs.
//!
//! The real program, on ports that were free, in a folder of its own; every wait is bounded.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

pub mod client;
pub mod http;
pub mod next_hop;
pub mod server;

use std::time::{Duration, Instant};

use client::Client;
use next_hop::NextHop;
use server::{Place, rows};

/// More than a stop takes: sessions get ten seconds for the transaction they are in.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_stop_takes_bounded_time_leaves_with_0_and_loses_nothing() {
    for signal in ["TERM", "INT"] {
        let hop = NextHop::start();
        let place = Place::new(&hop, "");
        let mut server = place.start();
        let mut sent = 0;
        let mut client = Client::connect(place.smtp_port());
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(600) {
            assert_eq!(client.send(&format!("u{sent}@there.example")), 250);
            sent += 1;
        }
        // Two that wait for a next hop which puts them off, and a session that says nothing any more.
        assert_eq!(client.send("later1@there.example"), 250);
        assert_eq!(client.send("later2@there.example"), 250);
        let stop = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
        assert!(stop.elapsed() < STOPS_WITHIN);
        assert!(!place.path("spool/carom.sock").exists(), "the socket goes with the server");
        // What had not been delivered by then goes on at the next start.
        hop.forgive();
        let mut server = place.start();
        place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
        server.signal("TERM");
        assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
        let delivered = rows(&place, "d");
        assert_eq!(delivered.len(), sent + 2, "one d record for each accepted message");
        assert!(rows(&place, "b").is_empty());
        let mut taken = hop.taken();
        assert_eq!(taken.len(), sent + 2, "each was delivered once");
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), sent + 2);
    }
}

#[test]
fn reload_and_sighup_change_what_they_should() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    assert_eq!(place.carom(&["reload"]).0, 0);

    // `carom reload`: the relay policy, an accounting file more, and two things that wait for a restart.
    let old = place.config();
    place.write(
        &(old
            .replace("always-allow-relaying yes", "always-allow-relaying no")
            .replace("max-smtp-out 4", "max-smtp-out 5")
            + "name-server 127.0.0.9\n<acct-file acct/more.csv>\nrecords d,b\n</acct-file>\n"),
    );
    let (code, said) = place.carom(&["reload"]);
    assert_eq!(code, 0, "{said}");
    for part in ["<source> changed", "<domain> changed", "<acct-file> changed", "waiting for a restart: name-server"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(Client::connect(place.smtp_port()).rcpt("a@there.example"), 550, "relaying is off at once");
    let status = place.status();
    assert_eq!(status["outputs"].as_array().unwrap().len(), 3);
    assert_eq!(status["configuration"]["waitingForRestart"], serde_json::json!(["name-server"]));
    // It is not forgotten by a reload that changes something else.
    place.write(&(old.clone() + "name-server 127.0.0.9\n"));
    server.signal("HUP");
    place.wait_for("the second reload", |s| s["outputs"].as_array().is_some_and(|o| o.len() == 2));
    assert_eq!(place.status()["configuration"]["waitingForRestart"], serde_json::json!(["name-server"]));
    assert_eq!(Client::connect(place.smtp_port()).rcpt("a@there.example"), 250, "relaying is on again");
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn an_address_list_holds_from_the_reload_that_brings_it_and_the_status_shows_its_file() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    assert_eq!(Client::connect(place.smtp_port()).rcpt("ann@there.example"), 250);
    std::fs::write(place.path("never.txt"), "ann@there.example\nabuse\nno address\n").unwrap();
    let old = place.config();
    let list = "<address-list Never>\naddress-file never.txt\n</address-list>\n";
    let relay = "always-allow-relaying yes";
    place.write(&(old.replace(relay, &format!("{relay}\nsuppression-lists Never")) + list));
    let (code, said) = place.carom(&["reload"]);
    assert_eq!((code, said.contains("<address-list> changed")), (0, true), "{said}");
    for (rcpt, code) in [("Ann@there.example", 550), ("abuse@x.example", 550), ("bob@there.example", 250)] {
        assert_eq!(Client::connect(place.smtp_port()).rcpt(rcpt), code, "{rcpt}");
    }
    let file = &place.status()["addressFiles"][0];
    assert_eq!((&file["entries"], &file["badLines"], &file["state"]), (&2.into(), &1.into(), &"in force".into()));
    assert_eq!(file["firstBadLines"][0]["line"], 3);
    assert!(place.carom(&["status"]).1.contains("never.txt"));

    // A list whose file is not there is not empty: its mail waits.
    place.write(&place.config().replace("never.txt", "gone.txt"));
    assert_eq!(place.carom(&["reload"]).0, 0);
    assert!(place.log().contains("gone.txt is not there"), "{}", place.log());
    assert_eq!(Client::connect(place.smtp_port()).rcpt("bob@there.example"), 451);
    assert_eq!(place.status()["addressFiles"][0]["state"], "MISSING");
    place.write(&place.config().replace("lists Never", "lists Nevr"));
    let (code, said) = place.carom(&["reload"]);
    assert_eq!((code, said.contains("did you mean Never?")), (2, true), "{said}");
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn a_broken_file_leaves_the_old_configuration_in_force_and_says_why() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    let good = place.config();
    let lines = good.lines().count();
    let socket = place.path("spool/carom.sock");
    for (text, line, why) in [
        ("total-max-smpt-out 3\n", 1, "did you mean total-max-smtp-out"),
        ("<acct-file acct/x.csv>\nrecord-fields d nonsense\n</acct-file>\n", 1, "\"nonsense\" is no field"),
        ("<bounce-category-patterns>\n/(/ bad-mailbox\n</bounce-category-patterns>\n", 2, "unclosed group"),
        ("<smtp-pattern-list x>\nreply /(/ mode=backoff\n</smtp-pattern-list>\n", 2, "unclosed group"),
        ("smtp-server-tls-certificate no-such.pem\n", 1, "no-such.pem: can't be read"),
    ] {
        place.write(&(good.replace("always-allow-relaying yes", "always-allow-relaying no") + text));
        let at = format!("carom.conf:{}", lines + line);
        let (code, said) = place.carom(&["reload"]);
        assert_eq!(code, 2, "{said}");
        for part in [at.as_str(), why, "the old configuration stays in force"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(Client::connect(place.smtp_port()).rcpt("a@there.example"), 250, "the old policy holds");
        // The other commands still reach the server.
        let refused = place.status()["configuration"]["refused"].to_string();
        assert!(refused.contains(&at), "{refused}");
        assert_eq!(place.carom(&["suppress", "check", "a@there.example"]).0, 0);
    }
    let before = place.log().matches("the old one stays in force").count();
    server.signal("HUP");
    let end = Instant::now() + Duration::from_secs(10);
    while place.log().matches("the old one stays in force").count() == before {
        assert!(Instant::now() < end, "SIGHUP says nothing:\n{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    for line in place.log().lines() {
        assert!(line.starts_with("20"), "one line an event, with its time: {line:?}");
    }
    // A file that names another store can't hide the server: the socket can be named.
    place.write(&good.replace("spool spool", "spool elsewhere"));
    assert_eq!(place.carom(&["status"]).0, 1);
    let (code, said) = place.carom(&["reload", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("waiting for a restart: spool, command-socket"), "{said}");
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "smtp-server-tls-certificate tls.pem\n");
    let first = place.write_certificate("tls.pem");
    let mut server = place.start();
    assert_eq!(Client::connect(place.smtp_port()).certificate(), first);
    let second = place.write_certificate("tls.pem");
    assert_eq!(place.carom(&["reload"]).0, 0);
    assert_eq!(Client::connect(place.smtp_port()).certificate(), second);
    // One that can't be used changes nothing.
    std::fs::write(place.path("tls.pem"), "nonsense").unwrap();
    let (code, said) = place.carom(&["reload"]);
    assert!(code == 2 && said.contains("tls.pem"), "{said}");
    assert_eq!(Client::connect(place.smtp_port()).certificate(), second);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn a_wrong_configuration_ends_the_start_with_2_and_leaves_nothing_behind() {
    let hop = NextHop::start();
    for text in ["max-smpt-out 3\n", "<bounce-category-patterns>\n/(/ x\n</bounce-category-patterns>\n<domain>\n"] {
        let place = Place::new(&hop, text);
        let (code, said) = place.carom(&["run"]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("carom.conf:"), "{said}");
        assert!(!place.path("spool").exists() && !place.path("acct").exists());
    }
    let place = Place::new(&hop, "");
    std::fs::remove_file(place.path("carom.conf")).unwrap();
    let (code, said) = place.carom(&["run"]);
    assert_eq!(code, 2, "{said}");
    assert_eq!(said.lines().count(), 1, "what is not there has no other faults: {said}");
}

#[test]
fn a_second_server_on_the_same_store_is_refused_and_the_first_goes_on() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    let (code, said) = place.carom(&["run"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("running on the store in") && said.contains("spool"), "{said}");
    // Neither does it get at the store with a socket and a port of its own.
    let other = place.path("other.conf");
    let free = server::free_port();
    let text =
        place.config().replace(&place.smtp_port().to_string(), &free.to_string()) + "command-socket other.sock\n";
    std::fs::write(&other, text).unwrap();
    let (code, said) = place.carom_with(&other, &["run"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is in use"), "{said}");
    assert_eq!(place.carom(&["store", "verify"]).0, 1, "a store in use is not looked over");
    assert_eq!(Client::connect(place.smtp_port()).send("still@there.example"), 250);
    place.wait_for("its delivery", |_| hop.taken() == ["still@there.example"]);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
    assert_eq!(place.carom(&["store", "verify"]).0, 0);
}

#[test]
fn suppressing_by_hand_takes_effect_at_once() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    assert_eq!(client.rcpt("ann@there.example"), 250);
    assert_eq!(place.carom(&["suppress", "add", "Ann@There.Example", "--reason", "asked by phone"]).0, 0);
    assert_eq!(client.rcpt("ann@there.example"), 550, "the session that is open sees it too");
    assert_eq!(client.rcpt("bob@there.example"), 250);
    let (code, said) = place.carom(&["suppress", "check", "ann@there.example"]);
    assert!(code == 1 && said.contains("asked by phone"), "{said}");
    assert_eq!(place.carom(&["suppress", "remove", "ann@there.example", "--reason", "came back"]).0, 0);
    assert_eq!(client.rcpt("ann@there.example"), 250);
    assert_eq!(place.carom(&["suppress", "check", "ann@there.example"]).0, 0);
    for nonsense in ["", "ann", "@", "@-there.example", "a b@there.example", "a@b@c", "a\r\n@b.example"] {
        assert_eq!(place.carom(&["suppress", "add", nonsense]).0, 2, "{nonsense:?}");
    }
    // The same without a server, and it is there when one runs again.
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
    assert_eq!(place.carom(&["suppress", "add", "carl@there.example"]).0, 0);
    let (_, said) = place.carom(&["suppress", "list", "--json"]);
    assert!(said.contains("carl@there.example") && !said.contains("ann@"), "{said}");
    let mut server = place.start();
    assert_eq!(Client::connect(place.smtp_port()).rcpt("carl@there.example"), 550);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn mail_that_is_queued_for_an_address_suppressed_meanwhile_ends_without_another_attempt() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    assert_eq!(Client::connect(place.smtp_port()).send("later@there.example"), 250);
    place.wait_for("the first attempt", |_| hop.attempts("later@there.example") > 0);
    assert_eq!(place.carom(&["suppress", "add", "later@there.example"]).0, 0);
    let attempts = hop.attempts("later@there.example");
    hop.forgive();
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
    // An attempt that was under way when the command came may have ended after it; none began.
    assert!(hop.attempts("later@there.example") <= attempts + 1);
    assert!(hop.taken().is_empty(), "nothing was delivered");
    let bounced = rows(&place, "b");
    assert_eq!(bounced.len(), 1, "{bounced:?}");
    assert_eq!(bounced[0]["rcpt"], "later@there.example");
    assert_eq!(bounced[0]["bounceCat"], "suppressed");
    assert!(rows(&place, "d").is_empty());
}

#[test]
fn the_folder_of_the_log_file_is_made_and_a_start_that_fails_is_told_there_too() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "log-file logs/deep/carom.log\nname-server 192.0.2.53\n");
    let taken = std::net::TcpListener::bind(("127.0.0.1", place.smtp_port())).unwrap();
    let (code, said) = place.carom(&["run"]);
    assert!(code == 1 && said.contains("Address already in use"), "{said}");
    let log = std::fs::read_to_string(place.path("logs/deep/carom.log")).unwrap();
    assert!(log.contains("not started: smtp-listener"), "{log}");
    drop(taken);
}

#[test]
fn commands_end_quietly_when_nobody_reads_on_and_take_bytes_of_any_charset() {
    let carom = env!("CARGO_BIN_EXE_carom");
    for command in ["completions bash | head -c 1", "classify < replies | head -n 1"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("replies"), b"550 5.1.1 gel\xf6scht\r\n".repeat(20_000)).unwrap();
        let script = format!("{carom} {command}");
        let out = std::process::Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{command}");
        assert!(!out.stdout.is_empty());
    }
}

#[test]
fn looking_at_a_store_that_is_not_there_makes_none() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    for args in [&["store", "verify"][..], &["store", "repair"], &["suppress", "list"]] {
        let (code, said) = place.carom(args);
        assert!(code == 1 && said.contains("there is no store in"), "{args:?}: {said}");
    }
    assert!(!place.path("spool").exists());
}

#[test]
fn why_tells_the_story_of_an_address_while_it_is_queued_after_it_and_without_a_server() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    assert_eq!(Client::connect(place.smtp_port()).send("later1@there.example"), 250);
    let why = |what: &str| {
        let (code, said) = place.carom(&["why", what, "--json"]);
        (code, serde_json::from_str::<serde_json::Value>(&said).unwrap_or_else(|e| panic!("{e}: {said}")))
    };
    let types = |story: &serde_json::Value| -> Vec<String> {
        let timeline = story["timeline"].as_array().unwrap().iter();
        timeline.map(|r| r["type"].as_str().unwrap().to_owned()).collect()
    };
    let end = Instant::now() + Duration::from_secs(20);
    let story = loop {
        let (code, story) = why("later1@there.example");
        if code == 0 && types(&story).iter().any(|t| t == "t") {
            break story;
        }
        assert!(Instant::now() < end, "no deferral: {story}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(story["queued"][0]["rcpt"], "later1@there.example");
    assert!(story["queued"][0]["attempts"].as_u64() >= Some(1), "{story}");
    assert_eq!(story["suppression"][0]["suppressed"], false);
    let deferral = story["timeline"].as_array().unwrap().iter().find(|r| r["type"] == "t").unwrap().clone();
    assert_eq!((&deferral["bounceCat"], &deferral["dsnDiag"]), (&"other".into(), &"smtp;451 4.2.0 later".into()));

    hop.forgive();
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    let (code, said) = place.carom(&["suppress", "add", "later1@there.example", "--reason", "asked to"]);
    assert_eq!(code, 0, "{said}");
    // A recipient leaves the queue with its event, which is read when it is on the disk.
    let end = Instant::now() + Duration::from_secs(20);
    while !types(&why("later1@there.example").1).iter().any(|t| t == "d") {
        assert!(Instant::now() < end, "no delivery in the story");
        std::thread::sleep(Duration::from_millis(50));
    }
    // By the number of its message, and by an event of it, the story is the same.
    let message = deferral["messageId"].to_string();
    let event = deferral["eventId"].as_str().unwrap().to_owned();
    let stories: Vec<_> = ["later1@there.example", &message, &event].into_iter().map(why).collect();
    for (code, story) in &stories {
        assert_eq!(*code, 0);
        assert_eq!(types(story).iter().filter(|t| *t == "d").count(), 1, "once, though in ledger and files: {story}");
        assert_eq!(types(story), types(&stories[0].1));
        assert!(story["queued"].as_array().unwrap().is_empty(), "{story}");
        assert_eq!(story["suppression"][0]["entry"]["note"], "asked to");
    }

    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
    let (code, offline) = why("later1@there.example");
    assert_eq!((code, types(&offline).contains(&"d".to_owned())), (0, true), "from the files: {offline}");
    assert_eq!(offline["suppression"][0]["suppressed"], true);
    let (code, said) = place.carom(&["why", "later1@there.example"]);
    assert!(code == 0 && said.contains("delivered (attempt") && said.contains("IS SUPPRESSED"), "{said}");
    assert_eq!(place.carom(&["why", "nobody@there.example"]).0, 1);
    assert_eq!(place.carom(&["why", "no address"]).0, 2);
}

#[test]
fn acct_tail_shows_records_as_they_come() {
    use std::io::{BufRead as _, BufReader};
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    let config = place.path("carom.conf").display().to_string();
    let mut tail = std::process::Command::new(env!("CARGO_BIN_EXE_carom"))
        .args(["acct", "tail", "-f", "--json", "--records", "d", "--to", "wanted", "--config", &config, "--root"])
        .arg(place.path(""))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
    for n in 0..3 {
        assert_eq!(client.send(&format!("other{n}@there.example")), 250);
        assert_eq!(client.send(&format!("wanted{n}@there.example")), 250);
    }
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..3 {
        let line = receive.recv_timeout(Duration::from_secs(20)).expect("a record for each delivery");
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record["type"], "d");
        seen.push(record["rcpt"].as_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["wanted0@there.example", "wanted1@there.example", "wanted2@there.example"]);
    tail.kill().unwrap();
    tail.wait().unwrap();
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
}

#[test]
fn an_operator_sees_what_slows_a_queue_down_and_can_end_it() {
    let hop = NextHop::start();
    let list = "<domain there.example>\nsmtp-pattern-list slow\nbackoff-max-smtp-out 1\n</domain>\n\
                <smtp-pattern-list slow>\nreply /^4/ mode=backoff,disable-source-ip,reenable-after=1h\n</smtp-pattern-list>\n";
    let place = Place::new(&hop, list);
    let line = place.config().lines().position(|l| l.starts_with("reply /")).unwrap() + 1;
    let mut server = place.start();
    assert_eq!(Client::connect(place.smtp_port()).send("later1@there.example"), 250);
    place.wait_for("backoff", |s| s["steeredQueueCount"] == 1);
    let status = place.status();
    let queue = &status["steeredQueues"][0];
    assert_eq!((&queue["queue"], &queue["mode"]), (&"there.example/{default}".into(), &"backoff".into()));
    let why = queue["why"].as_str().unwrap();
    assert!(why.contains(&format!("carom.conf:{line}: 4")), "{why}");
    assert_eq!(queue["disabledSources"][0]["source"], "127.0.0.1");
    assert!(queue["disabledSources"][0]["until"].as_str().unwrap() > queue["since"].as_str().unwrap());
    assert_eq!((&status["queues"][0]["mode"], &status["queues"][0]["modeWhy"]), (&"backoff".into(), &why.into()));
    let (code, said) = place.carom(&["status"]);
    assert_eq!(code, 0, "{said}");
    for part in ["queues in backoff mode or with disabled source addresses", "without 127.0.0.1", why] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for part in ["backoff mode begins: ", "source 127.0.0.1 is disabled until 2"] {
        assert!(place.log().contains(part), "{part}: {}", place.log());
    }
    // By hand it ends; names that mean no queue are told.
    assert_eq!(place.carom(&["queue", "mode", "normal", "nowhere.example"]).0, 1);
    let (code, said) = place.carom(&["queue", "mode", "normal", "there.*/*"]);
    assert_eq!((code, said.trim()), (0, "1 queues in normal mode, 1 of them changed."));
    hop.forgive();
    let (code, said) = place.carom(&["queue", "enable-source", "127.0.0.1", "there.example", "--json"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("127.0.0.1 is used again by 1 queues."), "{said}");
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0 && s["steeredQueueCount"] == 0);
    // A mode set by hand does not outlive the server.
    assert_eq!(place.carom(&["queue", "mode", "backoff", "there.example"]).0, 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
    let mut server = place.start();
    assert_eq!(place.status()["steeredQueueCount"], 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
}
