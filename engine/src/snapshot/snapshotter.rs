//! The thread that writes snapshots beside live traffic: one at a time, at the lowest CPU priority.
//! Not here: when a snapshot is due, what is pinned for it; the core decides and is told the outcome.

use super::codec::Compression;
use super::writer::{self, Progress, WriteError, Written};
use super::{SnapshotSource, priority};
use crate::io::disk::Disk;
use ostler_replication::Zxid;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// One snapshot to write. Dropping the source unpins what it holds.
pub struct Job {
    pub source: Box<dyn SnapshotSource + Send>,
    pub compression: Compression,
    /// Asked after every portion of [`writer::PORTION_BYTES`]; breaks off when, for example, the memory retained for the
    /// source passes its bound.
    pub go_on: Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>,
}

/// What became of a job.
#[derive(Debug)]
pub struct Outcome {
    pub zxid: Zxid,
    pub result: Result<Written, WriteError>,
}

/// Handle of the thread. Dropping it lets a running job finish and then ends the thread.
pub struct Snapshotter {
    jobs: Option<SyncSender<Job>>,
    /// From taking a job until just before its outcome is told.
    busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshotter {
    /// Starts the thread; snapshots go to `dir` (a `version-2`). `done` is called on the thread, after the job's source
    /// has been dropped.
    pub fn spawn(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        mut done: impl FnMut(Outcome) + Send + 'static,
    ) -> io::Result<Snapshotter> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let ours = Arc::clone(&busy);
        let thread = std::thread::Builder::new().name("ostler-snap".into()).spawn(move || {
            priority::lowest();
            for Job { source, compression, mut go_on } in queue {
                let zxid = source.zxid();
                let result = writer::write(&*disk, &dir, &*source, compression, &mut *go_on);
                drop(source);
                drop(go_on);
                ours.store(false, Ordering::Release);
                done(Outcome { zxid, result });
            }
        })?;
        Ok(Snapshotter { jobs: Some(jobs), busy, thread: Some(thread) })
    }

    /// Hands a job over, or gives it back when one is being written: none waits here with its source pinned.
    pub fn offer(&self, job: Job) -> Result<(), Box<Job>> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(Box::new(job));
        }
        let jobs = self.jobs.as_ref().expect("only drop takes the sender");
        // The channel has room for one and only who set `busy` sends; the thread lives as long as the sender.
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => Box::new(job),
        })
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed where it happened.
            let _ = thread.join();
        }
    }
}
