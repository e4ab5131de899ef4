//! What other services export, as a table: how a format is known by its columns, and what its records mean.
//!
//! Column names are compared in lower case with nothing but letters and digits; JSON keys are columns. A record whose
//! reason is not permanent (a block, a soft bounce) is left out, and counted, unless it is asked for.

use super::table::Fields;
use super::{Options, Refusal, Row, time};
use crate::event::Time;

/// A format.
#[derive(Debug)]
pub struct Format {
    /// Its name; what stands before the first `-` is the service.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Columns that it must have.
    pub(super) required: &'static [&'static str],
    /// Of these at least one; none asked for when empty.
    pub(super) any: &'static [&'static str],
    /// Other columns that it may have; with any other it is not this format. Empty: whatever there is.
    pub(super) only: &'static [&'static str],
    /// The columns of a file without a header; empty when it always has one.
    pub(super) order: &'static [&'static str],
    read: fn(&Fields, &Options) -> Mapped,
}

/// What a record means.
#[derive(Debug)]
pub(super) enum Mapped {
    /// An entry, its subject not checked yet; and whether its time could not be read.
    Row(Box<Row>, bool),
    /// No permanent reason.
    Temporary(String),
    /// No reason to suppress anybody.
    Skipped(String),
    /// Not understood.
    Rejected(String),
}

