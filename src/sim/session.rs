//! One SMTP session at a simulated provider: bytes in, replies, book lines and reports out. No sockets, no clock.
//!
//! Pipelined commands are answered in one piece (RFC 2920). What the provider remembers between sessions is its
//! [`Desk`].

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::book::{Line, Stage};
use super::chance;
use super::desk::{Desk, Role};
use super::report::{self, About, Report};
use super::script::Behaviour;
use super::wording::{self, Gaps, Said, Saying};
use crate::event::Time;

/// Longest command line taken.
const MAX_LINE: usize = 4096;
/// Recipients of one message.
const MAX_RCPTS: usize = 100;
/// How much of a message is kept for a report and to find its Message-ID.
const MAX_KEPT: usize = 64 << 10;
/// The size announced and held to.
const MAX_SIZE: u64 = 50 << 20;

/// What is to be done with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send the replies, read on.
    Read,
    /// Send the replies, do the TLS handshake, call [`Session::secured`], read on.
    StartTls,
    /// Send the replies and close.
    Close,
}

/// What a step of the session brought forth; the caller empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// Bytes to send.
    pub replies: Vec<u8>,
    /// Lines for the book.
    pub lines: Vec<Line>,
    /// Mail to send later.
    pub reports: Vec<Report>,
}

#[derive(Debug)]
struct Transaction {
    from: String,
    /// Recipient and behaviour.
    rcpts: Vec<(String, Behaviour)>,
}

#[derive(Debug)]
struct Content {
    kept: Vec<u8>,
    size: u64,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    role: Arc<Role>,
    id: u64,
    peer: IpAddr,
    secure: bool,
    greeted: bool,
    messages: u32,
    transaction: Option<Transaction>,
    content: Option<Content>,
    replies: u64,
}

impl Session {
    /// A new session and its greeting. `id` is any number that tells it from others.
    pub fn open(
        role: Arc<Role>,
        id: u64,
        peer: IpAddr,
        now: Time,
        desk: &mut Desk,
        out: &mut Output,
    ) -> (Session, Next) {
        let mut session = Session {
            role,
            id,
            peer,
            secure: false,
            greeted: false,
            messages: 0,
            transaction: None,
            content: None,
            replies: 0,
        };
        let verdict = desk.arrive(&session.role, now);
        let reply = match verdict {
            Ok(()) => Said::line(220, format!("{} ESMTP {}", session.role.provider.host, chance::id(id, 10))),
            Err(why) => session.say(why, "", now),
        };
        out.lines.push(session.line(Stage::Connect, "", &reply, "", verdict.is_ok(), now));
        reply.write(&mut out.replies);
        (session, if verdict.is_ok() { Next::Read } else { Next::Close })
    }

    /// The TLS handshake succeeded: what was said before is forgotten (RFC 3207, 4.2).
    pub fn secured(&mut self) {
        self.secure = true;
        self.greeted = false;
        self.transaction = None;
    }

    /// Takes what has come in and answers all of it that is complete.
    pub fn input(&mut self, buffer: &mut BytesMut, now: Time, desk: &mut Desk, out: &mut Output) -> Next {
        loop {
            if self.content.is_some() {
                if !self.take_content(buffer) {
                    return Next::Read;
                }
                self.end_of_data(now, desk, out);
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', buffer) else {
                if buffer.len() > MAX_LINE {
                    Said::line(500, "5.5.2 line too long").write(&mut out.replies);
                    return Next::Close;
                }
                return Next::Read;
            };
            let line = buffer.split_to(end + 1);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            match self.command(line, now, desk, out) {
                Next::Read => {}
                // What was pipelined behind STARTTLS was not said in secret (RFC 3207, 4).
                Next::StartTls => {
                    buffer.clear();
                    return Next::StartTls;
                }
                Next::Close => return Next::Close,
            }
        }
    }

