//! Which mail is a report for us: to the bounce processor, to the feedback-loop processor, to an unsubscribe address, or
//! none of these.
//!
//! Decided by the recipient alone (reference/accounting.md, 8.1). A message has one route, so the recipients of a
//! transaction must agree; one that differs from those before it is answered with 452 4.5.3, for which RFC 5321,
//! 4.5.3.1.10 has the client send it in a transaction of its own. Nothing is lost, and no message is split.

use crate::config::{Config, Entries, Processor};
use crate::event::address::canonical_domain;
use crate::event::{Address, AddressKey};
use crate::store::Route;

/// Where mail to `rcpt` goes. A return path that we signed leads back to the bounce processor.
pub fn route(config: &Config, rcpt: &Address) -> Route {
    // One mailbox goes before the whole domain that it may be in.
    if is_unsubscribe_address(config, rcpt) {
        return Route::Unsubscribe;
    }
    let domain = canonical_domain(rcpt.domain());
    if config.return_path_token.as_ref().is_some_and(|t| t.is_its_domain(&domain)) {
        return Route::Bounce;
    }
    let to = |p: &Option<Processor>| p.as_ref().is_some_and(|p| p.takes(rcpt, Entries::All));
    if to(&config.bounce_processor) {
        Route::Bounce
    } else if to(&config.feedback_loop_processor) {
        Route::Feedback
    } else {
        Route::Deliver
    }
}

/// Whether the configuration names this very mailbox, or its domain, as a processor's; a pattern does when it can match
/// only at domains that stand in it. A bare local part (`address bounces`), or a pattern that leaves the domain open,
/// routes mail at any domain but opens none of them: else `bounces@anywhere.example` would be relayed to anywhere.example
/// as soon as it turns out not to be a report.
pub fn is_processors_own(config: &Config, rcpt: &Address) -> bool {
    let domain = canonical_domain(rcpt.domain());
    config.return_path_token.as_ref().is_some_and(|t| t.is_its_domain(&domain))
        || is_unsubscribe_address(config, rcpt)
        || [&config.bounce_processor, &config.feedback_loop_processor]
            .into_iter()
            .flatten()
            .any(|p| p.takes(rcpt, Entries::WithDomain))
}

/// Whether people unsubscribe by mail to this very mailbox (`list-unsubscribe-mailto` of any source).
fn is_unsubscribe_address(config: &Config, rcpt: &Address) -> bool {
    !config.unsubscribe_addresses.is_empty() && config.unsubscribe_addresses.contains(&AddressKey::of(rcpt.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReturnPathToken;
    use crate::event::AddressError;

    fn config() -> Config {
        let text = "host-name mx.example.com\nspool /s\nlog-file /l\n\
            <bounce-processor>\n<address-list>\ndomain bounce.example.com\naddress returns\n\
            address /^vb-[0-9]+@verp\\.example$/\naddress /^any-/\n</address-list>\n\
            </bounce-processor>\n<feedback-loop-processor>\n<address-list>\naddress fbl@example.com\n</address-list>\n\
            </feedback-loop-processor>\n<return-path-token>\nkey k 0123456789abcdef\n</return-path-token>\n\
            <source 10/8>\nadd-list-unsubscribe yes\nlist-unsubscribe-mailto Out@rp.example.com\n</source>\n";
        let loaded = crate::config::parse_str("test.conf", text);
        let mut config = loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
        config.return_path_token = Some(ReturnPathToken {
            domain: Some("rp.example.com".into()),
            keys: Vec::new(),
            header: None,
            encrypt_header: false,
        });
        config
    }

    #[test]
    fn reports_are_known_by_their_recipient() -> Result<(), AddressError> {
        for (rcpt, expected, own) in [
            ("any-thing@Bounce.example.com", Route::Bounce, true),
            ("returns@anywhere.example", Route::Bounce, false),
            ("VB-17@verp.example", Route::Bounce, true),
            ("vb-17@verp.example.net", Route::Deliver, false),
            ("any-17@anywhere.example", Route::Bounce, false),
            ("out@RP.example.com", Route::Unsubscribe, true),
            ("FBL@example.com", Route::Feedback, true),
            ("fbl@example.net", Route::Deliver, false),
            ("x@sub.bounce.example.com", Route::Deliver, false),
            ("t-123@rp.example.com", Route::Bounce, true),
        ] {
            let address = Address::parse(rcpt)?;
            assert_eq!(route(&config(), &address), expected, "{rcpt}");
            assert_eq!(is_processors_own(&config(), &address), own, "{rcpt}");
        }
        Ok(())
    }
}
