//! What can be asked of a running server, and what it answers. One JSON object a line, both ways.

use serde::{Deserialize, Serialize};

use super::suppression::SuppressionCommand;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Read the configuration again and put it in force, or say why not.
    Reload,
    /// Queues, outputs, store: what an operator looks at first.
    Status,
    /// End the accounting files in use, whole and under their final names, and begin others.
    RotateAcct {
        /// Only those of this acct-file, by its path or the end of it.
        #[serde(default)]
        file: Option<String>,
    },
    /// Put queues into normal or backoff mode.
    QueueMode {
        /// `domain/vmta`, with wildcards.
        queue: String,
        /// Whether it is backoff mode.
        backoff: bool,
    },
    /// Use a disabled source address again.
    EnableSource {
        /// `domain/vmta`, with wildcards.
        queue: String,
        /// The address.
        ip: std::net::IpAddr,
    },
    /// Start no attempt for mail of this job any more.
    PauseJob {
        /// Its name.
        job: String,
        /// Why, for the record.
        reason: String,
        /// Who, for the record.
        #[serde(default)]
        by: String,
    },
    /// Let a paused job go on.
    ResumeJob {
        /// Its name.
        job: String,
        /// Who, for the record.
        #[serde(default)]
        by: String,
    },
    /// The jobs with mail in the queues, and those that are paused.
    Jobs,
    /// Which of these addresses are suppressed for a campaign? The answer has their places, from 0, in `suppressed`.
    SuppressCheckMany {
        /// At most 10,000.
        addresses: Vec<String>,
        /// The campaign's sender; empty when not known.
        #[serde(default)]
        sender: String,
        /// Its job; empty when not known.
        #[serde(default)]
        job: String,
        /// Its VirtualMTA; empty when not known.
        #[serde(default)]
        vmta: String,
    },
    /// Take back what a provider's mistaken bounces entered; a page at a time.
    SuppressUndo(crate::accounting::feedback::undo::Undo),
    /// About the circuit breaker of the suppression list.
    SuppressBreaker(BreakerCommand),
    /// About the suppression list.
    Suppression(SuppressionCommand),
    /// About mail to report addresses that nobody understood.
    ReportQuarantine(QuarantineCommand),
    /// Events that the ledger still holds, from `from` on, classified; some at a time.
    Events {
        /// First sequence number; 0 is the oldest kept, the largest number the end.
        from: u64,
        /// Only about this recipient.
        #[serde(default)]
        address: String,
        /// Only about this message.
        #[serde(default)]
        message: u64,
    },
    /// Which recipients of these messages are still queued, and how?
    Queued {
        /// The messages, by their ids.
        messages: Vec<u64>,
    },
}

/// What can be asked about the circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum BreakerCommand {
    /// Which have tripped, and what they hold.
    List,
    /// It is over.
    End {
        /// Which.
        circuit: crate::suppress::breaker::Circuit,
        /// What becomes of what it holds.
        word: crate::accounting::feedback::undo::Word,
    },
}

/// What can be asked about the report quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum QuarantineCommand {
    /// Mails in the order in which they came, behind the one with the id `after`.
    List {
        /// Which of them.
        #[serde(default)]
        filter: crate::report::quarantine::Filter,
        /// 0 is the beginning.
        #[serde(default)]
        after: u64,
        /// At most so many (the server caps this at 1,000).
        limit: u32,
    },
    /// One mail with its content.
    Show {
        /// Its id.
        id: u64,
    },
    /// Read these again; those that are reports by now end with their events.
    Replay {
        /// At most 1,000.
        ids: Vec<u64>,
    },
    /// Throw these away.
    Drop {
        /// At most 1,000.
        ids: Vec<u64>,
    },
}

/// The answer to one [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Success {
        /// A sentence for people; empty when the data says it all.
        #[serde(default)]
        message: String,
        /// What was asked for.
        #[serde(default)]
        data: serde_json::Value,
    },
    /// Not done.
    Error {
        /// Why, and what to do.
        message: String,
    },
}

impl Answer {
    /// Done, with a sentence.
    pub fn done(message: impl Into<String>) -> Answer {
        Answer::Success { message: message.into(), data: serde_json::Value::Null }
    }

    /// Done, with data.
    pub fn data(data: serde_json::Value) -> Answer {
        Answer::Success { message: String::new(), data }
    }

    /// Not done.
    pub fn error(message: impl Into<String>) -> Answer {
        Answer::Error { message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_answers_read_back_from_their_lines() {
        for c in [
            Command::Reload,
            Command::Suppression(SuppressionCommand::Stats { after: "ab".into() }),
            Command::Suppression(SuppressionCommand::Show { subject: "@b.example".into() }),
        ] {
            let line = serde_json::to_string(&c).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Command>(&line).unwrap(), c);
        }
        let a = Answer::error("no such thing");
        assert_eq!(serde_json::from_str::<Answer>(&serde_json::to_string(&a).unwrap()).unwrap(), a);
        assert_eq!(serde_json::to_string(&Command::Reload).unwrap(), r#"{"command":"reload"}"#);
    }
}
