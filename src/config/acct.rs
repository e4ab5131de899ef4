//! What the directives of `<acct-file>` come to that are more than a number or a word: `queue-filter`, `privacy-policy`,
//! `map-header-to-field`, `on-lag` (reference/accounting.md, sections 4 to 6). Read here; obeyed in accounting.

use super::model::DomainPattern;
use super::values::{self, ValueError};
use crate::event::Kind;
use crate::event::fields::Field;

/// One entry of `queue-filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePattern {
    /// `!`: a queue that matches is left out.
    pub excluded: bool,
    /// The domain part of the queue's name.
    pub domain: DomainPattern,
    /// The VirtualMTA part; `None` is any.
    pub vmta: Option<String>,
}

impl QueuePattern {
    /// Whether it decides about this queue, named `domain/vmta`.
    pub fn matches(&self, queue: &str) -> bool {
        let (domain, vmta) = queue.split_once('/').unwrap_or((queue, DEFAULT));
        self.domain.matches(domain) && self.vmta.as_ref().is_none_or(|v| v.eq_ignore_ascii_case(vmta))
    }
}

impl std::fmt::Display for QueuePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let not = if self.excluded { "!" } else { "" };
        write!(f, "{not}{}/{}", self.domain, self.vmta.as_deref().unwrap_or("*"))
    }
}

/// Whether records of this queue are written: the first entry that matches decides, and what matches none is left out.
/// Without a filter everything is written.
pub fn is_wanted(filter: &[QueuePattern], queue: &str) -> bool {
    filter.is_empty() || filter.iter().find(|p| p.matches(queue)).is_some_and(|p| !p.excluded)
}

/// `privacy-policy`: what takes the place of a recipient's local part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Privacy {
    /// Itself.
    #[default]
    Retain,
    /// This text.
    Redact(String),
    /// Its SipHash-2-4 of 64 bits under this key.
    SipHash([u8; 16]),
    /// Its HMAC-SHA256 under this key.
    HmacSha256(Vec<u8>),
}

/// One `map-header-to-field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderToField {
    /// Of records of this type.
    pub kind: Kind,
    /// The header's name.
    pub header: String,
    /// The field that it replaces, as the field table spells it.
    pub field: &'static str,
}

/// `on-lag`: what happens when an output is so far behind that the ledger is at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLag {
    /// New mail gets 452 until the output has caught up.
    #[default]
    StopIntake,
    /// The output leaves out what it is behind with, and says so.
    Skip,
}

/// The VirtualMTA of a pattern, or a queue, that names none.
const DEFAULT: &str = "{default}";

fn wrong(message: String, help: &str) -> ValueError {
    ValueError { message, help: help.into() }
}

/// `queue-filter example.com/vmta1,![*.]example.net/*`
pub fn queue_filter(text: &str) -> Result<Vec<QueuePattern>, ValueError> {
    let help = "write [!]DOMAIN[/VMTA], such as example.com/vmta1,![*.]example.net/*";
    let one = |entry: &str| {
        let (excluded, pattern) = match entry.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, entry),
        };
        let (domain, vmta) = pattern.split_once('/').unwrap_or((pattern, DEFAULT));
        if domain.starts_with('{') {
            return Err(wrong(format!("`{domain}` is a reserved domain, which has no records of its own"), help));
        }
        if domain != "*" && !domain.contains('.') {
            return Err(wrong(format!("`{pattern}`: the domain is not fully qualified"), help));
        }
        let is_name = |v: &str| {
            v == DEFAULT || (!v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
        };
        if vmta != "*" && !is_name(vmta) {
            return Err(wrong(format!("`{vmta}` is not the name of a VirtualMTA"), help));
        }
        let domain = values::domain_pattern(domain)?;
        Ok(QueuePattern { excluded, domain, vmta: (vmta != "*").then(|| vmta.to_owned()) })
    };
    values::list(text).map(one).collect()
}

/// `privacy-policy MODE [STRING]`; the second is a warning.
pub fn privacy(mode: &str, text: Option<&str>) -> Result<(Privacy, Option<&'static str>), ValueError> {
    let help =
        "write retain, redact [TEXT], siphash KEY, siphash-hexkey HEX, hmac-sha256 KEY or hmac-sha256-hexkey HEX";
    let mode = mode.to_ascii_lowercase();
    let key = || text.filter(|k| !k.is_empty()).ok_or_else(|| wrong(format!("{mode} without its key"), help));
    let hex = || {
        let key = key()?;
        data_encoding::HEXLOWER_PERMISSIVE.decode(key.as_bytes()).map_err(|_| {
            wrong("the key is not hexadecimal".into(), "write two digits, 0 to 9 and a to f, for each byte")
        })
    };
    let siphash = |key: &[u8]| {
        let mut padded = [0; 16];
        padded
            .get_mut(..key.len())
            .ok_or_else(|| {
                wrong(format!("the key has {} bytes", key.len()), "SipHash takes a key of 16 bytes at most")
            })?
            .copy_from_slice(key);
        Ok(Privacy::SipHash(padded))
    };
    let policy = match mode.as_str() {
        "retain" if text.is_some() => return Err(wrong("retain takes nothing".into(), help)),
        "retain" => Privacy::Retain,
        "redact" => Privacy::Redact(text.unwrap_or("...").to_owned()),
        "siphash" => siphash(key()?.as_bytes())?,
        "siphash-hexkey" => siphash(&hex()?)?,
        "hmac-sha256" => Privacy::HmacSha256(key()?.as_bytes().to_vec()),
        "hmac-sha256-hexkey" => Privacy::HmacSha256(hex()?),
        other => return Err(wrong(format!("`{other}` is no privacy policy"), help)),
    };
    let short = matches!(&policy, Privacy::HmacSha256(key) if key.len() < 32);
    Ok((policy, short.then_some("the key has less than 32 bytes: whoever has the file may guess it")))
}

