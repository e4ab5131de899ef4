#![expect(clippy::disallowed_methods, reason = "edge: a task with a clock, reading from the store")]
//! Makes the notices that [`super::delay`] finds due, while mail waits for whatever reason.
//!
//! Promises: up to which time borders are dealt with is in the tables before anybody is told of one of them: of each a
//! sender hears at most once, also over a crash, which may cost those that were about to be written. After a stop it
//! goes on where it was: mail that waited over it is told of at the next start. Nobody's delivery waits for this; what it
//! costs is paid for mail whose sender asked for it.
//!
//! When the tables can't be written, no more notices are made, and the log says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::event::{Events, MessageId, Time};
use crate::queue::{Engine, QueueName, destination};
use crate::store::{Message, RcptState, StoreError};

use super::delay::{Terms, Watched, late};
use super::notify;
use super::run::Context;
use super::session::now;

/// The counter in the tables: microseconds since 1970 up to which all borders are dealt with.
const MARK: &str = "delays-told-until";
/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
/// Messages told of in one look: their notices are in memory together, each with a header and a part of up to 4 MiB.
const AT_ONCE: usize = 250;
/// How far ahead of the clock the borders may be dealt with; further, the clock was wrong when they were.
const MOST_AHEAD: Duration = Duration::from_secs(3600);
/// Messages watched; of further ones nobody is told.
const MOST: usize = 1_000_000;

/// Makes notices until `shutdown` turns true; those that are marked as made are made then, too.
pub(super) async fn run(context: Arc<Context>, mut shutdown: watch::Receiver<bool>) {
    let mut watch = Watch { context, config: None, done: None, watched: Watched::default(), full: false };
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        let looked = spawn_blocking(move || {
            let notices = watch.look(now());
            (watch, notices)
        });
        let Ok((back, notices)) = looked.await else {
            return tracing::error!("notices of delay are not made any more: looking for them broke off");
        };
        watch = back;
        match notices {
            Ok(notices) => {
                for (message, received) in notices {
                    watch.tell(message, received).await;
                }
            }
            Err(error) => return tracing::error!("notices of delay are not made any more: {error}"),
        }
    }
}

struct Watch {
    context: Arc<Context>,
    /// What the borders were reckoned by.
    config: Option<Arc<Config>>,
    /// Up to which time borders are dealt with; not known before the first look.
    done: Option<Time>,
    watched: Watched,
    full: bool,
}

impl Watch {
    /// The notices that are due. Blocks.
    fn look(&mut self, now: Time) -> Result<Vec<(Arc<Message>, Events)>, StoreError> {
        let (store, engine) = (self.context.store.clone(), self.context.engine.clone());
        let done = match self.done {
            Some(done) => done,
            None => match store.tables().counter(MARK)? {
                // Before the first start nobody was promised anything.
                0 => self.put(now)?,
                mark => Time(i64::try_from(mark).unwrap_or(i64::MAX)),
            },
        };
        // A clock that ran ahead for a moment must not silence the notices of a year; a second one is the lesser evil.
        let done = match done > now + MOST_AHEAD {
            true => {
                // All borders are reckoned anew.
                self.config = None;
                self.put(now)?
            }
            false => done,
        };
        self.done = Some(done);
        let config = self.context.config.load_full();
        let mut new = engine.take_delays_asked();
        if self.config.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &config)) {
            new.extend(self.watched.take_all());
            self.config = Some(config.clone());
        }
        for id in new {
            let Some((message, queued)) = self.queued(id) else { continue };
            let (_, next) = late(&message.envelope, &queued, terms(&engine, &config, &message), (done, done));
            self.add(id, next);
        }
        self.watched.sweep(|id| store.is_queued(id));
        let (due, to) = self.watched.take_due(now, AT_ONCE);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        self.done = Some(self.put(to)?);
        let mut notices = Vec::new();
        for id in due {
            let Some((message, queued)) = self.queued(id) else { continue };
            let (endings, next) = late(&message.envelope, &queued, terms(&engine, &config, &message), (done, to));
            self.add(id, next);
            if !endings.is_empty() && notify::wanted(&config, &message.envelope) {
                let ids = (store.id(), store.next_message_id());
                notices.push(notify::report(&config, &message, &endings, ids, now));
            }
        }
        Ok(notices)
    }

    /// Durable when it returns.
    fn put(&self, to: Time) -> Result<Time, StoreError> {
        let mark = u64::try_from(to.0).unwrap_or(0);
        self.context.store.tables().write(|tx| tx.put_counter(MARK, mark))?;
        Ok(to)
    }

    /// A message with those of its recipients that are still queued; `None` when there are none, or it can't be read,
    /// which its delivery will tell of.
    fn queued(&self, id: MessageId) -> Option<(Arc<Message>, Vec<RcptState>)> {
        let store = &self.context.store;
        let queued = store.queued(id);
        if queued.is_empty() {
            return None;
        }
        Some((store.cached(id).or_else(|| store.load(id).ok())?, queued))
    }

    fn add(&mut self, id: MessageId, next: Option<Time>) {
        if self.watched.len() < MOST {
            return self.watched.add(id, next);
        }
        // Those that are gone make room.
        let store = self.context.store.clone();
        self.watched.sweep_full(|id| store.is_queued(id));
        if self.watched.len() < MOST {
            return self.watched.add(id, next);
        }
        if !std::mem::replace(&mut self.full, true) {
            tracing::warn!("more than {MOST} messages ask for notices of delay: of further ones nobody is told");
        }
    }

    async fn tell(&self, message: Arc<Message>, received: Events) {
        let (store, engine) = (&self.context.store, &self.context.engine);
        match store.accept(message.clone(), received).await {
            Ok(()) => {
                let now = now();
                let state = RcptState { index: 0, attempts: 0, not_before: now, in_doubt: false };
                engine.admit(&message.envelope, &[state], now);
            }
            Err(error) => tracing::warn!("a notice of delay was not queued: {error}"),
        }
    }
}

