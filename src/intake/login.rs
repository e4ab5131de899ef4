//! Who may authenticate, where, and as whom.
//!
//! AUTH is offered where the source has `allow-auth` and there are users; not in clear text, unless
//! `allow-unencrypted-plain-auth` says so and `require-starttls-before-auth` does not.

use crate::config::{Config, Source, User};
use crate::smtp::sasl::Credentials;

/// Whether AUTH is offered to this source: now, and if the connection were encrypted.
pub fn auth_offered(config: &Config, source: &Source, secure: bool) -> (bool, bool) {
    let ever = source.allow_auth && !config.users.is_empty();
    let in_clear = source.allow_unencrypted_plain_auth && !source.require_starttls_before_auth;
    (ever && (secure || in_clear), ever)
}

/// The user whom these credentials belong to. Takes as long for an unknown name as for a wrong password.
pub fn login<'c>(config: &'c Config, credentials: &Credentials) -> Option<&'c User> {
    let user = config.users.get(&credentials.user.to_lowercase());
    // An empty password is none: it must not let anybody in.
    let expected = user.map(|u| u.password.as_str()).filter(|p| !p.is_empty());
    if credentials.verify(expected) { user } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_is_offered_where_nobody_can_listen_or_the_operator_does_not_mind() {
        let config = {
            let text = "host-name mx.example.com\nspool /s\nlog-file /l\n<smtp-user Ann>\npassword p\n</smtp-user>\n";
            crate::config::parse_str("test.conf", text).config.unwrap()
        };
        let clear = Source { allow_unencrypted_plain_auth: true, ..Source::default() };
        let never_clear = Source { require_starttls_before_auth: true, ..clear.clone() };
        let none = Source { allow_auth: false, ..clear.clone() };
        assert_eq!(auth_offered(&config, &Source::default(), false), (false, true));
        assert_eq!(auth_offered(&config, &Source::default(), true), (true, true));
        assert_eq!(auth_offered(&config, &clear, false), (true, true));
        assert_eq!(auth_offered(&config, &never_clear, false), (false, true));
        assert_eq!(auth_offered(&config, &none, true), (false, false));

        let as_user = |user: &str, password: &str| Credentials { user: user.into(), password: password.into() };
        assert_eq!(login(&config, &as_user("ANN", "p")).unwrap().name, "Ann");
        assert!(login(&config, &as_user("ann", "P")).is_none());
        assert!(login(&config, &as_user("bob", "p")).is_none());
    }
}
