//! What an SMTP session asks, answered from the configuration, the suppression list and the store's state.
//!
//! Holds the configuration of the session; takes the one in force when a transaction begins, so a reload applies from
//! the next MAIL on. A user who has authenticated keeps the session even if a reload removes it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Config, Source, SuppressionOutcome, User};
use crate::event::{Address, SourceType, Time};
use crate::smtp::answer::Answer;
use crate::smtp::command::{Mail, Rcpt, To};
use crate::smtp::sasl::Credentials;
use crate::smtp::server::{Hello, Offer, Policy, Received};
use crate::smtp::transcript;
use crate::store::Route;

use super::judge::{judge, known_at_rcpt};
use super::login::{auth_offered, login};
use super::policy::{self, RELAYING_DENIED};
use super::route::{is_processors_own, route};
use super::submit::{Accepted, Intake, MAX_CONTENT, STORE_REFUSES, Spool, Submission, list_not_loaded};

/// Who is at the other end, and how it reached us.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub ip: IpAddr,
    /// Ours that it connected to.
    pub local_ip: IpAddr,
    /// The listener's `source`.
    pub listener_source: Option<String>,
}

/// The policy of one session.
#[derive(Debug)]
pub struct SmtpPolicy<S: Spool> {
    intake: Intake<S>,
    peer: Peer,
    config: Arc<Config>,
    source: Arc<Source>,
    user: Option<User>,
    /// The sender of the transaction; empty for the null sender.
    from: Box<str>,
    /// Recipients refused for relaying so far.
    denied: u32,
}

/// Recipients refused for relaying before the session ends: whoever tries so many is looking for an open relay.
const MAX_DENIED: u32 = 50;

const TOO_MANY_DENIED: Answer = Answer::new(421, "4.7.0", "relaying denied too often, closing connection");

impl<S: Spool> SmtpPolicy<S> {
    /// For a client that has just connected.
    pub fn new(intake: Intake<S>, peer: Peer) -> SmtpPolicy<S> {
        let config = intake.config();
        let source = config.source(peer.ip, peer.listener_source.as_deref(), None);
        SmtpPolicy { intake, peer, config, source, user: None, from: "".into(), denied: 0 }
    }

    /// What the client may do now.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The name we go by.
    pub fn host_name(&self) -> &str {
        self.config.host_names.first().map_or("localhost", String::as_str)
    }

    /// Why this client is turned away at the door, if so.
    pub fn turned_away(&self) -> Option<Answer> {
        let text = || format!("{} does not accept mail from you", self.host_name());
        (!self.source.smtp_service).then(|| Answer::with(521, "", text()))
    }

    /// The message that came in, as it is to be submitted.
    pub fn submission(
        &self,
        received: Received<Accepted>,
        hello: Option<&Hello>,
        secure: bool,
        now: Time,
    ) -> Submission {
        let extended = hello.is_some_and(|h| h.extended);
        Submission {
            config: self.config.clone(),
            source: self.source.clone(),
            src_type: SourceType::Smtp,
            src_mta: hello.map_or_else(|| "".into(), |h| h.name.clone()),
            src_ip: Some(self.peer.ip),
            local_ip: Some(self.peer.local_ip),
            user: self.user.as_ref().map_or_else(|| "".into(), |u| u.name.as_str().into()),
            with: match (extended, secure, self.user.is_some()) {
                (false, _, _) => "SMTP",
                (true, false, false) => "ESMTP",
                (true, true, false) => "ESMTPS",
                (true, false, true) => "ESMTPA",
                (true, true, true) => "ESMTPSA",
            },
            from: received.from,
            ret: received.ret,
            env_id: received.env_id,
            rcpts: received.rcpts,
            content: received.content,
            now,
        }
    }

    fn use_config(&mut self, config: Arc<Config>) {
        self.source = config.source(self.peer.ip, self.peer.listener_source.as_deref(), self.user.as_ref());
        self.config = config;
    }

    /// Mail to our postmaster goes to the addresses configured for it; `false` when there are none elsewhere.
    fn postmaster(&self, rcpts: &mut Vec<Accepted>, rcpt: &Rcpt) -> Result<bool, Answer> {
        let elsewhere = |a: &&String| Address::parse(a).is_ok_and(|a| !policy::is_our_postmaster(&self.config, &a));
        let mut targets = self.config.postmaster.iter().filter(elsewhere).peekable();
        if targets.peek().is_none() {
            return Ok(false);
        }
        agree(rcpts, Route::Deliver)?;
        rcpts.extend(targets.map(|address| Accepted {
            address: address.as_str().into(),
            orcpt: match &*rcpt.orcpt {
                "" => format!("rfc822;postmaster@{}", self.host_name()).into(),
                given => given.into(),
            },
            notify: rcpt.notify,
            route: Route::Deliver,
            suppressed: None,
        }));
        Ok(true)
    }
}

