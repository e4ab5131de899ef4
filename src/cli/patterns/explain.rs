//! `carom patterns explain`: every rule that matches a reply, which of them decides, and what follows from that.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use serde_json::json;

use super::paint::{Paint, table};
use super::rules::{Loaded, RulesArgs};
use crate::classify::explain::ByCode;
use crate::classify::template::masked;
use crate::classify::{FailureKind, Line, Match, VerdictSource, classify_line};
use crate::cli::Failure;
use crate::cli::given::GivenArgs;
use crate::event::{Event, Kind, Time};
use crate::suppress;

/// Arguments of `carom patterns explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without REPLY, standard input is read: one reply a line; the lines of a reply of several lines \
    (`550-...` up to `550 ...`) are joined as the server joins them.\n\n\
    Examples:\n  \
    carom patterns explain '550 5.1.1 <ann@example.net>: user unknown'\n  \
    carom patterns explain --provider gmail.com --stage eod '421 4.7.28 ...'\n  \
    grep ' refused ' mail.log | cut -d: -f4- | carom patterns explain --json\n\n\
    Exit code: 0 a pattern decides every reply; 1 for some only the code, or nothing; 2 the rules are wrong."
)]
pub(super) struct Args {
    /// The reply: code, enhanced code and text
    #[arg(value_name = "REPLY", trailing_var_arg = true)]
    reply: Vec<String>,
    #[command(flatten)]
    rules: RulesArgs,
    #[command(flatten)]
    given: GivenArgs,
    /// JSON lines, one for each reply
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let loaded = match args.rules.load()? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let codes = ByCode::default();
    let replies = if args.reply.is_empty() { replies_of_stdin()? } else { joined([args.reply.join(" ")]) };
    let mut undecided = false;
    for (number, reply) in replies.iter().enumerate() {
        let told = Told::new(args, &loaded, &codes, reply);
        undecided |= !told.by_pattern;
        if args.json {
            say!("{}", told.json())?;
        } else {
            if number > 0 {
                say!()?;
            }
            told.print()?;
        }
    }
    Ok(if undecided { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn replies_of_stdin() -> Result<Vec<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("replies, one a line; end with Ctrl-D");
    }
    let mut lines = Vec::new();
    for line in stdin.lock().split(b'\n') {
        lines.push(String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned());
    }
    Ok(joined(lines.iter().flat_map(|l| l.split('\n')).map(str::to_owned)))
}

/// Lines as replies: those of one reply of several lines are joined by blanks, without the codes of the later ones.
fn joined(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut replies: Vec<String> = Vec::new();
    // The code of the reply whose last line has not come.
    let mut open: Option<String> = None;
    for line in lines.into_iter().flat_map(|l| l.lines().map(str::to_owned).collect::<Vec<_>>()) {
        let line = line.trim();
        if line.is_empty() {
            open = None;
            continue;
        }
        let code = line.get(..3).filter(|c| c.bytes().all(|b| b.is_ascii_digit()));
        let goes_on = code.is_some() && line.as_bytes().get(3) == Some(&b'-');
        match (code, &open, replies.last_mut()) {
            (Some(code), Some(before), Some(reply)) if code == before => {
                reply.push(' ');
                let text = line[3..].trim_start_matches(['-', ' ']);
                // The enhanced code is repeated on every line (RFC 2034, 4).
                let status = crate::event::EnhancedStatus::parse_prefix(text);
                reply.push_str(status.filter(|(s, _)| reply.contains(&s.to_string())).map_or(text, |(_, rest)| rest));
            }
            (Some(code), _, _) if goes_on => replies.push(format!("{code} {}", line[4..].trim_start())),
            _ => replies.push(line.to_owned()),
        }
        open = code.filter(|_| goes_on).map(str::to_owned);
    }
    replies
}

/// All that is told of one reply.
struct Told<'a> {
    line: Line<'a>,
    by_pattern: bool,
    matching: Vec<Match<'a>>,
    by_code: Option<(&'a str, &'a str)>,
    /// Name of the suppression rule.
    suppressed_by: Option<&'static str>,
    reply: &'a str,
}