/// All of them; of those that fit, the first is taken.
pub const FORMATS: &[Format] = &[
    Format {
        name: "carom",
        doc: "what carom suppress export --format csv or json writes",
        required: &["subject", "scope", "state"],
        any: &[],
        only: &[],
        order: &[],
        read: carom,
    },
    Format {
        name: "sendgrid-bounces",
        doc: "SendGrid, bounces: email, created, reason, status",
        required: &["email", "created", "reason", "status"],
        any: &[],
        only: &["sourceip"],
        order: &[],
        read: |f, o| {
            let status = f.of("status");
            if status.starts_with('4') && !o.temporary {
                return Mapped::Temporary(format!("status {status} is temporary"));
            }
            let reply = Some(f.of("reason")).filter(|r| !r.is_empty()).unwrap_or(status);
            row(f.of("email"), "hard", f.of("created"), reply, "bounce at SendGrid")
        },
    },
    Format {
        name: "sendgrid-blocks",
        doc: "SendGrid, blocks: the columns of bounces; about messages, not about addresses",
        required: &["email", "created", "reason"],
        any: &[],
        only: &["status", "sourceip"],
        order: &[],
        read: |f, o| match o.temporary {
            false => Mapped::Temporary("a block is about the message, not about the address".to_owned()),
            true => row(f.of("email"), "import", f.of("created"), f.of("reason"), "block at SendGrid"),
        },
    },
    Format {
        name: "sendgrid-spam-reports",
        doc: "SendGrid, spam reports: email, created, ip",
        required: &["email", "created", "ip"],
        any: &[],
        only: &[],
        order: &[],
        read: |f, _| row(f.of("email"), "complaint", f.of("created"), "", "spam report at SendGrid"),
    },
    Format {
        name: "sendgrid-invalid",
        doc: "SendGrid, invalid emails: email, created, reason",
        required: &["email", "created", "reason"],
        any: &[],
        only: &[],
        order: &[],
        read: |f, _| row(f.of("email"), "hard", f.of("created"), f.of("reason"), "invalid at SendGrid"),
    },
    Format {
        name: "sendgrid-unsubscribes",
        doc: "SendGrid, global or group unsubscribes: email, created",
        required: &["email", "created"],
        any: &[],
        only: &["groupid", "groupname", "id"],
        order: &[],
        read: |f, _| row(f.of("email"), "unsub", f.of("created"), "", "unsubscribed at SendGrid"),
    },
    Format {
        name: "sparkpost",
        doc: "SparkPost, suppression list (CSV or JSON): recipient, type, source, description, created",
        required: &["recipient"],
        any: &["type", "source", "transactional", "nontransactional", "subaccountid"],
        only: &[],
        order: &[],
        read: sparkpost,
    },
    Format {
        name: "mailgun-bounces",
        doc: "Mailgun, bounces (CSV or JSON): address, code, error, created_at",
        required: &["address", "code"],
        any: &[],
        only: &[],
        order: &[],
        read: |f, o| {
            let code = f.of("code");
            if code.starts_with('4') && !o.temporary {
                return Mapped::Temporary(format!("code {code} is temporary"));
            }
            let reply = format!("{code} {}", f.of("error"));
            row(f.of("address"), "hard", f.of("createdat"), reply.trim(), "bounce at Mailgun")
        },
    },
    Format {
        name: "mailgun-unsubscribes",
        doc: "Mailgun, unsubscribes (CSV or JSON): address, tags, created_at",
        required: &["address"],
        any: &["tags", "tag"],
        only: &[],
        order: &[],
        read: |f, o| {
            let tags = f.first(&["tags", "tag"]).trim_matches(['[', ']', '"']);
            if !matches!(tags, "" | "*") && !o.scoped {
                return Mapped::Skipped("left a tag only; --scope says for whose mail to enter it".to_owned());
            }
            let note = if matches!(tags, "" | "*") { String::new() } else { format!(" from {tags}") };
            row(f.of("address"), "unsub", f.of("createdat"), "", &format!("unsubscribed{note} at Mailgun"))
        },
    },
    Format {
        name: "mailgun-complaints",
        doc: "Mailgun, complaints (CSV or JSON): address, created_at",
        required: &["address", "createdat"],
        any: &[],
        only: &["count"],
        order: &[],
        read: |f, _| row(f.of("address"), "complaint", f.of("createdat"), "", "complaint at Mailgun"),
    },
    Format {
        name: "ses",
        doc: "Amazon SES, ListSuppressedDestinations (JSON or CSV): EmailAddress, Reason, LastUpdateTime",
        required: &["emailaddress", "reason"],
        any: &[],
        only: &["lastupdatetime", "attributes", "createdtimestamp"],
        order: &["emailaddress", "reason", "lastupdatetime"],
        read: |f, _| {
            let when = f.first(&["lastupdatetime", "createdtimestamp"]);
            match f.of("reason").to_ascii_uppercase().as_str() {
                "BOUNCE" => row(f.of("emailaddress"), "hard", when, "", "bounce at Amazon SES"),
                "COMPLAINT" => row(f.of("emailaddress"), "complaint", when, "", "complaint at Amazon SES"),
                other => Mapped::Rejected(format!("{other:?} is neither BOUNCE nor COMPLAINT")),
            }
        },
    },
    Format {
        name: "postmark",
        doc: "Postmark, suppressions (JSON or CSV): EmailAddress, SuppressionReason, Origin, CreatedAt",
        required: &["emailaddress", "suppressionreason"],
        any: &[],
        only: &[],
        order: &[],
        read: |f, o| {
            let (address, when, origin) = (f.of("emailaddress"), f.of("createdat"), f.of("origin"));
            match super::formats::normalised(f.of("suppressionreason")).as_str() {
                "hardbounce" => row(address, "hard", when, "", "hard bounce at Postmark"),
                "spamcomplaint" => row(address, "complaint", when, "", "spam complaint at Postmark"),
                "manualsuppression" if origin.eq_ignore_ascii_case("recipient") => {
                    row(address, "unsub", when, "", "unsubscribed at Postmark")
                }
                "manualsuppression" => row(address, "import", when, "", "entered by hand at Postmark"),
                "unsubscribe" => row(address, "unsub", when, "", "unsubscribed at Postmark"),
                soft if soft.starts_with("soft") || soft == "transient" => match o.temporary {
                    false => Mapped::Temporary("a soft bounce".to_owned()),
                    true => row(address, "import", when, "", "soft bounce at Postmark"),
                },
                other => Mapped::Rejected(format!("{other:?} is no reason of Postmark's")),
            }
        },
    },
    Format {
        name: "mailchimp-cleaned",
        doc: "Mailchimp, cleaned contacts: Email Address, CLEAN_TIME, CLEAN_CAMPAIGN_TITLE",
        required: &["emailaddress", "cleantime"],
        any: &[],
        only: &[],
        order: &[],
        read: |f, _| row(f.of("emailaddress"), "hard", f.of("cleantime"), "", "cleaned at Mailchimp"),
    },
    Format {
        name: "mailchimp-unsubscribed",
        doc: "Mailchimp, unsubscribed contacts: Email Address, UNSUB_TIME, UNSUB_REASON",
        required: &["emailaddress", "unsubtime"],
        any: &[],
        only: &[],
        order: &[],
        read: |f, _| {
            let why = [f.of("unsubreason"), f.of("unsubreasonother")].join(" ");
            let complaint = why.to_ascii_lowercase().contains("spam");
            let note = format!("unsubscribed at Mailchimp: {}", why.trim());
            row(
                f.of("emailaddress"),
                if complaint { "complaint" } else { "unsub" },
                f.of("unsubtime"),
                "",
                note.trim_end_matches(": "),
            )
        },
    },
];