    fn command(&mut self, line: &str, now: Time, desk: &mut Desk, out: &mut Output) -> Next {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.greeted = true;
                self.transaction = None;
                let mut lines = vec![format!("{} at your service, [{}]", self.role.provider.host, self.peer)];
                lines.extend(["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"].map(str::to_owned));
                lines.push(format!("SIZE {MAX_SIZE}"));
                if self.role.starttls && !self.secure {
                    lines.push("STARTTLS".to_owned());
                }
                Said { code: 250, lines }
            }
            "HELO" => {
                self.greeted = true;
                self.transaction = None;
                Said::line(250, self.role.provider.host)
            }
            "STARTTLS" if self.role.starttls && !self.secure => {
                Said::line(220, "2.0.0 ready to start TLS").write(&mut out.replies);
                return Next::StartTls;
            }
            "MAIL" => match self.mail(rest) {
                Ok(reply) => reply,
                Err(Some(reply)) => reply,
                Err(None) => {
                    let reply = self.say(Saying::TooManyMessages, "", now);
                    out.lines.push(self.line(Stage::Mail, "", &reply, "", false, now));
                    reply.write(&mut out.replies);
                    return Next::Close;
                }
            },
            "RCPT" => self.rcpt(rest, now, desk, out),
            "DATA" => match &self.transaction {
                None => Said::line(503, "5.5.1 MAIL first"),
                Some(t) if t.rcpts.is_empty() => Said::line(554, "5.5.1 no valid recipients"),
                Some(_) => {
                    self.content = Some(Content { kept: Vec::new(), size: 0 });
                    Said::line(354, "go ahead")
                }
            },
            "RSET" => {
                self.transaction = None;
                Said::line(250, "2.0.0 flushed")
            }
            "NOOP" => Said::line(250, "2.0.0 ok"),
            "QUIT" => {
                Said::line(221, "2.0.0 closing connection").write(&mut out.replies);
                return Next::Close;
            }
            _ => Said::line(502, "5.5.1 command not recognised"),
        };
        reply.write(&mut out.replies);
        Next::Read
    }

    fn mail(&mut self, rest: &str) -> Result<Said, Option<Said>> {
        if !self.greeted {
            return Err(Some(Said::line(503, "5.5.1 EHLO first")));
        }
        if self.transaction.is_some() {
            return Err(Some(Said::line(503, "5.5.1 nested MAIL")));
        }
        let Some((from, parameters)) = path(rest, "FROM:") else {
            return Err(Some(Said::line(501, "5.5.4 syntax: MAIL FROM:<address>")));
        };
        let size =
            parameters.split(' ').find_map(|p| p.to_ascii_uppercase().strip_prefix("SIZE=")?.parse::<u64>().ok());
        if size.is_some_and(|s| s > MAX_SIZE) {
            return Err(Some(Said::line(552, "5.3.4 message too big")));
        }
        let limit = self.role.provider.max_messages;
        if self.role.limits && limit > 0 && self.messages >= limit {
            return Err(None);
        }
        self.messages += 1;
        self.transaction = Some(Transaction { from: from.to_owned(), rcpts: Vec::new() });
        Ok(Said::line(250, "2.1.0 sender ok"))
    }

    fn rcpt(&mut self, rest: &str, now: Time, desk: &mut Desk, out: &mut Output) -> Said {
        let Some(transaction) = &self.transaction else {
            return Said::line(503, "5.5.1 MAIL first");
        };
        let Some((rcpt, _)) = path(rest, "TO:").filter(|(a, _)| !a.is_empty()) else {
            return Said::line(501, "5.5.4 syntax: RCPT TO:<address>");
        };
        let behaviour = self.role.script.behaviour(rcpt);
        // A message that is to be judged by its content is judged for one recipient at a time.
        let full = transaction.rcpts.len() >= MAX_RCPTS
            || transaction.rcpts.iter().any(|(r, b)| self.decides_at_end(*b, r))
            || (!transaction.rcpts.is_empty() && self.decides_at_end(behaviour, rcpt));
        let refusal = if full {
            Some(Said::line(452, "4.5.3 too many recipients"))
        } else if self.role.own_domains_only && !self.is_own(rcpt) {
            Some(Said::line(550, format!("5.7.1 <{rcpt}>: relaying denied")))
        } else {
            match behaviour {
                Behaviour::UnknownUser => Some(self.say(Saying::UnknownUser, rcpt, now)),
                Behaviour::OverQuota => Some(self.say(Saying::OverQuota, rcpt, now)),
                Behaviour::Disabled => Some(self.say(Saying::Disabled, rcpt, now)),
                Behaviour::MailboxFull if !self.decides_at_end(behaviour, rcpt) => {
                    Some(self.say(Saying::MailboxFull, rcpt, now))
                }
                Behaviour::SpamBlock if !self.decides_at_end(behaviour, rcpt) => {
                    Some(self.say(Saying::SpamBlock, rcpt, now))
                }
                Behaviour::Greylist if desk.is_greylisted(chance::of(self.role.script.seed(), rcpt), now) => {
                    Some(self.say(Saying::Greylist, rcpt, now))
                }
                _ => None,
            }
        };
        match refusal {
            Some(reply) => {
                desk.refused(&reply, 1);
                out.lines.push(self.line(Stage::Rcpt, rcpt, &reply, "", false, now));
                reply
            }
            None => {
                let reply = Said::line(250, "2.1.5 recipient ok");
                out.lines.push(self.line(Stage::Rcpt, rcpt, &reply, "", true, now));
                let rcpt = rcpt.to_owned();
                if let Some(t) = &mut self.transaction {
                    t.rcpts.push((rcpt, behaviour));
                }
                reply
            }
        }
    }

    /// Takes content up to the final dot; whether that has come.
    fn take_content(&mut self, buffer: &mut BytesMut) -> bool {
        let Some(content) = &mut self.content else { return false };
        // The dot of an empty message directly follows the DATA line.
        let (length, done) = if content.size == 0 && buffer.starts_with(b".\r\n") {
            (3, true)
        } else {
            match memchr::memmem::find(buffer, b"\r\n.\r\n") {
                Some(at) => (at + 5, true),
                // The end may be cut in two: the last bytes are looked at again.
                None => (buffer.len().saturating_sub(4), false),
            }
        };
        let piece = buffer.split_to(length);
        let text = if done { piece.len() - 3 } else { piece.len() };
        let room = MAX_KEPT.saturating_sub(content.kept.len()).min(text);
        content.kept.extend_from_slice(&piece[..room]);
        content.size += text as u64;
        done
    }

    fn end_of_data(&mut self, now: Time, desk: &mut Desk, out: &mut Output) {
        let (Some(content), Some(transaction)) = (self.content.take(), self.transaction.take()) else { return };
        let kept = undot(&content.kept);
        let message_id = report::header_value(&kept, "Message-ID").unwrap_or_default();
        let message_id = message_id.trim_start_matches('<').trim_end_matches('>');
        let judged = transaction.rcpts.iter().find(|(r, b)| self.decides_at_end(*b, r));
        let reply = match judged {
            _ if content.size > MAX_SIZE => Said::line(552, "5.3.4 message too big"),
            Some((rcpt, Behaviour::MailboxFull)) => self.say(Saying::MailboxFull, rcpt, now),
            Some((rcpt, _)) => self.say(Saying::SpamBlock, rcpt, now),
            None => self.say(Saying::Taken, transaction.rcpts.first().map_or("", |(r, _)| r), now),
        };
        let accepted = reply.code < 400;
        for (rcpt, behaviour) in &transaction.rcpts {
            out.lines.push(self.line(Stage::Data, rcpt, &reply, message_id, accepted, now));
            if accepted && self.role.reports {
                out.reports.extend(self.later(&transaction.from, rcpt, *behaviour, &kept, now));
            }
        }
        let recipients = transaction.rcpts.len() as u64;
        if accepted {
            desk.took(recipients, content.size);
        } else {
            desk.refused(&reply, recipients);
        }
        desk.reported(out.reports.len() as u64);
        reply.write(&mut out.replies);
    }

    /// The report that comes back about this recipient, if one does.
    fn later(&mut self, from: &str, rcpt: &str, behaviour: Behaviour, original: &[u8], now: Time) -> Option<Report> {
        let n = self.role.script.detail(rcpt);
        let due = now + Duration::from_millis(200 + n % 1300);
        let provider = self.role.provider;
        let about = About { host: provider.host, return_path: from, rcpt, peer: self.peer, original, n, arrived: now };
        match behaviour {
            // The null sender gets no report (RFC 5321, 4.5.5).
            Behaviour::LaterBounce if !from.is_empty() => {
                let diagnostic = self.say(Saying::UnknownUser, rcpt, now).text();
                let content = report::bounce(&about, &diagnostic);
                Some(Report { due, from: String::new(), to: from.to_owned(), content })
            }
            Behaviour::Complaint => {
                let to = report::header_value(original, "X-Feedback-Address")
                    .unwrap_or_else(|| self.role.feedback_address.clone());
                let content = report::complaint(&about, &to);
                (!to.is_empty()).then(|| Report { due, from: format!("fbl@{}", provider.host), to, content })
            }
            _ => None,
        }
    }

    /// Whether the verdict about such a recipient comes after the content rather than at RCPT; for some of each it does.
    fn decides_at_end(&self, behaviour: Behaviour, rcpt: &str) -> bool {
        match behaviour {
            Behaviour::SpamBlock => !self.role.script.detail(rcpt).is_multiple_of(3),
            Behaviour::MailboxFull => self.role.script.detail(rcpt).is_multiple_of(4),
            _ => false,
        }
    }

    fn is_own(&self, rcpt: &str) -> bool {
        let domain = rcpt.rsplit_once('@').map_or("", |(_, d)| d).to_ascii_lowercase();
        super::world::provider_of(&domain).is_some_and(|p| p.name == self.role.provider.name)
    }

    fn say(&mut self, what: Saying, rcpt: &str, now: Time) -> Said {
        self.replies += 1;
        let n = chance::mix(chance::mix(self.id) ^ self.replies) ^ self.role.script.detail(rcpt);
        let gaps = Gaps { host: self.role.provider.host, rcpt, peer: self.peer, n, secs: now.secs() };
        wording::say(self.role.provider.style, what, &gaps)
    }

    fn line(&self, stage: Stage, rcpt: &str, reply: &Said, message_id: &str, accepted: bool, now: Time) -> Line {
        Line {
            time: now.0,
            provider: self.role.provider.name.to_owned(),
            session: self.id,
            stage,
            rcpt: rcpt.to_owned(),
            code: reply.code,
            reply: reply.text(),
            message_id: message_id.to_owned(),
            accepted,
        }
    }
}

/// The address of `FROM:<address> parameters`, and the parameters.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let head = rest.get(..keyword.len())?;
    let rest = rest.get(keyword.len()..)?.trim_start();
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (address, parameters) = rest.strip_prefix('<')?.split_once('>')?;
    Some((address, parameters.trim()))
}

/// Takes the dots away that the client put before lines beginning with one (RFC 5321, 4.5.2).
fn undot(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(content.len());
    let mut rest = content.strip_prefix(b".").unwrap_or(content);
    while let Some(at) = memchr::memmem::find(rest, b"\r\n.") {
        plain.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    plain.extend_from_slice(rest);
    plain
}
