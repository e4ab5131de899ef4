//! One command line -> one command, or the reply that says what is wrong with it.
//!
//! The grammar is `smtp-proto`'s; here are the limits on top of it: only what we advertise is taken (RFC 5321, 4.1.1.11:
//! unknown parameters get 555), commands without arguments have none, addresses are ASCII and well-formed. Paths are cut
//! out of the line before `smtp-proto` sees it: they are kept as they were spelt, quotes included, because they go out
//! again in the same form, and so that there is only one opinion on where an address ends.

use std::borrow::Cow;

use smtp_proto as proto;
use smtp_proto::Request;

use super::answer::Answer;
use super::dsn::{self, Return};
use crate::event::Address;

/// A command of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// EHLO or HELO with the client's name for itself.
    Hello {
        /// As given, printable ASCII, up to 255 octets.
        name: &'a str,
        /// EHLO.
        extended: bool,
    },
    /// MAIL FROM.
    Mail(Mail<'a>),
    /// RCPT TO.
    Rcpt(Rcpt),
    /// DATA.
    Data,
    /// AUTH.
    Auth {
        /// One that we may speak; `None` is any other.
        mechanism: Option<Mechanism>,
        /// The initial response, if one came along (base64 or `=`).
        initial: Option<String>,
    },
    /// STARTTLS.
    StartTls,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// HELP.
    Help,
    /// VRFY.
    Vrfy,
    /// QUIT.
    Quit,
}

/// SASL mechanisms of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login.
    Login,
}

/// MAIL FROM with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail<'a> {
    /// The reverse-path without brackets and source route; empty for `<>`. Otherwise a well-formed ASCII [`Address`].
    pub from: &'a str,
    /// SIZE, in bytes; 0 when not given (RFC 1870).
    pub size: u64,
    /// BODY=8BITMIME.
    pub eight_bit: bool,
    /// AUTH= was given (RFC 4954, 5); its value is of no use to us.
    pub auth: bool,
    /// RET (RFC 3461, 4.3).
    pub ret: Option<Return>,
    /// ENVID, decoded; empty when not given (RFC 3461, 4.4).
    pub env_id: Box<str>,
}

/// RCPT TO with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// Whom it names.
    pub to: To,
    /// NOTIFY, in the bits of [`super::dsn`]; 0 when not given (RFC 3461, 4.1).
    pub notify: u8,
    /// ORCPT, decoded: `type;address`; empty when not given (RFC 3461, 4.2).
    pub orcpt: Box<str>,
}

/// To whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A well-formed ASCII address.
    Address(Address),
    /// `<postmaster>` without a domain (RFC 5321, 4.1.1.3).
    Postmaster,
}

/// Words that browsers say and mail clients do not: a page that makes one talk to us shall get no further.
const HTTP_VERBS: [&[u8]; 7] = [b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"DELETE"];

/// What a client of another protocol gets; the session ends with it.
pub const NOT_SMTP: Answer = Answer::new(521, "5.5.1", "this is an SMTP server");

const SENDER_SYNTAX: Answer = Answer::new(553, "5.1.7", "sender address is malformed");
const RCPT_SYNTAX: Answer = Answer::new(553, "5.1.3", "recipient address is malformed");
const NON_ASCII: Answer = Answer::new(553, "5.6.7", "non-ASCII addresses are not permitted");

