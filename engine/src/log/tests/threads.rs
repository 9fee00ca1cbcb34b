//! The running log: proposals in, events out, files left behind.

use super::*;
use crate::io::disk::{Open, RealDisk};
use crate::io::disk_sim::SimDisk;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Queues one proposal, or gives it back.
fn append(log: &LogThread, proposal: Proposal) -> Result<(), Proposal> {
    let mut proposals = VecDeque::from([proposal]);
    log.append(&mut proposals);
    proposals.pop_front().map_or(Ok(()), Err)
}

fn start(dir: &Path, last: u64) -> (LogThread, Receiver<LogEvent>) {
    start_on(Arc::new(RealDisk), dir, last)
}

fn start_on(disk: Arc<dyn Disk>, dir: &Path, last: u64) -> (LogThread, Receiver<LogEvent>) {
    let (tell, events) = channel();
    let settings = settings(dir, Method::Mapped);
    let log = LogThread::start(disk, settings, Zxid(last), move |event| {
        // A test that has seen enough may have dropped its end.
        let _ = tell.send(event);
    });
    (log.unwrap(), events)
}

fn durable(events: &Receiver<LogEvent>, last: u64) {
    loop {
        match events.recv_timeout(Duration::from_secs(20)).expect("the log answers") {
            LogEvent::Answer(LogAnswer::Durable(zxid)) if zxid == Zxid(last) => return,
            LogEvent::Answer(LogAnswer::Durable(zxid)) => assert!(zxid < Zxid(last)),
            LogEvent::Synced { txns, .. } => assert!(txns > 0),
            LogEvent::Space(level) => assert_eq!(level, LogSpace::Ok),
            LogEvent::Answer(other) => panic!("{other:?}"),
            LogEvent::Failed(failure) => panic!("{failure}"),
        }
    }
}

#[test]
fn proposals_become_durable_in_order_and_survive_restarts() {
    let temp = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let (log, events) = start(temp.path(), last);
        for _ in 0..200 {
            let mut next = batch(last + 1, last + 7);
            last += 7;
            while let Err(back) = append(&log, next) {
                next = back;
                std::thread::yield_now();
            }
        }
        durable(&events, last);
        log.push(LogCommand::Roll);
        assert!(append(&log, batch(last + 1, last + 1)).is_ok());
        last += 1;
        durable(&events, last);
        assert!(names(&RealDisk, temp.path()).contains(&format!("log.{last:x}")));
        log.stop();
        let (recovered, seen) = replay(&RealDisk, temp.path(), 0).unwrap();
        assert_eq!(recovered.last, Zxid(last));
        assert_eq!(seen.len() as u64, last);
        assert_eq!(recovered.cut, None);
    }
}

#[test]
fn a_retired_file_becomes_a_spare_without_its_records() {
    let temp = tempfile::tempdir().unwrap();
    let (log, events) = start(temp.path(), 0);
    let mut last = 0;
    for _ in 0..30 {
        assert!(append(&log, batch(last + 1, last + 300)).is_ok());
        last += 300;
        durable(&events, last);
        let files = log_files(&RealDisk, temp.path()).unwrap();
        for old in &files[..files.len().saturating_sub(2)] {
            log.handle().retire(&old.path, old.bytes).unwrap();
        }
    }
    log.stop();
    let first = log_files(&RealDisk, temp.path()).unwrap()[0].first;
    let (recovered, _) = replay(&RealDisk, temp.path(), first.0 - 1).unwrap();
    assert_eq!(recovered.last, Zxid(last));
}

