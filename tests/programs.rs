//! Mail handed to programs by a whole server: the program under test, killed and started again, asked about its
//! configuration, and fed with reports.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::running::client::Client;
use crate::running::next_hop::NextHop;
use crate::running::server::{Place, rows};

const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A program for `/bin/sh` in the place; `$D` in it is the place's folder.
fn program(place: &Place, name: &str, script: &str) {
    let text = format!("#!/bin/sh\nD='{}'\n{script}\n", place.path("").display());
    std::fs::write(place.path(name), text).unwrap();
    std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn add(place: &Place, lines: &str) {
    place.write(&(place.config() + lines));
}

fn names(folder: &Path) -> BTreeSet<String> {
    let all = std::fs::read_dir(folder).map(|d| d.flatten().collect::<Vec<_>>()).unwrap_or_default();
    all.iter().map(|e| e.file_name().into_string().unwrap()).collect()
}

#[test]
fn killed_while_programs_run_every_recipient_has_one_record_and_whoever_was_run_for_twice_is_in_doubt() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    std::fs::create_dir(place.path("taken")).unwrap();
    program(&place, "take", "cat > \"$D/taken/$1.$$\"; sleep 0.2; echo $1 >> $D/runs; exit 0");
    add(&place, "<domain prog.example>\ntype pipe\ncommand \"./take $user\"\nmax-smtp-out 3\n</domain>\n");
    let mail = "From: <news@from.example>\r\nSubject: x\r\n\r\n".to_owned() + &"0123456789abcdef\r\n".repeat(8000);
    let mut acknowledged = Vec::new();
    for round in 0..4u64 {
        let mut server = place.start();
        let mut client = Client::connect(place.smtp_port());
        for n in 0..8 {
            let user = format!("r{round}n{n}");
            assert_eq!(client.mail("news@from.example", &format!("{user}@prog.example"), &mail), 250);
            acknowledged.push(user);
        }
        std::thread::sleep(Duration::from_millis([0, 130, 290, 450][round as usize]));
        server.signal("KILL");
        server.wait(STOPS_WITHIN);
        std::fs::remove_file(place.path("spool/carom.sock")).ok();
    }
    let mut server = place.start();
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());

    let mut recorded = BTreeMap::new();
    for row in rows(&place, "d") {
        let user = row["rcpt"].split('@').next().unwrap().to_owned();
        assert_eq!((row["dlvType"].as_str(), row["dsnStatus"].split(' ').next()), ("pipe", Some("2.0.0")), "{row:?}");
        assert!(recorded.insert(user.clone(), row["inDoubt"].clone()).is_none(), "{user} has two records");
    }
    assert_eq!(recorded.keys().collect::<BTreeSet<_>>(), acknowledged.iter().collect::<BTreeSet<_>>());
    assert!(rows(&place, "b").is_empty() && rows(&place, "t").is_empty());
    let mut runs: BTreeMap<String, u32> = BTreeMap::new();
    for name in names(&place.path("taken")) {
        *runs.entry(name.split('.').next().unwrap().to_owned()).or_default() += 1;
    }
    for user in &acknowledged {
        let more_than_once = runs[user] > 1;
        assert!(!more_than_once || recorded[user] == "true", "{user}: {recorded:?} {runs:?}");
    }
    assert!(runs.values().any(|n| *n > 1), "no kill came while a program ran: {runs:?}");
    // A server that dies leaves the program the whole mail.
    let whole = mail.replace("\r\n", "\n");
    for name in names(&place.path("taken")) {
        let text = std::fs::read_to_string(place.path("taken").join(&name)).unwrap();
        assert!(text.ends_with(&whole), "{name}: {} bytes of {}", text.len(), whole.len());
    }
}

#[test]
fn what_the_report_processors_pass_on_goes_to_the_programs_of_their_reserved_queues() {
    let hop = NextHop::start();
    let processors = "<bounce-processor>\ndeliver-unmatched-email yes\n<address-list>\ndomain bounce.running.example\n\
                      </address-list>\n</bounce-processor>\n<feedback-loop-processor>\ndeliver-unmatched-email yes\n\
                      <address-list>\ndomain fbl.running.example\n</address-list>\n</feedback-loop-processor>\n\
                      <domain {bounce}>\ntype pipe\ncommand \"./take bounce $to\"\n</domain>\n\
                      <domain {feedbackLoop}>\ntype pipe\ncommand \"./take feedback $to\"\n</domain>\n";
    let place = Place::new(&hop, processors);
    std::fs::create_dir(place.path("taken")).unwrap();
    program(&place, "take", "cat > \"$D/taken/$1 $2\"");
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    for to in ["x@bounce.running.example", "y@fbl.running.example", "ann@there.example"] {
        let mail = format!("From: <someone@else.example>\r\nSubject: no report\r\n\r\nhello {to}\r\n");
        assert_eq!(client.mail("someone@else.example", to, &mail), 250);
    }
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    let taken = ["bounce x@bounce.running.example", "feedback y@fbl.running.example"];
    assert_eq!(names(&place.path("taken")), taken.map(String::from).into());
    let text = std::fs::read_to_string(place.path("taken").join(taken[0])).unwrap();
    assert!(text.contains("\nhello x@bounce.running.example\n") && text.contains("X-Carom-Report-Copy: "), "{text}");
    assert_eq!(hop.mails().len(), 1, "other mail goes where it went before");
    assert_eq!(place.status()["reportQuarantine"]["mails"], 2, "kept for a pattern to come, as well");
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
}

#[test]
fn check_config_tells_of_programs_that_can_not_be_run() {
    let hop = NextHop::start();
    let place = Place::new(&hop, "");
    program(&place, "take", "exit 0");
    std::fs::write(place.path("text"), "x").unwrap();
    let config = place.config();
    let check = |lines: &str| {
        place.write(&format!("{config}<domain prog.example>\n{lines}\n</domain>\n"));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_carom"));
        command.arg("check-config").arg(place.path("carom.conf")).arg("--root").arg(place.path(""));
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (out.status.code().unwrap_or(-1), said)
    };
    let line = config.lines().count() + 3;
    for (command, code, said) in [
        ("./take $user", 0, ""),
        ("true", 0, ""),
        ("./gone $user", 0, "No such file"),
        ("gone-from-everywhere", 0, "there is no such program in PATH"),
        ("./text", 0, "it can't be executed"),
        (".//", 0, "it is not a file"),
        ("./take $sender", 0, "$sender is no macro"),
        ("", 2, "no program is named"),
        ("./$user", 2, "a macro can't stand in the name of the program"),
        ("./take 'x", 2, "a quote is not closed"),
    ] {
        let (found, text) = check(&format!("type pipe\ncommand \"{command}\""));
        let told = text.contains(&format!("carom.conf:{line}")) || text.contains(&format!(":{line}:"));
        assert!(found == code && text.contains(said) && (said.is_empty() || told), "{command}: {found} {text}");
    }
    let (code, text) = check("type pipe");
    assert!(code == 2 && text.contains("type pipe needs a command"), "{code} {text}");
    let (code, text) = check("command \"./take $user\"\ntype smtp");
    assert_eq!(code, 0, "{text}");
    let root = std::process::Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    assert_eq!(text.contains("run it as a user of its own, not as root"), root, "{text}");
}
