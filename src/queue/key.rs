//! Queue names: `domain/vmta` (reference/directives.md, 3.3).

use crate::event::address::canonical_domain;

/// Whether the queue of this name is meant by `pattern`: `domain/vmta`, each with any number of `*` for any text; without
/// a VirtualMTA it is `{default}` (reference/directives.md, 3.3).
pub fn is_meant(pattern: &str, queue: &str) -> bool {
    let (domain, vmta) = pattern.split_once('/').unwrap_or((pattern, "{default}"));
    queue
        .split_once('/')
        .is_some_and(|(d, v)| glob(&domain.to_lowercase(), d) && glob(&vmta.to_lowercase(), &v.to_lowercase()))
}

fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or("");
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

/// The destination of a recipient: the domain lower-cased and in A-label form; an address literal lower-cased. Empty
/// when the address has none.
pub fn destination(rcpt: &str) -> std::borrow::Cow<'_, str> {
    rcpt.rfind('@').map_or("".into(), |at| canonical_domain(&rcpt[at + 1..]))
}

/// What a queue is called, and its two halves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueName {
    text: Box<str>,
    slash: usize,
}

impl QueueName {
    /// From its halves. A domain has no slash.
    pub fn new(domain: &str, vmta: &str) -> QueueName {
        QueueName { text: [domain, "/", vmta].concat().into_boxed_str(), slash: domain.len() }
    }

    /// `domain/vmta`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The domain half.
    pub fn domain(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The VirtualMTA half.
    pub fn vmta(&self) -> &str {
        &self.text[self.slash + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_queues_it_is_written_for() {
        for (pattern, queue, meant) in [
            ("gmail.com/v1", "gmail.com/v1", true),
            ("GMAIL.com/V1", "gmail.com/v1", true),
            ("gmail.com", "gmail.com/{default}", true),
            ("gmail.com", "gmail.com/v1", false),
            ("*/*", "gmail.com/v1", true),
            ("*/v1", "gmail.com/v11", false),
            ("yahoo.*/*", "yahoo.co.uk/x", true),
            ("y*.*.uk/*", "yahoo.co.uk/x", true),
            ("*a*a/v", "a/v", false),
            ("*.com/v", "com/v", false),
            ("", "a/{default}", false),
        ] {
            assert_eq!(is_meant(pattern, queue), meant, "{pattern} {queue}");
        }
    }

    #[test]
    fn one_domain_however_it_is_written_is_one_queue() {
        assert_eq!(destination("a@EXAMPLE.net."), "example.net");
        assert_eq!(destination("a@bücher.example"), "xn--bcher-kva.example");
        assert_eq!(destination("a@[IPv6:2001:DB8::1]"), "[ipv6:2001:db8::1]");
        assert_eq!(destination("nobody"), "");
        let name = QueueName::new("example.net", "{default}");
        assert_eq!((name.as_str(), name.domain(), name.vmta()), ("example.net/{default}", "example.net", "{default}"));
    }
}
