//! Signs in a mail's header that a program wrote it about another mail: what allows its text to be read as a report.

use std::ops::Range;
use std::sync::LazyLock;

use super::fields::Fields;
use super::mime::Mail;
use super::words::Words;

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
    /// It answers a mail (`In-Reply-To`, `References`), or is one that can be unsubscribed from.
    pub(super) in_thread: bool,
    /// It says that it is a report (`multipart/report`, `X-Failed-Recipients`).
    pub(super) declared: bool,
    /// An automatic answer: vacation notice, "we got your mail" (RFC 3834).
    pub(super) auto_reply: bool,
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
    "mail-delivery-system",
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

/// Subjects of bounces, lower-cased; anywhere in the subject.
const BOUNCE_SUBJECTS: &[&str] = &[
    "undeliver",
    "returned mail",
    "failure notice",
    "delivery failure",
    "delivery has failed",
    "mail delivery fail",
    "delivery status notification",
    "delivery notification",
    "delivery status",
    "mail delivery",
    "mail failure",
    "mail system error",
    "non-delivery",
    "nondeliverable",
    "could not be delivered",
    "returning message to sender",
    "returned to sender",
    "message delivery failure",
    "delivery report",
    "permanent delivery failure",
    "unable to deliver",
    "not delivered",
    "undelivered",
    "unzustellbar",
    "non remis",
    "no se pudo entregar",
    "delivery failed",
    "user unknown",
    "mail error",
    "message status",
    "rejected mail",
    "bounced",
    "delivery error",
    "failed delivery",
    "failed mail",
    "email error",
    "warning: could not send message",
    "not deliverable",
    "notification d'\u{e9}tat de remise",
    "mail not delivered",
    "returning to sender",
    "mail failed",
    "message returned",
    "returned message",
    "mail couldn't be delivered",
    "[bounce]",
    "couldn't be delivered",
    "cannot be delivered",
    "mail not sent",
    "mail could not",
    "message could not",
    "error sending your mail",
    "failed to deliver",
    "blocked by our",
    "message blocked",
    "mail blocked",
    "blocked message",
    "message quarantined",
    "mail quarantined",
    "message rejected",
    "mail rejected",
    "virus found in",
    "virus detected",
    "virus in mail",
    "virus in your",
    "infected message",
    "banned attachment",
    "blocked attachment",
    "rejected:",
    "delivery problem",
    "zustellungsfehler",
    "zustellfehler",
    "address not found",
    "recipient not found",
    "mailbox full",
    "mailbox is full",
    "mailbox unavailable",
    "processing error",
    "mail returned",
    "email returned",
    "e-mail returned",
    "nicht zugestellt",
    "zustellung fehlgeschlagen",
    "zustellung nicht m\u{f6}glich",
    "fehler bei der zustellung",
    "non distribu",
    "\u{e9}chec de la remise",
    "echec de la remise",
    "\u{e9}chec de remise",
    "no entregado",
    "error de entrega",
    "no se ha podido entregar",
    "mensaje devuelto",
    "mancato recapito",
    "non recapitabile",
    "impossibile recapitare",
    "messaggio non recapitato",
    "n\u{e3}o entregue",
    "falha na entrega",
    "mensagem devolvida",
    "onbestelbaar",
    "niet bezorgd",
    "niet afgeleverd",
    "nie dostarczono",
    "niedostarczon",
    "nie mo\u{17c}na dostarczy\u{107}",
    "ol\u{e4}ttbart",
    "kunde inte levereras",
    "kunne ikke leveres",
    "nedoru\u{10d}iteln",
    "k\u{e9}zbes\u{ed}thetetlen",
    "teslim edilemedi",
    "\u{43d}\u{435}\u{434}\u{43e}\u{441}\u{442}\u{430}\u{432}\u{43b}\u{435}\u{43d}",
    "\u{43d}\u{435} \u{434}\u{43e}\u{441}\u{442}\u{430}\u{432}\u{43b}\u{435}\u{43d}",
    "\u{43d}\u{435}\u{432}\u{43e}\u{437}\u{43c}\u{43e}\u{436}\u{43d}\u{43e} \u{434}\u{43e}\u{441}\u{442}\u{430}\u{432}\u{438}\u{442}\u{44c}",
    "\u{914d}\u{4fe1}\u{3067}\u{304d}\u{307e}\u{305b}\u{3093}",
    "\u{914d}\u{4fe1}\u{4e0d}\u{80fd}",
    "\u{914d}\u{4fe1}\u{30a8}\u{30e9}\u{30fc}",
    "\u{9001}\u{4fe1}\u{30a8}\u{30e9}\u{30fc}",
    "\u{672a}\u{914d}\u{4fe1}",
    "\u{9000}\u{4fe1}",
    "\u{6295}\u{9012}\u{5931}\u{8d25}",
    "\u{65e0}\u{6cd5}\u{9001}\u{8fbe}",
    "\u{65e0}\u{6cd5}\u{6295}\u{9012}",
    "\u{672a}\u{9001}\u{8fbe}",
    "\u{672a}\u{4f20}\u{9012}",
    "\u{c804}\u{b2ec}\u{b418}\u{c9c0} \u{c54a}",
    "\u{bc30}\u{b2ec} \u{c2e4}\u{d328}",
];

