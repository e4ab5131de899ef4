//! For whose mail an entry of the suppression list counts.
//!
//! Written `global`, or a kind and a name: `job spring-sale`, `list weekly`, `sender-domain shop.example`,
//! `source newsletter`, `vmta pool-a`. Names are compared whatever their case; domains in A-label form.

use std::fmt;

use super::address::canonical_domain;

/// Which property of a mail a scope goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ScopeKind {
    /// All mail.
    Global = 0,
    /// Mail with an envelope sender of one domain.
    SenderDomain = 1,
    /// Mail that one `<source>` hands in.
    Source = 2,
    /// Mail of one job.
    Job = 3,
    /// Mail of one mailing list.
    List = 4,
    /// Mail through one VirtualMTA.
    Vmta = 5,
}

impl ScopeKind {
    /// All of them, the widest first.
    pub const ALL: [ScopeKind; 6] = [
        ScopeKind::Global,
        ScopeKind::SenderDomain,
        ScopeKind::Source,
        ScopeKind::Job,
        ScopeKind::List,
        ScopeKind::Vmta,
    ];

    /// As it is written in configuration, lists and answers.
    pub const fn name(self) -> &'static str {
        match self {
            ScopeKind::Global => "global",
            ScopeKind::SenderDomain => "sender-domain",
            ScopeKind::Source => "source",
            ScopeKind::Job => "job",
            ScopeKind::List => "list",
            ScopeKind::Vmta => "vmta",
        }
    }

    /// The kind of this name, whatever its case.
    pub fn by_name(name: &str) -> Option<ScopeKind> {
        ScopeKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// The kind of this number.
    pub fn from_number(number: u8) -> Option<ScopeKind> {
        ScopeKind::ALL.get(usize::from(number)).copied()
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeKinds(pub u8);

impl ScopeKinds {
    /// Whether the kind is in it.
    pub const fn contains(self, kind: ScopeKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// With this kind too.
    #[must_use]
    pub const fn with(self, kind: ScopeKind) -> ScopeKinds {
        ScopeKinds(self.0 | 1 << kind as u8)
    }
}

/// For whose mail an entry counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    kind: ScopeKind,
    name: Box<str>,
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope: write global, or sender-domain, source, job, list or vmta and a name")]
pub struct ScopeError(String);

impl Scope {
    /// All mail.
    pub fn global() -> Scope {
        Scope { kind: ScopeKind::Global, name: "".into() }
    }

    /// Mail of this property; `None` where the kind wants a name and there is none. The name is folded.
    pub fn of(kind: ScopeKind, name: &str) -> Option<Scope> {
        let name = name.trim();
        match kind {
            ScopeKind::Global => Some(Scope::global()),
            _ if name.is_empty() => None,
            ScopeKind::SenderDomain => Some(Scope { kind, name: canonical_domain(name).into() }),
            _ => Some(Scope { kind, name: name.to_lowercase().into() }),
        }
    }

    /// Its kind.
    pub const fn kind(&self) -> ScopeKind {
        self.kind
    }

    /// Its name, folded; empty for the global one.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Scope {
    fn default() -> Scope {
        Scope::global()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ScopeKind::Global => f.write_str("global"),
            kind => write!(f, "{} {}", kind.name(), self.name),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = ScopeError;

    /// `KIND`, `KIND NAME` or `KIND:NAME`.
    fn from_str(text: &str) -> Result<Scope, ScopeError> {
        let text = text.trim();
        let (kind, name) = text.split_once([' ', ':']).unwrap_or((text, ""));
        ScopeKind::by_name(kind)
            .filter(|kind| *kind != ScopeKind::Global || name.is_empty())
            .and_then(|kind| Scope::of(kind, name))
            .ok_or_else(|| ScopeError(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_comes_back_from_its_text_and_spelling_does_not_matter() {
        for text in ["global", "job Spring", "list:weekly", "sender-domain BÜCHER.example", "source a b", "vmta v1"] {
            let scope: Scope = text.parse().unwrap();
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope, "{text}");
        }
        assert_eq!("Job SPRING".parse::<Scope>(), "job spring".parse());
        assert_eq!("sender-domain bücher.example".parse::<Scope>().unwrap().name(), "xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in ["", "job", "global x", "planet earth"] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }
}
