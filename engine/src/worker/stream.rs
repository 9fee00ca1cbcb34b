//! Replies too large for one turn: produced in portions from a View of their own, encoded once.
//! Not here: small replies (`read`), sockets.
//!
//! While one is being produced its connection is served nothing else, and watch events for it wait behind it: the
//! request may have set the very watch that fires, and a client learns of its watch by the reply.

use super::catch_up::{CatchUp, Present};
use super::read::lookup;
use crate::limits::REPLY_BYTES_PORTION;
use crate::model::{ErrorCode, Identity, Schemes, Stat, Xid};
use crate::wire::jute::JutePut;
use crate::wire::{OpCode, reply};
use crate::world::{Census, Listing, View};
use std::sync::Arc;

/// Children looked at in one portion: the names of that many fit a portion of bytes, and take about a millisecond.
pub const CHILDREN_PORTION: usize = crate::limits::CHILDREN_PORTION;
/// ... between two looks at how many bytes they were.
const CHILDREN_STEP: usize = 64;
/// A reply that outgrows this closes the connection: no client takes a frame of a gigabyte.
const REPLY_BYTES_MAX: usize = crate::limits::REPLY_BYTES_MAX;

pub struct Stream {
    pub xid: Xid,
    pub op: OpCode,
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
    /// setWatches: the frame is one of events until the reply comes last.
    CatchUp(CatchUp),
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
    pub fn children(xid: Xid, op: OpCode, view: View, listing: Listing, stat: Option<Stat>) -> Stream {
        let count = listing.len();
        let mut stream = Stream::new(xid, op, view, Work::Children(listing, stat.map(Box::new)));
        stream.frame.put_count(count);
        stream
    }

    pub fn count(xid: Xid, op: OpCode, view: View, census: Census) -> Stream {
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
        Stream::new(xid, OpCode::MultiRead, view, Work::MultiRead(work))
    }

    pub fn catch_up(xid: Xid, op: OpCode, view: View, rest: CatchUp) -> Stream {
        Stream { xid, op, view, frame: Vec::new(), events: Vec::new(), work: Work::CatchUp(rest) }
    }

    fn new(xid: Xid, op: OpCode, view: View, work: Work) -> Stream {
        let mut frame = Vec::new();
        frame.extend_from_slice(&reply::head(reply::HEADER_BYTES, xid, view.zxid(), ErrorCode::Ok.to_wire()));
        Stream { xid, op, view, frame, events: Vec::new(), work }
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    /// What it holds for its client.
    pub fn bytes(&self) -> usize {
        self.frame.len() + self.events.len()
    }

    /// Produces one portion.
    pub fn portion(&mut self, schemes: &Schemes, present: &mut Present<'_>) -> Progress {
        let frame = &mut self.frame;
        let done = match &mut self.work {
            Work::Children(listing, stat) => {
                let done = list(listing, frame);
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
            Work::CatchUp(rest) => {
                if rest.portion(present, frame) {
                    reply::frame_bare(frame, self.xid, self.view.zxid(), ErrorCode::Ok);
                    return Progress::Done;
                }
                false
            }
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

/// One portion of names; true when that was all. A name can be as long as a frame, so bytes are looked at on the way.
fn list(listing: &mut Listing, frame: &mut Vec<u8>) -> bool {
    let start = frame.len();
    let mut done = listing.is_empty();
    for _ in 0..CHILDREN_PORTION / CHILDREN_STEP {
        if done || frame.len() - start > REPLY_BYTES_PORTION {
            break;
        }
        done = listing.portion(CHILDREN_STEP, |name| frame.put_string(name));
    }
    done
}

impl MultiRead {
    fn portion(&mut self, view: &View, schemes: &Schemes, frame: &mut Vec<u8>) -> bool {
        let start = frame.len();
        while frame.len() - start < REPLY_BYTES_PORTION {
            if let Some(listing) = &mut self.listing {
                if !list(listing, frame) {
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

#[cfg(test)]
mod tests {
    use super::super::watch::{HashKey, Watches};
    use super::*;
    use crate::model::{SessionId, WallMillis};
    use crate::wire::{AclBytes, Create, CreateKind, TxnBody, TxnHeader};
    use crate::world::{Changes, Head, Settings};
    use ostler_replication::Zxid;

    #[test]
    fn a_portion_is_bounded_in_bytes_however_long_names_are() {
        let mut head = Head::new(Settings { hash_seed: [1, 2], digests: false });
        for zxid in 1..=300u64 {
            let path = format!("/{zxid:020000}");
            let body = TxnBody::Create(Create {
                path: path.into(),
                data: None,
                acl: AclBytes::OPEN,
                kind: CreateKind::Plain { create2: false, ephemeral: false },
                parent_cversion: -1,
            });
            let (session, zxid, time) = (SessionId(1), Zxid(zxid), WallMillis(1));
            let header = TxnHeader { session, cxid: Xid(0), zxid, time, kind: body.kind() };
            head.apply(&header, &body, &mut Changes::default());
        }
        let view = head.seal();
        let listing = view.listing(&view.get("/").unwrap());
        let mut stream = Stream::children(Xid(1), OpCode::GetChildren, view.clone(), listing, None);
        let most = REPLY_BYTES_PORTION + (CHILDREN_STEP + 1) * 20_100;
        let (mut portions, mut before) = (1, 0);
        let mut watches = Watches::new(HashKey([1, 2]));
        let mut present = Present { view: &view, watches: &mut watches, slot: 0 };
        while stream.portion(&Schemes::default(), &mut present) == Progress::More {
            assert!(stream.frame.len() - before <= most);
            before = stream.frame.len();
            portions += 1;
        }
        assert!(portions > 2, "{portions}");
        // 301 names with their lengths, a reply header, a count.
        assert_eq!(stream.finish().0.len(), 300 * 20_004 + 4 + "zookeeper".len() + 20 + 4);
    }
}