/// Subjects of delay notices, lower-cased.
const DELAY_SUBJECTS: &[&str] = &[
    "delay",
    "warning",
    "still being retried",
    "retrying",
    "deferred",
    "not yet",
    "verz\u{f6}ger",
    "retard\u{e9}",
    "retrasad",
    "ritardat",
    "vertraagd",
    "op\u{f3}\u{17a}nion",
    "\u{437}\u{430}\u{434}\u{435}\u{440}\u{436}",
    "\u{9045}\u{5ef6}",
    "\u{5ef6}\u{8fdf}",
];

/// Subjects that an automatic answer begins with, lower-cased.
const AUTO_REPLY_SUBJECTS: &[&str] = &[
    "automatic reply",
    "auto reply",
    "auto-reply",
    "autoreply",
    "auto response",
    "auto-response",
    "autoresponse",
    "out of office",
    "out of the office",
    "automatische antwort",
    "abwesenheit",
    "r\u{e9}ponse automatique",
    "respuesta autom\u{e1}tica",
    "risposta automatica",
    "auto:",
    "vacation",
    "away from",
    "i am away",
    "on vacation",
    "automatisch antwoord",
    "autosvar",
    "resposta autom\u{e1}tica",
    "\u{81ea}\u{52d5}\u{5fdc}\u{7b54}",
    "\u{81ea}\u{52a8}\u{56de}\u{590d}",
    "\u{81ea}\u{52d5}\u{8fd4}\u{4fe1}",
    "\u{81ea}\u{52d5}\u{56de}\u{8986}",
    "\u{4e0d}\u{5728}",
    "automatic response",
    "automated reply",
    "automated response",
    "autoresponder",
    "auto :",
    "ooo:",
    "ooo re:",
    "away:",
    "on leave",
    "maternity leave",
    "no longer with",
    "no longer at",
    "automatische abwesenheit",
    "automatische r\u{fc}ckantwort",
    "nicht im b\u{fc}ro",
    "absence",
    "absent",
    "message d'absence",
    "r\u{e9}ponse auto",
    "fuera de la oficina",
    "fuera de oficina",
    "contestaci\u{f3}n autom\u{e1}tica",
    "fuori ufficio",
    "fuori sede",
    "fora do escrit\u{f3}rio",
    "aus\u{ea}ncia",
    "afwezig",
    "automatisch bericht",
    "automatyczna odpowied\u{17a}",
    "odpowied\u{17a} automatyczna",
    "poza biurem",
    "automatick\u{e1} odpov\u{11b}\u{10f}",
    "automaattinen vastaus",
    "automatiskt svar",
    "automatisk svar",
    "autosvar:",
    "otomatik yan\u{131}t",
    "\u{430}\u{432}\u{442}\u{43e}\u{43e}\u{442}\u{432}\u{435}\u{442}",
    "\u{430}\u{432}\u{442}\u{43e}\u{43c}\u{430}\u{442}\u{438}\u{447}\u{435}\u{441}\u{43a}\u{438}\u{439} \u{43e}\u{442}\u{432}\u{435}\u{442}",
    "\u{c790}\u{b3d9} \u{c751}\u{b2f5}",
    "\u{c790}\u{b3d9}\u{c751}\u{b2f5}",
    "assenza",
    "fr\u{e5}nvaro",
    "fr\u{e5}nvarande",
    "frav\u{e6}r",
    "ikke p\u{e5} kontoret",
    "ofis d\u{131}\u{15f}\u{131}nda",
    "poissa",
    "mimo kancel\u{e1}\u{159}",
    "h\u{e1}zon k\u{ed}v\u{fc}l",
    "\u{3b5}\u{3ba}\u{3c4}\u{3cc}\u{3c2} \u{3b3}\u{3c1}\u{3b1}\u{3c6}\u{3b5}\u{3af}\u{3bf}\u{3c5}",
    "\u{bd80}\u{c7ac}\u{c911}",
    "\u{432}\u{43d}\u{435} \u{43e}\u{444}\u{438}\u{441}\u{430}",
    "\u{43d}\u{435} \u{432} \u{43e}\u{444}\u{438}\u{441}\u{435}",
    "\u{430}\u{432}\u{442}\u{43e}\u{432}\u{456}\u{434}\u{43f}\u{43e}\u{432}\u{456}\u{434}\u{44c}",
    "r\u{103}spuns automat",
    "nieobecno\u{15b}\u{107}",
    "out of office:",
    // Challenge and response.
    "please confirm your message",
    "your message awaits confirmation",
    "sender verification",
    "confirm your message to",
];

