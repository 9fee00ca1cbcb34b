//! The broadcast ring: one publisher (the core), a fixed set of subscribers (the workers), every event seen by each.
//! Not here: what an event means (`event`), threads, the poll.
//!
//! # Who runs at once, and why it is right
//!
//! One publisher owns `tail` and the slots behind it; each subscriber owns its `state`, except that the publisher may
//! change a *parked* one by compare-and-swap. `state` is `taken << 1 | parked`: how many events the subscriber has
//! taken, and whether it sleeps.
//!
//! **Publishing.** The slot is written, then `tail` is stored with Release; a subscriber loads `tail` with Acquire and
//! then reads the slot. That one store is what makes an event visible: a reply that a worker sends after taking event
//! `n` can only be followed, on whichever worker, by turns that find `n`, because they load `tail` first.
//!
//! **Lifetime of slots.** A running subscriber with `taken == n` may read slots from `n - 1` on: the last one taken
//! stays its own, for it holds the View that reads are served from. A parked one with `taken == n` reads nothing below
//! `n`. The publisher frees slots below the least of these, and never the newest one. Storing `state` (Release) after
//! the last read of a slot and loading it (Acquire) before freeing orders the read before the drop.
//!
//! **Parking** is Dekker's handshake:
//!
//! ```text
//! subscriber                                 publisher
//! state  := taken | parked                   slot[tail] := event
//! fence(SeqCst)                              tail := tail + 1
//! load tail                                  fence(SeqCst)
//! sleep only if tail == taken                load state; parked? wake it, or move it on
//! ```
//! One of the two fences comes first. If it is the subscriber's, the publisher sees `parked` and acts; if it is the
//! publisher's, the subscriber sees the new `tail` and does not sleep. A wake-up is therefore never lost.
//!
//! **A parked subscriber that an event does not concern is not woken; it is moved on**: the publisher swaps
//! `taken | parked` for `tail | parked`. The swap fails exactly when the subscriber woke first, and then it will take
//! the event itself. So an idle worker costs nothing per batch, pins no View and never lags. Only one with `taken ==`
//! the index of this event is moved: a smaller `taken` belongs to a subscriber between its two steps, which an earlier
//! event has yet to stop (loom found that one).
//!
//! **What concerns a subscriber** may change while it runs only, so it is read when it is found parked: that it has
//! watches was stored before `state`.
//!
//! **Waking** (`unpark`) clears the flag and adopts whatever `taken` it finds. Then, behind a SeqCst fence, it loads
//! `tail`. If `tail == taken`, the newest slot, `taken - 1`, is its own: the publisher frees that one only after a
//! larger `tail`, and having stored that one it would, by the same handshake, see `state` running. If `tail > taken`,
//! slot `taken - 1` may be gone, and [`Subscriber::current`] is closed until the next [`Subscriber::take`].
//!
//! **A full ring** does not block and drops nothing: [`Publisher::publish`] hands the event back, the core keeps it
//! and stops sealing batches until the slowest worker has moved.

mod event;

pub use event::{After, Batch, ConnRef, Event, News, Outcome};

use sync::{Arc, AtomicBool, AtomicU64, Ordering, UnsafeCell, fence};

use crossbeam::utils::CachePadded;

#[cfg(not(loom))]
mod sync {
    pub use std::sync::Arc;
    pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

    /// The standard cell with loom's way of access.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);
    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}
#[cfg(loom)]
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

/// Ends the sleep of a thread that waits in its poll or parker. Called at any time, from any thread; extra calls are harmless.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

const PARKED: u64 = 1;
/// The `state` of a subscriber that was dropped.
const GONE: u64 = u64::MAX;

struct Cursor {
    /// `taken << 1 | parked`.
    state: AtomicU64,
    /// The subscriber has watches: events with changes concern it.
    watching: AtomicBool,
    waker: Box<dyn Wake>,
}

struct Shared<E> {
    /// `Some` from publishing until freeing.
    slots: Box<[UnsafeCell<Option<E>>]>,
    tail: CachePadded<AtomicU64>,
    cursors: Box<[CachePadded<Cursor>]>,
}

// SAFETY: slots are handed from the publisher to subscribers by `tail` (Release/Acquire) and back by `state`
// (Release/Acquire), as the essay above says; subscribers only share `&E`, hence `E: Sync`; drops happen on the
// publisher's thread or the last owner's, hence `E: Send`.
unsafe impl<E: Send + Sync> Send for Shared<E> {}
// SAFETY: as above.
unsafe impl<E: Send + Sync> Sync for Shared<E> {}

