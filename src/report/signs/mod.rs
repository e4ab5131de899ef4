//! Signs in a mail's header that a program wrote it about another mail: what allows its text to be read as a report.

mod absences;
mod subjects;

use super::bounds::MAX_ABSENCE;
use super::fields::Fields;
use super::mime::Mail;

use absences::ABSENCES;
use subjects::SUBJECTS;

/// What the header gives away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// From an address that only programs write from: MAILER-DAEMON and the like.
    pub(super) machine: bool,
    /// From a mail system: one of those, or postmaster and its kin, which people write from too.
    pub(super) daemon: bool,
    /// Null return path (RFC 5321, 4.5.5).
    pub(super) null_sender: bool,
    /// The subject speaks of a mail that was not delivered.
    pub(super) subject_bounce: bool,
    /// The subject speaks of a delay or a warning.
    pub(super) subject_delay: bool,
    /// Somebody answered or passed on a mail: `Re:`, `Fwd:` in front.
    pub(super) answered: bool,
    /// It answers a mail (`In-Reply-To`, `References`), or comes from a list.
    pub(super) in_thread: bool,
    /// It says that it is a report (`multipart/report`, `X-Failed-Recipients`).
    pub(super) declared: bool,
    /// An automatic answer: vacation notice, "we got your mail" (RFC 3834).
    pub(super) auto_reply: bool,
}

impl Signs {
    /// Reads them; `null_sender` when the envelope sender was null.
    pub(super) fn of(mail: &Mail<'_>, null_sender: bool) -> Signs {
        let header = &mail.header;
        let subject = mail.lower_subject().trim();
        let from = mail.lower_from();
        let says = SUBJECTS.words.look(subject);
        let report = mail.media == "multipart/report";
        Signs {
            daemon: is_daemon(from),
            machine: is_machine(from),
            null_sender: null_sender || header.all("return-path").any(|v| v.trim() == "<>"),
            // Who is away answers to a bounce as well.
            subject_bounce: says.any(SUBJECTS.bounce.clone()) && !is_answer(subject),
            // Old mail systems return mail under the reason for which it was delayed.
            subject_delay: says.any(SUBJECTS.delay.clone()) && !subject.contains("returned mail"),
            answered: ["re:", "fw:", "fwd:", "aw:", "wg:", "tr:"].iter().any(|p| subject.starts_with(p)),
            // Some mail systems return mail under the List-Id of the list that it was for.
            in_thread: ["in-reply-to", "references", "list-unsubscribe", "list-post"]
                .iter()
                .any(|n| header.first(n).is_some())
                || header.any(&["precedence"]).eq_ignore_ascii_case("list"),
            declared: report
                && !matches!(mail.report_type.as_str(), "disposition-notification" | "tlsrpt" | "feedback-report")
                || header.first("x-failed-recipients").is_some(),
            auto_reply: is_auto_reply(header, subject)
                || report && mail.report_type == "disposition-notification"
                || mail.part(&["message/disposition-notification"]).is_some(),
        }
    }

    /// Enough to read the mail's text as a bounce.
    pub(super) fn of_a_bounce(self) -> bool {
        let votes =
            [self.daemon, self.machine, self.null_sender, self.subject_bounce, self.declared, self.subject_delay];
        (self.machine || !self.answered) && votes.into_iter().filter(|v| *v).count() >= 2 && self.of_a_program()
    }

    /// From postmaster and its kin, and nothing but the subject says that no person wrote it.
    pub(super) fn of_a_person_too(self) -> bool {
        self.daemon && !(self.machine || self.null_sender || self.declared)
    }

    /// The subject speaks of a failure or a delay, and no person answers to one.
    pub(super) fn subject_of_failure(self) -> bool {
        (self.subject_bounce || self.subject_delay) && !self.in_thread
    }

    /// Any sign of a report at all: otherwise the text need not be looked at.
    pub(super) fn any(self) -> bool {
        self.daemon || self.machine || self.null_sender || self.subject_bounce || self.declared || self.subject_delay
    }

