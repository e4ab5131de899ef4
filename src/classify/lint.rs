//! What is wrong, or likely not meant, in pattern files. Pure: rules in, findings with file, line and place out.

use hashbrown::HashMap;

use super::Rule;
use super::automaton::Automaton;
use super::mask::Masked;
use super::pattern_file::PatternError;
use crate::event::Category;
use crate::event::category::CATEGORIES;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The rules can't be used, or a rule does what it says that it does not.
    Error,
    /// It can be used and is most likely not meant so.
    Warning,
    /// Worth knowing.
    Note,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// File as it was named.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// How bad.
    pub severity: Severity,
    /// A short name that does not change.
    pub code: &'static str,
    /// What, and what to do.
    pub message: String,
    /// The regex, and the byte in it that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<(String, usize)>,
}

impl Finding {
    fn of(rule: &Rule, severity: Severity, code: &'static str, message: String) -> Finding {
        Finding { file: rule.file.clone(), line: rule.line, severity, code, message, place: None }
    }

    /// Whether the rules can't be used as they are.
    pub const fn is_error(&self) -> bool {
        matches!(self.severity, Severity::Error)
    }

    /// Whether it is most likely not meant.
    pub const fn is_warning(&self) -> bool {
        matches!(self.severity, Severity::Warning)
    }
}

/// Replies that have nothing to do with each other: a rule that matches most of them matches everything.
const UNRELATED: &[&str] = &[
    "550 5.1.1 <x@x.example>: user unknown",
    "421 4.7.0 too many connections, try again later",
    "452 4.2.2 mailbox full",
    "554 5.7.1 message rejected as spam",
    "553 5.1.8 sender domain has no DNS",
    "450 greylisted",
    "connection refused",
];

/// Replies that no rule may match.
const HARMLESS: &[&str] = &["", "250 ok", "250 2.0.0 Ok: queued as 4TLS7Q", "220 mx.example ESMTP ready"];

/// Lints `rules`, which are consulted in this order; findings about those of `shipped` files are left out.
/// `errors` are what could not be read at all.
pub fn lint(rules: &[Rule], errors: &[PatternError], shipped: impl Fn(&Rule) -> bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> = errors.iter().map(unreadable).collect();
    let compiled: Vec<Option<Automaton>> = rules
        .iter()
        .map(|rule| match Automaton::new(&rule.regex) {
            Ok(automaton) => Some(automaton),
            Err(broken) => {
                if !shipped(rule) {
                    let message = format!("the regex can't be read: {}", broken.message);
                    let mut finding = Finding::of(rule, Severity::Error, "broken-regex", message);
                    finding.place = broken.at.map(|at| (rule.regex.clone(), at));
                    findings.push(finding);
                }
                None
            }
        })
        .collect();
    let mut first_of: HashMap<(&str, String), usize> = HashMap::new();
    for (at, rule) in rules.iter().enumerate() {
        // A rule that only acts is no duplicate of one that decides.
        let key = (rule.regex.as_str(), format!("{} {}", limits(rule), decides(rule)));
        let earlier = first_of.get(&key).copied();
        first_of.entry(key).or_insert(at);
        if shipped(rule) {
            continue;
        }
        category(rule, &mut findings);
        let Some(own) = &compiled[at] else { continue };
        let mut say = |severity, code, message| findings.push(Finding::of(rule, severity, code, message));
        breadth(own, &mut say);
        if own.is_catastrophic() {
            say(
                Severity::Warning,
                "catastrophic",
                "a repetition within a repetition, in a regex with look-around or back-references: a hostile reply makes \
                 it give up; repeat one of them a bounded number of times"
                    .into(),
            );
        }
        if let Some(earlier) = earlier {
            let message = format!("{} has the same regex: this rule is never reached", name(&rules[earlier]));
            say(Severity::Warning, "duplicate", message);
            continue;
        }
        if rule.examples.is_empty() {
            say(Severity::Warning, "no-example", "it has no example: put `# e.g. REPLY` above it".into());
        }
        let wins = |reply: &str| first(rules, &compiled, reply, at);
        let mut taken = Vec::new();
        for example in &rule.examples {
            if !own.is_match(&seen_by(rule, example)) {
                say(Severity::Error, "example-not-matched", format!("it does not match its example {example:?}"));
            } else if !decides(rule) {
                // All rules that match act together.
            } else if let Some(winner) = wins(example) {
                taken.push((example, winner));
            }
        }
        match taken.as_slice() {
            [] => {}
            [(_, winner), ..] if taken.len() == rule.examples.len() => {
                let message = format!(
                    "it can never win: {} (/{}/ {}) matches all its examples before it",
                    name(&rules[*winner]),
                    rules[*winner].regex,
                    rules[*winner].category
                );
                say(Severity::Warning, "never-wins", message);
            }
            some => {
                for (example, winner) in some {
                    let message = format!("{} decides its example {example:?} before it", name(&rules[*winner]));
                    say(Severity::Warning, "example-taken", message);
                }
            }
        }
        for not in &rule.nots {
            if own.is_match(&seen_by(rule, not)) && wins(not).is_none() {
                say(Severity::Error, "not-violated", format!("it decides {not:?}, which `# not:` says it must not"));
            }
        }
    }
    findings.sort_by(|a, b| (&a.file, a.line, a.severity).cmp(&(&b.file, b.line, b.severity)));
    findings
}