/// Names of columns that hold addresses, where no format says.
const ADDRESS: &[&str] = &[
    "email",
    "emailaddress",
    "address",
    "recipient",
    "subject",
    "mail",
    "rcpt",
    "emails",
    "useremail",
    "contact",
    "contactemail",
    "subscriber",
    "to",
];
const HASH: &[&str] = &["sha256", "hash", "emailsha256", "hashedemail", "digest", "subject", "email"];

/// A name as it is compared.
pub(super) fn normalised(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).take(100).collect()
}

/// Whether the file may be of any format.
pub(super) fn is_any(format: &str) -> bool {
    matches!(format, "" | "auto")
}

/// Whether the file may be JSON.
pub(super) fn may_be_json(format: &str) -> bool {
    !matches!(format, "csv" | "newline") && !format.starts_with("mailchimp")
}

/// The one format of this name.
pub(super) fn only(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|f| f.name == name)
}

fn is_called(format: &Format, name: &str) -> bool {
    is_any(name) || format.name == name || format.name.split('-').next() == Some(name)
}

/// Refuses a name that is no format's.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if matches!(name, "csv" | "newline" | "json") || FORMATS.iter().any(|f| is_called(f, name)) {
        return Ok(());
    }
    let names: Vec<&str> =
        ["auto", "newline", "csv", "json"].into_iter().chain(FORMATS.iter().map(|f| f.name)).collect();
    Err(Refusal::Format(name.to_owned(), names.join(", ")))
}

impl Format {
    fn fits(&self, names: &[String]) -> bool {
        let has = |name: &&str| names.iter().any(|n| n == name);
        let known = |name: &String| {
            let name = name.as_str();
            name.is_empty() || self.required.contains(&name) || self.any.contains(&name) || self.only.contains(&name)
        };
        // Where two formats differ by what is not there, one must not have more than it says.
        let bounded = !self.only.is_empty() || self.name.starts_with("sendgrid");
        self.required.iter().all(has)
            && (self.any.is_empty() || self.any.iter().any(|n| has(&n)))
            && (!bounded || names.iter().all(known))
    }
}

/// The format with these columns, among those that the operator allows.
pub(super) fn by_columns(names: &[String], options: &Options) -> Option<&'static Format> {
    // A format that was named need not have the columns that tell it from others.
    if let Some(named) = only(&options.format) {
        let has = |name: &&str| names.iter().any(|n| n == name);
        return named.required.iter().all(has).then_some(named);
    }
    // Blocks have no columns of their own: they are known by what the operator, or the file's name, calls them.
    let fits = |f: &&Format| f.name != "sendgrid-blocks" && is_called(f, &options.format) && f.fits(names);
    let found = FORMATS.iter().find(fits)?;
    // SendGrid's blocks have the columns of its bounces, or of its invalid addresses; the file's name tells.
    let says_blocks = found.name.starts_with("sendgrid") && options.name.to_lowercase().contains("block");
    if says_blocks && names.iter().any(|n| n == "reason") { only("sendgrid-blocks") } else { Some(found) }
}

/// Refuses what has been recognised as something that nobody wants to import, and what is not what it was said to be.
pub(super) fn refuse(names: &[String], options: &Options) -> Result<(), Refusal> {
    let has = |name: &str| names.iter().any(|n| n == name);
    if options.format != "csv" && has("emailaddress") && has("memberrating") && (has("leid") || has("euid")) {
        return Err(Refusal::Subscribers);
    }
    if is_any(&options.format) || matches!(options.format.as_str(), "csv" | "json") {
        return Ok(());
    }
    let wanted = FORMATS.iter().filter(|f| is_called(f, &options.format));
    let columns: Vec<String> = wanted.map(|f| f.required.join(", ")).collect();
    Err(Refusal::OtherFormat(options.format.clone(), columns.join("; or ")))
}