/// The core's end.
pub struct Publisher<E> {
    shared: Arc<Shared<E>>,
    tail: u64,
    /// Slots below are empty.
    freed: u64,
}

/// One worker's end.
pub struct Subscriber<E> {
    shared: Arc<Shared<E>>,
    index: usize,
    taken: u64,
    /// Slot `taken - 1` is ours to read.
    holds: bool,
    parked: bool,
}

/// A ring of `slots` events (a power of two, at least 2) that begins with `first`, already taken by every subscriber,
/// so that each has a current event from the start. One subscriber per waker, in their order.
pub fn ring<E: Send + Sync>(
    slots: usize,
    first: E,
    wakers: Vec<Box<dyn Wake>>,
) -> (Publisher<E>, Vec<Subscriber<E>>) {
    assert!(slots.is_power_of_two());
    assert!(slots >= 2);
    let count = wakers.len();
    let mut first = Some(first);
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| UnsafeCell::new(first.take())).collect(),
        tail: CachePadded::new(AtomicU64::new(1)),
        cursors: wakers
            .into_iter()
            .map(|waker| {
                CachePadded::new(Cursor {
                    state: AtomicU64::new(1 << 1),
                    watching: AtomicBool::new(false),
                    waker,
                })
            })
            .collect(),
    });
    let subscribers = (0..count)
        .map(|index| Subscriber { shared: shared.clone(), index, taken: 1, holds: true, parked: false })
        .collect();
    (Publisher { shared, tail: 1, freed: 0 }, subscribers)
}

impl<E> Shared<E> {
    fn slot(&self, at: u64) -> &UnsafeCell<Option<E>> {
        &self.slots[at as usize & (self.slots.len() - 1)]
    }
}

impl<E> Publisher<E> {
    /// Appends `event` and wakes the parked subscribers for which `concerns` says yes, given the subscriber's index and
    /// whether it said that it has watches. Gives the event back when the
    /// slowest subscriber has yet to leave the slot it would go to; try again later.
    pub fn publish(&mut self, event: E, mut concerns: impl FnMut(usize, bool, &E) -> bool) -> Result<(), E> {
        self.free();
        if self.tail - self.freed == self.shared.slots.len() as u64 {
            return Err(event);
        }
        let at = self.tail;
        // SAFETY: `freed <= at - slots`, so the slot is empty and no subscriber reads it before `tail` passes `at`.
        self.shared.slot(at).with_mut(|slot| unsafe { *slot = Some(event) });
        self.tail = at + 1;
        self.shared.tail.store(self.tail, Ordering::Release);
        fence(Ordering::SeqCst);
        for (index, cursor) in self.shared.cursors.iter().enumerate() {
            let state = cursor.state.load(Ordering::Acquire);
            if state & PARKED == 0 || state == GONE {
                continue;
            }
            // Set before it parked, so `state` has brought it along.
            let watching = cursor.watching.load(Ordering::Relaxed);
            // SAFETY: only this thread writes or frees slots, and `at` is the newest.
            let newest = self.shared.slot(at).with(|slot| unsafe { (*slot).as_ref() });
            let wanted = newest.is_some_and(|event| concerns(index, watching, event));
            if !wanted && state >> 1 != at {
                // Still in its handshake: it has yet to see an event before this one, and will.
                continue;
            }
            let next = if wanted { state & !PARKED } else { self.tail << 1 | PARKED };
            let swapped = cursor.state.compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire);
            if wanted && swapped.is_ok() {
                cursor.waker.wake();
            }
        }
        Ok(())
    }

    /// Drops the events that no subscriber can reach any more. Returns how many slots are taken.
    pub fn free(&mut self) -> usize {
        let reachable = |cursor: &CachePadded<Cursor>| {
            let state = cursor.state.load(Ordering::Acquire);
            let taken = state >> 1;
            if state & PARKED == 0 { taken - 1 } else { taken }
        };
        let least = self.shared.cursors.iter().map(reachable).min().unwrap_or(self.tail);
        let keep_from = least.min(self.tail - 1);
        while self.freed < keep_from {
            // SAFETY: every subscriber is past this slot (its `state`, loaded with Acquire, says so) and it is not the
            // newest; see "Lifetime of slots".
            self.shared.slot(self.freed).with_mut(|slot| unsafe { *slot = None });
            self.freed += 1;
        }
        (self.tail - self.freed) as usize
    }

    /// Events published so far, the first one included.
    pub fn published(&self) -> u64 {
        self.tail
    }

    pub fn subscribers(&self) -> usize {
        self.shared.cursors.len()
    }
}