fn terms<'a>(engine: &'a Engine, config: &'a Config, message: &'a Message) -> impl Fn(&str) -> Terms + 'a {
    |address| {
        let (domain, vmta) = (destination(address), &*message.envelope.vmta);
        let settings = config.queue_settings(&domain, vmta);
        let last_error = engine.last_error(QueueName::new(&domain, vmta).as_str());
        Terms { every: settings.notify_of_delay_every, bounce_after: settings.bounce_after, last_error }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::delivery::macros::tests::message;
    use crate::delivery::run::Patterns;
    use crate::disk::RealDisk;
    use crate::net::client_tls::ClientTls;
    use crate::net::dns::Resolver;
    use crate::store::{Options, Recipient, Store};
    use crate::suppress::Suppression;

    const CAME: Time = Time::from_secs(1_700_000_000);

    fn hours(hours: u64) -> Time {
        CAME + Duration::from_secs(hours * 3600)
    }

    fn config(lines: &str) -> Config {
        crate::config::parse_str("t", &format!("spool /nowhere\nhost-name mta.example\n{lines}")).config.unwrap()
    }

    /// A start on this store: all that is queued is admitted anew.
    fn started(store: &Store) -> Watch {
        let config = Arc::new(ArcSwap::from_pointee(config("")));
        let engine = Engine::new(config.clone());
        store.for_each_queued(&mut |envelope, states| engine.admit(envelope, states, CAME)).unwrap();
        let context = Context {
            engine,
            store: store.clone(),
            suppression: Suppression::new(),
            config,
            resolver: Resolver::new(&["127.0.0.1:9".parse().unwrap()]).unwrap(),
            tls: ClientTls::new(),
            turn: AtomicUsize::new(0),
            cut: watch::channel(false).1,
            steering: Patterns::default(),
        };
        Watch { context: Arc::new(context), config: None, done: None, watched: Watched::default(), full: false }
    }

    async fn accept(store: &Store, notify: &[u8]) -> MessageId {
        let mut mail = message("", "Subject: x\r\n\r\nhi\r\n");
        mail.envelope.id = store.next_message_id();
        let rcpt = |(n, notify): (usize, &u8)| Recipient {
            address: format!("r{n}@there.example").into(),
            orcpt: "".into(),
            notify: *notify,
        };
        mail.envelope.rcpts = notify.iter().enumerate().map(rcpt).collect();
        let id = mail.envelope.id;
        store.accept(Arc::new(mail), Events::new()).await.unwrap();
        id
    }

    /// Who is named in the notices that are due.
    fn named(watch: &mut Watch, now: Time) -> Vec<String> {
        let notices = watch.look(now).unwrap();
        let text = |m: &Message| String::from_utf8_lossy(&m.body).into_owned();
        let texts: Vec<String> = notices.iter().map(|(m, _)| text(m)).collect();
        let lines = texts.iter().flat_map(|t| t.lines()).filter_map(|l| l.strip_prefix("Final-Recipient: rfc822; "));
        lines.map(|rcpt| rcpt.split('@').next().unwrap_or_default().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_border_is_told_of_once_whatever_starts_and_crashes_come_between() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 1 << 20, reserve_bytes: 0, ..Options::default() };
        let store = Store::open(Arc::new(RealDisk), dir.path(), &options).unwrap().store;
        let old = accept(&store, &[8]).await;
        let mut watch = started(&store);
        assert!(named(&mut watch, hours(5)).is_empty(), "a first start tells nobody of what was before it");
        assert_eq!(named(&mut watch, hours(8)), ["r0"]);
        assert!(named(&mut watch, hours(11)).is_empty());
        accept(&store, &[14, 4, 8]).await;
        watch = started(&store);
        assert!(named(&mut watch, hours(11)).is_empty());
        assert!(named(&mut watch, hours(8)).is_empty(), "the clock is put back");
        // What these find is lost with them: they crash before they can write it.
        assert_eq!(named(&mut watch, hours(12)), ["r0", "r0", "r2"]);
        watch = started(&store);
        assert!(named(&mut watch, hours(15)).is_empty());
        // It was down for half a day: one notice, at once.
        watch = started(&store);
        assert_eq!(named(&mut watch, hours(27)), ["r0", "r0", "r2"]);
        store
            .retry(old, &[RcptState { index: 0, attempts: 3, not_before: hours(30), in_doubt: false }], Events::new())
            .await
            .unwrap();
        let mut finish = crate::store::Finish::new();
        finish.recipient(old, 0);
        store.finish(finish).await.unwrap();
        assert_eq!(named(&mut watch, hours(28)), ["r0", "r2"], "what has ended is not told of");
        // A new interval holds from the next look on; never is never.
        let put = |watch: &Watch, lines: &str| watch.context.config.store(Arc::new(config(lines)));
        put(&watch, "<domain there.example>\nnotify-of-delay-every 1h\n</domain>");
        assert_eq!(named(&mut watch, hours(29)), ["r0", "r2"]);
        put(&watch, "<domain *>\nnotify-of-delay-every never\n</domain>");
        assert!(named(&mut watch, hours(90)).is_empty());
        put(&watch, "");
        assert_eq!(named(&mut watch, hours(92)), ["r0", "r2"]);
        // A clock that was a year ahead for a moment silences nobody.
        named(&mut watch, hours(9000));
        assert!(named(&mut watch, hours(95)).is_empty());
        assert_eq!(named(&mut watch, hours(96)), ["r0", "r2"]);
        drop(watch);
        store.close().await.unwrap();
    }
}