#[test]
fn a_failed_sync_is_told_once_and_ends_the_log() {
    let disk = SimDisk::new();
    let (log, events) = start_on(Arc::new(disk.clone()), Path::new("/log"), 0);
    assert!(append(&log, batch(1, 3)).is_ok());
    durable(&events, 3);
    // The spares are ready: what fails next is the log's own.
    while disk.list(Path::new("/log")).unwrap().len() < 3 {
        std::thread::yield_now();
    }
    let from = disk.calls();
    for call in from..from + 1000 {
        disk.fail_at(call, libc::EIO);
    }
    assert!(append(&log, batch(4, 4)).is_ok());
    let failure = loop {
        match events.recv_timeout(Duration::from_secs(20)).expect("the failure is told") {
            LogEvent::Failed(failure) => break failure,
            LogEvent::Answer(answer) => panic!("nothing can be durable: {answer:?}"),
            LogEvent::Space(_) | LogEvent::Synced { .. } => {}
        }
    };
    assert!(failure.to_string().contains("must not be acknowledged"), "{failure}");
    while append(&log, batch(5, 5)).is_ok() {}
    log.stop();
    assert!(events.try_iter().all(|event| !matches!(event, LogEvent::Answer(LogAnswer::Durable(_)))));
}

#[test]
fn a_full_disk_holds_writes_back_until_there_is_space() {
    let disk = SimDisk::new();
    let dir = Path::new("/log");
    disk.set_capacity(Some(4 * (64 << 10)));
    let (log, events) = start_on(Arc::new(disk.clone()), dir, 0);
    let mut told = Vec::new();
    let mut last = 0;
    let mut acknowledged = 0;
    while told.last() != Some(&LogSpace::Full) {
        if append(&log, batch(last + 1, last + 100)).is_ok() {
            last += 100;
        }
        for event in events.try_iter() {
            match event {
                LogEvent::Answer(LogAnswer::Durable(zxid)) => acknowledged = zxid.0,
                LogEvent::Space(level) => told.push(level),
                LogEvent::Answer(other) => panic!("{other:?}"),
                LogEvent::Failed(failure) => panic!("{failure}"),
                LogEvent::Synced { .. } => {}
            }
        }
        std::thread::yield_now();
    }
    assert_eq!(told.first(), Some(&LogSpace::Ok));
    assert!(told.contains(&LogSpace::Floor));
    assert!(acknowledged < last);
    // What a purge gives back is used at once, and what waited goes through.
    let oldest = log_files(&disk, dir).unwrap().remove(0);
    log.handle().retire(&oldest.path, oldest.bytes).unwrap();
    let more = disk.clone();
    more.set_capacity(None);
    log.handle().retry_space();
    loop {
        match events.recv_timeout(Duration::from_secs(20)).expect("writes go on") {
            LogEvent::Answer(LogAnswer::Durable(zxid)) if zxid == Zxid(last) => break,
            LogEvent::Answer(LogAnswer::Durable(_)) | LogEvent::Space(_) => {}
            LogEvent::Answer(other) => panic!("{other:?}"),
            LogEvent::Failed(failure) => panic!("{failure}"),
            LogEvent::Synced { .. } => {}
        }
    }
    let second = log_files(&disk, dir).unwrap()[0].first.0;
    log.stop();
    let (recovered, seen) = replay(&disk, dir, second - 1).unwrap();
    assert_eq!((recovered.last, seen.len() as u64), (Zxid(last), last - second + 1));
}

#[test]
fn stopping_on_a_full_disk_drops_only_what_was_not_acknowledged() {
    let disk = SimDisk::new();
    let dir = Path::new("/log");
    disk.set_capacity(Some(1000));
    let (log, events) = start_on(Arc::new(disk.clone()), dir, 0);
    assert!(append(&log, batch(1, 3)).is_ok());
    loop {
        if let LogEvent::Space(LogSpace::Full) = events.recv_timeout(Duration::from_secs(20)).unwrap() {
            break;
        }
    }
    log.stop();
    assert_eq!(replay(&disk, dir, 0).unwrap().0.last, Zxid(0));
}

/// A disk whose code has a bug where segments are made.
struct Buggy(SimDisk);

impl Disk for Buggy {
    fn open(&self, path: &Path, how: Open) -> std::io::Result<Box<dyn crate::io::disk::DiskFile>> {
        assert!(how != Open::Create || !path.to_string_lossy().contains("spare."), "a bug");
        self.0.open(path, how)
    }

