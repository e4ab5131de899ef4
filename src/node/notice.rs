#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: runs the operator's command")]
//! Telling the operator: by mail through our own queue, and by a command. Whatever room raises an alarm, it comes through
//! here as a [`Notice`], in the order in which they were raised.
//!
//! Mails are bounded by the hour and kind, so that no kind can drown another; the command hears of every one.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_builder::MessageBuilder;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::now;
use crate::config::{Config, Live};
use crate::event::{Address, Events, MessageId, StoreId, Time};
use crate::queue::Engine;
use crate::store::{Message, OwnMail, RcptState, Store};

/// How long the operator's command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);
/// Most mails of one kind in an hour: with a provider's whole wording changed there may be dozens of alarms at once.
const MAX_MAILS_AN_HOUR: usize = 20;
/// Longest subject, in characters.
const MAX_SUBJECT: usize = 150;

/// What the operator is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// The kind of alarm, one word; part of the Message-ID.
    pub kind: &'static str,
    /// Subject of the mail. May hold what others said: what is not printable ASCII is left out.
    pub subject: String,
    /// What the mail says, its lines ended by CRLF; control characters become blanks.
    pub text: String,
    /// Who gets the mail; `alarm-to`, then the postmaster when nobody is named.
    pub to: Vec<String>,
    /// The program that hears of it; `alarm-command` when none is named.
    pub command: Option<PathBuf>,
    /// What the program gets on its standard input.
    pub data: serde_json::Value,
}

/// Where notices are put; never blocks.
pub(super) type Notices = UnboundedSender<Notice>;

/// Carries the notices out, one after the other, until nobody raises any more.
pub(super) async fn tell(mut notices: UnboundedReceiver<Notice>, store: Store, engine: Engine, live: Live) {
    let mut mailed: HashMap<&'static str, Vec<Time>> = HashMap::new();
    while let Some(notice) = notices.recv().await {
        let config = live.load_full();
        let this = now();
        let mailed = mailed.entry(notice.kind).or_default();
        mailed.retain(|t| this.since(*t) < Duration::from_secs(3600));
        if mailed.len() >= MAX_MAILS_AN_HOUR {
            tracing::warn!(kind = notice.kind, "no more mails of this kind in this hour; carom status shows them");
        } else if let Some((message, received)) = mail(&config, &notice, (store.id(), store.next_message_id()), this) {
            mailed.push(this);
            let message = Arc::new(message);
            match store.accept(message.clone(), received).await {
                Ok(()) => {
                    let states: Vec<RcptState> = (0..message.envelope.rcpts.len())
                        .map(|i| RcptState { index: i as u16, attempts: 0, not_before: this, in_doubt: false })
                        .collect();
                    engine.admit(&message.envelope, &states, this);
                }
                Err(error) => {
                    tracing::error!(%error, kind = notice.kind, "the mail about an alarm could not be queued")
                }
            }
        }
        let named = if notice.command.is_some() { &notice.command } else { &config.alarm_command };
        if let Some(command) = named.clone() {
            let ended = tokio::task::spawn_blocking(move || run(&command, &notice.data.to_string())).await;
            if let Ok(Err(error)) = ended {
                tracing::error!("the command for alarms: {error}");
            }
        }
    }
}

/// Runs the operator's command with `input` on its standard input. Blocks.
fn run(command: &std::path::Path, input: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", command.display());
    let mut child = Command::new(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Smaller than a pipe holds (64 KiB): a command that does not read is not waited for. One that has ended
        // already is no failure either: its exit code says what it made of it.
        let _ = writeln!(stdin, "{input}");
    }
    let began = Instant::now();
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{}: {status}", command.display())),
            None if began.elapsed() > COMMAND_WITHIN => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{}: stopped after {COMMAND_WITHIN:?}", command.display()));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The mail, with its `r` event; `None` when nobody is to get it.
fn mail(config: &Config, notice: &Notice, (store, id): (StoreId, MessageId), now: Time) -> Option<(Message, Events)> {
    let named = [&notice.to, &config.alarm_to, &config.postmaster];
    let named = named.into_iter().find(|list| !list.is_empty())?;
    let to: Vec<&str> =
        named.iter().filter(|a| a.is_ascii() && Address::parse(a).is_ok()).map(String::as_str).collect();
    if to.is_empty() {
        return None;
    }
    let host = config.host_names.first().map_or("localhost", String::as_str);
    let message_id = format!("{store}.{id}.{}@{host}", notice.kind);
    let printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let subject: String = notice.subject.chars().filter(printable).take(MAX_SUBJECT).collect();
    // A reply can hold anything; in a mail it is text.
    let plain = |c: char| if c.is_control() && !matches!(c, '\r' | '\n') { ' ' } else { c };
    let text: String = notice.text.chars().map(plain).collect();
    let mut body = Vec::new();
    MessageBuilder::new()
        .header("From", Raw::new(format!("Carom <MAILER-DAEMON@{host}>")))
        .header("To", Raw::new(to.iter().map(|a| format!("<{a}>")).collect::<Vec<_>>().join(", ")))
        .subject(subject)
        .date(Date::new(now.secs()))
        .message_id(message_id.as_str())
        .header("Auto-Submitted", Raw::new("auto-generated"))
        .text_body(text)
        .write_to(&mut body)
        .ok()?;
    let own = OwnMail { id, now, host, message_id: &message_id, eight_bit: false, to: &to };
    Some(Message::own(own, body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            kind: "job-guard",
            subject: "A job has paused\r\nBcc: x@y.example".into(),
            text: "Because of 12 bounces.\u{7}\r\n".into(),
            to: Vec::new(),
            command: None,
            data: serde_json::Value::Null,
        }
    }

    fn config() -> Config {
        crate::config::parse_str("t", "host-name mta.example.com\npostmaster op@example.com\n").config.unwrap()
    }

    #[test]
    fn the_mail_goes_to_who_is_named_for_it_or_for_alarms_or_else_to_the_postmaster() {
        let to = |config: &Config, notice: &Notice| {
            let (message, received) = mail(config, notice, (StoreId(1), MessageId(2)), Time(1_000_000)).unwrap();
            assert!(!received.is_empty());
            message.envelope.rcpts[0].address.to_string()
        };
        assert_eq!(to(&config(), &notice()), "op@example.com");
        let config = Config { alarm_to: vec!["alarms@example.com".into()], ..config() };
        assert_eq!(to(&config, &notice()), "alarms@example.com");
        assert_eq!(to(&config, &Notice { to: vec!["x@y.example".into()], ..notice() }), "x@y.example");
    }

    #[test]
    fn what_others_said_ends_neither_a_line_of_the_header_nor_the_mail() {
        let (message, _) = mail(&config(), &notice(), (StoreId(1), MessageId(2)), Time(1_000_000)).unwrap();
        assert!(message.envelope.no_dsn && message.envelope.orig.is_empty());
        let mail = mail_parser::MessageParser::default().parse(&message.body[..]).unwrap();
        assert_eq!(mail.subject(), Some("A job has pausedBcc: x@y.example"));
        assert!(mail.bcc().is_none());
        assert!(!mail.body_text(0).unwrap().contains('\u{7}'));
    }

    #[test]
    fn a_command_gets_the_alarm_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("hook");
        let out = dir.path().join("out");
        std::fs::write(&script, format!("#!/bin/sh\ncat > {}\n", out.display())).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        run(&script, "{\"a\":1}").unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "{\"a\":1}\n");
        std::fs::write(&script, "#!/bin/sh\nexit 3\n").unwrap();
        assert!(run(&script, "x").unwrap_err().contains("exit status: 3"));
    }
}
