//! What a reply makes the queue do: the actions of `<smtp-pattern-list>`, of `<smtp-pattern>` and of pattern files
//! (reference/directives.md, 4.2). Pure.

use std::fmt;
use std::time::Duration;

use super::values;

/// Mode of a queue (reference/directives.md, 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum QueueMode {
    /// As fast as the limits allow.
    #[default]
    Normal,
    /// Slower, by the `backoff-` directives.
    Backoff,
}

impl QueueMode {
    /// As it is written and shown.
    pub const fn name(self) -> &'static str {
        match self {
            QueueMode::Normal => "normal",
            QueueMode::Backoff => "backoff",
        }
    }
}

/// One action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyAction {
    /// `mode=normal`, `mode=backoff`: changes the mode of the queue.
    Mode(QueueMode),
    /// `skip-mx`: gives this host up and goes to the next one; the mail stays queued, even on 5xx.
    SkipMx,
    /// `bounce-queue`: bounces all mail of the queue now.
    BounceQueue,
    /// `bounce-rcpt`: bounces the recipient now that RCPT got a 4xx for.
    BounceRcpt,
    /// `disable-source-ip`: stops using the source address that got the reply, for this queue.
    DisableSourceIp,
    /// `reenable-after=TIME`: uses it again after that time; `None` is never. Only behind `disable-source-ip`.
    ReenableAfter(Option<Duration>),
    /// `defer-queue`: puts the queue into retry at once.
    DeferQueue,
}

/// The names, for messages and suggestions.
pub const ACTION_NAMES: [&str; 8] = [
    "mode=normal",
    "mode=backoff",
    "skip-mx",
    "bounce-queue",
    "bounce-rcpt",
    "disable-source-ip",
    "reenable-after=TIME",
    "defer-queue",
];

impl fmt::Display for ReplyAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyAction::Mode(mode) => write!(f, "mode={}", mode.name()),
            ReplyAction::SkipMx => f.write_str("skip-mx"),
            ReplyAction::BounceQueue => f.write_str("bounce-queue"),
            ReplyAction::BounceRcpt => f.write_str("bounce-rcpt"),
            ReplyAction::DisableSourceIp => f.write_str("disable-source-ip"),
            ReplyAction::ReenableAfter(Some(time)) => write!(f, "reenable-after={}s", time.as_secs()),
            ReplyAction::ReenableAfter(None) => f.write_str("reenable-after=never"),
            ReplyAction::DeferQueue => f.write_str("defer-queue"),
        }
    }
}

/// Whether `word` is meant to be an action, if perhaps a wrong one: what tells an action from a limit.
pub fn is_action(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    ["mode", "skip-mx", "bounce-queue", "bounce-rcpt", "disable-source-ip", "reenable-after", "defer-queue", "backoff"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// The actions of one entry, separated by commas or blanks, each checked and the entry as a whole: what
/// reference/directives.md, 4.2, calls invalid in one entry is an error.
pub fn parse_actions(text: &str) -> Result<Vec<ReplyAction>, String> {
    let mut actions = Vec::new();
    for word in text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        let action = parse_action(word)?;
        if let ReplyAction::ReenableAfter(_) = action {
            if !actions.contains(&ReplyAction::DisableSourceIp) {
                return Err("reenable-after stands behind the disable-source-ip that it is for".into());
            }
            if actions.iter().any(|a| matches!(a, ReplyAction::ReenableAfter(_))) {
                return Err("reenable-after is given twice: leave one".into());
            }
        }
        if actions.iter().any(|earlier| conflicts(*earlier, action)) {
            return Err(format!("{action} contradicts what stands before it in the same entry: leave one of both"));
        }
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    if actions.is_empty() {
        return Err(format!("the action is missing: write one or more of {}", ACTION_NAMES.join(", ")));
    }
    Ok(actions)
}

fn parse_action(word: &str) -> Result<ReplyAction, String> {
    let lower = word.to_ascii_lowercase();
    Ok(match lower.split_once('=') {
        Some(("mode", "normal")) => ReplyAction::Mode(QueueMode::Normal),
        Some(("mode", "backoff")) => ReplyAction::Mode(QueueMode::Backoff),
        Some(("reenable-after", "never")) => ReplyAction::ReenableAfter(None),
        Some(("reenable-after", time)) => {
            let time = values::time(time).map_err(|e| format!("reenable-after: {e}; {}", e.help))?;
            ReplyAction::ReenableAfter(Some(time))
        }
        None => match lower.as_str() {
            // As guides write it.
            "backoff" => ReplyAction::Mode(QueueMode::Backoff),
            "skip-mx" => ReplyAction::SkipMx,
            "bounce-queue" => ReplyAction::BounceQueue,
            "bounce-rcpt" => ReplyAction::BounceRcpt,
            "disable-source-ip" => ReplyAction::DisableSourceIp,
            "defer-queue" => ReplyAction::DeferQueue,
            _ => return Err(unknown(word)),
        },
        Some(_) => return Err(unknown(word)),
    })
}

fn unknown(word: &str) -> String {
    let word: String = word.chars().take(64).collect();
    format!("{word:?} is no action: write one of {}", ACTION_NAMES.join(", "))
}

/// Whether both can't be done: the later one is left out where entries combine, and refused within one entry.
pub fn conflicts(one: ReplyAction, other: ReplyAction) -> bool {
    use ReplyAction::{BounceQueue, Mode, ReenableAfter, SkipMx};
    match (one, other) {
        (Mode(a), Mode(b)) => a != b,
        (SkipMx, BounceQueue) | (BounceQueue, SkipMx) => true,
        (ReenableAfter(a), ReenableAfter(b)) => a != b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_as_they_are_shown() {
        for text in ["mode=backoff", "disable-source-ip,reenable-after=3600s", "skip-mx,mode=normal", "bounce-rcpt"] {
            let shown: Vec<_> = parse_actions(text).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(","), text);
        }
        let guide = parse_actions("Mode=BACKOFF, disable-source-ip, reenable-after=1h").unwrap();
        assert_eq!(guide.len(), 3);
        assert_eq!(guide[2], ReplyAction::ReenableAfter(Some(Duration::from_secs(3600))));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for text in [
            "mode=backoff,mode=normal",
            "skip-mx,bounce-queue",
            "reenable-after=1h",
            "reenable-after=1h,disable-source-ip",
            "disable-source-ip,reenable-after=1h,reenable-after=2h",
            "disable-source-ip,reenable-after=soon",
            "mode=slow",
            "explode",
            "",
        ] {
            assert!(parse_actions(text).is_err(), "{text}");
        }
    }
}
