//! Spellings that one provider delivers to one mailbox: `ann+news@` and `a.n.n@` for `ann@`.
//!
//! Only what the operator names is folded, since to another provider they are three people. Entries stand under the
//! folded and under the plain spelling, and both are looked up: so neither beginning nor ceasing to fold loses an entry.

use std::collections::BTreeSet;

use crate::config::AutoSuppression;
use crate::event::AddressKey;

/// At which domains what is folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folding {
    plus_tags: BTreeSet<Box<str>>,
    dots: BTreeSet<Box<str>>,
}

impl Folding {
    /// As the operator says.
    pub fn of(rules: &AutoSuppression) -> Folding {
        Folding {
            plus_tags: rules.fold_plus_tags.iter().cloned().collect(),
            dots: rules.fold_dots.iter().cloned().collect(),
        }
    }

    /// Whether nothing is folded anywhere.
    pub fn is_empty(&self) -> bool {
        self.plus_tags.is_empty() && self.dots.is_empty()
    }

    /// The mailbox that this spelling means; `None` when it is spelt so already, or nothing is folded there.
    pub fn fold(&self, address: &AddressKey) -> Option<AddressKey> {
        if self.is_empty() {
            return None;
        }
        let (local, domain) = address.as_str().rsplit_once('@')?;
        // What is quoted is not taken apart.
        if local.starts_with('"') {
            return None;
        }
        let mut folded = local;
        if self.plus_tags.contains(domain) {
            folded = folded.split_once('+').map_or(folded, |(name, _)| name);
        }
        let without_dots;
        if self.dots.contains(domain) && folded.contains('.') {
            without_dots = folded.replace('.', "");
            folded = &without_dots;
        }
        (folded != local && !folded.is_empty()).then(|| AddressKey::of(&format!("{folded}@{domain}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_dots_are_folded_where_the_operator_says_and_nowhere_else() {
        let rules = AutoSuppression {
            fold_plus_tags: vec!["plus.example".into(), "both.example".into()],
            fold_dots: vec!["both.example".into()],
            ..AutoSuppression::default()
        };
        let folding = Folding::of(&rules);
        for (spelt, folded) in [
            ("Ann.Lee+News@Both.example", Some("annlee@both.example")),
            ("ann.lee+news@plus.example", Some("ann.lee@plus.example")),
            ("annlee@both.example", None),
            ("ann.lee+news@other.example", None),
            ("+news@plus.example", None),
            ("\"a.b+c\"@both.example", None),
            ("...@both.example", None),
            ("no address", None),
        ] {
            let found = folding.fold(&AddressKey::of(spelt));
            assert_eq!(found.as_ref().map(AddressKey::as_str), folded, "{spelt}");
        }
        assert_eq!(Folding::default().fold(&AddressKey::of("a+b@both.example")), None);
    }
}
