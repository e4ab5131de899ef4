//! Where an output that hands records on stands in the ledger, which gaps it has told of, and what it had to leave out:
//! one row in the tables. A pipe, a hook, a webhook and a broker differ in how they hand on; how they remember does not.

use std::sync::Arc;

use super::closing::{Files, Gap, PushState, State};
use super::sink::LeftOut;
use super::target::{OutputError, Target};

/// A record of so many bytes is never left out for its size: who does not take it is not set up to take records at all, and
/// that is for somebody to mend.
pub(super) const ALWAYS_SMALL: usize = 16 << 10;

/// The kept row of such an output.
#[derive(Debug)]
pub(super) struct PushPlace {
    target: Arc<Target>,
    state: State,
    cursor: u64,
    left_out: LeftOut,
}

impl PushPlace {
    /// As it was kept.
    pub(super) fn open(target: &Arc<Target>, mut state: State, cursor: u64) -> PushPlace {
        state.select(cursor, target.file.records);
        state.files = Files::Push(PushState::default());
        PushPlace { target: Arc::clone(target), state, cursor, left_out: LeftOut::default() }
    }

    /// The committed cursor.
    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Commits the cursor behind what was taken, and with it the gaps before it, which were told on the way. While the
    /// cursor stays where it is, nobody is known to have heard anything.
    pub(super) fn keep(&mut self, cursor: u64) -> Result<(), OutputError> {
        if cursor == self.cursor { Ok(()) } else { self.keep_told(cursor, true) }
    }

    /// Commits the cursor, and the gaps before it as told or not, whether or not the cursor moves: for outputs that know
    /// by themselves whether they were heard.
    pub(super) fn keep_told(&mut self, cursor: u64, told: bool) -> Result<(), OutputError> {
        let now_told = |g: &Gap| told && !g.told && g.last < cursor;
        if cursor == self.cursor && !self.state.gaps.iter().any(now_told) {
            return Ok(());
        }
        self.state.gaps.iter_mut().filter(|g| now_told(g)).for_each(|g| g.told = true);
        self.commit(cursor)
    }

    /// Commits that this gap was told of, wherever the cursor is.
    pub(super) fn told(&mut self, gap: &Gap) -> Result<(), OutputError> {
        self.state.gaps.iter_mut().filter(|g| g.first == gap.first).for_each(|g| g.told = true);
        self.commit(self.cursor)
    }

    /// Leaves out a record that can never be handed on, so that those behind it are. The gap is kept at once, so that it
    /// is told of whatever happens; `None` when it is known since before a crash.
    pub(super) fn leave_out(&mut self, seq: u64, at: i64, why: String) -> Result<Option<Gap>, OutputError> {
        if self.state.gaps.iter().any(|g| (g.first..=g.last).contains(&seq)) {
            return Ok(None);
        }
        let gap = Gap { first: seq, last: seq, at, told: false, why };
        let output = self.target.file.path.display().to_string();
        tracing::error!(output, event = seq, why = gap.why, "a record is left out of the output; it goes on behind it");
        self.left_out.events += 1;
        self.left_out.why = Some(gap.words());
        self.state.left_out(gap.clone());
        self.commit(self.cursor)?;
        Ok(Some(gap))
    }

    /// At a stop, what could not be handed on goes on at the next start: no reason to call the stop a failure.
    pub(super) fn left_for_next_start(&self, error: &OutputError) {
        tracing::warn!(output = %self.target.file.path.display(), %error, "left for the next start");
    }

    /// What was left out since it was opened.
    pub(super) fn left_out(&self) -> LeftOut {
        self.left_out.clone()
    }

    fn commit(&mut self, cursor: u64) -> Result<(), OutputError> {
        self.target.commit(cursor, &self.state)?;
        self.cursor = cursor;
        Ok(())
    }
}
