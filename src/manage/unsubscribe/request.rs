//! What a request to the unsubscribe endpoint asks for. Pure: what arrived in, what it means out.
//!
//! Only a POST unsubscribes, and only one that says `List-Unsubscribe=One-Click` (RFC 8058, 3.2), as mail programs and the
//! button of our page do: programs that follow every link of a mail to see what is behind it send GET, or POST with
//! nothing in it.

use crate::event::unsubscribe_token::{MAX_LETTERS, Way};

/// Octets of a body that are looked at.
pub const MAX_BODY: usize = 16 << 10;
/// Fields of a form that are looked at.
const MAX_FIELDS: usize = 32;

/// The field by which our page says that it is the one who asks.
pub const PAGE_FIELD: (&str, &str) = ("by", "page");
/// The field that asks for it (RFC 8058, 3.2).
pub const ONE_CLICK: (&str, &str) = ("List-Unsubscribe", "One-Click");

/// The token in a path: what stands behind the last slash, so that a proxy may put the endpoint below any path.
pub fn token(path: &str) -> Option<&str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let last = path.rsplit('/').next().unwrap_or("");
    (!last.is_empty() && last.len() <= MAX_LETTERS).then_some(last)
}

/// Who asks to unsubscribe; `None` when the body does not ask for that. `content_type` as it stands in the request.
pub fn wish(content_type: &str, body: &[u8]) -> Option<Way> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let fields = match kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        true => multipart(boundary(parameters)?, body),
        false => url_encoded(body),
    };
    let says = |(name, value): (&str, &str)| {
        fields.iter().any(|(n, v)| n.eq_ignore_ascii_case(name) && v.trim().eq_ignore_ascii_case(value))
    };
    says(ONE_CLICK).then(|| if says(PAGE_FIELD) { Way::Page } else { Way::OneClick })
}

/// `application/x-www-form-urlencoded`
fn url_encoded(body: &[u8]) -> Vec<(String, String)> {
    let pairs = body.split(|b| *b == b'&').take(MAX_FIELDS);
    let pair = |pair: &[u8]| {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        (decoded(&pair[..at]), decoded(pair.get(at + 1..).unwrap_or_default()))
    };
    pairs.map(pair).collect()
}

fn decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&b, after)) = rest.split_first() {
        let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        rest = after;
        match (b, after) {
            (b'%', [high, low, behind @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = behind;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn boundary(parameters: &str) -> Option<&str> {
    let of = |parameter: &'_ str| -> Option<(usize, usize)> {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some((name.len() + 1, value.len()))
    };
    let value = parameters.split(';').find_map(|p| of(p).map(|(from, _)| p[from..].trim().trim_matches('"')))?;
    (1..=70).contains(&value.len()).then_some(value)
}

/// `multipart/form-data` (RFC 7578), as far as short fields need it.
fn multipart(boundary: &str, body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let mark = format!("--{boundary}");
    let field = |part: &str| {
        let (head, value) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
        let lower = head.to_ascii_lowercase();
        let at = lower.find("name=")?;
        let name = head[at + 5..].split([';', '\r', '\n']).next()?.trim().trim_matches('"');
        Some((name.to_owned(), value.trim_end_matches(['\r', '\n']).to_owned()))
    };
    text.split(mark.as_str()).skip(1).take(MAX_FIELDS).filter_map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_token_is_the_last_part_of_the_path() {
        for path in ["/abc", "/u/abc", "/any/where/abc/", "abc"] {
            assert_eq!(token(path), Some("abc"), "{path}");
        }
        assert_eq!(token("/"), None);
        assert_eq!(token(&format!("/{}", "x".repeat(MAX_LETTERS + 1))), None);
    }

    #[test]
    fn one_click_is_known_as_every_program_may_send_it() {
        let form = "application/x-www-form-urlencoded";
        for (kind, body) in [
            (form, "List-Unsubscribe=One-Click"),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", "List-Unsubscribe=One-Click\r\n"),
            ("", "list-unsubscribe=one-click"),
            (form, "a=b&List%2DUnsubscribe=One%2dClick"),
            (
                "multipart/form-data; boundary=---FormBoundaryjWmhtjORrn",
                "-----FormBoundaryjWmhtjORrn\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\n\
                 One-Click\r\n-----FormBoundaryjWmhtjORrn--\r\n",
            ),
            (
                "Multipart/Form-Data; charset=utf-8; Boundary=\"b\"",
                "--b\nContent-Disposition: form-data; name=List-Unsubscribe; x=y\n\nOne-Click\n--b--\n",
            ),
        ] {
            assert_eq!(wish(kind, body.as_bytes()), Some(Way::OneClick), "{kind} {body}");
        }
        assert_eq!(wish(form, b"List-Unsubscribe=One-Click&by=page"), Some(Way::Page));
    }

    #[test]
    fn a_post_that_says_something_else_or_nothing_asks_for_nothing() {
        let form = "application/x-www-form-urlencoded";
        for (kind, body) in [
            (form, ""),
            (form, "List-Unsubscribe"),
            (form, "List-Unsubscribe=No"),
            (form, "x=List-Unsubscribe%3DOne-Click"),
            ("application/json", "{\"List-Unsubscribe\":\"One-Click\"}"),
            ("multipart/form-data", "List-Unsubscribe=One-Click"),
            ("multipart/form-data; boundary=b", "List-Unsubscribe=One-Click"),
        ] {
            assert_eq!(wish(kind, body.as_bytes()), None, "{kind} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_request_makes_it_panic(kind in ".{0,60}", body in prop::collection::vec(any::<u8>(), 0..300), path in ".{0,80}") {
            let _ = (wish(&kind, &body), token(&path));
            let _ = wish("multipart/form-data; boundary=b", &body);
            let _ = wish(&format!("multipart/form-data;{kind}"), &body);
        }
    }
}
