//! Dialogues with a simulated provider.

use super::*;
use crate::sim::script::Script;
use crate::sim::world::PROVIDERS;

const NOW: Time = Time::from_secs(1_800_000_000);

struct Play {
    session: Session,
    desk: Desk,
    out: Output,
}

fn play(script: Script, limits: bool) -> Play {
    let role = Role {
        provider: &PROVIDERS[2],
        script,
        limits,
        feedback_address: "fbl@sender.example".into(),
        reports: true,
        starttls: true,
        own_domains_only: true,
    };
    let (mut desk, mut out) = (Desk::default(), Output::default());
    let (session, next) = Session::open(Arc::new(role), 1, [127, 0, 0, 1].into(), NOW, &mut desk, &mut out);
    assert_eq!(next, Next::Read);
    let mut play = Play { session, desk, out };
    assert!(play.say("EHLO me\r\n", NOW).starts_with("220 "));
    play
}

impl Play {
    fn say(&mut self, text: &str, now: Time) -> String {
        self.step(text, now).0
    }
    fn step(&mut self, text: &str, now: Time) -> (String, Next) {
        let mut buffer = BytesMut::from(text);
        let next = self.session.input(&mut buffer, now, &mut self.desk, &mut self.out);
        (String::from_utf8(std::mem::take(&mut self.out.replies)).unwrap(), next)
    }
}

fn who(script: Script, wanted: Behaviour) -> String {
    (0..).map(|i| format!("user{i}@yonder.example")).find(|a| script.behaviour(a) == wanted).unwrap()
}

fn mail(rcpt: &str) -> String {
    format!("MAIL FROM:<r@sender.example> BODY=8BITMIME SIZE=20\r\nRCPT TO:<{rcpt}>\r\nDATA\r\n")
}

const CONTENT: &str = "Message-ID: <7@sender.example>\r\n\r\n..hello\r\n.\r\n";

#[test]
fn a_pipelined_transaction_is_answered_in_one_piece_and_booked() {
    let script = Script::new(1);
    let mut play = play(script, false);
    let rcpt = who(script, Behaviour::Accept);
    let replies = play.say(&mail(&rcpt), NOW);
    let codes: Vec<_> = replies.lines().map(|l| &l[..3]).collect();
    assert_eq!(codes, ["250", "250", "354"]);
    assert!(play.say(CONTENT, NOW).starts_with("250 "));
    let last = play.out.lines.last().unwrap();
    assert_eq!((last.stage, last.rcpt.as_str(), last.accepted), (Stage::Data, rcpt.as_str(), true));
    assert_eq!(last.message_id, "7@sender.example");
    assert_eq!(play.desk.counts().accepted, 1);
}

#[test]
fn content_cut_anywhere_is_put_together_again() {
    let script = Script::new(1);
    let rcpt = who(script, Behaviour::Accept);
    let whole = format!("{}{CONTENT}NOOP\r\n", mail(&rcpt));
    for cut in 1..whole.len() {
        let mut play = play(script, false);
        let mut buffer = BytesMut::from(&whole[..cut]);
        play.session.input(&mut buffer, NOW, &mut play.desk, &mut play.out);
        buffer.extend_from_slice(&whole.as_bytes()[cut..]);
        play.session.input(&mut buffer, NOW, &mut play.desk, &mut play.out);
        let replies = String::from_utf8(play.out.replies.clone()).unwrap();
        assert!(replies.ends_with("250 2.0.0 ok\r\n"), "cut at {cut}: {replies}");
        assert_eq!(play.desk.counts().accepted, 1, "cut at {cut}");
    }
}

#[test]
fn an_unknown_user_is_refused_and_without_recipients_there_is_no_data() {
    let script = Script::new(1);
    let mut play = play(script, false);
    let replies = play.say(&mail(&who(script, Behaviour::UnknownUser)), NOW);
    let codes: Vec<_> = replies.lines().map(|l| &l[..3]).collect();
    assert!(codes[1] == "550" || codes[1] == "554", "{replies}");
    assert_eq!(codes[2], "554");
}

