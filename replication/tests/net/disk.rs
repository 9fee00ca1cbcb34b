//! What stands on a host's disk, and how requests to its log are carried out. Not here: when (mod).

use super::{Net, Record, proposal, records};
use ostler_replication::{Epoch, Epochs, History, Input, Output, Zxid};

/// What survives a crash.
#[derive(Clone, Default, Hash)]
pub struct Disk {
    pub snapshot: (Zxid, Vec<Record>),
    pub log: Vec<Record>,
    pub epochs: (u32, u32),
}

impl Disk {
    pub fn last(&self) -> Zxid {
        self.log.last().map_or(self.snapshot.0, |record| record.0)
    }

    pub(super) fn world(&self) -> Vec<Record> {
        self.records().cloned().collect()
    }

    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.snapshot.1.iter().chain(&self.log)
    }

    pub fn epochs(&self) -> Epochs {
        Epochs { accepted: Epoch(self.epochs.0), current: Epoch(self.epochs.1) }
    }
}

impl Net {
    pub(super) fn log_one(&mut self, id: u64, answers: bool) {
        let Some((_, request)) = self.host(id).log.pop_front() else { return };
        let host = self.host(id);
        let input = match request {
            Output::Append { number, proposal } => {
                let mut last = number;
                host.disk.log.extend(records(&proposal));
                // One sync for all batches that wait.
                while let Some((_, Output::Append { number, proposal })) = host.log.front() {
                    last = *number;
                    host.disk.log.extend(records(proposal));
                    host.log.pop_front();
                }
                assert!(host.disk.log.windows(2).all(|pair| pair[0].0 < pair[1].0));
                Input::Durable { number: last, zxid: host.disk.last() }
            }
            Output::Persist { number, epochs } => {
                assert!(host.disk.epochs.0 <= epochs.accepted.0, "a promise is taken back");
                host.disk.epochs = (epochs.accepted.0, epochs.current.0);
                Input::Persisted { number, epochs }
            }
            Output::Truncate { number, to } => {
                let is_record =
                    to == host.disk.snapshot.0 || host.disk.log.iter().any(|record| record.0 == to);
                let done = is_record || (to.counter() == 0 && host.disk.snapshot.0 < to);
                if done {
                    host.disk.log.retain(|record| record.0 <= to);
                    // As the engine does: made anew from the disk, which may hold more than was applied.
                    host.core.world = host.disk.world();
                    host.core.shown = host.core.shown.min(host.core.world.len());
                }
                Input::Truncated { number, to: host.disk.last().min(to), done }
            }
            Output::Install { number, link, zxid } => {
                let place = host.ends.get(&link).copied();
                let taken = place.and_then(|(number, end)| {
                    self.connections.get_mut(&number).unwrap().ends[end].snapshot.take()
                });
                let done = taken.is_some();
                if let Some((at, world)) = taken {
                    assert_eq!(at, zxid, "the snapshot is exact at its zxid");
                    let host = self.host(id);
                    host.core.world = world.clone();
                    host.core.shown = 0;
                    host.disk.snapshot = (zxid, world);
                    host.disk.log.clear();
                }
                Input::Installed { number, zxid, done }
            }
            _ => unreachable!("not for the log"),
        };
        self.check_disk(id);
        if answers {
            self.step(id, input);
        }
    }

    pub(super) fn read(&mut self, id: u64) {
        let Some((_, Output::ReadHistory { number, link, after, to })) = self.host(id).reads.pop_front()
        else {
            return;
        };
        let disk = &self.hosts[&id].disk;
        let base = disk.snapshot.0;
        let from = disk
            .log
            .iter()
            .map(|r| r.0)
            .rev()
            .find(|&zxid| zxid <= after)
            .or((base <= after).then_some(base));
        let wanted: Vec<Record> = disk.log.iter().filter(|r| after < r.0 && r.0 <= to).cloned().collect();
        if from.is_none() {
            let history = History { from: None, records: None, is_last: true };
            return self.step(id, Input::History { link, number, history });
        }
        let pieces: Vec<Vec<Record>> = runs(&wanted);
        for piece in &pieces {
            let history = History { from, records: Some(proposal(piece)), is_last: false };
            self.step(id, Input::History { link, number, history });
        }
        let history = History { from, records: None, is_last: true };
        self.step(id, Input::History { link, number, history });
    }
}

/// Contiguous runs of at most three records.
fn runs(records: &[Record]) -> Vec<Vec<Record>> {
    let mut runs: Vec<Vec<Record>> = Vec::new();
    for record in records {
        match runs.last_mut() {
            Some(run) if run.len() < 3 && run[run.len() - 1].0.successor() == Some(record.0) => {
                run.push(record.clone())
            }
            _ => runs.push(vec![record.clone()]),
        }
    }
    runs
}
