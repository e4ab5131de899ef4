//! What a server says it can do in its reply to EHLO (RFC 5321, 4.1.1.1).
//!
//! Promises: what is kept is bounded; keywords are compared without regard to case (RFC 5321, 2.4). Never fails: a
//! line that is no keyword is passed over.

use super::reply::RawReply;

/// Octets of keywords that are kept for `dlvEsmtpAvailable`.
const MAX_KEYWORDS: usize = 512;

/// A server's extensions. The default is a server that knows none, as after HELO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ehlo {
    /// The keywords in the server's order, comma separated, without parameters (`dlvEsmtpAvailable`).
    pub keywords: String,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// SIZE (RFC 1870): offered, with the largest message taken; 0 says nothing about it.
    pub size: Option<u64>,
    /// DSN (RFC 3461).
    pub dsn: bool,
}

impl Ehlo {
    /// From a positive reply to EHLO. The first line is the server's name and greeting.
    pub fn parse(reply: RawReply<'_>) -> Ehlo {
        let mut ehlo = Ehlo::default();
        for line in reply.lines().skip(1) {
            let mut words = line.split(|b| matches!(b, b' ' | b'\t' | b'=')).filter(|w| !w.is_empty());
            let Some(keyword) = words.next().and_then(|w| std::str::from_utf8(w).ok()) else { continue };
            if !keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                continue;
            }
            if ehlo.keywords.len() + keyword.len() < MAX_KEYWORDS {
                if !ehlo.keywords.is_empty() {
                    ehlo.keywords.push(',');
                }
                ehlo.keywords.extend(keyword.chars().map(|c| c.to_ascii_uppercase()));
            }
            match keyword {
                k if k.eq_ignore_ascii_case("PIPELINING") => ehlo.pipelining = true,
                k if k.eq_ignore_ascii_case("8BITMIME") => ehlo.eight_bit_mime = true,
                k if k.eq_ignore_ascii_case("SMTPUTF8") => ehlo.smtp_utf8 = true,
                k if k.eq_ignore_ascii_case("STARTTLS") => ehlo.starttls = true,
                k if k.eq_ignore_ascii_case("DSN") => ehlo.dsn = true,
                k if k.eq_ignore_ascii_case("SIZE") => {
                    let limit = words.next().and_then(|w| std::str::from_utf8(w).ok()).and_then(|w| w.parse().ok());
                    ehlo.size = Some(limit.unwrap_or(0));
                }
                _ => {}
            }
        }
        ehlo
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::reply::Replies;

    fn parse(text: &str) -> Ehlo {
        let mut replies = Replies::new();
        replies.buffer().extend_from_slice(text.as_bytes());
        Ehlo::parse(replies.take().unwrap().unwrap())
    }

    #[test]
    fn the_extensions_are_read_whatever_their_case() {
        let e = parse(
            "250-mx.example.net hello\r\n250-pipelining\r\n250-SIZE 52428800\r\n250-8BitMime\r\n250-AUTH=PLAIN\r\n250 STARTTLS\r\n",
        );
        assert!(e.pipelining && e.eight_bit_mime && e.starttls && !e.smtp_utf8);
        assert_eq!(e.size, Some(52_428_800));
        assert_eq!(e.keywords, "PIPELINING,SIZE,8BITMIME,AUTH,STARTTLS");
    }

    #[test]
    fn the_greeting_line_is_no_keyword_and_nonsense_is_passed_over() {
        let e = parse("250-PIPELINING\r\n250-\r\n250-über\r\n250 SIZE x\r\n");
        assert!(!e.pipelining);
        assert_eq!((e.size, e.keywords.as_str()), (Some(0), "SIZE"));
    }

    #[test]
    fn the_list_that_is_kept_is_bounded() {
        let many = (0..500).map(|i| format!("250-KEYWORD{i}\r\n")).collect::<String>();
        assert!(parse(&format!("250-x\r\n{many}250 PIPELINING\r\n")).keywords.len() <= MAX_KEYWORDS);
    }
}
