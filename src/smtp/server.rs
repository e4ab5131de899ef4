//! The receiving side of an SMTP session (RFC 5321), without sockets: bytes in, replies and the next action out.
//!
//! The caller gives [`Session::advance`] what has arrived. It works through all of it, asks its [`Policy`] where somebody
//! has to decide, collects the replies, and returns when only the caller can go on: read more, do the TLS handshake,
//! have a message accepted, close. Replies collected so far ([`Session::take_output`]) are written before all of these
//! but the third, so a pipelined group of commands costs one write (RFC 2920).
//!
//! Promises: the replies depend on the bytes alone, not on how they were split over reads; a `250` to content is only
//! said with what the caller puts into [`Session::accepted`]; what a client sent before a TLS handshake is forgotten
//! (RFC 3207, 4.2); memory is bounded by the line limit, the size limit and [`MAX_RECIPIENTS`]; after [`MAX_ERRORS`]
//! useless commands or [`MAX_AUTH_FAILURES`] wrong passwords the session ends. No input makes it panic.

use super::answer::{Answer, write_lines};
use super::command::{Command, Mail, NOT_SMTP, Rcpt};
use super::data::{Content, DataReader};
use super::dsn::Return;
use super::line::{Found, LineError, LineReader};
use super::sasl::{Credentials, Exchange, Step};

/// Recipients of one message, whatever the configuration says: an accepted message is one record with an event for each
/// recipient, and must fit. (RFC 5321, 4.5.3.1.8 asks for 100.)
pub const MAX_RECIPIENTS: usize = 10_000;
/// Commands that were refused for their form or place, since the last accepted message, before the session ends.
pub const MAX_ERRORS: u32 = 20;
/// Wrong passwords before the session ends.
pub const MAX_AUTH_FAILURES: u32 = 3;

/// Who decides. One policy serves one session and may remember what it learnt in it.
pub trait Policy {
    /// What the policy keeps of a recipient until the message is accepted.
    type Recipient;

    /// What is offered now, on a connection that is encrypted (`secure`) or not.
    fn offer(&self, secure: bool) -> Offer;
    /// Whether these credentials are right; if so, the session belongs to that user from now on.
    fn authenticate(&mut self, credentials: &Credentials) -> bool;
    /// Whether a transaction with this sender may begin.
    fn mail(&mut self, mail: &Mail<'_>) -> Result<(), Answer>;
    /// Whether mail to this recipient is taken. Adds what it stands for to `rcpts`, those taken before.
    fn rcpt(&mut self, rcpts: &mut Vec<Self::Recipient>, rcpt: Rcpt) -> Result<(), Answer>;
    /// A line was received (secrets left out), for the log.
    fn heard(&mut self, _line: &[u8]) {}
    /// A reply was given, for the log.
    fn said(&mut self, _answer: &Answer) {}
}

/// What EHLO promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// STARTTLS is possible (and the connection is not encrypted yet).
    pub starttls: bool,
    /// AUTH PLAIN and LOGIN are possible here and now.
    pub auth: bool,
    /// AUTH would be possible over TLS.
    pub auth_needs_tls: bool,
    /// Largest message, bytes; above zero.
    pub size: usize,
}

/// What the caller does next; before all but [`Action::Accept`] it writes [`Session::take_output`].
#[derive(Debug)]
pub enum Action<R> {
    /// Read more; what was not consumed is given again with more behind it.
    Read,
    /// Throw away what was read but not consumed, do the handshake, call [`Session::secured`].
    StartTls,
    /// Make this message durable, then call [`Session::accepted`].
    Accept(Received<R>),
    /// Close the connection.
    Close,
}

/// A message as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<R> {
    /// The reverse-path; empty for `<>`.
    pub from: Box<str>,
    /// RET, if it was given.
    pub ret: Option<Return>,
    /// ENVID; empty when it was not given.
    pub env_id: Box<str>,
    /// At least one.
    pub rcpts: Vec<R>,
    /// The content, with whether octets above 127 are in it or were announced.
    pub content: Content,
}