fn unreadable(error: &PatternError) -> Finding {
    Finding {
        file: error.file.clone(),
        line: error.line,
        severity: Severity::Error,
        code: "unreadable",
        message: error.message.clone(),
        place: None,
    }
}

/// `file:line`.
fn name(rule: &Rule) -> String {
    format!("{}:{}", rule.file, rule.line)
}

/// The limits as one text: two rules with the same are reached by the same replies.
fn limits(rule: &Rule) -> String {
    rule.limits.to_string()
}

/// Whether a rule may be reached by replies that `later` is limited to.
fn covers(earlier: &Rule, later: &Rule) -> bool {
    limits(earlier).is_empty() || limits(earlier) == limits(later)
}

/// A reply as a rule sees it.
fn seen_by<'r>(rule: &Rule, reply: &'r str) -> std::borrow::Cow<'r, str> {
    if rule.shipped { Masked::new(reply).text().to_owned().into() } else { reply.into() }
}

/// The first rule before number `before` that decides the category of this reply.
fn first(rules: &[Rule], compiled: &[Option<Automaton>], reply: &str, before: usize) -> Option<usize> {
    rules[..before].iter().zip(compiled).position(|(rule, automaton)| {
        decides(rule)
            && covers(rule, &rules[before])
            && automaton.as_ref().is_some_and(|a| a.is_match(&seen_by(rule, reply)))
    })
}

/// Whether it gives a category at all.
fn decides(rule: &Rule) -> bool {
    !rule.category.is_empty()
}

