//! Which replies say the same: the variable parts masked, then those that differ in a word or two put together.
//!
//! [`masked`] writes `<address>`, `<ip>`, `<host>`, `<time>`, `<id>` and `<n>` for what changes from mail to mail; reply
//! code and enhanced code stay. [`Templates`] groups masked replies in the manner of Drain (He et al., 2017): a reply
//! joins a group of its codes and its length when few of its words differ, and those become `<*>`. Words that carry the
//! meaning of a refusal ("full", "disabled") are never taken for variable. Pure, bounded: at most [`Templates::new`]'s
//! number of groups is kept, of one length and code [`MAX_ALIKE`], and what then belongs to none is told so.

use std::fmt;

use hashbrown::HashMap;

/// Stands for one or more words that differ between the replies of a group.
pub const ANY: &str = "<*>";
/// How much of a reply is looked at, in bytes.
const MAX_REPLY: usize = 2048;
/// Most words of a template; later ones are not looked at.
const MAX_WORDS: usize = 64;
/// Most groups of the same codes and length: each new reply is held against all of them.
pub const MAX_ALIKE: usize = 1_000;
/// Masked texts whose group is remembered.
const MAX_REMEMBERED: usize = 65_536;

/// Words that make a different reply of an otherwise equal one: none of them is ever a variable part.
const MEANINGFUL: &[&str] = &[
    "abuse",
    "access",
    "account",
    "active",
    "address",
    "allowed",
    "attachment",
    "auth",
    "authentication",
    "bad",
    "banned",
    "blacklist",
    "blacklisted",
    "block",
    "blocked",
    "blocklist",
    "bulk",
    "busy",
    "closed",
    "complaint",
    "complaints",
    "connection",
    "connections",
    "content",
    "deferred",
    "deleted",
    "denied",
    "disabled",
    "dkim",
    "dmarc",
    "dns",
    "domain",
    "dynamic",
    "error",
    "exceeded",
    "exist",
    "expired",
    "failed",
    "forbidden",
    "found",
    "frequency",
    "full",
    "greylisted",
    "greylisting",
    "host",
    "inactive",
    "invalid",
    "ip",
    "limit",
    "limited",
    "listed",
    "load",
    "local",
    "locked",
    "loop",
    "mailbox",
    "malware",
    "many",
    "message",
    "no",
    "not",
    "over",
    "permanent",
    "policy",
    "ptr",
    "quota",
    "rate",
    "rbl",
    "recipient",
    "refused",
    "rejected",
    "relay",
    "relaying",
    "reputation",
    "resources",
    "reverse",
    "route",
    "sender",
    "server",
    "size",
    "slow",
    "spam",
    "spf",
    "storage",
    "suspended",
    "syntax",
    "temporarily",
    "temporary",
    "timeout",
    "tls",
    "unauthenticated",
    "unavailable",
    "unknown",
    "unrouteable",
    "unsolicited",
    "user",
    "users",
    "virus",
];

/// The reply with its variable parts masked; its words are divided by single blanks.
pub fn masked(reply: &str) -> String {
    let reply = &reply[..reply.floor_char_boundary(MAX_REPLY)];
    let mut out = String::with_capacity(reply.len());
    let (code, rest) = split_code(reply);
    out.push_str(code);
    let mut at_start = true;
    for word in rest.split_whitespace().take(MAX_WORDS) {
        if !out.is_empty() {
            out.push(' ');
        }
        // Every line of a foreign log may repeat the codes: `550-5.1.1 ... 550-5.1.1 ...`.
        if std::mem::take(&mut at_start) && is_enhanced(word) {
            out.push_str(word);
        } else {
            mask_word(word, &mut out);
        }
    }
    out
}

/// The basic code in front, and the rest.
fn split_code(reply: &str) -> (&str, &str) {
    let reply = reply.trim_start();
    let is_code = |b: &[u8]| matches!(b, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']);
    match reply.as_bytes() {
        [a, b, c] if is_code(&[*a, *b, *c]) => (reply, ""),
        [a, b, c, b' ' | b'-', ..] if is_code(&[*a, *b, *c]) => (&reply[..3], &reply[4..]),
        _ => ("", reply),
    }
}

fn is_enhanced(word: &str) -> bool {
    word.parse::<crate::event::EnhancedStatus>().is_ok()
}

/// What may stand inside a word without dividing it.
fn is_core(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '%' | '~')
}