impl<E> Subscriber<E> {
    /// The next event, which becomes the current one; `None` at the tail. Lets go of the one that was current.
    pub fn take(&mut self) -> Option<&E> {
        assert!(!self.parked, "a sleeper takes nothing");
        if self.taken == self.shared.tail.load(Ordering::Acquire) {
            return None;
        }
        self.taken += 1;
        self.holds = true;
        self.cursor().state.store(self.taken << 1, Ordering::Release);
        Some(self.current())
    }

    /// The event taken last. After [`Subscriber::unpark`] the caller takes what there is to take before it asks.
    pub fn current(&self) -> &E {
        assert!(self.holds, "an event is asked for before the ring was caught up with");
        let shared: &Shared<E> = &self.shared;
        // SAFETY: we run (not parked) with `taken` in `state`, so the publisher leaves slot `taken - 1` alone until we
        // take or park, and both need `&mut self`, which ends this borrow.
        shared
            .slot(self.taken - 1)
            .with(|slot| unsafe { (*slot).as_ref() })
            .expect("a slot that is held is full")
    }

    /// Whether something waits to be taken: one load of the tail's line.
    pub fn is_behind(&self) -> bool {
        self.taken != self.shared.tail.load(Ordering::Acquire)
    }

    /// Says whether events that carry changes concern this subscriber. Takes effect with the next `park`.
    pub fn set_watching(&self, watching: bool) {
        self.cursor().watching.store(watching, Ordering::Relaxed);
    }

    /// Before going to sleep: true if the caller may sleep until its waker is called (or anything else wakes it);
    /// false if there is something to take. While parked, nothing may be taken and nothing is current; the sleeper
    /// calls `unpark` first when it runs again.
    pub fn park(&mut self) -> bool {
        loop {
            self.holds = false;
            self.parked = true;
            self.cursor().state.store(self.taken << 1 | PARKED, Ordering::Release);
            fence(Ordering::SeqCst);
            if self.shared.tail.load(Ordering::Acquire) == self.taken {
                return true;
            }
            self.unpark();
            if !self.holds {
                return false;
            }
            // Moved on meanwhile: what came did not concern us.
        }
    }

