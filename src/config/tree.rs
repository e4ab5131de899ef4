//! Lines to a tree: directives and blocks, included files put where they are included.
//!
//! A file must close the tags it opens, so that an include can't change the meaning of what follows it. Faults are
//! reported and reading goes on, so that all of them are found in one go. Bounded: depth of blocks and includes, number
//! of files and bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::diagnose::{Diagnostics, Place, Severity, nearest};
use super::lexer::{Line, Span, Text};

/// Files, as this room needs them. The real ones are in `include.rs`; tests bring their own.
pub trait Files {
    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The files a pattern with `*` or `?` means, sorted; none is fine.
    fn expand(&self, pattern: &Path) -> Vec<PathBuf>;
    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool;
    /// This machine's name.
    fn host_name(&self) -> Option<String>;
}

/// No files at all.
#[derive(Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn expand(&self, _: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
    fn exists(&self, _: &Path) -> bool {
        false
    }
    fn host_name(&self) -> Option<String> {
        None
    }
}

/// What is known while a configuration is being read.
pub struct Reading<'a> {
    /// All texts read so far; spans refer to them by position.
    pub texts: Vec<Text>,
    /// What was found.
    pub diagnostics: Diagnostics,
    /// What relative paths are taken from; the current directory if `None`.
    pub root: Option<PathBuf>,
    /// Where files come from.
    pub files: &'a dyn Files,
    bytes: usize,
    /// Where files of other rooms' business are named.
    pub places: BTreeMap<PathBuf, Place>,
}

impl<'a> Reading<'a> {
    /// Nothing read yet.
    pub fn new(root: Option<&Path>, files: &'a dyn Files) -> Reading<'a> {
        Reading {
            texts: Vec::new(),
            diagnostics: Diagnostics::default(),
            root: root.map(Path::to_owned),
            files,
            bytes: 0,
            places: BTreeMap::new(),
        }
    }

    /// Reports something that keeps the configuration from being used.
    pub fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, span, message, help);
    }

    /// Reports something that does not work as its text seems to say.
    pub fn warning(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, span, message, help);
    }

    /// Reports a spelling that could be better.
    pub fn note(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Note, span, message, help);
    }

    /// Reports something that is the same wherever it is met: the first place is shown, the others are counted.
    pub fn once(&mut self, severity: Severity, span: Span, message: String) {
        self.diagnostics.add_once(&self.texts, severity, span, message);
    }

    fn add(&mut self, severity: Severity, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let help = Some(help.into()).filter(|h| !h.is_empty());
        self.diagnostics.add(&self.texts, severity, span, message.into(), help);
    }

    /// `path` as it will be opened.
    pub fn resolve(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path),
            None => PathBuf::from(path),
        }
    }

    /// Keeps in mind where `path` is named, for what can only be found out about it elsewhere.
    pub fn named_at(&mut self, path: &Path, span: Span) {
        let file = self.texts.get(span.file as usize).map(|t| t.name.clone()).unwrap_or_default();
        self.places.entry(path.to_owned()).or_insert(Place { file, line: span.line });
    }

    /// How a span is called in a message about another place.
    pub fn place(&self, span: Span) -> String {
        let name = self.texts.get(span.file as usize).map(|t| t.name.display().to_string()).unwrap_or_default();
        format!("{name}:{}", span.line)
    }
}

/// A directive or a block.
#[derive(Debug, Clone)]
pub enum Node {
    /// A line with one directive; with several when `several` (they stood on the line of their tag).
    Line {
        /// The line.
        line: Line,
        /// Whether more than one directive may stand on it.
        several: bool,
    },
    /// A tag and what is inside.
    Block(Block),
}

/// A tag and what is inside.
#[derive(Debug, Clone)]
pub struct Block {
    /// Lower-cased.
    pub tag: String,
    /// What follows the tag's name, as a line of its own; `None` when nothing does.
    pub argument: Option<Line>,
    /// Where the tag stands.
    pub span: Span,
    /// In order.
    pub children: Vec<Node>,
}

const MOST_BYTES: usize = 64 << 20;
const MOST_FILES: usize = 4096;
const LONGEST_LINE: usize = 1 << 20;
const LONGEST_TAG: usize = 1 << 16;
const DEEPEST_INCLUDE: usize = 16;
const DEEPEST_BLOCK: usize = 8;

