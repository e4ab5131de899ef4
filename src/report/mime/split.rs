//! Where the parts of a mail begin and end: one pass over its lines with a short stack of boundaries, so that no nesting
//! and no unclosed boundary can make it slower than linear.

use super::super::bounds::{MAX_BYTES, MAX_DEPTH, MAX_PARTS};
use super::super::fields::{self, Fields};
use super::part::{Media, Part};

/// The leaf parts of a mail, or the whole of one that has none; `media` is what its header says of `body`.
pub(super) fn parts<'a>(header: &Fields, media: Media, body: &'a [u8]) -> Vec<Part<'a>> {
    match boundary(&media, body) {
        Some(b) => parts_of(body, vec![b]),
        None => vec![Part::new(header, media, body)],
    }
}

fn parts_of(bytes: &[u8], mut stack: Vec<Vec<u8>>) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    // The part being read and where its body begins.
    let mut open: Option<(Fields, Media, usize)> = None;
    let at = |rest: &[u8]| bytes.len() - rest.len();
    // Each part may cost a search for its boundary, so their number is bounded, kept or not.
    let mut begun = 0;
    loop {
        let line_start = at(rest);
        let line = fields::next_line(&mut rest);
        let delimiter = match line {
            Some(line) => match delimiter(&stack, line) {
                Some(d) => d,
                None => continue,
            },
            None => (0, true),
        };
        if let Some((header, media, start)) = open.take()
            && parts.len() < MAX_PARTS
        {
            parts.push(Part::new(&header, media, &bytes[start..line_start.max(start)]));
        }
        let (depth, closes) = delimiter;
        stack.truncate(if closes { depth } else { depth + 1 });
        if line.is_none() || stack.is_empty() || parts.len() >= MAX_PARTS {
            return parts;
        }
        if closes {
            continue;
        }
        begun += 1;
        if begun > 2 * MAX_PARTS {
            return parts;
        }
        let header = part_header(&mut rest, &stack);
        let media = Media::of(&header);
        match boundary(&media, &rest[..rest.len().min(MAX_BYTES)]) {
            Some(b) if stack.len() < MAX_DEPTH => stack.push(b),
            _ => open = Some((header, media, at(rest))),
        }
    }
}

/// The header of a part, which a delimiter line may cut short.
fn part_header(rest: &mut &[u8], stack: &[Vec<u8>]) -> Fields {
    let mut ahead = *rest;
    let mut end = 0;
    while let Some(line) = fields::next_line(&mut ahead) {
        if delimiter(stack, line).is_some() {
            break;
        }
        end = rest.len() - ahead.len();
        if line.trim_ascii().is_empty() {
            break;
        }
    }
    let (mut header, after) = rest.split_at(end);
    *rest = after;
    // A part may begin with its blank line: then it has no header, and what follows is its body.
    if fields::next_line(&mut { header }).is_none_or(|l| l.trim_ascii().is_empty()) {
        return Fields::default();
    }
    Fields::read(&mut header)
}

/// Which boundary of the stack (innermost first) this line is a delimiter of, and whether it closes it.
fn delimiter(stack: &[Vec<u8>], line: &[u8]) -> Option<(usize, bool)> {
    let after = line.strip_prefix(b"--")?;
    stack.iter().enumerate().rev().find_map(|(depth, b)| {
        let tail = after.strip_prefix(b.as_slice())?.trim_ascii_end();
        match tail {
            b"" => Some((depth, false)),
            b"--" => Some((depth, true)),
            _ => None,
        }
    })
}

/// The boundary of a multipart: the one its type names when the body uses it, else the first line of the body that
/// looks like one (some systems write another one than they announce, or none).
fn boundary(media: &Media, body: &[u8]) -> Option<Vec<u8>> {
    if !media.name.starts_with("multipart/") {
        return None;
    }
    if !media.boundary.is_empty() {
        let announced = format!("--{}", media.boundary);
        if memchr::memmem::find(body, announced.as_bytes()).is_some() {
            return Some(media.boundary.clone().into_bytes());
        }
    }
    let mut rest = body;
    while let Some(line) = fields::next_line(&mut rest) {
        if let Some(b) = line.strip_prefix(b"--")
            && (4..=72).contains(&b.trim_ascii_end().len())
            && !b.trim_ascii_end().contains(&b' ')
            && fields::next_line(&mut { rest })
                .and_then(fields::split)
                .is_some_and(|(name, _)| name.len() > 8 && name[..8].eq_ignore_ascii_case("content-"))
        {
            return Some(b.trim_ascii_end().to_vec());
        }
    }
    None
}
