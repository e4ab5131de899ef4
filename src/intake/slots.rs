//! What all sessions share: how many there may be, in all (`total-max-smtp-in`) and from one address, and how much
//! content they may hold in memory together.
//!
//! What was taken is given back when it is dropped, however the session ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of content that all sessions together hold, about: each may be 32 KiB above before it notices.
pub const MAX_HELD: usize = 512 << 20;

/// The sessions there are.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// The right to one session.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    address: IpAddr,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// As many sessions as there may be.
    Total,
    /// As many as one address may have.
    Address,
}

impl Slots {
    /// Takes a slot for a client at `address`.
    pub fn take(&self, address: IpAddr, total: u32, per_address: u32) -> Result<Slot, Full> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= total {
            return Err(Full::Total);
        }
        let of_address = taken.by_address.entry(address).or_default();
        if *of_address >= per_address {
            return Err(Full::Address);
        }
        *of_address += 1;
        taken.total += 1;
        Ok(Slot { slots: self.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(n) = taken.by_address.get_mut(&self.address) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// The content that is being received, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<AtomicUsize>);

impl Held {
    /// One session's part, nothing yet.
    pub fn part(&self) -> Part {
        Part { held: self.clone(), bytes: 0 }
    }
}

/// What one session holds.
#[derive(Debug)]
pub struct Part {
    held: Held,
    bytes: usize,
}

impl Part {
    /// The session holds so much now; whether all of them together stay within [`MAX_HELD`].
    pub fn set(&mut self, bytes: usize) -> bool {
        // The sum is a bound, not a lock: nothing else is ordered by it.
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes <= before {
            self.held.0.fetch_sub(before - bytes, Ordering::Relaxed);
            return true;
        }
        let grown = bytes - before;
        self.held.0.fetch_add(grown, Ordering::Relaxed) + grown <= MAX_HELD
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_dropped_can_be_taken_again() {
        let slots = Slots::default();
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = slots.take(a, 2, 1).unwrap();
        assert_eq!(slots.take(a, 2, 1).unwrap_err(), Full::Address);
        let _second = slots.take(b, 2, 1).unwrap();
        assert_eq!(slots.take(b, 2, 9).unwrap_err(), Full::Total);
        drop(first);
        slots.take(a, 2, 1).unwrap();
        assert_eq!(slots.0.lock().unwrap().by_address.len(), 1);
    }

    #[test]
    fn content_above_the_common_bound_is_noticed_and_given_back() {
        let held = Held::default();
        let (mut first, mut second) = (held.part(), held.part());
        assert!(first.set(MAX_HELD - 10) && second.set(10));
        assert!(!second.set(11));
        assert!(second.set(0));
        drop(first);
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }
}