/// Reads a file and everything it includes. Faults are reported to `reading`.
pub fn read_file(reading: &mut Reading<'_>, path: &Path) -> Vec<Node> {
    match reading.files.read(path) {
        Ok(bytes) => read_text(reading, path.to_owned(), &bytes, &mut Vec::new()),
        Err(e) => {
            let message = format!("the file can't be read: {e}");
            reading.diagnostics.about_file(Severity::Error, path.to_owned(), message, None);
            Vec::new()
        }
    }
}

/// Reads a text as if it were the file `name`. `chain` is which files lead here by includes, and from where.
pub fn read_text(
    reading: &mut Reading<'_>,
    name: PathBuf,
    bytes: &[u8],
    chain: &mut Vec<(PathBuf, Span)>,
) -> Vec<Node> {
    let file = reading.texts.len() as u32;
    reading.bytes = reading.bytes.saturating_add(bytes.len());
    if reading.bytes > MOST_BYTES || reading.texts.len() >= MOST_FILES {
        let message = format!("more than {MOST_FILES} files or {} MiB of configuration", MOST_BYTES >> 20);
        reading.diagnostics.about_file(Severity::Error, name, message, Some("include fewer files".into()));
        return Vec::new();
    }
    let text = Text::decode(name.clone(), bytes);
    let broken = text.broken_utf8;
    reading.texts.push(text);
    if let Some(line) = broken {
        let span = Span { file, line, column: 0, length: 0 };
        reading.warning(span, "the file is not UTF-8; what can't be read is replaced", "save the file as UTF-8");
    }
    // Lines are taken out for the time of reading, since findings are added to `reading` on the way.
    let lines = logical_lines(reading, file);
    let mut parser = Parser { open: Vec::new(), root: Vec::new(), braces: 0 };
    for line in lines {
        parser.take(reading, line, &name, chain);
    }
    parser.finish(reading)
}

/// The lines that hold something; a `domain-macro` whose list goes on in the next lines as one, and comments of other
/// languages left out.
fn logical_lines(reading: &mut Reading<'_>, file: u32) -> Vec<Line> {
    let raw = std::mem::take(&mut reading.texts[file as usize].lines);
    let mut lines: Vec<Line> = Vec::new();
    let mut findings: Vec<(Span, &str, &str)> = Vec::new();
    let mut too_long = Vec::new();
    let (mut in_html_comment, mut in_patterns) = (false, false);
    for (i, text) in raw.iter().enumerate() {
        let number = i as u32 + 1;
        if text.len() > LONGEST_LINE || (text.len() > LONGEST_TAG && text.trim_start().starts_with('<')) {
            too_long.push(Span { file, line: number, column: 0, length: 0 });
            continue;
        }
        let Some(line) = Line::of(text, file, number) else { continue };
        let lower = line.text.to_ascii_lowercase();
        if in_html_comment || lower.starts_with("<!--") {
            if !in_html_comment {
                findings.push((line.span, "<!-- --> is a comment of web pages", "begin comments with #"));
            }
            in_html_comment = !lower.contains("-->");
            continue;
        }
        in_patterns = (in_patterns || lower.starts_with("<bounce-category-patterns"))
            && !lower.contains("</bounce-category-patterns");
        if lower.starts_with("//") && !in_patterns {
            findings.push((line.span, "// is a comment of other languages", "begin comments with #"));
            continue;
        }
        if let Some(last) = lines.last_mut()
            && last.keyword() == "domain-macro"
            && (last.text.ends_with(',') || last.text.split_whitespace().nth(2).is_none())
            && !line.text.starts_with('<')
            && line.keyword() != "domain-macro"
        {
            let help = "write the list on one line";
            findings.push((line.span, "the list of the domain-macro above goes on here", help));
            last.text.push(' ');
            last.text.push_str(&line.text);
            continue;
        }
        lines.push(line);
    }
    reading.texts[file as usize].lines = raw;
    for span in too_long {
        reading.error(span, "the line is too long", "write lines up to 1 MiB, and tags up to 64 KiB");
    }
    for (span, message, help) in findings {
        reading.warning(span, message, help);
    }
    lines
}

struct Parser {
    open: Vec<Block>,
    root: Vec<Node>,
    braces: usize,
}

