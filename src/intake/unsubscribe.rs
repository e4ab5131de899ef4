//! Which mailing list a message belongs to, and whether its copies get unsubscribe fields. Pure.
//!
//! The list is, in this order: what `X-Unsubscribe-List` names, what stands in the brackets of List-Id, the source's
//! `default-list`, and, for sources that add the fields to all mail, the domain of the envelope sender: so that a link never
//! leads out of nothing. A message that brings List-Unsubscribe keeps its own, and one whose DKIM signature says that it
//! has none gets none.

use crate::config::{AddListUnsubscribe, Source};
use crate::event::address::canonical_domain;
use crate::store::message::UnsubscribeLink;

use super::header::Processed;

/// The list, empty when there is none, and where its copies say that people leave it. `from` is the envelope sender.
pub fn list_and_link(source: &Source, said: &Processed, from: &str) -> (Box<str>, Option<Box<UnsubscribeLink>>) {
    let asked = &source.list_unsubscribe;
    let by_sender = || match (asked.add, from.rsplit_once('@')) {
        (AddListUnsubscribe::Yes, Some((_, domain))) => canonical_domain(domain).into_owned(),
        _ => String::new(),
    };
    let list = match said.list.as_str() {
        "" => asked.default_list.clone().unwrap_or_else(by_sender),
        named => named.to_owned(),
    };
    let adds = match asked.add {
        AddListUnsubscribe::No => false,
        AddListUnsubscribe::Yes => true,
        AddListUnsubscribe::OnRequest => said.asks_to_unsubscribe,
    };
    // Mail of the null sender is no mail of a list.
    let link = (adds && said.lets_unsubscribe && !from.is_empty() && !list.is_empty()).then(|| UnsubscribeLink {
        url: asked.url.as_deref().unwrap_or("").into(),
        mailto: asked.mailto.as_deref().unwrap_or("").into(),
    });
    (list.into(), link.filter(|l| !l.url.is_empty() || !l.mailto.is_empty()).map(Box::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListUnsubscribe;

    fn source(add: AddListUnsubscribe, default_list: Option<&str>) -> Source {
        let list_unsubscribe = ListUnsubscribe {
            add,
            url: Some("https://u.example.com".into()),
            mailto: None,
            default_list: default_list.map(str::to_owned),
        };
        Source { list_unsubscribe, ..Source::default() }
    }

    fn said(list: &str, asks: bool, lets: bool) -> Processed {
        Processed { list: list.into(), asks_to_unsubscribe: asks, lets_unsubscribe: lets, ..Processed::default() }
    }

    #[test]
    fn the_list_is_what_the_mail_names_then_what_the_source_says_then_the_senders_domain() {
        let list =
            |add, default, named| list_and_link(&source(add, default), &said(named, false, true), "n@News.Example").0;
        use AddListUnsubscribe::{No, OnRequest, Yes};
        assert_eq!(&*list(Yes, Some("all"), "weekly"), "weekly");
        assert_eq!(&*list(Yes, Some("all"), ""), "all");
        assert_eq!(&*list(Yes, None, ""), "news.example");
        assert_eq!(&*list(OnRequest, None, ""), "");
        assert_eq!(&*list(No, None, "weekly"), "weekly", "a list is a list also where no link is added");
        assert_eq!(&*list(No, None, ""), "");
    }

    #[test]
    fn links_go_into_all_mail_or_into_what_asks_for_them_and_never_beside_others() {
        let adds = |add, said: &Processed, from| list_and_link(&source(add, None), said, from).1.is_some();
        use AddListUnsubscribe::{No, OnRequest, Yes};
        let (plain, asks) = (said("", false, true), said("weekly", true, true));
        assert_eq!([No, Yes, OnRequest].map(|add| adds(add, &plain, "a@b.example")), [false, true, false]);
        assert_eq!([No, Yes, OnRequest].map(|add| adds(add, &asks, "a@b.example")), [false, true, true]);
        assert!(!adds(Yes, &said("weekly", true, false), "a@b.example"), "it has its own");
        assert!(!adds(Yes, &plain, ""), "a report");
    }
}
