//! Names where they do not belong: unknown, misspelt, not supported, in the wrong block, given twice.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::diagnose::{Severity, nearest};
use super::dialect;
use super::directives::{self, BLOCKS, Directive, Scope, Setting, find};
use super::lexer::Line;
use super::tree::{Block, Node, Reading};
use super::unsupported::{self, Verdict};

/// Every name that may stand in a scope.
pub(super) fn known(scope: Scope) -> impl Iterator<Item = &'static str> {
    let rows = directives::all().into_iter().filter(move |r| r.scope == scope);
    let names = rows.flat_map(|r| std::iter::once(r.name).chain(r.aliases.iter().copied()));
    let needless = unsupported::NEEDLESS.iter().map(|(name, _)| *name);
    names.chain(unsupported::names(scope).iter().copied()).chain(needless)
}

/// Lines of a block and the blocks in it, sorted apart. Lines with several directives are split.
pub(super) fn sort_apart<'n>(scope: Scope, children: &'n [Node]) -> (Vec<Cow<'n, Line>>, Vec<&'n Block>) {
    let (mut lines, mut blocks) = (Vec::new(), Vec::new());
    for child in children {
        match child {
            Node::Line { line, several: false } => lines.push(Cow::Borrowed(line)),
            Node::Line { line, several: true } => {
                let names: BTreeSet<_> = known(scope).collect();
                let split = dialect::split(line, |w| names.contains(w));
                lines.extend(split.into_iter().map(Cow::Owned));
            }
            Node::Block(block) => blocks.push(block),
        }
    }
    (lines, blocks)
}

/// Reports a name that is in no table of the scope.
pub(super) fn not_obeyed(reading: &mut Reading<'_>, scope: Scope, line: &Line) {
    if reading.diagnostics.is_full() {
        return reading.error(line.span, "", "");
    }
    let keyword = line.keyword();
    let name_end = line.text.find(char::is_whitespace).unwrap_or(line.text.len());
    let span = line.span_of(0, name_end);
    match unsupported::directive(scope, &keyword) {
        Some(_) if line.args().is_empty() && line.has_comment => {
            let help = "a # begins a comment, also inside a value";
            return reading.error(span, format!("{keyword}: argument missing"), help);
        }
        Some(Verdict::NotYet) => {
            let message = format!("{keyword} is not supported yet: it is not in effect");
            return reading.once(Severity::Warning, span, message);
        }
        Some(Verdict::Needless(why)) => {
            return reading.once(Severity::Note, span, format!("{keyword} has no effect: {why}"));
        }
        None => {}
    }
    let place =
        directives::all().iter().find(|r| r.name == keyword || r.aliases.contains(&keyword.as_str())).map(|r| r.scope);
    if let Some(place) = place.or_else(|| unsupported::anywhere(&keyword)) {
        let message = format!("{keyword} has no place {}", scope.within());
        return reading.error(span, message, format!("it belongs into {}", place.name()));
    }
    let near = nearest(&keyword, known(scope)).map(str::to_owned);
    // A line that is not understood where secrets stand may be a secret.
    let hidden = scope.holds_secrets() && near.is_none();
    let shown: String =
        if hidden { "this line".into() } else { format!("`{}`", keyword.chars().take(60).collect::<String>()) };
    let help = match near {
        Some(name) => format!("did you mean {name}?"),
        None if keyword.starts_with('/') => "a pattern belongs into <bounce-category-patterns>".to_owned(),
        None => String::new(),
    };
    reading.error(span, format!("{shown}: there is no such directive {}", scope.within()), help);
    if scope.holds_secrets() {
        let texts = std::mem::take(&mut reading.texts);
        reading.diagnostics.blank(&texts, span, hidden);
        reading.texts = texts;
    }
}

/// Whether the block may stand here; if not, that is reported.
pub(super) fn expect_place(reading: &mut Reading<'_>, block: &Block, scope: Scope) -> bool {
    let tag = block.tag.as_str();
    let Some((_, argument, places)) = BLOCKS.iter().find(|(name, ..)| *name == tag) else {
        if unsupported::BLOCKS.contains(&tag) {
            let message = format!("<{tag}> is not supported yet: it is not in effect");
            reading.once(Severity::Warning, block.span, message);
        } else {
            let names = BLOCKS.iter().map(|(n, ..)| *n).chain(unsupported::BLOCKS.iter().copied());
            let help = nearest(tag, names).map_or(String::new(), |n| format!("did you mean <{n}>?"));
            let shown: String = tag.chars().take(60).collect();
            reading.error(block.span, format!("there is no <{shown}>"), help);
        }
        return false;
    };
    if !places.contains(&scope) {
        let names: Vec<&str> = places.iter().map(|p| p.name()).collect();
        let message = format!("<{tag}> has no place {}", scope.within());
        reading.error(block.span, message, format!("it belongs into {}", names.join(", ")));
        return false;
    }
    if !argument.is_empty() && block.argument.is_none() {
        reading.error(block.span, format!("<{tag}>: argument missing"), format!("write <{tag} {argument}>"));
        return false;
    }
    true
}

/// Reports blocks where none may stand.
pub(super) fn no_blocks(reading: &mut Reading<'_>, scope: Scope, blocks: &[&Block]) {
    for block in blocks {
        expect_place(reading, block, scope);
    }
}

/// Reports a scalar that is given twice in one block.
pub(super) fn note_repetition<T>(
    reading: &mut Reading<'_>,
    table: &'static [Directive<T>],
    before: &[Setting<T>],
    now: &Setting<T>,
) {
    let repeatable = find(table, now.name).is_none_or(|row| row.repeatable);
    if !repeatable && let Some(first) = before.iter().find(|s| s.name == now.name) {
        let help = format!("it is already given at {}", reading.place(first.span));
        reading.warning(now.span, format!("{} is given twice; the later one holds", now.name), help);
    }
}
