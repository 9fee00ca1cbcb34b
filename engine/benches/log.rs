//! The log's costs: encoding a record, making and syncing a batch by method, the hand-off between threads, replaying.
//!
//! `cargo bench -p ostler-engine --bench log`. Syncs and replays run in the system's temporary directory (`TMPDIR`): put
//! it on the disk in question.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ostler_engine::io::disk::{Disk, RealDisk};
use ostler_engine::log::{
    FileId, LogAnswer, LogEvent, LogSettings, LogThread, LogWriter, Method, RecoverSettings, Spares,
    put_record, recover,
};
use ostler_replication::{Proposal, Zxid};
use std::collections::VecDeque;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

fn entry(zxid: u64, bytes: usize) -> Vec<u8> {
    let mut entry = vec![7; bytes];
    entry[12..20].copy_from_slice(&zxid.to_be_bytes());
    entry
}

fn batch(from: u64, records: u64, bytes: usize) -> Proposal {
    let mut encoded = Vec::new();
    for zxid in from..from + records {
        encoded.extend_from_slice(&(bytes as u32).to_be_bytes());
        encoded.extend_from_slice(&entry(zxid, bytes));
    }
    Proposal { first: Zxid(from), last: Zxid(from + records - 1), records: encoded.into() }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    for bytes in [64, 300, 1024, 65_536] {
        let entry = entry(1, bytes);
        let mut out = Vec::with_capacity(bytes + 64);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter(|| {
                out.clear();
                put_record(&mut out, FileId([1, 2, 3, 4]), 4096, false, black_box(&entry));
                out.len()
            });
        });
    }
    group.finish();
}

fn sync(c: &mut Criterion) {
    let mut group = c.benchmark_group("append and sync");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for method in [Method::Direct, Method::Mapped, Method::Pwrite] {
        for records in [1, 16, 256] {
            let temp = tempfile::tempdir().unwrap();
            let disk: Arc<dyn Disk> = Arc::new(RealDisk);
            let settings = LogSettings { method, ..LogSettings::new(temp.path()) };
            let spares = Spares::open(disk.clone(), &settings, true, Box::new(|_| {})).unwrap();
            let pool = spares.clone();
            let maker = std::thread::spawn(move || pool.run());
            let mut log = LogWriter::new(disk, settings, spares.clone(), Zxid(0));
            group.throughput(Throughput::Elements(records));
            group.bench_function(BenchmarkId::new(format!("{method:?}"), records), |b| {
                b.iter(|| {
                    let next = batch(log.last().0 + 1, records, 300);
                    log.append(std::iter::once(&next)).unwrap();
                });
            });
            spares.close();
            maker.join().unwrap();
        }
    }
    group.finish();
}

/// From `append` to the `Durable` event, without the disk.
fn hand_off(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let (tell, events) = channel();
    let settings = LogSettings { sync: false, ..LogSettings::new(temp.path()) };
    let log = LogThread::start(Arc::new(RealDisk), settings, Zxid(0), move |event| {
        if let LogEvent::Answer(LogAnswer::Durable(zxid)) = event {
            // The bench may be over.
            let _ = tell.send(zxid);
        }
    })
    .unwrap();
    let mut next = 1;
    let mut group = c.benchmark_group("hand-off");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    group.bench_function("to the log thread and back, unsynced", |b| {
        b.iter(|| {
            log.append(&mut VecDeque::from([batch(next, 1, 300)]));
            next += 1;
            events.recv().unwrap()
        });
    });
    group.finish();
    log.stop();
}

fn replay(c: &mut Criterion) {
    const RECORDS: u64 = 200_000;
    let temp = tempfile::tempdir().unwrap();
    fill(temp.path(), RECORDS);
    let mut group = c.benchmark_group("replay from the page cache");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Bytes(RECORDS * 321));
    group.bench_function("300-byte records", |b| {
        b.iter(|| {
            let mut bytes = 0;
            let settings = RecoverSettings { repair: false, alone: false, until: None };
            recover(&RealDisk, temp.path(), Zxid(0), settings, &mut |_, entry| {
                bytes += entry.len();
                Ok(())
            })
            .unwrap();
            bytes
        });
    });
    group.finish();
}

fn fill(dir: &Path, records: u64) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let settings = LogSettings { sync: false, ..LogSettings::new(dir) };
    let spares = Spares::open(disk.clone(), &settings, false, Box::new(|_| {})).unwrap();
    let mut log = LogWriter::new(disk, settings, spares, Zxid(0));
    for from in (1..=records).step_by(1000) {
        log.append(std::iter::once(&batch(from, 1000, 300))).unwrap();
    }
    log.close().unwrap();
}

criterion_group!(benches, encode, hand_off, replay, sync);
criterion_main!(benches);