    /// A program says that somebody is away or has left, or that a mail arrived.
    pub(super) fn speaks_of_absence(self, mail: &Mail<'_>) -> bool {
        let header = |name: &str| mail.header.any(&[name]).to_ascii_lowercase();
        let in_answer = self.answered || mail.header.first("in-reply-to").is_some();
        let automatic = || !matches!(header("auto-submitted").as_str(), "" | "no");
        let bulk = || matches!(header("precedence").as_str(), "bulk" | "junk");
        // It wants no automatic answer to itself.
        let alone = || mail.header.first("x-auto-response-suppress").is_some();
        // One of them is said by newsletters and notices of all kinds as well.
        let by_program = self.null_sender
            || [in_answer, bulk(), automatic(), alone()].iter().filter(|s| **s).count() >= 2
                && mail.header.first("list-unsubscribe").is_none();
        if self.machine || !by_program {
            return false;
        }
        let text = mail.text();
        let opening = text[..text.floor_char_boundary(MAX_ABSENCE)].to_lowercase();
        ABSENCES.iter().any(|w| opening.contains(w) || mail.lower_subject().contains(w))
    }

    /// A program wrote it, and nobody passed it on.
    pub(super) fn of_a_program(self) -> bool {
        self.daemon || self.null_sender || self.declared
    }
}

/// Local parts that no person writes from; the beginning counts.
const MACHINES: &[&str] = &[
    "mailer-daemon",
    "mailerdaemon",
    "mail-daemon",
    "maildaemon",
    "mdaemon",
    "mail.delivery.system",
    "mailer_daemon",
    "microsoftexchange",
    "bounce-notification",
    "mail-delivery",
];

/// Names that stand for the sender when the address does not tell.
const DAEMON_NAMES: &[&str] = &[
    "mail delivery",
    "mailer-daemon",
    "mail administrator",
    "system administrator",
    "delivery subsystem",
    "postmaster",
    "post_master",
];

fn is_daemon(from: &str) -> bool {
    is_machine(from) || DAEMON_NAMES.iter().any(|n| from.contains(n))
}

fn is_machine(from: &str) -> bool {
    let local = super::values::mailbox(from).split('@').next().unwrap_or("");
    MACHINES.iter().any(|d| local.starts_with(d))
}

/// Whether a subject begins as that of an automatic answer.
fn is_answer(subject: &str) -> bool {
    SUBJECTS.words.look_where(subject, |at| at == 0).any(SUBJECTS.auto_reply.clone())
}

fn is_auto_reply(header: &Fields, subject: &str) -> bool {
    let is =
        |name: &str, test: &dyn Fn(&str) -> bool| header.first(name).is_some_and(|v| test(&v.to_ascii_lowercase()));
    let yes = |v: &str| !v.is_empty() && v != "no";
    is("auto-submitted", &|v| v.starts_with("auto-replied") || v.starts_with("auto-notified"))
        || [
            "x-autoreply",
            "x-autorespond",
            "x-autoresponse",
            "x-autogenerated-reply",
            "x-mail-autoreply",
            "x-autoreply-from",
            "x-autoresponder",
        ]
        .iter()
        .any(|n| is(n, &yes))
        || is("precedence", &|v| matches!(v, "auto_reply" | "auto-reply"))
        || is("x-precedence", &|v| matches!(v, "auto_reply" | "auto-reply"))
        || is("x-apple-action", &|v| v == "vacation")
        || is_answer(subject)
}

#[cfg(test)]
mod tests {
    use super::super::words::{ANYWHERE, AT_THE_BEGINNING, idle};
    use super::*;

    #[test]
    fn every_name_of_a_program_and_every_word_of_absence_counts() {
        assert_eq!(idle(MACHINES, AT_THE_BEGINNING), [""; 0]);
        assert_eq!(idle(DAEMON_NAMES, ANYWHERE), [""; 0]);
        assert_eq!(idle(ABSENCES, ANYWHERE), [""; 0]);
    }
}
