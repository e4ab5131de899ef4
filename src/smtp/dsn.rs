//! The parameters by which a sender says what it wants to hear of its mail (RFC 3461): RET and ENVID of MAIL, NOTIFY and
//! ORCPT of RCPT. Pure.
//!
//! Values are kept decoded (printable ASCII) and go out encoded again. What goes on to the next hop is what came in: RFC
//! 3461, 5.2.1 forbids a relay to make up RET, ENVID or NOTIFY. ORCPT alone may be added, and is: with it a report that
//! comes after the mail was forwarded still names the address that we sent to.

/// NOTIFY=NEVER (RFC 3461, 4.1). Zero: the sender did not say.
pub const NEVER: u8 = 1;
/// NOTIFY=SUCCESS.
pub const SUCCESS: u8 = 2;
/// NOTIFY=FAILURE.
pub const FAILURE: u8 = 4;
/// NOTIFY=DELAY.
pub const DELAY: u8 = 8;

/// Longest ENVID, as it stands in the command (RFC 3461, 4.4).
const MAX_ENV_ID: usize = 100;
/// Longest ORCPT, as it stands in the command (RFC 3461, 4.2).
const MAX_ORCPT: usize = 500;

/// The value of a parameter is not what RFC 3461 says, or it is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed parameter")]
pub struct Malformed;

/// RET: what a report is to return (RFC 3461, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

/// What one RCPT says to the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RcptDsn<'a> {
    /// NOTIFY, in the bits above; 0 sends none.
    pub notify: u8,
    /// `type;address`; empty for the address of RCPT itself.
    pub orcpt: &'a str,
}

/// What a transaction says to the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dsn<'a> {
    /// RET.
    pub ret: Option<Return>,
    /// ENVID; empty sends none.
    pub env_id: &'a str,
    /// One for each RCPT.
    pub rcpts: &'a [RcptDsn<'a>],
}

/// The value of a parameter in what stands behind a path; the error is a parameter that is given twice.
fn value<'a>(behind: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Malformed> {
    let mut values = behind.split(|b| matches!(b, b' ' | b'\t')).filter_map(|word| {
        let (given, value) = word.split_at_checked(name.len())?;
        given.eq_ignore_ascii_case(name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
    });
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Malformed),
        (first, None) => Ok(first),
    }
}

/// ENVID in what stands behind the path of MAIL; empty when it is not there. The error is one that is malformed.
pub fn env_id(behind: &[u8]) -> Result<Box<str>, Malformed> {
    match value(behind, "ENVID")? {
        None => Ok("".into()),
        Some(xtext) if xtext.len() > MAX_ENV_ID => Err(Malformed),
        Some(xtext) => decoded(xtext).filter(|id| !id.is_empty()).map(Box::from).ok_or(Malformed),
    }
}

/// ORCPT in what stands behind the path of RCPT, as `type;address`; empty when it is not there.
pub fn orcpt(behind: &[u8]) -> Result<Box<str>, Malformed> {
    let Some(given) = value(behind, "ORCPT")? else { return Ok("".into()) };
    let semicolon = given.iter().position(|b| *b == b';').ok_or(Malformed)?;
    let (kind, xtext) = (&given[..semicolon], &given[semicolon + 1..]);
    // RFC 3461, 4.2: the type is an atom.
    let is_atom = !kind.is_empty() && kind.iter().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\".[]+=".contains(b));
    let address = decoded(xtext).filter(|address| !address.is_empty()).ok_or(Malformed)?;
    let kind = std::str::from_utf8(kind).map_err(|_| Malformed)?;
    if is_atom && given.len() <= MAX_ORCPT { Ok([kind, ";", &address].concat().into()) } else { Err(Malformed) }
}

/// Xtext as the text it stands for (RFC 3461, 4); `None` when it is malformed or stands for what can't be printed. `=` is
/// let through as it is: some send it so, and here it can mean nothing else.
fn decoded(xtext: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(xtext.len());
    let mut bytes = xtext.iter();
    while let Some(&byte) = bytes.next() {
        let byte = match byte {
            b'+' => {
                let mut digit = || char::from(*bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        };
        if !matches!(byte, b' '..=b'~') {
            return None;
        }
        out.push(byte.into());
    }
    Some(out)
}

fn put_encoded(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => out.push(byte),
            _ => {
                let digit = |n: u8| b"0123456789ABCDEF"[usize::from(n & 15)];
                out.extend_from_slice(&[b'+', digit(byte >> 4), digit(byte)]);
            }
        }
    }
}

/// Puts ` NAME=` and the value behind a command that is being written, or nothing where the value may not be sent.
fn put(out: &mut Vec<u8>, name: &str, kind: &str, text: &str, most: usize) {
    if text.is_empty() || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return;
    }
    let begin = out.len();
    for part in [" ", name, "="] {
        out.extend_from_slice(part.as_bytes());
    }
    let value = out.len();
    out.extend_from_slice(kind.as_bytes());
    put_encoded(out, text);
    if out.len() - value > most {
        out.truncate(begin);
    }
}