fn mask_word(word: &str, out: &mut String) {
    if let Some(at) = word.find("://") {
        let scheme =
            word[..at].rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |n| word.ceil_char_boundary(n + 1));
        if scheme > 0 {
            mask_word(&word[..scheme], out);
        }
        let end = word[at..].find(['<', '>', '"', ')', ']', '\'', ',', ';']).map_or(word.len(), |n| at + n);
        mask_url(&word[scheme..end], out);
        if end < word.len() {
            mask_word(&word[end..], out);
        }
        return;
    }
    if let Some(at) = word.find('@') {
        let ends = |c: char| matches!(c, '<' | '>' | '(' | ')' | '[' | ']' | '"' | '\'' | ',' | ';' | ':');
        let start = word[..at].rfind(ends).map_or(0, |n| n + 1);
        let end = word[at + 1..].find(|c: char| ends(c) || !(is_core(c))).map_or(word.len(), |n| at + 1 + n);
        let end = at + 1 + word[at + 1..end].trim_end_matches(['.', '-']).len();
        if start < at && end > at + 1 {
            mask_word_without_address(&word[..start], out);
            out.push_str("<address>");
            mask_word(&word[end..], out);
            return;
        }
    }
    mask_word_without_address(word, out);
}

fn mask_word_without_address(word: &str, out: &mut String) {
    if word.contains(':') {
        let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != ':');
        let bare = inner.trim_end_matches(':');
        let address = [inner, bare].into_iter().find(|w| w.parse::<std::net::Ipv6Addr>().is_ok());
        if let Some(address) = address {
            let at = word.find(address).unwrap_or(0);
            out.push_str(&word[..at]);
            out.push_str("<ip>");
            out.push_str(&word[at + address.len()..]);
            return;
        }
        if bare.len() >= 4 && bare.contains(':') && bare.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.') {
            let at = word.find(bare).unwrap_or(0);
            out.push_str(&word[..at]);
            out.push_str(if bare.contains('.') && bare.split(':').next().is_some_and(is_ipv4) {
                "<ip>:<n>"
            } else {
                "<time>"
            });
            out.push_str(&word[at + bare.len()..]);
            return;
        }
    }
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let core = rest.find(|c: char| !is_core(c)).unwrap_or(rest.len());
        if core == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let piece = &rest[..core];
        // A full stop or dash at either end belongs to the sentence.
        let trimmed = piece.trim_end_matches(['.', '-']);
        let kept = trimmed.trim_start_matches(['.', '-']);
        out.push_str(&trimmed[..trimmed.len() - kept.len()]);
        out.push_str(mask_piece(kept).unwrap_or(kept));
        out.push_str(&piece[trimmed.len()..]);
        rest = &rest[core..];
    }
}

/// The host stays, since it is the provider's page; path and query stay as far as they hold no digits.
fn mask_url(url: &str, out: &mut String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    out.push_str(scheme);
    out.push_str("://");
    out.push_str(if is_ipv4(host) { "<ip>" } else { host });
    let (path, query) = path.find(['?', '#']).map_or((path, ""), |at| path.split_at(at));
    for (n, part) in path.split('/').enumerate() {
        if n > 0 {
            out.push('/');
        }
        let varies = part.len() > 40 || part.bytes().any(|b| b.is_ascii_digit() || b == b'@');
        out.push_str(if varies { "<id>" } else { part });
    }
    if let Some(mark) = query.chars().next() {
        out.push(mark);
        out.push_str("<id>");
    }
}

fn is_ipv4(piece: &str) -> bool {
    piece.parse::<std::net::Ipv4Addr>().is_ok()
}

/// The mask of a piece that is variable by its form.
fn mask_piece(piece: &str) -> Option<&'static str> {
    let bytes = piece.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|b| b.is_ascii_alphabetic()).count();
    if !piece.is_ascii() || bytes.is_empty() {
        return None;
    }
    if digits == bytes.len() {
        return Some("<n>");
    }
    if is_ipv4(piece) {
        return Some("<ip>");
    }
    if is_enhanced(piece) {
        return None;
    }
    if letters == 0 {
        let date = bytes.len() == 10 && matches!(bytes[4], b'-' | b'.')
            || bytes.len() == 10 && matches!(bytes[2], b'-' | b'.');
        return (digits > 0).then_some(if date { "<time>" } else { "<n>" });
    }
    if is_host(piece) {
        return Some("<host>");
    }
    if digits == 0 {
        // Longer than any word, and not put together of words.
        return (letters == bytes.len() && letters >= 24).then_some("<id>");
    }
    let head = bytes.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let tail = bytes[head..].strip_prefix(b"-").unwrap_or(&bytes[head..]);
    // `S3150`, `TS03`, `OU-001`, `IPv6`, `4xx`: the provider's own error numbers are what tells its replies apart.
    let named = (1..=6).contains(&head) && !tail.is_empty() && tail.len() <= 4 && tail.iter().all(u8::is_ascii_digit);
    let amount = digits <= 4 && head == 0 && letters <= 2 && digits + letters == bytes.len();
    match () {
        () if named => None,
        () if amount => Some("<n>"),
        () if bytes.len() >= 5 => Some("<id>"),
        () => None,
    }
}