/// What the client called itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The argument of EHLO or HELO.
    pub name: Box<str>,
    /// EHLO.
    pub extended: bool,
}

/// MAIL has been accepted.
#[derive(Debug)]
struct Transaction<R> {
    from: Box<str>,
    size: u64,
    eight_bit: bool,
    ret: Option<Return>,
    env_id: Box<str>,
    rcpts: Vec<R>,
}

/// What the next bytes are.
#[derive(Debug)]
enum State<R> {
    /// A command, outside of a transaction.
    Ready,
    /// A command within one.
    InTransaction(Transaction<R>),
    /// A response in an AUTH exchange.
    InAuth(Exchange),
    /// Content.
    InData(Transaction<R>, DataReader),
    /// Nothing yet: the caller is making the message durable.
    Accepting,
    /// Nothing yet: the caller is doing the handshake.
    Securing,
    /// Nothing any more.
    Closed,
}

/// One session.
#[derive(Debug)]
pub struct Session<P: Policy> {
    policy: P,
    host: Box<str>,
    state: State<P::Recipient>,
    lines: LineReader,
    hello: Option<Hello>,
    secure: bool,
    authenticated: bool,
    stopping: bool,
    heard: u64,
    errors: u32,
    auth_failures: u32,
    out: Vec<u8>,
}

const BAD_SEQUENCE: &str = "5.5.1";
const STOPPING: Answer = Answer::new(421, "4.3.2", "system is going down, try again later");
const TIMED_OUT: Answer = Answer::new(421, "4.4.2", "timeout, closing connection");

impl<P: Policy> Session<P> {
    /// A session that begins with the greeting of `host`; `secure` when TLS came first.
    pub fn new(policy: P, host: &str, secure: bool) -> Session<P> {
        let mut session = Session::silent(policy, host, secure);
        session.out.extend_from_slice(format!("220 {host} ESMTP Carom\r\n").as_bytes());
        session
    }

    /// A session that begins and ends with a refusal (RFC 7504: 521; RFC 5321, 3.1: 554; 421).
    pub fn refused(policy: P, host: &str, answer: &Answer) -> Session<P> {
        let mut session = Session::silent(policy, host, false);
        answer.write(&mut session.out);
        session.state = State::Closed;
        session
    }

    fn silent(policy: P, host: &str, secure: bool) -> Session<P> {
        Session {
            policy,
            host: host.into(),
            state: State::Ready,
            lines: LineReader::default(),
            hello: None,
            secure,
            authenticated: false,
            stopping: false,
            heard: 0,
            errors: 0,
            auth_failures: 0,
            out: Vec::new(),
        }
    }

