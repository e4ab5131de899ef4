//! `type pipe`: a queue whose mail is handed to a program of this machine, one run for each recipient (submission.md, 7.2).
//!
//! Promises:
//! - the command is parted into arguments when the configuration is read; what a macro stands for stays within its
//!   argument. Control characters in it become `_`. An argument that a mail would make begin with `-`, where the program
//!   takes it for an option, is not passed on: such a recipient bounces, unless the command has `--` before it;
//! - one recipient at a time and session, its record written before the next one begins: `max-smtp-out` is how many run at
//!   once;
//! - the exit status decides ([`super::sysexits`]). A program that takes longer than `command-timeout`, dies by a signal or
//!   can't be started has not said anything about the recipient: tried again later. What may have been done already is
//!   in doubt then, as it is when the server stops or dies before the program has ended;
//! - what it said stands in the record behind `x-unix;`, its end, on one line, without control characters.

use std::io;
use std::time::Duration;

use crate::config::Command;
use crate::config::delivery_macro::{DeliveryMacro, Part};
use crate::event::{EnhancedStatus, MessageId, Stage};
use crate::queue::Fate;

use super::attempt::{Attempt, Facts, Ledgered};
use super::macros::Delivery;
use super::outcome::{DiagType, Outcome, Verdict, status};
use super::program::{self, End, KEPT_OUTPUT, Ran, Task};
use super::session::{Session, now};
use super::sysexits::Meaning;

/// Delivers one message to the recipients drawn; there is one.
pub(super) async fn deliver(session: &mut Session, id: MessageId, facts: &Facts) {
    let Some(message) = session.load(id).await else { return };
    if session.is_paused(&message.envelope) {
        return;
    }
    let (queue, settings) = (session.permit.queue().clone(), session.permit.settings().clone());
    let ready =
        |session: &Session| session.permit.drawn.iter().position(|d| d.entry.message() == id && d.fate == Fate::Again);
    while let Some(at) = ready(session) {
        let index = session.permit.drawn[at].entry.state().index;
        let mut told = Ledgered::default();
        let attempt = Attempt { envelope: &message.envelope, queue: &queue, settings: &settings, facts, now: now() };
        if let Some(why) = attempt.why_not(&session.context.suppression, index) {
            attempt.suppressed(&mut session.permit.drawn[at], &why, &mut told);
            session.hand_over(&message, told).await;
            continue;
        }
        let preserve_case = settings.macro_variables_preserve_case;
        let of = Delivery { envelope: &message.envelope, to: attempt.rcpt(index), now: attempt.now, preserve_case };
        let found = match &settings.command {
            None => Found::own(Verdict::Deferred, status(4, 3, 5), "command is not set for this domain"),
            Some(command) => match arguments(command, &of) {
                Err(refused) => refused,
                Ok(arguments) => {
                    let (program, limit) = (command.program.clone(), settings.command_timeout);
                    let task = Task { program, arguments, content: message.body.clone(), limit };
                    session.under_way(&message, facts);
                    let ran = program::run(task).await;
                    session.no_longer_under_way();
                    found(command.name(), &ran, limit)
                }
            },
        };
        let attempt = Attempt { now: now(), ..attempt };
        attempt.record(&mut session.permit.drawn[at], found.outcome(), &mut told);
        session.hand_over(&message, told).await;
    }
}

/// What came of a recipient.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    verdict: Verdict,
    status: EnhancedStatus,
    diag_type: DiagType,
    text: String,
    category: &'static str,
    in_doubt: bool,
}

impl Found {
    fn own(verdict: Verdict, status: EnhancedStatus, text: impl Into<String>) -> Found {
        Found { verdict, status, diag_type: DiagType::Own, text: text.into(), category: "", in_doubt: false }
    }

    fn outcome(&self) -> Outcome<'_> {
        let local = Outcome::local(self.verdict, self.status, &self.text, Stage::Eod, self.category);
        Outcome { diag_type: self.diag_type, in_doubt: self.in_doubt, ..local }
    }
}

/// The arguments of one run.
fn arguments(command: &Command, of: &Delivery<'_>) -> Result<Vec<String>, Found> {
    let mut arguments = Vec::with_capacity(command.arguments.len());
    let mut options_over = false;
    for template in &command.arguments {
        let argument = of.expand(template, harmless);
        let mut parts = template.parts().iter();
        let first = parts.find(|part| !matches!(part, Part::Macro(m) if of.value(*m).is_empty()));
        if let (Some(Part::Macro(by)), true, false) = (first, argument.starts_with('-'), options_over) {
            // RFC 3463: what is wrong with the recipient's address, with the sender's, with an argument.
            let code = match by {
                DeliveryMacro::From => status(5, 1, 7),
                DeliveryMacro::To | DeliveryMacro::User | DeliveryMacro::Domain => status(5, 1, 3),
                _ => status(5, 5, 4),
            };
            let text = format!("{} would take ${} for an option: it begins with -", command.name(), by.name());
            return Err(Found { category: "policy-related", ..Found::own(Verdict::Bounced, code, text) });
        }
        options_over |= !template.has_macros() && argument == "--";
        arguments.push(argument);
    }
    Ok(arguments)
}

/// What comes from outside as a part of an argument.
fn harmless(value: &str) -> String {
    value.replace(char::is_control, "_")
}

