//! Writes snapshots beside live traffic: one at a time, on a thread of its own at a low CPU priority. Where the CPUs
//! are busy all the time that may be too little to finish before too much memory is retained; so the attempt behind one
//! that was given up has the priority of every other thread. A thread cannot raise its own: each job gets a new one.
//! Not here: when a snapshot is due, what is pinned for it; the core decides and is told the outcome.

use super::codec::Compression;
use super::writer::{self, Progress, WriteError, Written};
use super::{SnapshotSource, priority};
use crate::io::disk::Disk;
use ostler_replication::Zxid;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Dropping it waits for a running job.
pub struct Snapshotter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    done: Arc<dyn Fn(Outcome) + Send + Sync>,
    /// From taking a job until just before its outcome is told.
    busy: Arc<AtomicBool>,
    /// The last job was given up.
    hurry: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshotter {
    /// Snapshots go to `dir` (a `version-2`). `done` is called on the job's thread, after its source has been dropped.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        done: impl Fn(Outcome) + Send + Sync + 'static,
    ) -> Snapshotter {
        let (busy, hurry) = Default::default();
        Snapshotter { disk, dir, done: Arc::new(done), busy, hurry, thread: None }
    }

    /// Begins a job. False when another one is being written, for none waits with its source pinned, or when the system
    /// has no thread for it.
    pub fn offer(&mut self, job: Job) -> bool {
        if self.busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.join();
        let (disk, dir, done) = (self.disk.clone(), self.dir.clone(), self.done.clone());
        let (busy, hurry) = (self.busy.clone(), self.hurry.clone());
        let thread = std::thread::Builder::new().name("ostler-snap".into()).spawn(move || {
            if !hurry.load(Ordering::Relaxed) {
                priority::lower();
            }
            let Job { source, compression, mut go_on } = job;
            let zxid = source.zxid();
            let result = writer::write(&*disk, &dir, &*source, compression, &mut *go_on);
            drop(source);
            drop(go_on);
            hurry.store(matches!(result, Err(WriteError::GivenUp { .. })), Ordering::Relaxed);
            busy.store(false, Ordering::Release);
            done(Outcome { zxid, result });
        });
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(_) => self.busy.store(false, Ordering::Release),
        }
        self.thread.is_some()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        self.join();
    }
}