/// How a text begins that says somebody is away or has left, lower-cased: it counts in mail with the null return path or
/// the precedence of bulk mail, or that says a program sent it, since people write so as well.
const ABSENCES: &[&str] = &[
    "out of the office",
    "out of office",
    "on vacation",
    "on holiday",
    "on leave",
    "parental leave",
    "limited access to",
    "away from my",
    "currently away",
    "no longer with",
    "no longer work",
    "no longer employed",
    "no longer at",
    "left the company",
    "nicht im b\u{fc}ro",
    "nicht mehr im unternehmen",
    "nicht mehr f\u{fc}r",
    "im urlaub",
    "abwesend",
    "absent",
    "en vacances",
    "cong\u{e9}",
    "ne fait plus partie",
    "fuera de la oficina",
    "de vacaciones",
    "ya no trabaja",
    "fuori ufficio",
    "in ferie",
    "non lavora pi\u{f9}",
    "fora do escrit\u{f3}rio",
    "de f\u{e9}rias",
    "n\u{e3}o trabalha mais",
    "afwezig",
    "op vakantie",
    "niet meer werkzaam",
    "nieobecn",
    "na urlopie",
    "nie pracuje",
    "\u{432} \u{43e}\u{442}\u{43f}\u{443}\u{441}\u{43a}\u{435}",
    "\u{431}\u{43e}\u{43b}\u{44c}\u{448}\u{435} \u{43d}\u{435} \u{440}\u{430}\u{431}\u{43e}\u{442}\u{430}\u{435}\u{442}",
    "\u{4f11}\u{6687}",
    "\u{9000}\u{8077}",
    "\u{4e0d}\u{5728}\u{529e}\u{516c}",
    "\u{5df2}\u{79bb}\u{804c}",
    "nicht erreichbar",
    "nicht mehr bei",
    "vielen dank f\u{fc}r ihre nachricht",
    "vielen dank f\u{fc}r ihre e-mail",
    "vielen dank f\u{fc}r ihre mail",
    "merci pour votre message",
    "merci de votre message",
    "n'est plus dans",
    "a quitt\u{e9} la soci\u{e9}t\u{e9}",
    "gracias por su mensaje",
    "gracias por su correo",
    "no estar\u{e9} disponible",
    "grazie per il suo messaggio",
    "grazie per la sua",
    "sono assente",
    "assente",
    "obrigado pela sua mensagem",
    "ausente",
    "bedankt voor uw",
    "har ferie",
    "holder ferie",
    "har semester",
    "har sluttet",
    "har slutat",
    "ute av kontoret",
    "p\u{e5} semester",
    "p\u{e5} ferie",
    "ikke p\u{e5} kontoret",
    "fr\u{e5}nvar",
    "slutat p\u{e5}",
    "lomalla",
    "en ole tavoitettavissa",
    "na dovolen\u{e9}",
    "mimo kancel\u{e1}\u{159}",
    "szabads\u{e1}gon",
    "izindeyim",
    "izinde olaca",
    "tatilde",
    "ofis d\u{131}\u{15f}\u{131}nda",
    "i\u{15f}ten ayr\u{131}l",
    "\u{443} \u{432}\u{456}\u{434}\u{43f}\u{443}\u{441}\u{442}\u{446}\u{456}",
    "\u{ee}n concediu",
    "\u{3b5}\u{3ba}\u{3c4}\u{3cc}\u{3c2} \u{3b3}\u{3c1}\u{3b1}\u{3c6}\u{3b5}\u{3af}\u{3bf}\u{3c5}",
    "\u{d734}\u{ac00}",
    "\u{bd80}\u{c7ac}\u{c911}",
    "\u{5916}\u{51fa}",
    "\u{9000}\u{793e}",
    "\u{51fa}\u{5dee}",
    "no longer works",
    "has left the",
    "has moved on",
    "thanks for your email",
    "thanks for your message",
    "thank you for your message",
    // Challenge and response.
    "waitlisted",
    "guest list",
    "from receiving junk",
    "link below so i can receive",
    "vous authentifier",
    "mailinblack",
    "prove you are human",
    "verify that you are a",
    "verify your email so",
    "confirm that you are",
    "approved senders",
    "not on my list of",
    "needs to be confirmed",
    "held until you",
    "we have received your",
    "we received your",
    "thank you for contacting",
    "thank you for your email",
];

