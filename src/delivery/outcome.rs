//! What a failure means, by scope: THE failure policy. Pure.
//!
//! | what happens | scope | recipients | connection |
//! | --- | --- | --- | --- |
//! | DNS says for good that there is no way | queue | bounced | - |
//! | DNS gives no answer; no host can be reached | queue | stay, queue sleeps (`retry-after`), one `tq` | - |
//! | refused, timed out, 4yz or garbage before the session can send; STARTTLS required and not had | host | stay | next host |
//! | 5yz to greeting or EHLO/HELO | host | those of one transaction bounced; with `bounce-upon-5xx-greeting false` they stay | closed; next host |
//! | 421 at any command | session | deferred, those already refused keep their reply | closed |
//! | MAIL, DATA or final dot refused | message | 4yz deferred, 5yz bounced | goes on |
//! | RCPT refused | recipient | 4yz deferred, 5yz bounced; "too many recipients" while others were taken: next transaction | goes on |
//! | connection lost before the dot | message | deferred; on a connection that was used before, without any reply: as if not begun | closed |
//! | connection lost after the dot | message | deferred, the next attempt is in doubt | closed |
//! | message can't be read | message | bounced | goes on |
//! | the operator's patterns want it otherwise ([`super::steer`]) | as they say | deferred or bounced as they say | as they say |
//! | deferred, but older than `bounce-after` | recipient | bounced, `message-expired` | - |
//!
//! A recipient is never bounced for what only the connection or DNS failed to do.

use std::time::Duration;

use crate::event::{EnhancedStatus, Reply, Stage};
use crate::smtp::client::TransactionResult;

/// What becomes of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server has taken the message for it.
    Delivered,
    /// Refused for good.
    Bounced,
    /// To be tried again later.
    Deferred,
    /// Not tried: to be drawn again.
    Again,
}

/// Whose words a diagnostic is (RFC 3464, 2.3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiagType {
    /// A reply of the remote host: `smtp`.
    Smtp,
    /// A program's exit status and what it said: `x-unix`.
    Unix,
    /// Our own.
    Own,
}

impl DiagType {
    /// What goes before the text in `dsnDiag`.
    pub const fn prefix(self) -> &'static str {
        match self {
            DiagType::Smtp => "smtp;",
            DiagType::Unix => "x-unix;",
            DiagType::Own => "",
        }
    }
}

/// A recipient's outcome, with the reasons for its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<'r> {
    /// What becomes of it.
    pub verdict: Verdict,
    /// `dsnStatus`.
    pub status: EnhancedStatus,
    /// The reply, or what else is known.
    pub text: &'r str,
    /// Whose words `text` is.
    pub diag_type: DiagType,
    /// How far the dialogue had come.
    pub stage: Stage,
    /// Category, where it is certain without the reply; else empty.
    pub category: &'static str,
    /// The server may have taken the message without our hearing of it.
    pub in_doubt: bool,
    /// How long a deferred recipient waits; `None` is `retry-recipients-after`.
    pub wait: Option<Duration>,
}

/// An enhanced status that is known to be valid.
pub const fn status(class: u8, subject: u16, detail: u16) -> EnhancedStatus {
    EnhancedStatus { class, subject, detail }
}

/// The time to deliver is over (RFC 3463, 4.4.7).
pub const EXPIRED: EnhancedStatus = status(4, 4, 7);
/// Connection lost (RFC 3463, 4.4.2).
pub const CONNECTION_LOST: EnhancedStatus = status(4, 4, 2);

impl<'r> Outcome<'r> {
    /// Something found out without a reply.
    pub fn local(
        verdict: Verdict,
        status: EnhancedStatus,
        text: &'r str,
        stage: Stage,
        category: &'static str,
    ) -> Self {
        Outcome { verdict, status, text, diag_type: DiagType::Own, stage, category, in_doubt: false, wait: None }
    }