    /// Works through `input`. Returns how many bytes were used up, and what only the caller can do.
    pub fn advance(&mut self, input: &[u8]) -> (usize, Action<P::Recipient>) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match &mut self.state {
                State::Closed => return (input.len(), Action::Close),
                State::Accepting | State::Securing => return (used, Action::Read),
                State::InData(_, reader) => {
                    let (taken, ended) = reader.push(rest);
                    used += taken;
                    if !ended {
                        return (used, Action::Read);
                    }
                    if let Some(action) = self.content_ended() {
                        return (used, action);
                    }
                }
                State::Ready | State::InTransaction(_) | State::InAuth(_) => {
                    let (taken, found) = self.lines.next(rest);
                    used += taken;
                    self.heard += u64::from(found != Found::More);
                    match found {
                        Found::More => return (used, Action::Read),
                        Found::Line(Ok(line)) => {
                            if let Some(action) = self.line(line) {
                                return (used, action);
                            }
                        }
                        Found::Line(Err(error)) => self.bad_line(error),
                    }
                }
            }
        }
    }

    /// The replies to be written, in order; they are given out once. `into` is cleared first, so that two buffers can
    /// serve a whole session.
    pub fn take_output(&mut self, into: &mut Vec<u8>) {
        into.clear();
        std::mem::swap(&mut self.out, into);
    }

    /// Whether content is being read (the data timeout applies, not that for commands).
    pub fn in_data(&self) -> bool {
        matches!(self.state, State::InData(..))
    }

    /// Bytes of content held so far; 0 when none is being read.
    pub fn content_held(&self) -> usize {
        if let State::InData(_, reader) = &self.state { reader.kept() } else { 0 }
    }

    /// There is no memory for the content being read: it is read to its end and refused with 452.
    pub fn discard_content(&mut self) {
        if let State::InData(_, reader) = &mut self.state {
            reader.discard();
        }
    }

    /// How many lines were heard so far, contents of messages aside.
    pub fn lines(&self) -> u64 {
        self.heard
    }

    /// Who the client says it is.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Whether a user has authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The policy, for what it knows of the session.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// As [`Session::policy`], to tell it something.
    pub fn policy_mut(&mut self) -> &mut P {
        &mut self.policy
    }

    /// The answer to [`Action::Accept`], which ends the transaction.
    pub fn accepted(&mut self, answer: &Answer) {
        debug_assert!(matches!(self.state, State::Accepting));
        self.state = State::Ready;
        if answer.is_positive() {
            self.errors = 0;
        }
        self.say(answer);
    }

    /// The answer to [`Action::StartTls`]: the handshake succeeded. RFC 3207, 4.2: "the server MUST discard any knowledge
    /// obtained from the client [...] which was not obtained from the TLS negotiation itself".
    pub fn secured(&mut self) {
        debug_assert!(matches!(self.state, State::Securing));
        self.state = State::Ready;
        self.lines = LineReader::default();
        self.hello = None;
        self.secure = true;
    }

    /// The server is stopping. A transaction under way may be finished; otherwise the session ends with 421 at once
    /// (RFC 5321, 3.8), and the caller gets [`Action::Close`] from the next [`Session::advance`].
    pub fn stop(&mut self) {
        self.stopping = true;
        if matches!(self.state, State::Ready | State::InAuth(_)) {
            self.close_with(&STOPPING);
        }
    }

    /// The client did not send anything in time.
    pub fn timed_out(&mut self) {
        self.close_with(&TIMED_OUT);
    }

    fn say(&mut self, answer: &Answer) {
        self.policy.said(answer);
        answer.write(&mut self.out);
    }

    fn close_with(&mut self, answer: &Answer) {
        self.say(answer);
        self.state = State::Closed;
    }

    /// Says what was wrong with a command, and ends the session when too much was.
    fn error(&mut self, answer: &Answer) {
        self.errors += 1;
        self.say(answer);
        if self.errors >= MAX_ERRORS {
            self.close_with(&Answer::new(421, "4.7.0", "too many errors, closing connection"));
        }
    }

    fn bad_line(&mut self, error: LineError) {
        self.policy.heard(b"(malformed line)");
        if matches!(self.state, State::InAuth(_)) {
            self.state = State::Ready;
        }
        self.error(&Answer::with(500, "5.5.2", error.to_string()));
    }

    fn line(&mut self, line: &[u8]) -> Option<Action<P::Recipient>> {
        if let State::InAuth(_) = self.state {
            if let State::InAuth(exchange) = std::mem::replace(&mut self.state, State::Ready) {
                self.policy.heard(b"(authentication data)");
                self.auth_step(exchange.respond(line));
            }
            return None;
        }
        // Between transactions only: one that has begun may be finished.
        if self.stopping && matches!(self.state, State::Ready) {
            self.close_with(&STOPPING);
            return None;
        }
        // A malformed AUTH has a secret in it too.
        let secret = line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        self.policy.heard(if secret { b"AUTH (authentication data)" } else { line });
        match Command::parse(line) {
            Ok(command) => self.command(command),
            Err(answer) if answer == NOT_SMTP => {
                self.close_with(&answer);
                None
            }
            Err(answer) => {
                self.error(&answer);
                None
            }
        }
    }

    fn command(&mut self, command: Command<'_>) -> Option<Action<P::Recipient>> {
        match command {
            Command::Hello { name, extended } => self.say_hello(name, extended),
            Command::Mail(mail) => self.mail(&mail),
            Command::Rcpt(rcpt) => self.rcpt(rcpt),
            Command::Data => self.data(),
            Command::Auth { mechanism, initial } => {
                let offer = self.policy.offer(self.secure);
                if self.authenticated {
                    self.error(&Answer::new(503, BAD_SEQUENCE, "already authenticated"));
                } else if matches!(self.state, State::InTransaction(_)) || self.hello.is_none() {
                    self.error(&Answer::new(503, BAD_SEQUENCE, "AUTH is not possible now; say EHLO first"));
                } else if !offer.auth && offer.auth_needs_tls {
                    self.error(&Answer::new(538, "5.7.11", "encryption required for authentication; use STARTTLS"));
                } else if !offer.auth {
                    self.error(&Answer::new(502, "5.5.1", "AUTH is not supported"));
                } else if let Some(mechanism) = mechanism {
                    self.auth_step(Exchange::begin(mechanism, initial.as_deref()));
                } else {
                    self.error(&Answer::new(504, "5.5.4", "mechanism is not supported; use PLAIN or LOGIN"));
                }
            }
            Command::StartTls => {
                if self.secure {
                    self.error(&Answer::new(503, BAD_SEQUENCE, "TLS is already active"));
                } else if !self.policy.offer(false).starttls {
                    self.error(&Answer::new(502, "5.5.1", "STARTTLS is not supported"));
                } else {
                    self.say(&Answer::new(220, "2.0.0", "ready to start TLS"));
                    self.state = State::Securing;
                    return Some(Action::StartTls);
                }
            }
            Command::Rset => {
                self.state = State::Ready;
                self.say(&Answer::new(250, "2.0.0", "reset"));
            }
            Command::Noop => self.say(&Answer::new(250, "2.0.0", "ok")),
            Command::Help => self.say(&Answer::new(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP")),
            // RFC 5321, 7.3: a server that does not verify says 252.
            Command::Vrfy => {
                self.say(&Answer::new(252, "2.5.0", "cannot verify the address, but will take mail for it if it may"));
            }
            Command::Quit => self.close_with(&Answer::new(221, "2.0.0", "closing connection")),
        }
        None
    }

    fn say_hello(&mut self, name: &str, extended: bool) {
        // RFC 5321, 4.1.4: EHLO in the middle of a session does what RSET does.
        self.state = State::Ready;
        self.hello = Some(Hello { name: name.into(), extended });
        if !extended {
            write_lines(&mut self.out, 250, [&*self.host]);
            return;
        }
        let offer = self.policy.offer(self.secure);
        let size = format!("SIZE {}", offer.size);
        let keywords = [
            (true, "PIPELINING"),
            (true, "8BITMIME"),
            (true, size.as_str()),
            (true, "ENHANCEDSTATUSCODES"),
            (true, "DSN"),
            (offer.starttls && !self.secure, "STARTTLS"),
            (offer.auth && !self.authenticated, "AUTH PLAIN LOGIN"),
        ];
        let keywords = keywords.iter().filter(|(offered, _)| *offered).map(|(_, keyword)| *keyword);
        write_lines(&mut self.out, 250, std::iter::once(&*self.host).chain(keywords));
    }

    fn mail(&mut self, mail: &Mail<'_>) {
        let offer = self.policy.offer(self.secure);
        if self.hello.is_none() {
            return self.error(&Answer::new(503, BAD_SEQUENCE, "send EHLO first"));
        }
        if matches!(self.state, State::InTransaction(_)) {
            return self.error(&Answer::new(503, BAD_SEQUENCE, "a transaction is already under way"));
        }
        if mail.auth && !offer.auth && !self.authenticated {
            return self.error(&Answer::new(555, "5.5.4", "parameter AUTH is not supported here"));
        }
        if mail.size > offer.size as u64 {
            return self.say(&Answer::new(552, "5.3.4", "message exceeds the maximum size"));
        }
        match self.policy.mail(mail) {
            Ok(()) => {
                self.state = State::InTransaction(Transaction {
                    from: mail.from.into(),
                    size: mail.size,
                    eight_bit: mail.eight_bit,
                    ret: mail.ret,
                    env_id: mail.env_id.clone(),
                    rcpts: Vec::new(),
                });
                self.say(&Answer::new(250, "2.1.0", "sender ok"));
            }
            Err(answer) => self.say(&answer),
        }
    }

    fn rcpt(&mut self, rcpt: Rcpt) {
        let State::InTransaction(transaction) = &mut self.state else {
            return self.error(&Answer::new(503, BAD_SEQUENCE, "send MAIL first"));
        };
        let answer = if transaction.rcpts.len() >= MAX_RECIPIENTS {
            Answer::new(452, "4.5.3", "too many recipients; send to the others in another transaction")
        } else {
            match self.policy.rcpt(&mut transaction.rcpts, rcpt) {
                Ok(()) => Answer::new(250, "2.1.5", "recipient ok"),
                Err(answer) => answer,
            }
        };
        // RFC 5321, 3.8: 421 says that the connection ends.
        if answer.code == 421 { self.close_with(&answer) } else { self.say(&answer) }
    }

    fn data(&mut self) {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::InTransaction(transaction) if !transaction.rcpts.is_empty() => {
                let limit = self.policy.offer(self.secure).size;
                let reader = DataReader::new(limit, usize::try_from(transaction.size).unwrap_or(limit));
                self.state = State::InData(transaction, reader);
                self.say(&Answer::new(354, "", "go ahead, end with <CRLF>.<CRLF>"));
            }
            // RFC 5321, 3.3: "If there was no MAIL, or no RCPT, command, or all such commands were rejected, the server
            // MAY return a 'command out of sequence' (503) or 'no valid recipients' (554) reply".
            State::InTransaction(transaction) => {
                self.state = State::InTransaction(transaction);
                self.say(&Answer::new(554, "5.5.1", "no valid recipients"));
            }
            other => {
                self.state = other;
                self.error(&Answer::new(503, BAD_SEQUENCE, "send MAIL first"));
            }
        }
    }

    /// `None` when the content was refused and the session goes on by itself.
    fn content_ended(&mut self) -> Option<Action<P::Recipient>> {
        let State::InData(transaction, reader) = std::mem::replace(&mut self.state, State::Ready) else { return None };
        match reader.finish() {
            Ok(mut content) => {
                content.eight_bit |= transaction.eight_bit;
                self.state = State::Accepting;
                let Transaction { from, ret, env_id, rcpts, .. } = transaction;
                Some(Action::Accept(Received { from, ret, env_id, rcpts, content }))
            }
            Err(error) => {
                self.error(&error.answer());
                None
            }
        }
    }

    fn auth_step(&mut self, step: Step) {
        match step {
            Step::Continue(exchange, challenge) => {
                self.state = State::InAuth(exchange);
                self.say(&Answer::new(334, "", challenge));
            }
            Step::Done(credentials) if self.policy.authenticate(&credentials) => {
                self.authenticated = true;
                self.say(&Answer::new(235, "2.7.0", "authentication succeeded"));
            }
            Step::Done(_) => {
                self.auth_failures += 1;
                self.say(&Answer::new(535, "5.7.8", "authentication credentials invalid"));
                if self.auth_failures >= MAX_AUTH_FAILURES {
                    self.close_with(&Answer::new(421, "4.7.0", "too many authentication failures, closing connection"));
                }
            }
            Step::Cancelled => self.error(&Answer::new(501, "5.7.0", "authentication cancelled")),
            Step::Malformed => self.error(&Answer::new(501, "5.5.2", "cannot decode the authentication data")),
        }
    }
}