impl<'a> Told<'a> {
    fn new(args: &'a Args, loaded: &'a Loaded, codes: &'a ByCode, reply: &'a str) -> Told<'a> {
        let facts = args.given.facts();
        let rcpt = format!("x@{}", if facts.domain.is_empty() { "example.com" } else { facts.domain });
        let diag = format!("smtp;{reply}");
        let line = classify_line(&loaded.set, reply, &facts);
        let event = Event {
            rcpt: &rcpt,
            diag: &diag,
            stage: facts.stage,
            provider: facts.provider,
            ..Event::new(Kind::Bounced, Time(1))
        };
        let suppressed_by =
            suppress::decide(&event, line.category, line.kind == FailureKind::Hard).map(|rule| rule.name);
        Told {
            by_pattern: line.source == VerdictSource::Pattern,
            line,
            matching: loaded.set.matches(reply, &facts),
            by_code: codes.of(reply),
            suppressed_by,
            reply,
        }
    }

    fn json(&self) -> serde_json::Value {
        let matches: Vec<_> = self
            .matching
            .iter()
            .map(|m| {
                json!({
                    "rule": m.rule.name(), "category": m.rule.category, "regex": m.rule.regex,
                    "limits": m.rule.limits.to_string(), "action": m.rule.actions_text(),
                    "start": m.start, "end": m.end, "matched": self.reply.get(m.start..m.end),
                    "decides": self.decides(m),
                })
            })
            .collect();
        json!({
            "text": self.reply,
            "masked": masked(self.reply),
            "matches": matches,
            "category": self.line.category,
            "kind": self.line.kind,
            "rule": self.line.rule,
            "byPattern": self.by_pattern,
            "byCode": self.by_code.map(|(category, rule)| json!({ "category": category, "rule": rule })),
            "action": self.line.action,
            "suppress": self.suppressed_by.is_some(),
            "suppressionRule": self.suppressed_by,
        })
    }

    fn decides(&self, matching: &Match<'_>) -> bool {
        matching.rule.name() == self.line.rule
    }

    fn print(&self) -> Result<(), Failure> {
        let paint = Paint::stdout();
        let winner = self.matching.iter().find(|m| self.decides(m));
        let shown = match winner {
            Some(m) => paint.marked(self.reply, &(m.start..m.end)),
            None => self.reply.to_owned(),
        };
        say!("{}  {shown}", paint.bold("reply     "))?;
        say!("{}  {}", paint.bold("masked    "), masked(self.reply))?;
        if self.matching.is_empty() {
            say!("{}  no pattern", paint.bold("matches   "))?;
        }
        let rows = self.matching.iter().map(|m| {
            let rule = m.rule;
            let mut regex = format!("/{}/", rule.regex);
            for more in [rule.actions_text(), rule.limits.to_string()].iter().filter(|m| !m.is_empty()) {
                regex.push_str(&format!(" {more}"));
            }
            let matched = self.reply.get(m.start..m.end).unwrap_or("");
            [
                rule.name(),
                if rule.category.is_empty() { "-".to_owned() } else { rule.category.clone() },
                super::paint::on_one_line(matched, 50),
                super::paint::on_one_line(&regex, 90),
                if self.decides(m) { "<- decides" } else { "" }.to_owned(),
            ]
        });
        let lines = table(&[], &[], rows);
        for (n, line) in lines.lines().filter(|_| !self.matching.is_empty()).enumerate() {
            say!("{}  {line}", if n == 0 { paint.bold("matches   ") } else { " ".repeat(10) })?;
        }
        let by_code = match self.by_code {
            Some((category, rule)) => format!("{category} ({rule})"),
            None => "says nothing".to_owned(),
        };
        say!("{}  {by_code}", paint.bold("its code  "))?;
        let by = match (self.by_pattern, self.line.rule) {
            (_, "") => "by nothing: the last resort".to_owned(),
            (true, rule) => format!("by {rule}"),
            (false, rule) => format!("by {rule}: no pattern knows it"),
        };
        say!("{}  {}, {}, {by}", paint.bold("verdict   "), paint.bold(self.line.category), kind(&self.line))?;
        let action = if self.line.action.is_empty() { "none" } else { &self.line.action };
        say!("{}  {action}", paint.bold("action    "))?;
        let suppress = match self.suppressed_by {
            Some(rule) => paint.warning(&format!("yes, at once, by the suppression rule `{rule}`")),
            None => "no".to_owned(),
        };
        say!("{}  {suppress}", paint.bold("suppresses"))?;
        Ok(())
    }
}

fn kind(line: &Line<'_>) -> String {
    line.kind.name().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_reply_are_joined_and_other_lines_are_replies_of_their_own() {
        let lines = "550-5.1.1 The account\n550-5.1.1 does not\n550 5.1.1 exist\n421 busy\n\n550-never ended\nconnection refused";
        assert_eq!(
            joined([lines.to_owned()]),
            ["550 5.1.1 The account does not exist", "421 busy", "550 never ended", "connection refused"]
        );
    }
}
