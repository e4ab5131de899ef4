//! The pattern files and the code table that ship with Carom, as they stood when it was built.

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => { [$(($name, include_str!(concat!("../../patterns/", $name)))),+] };
}

/// The shipped pattern files, in the order in which they are consulted: what single providers say, then what anybody
/// does. Behind them, `reply-codes.conf`.
pub(super) const FILES: [(&str, &str); 19] = shipped![
    "gmail.conf",
    "microsoft.conf",
    "yahoo-aol.conf",
    "apple.conf",
    "comcast.conf",
    "gmx.conf",
    "orange.conf",
    "free.conf",
    "t-online.conf",
    "mailru.conf",
    "yandex.conf",
    "qq.conf",
    "netease.conf",
    "mimecast.conf",
    "proofpoint.conf",
    "barracuda.conf",
    "cloudmark.conf",
    "blocklists.conf",
    "bounce-categories.conf",
];
/// The shipped list of replies that ask a source to slow down: name and text. It gives no category, and an operator
/// includes it where he wants it.
pub(crate) const BACKOFF: (&str, &str) = ("backoff.conf", include_str!("../../patterns/backoff.conf"));
/// Name of the shipped code table in messages.
pub(super) const CODES_NAME: &str = "reply-codes.conf";
/// The shipped code table.
pub(super) const CODES: &str = include_str!("../../patterns/reply-codes.conf");
/// Name of the shipped table of providers in messages.
pub(super) const PROVIDERS_NAME: &str = "providers.conf";
/// The shipped table of providers.
pub(super) const PROVIDERS: &str = include_str!("../../patterns/providers.conf");

#[cfg(test)]
mod tests;
