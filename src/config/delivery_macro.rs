//! The macros of `command` and `file-destination`, which stand for something of each delivery (directives.md, 2.10.5).
//! Pure: which there are and where they stand; what they stand for is delivery's knowledge.

use std::fmt;

/// What a macro stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMacro {
    /// `7BIT` or `8BITMIME`.
    BodyType,
    /// The date as YYYY-MM-DD.
    IsoDate,
    /// The date as mail has it (RFC 5322).
    RfcTime,
    /// The recipient's domain, in lower case.
    Domain,
    /// The date as `ctime` has it.
    CTime,
    /// The envelope id.
    EnvId,
    /// Seconds since 1970.
    TimeT,
    /// The originator; empty for the null sender.
    From,
    /// The recipient's local part up to the first `+`, in lower case.
    User,
    /// The recipient.
    To,
}

/// The longest name first, so that no macro is taken for the beginning of another.
const NAMES: &[(&str, DeliveryMacro)] = &[
    ("bodytype", DeliveryMacro::BodyType),
    ("isodate", DeliveryMacro::IsoDate),
    ("rfctime", DeliveryMacro::RfcTime),
    ("domain", DeliveryMacro::Domain),
    ("ctime", DeliveryMacro::CTime),
    ("envid", DeliveryMacro::EnvId),
    ("timet", DeliveryMacro::TimeT),
    ("from", DeliveryMacro::From),
    ("user", DeliveryMacro::User),
    ("to", DeliveryMacro::To),
];

impl DeliveryMacro {
    /// Without the dollar sign.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, m)| *m == self).map_or("", |(name, _)| name)
    }
}

/// The names of all macros, for messages.
pub(super) fn names() -> String {
    let names: Vec<String> = NAMES.iter().map(|(name, _)| format!("${name}")).collect();
    names.join(", ")
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// To be replaced.
    Macro(DeliveryMacro),
}

/// A text with macros in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Finds the macros of a text. A `$` that begins none stands for itself.
    pub fn parse(text: &str) -> Template {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match NAMES.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, found)) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Macro(*found));
                    rest = &rest[name.len()..];
                }
                None => plain.push('$'),
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Template(parts)
    }

    /// Its pieces in their order; no two texts stand beside each other, none is empty.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether any macro stands in it.
    pub fn has_macros(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Macro(_)))
    }

    /// What looks like a macro and is none: words behind a dollar sign, but for numbers, which are a script's arguments.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let texts = self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Macro(_) => None,
        });
        texts.flat_map(|text| text.match_indices('$').map(move |(at, _)| &text[at..])).filter_map(|rest| {
            let name = rest[1..].bytes().take_while(u8::is_ascii_alphanumeric).count();
            let word = &rest[..=name];
            (!word[1..].bytes().all(|b| b.is_ascii_digit())).then_some(word)
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Macro(found) => write!(f, "${}", found.name()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_macro_is_found_under_its_name_and_what_is_none_is_told() {
        for (name, found) in NAMES {
            assert_eq!(Template::parse(&format!("${name}")).parts(), [Part::Macro(*found)], "{name}");
        }
        let template = Template::parse("a$userb$$tox$sender $ 5$1");
        let text = |t: &str| Part::Text(t.to_owned());
        let user = Part::Macro(DeliveryMacro::User);
        let to = Part::Macro(DeliveryMacro::To);
        assert_eq!(template.parts(), [text("a"), user, text("b$"), to, text("x$sender $ 5$1")]);
        assert_eq!(template.unknown().collect::<Vec<_>>(), ["$sender"]);
    }

    proptest! {
        #[test]
        fn a_template_shows_what_it_was_made_of(text in "(\\$|to|user|timet|[a-z ]|é){0,12}") {
            prop_assert_eq!(Template::parse(&text).to_string(), text);
        }
    }
}
