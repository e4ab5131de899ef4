//! SMTP replies (RFC 5321, 4.2) and enhanced status codes (RFC 3463), as values.

use std::fmt;
use std::str::FromStr;

/// An enhanced mail system status code: class 2, 4 or 5, subject and detail up to 999 (RFC 3463, 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EnhancedStatus {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// Whose fault: 1 address, 2 mailbox, 3 mail system, 4 network, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// What exactly.
    pub detail: u16,
}

impl EnhancedStatus {
    /// From its three numbers; `None` when the class is not 2, 4 or 5 or a number passes 999.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Option<EnhancedStatus> {
        if matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999 {
            Some(EnhancedStatus { class, subject, detail })
        } else {
            None
        }
    }

    /// The status at the beginning of `text`, and what follows it. It must end there or at white space.
    pub fn parse_prefix(text: &str) -> Option<(EnhancedStatus, &str)> {
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let status = text[..end].parse().ok()?;
        Some((status, text[end..].trim_start()))
    }

    /// The words PowerMTA writes behind the code in `dsnStatus` (reference/accounting.md, 3.3).
    pub const fn description(self) -> &'static str {
        match (self.class, self.subject, self.detail) {
            (2, 0, 0) => "success",
            (4, 0, 0) | (5, 0, 0) => "undefined status",
            (_, 1, 0) => "other address status",
            (_, 1, 1) => "bad destination mailbox address",
            (_, 1, 2) => "bad destination system address",
            (_, 1, 3) => "bad destination mailbox address syntax",
            (_, 1, 4) => "destination mailbox address ambiguous",
            (_, 1, 5) => "destination address valid",
            (_, 1, 6) => "destination mailbox has moved",
            (_, 1, 7) => "bad sender's mailbox address syntax",
            (_, 1, 8) => "bad sender's system address",
            (_, 1, 9) => "message relayed to non-compliant mailer",
            (_, 1, 10) => "recipient address has null MX",
            (_, 2, 0) => "mailbox-related failure",
            (_, 2, 1) => "mailbox disabled",
            (_, 2, 2) => "mailbox full",
            (_, 2, 3) => "message length exceeds administrative limit",
            (_, 2, 4) => "mailing list expansion problem",
            (_, 3, 0) => "mail system-related failure",
            (_, 3, 1) => "mail system full",
            (_, 3, 2) => "system not accepting network messages",
            (_, 3, 3) => "system not capable of selected features",
            (_, 3, 4) => "message too big for system",
            (_, 3, 5) => "system incorrectly configured",
            (_, 4, 0) => "network or routing-related failure",
            (_, 4, 1) => "no answer from host",
            (_, 4, 2) => "bad connection",
            (_, 4, 3) => "directory server failure",
            (_, 4, 4) => "unable to route",
            (_, 4, 5) => "mail system congestion",
            (_, 4, 6) => "routing loop detected",
            (_, 4, 7) => "delivery time expired",
            (_, 5, 0) => "protocol-related failure",
            (_, 5, 1) => "invalid command",
            (_, 5, 2) => "syntax error",
            (_, 5, 3) => "too many recipients",
            (_, 5, 4) => "invalid command arguments",
            (_, 5, 5) => "wrong protocol version",
            (_, 6, 0) => "content or media error",
            (_, 6, 1) => "media not supported",
            (_, 6, 2) => "conversion required and prohibited",
            (_, 6, 3) => "conversion required but not supported",
            (_, 6, 4) => "conversion with loss performed",
            (_, 6, 5) => "conversion failed",
            (_, 6, 7) => "non-ASCII addresses not permitted",
            (_, 7, 0) => "other or undefined security status",
            (_, 7, 1) => "delivery not authorized",
            (_, 7, 2) => "mailing list expansion prohibited",
            (_, 7, 3) => "security conversion required but not possible",
            (_, 7, 4) => "security features not supported",
            (_, 7, 5) => "cryptographic failure",
            (_, 7, 6) => "cryptographic algorithm not supported",
            (_, 7, 7) => "message integrity failure",
            (2, _, _) => "success",
            (4, _, _) => "transient failure",
            _ => "undefined status",
        }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The text is no enhanced status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code (expected X.Y.Z with X one of 2, 4, 5)")]
