//! Queue names: `domain/vmta` (reference/directives.md, 3.3).

use crate::event::address::canonical_domain;

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
    fn one_domain_however_it_is_written_is_one_queue() {
        assert_eq!(destination("a@EXAMPLE.net."), "example.net");
        assert_eq!(destination("a@bücher.example"), "xn--bcher-kva.example");
        assert_eq!(destination("a@[IPv6:2001:DB8::1]"), "[ipv6:2001:db8::1]");
        assert_eq!(destination("nobody"), "");
        let name = QueueName::new("example.net", "{default}");
        assert_eq!((name.as_str(), name.domain(), name.vmta()), ("example.net/{default}", "example.net", "{default}"));
    }
}
