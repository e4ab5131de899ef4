//! `<unsubscribe-listener>`, and the rows of `<source>` about unsubscribing.

use std::sync::Arc;

use super::Directive;
use super::global::read_certificate;
use super::set::{Change, Set};
use crate::config::lexer::Args;
use crate::config::model::Source;
use crate::config::tree::Reading;
use crate::config::unsubscribe::{self, AddListUnsubscribe, UnsubscribeListener};
use crate::config::values::{self, ValueError};

type L = Directive<UnsubscribeListener>;
type S = Directive<Source>;

/// `add-list-unsubscribe`
pub const ADD: S = S::one(
    "add-list-unsubscribe",
    Set::Other("{no,yes,on-request}", "yes", add),
    "no",
    "Add List-Unsubscribe and List-Unsubscribe-Post with a link of the recipient's own: to all mail, or to what has an \
     X-Unsubscribe-List field (on-request)",
);
/// `list-unsubscribe-url`
pub const URL: S = S::one(
    "list-unsubscribe-url",
    Set::Other("URL", "https://unsubscribe.example.com/u", url),
    "",
    "Where an <unsubscribe-listener> is reached from outside; the link is this, a slash and the recipient's token",
);
/// `list-unsubscribe-mailto`
pub const MAILTO: S = S::one(
    "list-unsubscribe-mailto",
    Set::Email(|s, v| s.list_unsubscribe.mailto = Some(v)),
    "",
    "Address to which mail with the recipient's token unsubscribes; it must come back to this server",
);
/// `default-list`
pub const DEFAULT_LIST: S = S::one(
    "default-list",
    Set::Other("NAME", "weekly-news", default_list),
    "",
    "Mailing list of mail that names none by X-Unsubscribe-List or List-Id; without it the domain of the sender",
);

fn word(args: &mut Args<'_>) -> String {
    args.word().map(|w| w.text).unwrap_or_default()
}

fn add(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let text = word(args);
    let add = match text.to_ascii_lowercase().as_str() {
        "on-request" => AddListUnsubscribe::OnRequest,
        other => match values::boolean(other) {
            Ok(true) => AddListUnsubscribe::Yes,
            Ok(false) => AddListUnsubscribe::No,
            Err(e) => return Err(ValueError { help: "write no, yes or on-request".into(), ..e }),
        },
    };
    Ok(Arc::new(move |s| s.list_unsubscribe.add = add))
}

fn url(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let url = unsubscribe::url(&word(args))?;
    Ok(Arc::new(move |s| s.list_unsubscribe.url = Some(url.clone())))
}

fn default_list(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let Some(name) = unsubscribe::list_name(&text).map(str::to_owned) else {
        let message = format!("`{text}` can't be the name of a list");
        return Err(ValueError { message, help: "write up to 100 printable characters without blanks".into() });
    };
    Ok(Arc::new(move |s| s.list_unsubscribe.default_list = Some(name.clone())))
}

/// The rows of `<unsubscribe-listener>`.
pub const UNSUBSCRIBE_LISTENER: &[L] = &[
    L::one(
        "tls-certificate",
        Set::Other("FILE", "/etc/carom/tls.pem", certificate),
        "",
        "PEM file with certificate chain and key; without it smtp-server-tls-certificate",
    ),
    L::one(
        "plain",
        Set::Bool(|l, v| l.plain = v),
        "no",
        "Speak HTTP without TLS, behind a proxy that has the certificate; on the loopback that needs no saying",
    )
    .restart(),
    L::many(
        "trusted-proxy",
        Set::Other("CIDR", "10.0.0.0/8", trusted_proxy),
        "Proxies whose X-Forwarded-For says whom a request comes from; nobody else's is believed",
    ),
    L::one(
        "max-connections",
        Set::Int(1, 100_000, |l, v| l.max_connections = u32::try_from(v).unwrap_or(u32::MAX)),
        "500",
        "Connections at once; one address gets a quarter of them, a trusted proxy all",
    ),
    L::one(
        "max-request-rate",
        Set::Rate(|l, v| l.max_request_rate = v),
        "600/m",
        "Requests of one address (IPv6: of one /64); one without a link of ours counts as ten, and those that unsubscribe \
         are counted apart, with ten times this rate",
    ),
    L::one(
        "request-timeout",
        Set::Time(1, 300, |l, v| l.request_timeout = v),
        "15s",
        "How long a connection may last, from its beginning to the end of the answer",
    ),
];

fn certificate(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<UnsubscribeListener>, ValueError> {
    let path = read_certificate(args, reading)?;
    Ok(Arc::new(move |l| l.tls_certificate = Some(path.clone())))
}

fn trusted_proxy(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<UnsubscribeListener>, ValueError> {
    let prefix = values::cidr(&word(args))?;
    Ok(Arc::new(move |l| l.trusted_proxies.push(prefix)))
}