/// The column with the addresses, by its name.
pub(super) fn address_column(names: &[String], hashed: bool) -> Option<usize> {
    let known = if hashed { HASH } else { ADDRESS };
    known.iter().find_map(|name| names.iter().position(|n| n == name))
}

/// Whether a lone word is the header of a list of addresses.
pub(super) fn is_header(text: &str, hashed: bool) -> bool {
    address_column(&[normalised(text)], hashed).is_some()
}

/// What a format makes of a record.
pub(super) fn map(format: &Format, fields: &Fields, options: &Options) -> Mapped {
    (format.read)(fields, options)
}

/// What is made of a record of no known format: an address, and what else is told by the usual names.
pub(super) fn map_plain(fields: &Fields, options: &Options) -> Mapped {
    let subject = match fields.of("subject") {
        "" => fields.first(if options.hashed { HASH } else { ADDRESS }),
        subject => subject,
    };
    let when = fields.first(&["created", "createdat", "date", "time", "timestamp", "updated", "addedat", "added"]);
    let why = [fields.first(&["type", "kind"]), fields.first(&["reason", "note", "comment", "description"])].join(" ");
    row(subject, "import", when, "", why.trim())
}

fn row(subject: &str, rule: &str, when: &str, reply: &str, note: &str) -> Mapped {
    let parsed = time(when);
    let row = Row {
        subject: subject.to_owned(),
        rule: rule.to_owned(),
        time: parsed.unwrap_or(Time::UNKNOWN),
        reply: reply.to_owned(),
        note: note.to_owned(),
        ..Row::default()
    };
    Mapped::Row(Box::new(row), parsed.is_none() && !when.is_empty())
}

fn sparkpost(f: &Fields, _: &Options) -> Mapped {
    let source = f.of("source");
    let rule = match normalised(source).as_str() {
        "spamcomplaint" => "complaint",
        "listunsubscribe" | "unsubscribelink" => "unsub",
        "bouncerule" => "hard",
        _ => "import",
    };
    let kind = match (f.of("type"), f.of("transactional"), f.of("nontransactional")) {
        ("", "true", "true") => "all mail",
        ("", "true", _) | ("transactional", ..) => "transactional mail",
        ("", _, "true") | ("non_transactional", ..) => "non-transactional mail",
        (other, ..) => other,
    };
    let said = Some(source).filter(|s| !s.is_empty()).unwrap_or("suppressed");
    let note = format!("{said} at SparkPost, {kind}: {}", f.of("description"));
    let note = note.trim_end_matches([':', ' ', ',']);
    row(f.of("recipient"), rule, f.first(&["created", "updated"]), "", note)
}

fn carom(f: &Fields, _: &Options) -> Mapped {
    if f.of("state") == "removed" {
        return Mapped::Skipped("it was taken off the list it comes from".to_owned());
    }
    let scope = match f.of("scope") {
        "" | "global" => None,
        scope => match scope.parse() {
            Ok(scope) => Some(scope),
            Err(error) => return Mapped::Rejected(format!("{error}")),
        },
    };
    let expires = match f.of("expires") {
        "" => Time::UNKNOWN,
        text => match time(text) {
            Some(expires) => expires,
            None => return Mapped::Rejected(format!("{text:?} is no time")),
        },
    };
    let when = f.of("time");
    let parsed = time(when);
    let row = Row {
        subject: f.of("subject").to_owned(),
        rule: Some(f.of("rule")).filter(|r| !r.is_empty()).unwrap_or("import").to_owned(),
        time: parsed.unwrap_or(Time::UNKNOWN),
        category: f.of("category").to_owned(),
        reply: f.of("reply").to_owned(),
        note: f.of("note").to_owned(),
        scope,
        expires,
    };
    Mapped::Row(Box::new(row), parsed.is_none() && !when.is_empty())
}