fn breadth(own: &Automaton, say: &mut impl FnMut(Severity, &'static str, String)) {
    if let Some(reply) = HARMLESS.iter().find(|reply| own.is_match(reply)) {
        let what = if reply.is_empty() { "an empty reply".to_owned() } else { format!("{reply:?}") };
        say(Severity::Warning, "over-broad", format!("it matches {what}: say more of the replies it is for"));
        return;
    }
    let many = UNRELATED.iter().filter(|reply| own.is_match(reply)).count();
    if many >= 4 {
        let message = format!("it matches {many} of {} replies that have nothing in common", UNRELATED.len());
        say(Severity::Warning, "over-broad", message);
    }
}

fn category(rule: &Rule, findings: &mut Vec<Finding>) {
    if !decides(rule) || Category::by_name(&rule.category).is_some() {
        return;
    }
    let near = CATEGORIES
        .iter()
        .map(|c| (distance(&rule.category.to_ascii_lowercase(), c.name), c.name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let (severity, message) = match near {
        Some((_, near)) => (
            Severity::Warning,
            format!("unknown category {:?}: did you mean {near}? As it is it never suppresses", rule.category),
        ),
        None => (
            Severity::Note,
            format!("{:?} is a category of your own: it is reported, and never suppresses", rule.category),
        ),
    };
    findings.push(Finding::of(rule, severity, "unknown-category", message));
}

/// How many letters to change, add or leave out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in b.iter().enumerate() {
            let next = (diagonal + usize::from(c != *d)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::parse_pattern_file;

    fn codes(text: &str) -> Vec<(u32, &'static str)> {
        let (rules, errors) = parse_pattern_file("own.conf", text);
        lint(&rules, &errors, |_| false).into_iter().map(|f| (f.line, f.code)).collect()
    }

    #[test]
    fn a_good_file_has_no_findings() {
        assert_eq!(codes("# e.g. 550 no such user here\n/no such user/ bad-mailbox\n"), []);
        // Limited rules are no rivals of others, and rules that only act are rivals of none.
        let text = "# e.g. 421 slow\n/slow/ policy-related provider=gmail\n# e.g. 421 slow\n/slow/ - mode=backoff\n\
            # e.g. 421 slow down\n# not: 450 other\n/slow/ other\n";
        assert_eq!(codes(text), []);
    }

    #[test]
    fn a_reply_that_must_not_be_decided_is_found() {
        assert_eq!(codes("# e.g. 550 ab\n# not: 550 abc\n/ab/ other\n"), [(3, "not-violated")]);
    }

    #[test]
    fn every_kind_of_mistake_is_found_at_its_line() {
        let text = "\
# e.g. 550 no such user
/no such user/ bad-mailbox
# e.g. 550 no such user here
/such user here/ other
# e.g. 550 a (b
/a (b/ other
# e.g. 550 mailbox gone
/no such user/ other
# e.g. 550 quota
/quota|/ quota-issues
/mail box full/ quota-isues
# e.g. 550 something else
/virus found/ virus-related
nonsense
# e.g. 550 aaaa
/^550 (a+)+(?!b)$/ other
# e.g. 550 5.1.1 x
/\\d\\d\\d/ our-own
";
        let found = codes(text);
        for expected in [
            (4, "never-wins"),
            (6, "broken-regex"),
            (8, "duplicate"),
            (10, "over-broad"),
            (11, "unknown-category"),
            (11, "no-example"),
            (13, "example-not-matched"),
            (14, "unreadable"),
            (16, "catastrophic"),
            (18, "over-broad"),
            (18, "unknown-category"),
        ] {
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
        assert!(!found.iter().any(|(line, _)| *line == 2));
    }

    #[test]
    fn a_rule_that_never_wins_names_the_one_that_does() {
        let (rules, _) =
            parse_pattern_file("own.conf", "# e.g. 550 ab\n/a/ other\n# e.g. 550 ab\n# e.g. 550 abc\n/ab/ other\n");
        let findings = lint(&rules, &[], |_| false);
        let never = findings.iter().find(|f| f.code == "never-wins").unwrap();
        assert!(never.message.contains("own.conf:2 (/a/ other)"), "{}", never.message);
    }

    #[test]
    fn a_broken_regex_has_its_place() {
        let (rules, errors) = parse_pattern_file("own.conf", "/user (unknown/ other\n");
        let findings = lint(&rules, &errors, |_| false);
        assert_eq!(findings[0].place, Some(("user (unknown".to_owned(), 5)));
    }

    #[test]
    fn a_slip_in_a_category_is_told_from_a_category_of_ones_own() {
        assert_eq!(distance("bad-mailbox", "bad-mailbx"), 1);
        let severity = |category| {
            let (rules, _) = parse_pattern_file("f", &format!("# e.g. 550 xyz\n/xyz/ {category}\n"));
            lint(&rules, &[], |_| false).first().map(|f| f.severity)
        };
        assert_eq!(severity("bad-mailbx"), Some(Severity::Warning));
        assert_eq!(severity("vip-lost"), Some(Severity::Note));
        assert_eq!(severity("bad-mailbox"), None);
    }
}
