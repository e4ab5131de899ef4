//! What outputs that speak over the network share: a runtime with a thread of its own, in which nothing outlasts a stop, and
//! how their failures are worded.
#![expect(clippy::disallowed_methods, reason = "edge: waits out a stop")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::target::{OutputError, Target};

/// How long what is under way may still take when the server stops.
const HURRIED: Duration = Duration::from_secs(3);

/// The runtime of one output. Dropped, it waits for nothing: a look-up of a name may hang.
#[derive(Debug)]
pub(super) struct PushRuntime(Option<Runtime>);

impl PushRuntime {
    /// With one thread of this name.
    pub(super) fn new(thread: &str, target: &Target) -> Result<PushRuntime, OutputError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(thread).enable_all().build();
        Ok(PushRuntime(Some(runtime.map_err(|e| target.push_error("setting up", &e))?)))
    }

    /// Runs `work` until it is done, has failed, or a stop (`hurry`) can't wait any longer, which fails with `late`.
    pub(super) fn run<T, E: From<String>>(
        &self,
        hurry: &AtomicBool,
        late: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let late = || Err(E::from(late.to_owned()));
        let Some(runtime) = &self.0 else { return late() };
        runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = hurried(hurry) => late(),
            }
        })
    }
}

impl Drop for PushRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Ends a while after a stop was announced.
async fn hurried(hurry: &AtomicBool) {
    while !hurry.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(HURRIED).await;
}

/// What went wrong, with what lies beneath.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}