#[test]
fn a_greylisted_recipient_is_taken_after_a_while_and_not_before() {
    let script = Script::new(1);
    let mut play = play(script, false);
    let rcpt = who(script, Behaviour::Greylist);
    assert!(play.say(&mail(&rcpt), NOW).contains("451 "));
    play.say("RSET\r\n", NOW);
    assert!(play.say(&mail(&rcpt), NOW + Duration::from_millis(500)).contains("451 "));
    play.say("RSET\r\n", NOW);
    assert!(play.say(&mail(&rcpt), NOW + Duration::from_millis(1500)).contains("354 "));
}

#[test]
fn later_bounces_go_to_the_return_path_and_complaints_to_the_feedback_address() {
    let script = Script::new(1);
    let mut play = play(script, false);
    for (behaviour, to, from) in [
        (Behaviour::LaterBounce, "r@sender.example", ""),
        (Behaviour::Complaint, "fbl@sender.example", "fbl@mta.yonder.example"),
    ] {
        play.say(&mail(&who(script, behaviour)), NOW);
        play.say(CONTENT, NOW);
        let report = play.out.reports.pop().unwrap();
        assert_eq!((report.to.as_str(), report.from.as_str()), (to, from));
        assert!(report.due > NOW);
    }
}

#[test]
fn spam_is_refused_at_the_dot_for_some_and_at_rcpt_for_others() {
    let script = Script::new(1);
    let stages: std::collections::HashSet<_> = (0..3000)
        .map(|i| format!("user{i}@yonder.example"))
        .filter(|a| script.behaviour(a) == Behaviour::SpamBlock)
        .map(|rcpt| {
            let mut play = play(script, false);
            play.say(&mail(&rcpt), NOW);
            play.say(CONTENT, NOW);
            let refusal = play.out.lines.iter().find(|l| l.code == 554).unwrap();
            refusal.stage
        })
        .collect();
    assert_eq!(stages.len(), 2);
}

#[test]
fn after_so_many_messages_the_connection_is_closed_with_421() {
    let script = Script::new(1);
    let mut play = play(script, true);
    let rcpt = who(script, Behaviour::Accept);
    for _ in 0..PROVIDERS[2].max_messages {
        play.say(&mail(&rcpt), NOW);
        play.say(CONTENT, NOW);
    }
    let (reply, next) = play.step(&mail(&rcpt), NOW);
    assert!(reply.starts_with("421 "), "{reply}");
    assert_eq!(next, Next::Close);
}

#[test]
fn too_many_connections_are_greeted_with_421() {
    let role =
        Arc::new(Role { provider: &PROVIDERS[1], limits: true, ..(*play(Script::new(1), true).session.role).clone() });
    let (mut desk, mut out) = (Desk::default(), Output::default());
    let mut open = |desk: &mut Desk| Session::open(role.clone(), 1, [127, 0, 0, 1].into(), NOW, desk, &mut out).1;
    for _ in 0..PROVIDERS[1].max_connections {
        assert_eq!(open(&mut desk), Next::Read);
    }
    assert_eq!(open(&mut desk), Next::Close);
    desk.leave();
    assert_eq!(open(&mut desk), Next::Read);
}

#[test]
fn nonsense_gets_an_answer_and_never_a_panic() {
    let mut play = play(Script::new(1), true);
    for line in ["", "MAIL", "MAIL FROM:", "RCPT TO:<>", "\u{fffd}\u{fffd}", "DATA", "mail from:<a", "RCPT TO:<a@b> X"]
    {
        assert!(!play.say(&format!("{line}\r\n"), NOW).is_empty(), "{line:?}");
    }
    assert_eq!(play.step(&"x".repeat(MAX_LINE + 1), NOW).1, Next::Close);
}

#[test]
fn starttls_forgets_what_was_pipelined_behind_it() {
    let mut play = play(Script::new(1), true);
    let mut buffer = BytesMut::from("STARTTLS\r\nMAIL FROM:<a@b.example>\r\n");
    let next = play.session.input(&mut buffer, NOW, &mut play.desk, &mut play.out);
    assert_eq!((next, buffer.len()), (Next::StartTls, 0));
    play.session.secured();
    play.out.replies.clear();
    assert!(play.say("MAIL FROM:<a@b.example>\r\n", NOW).starts_with("503 "));
    assert!(!play.say("EHLO me\r\n", NOW).contains("STARTTLS"));
}
