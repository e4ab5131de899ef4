//! Pausing jobs, as an operator has it: by hand, and by a job guard when a list turns out to be bad.
//!
//! The real program and real sockets; every wait is bounded.
#![expect(clippy::disallowed_methods, reason = "edge: a test that runs servers")]

use std::time::Duration;

use crate::running::client::Client;
use crate::running::next_hop::NextHop;
use crate::running::server::{Place, rows};
use serde_json::Value;

const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A place whose submitters name the job of their mail, and whose queue takes its time.
fn place(hop: &NextHop, more: &str) -> Place {
    let place = Place::new(hop, more);
    let config = place.config();
    let config = config.replace("always-allow-relaying yes", "always-allow-relaying yes\nprocess-x-job yes");
    place.write(&config.replace("max-smtp-out 4", "max-smtp-out 1\nmax-msg-rate 100/s"));
    place
}

fn send(client: &mut Client, job: &str, to: &str) {
    let content = format!("From: <news@from.example>\r\nX-Job: {job}\r\nSubject: hello\r\n\r\nhello\r\n");
    assert_eq!(client.mail("news@from.example", to, &content), 250, "{to}");
}

fn jobs(place: &Place) -> Vec<Value> {
    let (code, said) = place.carom(&["queue", "jobs", "--json"]);
    assert_eq!(code, 0, "{said}");
    serde_json::from_str::<Value>(&said).unwrap()["jobs"].as_array().unwrap().clone()
}

fn taken(hop: &NextHop, of: &str) -> usize {
    hop.taken().iter().filter(|a| a.ends_with(of)).count()
}

#[test]
fn an_operator_pauses_a_job_over_a_restart_and_lets_it_go_on() {
    let hop = NextHop::start();
    let place = place(&hop, "");
    let mut server = place.start();
    let (code, said) = place.carom(&["queue", "pause-job", "spring", "--reason", "wrong list", "--by", "ann"]);
    assert_eq!(code, 0, "{said}");
    let mut client = Client::connect(place.smtp_port());
    for n in 0..10 {
        send(&mut client, "spring", &format!("s{n}@spring.example"));
        send(&mut client, "other", &format!("o{n}@other.example"));
    }
    place.wait_for("the other job's mail to be gone", |s| s["queuedRecipients"] == 10);
    assert_eq!((taken(&hop, "other.example"), taken(&hop, "spring.example")), (10, 0));
    let (_, said) = place.carom(&["status"]);
    for part in ["1 jobs with 10 recipients", "spring", "ann", "wrong list"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());

    let mut server = place.start();
    let after = jobs(&place);
    assert_eq!(
        (&after[0]["job"], &after[0]["recipients"], &after[0]["by"]),
        (&"spring".into(), &10.into(), &"ann".into())
    );
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(taken(&hop, "spring.example"), 0, "the pause holds");
    assert_eq!(place.carom(&["queue", "resume-job", "other"]).0, 1, "that one is not paused");
    let (code, said) = place.carom(&["queue", "resume-job", "spring"]);
    assert!(code == 0 && said.contains("10 recipients"), "{said}");
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    assert_eq!(taken(&hop, "spring.example"), 10);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
    let server = place.start();
    assert!(place.status()["pausedJobs"].as_array().unwrap().is_empty(), "and that it goes on is kept too");
    drop(server);
}

#[test]
fn a_job_of_which_much_bounces_pauses_itself_and_another_goes_on() {
    let hop = NextHop::start();
    let guard = "<job-guard bad*>\naction pause\nmin-volume 20\nmax-hard-bounce-share 10%\n</job-guard>\n\
                 alarm-command alarmed\n";
    let place = place(&hop, guard);
    let script = place.path("alarmed");
    std::fs::write(&script, format!("#!/bin/sh\ncat >> {}\n", place.path("alarms").display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    for n in 0..30 {
        send(&mut client, "bad-list", &format!("gone{n}@bad.example"));
        send(&mut client, "good-list", &format!("g{n}@good.example"));
    }
    for n in 0..150 {
        send(&mut client, "bad-list", &format!("b{n}@bad.example"));
    }
    place.wait_for("a paused job", |s| s["pausedJobs"][0]["job"] == "bad-list");
    let status = place.status();
    let why = status["pausedJobs"][0]["reason"].as_str().unwrap().to_owned();
    assert_eq!(status["pausedJobs"][0]["by"], "job-guard");
    assert!(why.contains("more than max-hard-bounce-share 10%"), "{why}");
    assert!(place.log().contains(&why), "{}", place.log());
    place.wait_for("the good job's mail to be gone", |_| taken(&hop, "good.example") == 30);
    // The operator hears of it by mail and by the command.
    place.wait_for("the mail", |_| hop.mails().iter().any(|m| m.contains("Subject: Job bad-list is paused")));
    place.wait_for("the command", |_| {
        std::fs::read_to_string(place.path("alarms")).is_ok_and(|t| t.contains("bad-list"))
    });
    let before = hop.said().len();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(hop.said().len(), before, "nothing more is attempted");
    let left = jobs(&place)[0]["recipients"].as_u64().unwrap();
    assert!(left > 50, "most of it was stopped, {left}");

    // Resumed, it goes on and is not paused for the same; what was counted is right to the last mail.
    server.signal("KILL");
    drop(server);
    let mut server = place.start();
    assert_eq!(jobs(&place)[0]["paused"], true);
    assert_eq!(place.carom(&["queue", "resume-job", "bad-list"]).0, 0);
    place.wait_for("an empty queue", |s| s["queuedRecipients"] == 0);
    assert_eq!(taken(&hop, "@bad.example"), 150);
    assert!(place.status()["pausedJobs"].as_array().unwrap().is_empty());
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0, "{}", place.log());
    assert_eq!(rows(&place, "b").len(), 30);
    let alarms = std::fs::read_to_string(place.path("alarms")).unwrap();
    assert_eq!(alarms.lines().count(), 1, "{alarms}");
}
