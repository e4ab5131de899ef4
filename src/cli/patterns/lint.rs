//! `carom patterns lint`: what is wrong in pattern files, each with file and line, and in the regex the place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::paint::Paint;
use super::rules::{BaseArgs, read};
use crate::classify::Rule;
use crate::classify::explain::{configured_rules, known_rules};
use crate::classify::lint::{Finding, Severity, lint};
use crate::cli::Failure;
use crate::config::PatternSource;

/// Arguments of `carom patterns lint`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A FILE is a pattern file, or a configuration, of which all rules are checked. Several pattern \
    files are checked as if they were consulted in the order given. Without FILE: the rules of the configuration in \
    use, else the shipped ones.\n\n\
    Examples:\n  \
    carom patterns lint own.conf\n  \
    carom patterns lint /etc/carom/config --json | jq '.findings[] | select(.severity == \"error\")'\n\n\
    Exit code: 0 nothing found (notes apart); 1 errors or warnings; 2 a file can't be read."
)]
pub(super) struct Args {
    /// Pattern files, or configurations
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    /// Only errors
    #[arg(long)]
    errors_only: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What is checked.
struct Checked {
    findings: Vec<Finding>,
    rules: usize,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let sources = match sources(args)? {
        Ok(sources) => sources,
        Err(code) => return Ok(code),
    };
    let mut checked = check(sources.as_deref());
    if args.errors_only {
        checked.findings.retain(Finding::is_error);
    }
    let found = checked.findings.iter().any(|f| f.severity != Severity::Note);
    if args.json {
        let count = |severity| checked.findings.iter().filter(|f| f.severity == severity).count();
        say!(
            "{}",
            json!({
                "ok": !found,
                "rules": checked.rules,
                "errors": count(Severity::Error),
                "warnings": count(Severity::Warning),
                "notes": count(Severity::Note),
                "findings": checked.findings.iter().map(to_json).collect::<Vec<_>>(),
            })
        )?;
    } else {
        print(&checked)?;
    }
    Ok(if found { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The findings about one text, as those of a file.
pub(super) fn of_text(file: &str, text: &str) -> Vec<Finding> {
    let source = PatternSource::file(file, text);
    let (rules, errors) = configured_rules(std::slice::from_ref(&source));
    lint(&rules, &errors, |rule| rule.shipped)
}

/// The findings about the rules of a configuration or of files; `apply` asks too.
pub(super) fn of_sources(sources: &[PatternSource]) -> Vec<Finding> {
    check(Some(sources)).findings
}

/// `None` checks the shipped rules themselves.
fn check(sources: Option<&[PatternSource]>) -> Checked {
    let (rules, errors) = known_rules(sources.unwrap_or_default());
    let passed_over = |rule: &Rule| sources.is_some() && rule.shipped;
    let counted = rules.iter().filter(|rule| !passed_over(rule)).count();
    Checked { findings: lint(&rules, &errors, passed_over), rules: counted }
}

/// What the arguments mean. `Ok(Ok(None))` is the shipped rules alone.
fn sources(args: &Args) -> Result<Result<Option<Vec<PatternSource>>, ExitCode>, Failure> {
    if args.files.is_empty() {
        return Ok(args.base.load()?.map(|config| config.map(|c| c.bounce_category_patterns)));
    }
    let mut sources = Vec::new();
    for file in &args.files {
        let source = match read(file) {
            Ok(source) => source,
            Err(e) => {
                eprintln!("carom: {e}");
                return Ok(Err(ExitCode::from(2)));
            }
        };
        match &source {
            PatternSource::File(content) if is_configuration(&content.text) => match of_configuration(file, args)? {
                Ok(more) => sources.extend(more),
                Err(code) => return Ok(Err(code)),
            },
            _ => sources.push(source),
        }
    }
    Ok(Ok(Some(sources)))
}

fn of_configuration(file: &Path, args: &Args) -> Result<Result<Vec<PatternSource>, ExitCode>, Failure> {
    let base = BaseArgs { config: Some(file.to_owned()), root: args.base.root.clone(), shipped: false };
    Ok(base.load()?.map(|config| config.map(|c| c.bounce_category_patterns).unwrap_or_default()))
}

/// Whether this is a configuration and no pattern file: by the first line that says anything.
fn is_configuration(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.next().is_some_and(|line| {
        let word = line.split_whitespace().next().unwrap_or("");
        let is_pattern = line.starts_with('/') || ["only", "define"].iter().any(|w| word.eq_ignore_ascii_case(w));
        // `include` stands in both: then a block or directive elsewhere tells.
        !is_pattern && (line.starts_with('<') || lines.any(|l| l.starts_with('<')) || is_directive(word))
    })
}

fn is_directive(word: &str) -> bool {
    crate::config::directives::all().iter().any(|row| row.name.eq_ignore_ascii_case(word))
}

fn to_json(finding: &Finding) -> serde_json::Value {
    json!({
        "file": finding.file,
        "line": finding.line,
        "severity": finding.severity,
        "code": finding.code,
        "message": finding.message,
        "regex": finding.place.as_ref().map(|(regex, _)| regex),
        "column": finding.place.as_ref().map(|(regex, at)| column(regex, *at) + 1),
    })
}

fn column(regex: &str, at: usize) -> usize {
    regex[..regex.floor_char_boundary(at)].chars().count()
}

/// The finding as people read it: where, what, and below it the place.
pub(super) fn text(finding: &Finding, paint: Paint) -> String {
    let severity = match finding.severity {
        Severity::Error => paint.error("error"),
        Severity::Warning => paint.warning("warning"),
        Severity::Note => paint.dim("note"),
    };
    let place = paint.bold(&format!("{}:{}", finding.file, finding.line));
    let mut text = format!("{place}: {severity}: {} [{}]", finding.message, finding.code);
    if let Some((regex, at)) = &finding.place {
        // A long regex is shown around its place.
        let at = column(regex, *at);
        let from = at.saturating_sub(60);
        let shown: String = regex.chars().skip(from).take(100).collect();
        let lead = if from > 0 { "..." } else { "/" };
        let caret = " ".repeat(lead.len() + at - from);
        text.push_str(&format!("\n    {lead}{shown}\n    {caret}{}", paint.error("^")));
    }
    text
}

fn print(checked: &Checked) -> Result<(), Failure> {
    let paint = Paint::stdout();
    for finding in &checked.findings {
        say!("{}", text(finding, paint))?;
    }
    let count = |severity, one: &str| {
        let n = checked.findings.iter().filter(|f| f.severity == severity).count();
        format!("{n} {one}{}", if n == 1 { "" } else { "s" })
    };
    let counts = [count(Severity::Error, "error"), count(Severity::Warning, "warning"), count(Severity::Note, "note")];
    say!("{} rules checked: {}", checked.rules, counts.join(", "))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_told_from_a_pattern_file() {
        for pattern in
            ["# x\n/a/ other\n", "only provider=gmail.com\n/a/ other", "define X y\n", "include a.conf\n/x/ other", ""]
        {
            assert!(!is_configuration(pattern), "{pattern}");
        }
        for config in ["host-name mta.example\n", "# c\n<domain *>\n</domain>\n", "include a\n<source 0/0>\n"] {
            assert!(is_configuration(config), "{config}");
        }
    }

    #[test]
    fn the_place_in_a_broken_regex_is_under_it() {
        let findings = of_text("own.conf", "/user (unknown/ other\n");
        let text = text(&findings[0], Paint::plain());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("own.conf:1: error: the regex can't be read: "), "{text}");
        assert_eq!(lines[1], "    /user (unknown");
        assert_eq!(lines[2].find('^'), lines[1].find('('));
    }
}
