//! `<auto-suppression>`: which events put whom on the suppression list, for how long and for whose mail; and when the
//! circuit breaker doubts them. What the block comes to; obeyed in `suppress` and `accounting`.

use std::fmt;
use std::time::Duration;

use crate::event::ScopeKind;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The whole block, or the defaults where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoSuppression {
    /// `rule`s in file order.
    pub rules: Vec<SuppressionRule>,
    /// `never category`: what counts for no rule, lower-cased.
    pub never: Vec<Box<str>>,
    /// `scope`: of rules that name none.
    pub scope: ScopeKind,
    /// `breaker...`.
    pub breaker: Breaker,
    /// `fold-plus-tags`: domains (A-labels) where `ann+x` is `ann`.
    pub fold_plus_tags: Vec<Box<str>>,
    /// `fold-dots`: domains (A-labels) where `a.n.n` is `ann`.
    pub fold_dots: Vec<Box<str>>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuppressionRule {
    /// What entries and records name as the reason; lower-cased.
    pub name: Box<str>,
    /// Which events count.
    pub evidence: Evidence,
    /// How many distinct messages it takes.
    pub after: u32,
    /// Within how long; `None` is however long.
    pub within: Option<Duration>,
    /// How far the first and the last of them are apart at least.
    pub over: Duration,
    /// How long the entry holds; `None` is for ever.
    pub expire: Option<Duration>,
    /// For whose mail; `None` is what the block says.
    pub scope: Option<ScopeKind>,
    /// Whether the address is suppressed or its whole domain.
    pub subject: RuleSubject,
}

/// What counts for a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Failures of these categories, lower-cased.
    Category(Vec<Box<str>>),
    /// Complaints of these feedback types (RFC 5965, 7.3), lower-cased.
    Feedback(Vec<Box<str>>),
    /// The recipient wants no more.
    Unsubscribe,
}

/// Who is suppressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleSubject {
    /// The address.
    Address,
    /// Every address of its domain.
    Domain,
}

/// When hard bounces are taken for a provider's own mistake.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// `breaker`: whether there is one.
    pub on: bool,
    /// `breaker-multiple`: it trips at so many times the usual share.
    pub multiple: u32,
    /// `breaker-min`: and not before so many hard bounces within the window.
    pub min: u32,
    /// `breaker-window`.
    pub window: Duration,
    /// `breaker-normal-for`: it ends when the share has been normal for so long.
    pub normal_for: Duration,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            on: true,
            multiple: 5,
            min: 100,
            window: Duration::from_secs(HOUR),
            normal_for: Duration::from_secs(HOUR),
        }
    }
}

/// Categories that count for no rule unless `never` says otherwise: they are about the sender or the mail.
pub const NEVER: [&str; 3] = ["spam-related", "policy-related", "content-related"];

impl Default for AutoSuppression {
    fn default() -> AutoSuppression {
        let category = |name: &str, categories: &[&str], after| SuppressionRule {
            name: name.into(),
            evidence: Evidence::Category(categories.iter().map(|c| (*c).into()).collect()),
            after,
            within: None,
            over: Duration::ZERO,
            expire: None,
            scope: None,
            subject: RuleSubject::Address,
        };
        let days = |n| Some(Duration::from_secs(n * DAY));
        let hard = category("hard", &["bad-mailbox", "inactive-mailbox"], 1);
        let other =
            |name: &str, evidence, scope| SuppressionRule { name: name.into(), evidence, scope, ..hard.clone() };
        let complaints = ["abuse", "fraud", "virus"].map(Box::from).to_vec();
        let rules = vec![
            hard.clone(),
            SuppressionRule {
                within: days(1),
                over: Duration::from_secs(HOUR),
                expire: days(30),
                subject: RuleSubject::Domain,
                ..category("domain", &["bad-domain"], 3)
            },
            SuppressionRule { within: days(30), expire: days(90), ..category("full", &["quota-issues"], 5) },
            SuppressionRule {
                within: days(14),
                expire: days(30),
                ..category("unreach", &["no-answer-from-host", "bad-connection", "routing-errors"], 8)
            },
            other("complaint", Evidence::Feedback(complaints), None),
            other("unsub", Evidence::Unsubscribe, Some(ScopeKind::List)),
        ];
        AutoSuppression {
            rules,
            never: NEVER.map(Box::from).to_vec(),
            scope: ScopeKind::Global,
            breaker: Breaker::default(),
            fold_plus_tags: Vec::new(),
            fold_dots: Vec::new(),
        }
    }
}

impl AutoSuppression {
    /// For whose mail what `rule` enters counts.
    pub fn scope_of(&self, rule: &SuppressionRule) -> ScopeKind {
        match (rule.scope, &rule.evidence) {
            (Some(scope), _) => scope,
            (None, Evidence::Unsubscribe) => ScopeKind::List,
            (None, _) => self.scope,
        }
    }

    /// The rule of this name, whatever its case.
    pub fn rule(&self, name: &str) -> Option<&SuppressionRule> {
        self.rules.iter().find(|rule| rule.name.eq_ignore_ascii_case(name))
    }
}

/// As it would be written in the block.
impl fmt::Display for SuppressionRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} ", self.name)?;
        match &self.evidence {
            Evidence::Category(names) => write!(f, "category {}", names.join(","))?,
            Evidence::Feedback(types) => write!(f, "feedback {}", types.join(","))?,
            Evidence::Unsubscribe => f.write_str("unsubscribe")?,
        }
        write!(f, " after {}", self.after)?;
        if let Some(within) = self.within {
            write!(f, " within {}", time(within))?;
        }
        if !self.over.is_zero() {
            write!(f, " over {}", time(self.over))?;
        }
        if let Some(expire) = self.expire {
            write!(f, " expire {}", time(expire))?;
        }
        if let Some(scope) = self.scope {
            write!(f, " scope {}", scope.name())?;
        }
        match self.subject {
            RuleSubject::Address => Ok(()),
            RuleSubject::Domain => f.write_str(" subject domain"),
        }
    }
}

/// As it would be written: the directives of the block, a line each.
impl fmt::Display for AutoSuppression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        let never = if self.never.is_empty() { "none".to_owned() } else { self.never.join(",") };
        writeln!(f, "never category {never}")?;
        writeln!(f, "scope {}", self.scope.name())?;
        for (name, domains) in [("fold-plus-tags", &self.fold_plus_tags), ("fold-dots", &self.fold_dots)] {
            if !domains.is_empty() {
                writeln!(f, "{name} {}", domains.join(","))?;
            }
        }
        let Breaker { on, multiple, min, window, normal_for } = &self.breaker;
        if !on {
            return writeln!(f, "breaker no");
        }
        writeln!(f, "breaker-multiple {multiple}\nbreaker-min {min}")?;
        writeln!(f, "breaker-window {}\nbreaker-normal-for {}", time(*window), time(*normal_for))
    }
}

/// A time in the largest unit that it is a multiple of.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(DAY, "d"), (HOUR, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}