/// A host name: labels of which the last is a top-level domain, by its form.
fn is_host(piece: &str) -> bool {
    const ENDS: &[&str] = &[
        "com", "net", "org", "edu", "gov", "mil", "info", "biz", "example", "local", "test", "invalid", "arpa",
        "cloud", "mail",
    ];
    let mut labels = piece.split('.');
    let Some(last) = labels.next_back() else { return false };
    let count = labels.clone().count();
    let lower = last.to_ascii_lowercase();
    let is_top = ENDS.contains(&&*lower) || (lower.len() == 2 && lower.bytes().all(|b| b.is_ascii_alphabetic()));
    count >= 1
        && is_top
        && labels.all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')))
        // `e.g` and `i.e` are no hosts.
        && piece.len() > 4
}

/// A group of replies that say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<Box<str>>,
}

impl Template {
    /// That of one reply.
    pub fn of(reply: &str) -> Template {
        Template::from_masked(&masked(reply))
    }

    /// From its text, as [`Display`](fmt::Display) writes it.
    pub fn from_masked(text: &str) -> Template {
        Template { words: text.split(' ').filter(|w| !w.is_empty()).map(Into::into).collect() }
    }

    /// Its words; masks stand in angle brackets, [`ANY`] for words that differ.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().map(|w| &**w)
    }

    /// Reply code and enhanced code, as far as it begins with them: how many words they are.
    pub fn codes(&self) -> usize {
        let is_code = |w: &str| w.len() == 3 && w.bytes().all(|b| b.is_ascii_digit());
        let first = usize::from(self.words.first().is_some_and(|w| is_code(w)));
        first + usize::from(self.words.get(first).is_some_and(|w| is_enhanced(w)))
    }

    /// How many of its words are neither codes nor masks.
    pub fn constant_words(&self) -> usize {
        self.words().skip(self.codes()).filter(|w| !is_variable(w)).count()
    }

    /// Whether `other`, of the same length and codes, says the same; then this becomes what both have in common.
    fn join(&mut self, other: &[&str]) -> bool {
        let codes = self.codes();
        let mut differ = 0;
        for (own, new) in self.words.iter().zip(other).skip(codes) {
            if &**own != *new && &**own != ANY {
                differ += 1;
                if is_meaningful(own) || is_meaningful(new) {
                    return false;
                }
            }
        }
        // What the words in common are, masks and gaps left out.
        let common = self.words.iter().zip(other).skip(codes).filter(|(o, n)| &***o == **n && !is_variable(o)).count();
        if differ > (self.words.len() - codes).saturating_sub(1) / 4
            || common * 2 < self.words.len() - codes && differ > 0
        {
            return false;
        }
        for (own, new) in self.words.iter_mut().zip(other).skip(codes) {
            if &**own != *new && &**own != ANY {
                *own = ANY.into();
            }
        }
        true
    }

    /// What this and another, of whatever length, have in common, when that is nearly all of both.
    fn merged(&self, other: &Template) -> Option<Template> {
        let (codes, longer) = (self.codes(), self.words.len().max(other.words.len()));
        if codes != other.codes() || self.words[..codes] != other.words[..codes] {
            return None;
        }
        let (a, b) = (&self.words[codes..], &other.words[codes..]);
        let longer = longer - codes;
        if a.len().abs_diff(b.len()) * 4 > longer {
            return None;
        }
        // Lengths of the longest common subsequences of the ends of both.
        let width = b.len() + 1;
        let mut lengths = vec![0u16; (a.len() + 1) * width];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                lengths[i * width + j] = match a[i] == b[j] {
                    true => lengths[(i + 1) * width + j + 1] + 1,
                    false => lengths[(i + 1) * width + j].max(lengths[i * width + j + 1]),
                };
            }
        }
        if usize::from(lengths[0]) * 4 < longer * 3 {
            return None;
        }
        let (mut i, mut j) = (0, 0);
        let mut words: Vec<Box<str>> = self.words[..codes].to_vec();
        let gap = |words: &mut Vec<Box<str>>, word: &str| {
            if is_meaningful(word) {
                return None;
            }
            if words.last().is_none_or(|w| &**w != ANY) {
                words.push(ANY.into());
            }
            Some(())
        };
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                if &*a[i] != ANY || words.last().is_none_or(|w| &**w != ANY) {
                    words.push(a[i].clone());
                }
                (i, j) = (i + 1, j + 1);
            } else if j == b.len() || i < a.len() && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
                gap(&mut words, &a[i])?;
                i += 1;
            } else {
                gap(&mut words, &b[j])?;
                j += 1;
            }
        }
        let merged = Template { words };
        (merged.constant_words() * 2 >= longer).then_some(merged)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

