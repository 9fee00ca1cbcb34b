//! The running log: proposals in, events out, files left behind.

use super::*;
use crate::io::disk::RealDisk;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

fn start(dir: &Path, last: u64) -> (LogThread, Receiver<LogEvent>) {
    let (tell, events) = channel();
    let settings = settings(dir, Method::Mapped);
    let log = LogThread::start(Arc::new(RealDisk), settings, Zxid(last), move |event| {
        // A test that has seen enough may have dropped its end.
        let _ = tell.send(event);
    });
    (log.unwrap(), events)
}

fn durable(events: &Receiver<LogEvent>, last: u64) {
    loop {
        match events.recv_timeout(Duration::from_secs(20)).expect("the log answers") {
            LogEvent::Durable(zxid) if zxid == Zxid(last) => return,
            LogEvent::Durable(zxid) => assert!(zxid < Zxid(last)),
            LogEvent::Space(level) => assert_eq!(level, LogSpace::Ok),
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
            while let Err(back) = log.append(next) {
                next = back;
                std::thread::yield_now();
            }
        }
        durable(&events, last);
        log.roll();
        assert!(log.append(batch(last + 1, last + 1)).is_ok());
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
        assert!(log.append(batch(last + 1, last + 300)).is_ok());
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