impl Dsn<'_> {
    /// Puts RET and ENVID behind a MAIL command that is being written.
    pub fn put_mail(&self, out: &mut Vec<u8>) {
        match self.ret {
            Some(Return::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Return::Headers) => out.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        put(out, "ENVID", "", self.env_id, MAX_ENV_ID);
    }

    /// Puts NOTIFY and ORCPT behind the RCPT of number `n`, which names `address`.
    pub fn put_rcpt(&self, out: &mut Vec<u8>, n: usize, address: &str) {
        let Some(rcpt) = self.rcpts.get(n) else { return };
        let words = [(SUCCESS, "SUCCESS"), (FAILURE, "FAILURE"), (DELAY, "DELAY")];
        if rcpt.notify & NEVER != 0 {
            out.extend_from_slice(b" NOTIFY=NEVER");
        } else if rcpt.notify != 0 {
            out.extend_from_slice(b" NOTIFY=");
            for (_, word) in words.iter().filter(|(bit, _)| rcpt.notify & bit != 0) {
                out.extend_from_slice(word.as_bytes());
                out.push(b',');
            }
            out.pop();
        }
        match rcpt.orcpt.split_once(';') {
            Some((kind, given)) => put(out, "ORCPT", &[kind, ";"].concat(), given, MAX_ORCPT),
            None => put(out, "ORCPT", "rfc822;", address, MAX_ORCPT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_kept_as_what_they_stand_for() {
        assert_eq!(env_id(b"> SIZE=5 envid=QQ+2B314+20159").as_deref(), Ok("QQ+314 159"));
        assert_eq!(
            orcpt(b"> NOTIFY=NEVER ORCPT=rfc822;Bob+2BTag@Example.com").as_deref(),
            Ok("rfc822;Bob+Tag@Example.com")
        );
        assert_eq!((env_id(b">").as_deref(), orcpt(b"> NOTIFY=NEVER").as_deref()), (Ok(""), Ok("")));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        let long = format!("> ENVID={}", "x".repeat(101));
        for bad in
            ["> ENVID=", "> ENVID=a+2", "> ENVID=a+zz", "> ENVID=a+0D+0A", "> ENVID=a ENVID=b", "> ENVID=ü", &long]
        {
            assert_eq!(env_id(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        let long = format!("> ORCPT=rfc822;{}", "x".repeat(494));
        for bad in ["> ORCPT=a@b", "> ORCPT=;a@b", "> ORCPT=rfc822;", "> ORCPT=rf(c;a@b", "> ORCPT=rfc822;a+0Ab", &long]
        {
            assert_eq!(orcpt(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    fn written(notify: u8, orcpt: &str, address: &str) -> String {
        let rcpts = [RcptDsn { notify, orcpt }];
        let mut out = Vec::new();
        Dsn { ret: None, env_id: "", rcpts: &rcpts }.put_rcpt(&mut out, 0, address);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_given_goes_on_and_nothing_but_the_recipient_is_added() {
        assert_eq!(written(0, "", "a+b@c.example"), " ORCPT=rfc822;a+2Bb@c.example");
        assert_eq!(written(NEVER, "x400;/c=us", "a@b"), " NOTIFY=NEVER ORCPT=x400;/c+3Dus");
        assert_eq!(written(SUCCESS | DELAY, "", "ä@b"), " NOTIFY=SUCCESS,DELAY");
        fn mail(ret: Option<Return>, env_id: &str) -> String {
            let mut out = Vec::new();
            Dsn { ret, env_id, rcpts: &[] }.put_mail(&mut out);
            String::from_utf8(out).unwrap()
        }
        assert_eq!(mail(Some(Return::Headers), "e=1"), " RET=HDRS ENVID=e+3D1");
        assert_eq!(mail(Some(Return::Full), &"+".repeat(34)), " RET=FULL", "longer than an ENVID may be");
        assert_eq!(mail(None, "a\r\nRCPT TO:<x@y>"), "");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_is_one_word(text in "[ -~]{1,30}") {
            let mut out = b">".to_vec();
            Dsn { ret: None, env_id: &text, rcpts: &[] }.put_mail(&mut out);
            prop_assert_eq!(out.iter().filter(|b| **b == b' ').count(), 1);
            prop_assert_eq!(env_id(&out), Ok(text.as_str().into()));
            let orcpt_given = format!("rfc822;{text}");
            let line = format!(">{}", written(0, &orcpt_given, "a@b"));
            prop_assert_eq!(orcpt(line.as_bytes()), Ok(orcpt_given.as_str().into()));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let line = [b"> ENVID=", &bytes[..], b" ORCPT=", &bytes[..]].concat();
            let _ = (env_id(&line), orcpt(&line));
        }
    }
}