impl Parser {
    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(block) => block.children.push(node),
            None => self.root.push(node),
        }
    }

    fn take(&mut self, reading: &mut Reading<'_>, line: Line, name: &Path, chain: &mut Vec<(PathBuf, Span)>) {
        let text = line.text.as_str();
        if text.ends_with('{') && !text.starts_with(['/', '<']) {
            self.braces += 1;
            let mut words = text.trim_end_matches('{').split_whitespace();
            let tag = words.next().unwrap_or("tag");
            let argument: String = words.map(|w| format!(" {w}")).collect();
            let help = format!("write <{tag}{argument}> ... </{tag}>");
            reading.error(line.span, "blocks in braces are not of this language", help);
            return;
        }
        if self.braces > 0 {
            self.braces -= usize::from(text == "}");
            return;
        }
        if text.starts_with("</") {
            self.close(reading, &line, 0, line.text.len());
        } else if text.starts_with('<') {
            self.tag(reading, &line);
        } else if line.keyword() == "include" {
            for node in include(reading, &line, name, chain) {
                self.put(node);
            }
        } else {
            self.put(Node::Line { line, several: false });
        }
    }

    /// A line that begins with a tag: alone, or the one-line form `<tag x> a 1 b 2 </tag>`.
    fn tag(&mut self, reading: &mut Reading<'_>, line: &Line) {
        let text = line.text.as_str();
        let mut in_quotes = false;
        let end = text.char_indices().find(|(_, c)| {
            in_quotes ^= *c == '"';
            *c == '>' && !in_quotes
        });
        let end = match end {
            Some((end, _)) => end,
            None => {
                reading.error(line.span, "the tag is not closed", "write > at the end of the tag");
                text.len()
            }
        };
        let tag = line.part(1, end);
        let keyword = tag.keyword();
        if keyword.is_empty() {
            reading.error(line.span, "a tag without a name", "write a name after the <");
            return;
        }
        let argument = tag.part(keyword.len(), tag.text.len());
        let argument = (!argument.text.is_empty()).then_some(argument);
        let span = line.span_of(0, (end + 1).min(text.len()));
        if self.open.len() >= DEEPEST_BLOCK {
            reading.error(span, format!("blocks are nested deeper than {DEEPEST_BLOCK}"), "close the blocks before");
            return;
        }
        self.open.push(Block { tag: keyword, argument, span, children: Vec::new() });
        let after = (end + 1).min(text.len());
        if text[after..].trim().is_empty() {
            return;
        }
        let close = text[after..].rfind("</").map(|c| after + c);
        let body = line.part(after, close.unwrap_or(text.len()));
        if !body.text.is_empty() {
            if body.text.starts_with('<') {
                reading.error(body.span, "a tag inside a one-line block", "write each tag on a line of its own");
            } else {
                reading.note(body.span, "directives on the line of their tag", "write each on a line of its own");
                self.put(Node::Line { line: body, several: true });
            }
        }
        if let Some(close) = close {
            self.close(reading, line, close, text.len());
        }
    }

    /// `</tag>`; what follows the name is tolerated.
    fn close(&mut self, reading: &mut Reading<'_>, line: &Line, from: usize, to: usize) {
        let text = line.text[from..to].trim_start_matches("</");
        let end = text.find(|c: char| c == '>' || c.is_whitespace()).unwrap_or(text.len());
        let tag = text[..end].to_ascii_lowercase();
        let span = line.span_of(from, to);
        let Some(depth) = self.open.iter().rposition(|b| b.tag == tag) else {
            // A slip in the closing tag closes the block all the same, so that what follows is read where it belongs.
            let open = self.open.iter().map(|b| b.tag.as_str());
            if let Some(meant) = nearest(&tag, open).map(str::to_owned)
                && self.open.last().is_some_and(|b| b.tag == meant)
            {
                reading.error(span, format!("</{tag}> closes nothing"), format!("did you mean </{meant}>?"));
                if let Some(block) = self.open.pop() {
                    self.put(Node::Block(block));
                }
                return;
            }
            let help = match self.open.last() {
                Some(b) => format!("the open block is <{}> of line {}", b.tag, b.span.line),
                None => "no block is open here".to_owned(),
            };
            reading.error(span, format!("</{tag}> closes nothing"), help);
            return;
        };
        while self.open.len() > depth + 1 {
            self.close_forgotten(reading);
        }
        if let Some(block) = self.open.pop() {
            self.put(Node::Block(block));
        }
    }

    fn close_forgotten(&mut self, reading: &mut Reading<'_>) {
        if let Some(block) = self.open.pop() {
            let help = format!("write </{}> where the block ends", block.tag);
            reading.error(block.span, format!("<{}> is never closed", block.tag), help);
            self.put(Node::Block(block));
        }
    }

    fn finish(mut self, reading: &mut Reading<'_>) -> Vec<Node> {
        while !self.open.is_empty() {
            self.close_forgotten(reading);
        }
        self.root
    }
}

