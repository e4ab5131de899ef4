//! What operators write for PCRE, as the two engines at hand understand it. Pure.
//!
//! `regex` is linear in the text and lacks look-around, back-references, atomic groups and possessive quantifiers;
//! patterns that use one of these run on `fancy-regex` with a backtrack limit. What is written differently is translated:
//! `\<` and `\>` are the characters, a brace that begins no repetition is itself, `[` and set operators within a class are
//! characters, `\Q...\E` is literal text, `\h` is a blank or tab, `(?#...)` is a comment. What neither engine has is
//! refused by the name PCRE gives it.

/// A pattern ready for an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translated {
    /// As the engine reads it.
    pub(super) regex: String,
    /// Whether it needs the engine that backtracks.
    pub(super) backtracks: bool,
    /// Bytes of `regex`, and of what it was made of, from which on both go on alike.
    moves: Vec<(usize, usize)>,
}

impl Translated {
    /// Which byte of the pattern as it was written stands at this byte of the translated one.
    pub(super) fn origin(&self, at: usize) -> usize {
        let (ours, written) = self.moves.iter().rev().find(|(ours, _)| *ours <= at).copied().unwrap_or_default();
        written + (at - ours)
    }
}

/// What no engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsupported {
    /// Its name in PCRE.
    pub(super) what: &'static str,
    /// At which byte of the pattern.
    pub(super) at: usize,
}

/// Translates a pattern. The error names the syntax that is not supported.
pub(super) fn translate(regex: &str) -> Result<Translated, Unsupported> {
    let chars: Vec<char> = regex.chars().collect();
    let mut out = String::with_capacity(regex.len() + 8);
    let mut backtracks = false;
    let mut at = 0;
    let mut in_class = false;
    let mut class_start = 0;
    // Something that can be repeated has just been repeated: a `+` here is possessive.
    let mut repeated = false;
    let mut moves = vec![(0, 0)];
    // Bytes of the pattern before the character `counted`.
    let (mut written, mut counted) = (0, 0);
    while at < chars.len() {
        written += chars[counted..at].iter().map(|c| c.len_utf8()).sum::<usize>();
        counted = at;
        if moves.last().is_some_and(|(ours, before)| written.wrapping_sub(*before) != out.len() - ours) {
            moves.push((out.len(), written));
        }
        let c = chars[at];
        let next = chars.get(at + 1).copied();
        let refuse = |what| Err(Unsupported { what, at: written });
        let was_repeated = std::mem::take(&mut repeated);
        match c {
            '\\' => {
                at += 2;
                match next {
                    None => return refuse("a backslash at the end"),
                    Some('<' | '>') => out.extend(next),
                    Some('h') if in_class => out.push_str(" \\t"),
                    Some('h') => out.push_str("[ \\t]"),
                    Some('H') if !in_class => out.push_str("[^ \\t]"),
                    Some('R') if !in_class => out.push_str("(?:\\r\\n|[\\n\\x0b\\f\\r\\x85\\u{2028}\\u{2029}])"),
                    Some('N') if !in_class => out.push_str("[^\\n]"),
                    Some('Z') if !in_class => out.push_str("(?:\\n?\\z)"),
                    Some('e') => out.push_str("\\x1b"),
                    Some('Q') => {
                        while at < chars.len() && !(chars[at] == '\\' && chars.get(at + 1) == Some(&'E')) {
                            out.push_str(&regex_syntax::escape(chars[at].encode_utf8(&mut [0; 4])));
                            at += 1;
                        }
                        at += 2;
                    }
                    Some('E') => {}
                    Some('G') => return refuse("\\G (where the last match ended)"),
                    Some('K') => return refuse("\\K (a match that begins later)"),
                    Some('X') => return refuse("\\X (a grapheme)"),
                    Some('C') => return refuse("\\C (a single byte)"),
                    Some('c') => return refuse("\\c (a control character)"),
                    Some('g') => return refuse("\\g (a back-reference or subroutine; write \\1)"),
                    Some(digit @ '1'..='9') if !in_class => {
                        backtracks = true;
                        out.push('\\');
                        out.push(digit);
                    }
                    Some('k') if !in_class => {
                        backtracks = true;
                        out.push_str("\\k");
                    }
                    Some('0') => return refuse("\\0 (an octal number; write \\x00)"),
                    Some(other) => {
                        out.push('\\');
                        out.push(other);
                    }
                }
                continue;
            }
            '[' if in_class => {
                // [:alpha:] and its like are the same in both.
                let named = (next == Some(':'))
                    .then(|| chars[at..].iter().position(|c| *c == ']').filter(|end| chars[at + end - 1] == ':'))
                    .flatten();
                match named {
                    Some(end) => {
                        out.extend(&chars[at..=at + end]);
                        at += end;
                    }
                    None => out.push_str("\\["),
                }
            }
            ']' if in_class && at > class_start => {
                in_class = false;
                out.push(']');
            }
            ']' if in_class => out.push_str("\\]"),
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && next == Some('-') => out.push_str("\\-"),
            _ if in_class => out.push(c),
            '[' => {
                in_class = true;
                out.push('[');
                if next == Some('^') {
                    out.push('^');
                    at += 1;
                }
                class_start = at + 1;
            }
            '(' if next == Some('*') => return refuse("(*...) (a verb)"),
            '(' if next == Some('?') => {
                let rest: String = chars[at + 2..].iter().take(3).collect();
                match rest.as_str() {
                    r if r.starts_with('#') => {
                        let end = chars[at..].iter().position(|c| *c == ')');
                        at += end.map_or(chars.len(), |end| end + 1);
                        continue;
                    }
                    r if r.starts_with(['=', '!', '>']) || r.starts_with("<=") || r.starts_with("<!") => {
                        backtracks = true;
                    }
                    r if r.starts_with('|') => return refuse("(?|...) (groups with one number)"),
                    r if r.starts_with('(') => return refuse("(?(...)...) (a condition)"),
                    r if r.starts_with(['R', '&', '+', '0']) || r.starts_with(|c: char| c.is_ascii_digit()) => {
                        return refuse("(?R), (?1) and (?&name) (recursion)");
                    }
                    r if r.starts_with("P>") => return refuse("(?P>name) (recursion)"),
                    r if r.starts_with("P=") => return refuse("(?P=name) (a back-reference; write \\1)"),
                    r if r.starts_with('C') => return refuse("(?C) (a callout)"),
                    r if r.starts_with('\'') => return refuse("(?'name'...) (write (?<name>...))"),
                    _ => {}
                }
                out.push_str("(?");
                at += 1;
            }
            '{' => match repetition(&chars[at..]) {
                Some(length) => {
                    out.extend(&chars[at..at + length]);
                    at += length - 1;
                    repeated = true;
                }
                None => out.push_str("\\{"),
            },
            '}' => out.push_str("\\}"),
            '+' if was_repeated => {
                backtracks = true;
                out.push('+');
            }
            '?' | '*' | '+' => {
                out.push(c);
                repeated = !was_repeated;
            }
            _ => out.push(c),
        }
        at += 1;
    }
    Ok(Translated { regex: out, backtracks, moves })
}