/// All of these subjects in one set.
static SUBJECTS: LazyLock<Subjects> = LazyLock::new(|| {
    let (bounce, delay) = (BOUNCE_SUBJECTS.len(), BOUNCE_SUBJECTS.len() + DELAY_SUBJECTS.len());
    Subjects {
        words: Words::new(&[BOUNCE_SUBJECTS, DELAY_SUBJECTS, AUTO_REPLY_SUBJECTS].concat()),
        bounce: 0..bounce,
        delay: bounce..delay,
        auto_reply: delay..delay + AUTO_REPLY_SUBJECTS.len(),
    }
});

struct Subjects {
    words: Words,
    bounce: Range<usize>,
    delay: Range<usize>,
    auto_reply: Range<usize>,
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
            subject_bounce: says.any(SUBJECTS.bounce.clone()),
            // Old mail systems return mail under the reason for which it was delayed.
            subject_delay: says.any(SUBJECTS.delay.clone()) && !subject.contains("returned mail"),
            answered: ["re:", "fw:", "fwd:", "aw:", "wg:", "tr:"].iter().any(|p| subject.starts_with(p)),
            in_thread: ["in-reply-to", "references", "list-unsubscribe"].iter().any(|n| header.first(n).is_some()),
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
        // One of them is said by newsletters and notices of all kinds as well.
        let by_program = self.null_sender
            || [in_answer, bulk(), automatic()].iter().filter(|s| **s).count() >= 2
                && mail.header.first("list-unsubscribe").is_none();
        if self.machine || !by_program {
            return false;
        }
        let text = mail.text();
        let opening = text[..text.floor_char_boundary(600)].to_lowercase();
        ABSENCES.iter().any(|w| opening.contains(w) || mail.lower_subject().contains(w))
    }

    /// A program wrote it, and nobody passed it on.
    pub(super) fn of_a_program(self) -> bool {
        self.daemon || self.null_sender || self.declared
    }
}

fn is_daemon(from: &str) -> bool {
    is_machine(from) || DAEMON_NAMES.iter().any(|n| from.contains(n))
}

fn is_machine(from: &str) -> bool {
    let local = super::values::mailbox(from).split('@').next().unwrap_or("");
    MACHINES.iter().any(|d| local.starts_with(d))
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
        || SUBJECTS.words.look_where(subject, |at| at == 0).any(SUBJECTS.auto_reply.clone())
}
