//! The log's entries applied to the state that the snapshot gave.
//! Not here: reading and judging the log, threads (log); what a txn changes (world).

use crate::io::disk::Disk;
use crate::limits;
use crate::log::{self, Group, RecoverError, Recovered};
use crate::wire::{TxnBody, TxnEntry};
use crate::world::{Ahead, Changes, ForeseenTxn, Head, Marks, PathHash};
use ostler_replication::Zxid;
use std::path::Path;
use std::sync::Arc;

/// Txns whose memory is fetched together.
const FETCHED: usize = 32;
/// Bytes of creates after which the memory for more is made ready.
const PAGES_STEP_BYTES: u64 = 64 << 10;

/// Applies all that the log in `dir` holds behind `base`; `ahead` as in [`log::replay`].
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    head: &mut Head,
    ahead: bool,
) -> Result<Recovered, RecoverError> {
    let marks = Arc::<Marks>::default();
    let foresight = head.foresight();
    let mut pages = ahead.then(|| head.pages_ahead(&marks));
    let (mut created, mut told) = (0, 0);
    let foresee = |entry: &[u8]| {
        let bytes = entry.len() as u64;
        // What does not decode is refused when it is its turn.
        let (entry, _) = TxnEntry::decode(entry).ok()?;
        if let (Some(pages), TxnBody::Create(_)) = (&mut pages, &entry.body) {
            created += bytes;
            if created - told >= PAGES_STEP_BYTES {
                told = created;
                pages.back(created);
            }
        }
        foresight.of_txn(&entry.header, &entry.body)
    };
    let mut replay = Replay {
        head,
        marks,
        changes: Changes::default(),
        hashes: Vec::new(),
        ahead: Ahead::default(),
        applied: 0,
    };
    let recovered = log::replay(disk, dir, base, ahead, foresee, &mut |group| replay.group(group));
    let Replay { head, marks, .. } = replay;
    head.give_back(&marks);
    let recovered = recovered?;
    head.seal();
    head.committed(recovered.last);
    head.reclaim(usize::MAX);
    Ok(recovered)
}

struct Replay<'a> {
    head: &'a mut Head,
    marks: Arc<Marks>,
    changes: Changes,
    hashes: Vec<PathHash>,
    ahead: Ahead,
    applied: u32,
}

impl Replay<'_> {
    fn group(&mut self, group: &Group<Option<ForeseenTxn>>) -> Result<(), (usize, String)> {
        let mut next = group.entries();
        for (index, entry) in group.entries().enumerate() {
            if index % FETCHED == 0 {
                self.fetch(next.by_ref().take(FETCHED).filter_map(|entry| *entry.foreseen));
            }
            self.entry(entry.zxid, entry.bytes, *entry.foreseen).map_err(|reason| (index, reason))?;
        }
        self.head.mark(&self.marks);
        Ok(())
    }

    fn fetch(&mut self, txns: impl Iterator<Item = ForeseenTxn>) {
        self.hashes.clear();
        txns.for_each(|txn| self.hashes.extend(txn.hashes()));
        self.head.fetch_ahead(&self.hashes, &mut self.ahead);
    }

    fn entry(&mut self, zxid: Zxid, entry: &[u8], foreseen: Option<ForeseenTxn>) -> Result<(), String> {
        let bytes = entry.len();
        if !self.head.fits(bytes) {
            return Err("the tree is larger than this server holds: see ostler.treeMemory".into());
        }
        let (entry, taken) = TxnEntry::decode(entry).map_err(|error| error.to_string())?;
        if taken != bytes {
            return Err(format!("{} bytes stand behind the txn, which are no digest", bytes - taken));
        }
        self.head.apply_foreseen(&entry.header, &entry.body, foreseen, &mut self.changes);
        self.changes.list.clear();
        self.changes.text.clear();
        self.applied = self.applied.wrapping_add(1);
        // Nobody reads yet: what was replaced is freed as replay goes on.
        if self.applied.is_multiple_of(limits::BATCH_TXNS_MAX_DEFAULT) {
            self.head.seal();
            self.head.committed(zxid);
            self.head.reclaim(usize::MAX);
        }
        Ok(())
    }
}
