//! `carom acct tail`: the newest records of the ledger, live.
//!
//! Read from the ledger through the command socket, not from files: it has all record types whatever the acct-files
//! select, at the moment they are durable (a Parquet file appears minutes later), and there is no rotation to follow.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::super::peer::Peer;
use super::super::{Failure, ServerArgs};
use crate::event::{Kind, Kinds, plain};
use crate::history::names;
use crate::manage::Command;

/// Arguments of `carom acct tail`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The ledger of the running server is read, so records of every type are shown as soon as they are\n\
    durable, whatever the acct-files hold. Without a server its store is opened (not with -f).\n\n\
    Examples:\n  \
    carom acct tail -f\n  \
    carom acct tail -f --records b,rb,f --domain gmail.com\n  \
    carom acct tail -n 100 --job spring --json | jq .dsnDiag"
)]
pub struct Args {
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Begin with so many of the newest records
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Only these record types: of d,b,t,tq,r,rb,rs,f [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    records: Vec<String>,
    /// Only recipients that contain this
    #[arg(long, value_name = "TEXT")]
    to: Option<String>,
    /// Only senders that contain this
    #[arg(long, value_name = "TEXT")]
    from: Option<String>,
    /// Only recipients in this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Only this job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Only this VirtualMTA
    #[arg(long, value_name = "VMTA")]
    vmta: Option<String>,
    /// Only this bounce category
    #[arg(long, value_name = "CATEGORY")]
    category: Option<String>,
    /// One JSON object a line, with every field
    #[arg(long)]
    json: bool,
    /// Colours: auto (on a terminal), always, never
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Between two looks at the ledger.
const PAUSE: Duration = Duration::from_millis(200);
/// Events looked back at for the newest that match.
const LOOK_BACK: u64 = 200_000;

#[expect(clippy::disallowed_methods, reason = "edge: waits between two looks")]
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut kinds = Kinds::default();
    for name in &args.records {
        let Some(kind) = names::kind(name.trim()) else {
            eprintln!("carom: --records {name}: of d, b, t, tq, r, rb, rs, f");
            return Ok(ExitCode::from(2));
        };
        kinds = kinds.with(kind);
    }
    let mut peer = match Peer::reach(&args.server)? {
        Ok(peer) => peer,
        Err(code) => return Ok(code),
    };
    if args.follow && matches!(peer, Peer::Store(_)) {
        return Err("no server is running, so nothing comes; leave -f out to see the newest records".into());
    }
    let wanted = |event: &Value| args.wants(event, if kinds.is_empty() { Kinds::ALL } else { kinds });
    let end = number(&ask(&mut peer, u64::MAX)?, "end");
    let mut next = end.saturating_sub(LOOK_BACK);
    let mut newest = std::collections::VecDeque::new();
    while next < end {
        let data = ask(&mut peer, next)?;
        for event in events(&data).filter(|e| wanted(e)) {
            newest.push_back(event.clone());
            if newest.len() > args.lines {
                newest.pop_front();
            }
        }
        match number(&data, "next") {
            further if further > next => next = further,
            _ => break,
        }
    }
    newest.iter().try_for_each(|event| args.show(event))?;
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let data = ask(&mut peer, next)?;
        events(&data).filter(|e| wanted(e)).try_for_each(|event| args.show(event))?;
        let further = number(&data, "next");
        if further <= next {
            std::thread::sleep(PAUSE);
        }
        next = further;
    }
}

fn ask(peer: &mut Peer, from: u64) -> Result<Value, Failure> {
    peer.data(Command::Events { from, address: String::new(), message: 0 })
}

fn events(data: &Value) -> impl Iterator<Item = &Value> {
    data.get("events").and_then(Value::as_array).into_iter().flatten()
}

fn number(data: &Value, name: &str) -> u64 {
    data.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn text<'e>(event: &'e Value, name: &str) -> &'e str {
    event.get(name).and_then(Value::as_str).unwrap_or("")
}

impl Args {
    fn wants(&self, event: &Value, kinds: Kinds) -> bool {
        let contains = |name: &str, part: &Option<String>| {
            part.as_ref().is_none_or(|part| text(event, name).to_lowercase().contains(&part.to_lowercase()))
        };
        let is = |name: &str, whole: &Option<String>| {
            whole.as_ref().is_none_or(|whole| text(event, name).eq_ignore_ascii_case(whole))
        };
        let domain = text(event, "rcpt").rsplit_once('@').map_or("", |(_, d)| d);
        names::kind(text(event, "type")).is_some_and(|k| kinds.contains(k))
            && contains("rcpt", &self.to)
            && contains("orig", &self.from)
            && self.domain.as_ref().is_none_or(|d| domain.eq_ignore_ascii_case(d))
            && is("jobId", &self.job)
            && is("vmta", &self.vmta)
            && is("bounceCat", &self.category)
    }

    fn show(&self, event: &Value) -> std::io::Result<()> {
        use std::io::IsTerminal as _;
        if self.json {
            return say!("{event}");
        }
        let colored = match self.color.as_str() {
            "always" => true,
            "never" => false,
            _ => std::io::stdout().is_terminal(),
        };
        say!("{}", line(event, colored))
    }
}

/// Time, type, recipient, VirtualMTA, job, category, what was said.
fn line(event: &Value, colored: bool) -> String {
    let kind = names::kind(text(event, "type"));
    let (begin, end) = match kind {
        _ if !colored => ("", ""),
        Some(Kind::Delivered | Kind::RemoteStatus) => ("\u{1b}[32m", "\u{1b}[0m"),
        Some(Kind::Bounced | Kind::RemoteBounce) => ("\u{1b}[31m", "\u{1b}[0m"),
        Some(Kind::Transient | Kind::TransientQueue) => ("\u{1b}[33m", "\u{1b}[0m"),
        Some(Kind::Feedback) => ("\u{1b}[35m", "\u{1b}[0m"),
        _ => ("\u{1b}[2m", "\u{1b}[0m"),
    };
    let who = if kind == Some(Kind::TransientQueue) { text(event, "queue") } else { text(event, "rcpt") };
    let said = [text(event, "dsnDiag"), text(event, "feedbackType"), text(event, "srcMta")];
    let said = said.into_iter().find(|s| !s.is_empty()).unwrap_or("");
    let parts = [text(event, "vmta"), text(event, "jobId"), text(event, "bounceCat"), said];
    let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    let time = text(event, "timeLogged");
    let time = time.get(..19).unwrap_or(time).replace('T', " ");
    // What a remote server said is not to move the cursor; the colours are ours.
    let (time, kind, rest) = (plain(&time), plain(text(event, "type")), format!("{who}  {}", parts.join("  ")));
    format!("{time} {begin}{kind:<2}{end} {}", plain(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_when_what_whom_and_why_and_colours_are_only_added_when_wanted() {
        let event = json!({
            "type": "b", "timeLogged": "2026-05-01T08:00:09.5Z", "rcpt": "ann@b.example", "vmta": "v1", "jobId": "j",
            "bounceCat": "bad-mailbox", "dsnDiag": "smtp;550 no\nuser\u{1b}[2J",
        });
        assert_eq!(
            line(&event, false),
            "2026-05-01 08:00:09 b  ann@b.example  v1  j  bad-mailbox  smtp;550 no user\u{fffd}[2J"
        );
        assert!(line(&event, true).contains("\u{1b}[31mb \u{1b}[0m"));
    }
}
