//! The events of the last commits, kept in memory so that consumers at the end never read the disk. Pure and bounded.

use std::collections::VecDeque;

use bytes::Bytes;

use super::ledger::{Chunk, Part};

/// Bytes of events kept.
const LIMIT: usize = 8 << 20;

/// The newest events, commit by commit, without gaps.
#[derive(Debug)]
pub(crate) struct Tail {
    commits: VecDeque<(Bytes, Vec<Part>)>,
    bytes: usize,
}

impl Tail {
    pub(crate) fn new() -> Tail {
        Tail { commits: VecDeque::new(), bytes: 0 }
    }

    /// Adds the events of a commit, which continue where the last ones ended.
    pub(crate) fn push(&mut self, bytes: Bytes, parts: Vec<Part>) {
        self.bytes += bytes.len();
        self.commits.push_back((bytes, parts));
        while self.bytes > LIMIT && self.commits.len() > 1 {
            if let Some((old, _)) = self.commits.pop_front() {
                self.bytes -= old.len();
            }
        }
    }

    /// Events from `from` on, about `max` of them; `None` when they are not kept here.
    pub(crate) fn chunk(&self, from: u64, max: usize) -> Option<Chunk> {
        let next = self.commits.partition_point(|(_, parts)| parts.first().is_some_and(|p| p.first_seq <= from));
        let (mut pieces, mut count) = (Vec::new(), 0);
        for (bytes, parts) in self.commits.range(next.checked_sub(1)?..) {
            let start = parts.partition_point(|p| p.end_seq() <= from);
            let more = |p: &&Part| {
                let more = count < max;
                count += p.count as usize;
                more
            };
            let taken: Vec<Part> = parts[start..].iter().take_while(more).cloned().collect();
            if !taken.is_empty() {
                pieces.push((bytes.clone(), taken));
            }
            if count >= max {
                break;
            }
        }
        Chunk::new(pieces, from)
    }
}
