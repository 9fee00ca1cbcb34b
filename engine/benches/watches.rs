//! Watch tables: firing ten thousand watchers, a change with a million watches elsewhere, and bytes per watch in the
//! two shapes that matter (printed: resident memory before and after, by the kernel's count).
//! Paths are of production shape: 115 characters.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ostler_engine::worker::watch::{HashKey, Hit, Mode, Trigger, Watches};
use std::hint::black_box;

const WATCHERS: u32 = 10_000;
const MILLION: u32 = 1_000_000;

fn path(number: u32) -> String {
    format!("/{}/{}/{}/{number:024}", "a".repeat(30), "b".repeat(30), "c".repeat(27))
}

fn watches() -> Watches {
    Watches::new(HashKey([0x1234, 0x5678]))
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn spread() -> Watches {
    let mut watches = watches();
    for number in 0..MILLION {
        watches.add(&path(number), Some(number), number % 1000, Mode::Data);
    }
    watches
}

/// Prints what a million watches cost, once.
fn memory(_: &mut Criterion) {
    let before = resident_bytes();
    let spread = spread();
    let after = resident_bytes();
    println!(
        "watches/memory spread over 1 M znodes: {:.1} bytes each",
        (after - before) as f64 / MILLION as f64
    );
    drop(spread);
    let before = resident_bytes();
    let mut one = watches();
    let path = path(1);
    (0..MILLION).for_each(|slot| one.add(&path, Some(1), slot, Mode::Data));
    let after = resident_bytes();
    println!(
        "watches/memory 1 M connections on one znode: {:.1} bytes each, of which 4 are the connection's own",
        (after.saturating_sub(before)) as f64 / MILLION as f64
    );
    black_box(one);
}

fn change(watches: &mut Watches, path: &str, hits: &mut Vec<Hit>) {
    let quick = watches.quick(path);
    watches.approach(quick);
    watches.fire(Trigger::DataChanged, path, quick, hits);
}

fn fire(c: &mut Criterion) {
    let path = path(1);
    let mut group = c.benchmark_group("watches");
    group.throughput(Throughput::Elements(WATCHERS.into()));
    for (name, mode) in [("fire 10 k persistent", Mode::Persistent), ("fire 10 k one-shot", Mode::Data)] {
        let mut hits = Vec::with_capacity(WATCHERS as usize);
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || {
                    let mut watches = watches();
                    (0..WATCHERS).for_each(|slot| watches.add(&path, Some(1), slot, mode));
                    watches
                },
                |watches| {
                    hits.clear();
                    change(watches, &path, &mut hits);
                    assert_eq!(hits.len(), WATCHERS as usize);
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Connections that all watch the same znodes hang up one after the other: per watch this must not depend on how many
/// they are.
fn hang_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("watches");
    let paths: Vec<String> = (0..20).map(path).collect();
    for crowd in [1_000u32, 10_000, 100_000] {
        group.throughput(Throughput::Elements(u64::from(crowd) * paths.len() as u64));
        group.bench_function(format!("{crowd} connections with 20 shared watches hang up"), |b| {
            b.iter_batched_ref(
                || {
                    let mut watches = watches();
                    for slot in 0..crowd {
                        for (node, path) in paths.iter().enumerate() {
                            watches.add(path, Some(node as u32), slot, Mode::Data);
                        }
                    }
                    watches
                },
                |watches| {
                    (0..crowd).for_each(|slot| watches.drop_connection(slot));
                    assert!(watches.is_empty());
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn elsewhere(c: &mut Criterion) {
    let changed = format!("{}/child", path(0));
    let mut hits = Vec::new();
    let mut group = c.benchmark_group("watches");
    let mut few = watches();
    few.add("/x", None, 1, Mode::Data);
    group.bench_function("change, one watch elsewhere", |b| {
        b.iter(|| change(&mut few, black_box(&changed), &mut hits));
    });
    let mut many = spread();
    group.bench_function("change, 1 M watches elsewhere", |b| {
        b.iter(|| change(&mut many, black_box(&changed), &mut hits));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = memory, fire, hang_up, elsewhere
}
criterion_main!(benches);
