//! What mail systems say in the text of a bounce or a delay notice, in many languages. All lower-case; each counts
//! anywhere in what it is looked for in.

/// How a report begins that says so nowhere in its header, lower-cased.
pub(in crate::report) const OPENINGS: &[&str] = &[
    "could not be delivered",
    "couldn't be delivered",
    "could not deliver",
    "cannot be delivered",
    "can not be delivered",
    "was not delivered",
    "were not delivered",
    "has not been delivered",
    "wasn't delivered",
    "unable to deliver",
    "not able to deliver",
    "failed to deliver",
    "delivery failed",
    "delivery has failed",
    "delivery to the following",
    "did not reach",
    "undeliverable",
    "undelivered",
    "failed recipient",
    "failed address",
    "non-delivery report",
    "has been returned",
    "is being returned",
    "was rejected by",
    "blocked by our",
    "delivery of email",
    "konnte nicht zugestellt",
    "nicht zugestellt werden",
    "unzustellbar",
    "pas pu être",
    "pas pu etre",
    "n'a pas été remis",
    "no se ha podido entregar",
    "no pudo ser entregado",
    "no se pudo entregar",
    "non è stato possibile",
    "impossibile recapitare",
    "não pôde ser entregue",
    "nao pode ser",
    "não foi entregue",
    "kon niet worden bezorgd",
    "niet worden afgeleverd",
    "nie można dostarczyć",
    "nie została dostarczona",
    "kunde inte levereras",
    "kunne ikke leveres",
    "не доставлен",
    "не может быть доставлен",
    "配信できません",
    "送信できません",
    "届けられ",
    "无法投递",
    "退信",
    "未能投递",
];

/// Words for what a mail system delivers: what says nothing of it may be about a parcel.
pub(super) const MAIL_WORDS: &[&str] = &[
    "mail",
    "message",
    "recipient",
    "smtp",
    "courriel",
    "nachricht",
    "mensaje",
    "messagg",
    "mensagem",
    "bericht",
    "wiadomo",
    "meddel",
    "zpráv",
    "viesti",
    "üzenet",
    "ileti",
    "письм",
    "сообщени",
    "メール",
    "メッセージ",
    "邮件",
    "郵件",
    "退信",
    "메일",
    "메시지",
];

/// What mail programs write above a mail that is passed on.
pub(super) const FORWARDS: &[&str] = &[
    "forwarded message",
    "forwarded by",
    "original message",
    "weitergeleitete nachricht",
    "ursprüngliche nachricht",
    "message transféré",
    "message d'origine",
    "mensaje reenviado",
    "messaggio inoltrato",
    "mensagem encaminhada",
    "doorgestuurd bericht",
    "пересылаемое сообщение",
    "转发邮件",
];

/// Words that say somebody gave up, lower-cased.
pub(in crate::report) const GAVE_UP: &[&str] = &[
    "giving up",
    "gave up",
    "permanent",
    "fatal error",
    "could not be delivered",
    "couldn't be delivered",
    "not be delivered to",
    "unable to deliver",
    "undeliverable",
    "not delivered",
    "user unknown",
    "unknown user",
    "no such user",
    "has been returned",
    "is being returned",
    "returned to sender",
    "was rejected",
    "rejected your message",
    "delivery to the following",
    "can't be delivered",
    "cannot be delivered",
    "did not reach",
    "failed",
];

/// Words that say nobody tries again, lower-cased; what else says that somebody failed is said of delays as well.
pub(in crate::report) const FOR_GOOD: &[&str] = &[
    "giving up",
    "given up",
    "gave up",
    "permanent error",
    "permanent failure",
    "permanent fatal",
    "failed permanently",
    "fatal error",
    "returned to sender",
    "has been returned",
    "is being returned",
    "no further",
    "not going to try",
    "will not be retried",
    "will be deleted",
];

/// Words that say somebody would not have the mail, lower-cased: a warning with them is none that it is late.
pub(in crate::report) const REFUSED: &[&str] = &[
    "quarantined",
    "virus",
    "was blocked",
    "been blocked",
    "was deleted",
    "been deleted",
    "was rejected",
    "been rejected",
];

/// Words that say somebody is still trying, lower-cased.
pub(in crate::report) const STILL_TRYING: &[&str] = &[
    "will continue to try",
    "will continue trying",
    "will be retried",
    "still being retried",
    "do not need to resend",
    "warning message only",
    "keep trying",
    "will try again",
    "has not been delivered yet",
    "not yet been delivered",
    "has been delayed",
    "will retry",
    "no action is required",
    "not been able to deliver your message yet",
    "continue to be made",
    "attempts will continue",
    "is still awaiting delivery",
    "only a temporary failure",
    "do not need to re-send",
    "do not need to send it again",
    "has been postponed",
    "additional attempts will be made",
];

#[cfg(test)]
mod tests {
    use super::super::super::words::{ANYWHERE, idle};
    use super::*;

    #[test]
    fn every_phrase_counts() {
        for list in [OPENINGS, MAIL_WORDS, FORWARDS, GAVE_UP, FOR_GOOD, REFUSED, STILL_TRYING] {
            assert_eq!(idle(list, ANYWHERE), [""; 0]);
        }
    }
}
