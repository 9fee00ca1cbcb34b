//! Duties of the clock: reporting who was heard from, and a rotating look at connections that have been silent or
//! stuck for too long.
//! Not here: session expiry, which is the core's alone.

use super::connection::{Connection, Phase};
use super::turn::State;
use crate::admin::Counter;
use crate::io::poll::Poll;
use crate::limits::{LINGER_MS_MAX, STALL_MS_LEAST, WAIT_MS_MAX};
use ostler_replication::Moment;

/// Every connection is looked at once in so many sweeps ...
const SWEEPS: u32 = 10;
/// ... which are so far apart, milliseconds.
const SWEEP_MS: u64 = crate::limits::SWEEP_MS;
/// A four-letter word that nobody answered.
const WORD_MS_MAX: u64 = crate::limits::WORD_MS_MAX;

/// What is to become of a connection.
enum Verdict {
    Fine,
    /// We do not read it, so its silence counts for nothing.
    Touch,
    Sessionless,
    Drop,
}

impl<P: Poll> State<P> {
    /// A turn that comes much later than turns do means that this process did not run: nobody could be heard, and nobody
    /// was sent anything.
    pub(super) fn excuse_stall(&mut self, last_turn: Moment) {
        let gap_ms = self.now.mono.since(last_turn) / 1_000_000;
        if gap_ms < WAIT_MS_MAX + STALL_MS_LEAST {
            return;
        }
        for connection in self.connections.iter_mut() {
            for moment in [&mut connection.heard, &mut connection.progressed] {
                *moment = moment.plus_millis(gap_ms - WAIT_MS_MAX);
            }
        }
    }

    pub(super) fn duties(&mut self) {
        let now = self.now.mono;
        if self.report_touches || now >= self.touch_at {
            self.send_touches();
            self.touch_at = now.plus_millis(self.shared.touch_ms);
        }
        if now >= self.sweep_at {
            self.sweep_at = now.plus_millis(SWEEP_MS);
            self.accept_ready = self.acceptor.is_some();
            self.sweep();
            self.lines.tell_unsaid(now);
        }
    }

    fn sweep(&mut self) {
        let slots = self.connections.slots();
        let portion = slots.div_ceil(SWEEPS);
        for _ in 0..portion {
            let slot = self.sweep_slot;
            self.sweep_slot = if slot + 1 >= slots { 0 } else { slot + 1 };
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            match verdict(connection, self.now.mono, self.shared.sessionless_ms) {
                Verdict::Fine => {}
                Verdict::Touch => self.touch(slot),
                Verdict::Sessionless => {
                    self.counters.add(Counter::SessionlessExpired, 1);
                    self.drop_now(slot);
                }
                Verdict::Drop => self.drop_now(slot),
            }
        }
    }
}

fn verdict(connection: &mut Connection, now: Moment, interval_ms: u64) -> Verdict {
    connection.tidy();
    let since_ms = |moment: Moment| now.since(moment) / 1_000_000;
    match connection.phase {
        Phase::Opening if is_past(now, connection.progressed, interval_ms, interval_ms) => {
            Verdict::Sessionless
        }
        // One that has hung up may have asked for something behind its connect request, but waits for no answer for long.
        Phase::Connecting if connection.flags.ended && since_ms(connection.heard) > LINGER_MS_MAX => {
            Verdict::Drop
        }
        Phase::Connecting if is_past(now, connection.heard, interval_ms, interval_ms) => Verdict::Sessionless,
        Phase::Word if since_ms(connection.heard) > WORD_MS_MAX => Verdict::Drop,
        Phase::Closing if connection.flags.shut && since_ms(connection.progressed) > LINGER_MS_MAX => {
            Verdict::Drop
        }
        Phase::Closing if since_ms(connection.progressed) > interval_ms => Verdict::Drop,
        Phase::Established => {
            let timeout_ms = connection.timeout_ms.into();
            if !connection.output.is_empty() && since_ms(connection.progressed) > timeout_ms {
                Verdict::Drop
            } else if !connection.wants_reading() {
                // Who has hung up, or is gone, sends no more that we could fail to read.
                let is_gone = connection.flags.ending && since_ms(connection.heard) > timeout_ms;
                if is_gone { Verdict::Drop } else { Verdict::Touch }
            } else if is_past(now, connection.heard, timeout_ms, interval_ms) {
                Verdict::Drop
            } else {
                Verdict::Fine
            }
        }
        _ => Verdict::Fine,
    }
}

/// Whether `timeout_ms` after `from`, rounded up to the next multiple of the interval as Apache does, is over.
fn is_past(now: Moment, from: Moment, timeout_ms: u64, interval_ms: u64) -> bool {
    let due = (from.as_millis() + timeout_ms) / interval_ms + 1;
    now.as_millis() >= due * interval_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from_ms: u64, timeout_ms: u64, past_at_ms: u64) {
        let at = Moment::from_millis;
        assert!(!is_past(at(past_at_ms - 1), at(from_ms), timeout_ms, 10_000));
        assert!(is_past(at(past_at_ms), at(from_ms), timeout_ms, 10_000));
    }

    #[test]
    fn deadlines_round_up_to_the_interval() {
        check(0, 10_000, 20_000);
        check(1, 9_998, 10_000);
        check(9_999, 4_000, 20_000);
    }
}
