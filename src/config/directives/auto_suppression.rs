//! `<auto-suppression>`: who is put on the suppression list by which events (all of it ours).

use std::sync::Arc;
use std::time::Duration;

use super::Directive;
use super::set::{Change, Set};
use crate::config::auto_suppression::{AutoSuppression, Evidence, NEVER, RuleSubject, SuppressionRule};
use crate::config::diagnose::nearest;
use crate::config::lexer::{Args, Span};
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};
use crate::event::{ScopeKind, address::canonical_domain, category};

type A = Directive<AutoSuppressionBlock>;

const DAY: u64 = 86_400;

/// What stands in the block.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoSuppressionBlock {
    /// What it comes to, with the rules that are written in it only.
    pub made: AutoSuppression,
    /// Categories that are no built-in ones, and where they stand: a pattern of the operator may give them.
    pub own_categories: Vec<(Box<str>, Span)>,
    /// Where each rule stands.
    pub rule_spans: Vec<Span>,
    /// Whether `never` was written.
    never_said: bool,
}

impl Default for AutoSuppressionBlock {
    fn default() -> AutoSuppressionBlock {
        AutoSuppressionBlock {
            made: AutoSuppression { rules: Vec::new(), ..AutoSuppression::default() },
            own_categories: Vec::new(),
            rule_spans: Vec::new(),
            never_said: false,
        }
    }
}

/// The rows of `<auto-suppression>`.
pub const AUTO_SUPPRESSION: &[A] = &[
    A::many(
        "rule",
        Set::Other(
            "NAME EVIDENCE after N [within T] [over T] [expire T] [scope S] [subject address|domain]",
            "full category quota-issues after 5 within 30d expire 90d",
            rule,
        ),
        "What puts an address or a domain on the list; EVIDENCE is category LIST, feedback LIST or unsubscribe",
    ),
    A::many(
        "never",
        Set::Other("category LIST", "category spam-related,policy-related,content-related", never),
        "Categories that count for no rule; spam-related, policy-related and content-related unless this is given",
    ),
    A::one(
        "scope",
        Set::Other("global, sender-domain, source, job, list or vmta", "global", scope),
        "global",
        "For whose mail entries count whose rule names no scope",
    ),
    A::many(
        "fold-plus-tags",
        Set::Other("LIST of domains", "plus.example", fold_plus_tags),
        "Domains at which ann+anything is the mailbox ann",
    ),
    A::many(
        "fold-dots",
        Set::Other("LIST of domains", "dots.example", fold_dots),
        "Domains at which a.n.n is the mailbox ann",
    ),
    A::one(
        "breaker",
        Set::Bool(|b, v| b.made.breaker.on = v),
        "yes",
        "Hold new entries back when a provider refuses far more addresses as dead than it usually does",
    ),
    A::one(
        "breaker-multiple",
        Set::Int(2, 1000, |b, v| b.made.breaker.multiple = small(v)),
        "5",
        "It trips when hard bounces of a provider or of one reply template pass so many times their usual share",
    ),
    A::one(
        "breaker-min",
        Set::Int(10, 1_000_000, |b, v| b.made.breaker.min = small(v)),
        "100",
        "Hard bounces within the window below which it does not trip",
    ),
    A::one(
        "breaker-window",
        Set::Time(60, DAY, |b, v| b.made.breaker.window = v),
        "1h",
        "Over how long the share is taken; entries of this time before it trips are held too",
    ),
    A::one(
        "breaker-normal-for",
        Set::Time(60, 30 * DAY, |b, v| b.made.breaker.normal_for = v),
        "1h",
        "So long the share must have been normal before what is held is let go",
    ),
];

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn wrong(message: impl Into<String>, help: impl Into<String>) -> ValueError {
    ValueError { message: message.into(), help: help.into() }
}

fn word(args: &mut Args<'_>) -> String {
    args.word().map(|w| w.text).unwrap_or_default()
}

