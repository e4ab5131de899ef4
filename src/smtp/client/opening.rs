//! From the greeting to a session that can send: EHLO or HELO, STARTTLS, and EHLO again (RFC 5321, 3.1 and 4.1; RFC 3207).

use crate::event::{Reply, Stage};

use crate::smtp::ehlo::Ehlo;
use crate::smtp::reply::RawReply;

/// What the operator says about TLS and greeting.
#[derive(Debug, Clone)]
pub struct OpeningOptions<'a> {
    /// The name to give in EHLO.
    pub host_name: &'a str,
    /// STARTTLS is used if it is offered.
    pub use_starttls: bool,
    /// Without STARTTLS nothing is sent.
    pub require_starttls: bool,
}

/// From the connection to a session that can send.
#[derive(Debug)]
pub struct Opening<'a> {
    options: OpeningOptions<'a>,
    state: OpeningState,
    encrypted: bool,
    ehlo: Ehlo,
    output: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpeningState {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
}

/// What the opening asks for next.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// Write [`Opening::take_output`], then give the next reply.
    Send,
    /// Begin the TLS handshake, then [`Opening::encrypted`].
    StartTls,
    /// Transactions can begin.
    Ready,
    /// The server refuses at this stage.
    Refused(Stage, Reply),
    /// STARTTLS is required and the server does not offer it.
    NoStartTls,
    /// STARTTLS was offered and then refused.
    StartTlsRefused(Reply),
}

impl<'a> Opening<'a> {
    /// Waits for the greeting.
    pub fn new(options: OpeningOptions<'a>) -> Opening<'a> {
        Opening { options, state: OpeningState::Greeting, encrypted: false, ehlo: Ehlo::default(), output: Vec::new() }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        if self.state == OpeningState::Greeting { Stage::Connect } else { Stage::Ehlo }
    }

    /// What is to be written; empties it.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What the server offers: known once the opening is `Ready`.
    pub fn into_ehlo(self) -> Ehlo {
        self.ehlo
    }

    /// The TLS handshake is done: all that was learnt before is forgotten (RFC 3207, 4.2), EHLO is said again.
    pub fn encrypted(&mut self) -> Opened {
        self.encrypted = true;
        self.ehlo = Ehlo::default();
        self.say("EHLO", OpeningState::Ehlo)
    }

    /// The next reply.
    pub fn reply(&mut self, reply: RawReply<'_>) -> Opened {
        let positive = (200..300).contains(&reply.code);
        match self.state {
            OpeningState::Greeting if positive => self.say("EHLO", OpeningState::Ehlo),
            OpeningState::Ehlo if positive => {
                self.ehlo = Ehlo::parse(reply);
                if self.encrypted || !(self.options.use_starttls || self.options.require_starttls) {
                    return Opened::Ready;
                }
                if self.ehlo.starttls {
                    self.output.extend_from_slice(b"STARTTLS\r\n");
                    self.state = OpeningState::StartTls;
                    return Opened::Send;
                }
                if self.options.require_starttls { Opened::NoStartTls } else { Opened::Ready }
            }
            // RFC 5321, 3.2: a server that does not know EHLO says so with 5yz; it must know HELO.
            OpeningState::Ehlo if reply.code / 100 == 5 && !self.encrypted => self.say("HELO", OpeningState::Helo),
            OpeningState::Helo if positive => {
                if self.options.require_starttls {
                    Opened::NoStartTls
                } else {
                    Opened::Ready
                }
            }
            OpeningState::StartTls if reply.code == 220 => Opened::StartTls,
            OpeningState::StartTls => Opened::StartTlsRefused(reply.to_reply()),
            OpeningState::Greeting => Opened::Refused(Stage::Connect, reply.to_reply()),
            OpeningState::Ehlo | OpeningState::Helo => Opened::Refused(Stage::Ehlo, reply.to_reply()),
        }
    }

    fn say(&mut self, verb: &str, state: OpeningState) -> Opened {
        for part in [verb, " ", self.options.host_name, "\r\n"] {
            self.output.extend_from_slice(part.as_bytes());
        }
        self.state = state;
        Opened::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::reply::Replies;

    /// Runs a script: `S:` lines are replies, `C:` lines what must be written before the next of them.
    fn opening(options: OpeningOptions<'_>, script: &str) -> (Opened, Ehlo) {
        let mut opening = Opening::new(options);
        let mut replies = Replies::new();
        let mut last = Opened::Send;
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("S", text) => replies.buffer().extend_from_slice(format!("{text}\r\n").as_bytes()),
                ("C", text) => assert_eq!(String::from_utf8(opening.take_output()).unwrap(), format!("{text}\r\n")),
                _ => panic!("{line}"),
            }
            while let Some(reply) = replies.take().unwrap() {
                last = opening.reply(reply);
                if last == Opened::StartTls {
                    last = opening.encrypted();
                }
            }
        }
        (last, opening.into_ehlo())
    }

    const PLAIN: OpeningOptions<'static> =
        OpeningOptions { host_name: "me.example", use_starttls: false, require_starttls: false };
    const TLS: OpeningOptions<'static> =
        OpeningOptions { host_name: "me.example", use_starttls: true, require_starttls: false };
    const REQUIRED: OpeningOptions<'static> =
        OpeningOptions { host_name: "me.example", use_starttls: true, require_starttls: true };

    #[test]
    fn a_server_that_knows_ehlo_is_ready_after_it() {
        let (end, ehlo) = opening(
            PLAIN,
            "S: 220-hello\nS: 220 there\nC: EHLO me.example\nS: 250-mx\nS: 250-STARTTLS\nS: 250 PIPELINING",
        );
        assert_eq!(end, Opened::Ready);
        assert!(ehlo.pipelining);
    }

    #[test]
    fn an_old_server_gets_helo() {
        let (end, ehlo) = opening(PLAIN, "S: 220 hi\nC: EHLO me.example\nS: 502 what?\nC: HELO me.example\nS: 250 ok");
        assert_eq!((end, ehlo), (Opened::Ready, Ehlo::default()));
    }

    #[test]
    fn what_was_offered_before_the_handshake_is_forgotten() {
        let (end, ehlo) = opening(
            TLS,
            "S: 220 hi\nC: EHLO me.example\nS: 250-mx\nS: 250-PIPELINING\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nC: EHLO me.example\nS: 250 mx",
        );
        assert_eq!((end, ehlo), (Opened::Ready, Ehlo::default()));
    }

    #[test]
    fn required_tls_that_is_not_offered_ends_the_opening() {
        assert_eq!(opening(REQUIRED, "S: 220 hi\nS: 250 mx").0, Opened::NoStartTls);
        assert_eq!(opening(REQUIRED, "S: 220 hi\nS: 500 mx\nS: 250 ok").0, Opened::NoStartTls);
        assert_eq!(opening(TLS, "S: 220 hi\nS: 250 mx").0, Opened::Ready);
        assert!(matches!(
            opening(REQUIRED, "S: 220 hi\nS: 250-mx\nS: 250 STARTTLS\nS: 454 no").0,
            Opened::StartTlsRefused(r) if r.code == 454
        ));
    }

    #[test]
    fn a_refusal_says_where() {
        assert!(matches!(opening(PLAIN, "S: 554 go away").0, Opened::Refused(Stage::Connect, r) if r.code == 554));
        assert!(matches!(opening(PLAIN, "S: 220 hi\nS: 421 busy").0, Opened::Refused(Stage::Ehlo, r) if r.code == 421));
    }
}