impl<'a> Command<'a> {
    /// Reads `line`, which has no CRLF. The error is the reply to give.
    pub fn parse(line: &'a [u8]) -> Result<Command<'a>, Answer> {
        let (verb, argument) = split_verb(line);
        if HTTP_VERBS.iter().any(|v| verb.eq_ignore_ascii_case(v)) {
            return Err(NOT_SMTP);
        }
        // smtp-proto wants the line's end; a line without arguments, the most frequent of all, needs no copy.
        if argument.is_empty()
            && let Some(command) = bare_command(verb)
        {
            return Ok(command);
        }
        let cut = if [b"MAIL", b"RCPT"].iter().any(|v| verb.eq_ignore_ascii_case(*v)) { path(line) } else { None };
        let (before, path, after) = cut.unwrap_or((line, b"", b""));
        let whole = [before, after, b"\r\n"].concat();
        match Request::parse(&mut whole.iter()) {
            Ok(Request::Ehlo { .. }) => hello(argument, true),
            Ok(Request::Helo { .. }) => hello(argument, false),
            // smtp-proto read an address where we found none: it must not become the null sender.
            Ok(Request::Mail { .. }) if cut.is_none() => Err(SENDER_SYNTAX),
            Ok(Request::Rcpt { .. }) if cut.is_none() => Err(RCPT_SYNTAX),
            Ok(Request::Mail { from }) => Ok(Command::Mail(mail(path, &from, after)?)),
            Ok(Request::Rcpt { to }) => Ok(Command::Rcpt(rcpt(path, &to, after)?)),
            Ok(Request::Auth { mechanism, initial_response }) => {
                let mechanism = match mechanism {
                    proto::AUTH_PLAIN => Some(Mechanism::Plain),
                    proto::AUTH_LOGIN => Some(Mechanism::Login),
                    _ => None,
                };
                let initial = (!initial_response.is_empty()).then(|| initial_response.into_owned());
                Ok(Command::Auth { mechanism, initial })
            }
            Ok(Request::Noop { .. }) => Ok(Command::Noop),
            Ok(Request::Help { .. }) => Ok(Command::Help),
            Ok(Request::Vrfy { .. }) => Ok(Command::Vrfy),
            // RFC 5321, 4.3.2: 501 for a command that takes no arguments and has some.
            Ok(Request::Data | Request::Rset | Request::Quit | Request::StartTls) => {
                Err(Answer::new(501, "5.5.4", "this command takes no arguments"))
            }
            Ok(other) => Err(not_implemented(other.name())),
            Err(error) => Err(refused(error)),
        }
    }
}

fn split_verb(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|b| *b == b' ' || *b == b'\t').unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii())
}

fn bare_command(verb: &[u8]) -> Option<Command<'static>> {
    let commands = [
        ("DATA", Command::Data),
        ("RSET", Command::Rset),
        ("QUIT", Command::Quit),
        ("NOOP", Command::Noop),
        ("STARTTLS", Command::StartTls),
        ("HELP", Command::Help),
    ];
    commands.into_iter().find(|(name, _)| verb.eq_ignore_ascii_case(name.as_bytes())).map(|(_, command)| command)
}

fn not_implemented(name: &str) -> Answer {
    Answer::with(502, "5.5.1", format!("{name} is not supported"))
}

fn hello(argument: &[u8], extended: bool) -> Result<Command<'_>, Answer> {
    // The name goes into Received and the accounting: one word of printable ASCII.
    match std::str::from_utf8(argument) {
        Ok(name) if name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Command::Hello { name, extended })
        }
        _ => Err(Answer::new(501, "5.5.4", "syntax: EHLO name (one word of up to 255 ASCII characters)")),
    }
}

fn mail<'a>(path: &'a [u8], from: &proto::MailFrom<Cow<'_, str>>, after: &[u8]) -> Result<Mail<'a>, Answer> {
    let unsupported = [
        (from.flags & proto::MAIL_SMTPUTF8 != 0, "SMTPUTF8"),
        (from.flags & proto::MAIL_BODY_BINARYMIME != 0, "BODY=BINARYMIME"),
        (from.flags & proto::MAIL_REQUIRETLS != 0, "REQUIRETLS"),
        (from.flags & proto::MAIL_CONPERM != 0, "CONPERM"),
        (from.flags & (proto::MAIL_BY_NOTIFY | proto::MAIL_BY_RETURN) != 0, "BY"),
        (from.trans_id.is_some(), "TRANSID"),
        (from.solicit.is_some(), "SOLICIT"),
        (from.mtrk.is_some(), "MTRK"),
        (from.hold_for != 0 || from.hold_until != 0, "HOLDFOR"),
        (from.mt_priority != 0, "MT-PRIORITY"),
    ];
    refuse_unsupported(&unsupported)?;
    let path = ascii(path)?;
    if !path.is_empty() {
        check_address(path).ok_or(SENDER_SYNTAX)?;
    }
    Ok(Mail {
        from: path,
        size: from.size as u64,
        eight_bit: from.flags & proto::MAIL_BODY_8BITMIME != 0,
        auth: from.auth.is_some(),
        ret: match from.flags & (proto::MAIL_RET_FULL | proto::MAIL_RET_HDRS) {
            0 => None,
            proto::MAIL_RET_FULL => Some(Return::Full),
            proto::MAIL_RET_HDRS => Some(Return::Headers),
            _ => return Err(invalid("RET")),
        },
        env_id: dsn::env_id(after).map_err(|_| invalid("ENVID"))?,
    })
}

