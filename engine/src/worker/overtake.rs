//! Writes that overtake reads: a read waits for the session's earlier writes, and would hold up the writes behind it for
//! as many syncs. So those writes go to the core at once, marked as `apart`, and the reads between are served when their
//! turn comes, from the View of the batch that has the write before them and not yet the one behind.
//! Not here: serving (`serve`), delivering (`deliver`), keeping such writes in batches of their own (core).
//!
//! The front of a connection's input that was looked through is its *stretch*: reads that wait, and writes that the core
//! has already, which are passed over when their place in the line comes. A stretch begins with a read. As many writes of
//! it as there are stand last in `in_flight`; so a read at the front may be served when nothing else stands there.
//!
//! That a read is served from a View that is no longer the newest is no staleness: it came before the write behind it did,
//! so it was under way when everything newer was committed.

use super::connection::Phase;
use super::serve::{Step, Submit, Submitted};
use super::turn::{Job, Source, State};
use crate::io::poll::Poll;
use crate::limits::{OVERTAKEN_BYTES_MAX, OVERTAKEN_READS_MAX, OVERTAKING_BYTES_MAX, REPLY_BYTES_PAUSE};
use crate::wire::frame::{Front, front};
use crate::wire::{OpCode, RequestHeader};
use crate::world::View;

/// See above. Zero when nothing was looked through.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stretch {
    pub bytes: u32,
    pub reads: u8,
    pub writes: u8,
    /// It ends with a read.
    pub ends_reading: bool,
}

impl Stretch {
    /// A frame of it is done with.
    pub fn pass(&mut self, bytes: usize, is_write: bool) {
        self.bytes -= bytes as u32;
        if is_write {
            self.writes -= 1;
        } else {
            self.reads -= 1;
            self.ends_reading &= self.reads > 0;
        }
    }
}

/// Frame, header and Stat, rounded up.
const REPLY_BYTES_AROUND_DATA: usize = 128;

/// Their replies are short, or as long as one znode's data; they close no connection and change nothing that a later
/// request depends on.
fn may_be_overtaken(op: OpCode) -> bool {
    matches!(op, OpCode::GetData | OpCode::Exists | OpCode::Ping)
}

fn may_overtake(op: OpCode) -> bool {
    op.is_write() && op != OpCode::CloseSession
}

/// Whether the frame is a write that the core has already, given that it stands in a stretch.
pub(super) fn is_overtaker(body: &[u8]) -> bool {
    RequestHeader::decode(body)
        .ok()
        .and_then(|(header, _)| OpCode::from_i32(header.op))
        .is_some_and(|op| !may_be_overtaken(op))
}

impl<P: Poll> State<P> {
    /// `waiting` begins with a read that waits for an earlier write: hands over what may overtake it.
    pub(super) fn overtake(&mut self, slot: u32, waiting: &[u8], view: &View) {
        // Throttles and enforced schemes look at one request after the other.
        let plain = self.shared.requests_max == 0 && self.shared.enforced_schemes.is_empty();
        if !plain || self.reply_bytes > self.reply_bytes_max {
            return;
        }
        let reply_bytes_most = view.longest_data() + REPLY_BYTES_AROUND_DATA;
        let reads_max = (OVERTAKEN_BYTES_MAX / reply_bytes_most).min(OVERTAKEN_READS_MAX) as u8;
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return };
            if !connection.may_serve() || connection.awaits_listing() {
                return;
            }
            let stretch = &mut connection.stretch;
            let at = stretch.bytes as usize;
            let Front::Frame { body, bytes } = front(&waiting[at..], self.shared.frame_bytes_max) else {
                return;
            };
            let Ok((header, record)) = RequestHeader::decode(body) else { return };
            match OpCode::from_i32(header.op) {
                Some(op) if may_be_overtaken(op) && stretch.reads < reads_max => {
                    stretch.reads += 1;
                    stretch.ends_reading = true;
                }
                Some(op)
                    if may_overtake(op)
                        && stretch.reads > 0
                        && stretch.writes < u8::MAX
                        && bytes <= OVERTAKING_BYTES_MAX =>
                {
                    // Too many large ones: refused when its turn comes.
                    let Some(large_bytes) = self.shared.large.admit(bytes) else { return };
                    let how = Submit { apart: stretch.ends_reading, large_bytes };
                    if !matches!(self.submit(slot, header.xid, op, record, how), Submitted::Yes) {
                        self.shared.large.done(large_bytes);
                        self.turn_away(slot);
                        return;
                    }
                    let Some(connection) = self.connections.get_mut(slot) else { return };
                    connection.stretch.writes += 1;
                    connection.stretch.ends_reading = false;
                }
                _ => return,
            }
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.stretch.bytes += bytes as u32;
            }
        }
    }

    /// Serves the reads whose turn has come with the batch just delivered, before the next is. `view`: of that batch.
    pub(super) fn serve_overtaken(&mut self, view: &View) {
        let mut jobs: Vec<Job> = Vec::with_capacity(self.overtaken.len());
        for slot in self.overtaken.drain(..) {
            if let Some(connection) = self.connections.get(slot) {
                let generation = connection.generation;
                jobs.push(Job { slot, generation, source: Source::Input, hashes: 0..0 });
            }
        }
        let mut rest = &mut jobs[..];
        while !rest.is_empty() {
            let window = self.look_ahead(rest, &[], view);
            let (now, later) = rest.split_at_mut(window);
            for job in now.iter() {
                self.serve_stretch(job, view);
            }
            rest = later;
        }
    }

    /// Up to the next write that the core has and has not answered; all of it, however slowly the client reads, because
    /// that answer may come next.
    fn serve_stretch(&mut self, job: &Job, view: &View) {
        let Job { slot, generation, .. } = *job;
        let Some(connection) = self.connections.get_of(slot, generation) else { return };
        if connection.phase != Phase::Established {
            return;
        }
        let (bytes, start) = connection.input.lend();
        let mut at = start;
        let mut passed = 0;
        while let Some(connection) = self.connections.get_of(slot, generation)
            && connection.stretch.writes > 0
            && let Front::Frame { body, bytes: taken } = front(&bytes[at..], self.shared.frame_bytes_max)
        {
            let is_write = is_overtaker(body);
            if !is_write {
                if connection.in_flight.len() > connection.stretch.writes as usize {
                    break;
                }
                let hash = self.hashes.get(job.hashes.start + passed).filter(|_| passed < job.hashes.len());
                let hash = hash.copied().flatten();
                if self.request(slot, body, hash, view) != Step::Served {
                    break;
                }
            }
            passed += 1;
            at += taken;
            if let Some(connection) = self.connections.get_of(slot, generation) {
                connection.stretch.pass(taken, is_write);
            }
        }
        match self.connections.get_of(slot, generation) {
            Some(connection) => {
                connection.input.restore(bytes, at, &mut self.pool);
                connection.output.weigh(&mut self.reply_bytes);
                // Only data that grew to a size never seen before, since the stretch was looked through, gets here.
                if connection.output.len() > 2 * REPLY_BYTES_PAUSE {
                    tracing::warn!(peer = %connection.peer(), "does not read its replies, and they grew: closed");
                    self.drop_now(slot);
                } else {
                    self.list_to_flush(slot);
                }
            }
            None => self.pool.give(bytes),
        }
    }
}
