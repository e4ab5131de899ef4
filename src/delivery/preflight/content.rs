//! What a campaign's message says for itself: From, Date, Message-ID, and how to unsubscribe (RFC 2369, RFC 8058). Pure.

use mail_parser::{HeaderName, MessageParser};

use super::{Finding, Grade};
use crate::event::Time;
use crate::event::address::canonical_domain;

/// How far Date may be from now.
const DATE_WITHIN: std::time::Duration = std::time::Duration::from_secs(2 * 86_400);

/// What is judged of a message beside its own text.
#[derive(Debug, Clone, Copy)]
pub struct Circumstance<'a> {
    /// The envelope sender as it was given.
    pub mail_from: &'a str,
    /// The server adds List-Unsubscribe and List-Unsubscribe-Post where they are missing.
    pub adds_list_unsubscribe: bool,
    /// Now.
    pub now: Time,
}

/// Judges the header of `message`.
pub fn judge(message: &[u8], about: &Circumstance<'_>) -> Vec<Finding> {
    let Some(parsed) = MessageParser::default().parse(message) else {
        return vec![Finding::new(Grade::Problem, "message", "", "the message can't be read", "")];
    };
    let mut found = Vec::new();
    // By the raw header: what stands twice is one field to a parser.
    let header_end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2);
    let count = |name: &str| {
        let lines = message[..header_end].split(|b| *b == b'\n');
        lines
            .filter(|line| {
                line.split_at_checked(name.len()).is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(name.as_bytes()) && rest.first() == Some(&b':')
                })
            })
            .count()
    };
    for name in ["From", "Date", "Message-ID"] {
        match count(name) {
            1 => {}
            0 => found.push(Finding::new(
                Grade::Problem,
                "header",
                name,
                format!("there is no {name}"),
                "mail without it is widely taken for spam; add it to the template",
            )),
            n => found.push(Finding::new(
                Grade::Problem,
                "header",
                name,
                format!("{name} stands there {n} times"),
                "a message has each of these fields once (RFC 5322, 3.6): providers refuse what has more",
            )),
        }
    }
    let authors: Vec<String> = parsed
        .from()
        .map(|list| list.iter().filter_map(|a| a.address().map(str::to_owned)).collect())
        .unwrap_or_default();
    match authors.as_slice() {
        [] if count("From") > 0 => {
            let help = "write From: NAME <ADDRESS>";
            found.push(Finding::new(Grade::Problem, "header", "From", "From holds no address", help));
        }
        [] => {}
        [one] => {
            let domain = |a: &str| canonical_domain(a.rsplit_once('@').map_or("", |(_, d)| d)).into_owned();
            if !about.mail_from.is_empty() && domain(one) != domain(about.mail_from) {
                found.push(Finding::new(
                    Grade::Note,
                    "header",
                    "From",
                    format!("the author's domain {} is not that of --from, {}", domain(one), domain(about.mail_from)),
                    "",
                ));
            }
        }
        more => {
            let text = format!("From names {} authors", more.len());
            found.push(Finding::new(Grade::Problem, "header", "From", text, "DMARC wants one author"));
        }
    }
    if let Some(date) = parsed.date() {
        let date = Time::from_secs(date.to_timestamp());
        if date.since(about.now) > DATE_WITHIN || about.now.since(date) > DATE_WITHIN {
            let help = "take Date out of the template: it is written anew for each message";
            let text = "Date is days away from now";
            found.push(Finding::new(Grade::Problem, "header", "Date", text, help));
        }
    }
    let list = parsed.header_raw(HeaderName::ListUnsubscribe);
    let post = parsed.header_raw("List-Unsubscribe-Post");
    found.extend(unsubscribe(list, post, about.adds_list_unsubscribe));
    found
}