    /// The first thing after a sleep that `park` allowed; nothing otherwise.
    pub fn unpark(&mut self) {
        if !std::mem::take(&mut self.parked) {
            return;
        }
        let state = self.cursor().state.fetch_and(!PARKED, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.taken = state >> 1;
        self.holds = self.taken == self.shared.tail.load(Ordering::Acquire);
    }

    fn cursor(&self) -> &Cursor {
        &self.shared.cursors[self.index]
    }
}

impl<E> Drop for Subscriber<E> {
    /// A worker that is gone holds nothing up.
    fn drop(&mut self) {
        self.cursor().state.store(GONE, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Count(std::sync::Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Plays a script on a ring of 4 slots with two subscribers and returns what happened, word by word.
    /// `pN`: publish N, concerning the subscriber N % 10 only (9: nobody). `tI`/`zI`/`uI`/`cI`: subscriber I takes,
    /// parks, unparks, shows its current event. `f`: free.
    fn check(script: &str, expected: &str) {
        let wakes: Vec<_> = (0..2).map(|_| std::sync::Arc::new(AtomicUsize::new(0))).collect();
        let wakers = wakes.iter().map(|wake| Box::new(Count(wake.clone())) as Box<dyn Wake>).collect();
        let (mut publisher, mut subscribers) = ring(4, 0u64, wakers);
        let mut seen = Vec::new();
        for word in script.split(' ') {
            let number: usize = word[1..].parse().unwrap_or(0);
            seen.push(match &word[..1] {
                "p" => {
                    let before: Vec<_> = wakes.iter().map(|wake| wake.load(Ordering::Relaxed)).collect();
                    let sent =
                        publisher.publish(number as u64, |index, _, event| *event as usize % 10 == index);
                    let woken =
                        wakes.iter().zip(before).map(|(wake, before)| wake.load(Ordering::Relaxed) - before);
                    match sent {
                        Ok(()) => woken.map(|n| n.to_string()).collect::<Vec<_>>().concat(),
                        Err(event) => format!("full({event})"),
                    }
                }
                "t" => format!("{:?}", subscribers[number].take()),
                "z" => format!("{}", subscribers[number].park()),
                "u" => {
                    subscribers[number].unpark();
                    "-".to_owned()
                }
                "c" => format!("{}", subscribers[number].current()),
                "f" => format!("{}", publisher.free()),
                other => panic!("no such word: {other}"),
            });
        }
        assert_eq!(seen.join(" "), expected, "{script}");
    }

    #[test]
    fn every_subscriber_sees_every_event_in_order() {
        check("c0 p10 p21 t0 t0 t0 t1 c1 c0", "0 00 00 Some(10) Some(21) None Some(10) 10 21");
    }

    #[test]
    fn a_full_ring_gives_the_event_back_and_goes_on_when_the_slowest_moved() {
        check("p1 p2 p3 p4 t0 t0 t1 p4 t1 p5", "00 00 00 full(4) Some(1) Some(2) Some(1) 00 Some(2) 00");
    }

    #[test]
    fn a_parked_subscriber_is_woken_only_by_what_concerns_it() {
        check("z0 z1 p10 p30 p41 u0 t0 t0", "true true 10 00 01 - Some(10) Some(30)");
        check("z0 z1 p9 p19 p29 p39 p49 u1 c1 f p51 t1", "true true 00 00 00 00 00 - 49 1 00 Some(51)");
    }

    #[test]
    fn nobody_sleeps_over_an_event() {
        check("p10 z0 t0 z0 u0 c0", "00 false Some(10) true - 10");
    }

    #[test]
    fn a_dropped_subscriber_holds_nothing_up() {
        let (mut publisher, subscribers) = ring(2, 0u64, vec![Box::new(Count(Default::default()))]);
        drop(subscribers);
        for event in 1..10 {
            assert_eq!(publisher.publish(event, |_, _, _| true), Ok(()));
        }
    }

    #[test]
    fn two_threads_agree_on_every_event() {
        struct Unpark(crossbeam::sync::Unparker);
        impl Wake for Unpark {
            fn wake(&self) {
                self.0.unpark();
            }
        }
        const EVENTS: u64 = if cfg!(miri) { 200 } else { 20_000 };
        let parkers: Vec<_> = (0..2).map(|_| crossbeam::sync::Parker::new()).collect();
        let wakers =
            parkers.iter().map(|p| Box::new(Unpark(p.unparker().clone())) as Box<dyn Wake>).collect();
        let (mut publisher, subscribers) = ring(8, Box::new(0u64), wakers);
        std::thread::scope(|scope| {
            for (parker, mut subscriber) in parkers.into_iter().zip(subscribers) {
                scope.spawn(move || {
                    let mut next = 1;
                    while next <= EVENTS {
                        while let Some(event) = subscriber.take() {
                            assert_eq!(**event, next);
                            next += 1;
                        }
                        if next <= EVENTS && subscriber.park() {
                            parker.park();
                        }
                        subscriber.unpark();
                    }
                });
            }
            let mut event = 1;
            while event <= EVENTS {
                match publisher.publish(Box::new(event), |_, _, _| true) {
                    Ok(()) => event += 1,
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p ostler-engine --lib --release ring`.
#[cfg(all(test, loom))]
mod interleavings {
    use super::*;

    struct Notify(std::sync::Arc<loom::sync::Notify>);
    impl Wake for Notify {
        fn wake(&self) {
            self.0.notify();
        }
    }

    /// One subscriber that sleeps whenever it may, one publisher; `concerns` says which events wake. The subscriber
    /// must see every event that concerns it, in order, and never sleep for ever (loom reports a deadlock).
    fn check(slots: usize, events: u64, concerns: fn(u64) -> bool) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let bell = std::sync::Arc::new(loom::sync::Notify::new());
            let (mut publisher, mut subscribers) = ring(slots, 0u64, vec![Box::new(Notify(bell.clone()))]);
            let mut subscriber = subscribers.pop().unwrap();
            let last = (1..=events).filter(|event| concerns(*event)).max().unwrap();
            let reader = loom::thread::spawn(move || {
                let mut seen = 0;
                loop {
                    while let Some(event) = subscriber.take() {
                        assert!(*event > seen);
                        assert!((seen + 1..*event).all(|skipped| !concerns(skipped)));
                        seen = *event;
                    }
                    assert!(*subscriber.current() >= seen);
                    if seen >= last {
                        return;
                    }
                    if subscriber.park() {
                        bell.wait();
                    }
                    subscriber.unpark();
                }
            });
            let mut event = 1;
            while event <= events {
                match publisher.publish(event, |_, _, event| concerns(*event)) {
                    Ok(()) => event += 1,
                    Err(_) => loom::thread::yield_now(),
                }
            }
            reader.join().unwrap();
        });
    }

    #[test]
    fn no_wake_up_is_lost() {
        check(4, 2, |_| true);
    }

    #[test]
    fn a_sleeper_moved_on_still_sees_what_concerns_it() {
        check(4, 3, |event| event == 3);
        check(4, 3, |event| event != 2);
    }

    #[test]
    fn slots_are_freed_only_behind_the_reader() {
        check(2, 3, |_| true);
    }
}