/// What a rule may say behind its evidence.
const CLAUSES: [&str; 6] = ["after", "within", "over", "expire", "scope", "subject"];
const FORM: &str = "write rule NAME category A,B after N [within T] [over T] [expire T] [scope S] \
                    [subject address|domain]; in the place of category A,B also feedback A,B or unsubscribe";

fn rule(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<AutoSuppressionBlock>, ValueError> {
    let span = args.rest_span();
    let name = word(args).to_lowercase();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > 40 || !name.bytes().all(fits) {
        return Err(wrong(format!("`{name}` can't be the name of a rule"), "write letters, digits, dots, - and _"));
    }
    if ["manual", "import", "unsubscribe"].contains(&&*name) {
        return Err(wrong(format!("{name} is what entries are called that no rule made"), "take another name"));
    }
    let kind = word(args).to_ascii_lowercase();
    let mut own = Vec::new();
    let evidence = match kind.as_str() {
        "category" => Evidence::Category(categories(args, &mut own)?),
        "feedback" => Evidence::Feedback(feedback(args, reading)?),
        "unsubscribe" => Evidence::Unsubscribe,
        other => {
            let help = nearest(other, ["category", "feedback", "unsubscribe"])
                .map_or_else(|| FORM.to_owned(), |near| format!("did you mean {near}?"));
            return Err(wrong(format!("`{other}` is no evidence"), help));
        }
    };
    let domain_only = matches!(&evidence, Evidence::Category(names) if names.iter().all(|n| &**n == "bad-domain"));
    let mut made = SuppressionRule {
        name: name.into(),
        evidence,
        after: 0,
        within: None,
        over: Duration::ZERO,
        expire: None,
        scope: None,
        subject: if domain_only { RuleSubject::Domain } else { RuleSubject::Address },
    };
    let said = clauses(args, &mut made)?;
    check(&mut made, &said)?;
    Ok(Arc::new(move |block| {
        block.made.rules.push(made.clone());
        block.rule_spans.push(span);
        block.own_categories.extend(own.clone());
    }))
}

/// What follows the evidence; which clauses there were.
fn clauses(args: &mut Args<'_>, rule: &mut SuppressionRule) -> Result<Vec<String>, ValueError> {
    let mut said: Vec<String> = Vec::new();
    while let Some(clause) = args.word() {
        let clause = clause.text.to_ascii_lowercase();
        if !CLAUSES.contains(&&*clause) {
            let help =
                nearest(&clause, CLAUSES).map_or_else(|| FORM.to_owned(), |near| format!("did you mean {near}?"));
            return Err(wrong(format!("`{clause}` is no part of a rule"), help));
        }
        if said.contains(&clause) {
            return Err(wrong(format!("{clause} is given twice"), "keep one of them"));
        }
        let value = word(args);
        if value.is_empty() {
            return Err(wrong(format!("{clause} has no value"), FORM));
        }
        match clause.as_str() {
            "after" => rule.after = small(values::integer(&value, 1, 1000)?),
            "within" => rule.within = Some(span_of_time(&value)?),
            "over" => rule.over = span_of_time(&value)?,
            "expire" if value.eq_ignore_ascii_case("never") => rule.expire = None,
            "expire" => rule.expire = Some(span_of_time(&value)?),
            "scope" => rule.scope = Some(scope_kind(&value)?),
            _ => {
                rule.subject = match value.to_ascii_lowercase().as_str() {
                    "address" => RuleSubject::Address,
                    "domain" => RuleSubject::Domain,
                    other => {
                        return Err(wrong(
                            format!("`{other}` is no subject"),
                            "write subject address or subject domain",
                        ));
                    }
                }
            }
        }
        said.push(clause);
    }
    Ok(said)
}

/// Parts of a rule that can't hold together.
fn check(rule: &mut SuppressionRule, said: &[String]) -> Result<(), ValueError> {
    let was_said = |clause: &str| said.iter().any(|s| s == clause);
    if !was_said("after") {
        return Err(wrong("the rule does not say after how many", "write after 1, or how many messages it takes"));
    }
    if rule.after == 1 {
        if let Some(clause) = ["within", "over"].into_iter().find(|c| was_said(c)) {
            return Err(wrong(
                format!("after 1 and {clause} contradict each other: one message has no span of time"),
                format!("take {clause} out, or write after 2 or more"),
            ));
        }
    }
    if rule.within.is_some_and(|within| rule.over > within) {
        let message = "over is longer than within: the rule could never apply";
        return Err(wrong(message, "make within the longer one"));
    }
    if rule.subject == RuleSubject::Domain && !matches!(rule.evidence, Evidence::Category(_)) {
        let message = "what one recipient wants or says is no reason to suppress a domain";
        return Err(wrong(message, "take subject domain out"));
    }
    // Resolvers fail too: a domain is not gone because it was not found three times in a minute.
    let hour = Duration::from_secs(3600);
    if rule.subject == RuleSubject::Domain && rule.after > 1 && !was_said("over") {
        rule.over = rule.within.map_or(hour, |within| within.min(hour));
    }
    Ok(())
}

fn span_of_time(text: &str) -> Result<Duration, ValueError> {
    let time = values::time(text)?;
    let whole = text.bytes().all(|b| b.is_ascii_digit());
    match time.is_zero() || whole {
        true => Err(wrong(format!("`{text}` is not a time with a unit"), "write a time such as 30d, 12h or 10m")),
        false => Ok(time),
    }
}

fn scope_kind(text: &str) -> Result<ScopeKind, ValueError> {
    ScopeKind::by_name(text).ok_or_else(|| {
        let names = ScopeKind::ALL.map(ScopeKind::name);
        let help = nearest(text, names)
            .map_or_else(|| format!("write one of {}", names.join(", ")), |near| format!("did you mean {near}?"));
        wrong(format!("`{text}` is no scope"), help)
    })
}

/// A comma list of categories; those that are not built in are told, to be looked for among the patterns.
fn categories(args: &mut Args<'_>, own: &mut Vec<(Box<str>, Span)>) -> Result<Vec<Box<str>>, ValueError> {
    let Some(list) = args.word() else {
        return Err(wrong("category names none", FORM));
    };
    let mut names = Vec::new();
    for name in values::list(&list.text) {
        let name = name.to_ascii_lowercase();
        if name == category::SUPPRESSED {
            let message = "what was not attempted because it was suppressed never counts";
            return Err(wrong(message, "take `suppressed` out"));
        }
        if !crate::config::resolve::is_category(&name) {
            return Err(wrong(format!("`{name}` can't be a category"), "write letters, digits, dots, - and _"));
        }
        if category::Category::by_name(&name).is_none() {
            own.push((name.as_str().into(), list.span));
        }
        if !names.iter().any(|n: &Box<str>| **n == *name) {
            names.push(name.into());
        }
    }
    match names.is_empty() {
        true => Err(wrong("category names none", FORM)),
        false => Ok(names),
    }
}

/// Types of RFC 5965, 7.3 and its registry that say that a person does not want the mail.
const COMPLAINTS: [&str; 6] = ["abuse", "fraud", "virus", "other", "opt-out", "opt-out-list"];

fn feedback(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Vec<Box<str>>, ValueError> {
    let Some(list) = args.word() else {
        return Err(wrong("feedback names no type", FORM));
    };
    let mut types: Vec<Box<str>> = Vec::new();
    for name in values::list(&list.text) {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "not-spam" => {
                let message = "not-spam takes a complaint back: it suppresses nobody";
                return Err(wrong(message, "take it out"));
            }
            "auth-failure" | "dkim" => {
                return Err(wrong(
                    format!("{name} is about how the mail was signed, not about its recipient"),
                    "take it out",
                ));
            }
            known if COMPLAINTS.contains(&known) => {}
            other => match nearest(other, COMPLAINTS) {
                Some(near) => {
                    return Err(wrong(format!("`{other}` is no feedback type"), format!("did you mean {near}?")));
                }
                None => {
                    let message = format!("`{other}` is no registered feedback type (RFC 5965, 7.3)");
                    reading.warning(list.span, message, format!("usual are {}", COMPLAINTS.join(", ")));
                }
            },
        }
        types.push(name.into());
    }
    match types.is_empty() {
        true => Err(wrong("feedback names no type", FORM)),
        false => Ok(types),
    }
}

fn never(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AutoSuppressionBlock>, ValueError> {
    let first = word(args).to_ascii_lowercase();
    if first != "category" {
        return Err(wrong(format!("`{first}` is not what can be left out"), "write never category A,B"));
    }
    let mut own = Vec::new();
    let names = match args.clone().word() {
        Some(none) if none.text.eq_ignore_ascii_case("none") => {
            args.word();
            Vec::new()
        }
        _ => categories(args, &mut own)?,
    };
    Ok(Arc::new(move |block| {
        if !std::mem::replace(&mut block.never_said, true) {
            block.made.never.clear();
        }
        block.made.never.extend(names.clone());
        block.own_categories.extend(own.clone());
    }))
}

fn scope(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AutoSuppressionBlock>, ValueError> {
    let scope = scope_kind(&word(args))?;
    Ok(Arc::new(move |block| block.made.scope = scope))
}

fn domains(args: &mut Args<'_>) -> Result<Vec<Box<str>>, ValueError> {
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let domain = |name: &str| {
        let name = name.strip_prefix('@').unwrap_or(name);
        match crate::event::Address::parse(&format!("x@{name}")) {
            Ok(_) => Ok(canonical_domain(name).as_ref().into()),
            Err(_) => {
                Err(wrong(format!("`{name}` is no domain"), "write names such as gmail.com, with commas between"))
            }
        }
    };
    values::list(&text).map(domain).collect()
}

fn fold_plus_tags(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AutoSuppressionBlock>, ValueError> {
    let domains = domains(args)?;
    Ok(Arc::new(move |block| block.made.fold_plus_tags.extend(domains.clone())))
}

fn fold_dots(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AutoSuppressionBlock>, ValueError> {
    let domains = domains(args)?;
    Ok(Arc::new(move |block| block.made.fold_dots.extend(domains.clone())))
}

impl AutoSuppressionBlock {
    /// What several rules say against each other; `is_own` tells whether a pattern of the operator gives a category.
    pub fn finish(mut self, reading: &mut Reading<'_>, block: Span, is_own: &dyn Fn(&str) -> bool) -> AutoSuppression {
        for (name, span) in &self.own_categories {
            if !is_own(name) {
                let known = category::CATEGORIES.iter().map(|c| c.name);
                let help = nearest(name, known).map_or_else(
                    || "write one of the bounce categories, or one that a pattern of yours gives".to_owned(),
                    |near| format!("did you mean {near}?"),
                );
                reading.error(*span, format!("no pattern gives the category `{name}`"), help);
            }
        }
        let rules = &self.made.rules;
        for (n, rule) in rules.iter().enumerate() {
            let span = self.rule_spans.get(n).copied().unwrap_or(block);
            if let Some(first) = rules[..n].iter().position(|r| r.name == rule.name) {
                let first = self.rule_spans.get(first).map(|s| reading.place(*s)).unwrap_or_default();
                reading.error(
                    span,
                    format!("there are two rules {}", rule.name),
                    format!("the first one is at {first}"),
                );
            }
            if let Evidence::Category(names) = &rule.evidence
                && let Some(both) = names.iter().find(|name| self.made.never.contains(name))
            {
                let help = match self.never_said {
                    true => "take it out of one of them".to_owned(),
                    false => format!(
                        "it is about the sender, not about the recipient; if you mean it, write a never line without it \
                         (without one, {} never count)",
                        NEVER.join(", ")
                    ),
                };
                reading.error(span, format!("rule {} counts {both}, which is never to count", rule.name), help);
            }
        }
        if rules.is_empty() {
            reading.warning(
                block,
                "<auto-suppression> has no rule: no event suppresses anybody",
                "write rules, or leave the block out to have the usual ones",
            );
        }
        for list in [&mut self.made.never, &mut self.made.fold_plus_tags, &mut self.made.fold_dots] {
            list.sort_unstable();
            list.dedup();
        }
        self.made
    }
}