/// All recipients of a transaction go the same way (see [`super::route`]).
fn agree(rcpts: &[Accepted], route: Route) -> Result<(), Answer> {
    match rcpts.first() {
        Some(first) if first.route != route => {
            Err(Answer::new(452, "4.5.3", "too many recipients; this one needs a transaction of its own"))
        }
        _ => Ok(()),
    }
}

impl<S: Spool> Policy for SmtpPolicy<S> {
    type Recipient = Accepted;

    fn offer(&self, secure: bool) -> Offer {
        let (auth, auth_over_tls) = auth_offered(&self.config, &self.source, secure);
        let starttls = !secure && self.source.allow_starttls;
        let size = match usize::try_from(self.source.max_message_size) {
            Ok(0) | Err(_) => MAX_CONTENT,
            Ok(size) => size.min(MAX_CONTENT),
        };
        Offer { starttls, auth, auth_needs_tls: auth_over_tls && starttls, size }
    }

    fn authenticate(&mut self, credentials: &Credentials) -> bool {
        let user = login(&self.config, credentials).cloned();
        let known = user.is_some();
        if let Some(user) = user {
            tracing::debug!(client = %self.peer.ip, user = user.name, "authenticated");
            self.user = Some(user);
            self.use_config(self.config.clone());
        } else {
            tracing::info!(client = %self.peer.ip, user = ?credentials.user, "authentication failed");
        }
        known
    }

    fn mail(&mut self, mail: &Mail<'_>) -> Result<(), Answer> {
        let config = self.intake.config();
        if !Arc::ptr_eq(&config, &self.config) {
            self.use_config(config);
        }
        if let Some(answer) = self.turned_away() {
            return Err(answer);
        }
        if self.source.require_auth && self.user.is_none() {
            return Err(Answer::new(530, "5.7.0", "authentication required"));
        }
        if let Some(reason) = self.intake.spool().refused() {
            tracing::debug!(client = %self.peer.ip, "mail not taken: {reason}");
            return Err(STORE_REFUSES);
        }
        self.from = mail.from.into();
        Ok(())
    }

    fn rcpt(&mut self, rcpts: &mut Vec<Accepted>, rcpt: Rcpt) -> Result<(), Answer> {
        let max = self.source.max_rcpt_per_message as usize;
        if max != 0 && rcpts.len() >= max {
            return Err(Answer::new(452, "4.5.3", "too many recipients"));
        }
        let address = match &rcpt.to {
            To::Postmaster if self.postmaster(rcpts, &rcpt)? => return Ok(()),
            To::Postmaster => return Err(Answer::new(550, "5.1.1", "no postmaster is configured")),
            To::Address(address) => address,
        };
        if policy::is_our_postmaster(&self.config, address)
            && !is_processors_own(&self.config, address)
            && self.postmaster(rcpts, &rcpt)?
        {
            return Ok(());
        }
        if !policy::may_send_to(&self.config, &self.source, self.user.as_ref(), address) {
            tracing::info!(client = %self.peer.ip, rcpt = %address, "relaying denied");
            self.denied += 1;
            return Err(if self.denied < MAX_DENIED { RELAYING_DENIED } else { TOO_MANY_DENIED });
        }
        let route = route(&self.config, address);
        agree(rcpts, route)?;
        let suppressed = match route {
            Route::Deliver => {
                let known = known_at_rcpt(&self.from, &self.source);
                judge(self.intake.spool(), &self.source, address.as_str(), &known).map_err(|error| {
                    tracing::debug!(client = %self.peer.ip, rcpt = %address, "{error}");
                    list_not_loaded(&error)
                })?
            }
            // Reports to us are never held back.
            Route::Bounce | Route::Feedback | Route::Unsubscribe => None,
        };
        match &suppressed {
            Some(why) if self.source.outcome_of_suppressed() == SuppressionOutcome::Reject => {
                return Err(Answer::with(550, "5.7.1", why.text(address.as_str())));
            }
            _ => {}
        }
        let Rcpt { notify, orcpt, .. } = &rcpt;
        rcpts.push(Accepted {
            address: address.as_str().into(),
            orcpt: orcpt.clone(),
            notify: *notify,
            route,
            suppressed,
        });
        Ok(())
    }

    fn heard(&mut self, line: &[u8]) {
        if self.source.log_commands {
            tracing::info!(client = %self.peer.ip, "<-- {}", transcript::line(line));
        }
    }

    fn said(&mut self, answer: &Answer) {
        if self.source.log_commands {
            // The text may repeat what the client sent.
            let text = transcript::line(answer.text.as_bytes());
            tracing::info!(client = %self.peer.ip, "--> {} {} {text}", answer.code, answer.status);
        }
    }
}
