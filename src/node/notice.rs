#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: runs the operator's command")]
//! Telling the operator of replies never seen before: by mail through our own queue, and by a command.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_builder::MessageBuilder;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use tokio::sync::mpsc::UnboundedReceiver;

use super::now;
use crate::classify::novelty::Alarm;
use crate::config::{Config, Live};
use crate::event::record::PairsBuf;
use crate::event::{Address, Event, Events, Kind, MessageId, SourceType, StoreId, Time};
use crate::queue::Engine;
use crate::smtp::dsn::NEVER;
use crate::store::{Envelope, Message, RcptState, Recipient, Route, Store};

/// How long the operator's command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);
/// Most mails of this kind in an hour: with a provider's whole wording changed there may be dozens of alarms at once.
const MAX_MAILS_AN_HOUR: usize = 20;

/// Carries the alarms out, one after the other, until nobody raises any more.
pub(super) async fn tell(mut alarms: UnboundedReceiver<Alarm>, store: Store, engine: Engine, live: Live) {
    let mut mailed: Vec<Time> = Vec::new();
    while let Some(alarm) = alarms.recv().await {
        let config = live.load_full();
        let this = now();
        mailed.retain(|t| this.since(*t) < Duration::from_secs(3600));
        if mailed.len() >= MAX_MAILS_AN_HOUR {
            tracing::warn!("no more mails about new replies in this hour; carom status shows them");
        } else if let Some((message, received)) = notice(&config, &alarm, (store.id(), store.next_message_id()), this) {
            mailed.push(this);
            let message = Arc::new(message);
            match store.accept(message.clone(), received).await {
                Ok(()) => {
                    let states: Vec<RcptState> = (0..message.envelope.rcpts.len())
                        .map(|i| RcptState { index: i as u16, attempts: 0, not_before: this, in_doubt: false })
                        .collect();
                    engine.admit(&message.envelope, &states, this);
                }
                Err(error) => tracing::error!(%error, "the mail about a new reply could not be queued"),
            }
        }
        if let Some(command) = config.novelty_alarm.command.clone() {
            let input = serde_json::to_string(&alarm).unwrap_or_default();
            let ended = tokio::task::spawn_blocking(move || run(&command, &input)).await;
            if let Ok(Err(error)) = ended {
                tracing::error!("novelty-alarm-command: {error}");
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
fn notice(config: &Config, alarm: &Alarm, (store, id): (StoreId, MessageId), now: Time) -> Option<(Message, Events)> {
    let named = if config.novelty_alarm.to.is_empty() { &config.postmaster } else { &config.novelty_alarm.to };
    let to: Vec<&String> = named.iter().filter(|a| a.is_ascii() && Address::parse(a).is_ok()).collect();
    if to.is_empty() {
        return None;
    }
    let host = config.host_names.first().map_or("localhost", String::as_str).to_owned();
    let message_id = format!("{store}.{id}.novelty@{host}");
    let provider: String = alarm.provider.chars().filter(char::is_ascii_graphic).take(100).collect();
    let mut body = Vec::new();
    MessageBuilder::new()
        .header("From", Raw::new(format!("Carom <MAILER-DAEMON@{host}>")))
        .header("To", Raw::new(to.iter().map(|a| format!("<{a}>")).collect::<Vec<_>>().join(", ")))
        .subject(format!("A reply never seen before, from {provider}"))
        .date(Date::new(now.secs()))
        .message_id(message_id.as_str())
        .header("Auto-Submitted", Raw::new("auto-generated"))
        .text_body(text(alarm))
        .write_to(&mut body)
        .ok()?;
    let envelope = Envelope {
        id,
        time_queued: now,
        orig: "".into(),
        env_id: "".into(),
        job: "".into(),
        vmta: "{default}".into(),
        pool: "".into(),
        src_type: SourceType::Internal,
        src_mta: host.into(),
        src_ip: None,
        rcv_ip: None,
        user: "".into(),
        eight_bit: false,
        body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
        message_id_header: message_id.into(),
        headers: PairsBuf::default(),
        route: Route::Deliver,
        terms: Default::default(),
        no_dsn: true,
        return_full: false,
        ret_given: false,
        // Nobody is to be told that the notice could not be delivered.
        rcpts: to.iter().map(|a| Recipient { address: a.as_str().into(), orcpt: "".into(), notify: NEVER }).collect(),
    };
    let mut received = Events::new();
    for (at, rcpt) in envelope.rcpts.iter().enumerate() {
        received.push(&Event {
            message: id,
            rcpt_index: at as u16,
            time_queued: now,
            rcpt: &rcpt.address,
            src_type: Some(SourceType::Internal),
            src_mta: &envelope.src_mta,
            vmta: &envelope.vmta,
            ..Event::new(Kind::Received, now)
        });
    }
    Some((Message { envelope, body: body.into() }, received))
}

/// What the mail says.
fn text(alarm: &Alarm) -> String {
    let mut text = format!(
        "{} gave {} replies within {} seconds in words that this server had never seen:\r\n\r\n    {}\r\n\r\nFor example:\r\n\r\n",
        alarm.provider, alarm.count, alarm.within_seconds, alarm.template
    );
    for example in &alarm.examples {
        text.push_str(&format!("    {example}\r\n"));
    }
    let by =
        if alarm.rule.is_empty() { "because nothing decides them".to_owned() } else { format!("by {}", alarm.rule) };
    text.push_str(&format!("\r\nThey are counted as {}, {by}.\r\n", alarm.category));
    match &alarm.proposal {
        Some(rule) => {
            text.push_str(
                "\r\nNo pattern knows them. This rule would; check its category, put it into a pattern file of\r\n",
            );
            text.push_str("yours, and then: carom patterns apply\r\n\r\n");
            for line in rule.lines() {
                text.push_str(&format!("    {line}\r\n"));
            }
        }
        None if alarm.by_pattern => {
            text.push_str("\r\nIf that is not right, put a rule for them into a pattern file of yours.\r\n")
        }
        None => text.push_str("\r\nNo pattern knows them; their words are too few to propose one.\r\n"),
    }
    text.push_str("\r\n`carom patterns explain` tells more of a reply, `carom status` shows all alarms.\r\n");
    // A reply can hold anything; in a mail it is text.
    text.chars().map(|c| if c.is_control() && !matches!(c, '\r' | '\n') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm() -> Alarm {
        Alarm {
            time: 1,
            provider: "big.example".into(),
            template: "550 5.7.1 frobnicated <n>".into(),
            count: 20,
            within_seconds: 600,
            category: "policy-related".into(),
            rule: "code 5.7.1".into(),
            by_pattern: false,
            examples: vec!["550 5.7.1 frobnicated 7\u{7}".into()],
            proposal: Some("# e.g. 550 5.7.1 frobnicated 7\n/frobnicated/ policy-related\n".into()),
        }
    }

    #[test]
    fn the_mail_goes_to_the_postmaster_with_the_rule_in_it_and_nobody_hears_of_its_failure() {
        let config = Config { postmaster: vec!["op@example.com".into()], ..config() };
        let (message, received) = notice(&config, &alarm(), (StoreId(1), MessageId(2)), Time(1_000_000)).unwrap();
        assert_eq!(&*message.envelope.rcpts[0].address, "op@example.com");
        assert!(message.envelope.no_dsn && message.envelope.orig.is_empty());
        let mail = mail_parser::MessageParser::default().parse(&message.body[..]).unwrap();
        assert_eq!(mail.subject(), Some("A reply never seen before, from big.example"));
        let text = mail.body_text(0).unwrap();
        assert!(text.contains("/frobnicated/ policy-related") && !text.contains('\u{7}'), "{text}");
        assert!(!received.is_empty());
        let other = Config {
            novelty_alarm: crate::config::NoveltyAlarm { to: vec!["x@y.example".into()], ..Default::default() },
            ..config
        };
        let (message, _) = notice(&other, &alarm(), (StoreId(1), MessageId(2)), Time(1_000_000)).unwrap();
        assert_eq!(&*message.envelope.rcpts[0].address, "x@y.example");
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

    fn config() -> Config {
        crate::config::parse_str("t", "host-name mta.example.com\npostmaster op@example.com\n").config.unwrap()
    }
}