fn rcpt(path: &[u8], to: &proto::RcptTo<Cow<'_, str>>, after: &[u8]) -> Result<Rcpt, Answer> {
    let unsupported = [
        (to.flags & proto::RCPT_CONNEG != 0, "CONNEG"),
        (to.flags & (proto::RCPT_RRVS_REJECT | proto::RCPT_RRVS_CONTINUE) != 0, "RRVS"),
    ];
    refuse_unsupported(&unsupported)?;
    let path = ascii(path)?;
    let words = [
        (proto::RCPT_NOTIFY_NEVER, dsn::NEVER),
        (proto::RCPT_NOTIFY_SUCCESS, dsn::SUCCESS),
        (proto::RCPT_NOTIFY_FAILURE, dsn::FAILURE),
        (proto::RCPT_NOTIFY_DELAY, dsn::DELAY),
    ];
    let notify: u8 = words.iter().filter(|(given, _)| to.flags & given != 0).map(|(_, bit)| bit).sum();
    // RFC 3461, 4.1: "NEVER" stands alone.
    if notify & dsn::NEVER != 0 && notify != dsn::NEVER {
        return Err(invalid("NOTIFY"));
    }
    let orcpt = dsn::orcpt(after).map_err(|_| invalid("ORCPT"))?;
    let to = if path.eq_ignore_ascii_case("postmaster") {
        To::Postmaster
    } else {
        check_address(path).map(To::Address).ok_or(RCPT_SYNTAX)?
    };
    Ok(Rcpt { to, notify, orcpt })
}

fn invalid(parameter: &str) -> Answer {
    Answer::with(501, "5.5.4", format!("invalid value of parameter {parameter}"))
}

