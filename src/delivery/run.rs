#![expect(clippy::disallowed_methods, reason = "edge: starts sessions, waits for them at the stop")]
//! Turns permits into sessions until the stop.
//!
//! Promises: at the stop no transaction begins; those under way have [`GRACE`] to hear the reply after the final dot,
//! then they are cut off, and what the cut leaves in doubt is recorded as such.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::model::Config;
use crate::net::client_tls::ClientTls;
use crate::net::dns::Resolver;
use crate::queue::Engine;
use crate::store::Store;
use crate::suppress::Suppression;

use super::steer::Steering;
use super::{delay_watch, session};

/// How long transactions under way may go on after the stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// What every session needs.
#[derive(Debug)]
pub struct Context {
    /// The queues.
    pub engine: Engine,
    /// Where messages are and outcomes go.
    pub store: Store,
    /// Who is not mailed.
    pub suppression: Suppression,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// DNS.
    pub resolver: Resolver,
    /// STARTTLS.
    pub tls: ClientTls,
    /// Counts connections, for turns among source addresses.
    pub turn: AtomicUsize,
    /// Becomes true when sessions are to be cut off.
    pub cut: watch::Receiver<bool>,
    /// The patterns of the configuration that was in force when they were last asked for.
    pub steering: Patterns,
}

/// Patterns and the configuration they are of; made anew when that is replaced.
#[derive(Debug, Default)]
pub struct Patterns {
    latest: ArcSwapOption<(Arc<Config>, Arc<Steering>)>,
    /// One compiles, the others wait.
    making: Mutex<()>,
}

impl Context {
    /// The patterns of the configuration in force.
    pub fn steering(&self) -> Arc<Steering> {
        if let Some(steering) = self.steering_of_now() {
            return steering;
        }
        let _one = self.steering.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(steering) = self.steering_of_now() {
            return steering;
        }
        let config = self.config.load_full();
        let before = self.steering.latest.load_full().map(|latest| latest.1.clone());
        let steering = match before {
            Some(before) if before.is_of(&config) => before,
            _ => Arc::new(Steering::compile(&config).unwrap_or_else(|errors| {
                // Start-up and reload have checked them: this is a configuration that nobody checked.
                for error in errors {
                    tracing::error!("patterns are not in effect: {error}");
                }
                Steering::default()
            })),
        };
        self.steering.latest.store(Some(Arc::new((config, steering.clone()))));
        steering
    }

    fn steering_of_now(&self) -> Option<Arc<Steering>> {
        let (latest, config) = (self.steering.latest.load(), self.config.load());
        latest.as_ref().filter(|latest| Arc::ptr_eq(&latest.0, &config)).map(|latest| latest.1.clone())
    }
}

/// Delivers until `shutdown` becomes true (or its sender is gone), then stops the engine and ends within [`GRACE`].
pub async fn run(
    engine: Engine,
    store: Store,
    suppression: Suppression,
    config: Arc<ArcSwap<Config>>,
    resolver: Resolver,
    shutdown: watch::Receiver<bool>,
) {
    run_with_grace(engine, store, suppression, config, resolver, shutdown, GRACE).await;
}

/// As [`run`], with another time for transactions under way.
pub async fn run_with_grace(
    engine: Engine,
    store: Store,
    suppression: Suppression,
    config: Arc<ArcSwap<Config>>,
    resolver: Resolver,
    mut shutdown: watch::Receiver<bool>,
    grace: Duration,
) {
    let (cut, cut_rx) = watch::channel(false);
    let context = Arc::new(Context {
        engine: engine.clone(),
        store,
        suppression,
        config,
        resolver,
        tls: ClientTls::new(),
        turn: AtomicUsize::new(0),
        cut: cut_rx,
        steering: Patterns::default(),
    });
    let mut notices = tokio::spawn(delay_watch::run(context.clone(), shutdown.clone()));
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            permit = engine.permit() => match permit {
                Some(permit) => { sessions.spawn(session::run(permit, context.clone())); }
                None => break,
            },
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!("a delivery session failed: {error}; its recipients stay queued");
                }
            }
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
    }
    engine.stop();
    let all = async { while sessions.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all).await.is_err() {
        cut.send_replace(true);
        let rest = async { while sessions.join_next().await.is_some() {} };
        // What was cut off only tells the store; it needs no server for that.
        let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
    }
    if tokio::time::timeout(Duration::from_secs(5), &mut notices).await.is_err() {
        tracing::warn!("notices of delay were cut off by the stop");
        notices.abort();
    }
}
