//! Closing sessions: by their clients, by expiry, and those of ephemerals found without a session.
//!
//! A session whose ephemerals take more than `CLOSE_PATH_BYTES_MAX` of paths is emptied by bounded multis of deletes
//! first, one portion per turn, so that other requests go on in between; its closeSession comes last and is what the
//! client's reply waits for. So does one for which the open batch has no room. Meanwhile the session is closing: it takes
//! no requests, so nothing is added.

use super::owner::Origin;
use super::sessions::Sessions;
use super::write::Asker;
use super::{Core, Expired, Space};
use crate::limits::{CLOSE_PATH_BYTES_MAX, CLOSE_PORTION_PATH_BYTES, CLOSE_PORTION_TXNS, EXPIRIES_TOLD_MAX};
use crate::model::{ErrorCode, SessionId, Xid, java};
use crate::ring::After;
use crate::wire::{SubTxn, TxnBody};
use crate::world::Head;
use std::collections::VecDeque;

/// Sessions that are being closed over several turns.
#[derive(Default)]
pub(super) struct Closings {
    waiting: VecDeque<Closing>,
}

struct Closing {
    session: SessionId,
    /// Who gets a reply, if the client asked for it.
    asker: Option<Asker>,
}

impl Closings {
    /// Of ephemerals whose session is unknown.
    pub fn of_orphans(head: &Head, sessions: &Sessions) -> Closings {
        let mut closings = Closings::default();
        for (owner, _) in head.owners().filter(|(owner, _)| !sessions.is_open(*owner)) {
            closings.push(owner, None);
        }
        closings
    }

    pub fn push(&mut self, session: SessionId, asker: Option<Asker>) {
        self.waiting.push_back(Closing { session, asker });
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Core {
    /// closeSession from the client that owns the session.
    pub(super) fn begin_close(&mut self, asker: Asker) {
        self.close(asker.session, Some(asker));
    }

    pub(super) fn expire(&mut self, session: SessionId) {
        let timeout_ms = self.sessions.timeout_ms(session);
        let ephemerals = self.head.ephemeral_count(session);
        if self.close(session, None) {
            self.sessions_expired += 1;
            if self.expired.len() < EXPIRIES_TOLD_MAX {
                self.expired.push(Expired { session, timeout_ms, ephemerals });
            }
        }
    }

    /// False: it is being closed already.
    fn close(&mut self, session: SessionId, asker: Option<Asker>) -> bool {
        if !self.sessions.begin_close(session) {
            return false;
        }
        match self.may_close().then(|| self.few_paths(session)).flatten() {
            Some(paths) => self.finish_close(session, paths, asker),
            None => {
                if let Some(Asker { from: Origin::At(link), .. }) = asker {
                    self.close_begun(link);
                }
                self.closings.push(session, asker);
            }
        }
        true
    }

    fn may_close(&self) -> bool {
        self.space() != Space::Full && self.has_room()
    }

    /// The sessions in line that one txn closes, as far as the open batch takes them, up to the first larger one, of which
    /// a portion goes.
    pub(super) fn close_portion(&mut self) {
        while self.may_close()
            && let Some(Closing { session, asker }) = self.closings.waiting.pop_front()
        {
            if let Some(paths) = self.few_paths(session) {
                self.finish_close(session, paths, asker);
                continue;
            }
            self.closings.push(session, asker);
            // Deletes stop at the floor; what is kept below it is for sessions that one txn closes.
            if self.space() < Space::Floor {
                let deletes = self.delete_portion(session);
                self.execute(session, Xid(0), &TxnBody::Multi(deletes));
            }
            return;
        }
    }

    /// All paths of the session's ephemerals, in Apache's order, if they fit one closeSession.
    pub(super) fn few_paths(&self, session: SessionId) -> Option<Vec<String>> {
        let mut bytes = 0;
        let mut few = Vec::new();
        for ephemeral in self.head.ephemerals_after(session, None) {
            bytes += 4 + ephemeral.path.len();
            if bytes > CLOSE_PATH_BYTES_MAX {
                return None;
            }
            few.push(ephemeral);
        }
        java::sort_ephemerals(&mut few, |ephemeral| (&ephemeral.path, ephemeral.czxid));
        Some(few.into_iter().map(|ephemeral| ephemeral.path).collect())
    }

    fn delete_portion(&self, session: SessionId) -> Vec<SubTxn<'static>> {
        let mut bytes = 0;
        self.head
            .ephemerals(session)
            .take(CLOSE_PORTION_TXNS)
            .take_while(|path| {
                // The first one always goes, however long.
                let goes = bytes == 0 || bytes + path.len() <= CLOSE_PORTION_PATH_BYTES;
                bytes += path.len();
                goes
            })
            .map(|path| SubTxn::Delete { path: path.into() })
            .collect()
    }

    fn finish_close(&mut self, session: SessionId, paths: Vec<String>, asker: Option<Asker>) {
        let paths = Some(paths.into_iter().map(Into::into).collect());
        let cxid = asker.map_or(Xid(0), |asker| asker.xid);
        let (header, _) = self.execute(session, cxid, &TxnBody::CloseSession { paths });
        let zxid = header.zxid;
        let owner = self.sessions.remove(session);
        match asker.map(|asker| asker.from) {
            Some(Origin::Here(from)) => self.open.bare(from, zxid, cxid, ErrorCode::Ok, After::Close),
            Some(Origin::At(link)) => self.close_ended(link),
            None => {
                if let Some(owner) = owner {
                    self.open.quiet(owner, zxid, After::Drop);
                }
            }
        }
    }
}