/// Whether a word is a mask, or holds one.
pub fn is_variable(word: &str) -> bool {
    word == ANY || ["<address>", "<ip>", "<host>", "<time>", "<id>", "<n>"].iter().any(|mask| word.contains(mask))
}

fn is_meaningful(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    bare.len() <= 16 && MEANINGFUL.binary_search(&&*bare.to_ascii_lowercase()).is_ok()
}

/// Which groups a reply can belong to: those with its codes and its number of words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    codes: Box<str>,
    words: usize,
}

/// Groups of replies, each with a number from 0 in the order in which they were first seen.
#[derive(Debug)]
pub struct Templates {
    all: Vec<Template>,
    places: HashMap<Place, Vec<u32>, foldhash::fast::FixedState>,
    /// Groups of masked texts.
    known: HashMap<Box<str>, u32, foldhash::fast::FixedState>,
    most: usize,
}

impl Templates {
    /// None yet; at most `most` are kept.
    pub fn new(most: usize) -> Templates {
        Templates { all: Vec::new(), places: HashMap::default(), known: HashMap::default(), most }
    }

    /// The group of a reply, a new one if it is like none. `None` when there are too many to begin another.
    pub fn place(&mut self, reply: &str) -> Option<usize> {
        let text = masked(reply);
        self.place_masked(&text)
    }

    /// The group of a reply that is masked already.
    pub fn place_masked(&mut self, text: &str) -> Option<usize> {
        if let Some(number) = self.find_masked(text) {
            return Some(number);
        }
        if self.all.len() >= self.most {
            return None;
        }
        let template = Template::from_masked(text);
        let number = self.all.len();
        let place = self.places.entry(Templates::place_of(&template)).or_default();
        if place.len() >= MAX_ALIKE {
            return None;
        }
        place.push(u32::try_from(number).ok()?);
        self.all.push(template);
        self.remember(text, number);
        Some(number)
    }

    /// The group that a masked reply belongs to, if there is one by now; it may become a little wider by this.
    pub fn find_masked(&mut self, text: &str) -> Option<usize> {
        if let Some(number) = self.known.get(text) {
            return Some(*number as usize);
        }
        let template = Template::from_masked(text);
        let words: Vec<&str> = template.words().collect();
        let group = self.places.get(&Templates::place_of(&template))?;
        let number = *group.iter().find(|n| self.all[**n as usize].join(&words))? as usize;
        self.remember(text, number);
        Some(number)
    }

    fn place_of(template: &Template) -> Place {
        let codes: Vec<&str> = template.words().take(template.codes()).collect();
        Place { codes: codes.join(" ").into(), words: template.words.len() }
    }

    fn remember(&mut self, text: &str, number: usize) {
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(text.into(), number as u32);
    }