/// Whether a recipient, and the button in a mailbox provider's pages, can unsubscribe.
fn unsubscribe(list: Option<&str>, post: Option<&str>, added: bool) -> Option<Finding> {
    let says = |grade, text: &str, help: &str| Some(Finding::new(grade, "unsubscribe", "", text, help));
    let Some(list) = list.map(str::to_ascii_lowercase) else {
        return match added {
            true => says(Grade::Fine, "List-Unsubscribe and List-Unsubscribe-Post are added by the server", ""),
            false => says(
                Grade::Problem,
                "there is no List-Unsubscribe",
                "large providers ask it of bulk mail; add it to the template: List-Unsubscribe: <https://...>, and \
                 List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            ),
        };
    };
    let is_link = |start: &str| list.split('<').skip(1).any(|uri| uri.trim_start().starts_with(start));
    let one_click = post.is_some_and(|p| p.trim().eq_ignore_ascii_case("List-Unsubscribe=One-Click"));
    match (is_link("https:"), is_link("mailto:") || is_link("http:"), one_click) {
        (true, _, true) => says(Grade::Fine, "one click unsubscribes (RFC 8058)", ""),
        (true, _, false) => says(
            Grade::Problem,
            "List-Unsubscribe without List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            "large providers ask for one-click unsubscription (RFC 8058) of bulk mail",
        ),
        (false, true, _) => says(
            Grade::Problem,
            "List-Unsubscribe has no https link",
            "large providers ask for one-click unsubscription of bulk mail (RFC 8058), which goes by https",
        ),
        (false, false, _) => says(
            Grade::Problem,
            "List-Unsubscribe holds no link",
            "write List-Unsubscribe: <https://...>, the link in angle brackets",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "From: News <news@s.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@s.example>\r\n\
        List-Unsubscribe: <mailto:u@s.example>,\r\n <https://s.example/u>\r\n\
        List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nDate: of the body\r\n";

    fn judged(message: &str, added: bool) -> Vec<(Grade, String)> {
        let now = Time::from_secs(1_795_255_200);
        let about = Circumstance { mail_from: "bounce@s.example", adds_list_unsubscribe: added, now };
        judge(message.as_bytes(), &about).into_iter().map(|f| (f.grade, f.text)).collect()
    }

    fn problems(message: &str) -> String {
        judged(message, false).into_iter().filter(|(g, _)| *g == Grade::Problem).map(|(_, t)| t + "\n").collect()
    }

    #[test]
    fn a_message_with_all_it_needs_has_no_problem() {
        assert_eq!(judged(GOOD, false), [(Grade::Fine, "one click unsubscribes (RFC 8058)".to_owned())]);
    }

    #[test]
    fn what_is_missing_or_there_twice_is_named() {
        for (from, to, text) in [
            ("Message-ID: <1@s.example>\r\n", "", "there is no Message-ID"),
            ("Date: Sat", "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nDate: Sat", "Date stands there 2 times"),
            ("21 Nov 2026", "21 Nov 2020", "Date is days away"),
            ("From: News <news@s.example>", "From: <a@s.example>, <b@s.example>", "names 2 authors"),
            ("List-Unsubscribe-Post", "X-Other", "without List-Unsubscribe-Post"),
            ("https://", "http://", "no https link"),
            ("List-Unsubscribe:", "X-Other:", "there is no List-Unsubscribe"),
        ] {
            let message = GOOD.replacen(from, to, 1);
            assert!(problems(&message).contains(text), "{text}: {}", problems(&message));
        }
    }

    #[test]
    fn what_the_server_adds_need_not_stand_in_the_template() {
        let message = GOOD.replace("List-Unsubscribe:", "X-Other:");
        assert_eq!(judged(&message, true)[0].0, Grade::Fine);
    }

    #[test]
    fn another_author_than_the_envelope_sender_is_noted() {
        let message = GOOD.replace("news@s.example", "news@brand.example");
        assert_eq!(judged(&message, false)[0].0, Grade::Note);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_judging_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            judge(&bytes, &Circumstance { mail_from: "", adds_list_unsubscribe: false, now: Time(1) });
        }
    }
}