/// What a run of a program means for the recipient.
fn found(program: &str, ran: &Ran, limit: Duration) -> Found {
    let said = said(&ran.output);
    let and = |what: String| if said.is_empty() { what } else { format!("{what}: {said}") };
    let unix = |verdict, status, what: String, in_doubt| Found {
        diag_type: DiagType::Unix,
        in_doubt,
        ..Found::own(verdict, status, and(what))
    };
    let again = |status, text: String, in_doubt| Found { in_doubt, ..Found::own(Verdict::Deferred, status, text) };
    match &ran.end {
        End::Exit(exit) => {
            let Meaning { name, verdict, status, .. } = Meaning::of(*exit);
            let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
            unix(verdict, status, format!("exit status {exit}{name}"), false)
        }
        End::Signal(signal) => unix(Verdict::Deferred, status(4, 3, 0), format!("ended by signal {signal}"), true),
        End::TimedOut => {
            let text = format!("{program} did not end within {} s and was killed", limit.as_secs());
            again(status(4, 3, 0), and(text), true)
        }
        End::NotStarted(error) => {
            let code = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => status(4, 3, 5),
                _ => status(4, 3, 0),
            };
            again(code, format!("{program} can't be started: {error}"), false)
        }
        End::Unknown(error) => again(status(4, 3, 0), and(format!("how {program} ended is not known: {error}")), true),
    }
}

/// Output on one line: runs of blanks, ends of lines and control characters are one blank.
fn said(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    // Bytes that are no UTF-8 take three each as the sign for it.
    let from = line.ceil_char_boundary(line.len().saturating_sub(KEPT_OUTPUT));
    let cut = if output.len() >= KEPT_OUTPUT || from > 0 { "..." } else { "" };
    format!("{cut}{}", &line[from..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::macros::tests::message;
    use crate::event::Time;
    use proptest::prelude::*;

    fn arguments_of(command: &str, to: &str, from: &str) -> Result<Vec<String>, Found> {
        let mut message = message(to, "");
        message.envelope.orig = from.into();
        let now = Time::from_secs(1_700_000_000);
        let of = Delivery { envelope: &message.envelope, to, now, preserve_case: false };
        arguments(&Command::parse(command).unwrap(), &of)
    }

    #[test]
    fn what_a_mail_brings_stays_in_its_argument() {
        let hostile = "\"a b\" 'c' $from;`rm`\n|x@there.example";
        let arguments = arguments_of("/bin/x -t $to \"<$to>\" '' \"$from\"", hostile, "").unwrap();
        let cleaned = "\"a b\" 'c' $from;`rm`_|x@there.example";
        assert_eq!(arguments, ["-t", cleaned, &format!("<{cleaned}>"), "", ""]);
    }

    #[test]
    fn no_address_becomes_an_option() {
        let refused = |command, to, from| {
            let found = arguments_of(command, to, from).unwrap_err();
            assert_eq!((found.verdict, found.category), (Verdict::Bounced, "policy-related"));
            found.status.to_string()
        };
        assert_eq!(refused("/bin/x $to", "-rf@b.example", "a@b.example"), "5.1.3");
        assert_eq!(refused("/bin/x $from$user", "-rf@b.example", ""), "5.1.3");
        assert_eq!(refused("/bin/x $user $from", "a@b.example", "-f@b.example"), "5.1.7");
        assert!(arguments_of("/bin/x --to=$to -f$from -- $to", "-rf@b.example", "-x@y.example").is_ok());
        assert!(arguments_of("/bin/x -$user", "rf@b.example", "").is_ok());
        assert!(refused("/bin/x $envid-- $to", "-a@b.example", "").starts_with("5.1.3"), "only -- itself ends options");
    }

    #[test]
    fn a_run_means_what_its_end_says_and_what_was_said_is_one_bounded_line() {
        let minute = Duration::from_secs(60);
        let of = |end, output: &[u8]| found("store", &Ran { end, output: output.to_vec() }, minute);
        let told = |found: Found| (found.verdict, found.status.to_string(), found.text, found.in_doubt);
        use Verdict::*;
        assert_eq!(told(of(End::Exit(0), b"")), (Delivered, "2.0.0".into(), "exit status 0 (EX_OK)".into(), false));
        assert_eq!(
            told(of(End::Exit(67), b"no such\r\n\tuser\x07!\n")),
            (Bounced, "5.1.1".into(), "exit status 67 (EX_NOUSER): no such user !".into(), false)
        );
        assert_eq!(told(of(End::Exit(1), b"")), (Deferred, "4.3.0".into(), "exit status 1".into(), false));
        assert_eq!(of(End::Exit(1), b"").diag_type, DiagType::Unix);
        assert_eq!(told(of(End::Signal(9), b"")), (Deferred, "4.3.0".into(), "ended by signal 9".into(), true));
        let late = told(of(End::TimedOut, b"x"));
        assert_eq!(late, (Deferred, "4.3.0".into(), "store did not end within 60 s and was killed: x".into(), true));
        let missing = told(of(End::NotStarted(io::ErrorKind::NotFound.into()), b""));
        assert_eq!((missing.0, missing.1.as_str(), missing.3), (Deferred, "4.3.5", false));
        let long = of(End::Exit(70), &[0xff; KEPT_OUTPUT]).text;
        assert!(long.len() < KEPT_OUTPUT + 60 && long.contains(": ...\u{fffd}"), "{long}");
    }

    proptest! {
        #[test]
        fn no_address_changes_the_number_of_arguments(to in "\\PC{0,40}", from in "\\PC{0,40}") {
            if let Ok(arguments) = arguments_of("/bin/x a $to \"b $from $user\" $domain", &to, &from) {
                prop_assert_eq!(arguments.len(), 4);
                prop_assert!(arguments.iter().all(|a| !a.contains(char::is_control)));
            }
        }

        #[test]
        fn no_output_makes_a_line_that_is_long_or_has_control_characters(output in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let line = said(&output);
            prop_assert!(line.len() <= KEPT_OUTPUT + 3 && !line.contains(char::is_control));
        }
    }
}