/// Length of the `{2}`, `{2,}` or `{2,5}` that `chars` begins with. `{,5}` is literal text in PCRE.
fn repetition(chars: &[char]) -> Option<usize> {
    let end = chars.iter().position(|c| *c == '}')?;
    let inner: String = chars[1..end].iter().collect();
    let (least, most) = inner.split_once(',').unwrap_or((&inner, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_pcre_writes_differently_is_translated() {
        for (pcre, ours) in [
            (r"<a\>b", "<a>b"),
            (r"a{b}{2}", r"a\{b\}{2}"),
            ("[[a][]b]", r"[\[a][\]b]"),
            ("[[:alpha:]_]", "[[:alpha:]_]"),
            (r"\Qa.b\Ec", r"a\.bc"),
            (r"a\hb(?#why)c", r"a[ \t]bc"),
            ("[a&&b]", r"[a\&\&b]"),
        ] {
            let translated = translate(pcre).unwrap();
            assert_eq!((&*translated.regex, translated.backtracks), (ours, false), "{pcre}");
        }
        for pcre in ["a(?!b)", "(a)\\1", "(?<=x)a", "(?>a)b", "a++b", "a{2}+b"] {
            assert!(translate(pcre).unwrap().backtracks, "{pcre}");
        }
        assert!(!translate("a+?b??").unwrap().backtracks);
    }

    #[test]
    fn what_no_engine_has_is_refused_by_name() {
        for (pcre, name) in [
            (r"a\Kb", "\\K"),
            ("(?R)", "recursion"),
            ("(?(1)a|b)", "condition"),
            ("(*SKIP)", "verb"),
            ("(?|a|b)", "groups"),
        ] {
            let error = translate(pcre).unwrap_err();
            assert!(error.what.contains(name), "{error:?}");
        }
        assert_eq!(translate(r"é\<\K").unwrap_err().at, 4);
    }

    #[test]
    fn a_place_in_the_translated_pattern_is_one_in_what_was_written() {
        let written = r"é\Qa.b\E\<(x{,2}";
        let translated = translate(written).unwrap();
        for (ours, theirs) in [("(x", "(x"), ("x", "x{"), ("<", r"\<"), ("é", "é")] {
            let at = translated.regex.find(ours).unwrap();
            assert_eq!(translated.origin(at), written.find(theirs).unwrap(), "{ours} in {}", translated.regex);
        }
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(regex in r"[\[\]\\a(){}?*+QE:^0-2 ,#é<!=]{0,30}") {
            if let Ok(translated) = translate(&regex) {
                for at in 0..=translated.regex.len() {
                    let _ = translated.origin(at);
                }
            }
        }
    }
}
