//! getEphemerals: a session's ephemerals as one reply. Most have few; for one that has very many, a portion is listed per
//! turn, so that nobody else waits for it.
//! Not here: that the connection sends nothing else meanwhile, which its worker sees to.
//!
//! A list that one turn makes is in Apache's order; a longer one in that of ids.
//!
//! A list put together over several turns must still be one that was true at a time. The session itself makes no new
//! ones meanwhile; when others have deleted some, the list is begun anew, and if that goes on, finished in one go.
//!
//! Lists are large, and a batch may have to wait for the log for long: while the open one has enough to tell already, no
//! further list is made for it.

use super::{Core, Space};
use crate::limits::{EPHEMERALS_PORTION, REPLY_BYTES_MAX};
use crate::model::{ErrorCode, SessionId, Xid};
use crate::ring::{After, ConnRef};
use crate::wire::{JutePut, reply};
use crate::world::NodeId;

/// How often a list is begun anew.
const ATTEMPTS: u32 = 3;

pub(super) struct Listing {
    from: ConnRef,
    session: SessionId,
    xid: Xid,
    /// `None`: all.
    prefix: Option<Box<str>>,
    /// The session's ephemerals when it was begun, and the last one looked at.
    of: usize,
    after: Option<NodeId>,
    attempts: u32,
    count: usize,
    /// The paths, encoded.
    paths: Vec<u8>,
}

impl Listing {
    fn begin_anew(&mut self, of: usize) {
        (self.of, self.after, self.count) = (of, None, 0);
        self.attempts += 1;
        self.paths.clear();
    }

    fn tell(&mut self, path: &str) {
        if self.prefix.as_deref().is_none_or(|prefix| path.starts_with(prefix)) {
            self.count += 1;
            self.paths.put_string(path);
        }
    }
}

impl Core {
    pub(super) fn list_ephemerals(
        &mut self,
        from: ConnRef,
        session: SessionId,
        xid: Xid,
        prefix: Option<&str>,
    ) {
        let prefix = prefix.filter(|prefix| !means_all(prefix)).map(Into::into);
        let of = self.head.ephemeral_count(session);
        let paths = Vec::new();
        let listing = Listing { from, session, xid, prefix, of, after: None, attempts: 1, count: 0, paths };
        self.listings.push_back(listing);
        // The order of one connection's answers is that of its requests: what can be answered at once is.
        if self.listings.len() == 1 && of <= EPHEMERALS_PORTION {
            self.list_portion();
        }
    }

    /// There is a list to go on with, and a batch for it that will be told soon.
    pub(super) fn may_list(&self) -> bool {
        !self.listings.is_empty()
            && self.open.frames.len() < self.settings.batch_bytes_enough()
            && (self.disk != Space::Full || self.open.txns == 0)
    }

    /// One portion of the first list.
    pub(super) fn list_portion(&mut self) {
        if self.open.frames.len() >= self.settings.batch_bytes_enough() {
            return;
        }
        let Some(mut listing) = self.listings.pop_front() else { return };
        let of = self.head.ephemeral_count(listing.session);
        if of != listing.of {
            listing.begin_anew(of);
        }
        let few = if of <= EPHEMERALS_PORTION { self.few_paths(listing.session) } else { None };
        match few {
            Some(paths) => paths.iter().for_each(|path| listing.tell(path)),
            // It would stand in the way of everybody's answers, which need no txn, until there is space again.
            None if self.disk == Space::Full && self.open.txns > 0 => {
                return self.listings.push_front(listing);
            }
            None => {
                let portion = if listing.attempts > ATTEMPTS { usize::MAX } else { EPHEMERALS_PORTION };
                let mut looked_at = 0;
                for ephemeral in self.head.ephemerals_after(listing.session, listing.after).take(portion) {
                    looked_at += 1;
                    listing.after = Some(ephemeral.id);
                    listing.tell(&ephemeral.path);
                    if listing.paths.len() > REPLY_BYTES_MAX {
                        // No client takes a frame of a gigabyte.
                        return self.open.quiet(listing.from, self.head.zxid(), After::Close);
                    }
                }
                if looked_at == portion {
                    return self.listings.push_front(listing);
                }
            }
        }
        let (xid, zxid) = (listing.xid, self.head.zxid());
        self.open.reply(listing.from, zxid, xid, After::Keep, |out| {
            reply::frame_reply(out, xid, zxid, ErrorCode::Ok, |out| {
                out.put_count(listing.count);
                out.extend_from_slice(&listing.paths);
            });
        });
    }
}

/// A blank prefix, or `/` among blanks. Blanks are those of Java's `String.trim`: everything up to a space.
fn means_all(prefix: &str) -> bool {
    matches!(prefix.trim_matches(|c| c <= ' '), "" | "/")
}

#[cfg(test)]
mod tests {
    use super::means_all;

    #[track_caller]
    fn check(prefix: &str, expected: bool) {
        assert_eq!(means_all(prefix), expected, "{prefix:?}");
    }

    #[test]
    fn prefixes_that_mean_all() {
        ["", "/", "  ", " /", "/\t", "\u{1}/\0"].into_iter().for_each(|prefix| check(prefix, true));
        ["/a", " /a", "//", "\u{a0}", "\u{2003}/"].into_iter().for_each(|prefix| check(prefix, false));
    }
}