/// `map-header-to-field TYPE header_NAME FIELD`
pub fn header_to_field(kind: &str, header: &str, field: &str) -> Result<HeaderToField, ValueError> {
    let help = "write TYPE header_NAME FIELD, such as f header_X-HmXmrOriginalRecipient rcpt";
    let kind = values::kind(kind)?;
    if kind == Kind::TransientQueue {
        return Err(wrong("tq records are about a queue; they have no message and no headers".into(), help));
    }
    let name = header.get(..7).filter(|p| p.eq_ignore_ascii_case("header_")).map(|_| &header[7..]);
    let ok = |n: &&str| !n.is_empty() && n.len() <= 128 && n.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    let Some(name) = name.filter(ok) else { return Err(wrong(format!("`{header}` does not name a header"), help)) };
    let known =
        Field::by_name(field).filter(|f| !matches!(f.name, "type" | "timeLogged" | "eventId" | "headers" | "arf"));
    let Some(known) = known else { return Err(wrong(format!("`{field}` is no field that can be replaced"), help)) };
    Ok(HeaderToField { kind, header: name.to_owned(), field: known.name })
}

/// `on-lag stop-intake|skip`
pub fn on_lag(text: &str) -> Result<OnLag, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "stop-intake" => Ok(OnLag::StopIntake),
        "skip" => Ok(OnLag::Skip),
        other => Err(wrong(format!("`{other}` is neither stop-intake nor skip"), "write stop-intake or skip")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_matches_decides_and_what_matches_none_is_left_out() {
        let filter = queue_filter("example.com/vmta1,![*.]example.net/*,*/vmta4").unwrap();
        let wanted = |queue| is_wanted(&filter, queue);
        assert!(wanted("example.com/vmta1") && wanted("EXAMPLE.com/VMTA1"));
        assert!(!wanted("example.com/vmta2"), "matches nothing");
        assert!(!wanted("example.net/vmta4") && !wanted("a.b.example.net/vmta4"), "excluded before */vmta4 is reached");
        assert!(wanted("example.org/vmta4") && !wanted("example.org/{default}"));
        let negated = queue_filter("!example.com").unwrap();
        assert!(!is_wanted(&negated, "example.com/{default}") && !is_wanted(&negated, "example.org/{default}"));
        let below = queue_filter("*.example.com").unwrap();
        assert!(is_wanted(&below, "a.example.com/{default}") && !is_wanted(&below, "example.com/{default}"));
        assert!(!is_wanted(&below, "a.example.com/v1"), "no VMTA part is {{default}}");
        assert!(is_wanted(&[], "any/where"));
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for (text, why) in [
            ("localhost", "not fully qualified"),
            ("{bounceProcessor}/*", "reserved"),
            ("/v1", "not fully qualified"),
            ("example.com/a$b", "not the name"),
            ("example.com/", "not the name"),
        ] {
            let error = queue_filter(text).unwrap_err();
            assert!(error.message.contains(why), "{text}: {}", error.message);
        }
    }

    #[test]
    fn keys_are_padded_checked_and_warned_about() {
        let mut padded = [0; 16];
        padded[..6].copy_from_slice(b"secret");
        assert_eq!(privacy("siphash", Some("secret")).unwrap(), (Privacy::SipHash(padded), None));
        assert_eq!(privacy("SIPHASH-HEXKEY", Some("736563726574")).unwrap().0, Privacy::SipHash(padded));
        assert!(privacy("siphash", Some("seventeen bytes..")).is_err());
        assert!(privacy("siphash", None).is_err() && privacy("hmac-sha256-hexkey", Some("0g")).is_err());
        assert!(privacy("hmac-sha256", Some("short")).unwrap().1.is_some());
        assert!(privacy("hmac-sha256", Some(&"k".repeat(32))).unwrap().1.is_none());
        assert_eq!(privacy("redact", None).unwrap().0, Privacy::Redact("...".into()));
        assert_eq!(privacy("retain", None).unwrap().0, Privacy::Retain);
        assert!(privacy("hide", None).is_err());
    }

    #[test]
    fn a_header_takes_the_place_of_a_field_that_can_be_replaced() {
        let m = header_to_field("f", "header_X-HmXmrOriginalRecipient", "RCPT").unwrap();
        assert_eq!((m.kind, m.header.as_str(), m.field), (Kind::Feedback, "X-HmXmrOriginalRecipient", "rcpt"));
        for (kind, header, field) in [
            ("tq", "header_X", "queue"),
            ("d", "X-Job", "jobId"),
            ("d", "header_", "jobId"),
            ("d", "header_X", "jobbId"),
            ("d", "header_X", "type"),
        ] {
            assert!(header_to_field(kind, header, field).is_err(), "{kind} {header} {field}");
        }
    }
}