    /// The group of this number.
    pub fn template(&self, number: usize) -> &Template {
        &self.all[number]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Puts groups together that differ in length only by a word or two, among the first `among` of `order` (numbers of
    /// groups, most important first). Gives the groups that are left, each with the numbers it was made of.
    pub fn merged(&self, order: &[usize], among: usize) -> Vec<(Template, Vec<usize>)> {
        let mut groups: Vec<(Template, Vec<usize>)> = Vec::new();
        for (rank, &number) in order.iter().enumerate() {
            let template = &self.all[number];
            let joined = (rank < among)
                .then(|| groups.iter_mut().find_map(|g| g.0.merged(template).map(|merged| (g, merged))))
                .flatten();
            match joined {
                Some((group, merged)) => {
                    group.0 = merged;
                    group.1.push(number);
                }
                None => groups.push((template.clone(), vec![number])),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_changes_from_mail_to_mail_is_masked_and_what_tells_replies_apart_stays() {
        for (reply, expected) in [
            (
                "550-5.1.1 The email account <ann.b+c@mail.example.com>: does not exist b9si1234567qkj.12 - gsmtp",
                "550 5.1.1 The email account <<address>>: does not exist <id> - gsmtp",
            ),
            ("421 4.7.0 [192.0.2.7] [TSS04] Messages deferred", "421 4.7.0 [<ip>] [TSS04] Messages deferred"),
            ("550 (2001:db8::1) blocked at 12:30:45", "550 (<ip>) blocked at <time>"),
            ("451 try again in 300 seconds, 2026-01-31", "451 try again in <n> seconds, <time>"),
            ("550 5.7.1 via mx-in-1.example.com.", "550 5.7.1 via <host>."),
            ("554 see https://www.spamhaus.org/query/ip/192.0.2.10.", "554 see https://www.spamhaus.org/query/ip/<id>"),
            ("550 to=<a@b.example>, id 1abCDe-0003Xy-WL", "550 to=<<address>>, id <id>"),
            ("550 SRS0=x=y=dom=user@fwd.example no", "550 <address> no"),
            ("554 [192.0.2.10]:24706 is in an RBL", "554 [<ip>]:<n> is in an RBL"),
            ("550 用户 ann@qq.example 不存在", "550 用户 <address> 不存在"),
            ("550", "550"),
            ("connection refused", "connection refused"),
            ("", ""),
        ] {
            assert_eq!(masked(reply), expected, "{reply}");
        }
    }

    #[test]
    fn the_list_of_meaningful_words_can_be_searched() {
        assert!(MEANINGFUL.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn replies_that_differ_in_a_name_are_one_group_and_those_that_differ_in_meaning_are_two() {
        let mut templates = Templates::new(100);
        let first = templates.place("550 5.9.9 The box of smith went away for the summer, 17 days").unwrap();
        assert_eq!(templates.place("550 5.9.9 The box of miller went away for the summer, 3 days"), Some(first));
        assert_eq!(
            templates.template(first).to_string(),
            "550 5.9.9 The box of <*> went away for the summer, <n> days"
        );
        let full = templates.place("550 5.9.9 the whole mailbox is full right now").unwrap();
        let closed = templates.place("550 5.9.9 the whole mailbox is closed right now").unwrap();
        assert_ne!(full, closed);
        assert_ne!(templates.place("550 user unknown"), templates.place("450 user unknown"));
    }

    #[test]
    fn groups_that_differ_in_length_are_put_together_in_the_end() {
        let mut templates = Templates::new(100);
        for name in ["anna", "anna maria", "hans"] {
            templates.place(&format!("550 5.9.9 Sorry but dear {name} has left this fine company for good")).unwrap();
        }
        assert_eq!(templates.len(), 2);
        let merged = templates.merged(&[0, 1], 10);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].0.to_string(), "550 5.9.9 Sorry but dear <*> has left this fine company for good");
        assert_eq!(merged[0].1, [0, 1]);
    }

    #[test]
    fn there_are_never_more_groups_than_were_allowed() {
        let mut templates = Templates::new(2);
        assert_eq!(templates.place("550 one"), Some(0));
        assert_eq!(templates.place("551 two"), Some(1));
        assert_eq!(templates.place("552 three"), None);
        assert_eq!(templates.place("550 one"), Some(0));
    }

    #[test]
    fn a_url_behind_letters_that_take_several_bytes_is_masked_like_any_other() {
        assert_eq!(masked("siehe用x://a.example/b?1"), masked("siehe用x://a.example/b?2"));
        assert!(masked("é://").starts_with('é'));
    }

    proptest! {
        #[test]
        fn no_reply_makes_masking_panic_and_a_masked_reply_is_stable_in_its_length(reply in "(?s)[ -~é用@:/<>.]{0,80}") {
            let text = masked(&reply);
            prop_assert!(text.split(' ').count() <= MAX_WORDS + 2);
            let mut templates = Templates::new(10);
            prop_assert_eq!(templates.place(&reply), templates.place(&reply));
        }
    }
}