fn refuse_unsupported(parameters: &[(bool, &'static str)]) -> Result<(), Answer> {
    match parameters.iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(Answer::with(555, "5.5.4", format!("parameter {name} is not supported"))),
        None => Ok(()),
    }
}

/// SMTPUTF8 is not offered.
fn ascii(path: &[u8]) -> Result<&str, Answer> {
    std::str::from_utf8(path).ok().filter(|p| p.is_ascii()).ok_or(NON_ASCII)
}

/// The line up to and with the `<`, what stands between the brackets, and the line from the `>` on. Blanks around the
/// path and a source route before it (RFC 5321, appendix C: to be ignored) are left out of it.
fn path(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let begin = memchr::memchr(b'<', line)? + 1;
    let (mut quoted, mut escaped) = (false, false);
    let len = line[begin..].iter().position(|b| {
        let was_escaped = std::mem::take(&mut escaped);
        match b {
            b'\\' if quoted && !was_escaped => escaped = true,
            b'"' if !was_escaped => quoted = !quoted,
            b'>' if !quoted => return true,
            _ => {}
        }
        false
    })?;
    let mut path = line[begin..begin + len].trim_ascii();
    if path.first() == Some(&b'@') {
        let routed = &path[memchr::memchr(b':', path)? + 1..];
        // A route to nobody is malformed, not the null sender.
        path = if routed.is_empty() { path } else { routed };
    }
    Some((&line[..begin], path, &line[begin + len..]))
}

/// [`Address::parse`], and a quoted local part is one quoted string (RFC 5321, 4.1.2), so that its end is the same for
/// whoever reads it next.
fn check_address(path: &str) -> Option<Address> {
    let address = Address::parse(path).ok()?;
    if let Some(inside) = address.local().strip_prefix('"').and_then(|l| l.strip_suffix('"')) {
        let mut bytes = inside.bytes();
        while let Some(b) = bytes.next() {
            match b {
                b'"' => return None,
                b'\\' => drop(bytes.next()?),
                _ => {}
            }
        }
    }
    Some(address)
}

/// The reply to what smtp-proto could not read.
fn refused(error: proto::Error) -> Answer {
    match error {
        proto::Error::UnknownCommand => Answer::new(500, "5.5.2", "command not recognized"),
        proto::Error::InvalidSenderAddress => SENDER_SYNTAX,
        proto::Error::InvalidRecipientAddress => RCPT_SYNTAX,
        proto::Error::SyntaxError { syntax } => Answer::with(501, "5.5.4", format!("syntax: {syntax}")),
        proto::Error::InvalidParameter { param } => invalid(param),
        proto::Error::UnsupportedParameter { param } => {
            let name = param.split('=').next().unwrap_or_default();
            Answer::with(555, "5.5.4", format!("parameter {name} is not supported"))
        }
        _ => Answer::new(501, "5.5.2", "syntax error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(line: &str) -> u16 {
        Command::parse(line.as_bytes()).map_or_else(|a| a.code, |c| panic!("{line}: {c:?}"))
    }

    fn recipient(line: &str) -> String {
        match Command::parse(line.as_bytes()) {
            Ok(Command::Rcpt(Rcpt { to: To::Address(a), .. })) => a.as_str().to_owned(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_are_read_in_any_case() {
        assert_eq!(Command::parse(b"data"), Ok(Command::Data));
        assert_eq!(Command::parse(b"QUIT "), Ok(Command::Quit));
        assert_eq!(Command::parse(b"noop at all"), Ok(Command::Noop));
        assert_eq!(Command::parse(b"ehlo a.b"), Ok(Command::Hello { name: "a.b", extended: true }));
        assert_eq!(Command::parse(b"HELO [192.0.2.1]"), Ok(Command::Hello { name: "[192.0.2.1]", extended: false }));
    }

    #[test]
    fn mail_takes_what_is_advertised_and_nothing_else() {
        let mail = Command::parse(b"MAIL FROM:<a@b.example> SIZE=77 RET=HDRS BODY=8BITMIME AUTH=<> ENVID=e+2B1");
        let expected = Mail {
            from: "a@b.example",
            size: 77,
            eight_bit: true,
            auth: true,
            ret: Some(Return::Headers),
            env_id: "e+1".into(),
        };
        assert_eq!(mail, Ok(Command::Mail(expected)));
        assert_eq!(
            Command::parse(b"MAIL FROM:<>"),
            Ok(Command::Mail(Mail { from: "", size: 0, eight_bit: false, auth: false, ret: None, env_id: "".into() }))
        );
        for parameter in ["SMTPUTF8", "BODY=BINARYMIME", "REQUIRETLS", "VERP", "XYZ=1", "HOLDFOR=5", "BY=5;R"] {
            assert_eq!(code(&format!("MAIL FROM:<a@b.example> {parameter}")), 555, "{parameter}");
        }
        assert_eq!(code("MAIL FROM:<a@b.example> SIZE=many"), 501);
        assert_eq!(code("MAIL FROM:<a@b.example> BODY=9BIT"), 501);
        assert_eq!(code("RCPT TO:<a@b.example> X=1"), 555);
        for parameter in ["RET=SOME", "RET=FULL RET=HDRS", "ENVID=", "ENVID=a+1", "ENVID=a ENVID=a"] {
            assert_eq!(code(&format!("MAIL FROM:<a@b.example> {parameter}")), 501, "{parameter}");
        }
        for parameter in
            ["NOTIFY=NEVER,SUCCESS", "NOTIFY=NEVER NOTIFY=DELAY", "NOTIFY=OFTEN", "ORCPT=a@b", "ORCPT=x;+1"]
        {
            assert_eq!(code(&format!("RCPT TO:<a@b.example> {parameter}")), 501, "{parameter}");
        }
    }

    #[test]
    fn rcpt_says_of_what_to_be_told_and_who_was_meant() {
        let line = b"RCPT TO:<a@b.example> NOTIFY=success,DELAY ORCPT=rfc822;A+2B1@old.example";
        let Ok(Command::Rcpt(rcpt)) = Command::parse(line) else { panic!("not taken") };
        assert_eq!((rcpt.notify, &*rcpt.orcpt), (dsn::SUCCESS | dsn::DELAY, "rfc822;A+1@old.example"));
    }

    #[test]
    fn an_address_is_kept_as_it_was_spelt() {
        assert_eq!(recipient("RCPT TO:<Ann@Example.net>"), "Ann@Example.net");
        assert_eq!(recipient("rcpt to: <a+b=c@x.example>"), "a+b=c@x.example");
        assert_eq!(recipient("RCPT TO:<\"a b\"@x.example>"), "\"a b\"@x.example");
        assert_eq!(recipient("RCPT TO:<\"a>b\\\"\"@x.example>"), "\"a>b\\\"\"@x.example");
        assert_eq!(recipient("RCPT TO:<@one.example,@two.example:ann@x.example>"), "ann@x.example");
        assert_eq!(recipient("RCPT TO:<a@[192.0.2.1]>"), "a@[192.0.2.1]");
        let postmaster = Rcpt { to: To::Postmaster, notify: 0, orcpt: "".into() };
        assert_eq!(Command::parse(b"RCPT TO:<Postmaster>"), Ok(Command::Rcpt(postmaster)));
    }

    #[test]
    fn no_spelling_of_mail_makes_an_address_the_null_sender() {
        for line in [
            " MAIL FROM:<a@b.example>",
            "\tMAIL FROM:<a@b.example>",
            "MAIL\tFROM:<a@b.example>",
            "MAIL  FROM:<a@b.example>",
            "MAIL FROM: <a@b.example>",
            "MAIL FROM <a@b.example>",
            "MAIL FROM:a@b.example",
            "MAIL FROM:a@b.example SIZE=1",
            "MAIL FROM:\"a<\"@b.example",
            "MAIL FROM:<a@b.example",
            "MAIL FROM:a@b.example>",
            "MAIL FROM:<<a@b.example>>",
            "MAIL FROM:<> <a@b.example>",
            "MAIL FROM:<@x.example:a@b.example>",
            "MAIL FROM:<@x.example:>",
            "MAIL FROM:<\"a@b.example>",
        ] {
            if let Ok(Command::Mail(mail)) = Command::parse(line.as_bytes()) {
                assert_eq!(mail.from, "a@b.example", "{line:?}");
            }
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for bad in [
            "<>",
            "<a>",
            "<@b.example>",
            "<a@>",
            "<a@b@c.example>",
            "<a b@c.example>",
            "<\"a\"b\"@c.example>",
            "<a@b..c>",
            "<\"a\\\"@c.example>",
            "<a@b.example",
            "a@b.example",
            "<a\x7f@b.example>",
            "<a@b_(c).example>",
        ] {
            let code = code(&format!("RCPT TO:{bad}"));
            assert!(code == 553 || code == 501, "{bad}: {code}");
        }
        assert_eq!(code("RCPT TO:<jürgen@example.com>"), 553);
        assert_eq!(code("MAIL FROM:<a@bücher.example>"), 553);
    }

    #[test]
    fn what_we_do_not_speak_is_said_to_be_so() {
        assert_eq!(code("BDAT 5 LAST"), 502);
        assert_eq!(code("EXPN list"), 502);
        assert_eq!(code("XACK ON"), 500);
        assert_eq!(code("DATA now"), 501);
        assert_eq!(code("EHLO"), 501);
        assert_eq!(code("EHLO two words"), 501);
        assert_eq!(Command::parse(b"GET / HTTP/1.1"), Err(NOT_SMTP));
        assert_eq!(Command::parse(b"VRFY ann"), Ok(Command::Vrfy));
    }

    #[test]
    fn only_plain_and_login_are_our_mechanisms() {
        let auth = |line: &'static [u8]| match Command::parse(line) {
            Ok(Command::Auth { mechanism, initial }) => (mechanism, initial),
            other => panic!("{other:?}"),
        };
        assert_eq!(auth(b"AUTH PLAIN AGEAYg=="), (Some(Mechanism::Plain), Some("AGEAYg==".into())));
        assert_eq!(auth(b"auth login"), (Some(Mechanism::Login), None));
        assert_eq!(auth(b"AUTH PLAIN ="), (Some(Mechanism::Plain), Some("=".into())));
        assert_eq!(auth(b"AUTH CRAM-MD5"), (None, None));
    }

    proptest! {
        #[test]
        fn no_line_makes_parsing_panic(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn an_accepted_recipient_can_be_written_in_a_command_again(text in "[a-z\"\\\\<>@., :\\[\\]é]{0,30}") {
            if let Ok(Command::Rcpt(rcpt)) = Command::parse(format!("RCPT TO:<{text}>").as_bytes())
                && let To::Address(a) = &rcpt.to
            {
                let again = Command::parse(format!("RCPT TO:<{a}>").into_bytes().leak()).unwrap();
                prop_assert_eq!(again, Command::Rcpt(rcpt));
            }
        }
    }
}