/// What `include PATH` stands for.
fn include(reading: &mut Reading<'_>, line: &Line, name: &Path, chain: &mut Vec<(PathBuf, Span)>) -> Vec<Node> {
    let Some(word) = line.args().rest() else {
        reading.error(line.span, "include without a file", "write include FILE; wildcards are allowed");
        return Vec::new();
    };
    let wild = word.text.contains(['*', '?']);
    let mut path = reading.resolve(&word.text);
    // A configuration that was moved as a whole still finds the files beside it.
    if !wild && !reading.files.exists(&path) && Path::new(&word.text).is_relative() {
        let beside = name.parent().unwrap_or(Path::new("")).join(&word.text);
        if reading.files.exists(&beside) {
            path = beside;
        }
    }
    let paths = if wild { reading.files.expand(&path) } else { vec![path] };
    let mut nodes = Vec::new();
    for path in paths {
        let cycle = path == name || chain.iter().any(|(p, _)| *p == path);
        if cycle {
            let mut steps: Vec<String> = chain.iter().map(|(p, _)| p.display().to_string()).collect();
            steps.push(name.display().to_string());
            let first = steps.iter().position(|s| *s == path.display().to_string()).unwrap_or(0);
            let loop_text = steps[first..].join(" -> ");
            let message = format!("the includes go in a circle: {loop_text} -> {}", path.display());
            reading.error(word.span, message, "take one of these includes out");
            continue;
        }
        if chain.len() >= DEEPEST_INCLUDE {
            let message = format!("includes are nested deeper than {DEEPEST_INCLUDE}");
            reading.error(word.span, message, "include the file from one further up");
            continue;
        }
        match reading.files.read(&path) {
            Ok(bytes) => {
                chain.push((name.to_owned(), line.span));
                nodes.extend(read_text(reading, path, &bytes, chain));
                chain.pop();
            }
            Err(e) => {
                let message = format!("{} can't be read: {e}", path.display());
                reading.error(word.span, message, "check the path and the permissions");
            }
        }
    }
    nodes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Files in memory.
    pub(crate) struct Memory(pub(crate) BTreeMap<PathBuf, String>);

    impl Memory {
        pub(crate) fn of(files: &[(&str, &str)]) -> Memory {
            Memory(files.iter().map(|(n, t)| (PathBuf::from(n), (*t).to_owned())).collect())
        }
    }

    impl Files for Memory {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            self.0.get(path).map(|t| t.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
        fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
            let dir = pattern.parent();
            self.0.keys().filter(|p| p.parent() == dir).cloned().collect()
        }
        fn exists(&self, path: &Path) -> bool {
            self.0.contains_key(path)
        }
        fn host_name(&self) -> Option<String> {
            None
        }
    }

    /// The tree as text, and the messages.
    fn tree(files: &[(&str, &str)]) -> (String, Vec<String>) {
        let memory = Memory::of(files);
        let mut reading = Reading::new(None, &memory);
        let nodes = read_file(&mut reading, Path::new(files[0].0));
        let findings = reading.diagnostics.finish(&reading.texts);
        let shown = findings.iter().map(|d| format!("{}:{}: {}", d.file.display(), d.line, d.message)).collect();
        (show(&nodes), shown)
    }

    fn show(nodes: &[Node]) -> String {
        let one = |n: &Node| match n {
            Node::Line { line, several: false } => line.text.clone(),
            Node::Line { line, several: true } => format!("+{}", line.text),
            Node::Block(b) => {
                let argument = b.argument.as_ref().map_or(String::new(), |a| format!(" {}", a.text));
                format!("<{}{argument}>({})", b.tag, show(&b.children))
            }
        };
        nodes.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn blocks_nest_and_lines_stand_in_order() {
        let (t, e) = tree(&[("c", "a 1\n<Virtual-MTA v>\n<domain *>\nb 2\n</domain>\n</virtual-mta v>\nc 3\n")]);
        assert_eq!(t, "a 1; <virtual-mta v>(<domain *>(b 2)); c 3");
        assert!(e.is_empty(), "{e:?}");
    }

    #[test]
    fn a_block_on_one_line_is_taken_apart() {
        let (t, e) = tree(&[("c", "<domain *> a 1 b 2 </domain>\nc 3")]);
        assert_eq!(t, "<domain *>(+a 1 b 2); c 3");
        assert_eq!(e, ["c:1: directives on the line of their tag"]);
    }

    #[test]
    fn forgotten_and_stray_closing_tags_are_reported_where_they_belong() {
        let (t, e) = tree(&[("c", "<virtual-mta v>\n<domain *>\nb 2\n</virtual-mta>\n</source>\n<domain x>\n")]);
        assert_eq!(t, "<virtual-mta v>(<domain *>(b 2)); <domain x>()");
        assert_eq!(
            e,
            ["c:2: <domain> is never closed", "c:5: </source> closes nothing", "c:6: <domain> is never closed"]
        );
    }

    #[test]
    fn included_text_stands_where_it_is_included() {
        let (t, e) = tree(&[("c", "<domain *>\ninclude inc/*\n</domain>"), ("inc/a", "a 1"), ("inc/b", "b 2")]);
        assert_eq!(t, "<domain *>(a 1; b 2)");
        assert!(e.is_empty(), "{e:?}");
    }

    #[test]
    fn a_circle_of_includes_is_shown_as_a_chain() {
        let (_, e) = tree(&[("a", "include b"), ("b", "include c"), ("c", "x 1\ninclude b")]);
        assert_eq!(e, ["c:2: the includes go in a circle: b -> c -> b"]);
    }

    #[test]
    fn a_missing_include_is_an_error_and_a_wildcard_without_files_is_fine() {
        let (_, e) = tree(&[("a", "include nowhere\ninclude none/*"), ("b", "")]);
        assert_eq!(e.len(), 1, "{e:?}");
        assert!(e[0].starts_with("a:1: nowhere can't be read"));
    }

    #[test]
    fn includes_deeper_than_the_limit_are_refused() {
        let names: Vec<String> = (0..40).map(|i| format!("f{i}")).collect();
        let texts: Vec<String> = (0..40).map(|i| format!("include f{}", i + 1)).collect();
        let files: Vec<(&str, &str)> = names.iter().zip(&texts).map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let (_, e) = tree(&files);
        assert_eq!(e, ["f16:1: includes are nested deeper than 16"]);
    }

    #[test]
    fn braces_get_an_error_that_shows_the_tag_form() {
        let memory = Memory::of(&[("c", "smtp-listener 0/0:25 {\nx 1\n}\ny 2")]);
        let mut reading = Reading::new(None, &memory);
        let nodes = read_file(&mut reading, Path::new("c"));
        assert_eq!(show(&nodes), "y 2");
        let findings = reading.diagnostics.finish(&reading.texts);
        assert_eq!(findings[0].help.as_deref(), Some("write <smtp-listener 0/0:25> ... </smtp-listener>"));
    }

    #[test]
    fn a_macro_list_goes_on_after_a_comma() {
        let (t, e) = tree(&[("c", "domain-macro a x,\n y,\n z\nb 2\ndomain-macro q\nw,v")]);
        assert_eq!(t, "domain-macro a x, y, z; b 2; domain-macro q w,v");
        assert_eq!(e.len(), 3);
    }

    #[test]
    fn comments_of_other_languages_are_left_out_with_a_warning() {
        let (t, e) = tree(&[(
            "c",
            "// one\n<!-- two\nstill --> \na 1\n<bounce-category-patterns>\n// x\n</bounce-category-patterns>",
        )]);
        assert_eq!(t, "a 1; <bounce-category-patterns>(// x)");
        assert_eq!(e.len(), 2);
    }
}