    fn create_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<crate::io::disk::Listed>> {
        self.0.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.0.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> std::io::Result<()> {
        self.0.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> std::io::Result<u64> {
        self.0.free_bytes(dir)
    }

    fn fresh_id(&self) -> [u8; 4] {
        self.0.fresh_id()
    }
}

#[test]
fn a_panic_where_segments_are_made_ends_the_log() {
    let (log, events) = start_on(Arc::new(Buggy(SimDisk::new())), Path::new("/log"), 0);
    assert!(append(&log, batch(1, 3)).is_ok());
    match events.recv_timeout(Duration::from_secs(20)).expect("the failure is told") {
        LogEvent::Failed(failure) => assert!(failure.to_string().contains("panicked"), "{failure}"),
        other => panic!("{other:?}"),
    }
    log.stop();
}

#[test]
fn an_idle_log_leaves_a_mark() {
    let temp = tempfile::tempdir().unwrap();
    let (log, events) = start(temp.path(), 0);
    assert!(append(&log, batch(1, 3)).is_ok());
    durable(&events, 3);
    while mark::read(&RealDisk, temp.path()).unwrap().is_none_or(|mark| mark.last != Zxid(3)) {
        std::thread::yield_now();
    }
    log.stop();
}

/// A log past the page cache, its first file begun by a proposal that its thread wrote.
fn start_direct(disk: &SimDisk) -> (LogThread, Receiver<LogEvent>) {
    let (tell, events) = channel();
    let settings = settings(Path::new("/log"), Method::Direct);
    let log = LogThread::start(Arc::new(disk.clone()), settings, Zxid(0), move |event| {
        let _ = tell.send(event);
    });
    let log = log.unwrap();
    assert!(append(&log, batch(1, 1)).is_ok());
    durable(&events, 1);
    (log, events)
}

/// The log thread goes to sleep by and by; then the caller writes, and has heard of it when the call returns.
fn append_here(log: &LogThread, events: &Receiver<LogEvent>, proposal: Proposal) {
    let last = proposal.last;
    let mut proposals = VecDeque::from([proposal]);
    while !log.append_here(&mut proposals) {
        assert_eq!(proposals.len(), 1);
        std::thread::yield_now();
    }
    assert!(proposals.is_empty());
    assert!(
        events
            .try_iter()
            .any(|event| matches!(event, LogEvent::Answer(LogAnswer::Durable(zxid)) if zxid == last))
    );
}

#[test]
fn the_caller_and_the_thread_write_in_turn() {
    let disk = SimDisk::new();
    let (log, events) = start_direct(&disk);
    for round in 0..20 {
        let last = 2 + 4 * round;
        append_here(&log, &events, batch(last, last));
        append_here(&log, &events, batch(last + 1, last + 1));
        assert!(append(&log, batch(last + 2, last + 2)).is_ok());
        if round % 5 == 4 {
            log.push(LogCommand::Roll);
        }
        assert!(append(&log, batch(last + 3, last + 3)).is_ok());
        durable(&events, last + 3);
    }
    // What stands behind the last return is on the disk itself.
    append_here(&log, &events, batch(82, 82));
    let cut = disk.after_power_cut(&vec![0; disk.choices().len()]);
    assert_eq!(replay(&cut, Path::new("/log"), 0).unwrap().0.last, Zxid(82));
    log.stop();
    let (recovered, seen) = replay(&disk, Path::new("/log"), 0).unwrap();
    assert_eq!((recovered.last, seen.len(), recovered.cut), (Zxid(82), 82, None));
    assert_eq!(log_files(&disk, Path::new("/log")).unwrap().len(), 5);
}

#[test]
fn what_takes_more_than_one_write_is_left_to_the_thread() {
    let disk = SimDisk::new();
    let (log, events) = start_direct(&disk);
    append_here(&log, &events, batch(2, 2));
    let large = proposal(&[entry(3, crate::limits::LOG_HERE_BYTES_MAX)]);
    assert!(!log.append_here(&mut VecDeque::from([large])));
    // The first segment is smaller than this.
    let long = batch(3, 700);
    assert!(long.records.len() < crate::limits::LOG_HERE_BYTES_MAX);
    assert!(!log.append_here(&mut VecDeque::from([long.clone()])));
    assert!(append(&log, long).is_ok());
    durable(&events, 700);
    log.stop();
    // Through the page cache it is a store and a sync.
    let temp = Path::new("/mapped");
    let (log, events) = start_on(Arc::new(disk), temp, 0);
    assert!(append(&log, batch(1, 1)).is_ok());
    durable(&events, 1);
    assert!(!log.append_here(&mut VecDeque::from([batch(2, 2)])));
    log.stop();
}

#[test]
fn a_mark_follows_what_the_caller_wrote() {
    let disk = SimDisk::new();
    let (log, events) = start_direct(&disk);
    let dir = Path::new("/log");
    let wait_for = |last| {
        while mark::read(&disk, dir).unwrap().is_none_or(|mark| mark.last != Zxid(last)) {
            std::thread::yield_now();
        }
    };
    append_here(&log, &events, batch(2, 2));
    wait_for(2);
    // Now the thread sleeps without an end in sight.
    append_here(&log, &events, batch(3, 3));
    append_here(&log, &events, batch(4, 4));
    wait_for(4);
    log.stop();
}

#[test]
fn a_failed_write_of_the_callers_is_told_once_and_ends_the_log() {
    let disk = SimDisk::new();
    let (log, events) = start_direct(&disk);
    append_here(&log, &events, batch(2, 2));
    while disk.list(Path::new("/log")).unwrap().len() < 3 {
        std::thread::yield_now();
    }
    for call in disk.calls()..disk.calls() + 1000 {
        disk.fail_at(call, libc::EIO);
    }
    let mut proposals = VecDeque::from([batch(3, 3)]);
    while !log.append_here(&mut proposals) {
        std::thread::yield_now();
    }
    assert!(append(&log, batch(4, 4)).is_err());
    assert!(!log.append_here(&mut VecDeque::from([batch(4, 4)])));
    log.stop();
    let mark = mark::read(&disk.after_kill(), Path::new("/log")).unwrap();
    assert!(mark.is_none_or(|mark| mark.last <= Zxid(2)), "{mark:?}");
    let told: Vec<LogEvent> = events.try_iter().collect();
    assert_eq!(told.iter().filter(|event| matches!(event, LogEvent::Failed(_))).count(), 1);
    assert!(
        !told
            .iter()
            .any(|event| matches!(event, LogEvent::Answer(LogAnswer::Durable(zxid)) if *zxid > Zxid(2)))
    );
}

/// Runs only in the process that the next test starts.
#[test]
#[ignore = "helper: dies on purpose"]
fn dies_by_its_segment() {
    let temp = std::env::var_os("OSTLER_TEST_SEGMENT").expect("started by its test");
    let path = Path::new(&temp);
    mapping::stop_on_bus_error();
    let file = RealDisk.open(path, Open::Create).unwrap();
    file.allocate(8192).unwrap();
    file.set_len(8192).unwrap();
    let mut map = file.map().unwrap();
    map.store(5000, b"fine");
    // Pages without a file behind them fault as unreadable ones do.
    file.set_len(0).unwrap();
    map.store(5000, b"gone");
}

#[test]
fn a_disk_that_fails_under_a_mapping_ends_the_process_with_its_code() {
    let temp = tempfile::tempdir().unwrap();
    let segment = temp.path().join("log.7");
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log::tests::threads::dies_by_its_segment", "--ignored", "--nocapture"])
        .env("OSTLER_TEST_SEGMENT", &segment)
        .output()
        .unwrap();
    assert_eq!(child.status.code(), Some(EXIT_DISK));
    let said = String::from_utf8_lossy(&child.stderr).into_owned();
    assert!(said.contains(&format!("under log segment {}", segment.display())), "{said}");
}
