//! The field's quantities: zxids, epochs, server ids, points in time.
//! Not here: anything that knows znodes, bytes of a txn, or a clock.

use std::fmt;

/// Position in the total order of txns: epoch in the high 32 bits, counter in the low 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub u64);

impl Zxid {
    /// Before the first txn of a virgin server.
    pub const ZERO: Zxid = Zxid(0);

    pub const fn new(epoch: Epoch, counter: u32) -> Zxid {
        Zxid((epoch.0 as u64) << 32 | counter as u64)
    }

    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> 32) as u32)
    }

    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// `None` when the counter is spent: the leader must open a new epoch.
    pub fn successor(self) -> Option<Zxid> {
        (self.counter() != u32::MAX).then(|| Zxid(self.0 + 1))
    }

    /// A leader that has come so far in its epoch takes no more requests and hands over; what is left is for what it has
    /// under way.
    pub const fn is_nearly_spent(self) -> bool {
        self.counter() >= u32::MAX - (1 << 20)
    }

    /// As the wire and the disk carry it: a signed 64-bit integer.
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    pub const fn from_wire(raw: i64) -> Zxid {
        Zxid(raw as u64)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{:x}", self.epoch().0, self.counter())
    }
}

/// One reign of one leader. A server without an ensemble starts in epoch 0, as Apache's does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Epoch(pub u32);

/// `myid`: 0..=255 in practice, because it becomes the top byte of session ids. A leader gives learners without one ids
/// from the top of the range down, which the wire shows as negative numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ServerId(pub u64);

/// Monotonic time in nanoseconds since an origin private to the process. Decisions use it; files and wire never do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Moment(pub u64);

impl Moment {
    pub const fn from_millis(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    pub const fn plus_millis(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Nanoseconds since `earlier`; 0 when `earlier` is not earlier.
    pub const fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names one barrier between asking for it and its passing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Ticket(pub u64);

/// Names one request to the log; they ascend, and answers come in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Number(pub u64);

/// A client session's id, opaque here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SessionBits(pub i64);

/// `acceptedEpoch` and `currentEpoch` as they are to stand on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Epochs {
    pub accepted: Epoch,
    pub current: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successor_stops_at_the_end_of_an_epoch() {
        assert_eq!(Zxid::new(Epoch(3), 7).successor(), Some(Zxid(0x3_0000_0008)));
        assert_eq!(Zxid::new(Epoch(3), u32::MAX).successor(), None);
    }
}
