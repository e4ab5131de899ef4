//! AUTH PLAIN (RFC 4616) and AUTH LOGIN as state machines (RFC 4954), and the comparison of passwords.
//!
//! Bytes of base64 in, challenge or credentials out. Nothing here knows who is allowed in. Credentials are never
//! printed, and comparing takes the same time whatever the password and whether the user exists.

use data_encoding::BASE64;
use ring::hmac;

use super::command::Mechanism;

/// What a client says it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The authentication identity.
    pub user: String,
    /// The password as it was sent.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whether this is the password. `expected` is `None` when there is no such user; that takes as long as a wrong one.
    pub fn verify(&self, expected: Option<&str>) -> bool {
        // The tags are compared in constant time, and their length does not tell that of the password.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"carom: comparing smtp-user passwords");
        let tag = hmac::sign(&key, expected.unwrap_or("").as_bytes());
        let equal = hmac::verify(&key, &self.password, tag.as_ref()).is_ok();
        equal && expected.is_some()
    }
}

/// An exchange under way: what the next line is expected to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN: the one message.
    Plain,
    /// LOGIN: the name.
    LoginUser,
    /// LOGIN: the password of this name.
    LoginPassword(String),
}

/// What follows from a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Say `334` with this (already base64) and go on.
    Continue(Exchange, &'static str),
    /// The client has said all.
    Done(Credentials),
    /// The client gave up (`*`).
    Cancelled,
    /// Not base64, or not what the mechanism asks for.
    Malformed,
}

impl Exchange {
    /// Begins with an AUTH command and the initial response it may carry.
    pub fn begin(mechanism: Mechanism, initial: Option<&str>) -> Step {
        let (exchange, challenge) = match mechanism {
            Mechanism::Plain => (Exchange::Plain, ""),
            Mechanism::Login => (Exchange::LoginUser, "VXNlcm5hbWU6"), // Username:
        };
        match initial {
            // RFC 4954, 4: "=" stands for an initial response of no octets.
            Some("=") => exchange.respond(b""),
            Some(response) => exchange.respond(response.as_bytes()),
            None => Step::Continue(exchange, challenge),
        }
    }

    /// Goes on with a line of the client.
    pub fn respond(self, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Cancelled;
        }
        let Ok(response) = BASE64.decode(line) else { return Step::Malformed };
        match self {
            Exchange::Plain => plain(&response).map_or(Step::Malformed, Step::Done),
            Exchange::LoginUser => match String::from_utf8(response) {
                Ok(user) if !user.is_empty() => Step::Continue(Exchange::LoginPassword(user), "UGFzc3dvcmQ6"), // Password:
                _ => Step::Malformed,
            },
            Exchange::LoginPassword(user) => Step::Done(Credentials { user, password: response }),
        }
    }
}

/// `[authzid] NUL authcid NUL passwd`. Acting for somebody else is not supported: an authzid must be the authcid.
fn plain(message: &[u8]) -> Option<Credentials> {
    let mut parts = message.split(|b| *b == 0);
    let (authorize, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || user.is_empty() || !(authorize.is_empty() || authorize == user) {
        return None;
    }
    Some(Credentials { user: String::from_utf8(user.to_vec()).ok()?, password: password.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    #[test]
    fn plain_works_with_and_without_an_initial_response() {
        let message = BASE64.encode(b"\0ann\0s3cret");
        assert_eq!(Exchange::begin(Mechanism::Plain, Some(&message)), Step::Done(credentials("ann", "s3cret")));
        let Step::Continue(exchange, "") = Exchange::begin(Mechanism::Plain, None) else { panic!() };
        assert_eq!(exchange.respond(message.as_bytes()), Step::Done(credentials("ann", "s3cret")));
    }

    #[test]
    fn login_asks_for_name_and_password() {
        let Step::Continue(exchange, "VXNlcm5hbWU6") = Exchange::begin(Mechanism::Login, None) else { panic!() };
        let Step::Continue(exchange, "UGFzc3dvcmQ6") = exchange.respond(BASE64.encode(b"ann").as_bytes()) else {
            panic!()
        };
        assert_eq!(exchange.respond(BASE64.encode(b"s3cret").as_bytes()), Step::Done(credentials("ann", "s3cret")));
    }

    #[test]
    fn nonsense_is_malformed_and_an_asterisk_cancels() {
        for bad in
            ["!", "AGFubg", &BASE64.encode(b"ann"), &BASE64.encode(b"eve\0ann\0x"), &BASE64.encode(b"\0\0x"), "="]
        {
            assert_eq!(Exchange::begin(Mechanism::Plain, Some(bad)), Step::Malformed, "{bad}");
        }
        assert_eq!(Exchange::Plain.respond(b"*"), Step::Cancelled);
        assert_eq!(Exchange::LoginUser.respond(b""), Step::Malformed);
    }

    #[test]
    fn only_the_password_itself_is_right_and_no_user_has_none() {
        assert!(credentials("ann", "s3cret").verify(Some("s3cret")));
        assert!(!credentials("ann", "s3cre").verify(Some("s3cret")));
        assert!(!credentials("ann", "").verify(None));
        assert!(!format!("{:?}", credentials("ann", "s3cret")).contains("s3cret"));
    }
}