pub struct StatusError;

impl FromStr for EnhancedStatus {
    type Err = StatusError;
    fn from_str(s: &str) -> Result<EnhancedStatus, StatusError> {
        let mut parts = s.split('.');
        let mut number = |max_digits: usize| {
            let p = parts.next().ok_or(StatusError)?;
            if p.is_empty() || p.len() > max_digits || !p.bytes().all(|b| b.is_ascii_digit()) {
                return Err(StatusError);
            }
            p.parse::<u16>().map_err(|_| StatusError)
        };
        let (class, subject, detail) = (number(1)?, number(3)?, number(3)?);
        if parts.next().is_some() {
            return Err(StatusError);
        }
        EnhancedStatus::new(class as u8, subject, detail).ok_or(StatusError)
    }
}

/// A whole reply of the other side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The three digits, 200 to 599.
    pub code: u16,
    /// The enhanced code of the first line, if there is one and its class agrees with `code`.
    pub status: Option<EnhancedStatus>,
    /// Code, enhanced code and text; the lines joined by one space (the codes of the following lines left out). What
    /// pattern files are matched against, and, behind `smtp;`, what `dsnDiag` holds.
    pub text: String,
}

impl Reply {
    /// The code that `text` begins with, 200 to 599; `None` when it is no reply.
    pub fn code_of(text: &str) -> Option<u16> {
        let code = text.get(..3)?;
        if !code.bytes().all(|b| b.is_ascii_digit()) || !matches!(text.as_bytes().get(3), None | Some(b' ' | b'-')) {
            return None;
        }
        code.parse().ok().filter(|code| (200..600).contains(code))
    }

    /// Reads `text` (one line, or lines already joined); `None` when it does not begin with a reply code.
    pub fn parse(text: &str) -> Option<Reply> {
        let code = Reply::code_of(text)?;
        let rest = text.get(4..).unwrap_or("").trim_start();
        let status = EnhancedStatus::parse_prefix(rest).map(|(s, _)| s).filter(|s| u16::from(s.class) == code / 100);
        Some(Reply { code, status, text: text.to_owned() })
    }

    /// 2yz.
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4yz.
    pub const fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz.
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The enhanced status, or the one that the basic code alone stands for (X.0.0).
    pub fn status_or_basic(&self) -> EnhancedStatus {
        self.status.unwrap_or(EnhancedStatus {
            class: match self.code / 100 {
                2 | 3 => 2,
                4 => 4,
                _ => 5,
            },
            subject: 0,
            detail: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_back_and_nonsense_is_refused() {
        let s: EnhancedStatus = "5.1.10".parse().unwrap();
        assert_eq!((s.class, s.subject, s.detail), (5, 1, 10));
        assert_eq!(s.to_string(), "5.1.10");
        for bad in ["3.1.1", "5.1", "5.1.1.1", "5.1000.1", "5..1", "", "55.1.1", "5.1.x"] {
            assert!(bad.parse::<EnhancedStatus>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reply_gives_code_and_status() {
        let r = Reply::parse("550 5.1.1 <x@y.z>: no such user").unwrap();
        assert_eq!((r.code, r.status.unwrap().detail), (550, 1));
        assert!(r.is_permanent());
        let r = Reply::parse("550 no such user").unwrap();
        assert_eq!(r.status, None);
        assert_eq!(r.status_or_basic().to_string(), "5.0.0");
        assert!(Reply::parse("hello").is_none());
        assert!(Reply::parse("55").is_none());
        assert!(Reply::parse("5500 x").is_none());
        assert!(Reply::parse("150 x").is_none());
    }

    #[test]
    fn an_enhanced_code_that_contradicts_the_basic_one_is_not_believed() {
        assert_eq!(Reply::parse("250 5.1.1 odd").unwrap().status, None);
    }
}
