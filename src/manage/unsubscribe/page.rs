//! The pages of the unsubscribe endpoint: small, without script, picture or anything from elsewhere, readable aloud and on
//! a telephone. What they say of a person is what the person needs to see that the right link was opened: the address is
//! shown with its first letter only, since links are passed on with forwarded mail.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::request::{ONE_CLICK, PAGE_FIELD};
use crate::event::unsubscribe_token::Unsubscription;

const STYLE: &str = "body{font:1.1rem/1.6 system-ui,sans-serif;margin:0;color:#1a1a1a;background:#fff}\
main{max-width:34rem;margin:4rem auto;padding:0 1.25rem}h1{font-size:1.5rem;line-height:1.3}\
b{overflow-wrap:anywhere}button{font:inherit;padding:.7rem 1.4rem;border:0;border-radius:.4rem;background:#0b5cad;\
color:#fff;cursor:pointer}button:focus-visible{outline:3px solid #f5a623;outline-offset:2px}\
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}}";

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub enum Page<'a> {
    /// Do you want to leave?
    Ask(&'a Unsubscription),
    /// You have left.
    Done(&'a Unsubscription),
    /// There is no such link, or no longer.
    Unknown,
    /// A POST that does not ask for anything.
    NotAsked,
    /// Another method than GET, HEAD and POST.
    Method,
    /// More than a form can have.
    TooLarge,
    /// Too many requests; seconds to wait.
    TooMany(u64),
    /// It can't be kept now.
    Later,
}

impl Page<'_> {
    fn status(self) -> StatusCode {
        match self {
            Page::Ask(_) | Page::Done(_) => StatusCode::OK,
            Page::Unknown => StatusCode::NOT_FOUND,
            Page::NotAsked => StatusCode::BAD_REQUEST,
            Page::Method => StatusCode::METHOD_NOT_ALLOWED,
            Page::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Page::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Page::Later => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn content(self) -> (&'static str, Markup) {
        match self {
            Page::Ask(who) => (
                "Unsubscribe?",
                html! {
                    p { "Do you want no more mail of the list " b { (who.list) } " for " b { (shown(&who.rcpt)) } "?" }
                    form method="post" {
                        input type="hidden" name=(ONE_CLICK.0) value=(ONE_CLICK.1);
                        input type="hidden" name=(PAGE_FIELD.0) value=(PAGE_FIELD.1);
                        button type="submit" { "Unsubscribe" }
                    }
                },
            ),
            Page::Done(who) => (
                "You are unsubscribed",
                html! {
                    p { b { (shown(&who.rcpt)) } " gets no more mail of the list " b { (who.list) } "." }
                    p { "You may close this page." }
                },
            ),
            Page::Unknown => (
                "This link does not work",
                html! { p { "It is not complete, or it is too old. Please take the link of a newer mail, or reply to \
                the mail." } },
            ),
            Page::NotAsked => (
                "Nothing has been changed",
                html! { p { "The request did not say that it is to unsubscribe. Please open the link and use the button." } },
            ),
            Page::Method => ("Not possible", html! { p { "This address is for unsubscribing only." } }),
            Page::TooLarge => ("Not possible", html! { p { "The request is too large." } }),
            Page::TooMany(_) => (
                "Please wait a moment",
                html! { p { "Too many requests have come from your network. Please try again in a few minutes." } },
            ),
            Page::Later => (
                "Please try again",
                html! { p { "You are not unsubscribed yet: it could not be recorded. Please try again in a few minutes." } },
            ),
        }
    }

    /// As it goes out.
    pub fn markup(self) -> String {
        let (title, content) = self.content();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex, nofollow";
                    meta name="referrer" content="no-referrer";
                    title { (title) }
                    style { (maud::PreEscaped(STYLE)) }
                }
                body { main { h1 { (title) } (content) } }
            }
        };
        page.into_string()
    }
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> Response {
        let style = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            data_encoding::BASE64.encode(style.as_ref())
        );
        let fixed: [(HeaderName, &str); 8] = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, &policy),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
            // One request a connection: so a connection can have one time in which all must be over.
            (header::CONNECTION, "close"),
        ];
        let mut response = (self.status(), self.markup()).into_response();
        let headers = response.headers_mut();
        for (name, value) in fixed {
            // All of it is ASCII of our own.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        match self {
            Page::Method => headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST")),
            Page::TooMany(seconds) => headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds)),
            Page::Later => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("120")),
            _ => None,
        };
        response
    }
}

/// An address as it may be shown to somebody who has the link: `a***@example.net`.
fn shown(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let first: String = local.chars().take(1).collect();
    format!("{first}***@{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{MessageId, StoreId, Time};

    fn ann() -> Unsubscription {
        Unsubscription {
            store: StoreId(1),
            message: MessageId(1),
            rcpt_index: 0,
            time_queued: Time::UNKNOWN,
            rcpt: "ann.lee@example.net".into(),
            list: "<script>alert(1)</script>".into(),
            orig: String::new(),
            job: String::new(),
        }
    }

    #[test]
    fn a_page_shows_no_whole_address_and_runs_nothing() {
        let text = Page::Ask(&ann()).markup();
        assert!(text.contains("a***@example.net") && !text.contains("ann.lee"), "{text}");
        assert!(!text.contains("<script") && text.contains("&lt;script&gt;"), "{text}");
        assert!(!text.contains("http") && !text.contains("src="), "nothing from elsewhere: {text}");
        assert!(text.contains("<html lang=\"en\">") && text.contains("<h1>Unsubscribe?</h1>"), "{text}");
    }

    #[test]
    fn every_page_forbids_what_it_does_not_need() {
        for page in [Page::Ask(&ann()), Page::Done(&ann()), Page::Unknown, Page::TooMany(3), Page::Later, Page::Method]
        {
            let response = page.into_response();
            let said = |name: &str| {
                let all: Vec<_> = response.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
                all.join(" AND ")
            };
            assert_eq!(said("content-type"), "text/html; charset=utf-8");
            assert!(said("content-security-policy").starts_with("default-src 'none'; style-src 'sha256-"));
            assert_eq!((said("referrer-policy").as_str(), said("cache-control").as_str()), ("no-referrer", "no-store"));
            assert_eq!(said("x-robots-tag"), "noindex, nofollow");
            assert_eq!(said("connection"), "close");
        }
        let limited = Page::TooMany(7).into_response();
        assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    }
}