    /// A refusal; what is neither 4yz nor 5yz has no business there and is a temporary failure.
    pub fn refused(reply: &'r Reply, stage: Stage) -> Outcome<'r> {
        let permanent = reply.is_permanent();
        let status = match reply.status_or_basic() {
            s if s.class == if permanent { 5 } else { 4 } => s,
            _ => status(4, 5, 0),
        };
        Outcome {
            verdict: if permanent { Verdict::Bounced } else { Verdict::Deferred },
            status,
            text: &reply.text,
            diag_type: DiagType::Smtp,
            stage,
            category: "",
            in_doubt: false,
            wait: None,
        }
    }

    /// A refusal of RCPT.
    fn rcpt_refused(reply: &'r Reply, others_taken: bool) -> Outcome<'r> {
        let mut outcome = Outcome::refused(reply, Stage::Rcpt);
        if is_too_many(reply) {
            // RFC 5321, 4.5.3.1.10: 552 is to be read as 452; the others are sent in another transaction.
            outcome.verdict = if others_taken { Verdict::Again } else { Verdict::Deferred };
            outcome.status = status(4, 5, 3);
        } else if reply.code == 553 && reply.status.is_none() {
            // Bare 553 is "mailbox name not allowed" (RFC 5321, 4.2.3): smtp-553-means-invalid-mailbox.
            outcome.status = status(5, 1, 1);
        }
        outcome
    }
}

fn is_too_many(reply: &Reply) -> bool {
    matches!(reply.code, 452 | 552)
        && match reply.status {
            Some(s) => (s.subject, s.detail) == (5, 3),
            None => reply.text.to_ascii_lowercase().contains("too many recipients"),
        }
}

/// The outcome of recipient `n` of a transaction. `lost` says why the connection is gone, if it is; `reused` that the
/// connection had carried a transaction before.
pub fn of_recipient<'r>(result: &'r TransactionResult, n: usize, lost: Option<&'r str>, reused: bool) -> Outcome<'r> {
    if let Some(mail) = &result.mail {
        return Outcome::refused(mail, Stage::Mail);
    }
    let rcpt = result.rcpts.get(n).and_then(Option::as_ref);
    if let Some(Err(reply)) = rcpt {
        let others_taken = result.rcpts.iter().any(|r| matches!(r, Some(Ok(()))));
        return Outcome::rcpt_refused(reply, others_taken && result.closing.is_none() && lost.is_none());
    }
    let stage = result.stage.unwrap_or(Stage::Mail);
    match (&result.end, &result.data) {
        (Some(end), _) if end.is_positive() => Outcome {
            verdict: Verdict::Delivered,
            status: end.status_or_basic(),
            text: &end.text,
            diag_type: DiagType::Smtp,
            stage: Stage::Eod,
            category: "",
            in_doubt: false,
            wait: None,
        },
        (Some(end), _) => Outcome::refused(end, Stage::Eod),
        (None, Some(data)) => Outcome::refused(data, Stage::Data),
        (None, None) => {
            if let Some(closing) = &result.closing {
                return Outcome::refused(closing, stage);
            }
            let text = lost.unwrap_or("the session ended before an answer came");
            let untouched = reused && !result.answered && !result.dot_sent;
            let verdict = if untouched { Verdict::Again } else { Verdict::Deferred };
            Outcome { in_doubt: result.dot_sent, ..Outcome::local(verdict, CONNECTION_LOST, text, stage, "") }
        }
    }
}

/// What a refusal before the session could send means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpeningFailure {
    /// All recipients of the queue are bounced with the reply, as a pattern says.
    BounceAll,
    /// The recipients of one transaction are bounced with the reply.
    BounceOne,
    /// The next host is tried.
    NextHost,
}

/// The policy for a refused greeting or EHLO.
pub fn of_opening(reply: &Reply, bounce_upon_5xx_greeting: bool) -> OpeningFailure {
    if reply.is_permanent() && bounce_upon_5xx_greeting { OpeningFailure::BounceOne } else { OpeningFailure::NextHost }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply {
        Reply::parse(text).unwrap()
    }

    fn taken(n: usize) -> TransactionResult {
        TransactionResult {
            rcpts: vec![Some(Ok(())); n],
            answered: true,
            stage: Some(Stage::Eod),
            ..Default::default()
        }
    }

    fn brief(o: Outcome<'_>) -> (Verdict, String, Stage, bool) {
        (o.verdict, o.status.to_string(), o.stage, o.in_doubt)
    }

    #[test]
    fn each_command_s_refusal_defers_on_4yz_and_bounces_on_5yz() {
        use Stage::*;
        use Verdict::*;
        type Case = (&'static str, Stage, Verdict, &'static str);
        let cases: [Case; 13] = [
            ("450 4.2.1 x", Mail, Deferred, "4.2.1"),
            ("550 5.7.1 x", Mail, Bounced, "5.7.1"),
            ("450 x", Rcpt, Deferred, "4.0.0"),
            ("550 5.1.1 x", Rcpt, Bounced, "5.1.1"),
            ("553 x", Rcpt, Bounced, "5.1.1"),
            ("553 5.7.1 x", Rcpt, Bounced, "5.7.1"),
            ("552 5.2.2 mailbox full", Rcpt, Bounced, "5.2.2"),
            ("451 x", Data, Deferred, "4.0.0"),
            ("554 5.6.0 x", Data, Bounced, "5.6.0"),
            ("451 4.7.1 x", Eod, Deferred, "4.7.1"),
            ("554 5.7.1 x", Eod, Bounced, "5.7.1"),
            ("250 2.0.0 ok", Eod, Delivered, "2.0.0"),
            ("354 go on", Eod, Deferred, "4.5.0"),
        ];
        for (text, stage, verdict, status) in cases {
            let mut result = taken(1);
            let r = Some(reply(text));
            match stage {
                Mail => result.mail = r,
                Rcpt => result.rcpts = vec![r.map(Err)],
                Data => result.data = r,
                _ => result.end = r,
            }
            assert_eq!(brief(of_recipient(&result, 0, None, false)), (verdict, status.into(), stage, false), "{text}");
        }
    }

    #[test]
    fn too_many_recipients_is_no_refusal_while_others_are_taken() {
        for text in ["452 4.5.3 too many", "552 too many recipients", "452 Too many recipients"] {
            let mut result = taken(2);
            result.rcpts[1] = Some(Err(reply(text)));
            result.end = Some(reply("250 ok"));
            assert_eq!(of_recipient(&result, 0, None, false).verdict, Verdict::Delivered);
            assert_eq!(of_recipient(&result, 1, None, false).verdict, Verdict::Again, "{text}");
            result.rcpts[0] = Some(Err(reply(text)));
            assert_eq!(of_recipient(&result, 1, None, false).verdict, Verdict::Deferred, "{text}");
        }
        let mut full = taken(2);
        full.rcpts[1] = Some(Err(reply("452 4.2.2 mailbox full")));
        assert_eq!(of_recipient(&full, 1, None, false).verdict, Verdict::Deferred);
    }

    #[test]
    fn a_lost_connection_bounces_nobody() {
        let before = TransactionResult { rcpts: vec![None], stage: Some(Stage::Mail), ..Default::default() };
        let lost = Some("connection closed");
        assert_eq!(
            brief(of_recipient(&before, 0, lost, false)),
            (Verdict::Deferred, "4.4.2".into(), Stage::Mail, false)
        );
        assert_eq!(of_recipient(&before, 0, lost, true).verdict, Verdict::Again, "an idle connection was closed");
        let answered = TransactionResult { answered: true, ..before };
        assert_eq!(of_recipient(&answered, 0, lost, true).verdict, Verdict::Deferred);
        let after = TransactionResult { dot_sent: true, ..taken(1) };
        assert_eq!(brief(of_recipient(&after, 0, lost, true)), (Verdict::Deferred, "4.4.2".into(), Stage::Eod, true));
    }

    #[test]
    fn after_421_the_refused_keep_their_reply_and_the_rest_is_deferred() {
        let mut result = taken(3);
        result.rcpts = vec![Some(Ok(())), Some(Err(reply("550 5.1.1 no"))), None];
        result.closing = Some(reply("421 4.3.2 bye"));
        let verdicts: Vec<_> = (0..3).map(|n| of_recipient(&result, n, None, false).verdict).collect();
        assert_eq!(verdicts, [Verdict::Deferred, Verdict::Bounced, Verdict::Deferred]);
        assert_eq!(of_recipient(&result, 0, None, false).text, "421 4.3.2 bye");
    }

    #[test]
    fn a_greeting_bounces_only_for_good_and_only_where_told_so() {
        assert_eq!(of_opening(&reply("554 no"), true), OpeningFailure::BounceOne);
        assert_eq!(of_opening(&reply("554 no"), false), OpeningFailure::NextHost);
        assert_eq!(of_opening(&reply("421 busy"), true), OpeningFailure::NextHost);
    }
}
