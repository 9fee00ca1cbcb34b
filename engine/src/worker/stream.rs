//! Replies too large for one turn: produced in portions from a View of their own, encoded once.
//! Not here: small replies (`read`), sockets.
//!
//! While one is being produced its connection is served nothing else, and watch events for it wait behind it: the
//! request may have set the very watch that fires, and a client learns of its watch by the reply.

use super::read::lookup;
use crate::limits::REPLY_BYTES_PORTION;
use crate::model::{ErrorCode, Identity, Schemes, Stat, Xid};
use crate::wire::jute::JutePut;
use crate::wire::{OpCode, reply};
use crate::world::{Census, Listing, View};
use std::sync::Arc;

/// Children looked at in one portion: the names of that many fit a portion of bytes, and take about a millisecond.
pub const CHILDREN_PORTION: usize = crate::limits::CHILDREN_PORTION;
/// A reply that outgrows this closes the connection: no client takes a frame of a gigabyte.
const REPLY_BYTES_MAX: usize = crate::limits::REPLY_BYTES_MAX;

pub struct Stream {
    pub xid: Xid,
    pub op: i32,
    view: View,
    /// The frame as far as it is produced, its length word still open.
    frame: Vec<u8>,
    /// Events that came meanwhile.
    pub events: Vec<u8>,
    work: Work,
}

enum Work {
    /// getChildren, and with a Stat getChildren2.
    Children(Listing, Option<Box<Stat>>),
    /// getAllChildrenNumber.
    Count(Census),
    MultiRead(MultiRead),
}

/// A multiRead: results are produced as its operations are come to, for each may be as large as a reply of its own.
struct MultiRead {
    operations: std::vec::IntoIter<(OpCode, Box<str>)>,
    /// Names still to be produced of the operation before.
    listing: Option<Listing>,
    ids: Arc<[Identity]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    More,
    Done,
    /// Larger than any client would take.
    TooLarge,
}

impl Stream {
    pub fn children(xid: Xid, op: i32, view: View, listing: Listing, stat: Option<Stat>) -> Stream {
        let count = listing.len();
        let mut stream = Stream::new(xid, op, view, Work::Children(listing, stat.map(Box::new)));
        stream.frame.put_count(count);
        stream
    }

    pub fn count(xid: Xid, op: i32, view: View, census: Census) -> Stream {
        Stream::new(xid, op, view, Work::Count(census))
    }

    /// `operations` are getData and getChildren only.
    pub fn multi_read(
        xid: Xid,
        view: View,
        operations: Vec<(OpCode, Box<str>)>,
        ids: Arc<[Identity]>,
    ) -> Stream {
        let work = MultiRead { operations: operations.into_iter(), listing: None, ids };
        Stream::new(xid, OpCode::MultiRead.to_i32(), view, Work::MultiRead(work))
    }

    fn new(xid: Xid, op: i32, view: View, work: Work) -> Stream {
        let mut frame = Vec::new();
        frame.extend_from_slice(&reply::head(reply::HEADER_BYTES, xid, view.zxid(), ErrorCode::Ok.to_wire()));
        Stream { xid, op, view, frame, events: Vec::new(), work }
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    /// Produces one portion.
    pub fn portion(&mut self, schemes: &Schemes) -> Progress {
        let frame = &mut self.frame;
        let done = match &mut self.work {
            Work::Children(listing, stat) => {
                let done = listing.portion(CHILDREN_PORTION, |name| frame.put_string(name));
                if done && let Some(stat) = stat {
                    frame.put_stat(stat);
                }
                done
            }
            Work::Count(census) => match census.portion(CHILDREN_PORTION) {
                Some(count) => {
                    frame.put_i32(count.min(i32::MAX as u64) as i32);
                    true
                }
                None => false,
            },
            Work::MultiRead(work) => work.portion(&self.view, schemes, frame),
        };
        if frame.len() > REPLY_BYTES_MAX {
            return Progress::TooLarge;
        }
        if !done {
            return Progress::More;
        }
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Progress::Done
    }

    /// The whole frame and the events that wait behind it.
    pub fn finish(self) -> (Vec<u8>, Vec<u8>) {
        (self.frame, self.events)
    }
}

impl MultiRead {
    fn portion(&mut self, view: &View, schemes: &Schemes, frame: &mut Vec<u8>) -> bool {
        let start = frame.len();
        while frame.len() - start < REPLY_BYTES_PORTION {
            if let Some(listing) = &mut self.listing {
                if !listing.portion(CHILDREN_PORTION, |name| frame.put_string(name)) {
                    return false;
                }
                self.listing = None;
            }
            let Some((op, path)) = self.operations.next() else {
                reply::put_multi_end(frame);
                return true;
            };
            match lookup(view, &path, None, &self.ids, schemes) {
                Err(error) => reply::MultiResult::Error(error.to_wire()).put(frame),
                Ok(node) => {
                    reply::put_multi_header(frame, op.to_i32(), false, 0);
                    if op == OpCode::GetData {
                        frame.put_buffer(node.data());
                        frame.put_stat(&node.stat());
                    } else {
                        let listing = view.listing(&node);
                        frame.put_count(listing.len());
                        self.listing = Some(listing);
                    }
                }
            }
        }
        false
    }
}
