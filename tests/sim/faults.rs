//! What goes wrong, and when. Not here: what it does to whom (`run`).

use ostler_tests::random::Random;

/// How long one worker stands still at most.
pub const WORKER_STALL_NANOS_MAX: u64 = 6_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// kill -9, between two turns.
    Kill,
    /// The machine loses its power so many calls of the disk from now; what was not synced may be lost, in any mixture.
    PowerCut {
        after_calls: u64,
    },
    /// Nothing of the server runs for so long.
    Stall {
        nanos: u64,
    },
    /// One worker does not run for so long: its clients are not read, and the ring waits for it.
    WorkerStall {
        nanos: u64,
    },
    /// Somebody sets the wall clock.
    WallClock {
        ahead_ms: i64,
    },
    /// The disk takes so many more bytes, and then no more.
    DiskFull {
        room_bytes: u64,
    },
    DiskFreed,
    /// The call after so many more fails with an error of the disk: whatever leans on it must not be believed.
    DiskFails {
        after_calls: u64,
    },
    // Of ensembles.
    /// The server is alone; with `one_way` it is heard, or hears.
    Isolate {
        one_way: Option<bool>,
    },
    /// Some of the servers on one side, the others on the other.
    Split,
    /// Nothing arrives from one server at another.
    CutOne,
    Heal,
    /// A connection between two servers is reset.
    Break,
    /// All servers lose their power at once.
    Outage,
    /// The server comes back with an empty disk, if that can lose nothing.
    Wipe,
}

pub struct Faults {
    random: Random,
    next: u64,
    /// Time between two, nanoseconds on average.
    pause: u64,
    full: bool,
    of_ensemble: bool,
    /// Something is cut.
    cut: bool,
}

impl Faults {
    pub fn new(mut random: Random, of_ensemble: bool) -> Faults {
        let pauses: &[u64] = match of_ensemble {
            false => &[20_000_000, 200_000_000, 2_000_000_000],
            // Servers have to find together between two, most of the time.
            true => &[200_000_000, 1_000_000_000, 5_000_000_000],
        };
        let pause = *random.pick(pauses);
        Faults { next: random.below(2 * pause), random, pause, full: false, of_ensemble, cut: false }
    }

    pub fn due(&self) -> u64 {
        self.next
    }

    pub fn next(&mut self, now: u64) -> Fault {
        self.next = now + self.random.below(2 * self.pause);
        if self.full && self.random.one_in(2) {
            self.full = false;
            return Fault::DiskFreed;
        }
        if self.cut && self.random.one_in(2) {
            self.cut = false;
            return Fault::Heal;
        }
        if self.of_ensemble && self.random.one_in(2) {
            let fault = match self.random.below(12) {
                0..=1 => Fault::Isolate { one_way: None },
                2..=3 => Fault::Isolate { one_way: Some(self.random.one_in(2)) },
                4..=5 => Fault::Split,
                6..=7 => Fault::CutOne,
                8..=9 => Fault::Break,
                10 => Fault::Outage,
                _ => Fault::Wipe,
            };
            let cuts = matches!(fault, Fault::Isolate { .. } | Fault::Split | Fault::CutOne);
            self.cut |= cuts;
            return fault;
        }
        match self.random.below(13) {
            0..=1 => Fault::Kill,
            2..=4 => Fault::PowerCut { after_calls: self.random.below(80) },
            5 => Fault::Stall { nanos: self.random.below(9_000_000_000) },
            6 => Fault::Stall { nanos: self.random.below(400_000_000) },
            9..=10 => Fault::WorkerStall { nanos: self.random.below(WORKER_STALL_NANOS_MAX) },
            8 => Fault::DiskFails { after_calls: self.random.below(60) },
            7 => Fault::WallClock { ahead_ms: self.random.below(200_000) as i64 - 100_000 },
            _ => {
                self.full = true;
                Fault::DiskFull { room_bytes: self.random.below(100_000) }
            }
        }
    }

    /// A start empties its disk first.
    pub fn restarted(&mut self) {
        self.full &= self.of_ensemble;
    }
}
