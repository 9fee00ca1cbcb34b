//! The world by itself: reads one at a time and in prefetched groups of 64, setData, create and delete, over trees of
//! the production shape (path of 115 characters, last component 24, data 46). Prints memory per znode.
//! `cargo bench -p ostler-engine --bench tree -- get` runs a part; sizes are 1 k, 100 k and 1 M znodes.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ostler_engine::model::{SessionId, WallMillis, Xid};
use ostler_engine::wire::{AclBytes, Create, CreateKind, TxnBody, TxnHeader};
use ostler_engine::world::{Ahead, Changes, Head, Settings, View};
use ostler_replication::Zxid;
use std::hint::black_box;

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const GROUP: usize = 64;
/// Children of each innermost directory.
const FAN_OUT: usize = 100;

struct Tree {
    head: Head,
    changes: Changes,
    zxid: u64,
}

impl Tree {
    fn new() -> Tree {
        let head = Head::new(Settings { hash_seed: [0x1234_5678, 0x9abc_def0], digests: true });
        Tree { head, changes: Changes::default(), zxid: 0 }
    }

    fn apply(&mut self, body: &TxnBody<'_>) {
        self.zxid += 1;
        let (zxid, time) = (Zxid(self.zxid), WallMillis(1_700_000_000_000 + self.zxid as i64));
        let header = TxnHeader { session: SessionId(1), cxid: Xid(1), zxid, time, kind: body.kind() };
        let result = self.head.apply(&header, body, &mut self.changes);
        assert_eq!(result.error, 0);
        if self.zxid.is_multiple_of(32) {
            self.settle();
        }
    }

    /// Ends a batch as the core does, with no reader left behind.
    fn settle(&mut self) {
        drop(self.head.seal());
        self.head.committed(Zxid(self.zxid));
        self.head.reclaim(200);
        self.changes = Changes::default();
    }

    fn create(&mut self, path: &str, data: &[u8]) {
        let kind = CreateKind::Plain { create2: false, ephemeral: false };
        let (path, data) = (path.into(), Some(data.into()));
        self.apply(&TxnBody::Create(Create { path, data, acl: AclBytes::OPEN, kind, parent_cversion: -1 }));
    }

    fn set(&mut self, path: &str, data: &[u8], version: i32) {
        self.apply(&TxnBody::SetData { path: path.into(), data: Some(data.into()), version });
    }
}

/// A tree of about `count` znodes of the production shape, and the paths of its leaves in no order.
fn production(count: usize) -> (Tree, Vec<String>) {
    let mut tree = Tree::new();
    let (mut paths, mut top, mut n) = (Vec::with_capacity(count), String::new(), 0usize);
    while paths.len() < count {
        if n.is_multiple_of(FAN_OUT * FAN_OUT) {
            top = format!("/production/cluster-{:019}", n / FAN_OUT / FAN_OUT);
            if n == 0 {
                tree.create("/production", b"");
            }
            tree.create(&top, b"");
            tree.create(&format!("{top}/services-in-use-here"), b"");
        }
        let directory =
            format!("{top}/services-in-use-here/shard-of-this-tree-{:010}", n / FAN_OUT % FAN_OUT);
        tree.create(&directory, b"");
        for _ in 0..FAN_OUT.min(count - paths.len()) {
            let path = format!("{directory}/instance-{n:015}");
            tree.create(&path, &[b'x'; 46]);
            paths.push(path);
            n += 1;
        }
    }
    tree.settle();
    while tree.head.reclaim(10_000) == 10_000 {}
    // A fixed shuffle: strides by a prime.
    let length = paths.len();
    let order: Vec<usize> = (0..length).map(|at| at * 7_368_787 % length).collect();
    let mut shuffled: Vec<String> = order.into_iter().map(|at| paths[at].clone()).collect();
    shuffled.dedup();
    (tree, shuffled)
}

fn memory(name: &str, tree: &Tree, before: u64) {
    let (usage, znodes) = (tree.head.usage(), tree.head.totals().znodes);
    let each = |bytes: u64| bytes as f64 / znodes as f64;
    println!(
        "{name}: {znodes} znodes; records, data and sets {:.1} B each, index {:.1} B each, resident growth {:.1} B each",
        each(usage.blocks),
        each(usage.index),
        each(resident().saturating_sub(before)),
    );
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn get(criterion: &mut Criterion) {
    for size in SIZES {
        let before = resident();
        let (mut tree, paths) = production(size);
        let path_bytes: usize = paths.iter().map(String::len).sum::<usize>() + paths.len() * 24;
        memory(&format!("{size}"), &tree, before + path_bytes as u64);
        let view = tree.head.seal();
        let mut group = criterion.benchmark_group("get");
        group.throughput(Throughput::Elements(1));
        let mut at = 0;
        group.bench_function(BenchmarkId::new("single", size), |bencher| {
            bencher.iter(|| {
                at = if at + 1 == paths.len() { 0 } else { at + 1 };
                black_box(view.get(&paths[at]).expect("it is there").stat())
            });
        });
        group.bench_function(BenchmarkId::new("missing", size), |bencher| {
            bencher.iter(|| {
                at = if at + 1 == paths.len() { 0 } else { at + 1 };
                black_box(view.get(&paths[at][..114]).is_none())
            });
        });
        group.throughput(Throughput::Elements(GROUP as u64));
        let mut ahead = Ahead::default();
        group.bench_function(BenchmarkId::new("of 64", size), |bencher| {
            bencher.iter(|| {
                at = if at + 2 * GROUP >= paths.len() { 0 } else { at + GROUP };
                read_group(&view, &paths[at..at + GROUP], &mut ahead)
            });
        });
        group.finish();
    }
}

fn read_group(view: &View, paths: &[String], ahead: &mut Ahead) -> i64 {
    let mut hashes = [view.hash(""); GROUP];
    hashes.iter_mut().zip(paths).for_each(|(hash, path)| *hash = view.hash(path));
    view.fetch_ahead(hashes.iter().copied(), ahead);
    let nodes =
        hashes.iter().zip(paths).map(|(hash, path)| view.get_hashed(*hash, path).expect("it is there"));
    nodes.map(|node| i64::from(black_box(node.stat()).version)).sum()
}

fn set_data(criterion: &mut Criterion) {
    for size in SIZES {
        let (mut tree, paths) = production(size);
        let (mut at, mut version) = (0, 0);
        let mut group = criterion.benchmark_group("setData");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                at = if at + 1 == paths.len() { 0 } else { at + 1 };
                version += 1;
                tree.set(&paths[at], &[b'y'; 46], version);
            });
        });
        group.finish();
    }
}

/// create, exists and delete under one znode with few or many children.
fn children(criterion: &mut Criterion) {
    for count in [10, 1_000_000] {
        let mut tree = Tree::new();
        tree.create("/p", b"");
        for n in 0..count {
            tree.create(&format!("/p/child-{n:018}"), &[b'x'; 46]);
        }
        let mut group = criterion.benchmark_group("under");
        group.throughput(Throughput::Elements(1));
        let mut next = 0u64;
        group.bench_function(BenchmarkId::new("create and delete", count), |bencher| {
            bencher.iter_batched(
                || {
                    next += 1;
                    format!("/p/fresh-{next:018}")
                },
                |path| {
                    tree.create(&path, &[b'x'; 46]);
                    tree.apply(&TxnBody::Delete { path: path.as_str().into() });
                },
                BatchSize::SmallInput,
            );
        });
        let view = tree.head.seal();
        let mut at = 0;
        group.bench_function(BenchmarkId::new("exists", count), |bencher| {
            bencher.iter_batched(
                || {
                    at = (at + 7_368_787) % count;
                    format!("/p/child-{at:018}")
                },
                |path| view.get(&path).expect("it is there").stat(),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

fn stat(criterion: &mut Criterion) {
    let (mut tree, paths) = production(1_000);
    tree.set(&paths[0], b"changed", 1);
    let view = tree.head.seal();
    let mut group = criterion.benchmark_group("stat");
    for (name, path) in [("fresh", &paths[1]), ("changed", &paths[0])] {
        let node = view.get(path).expect("it is there");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(black_box(&node).stat())));
    }
    group.bench_function("hash of 115", |bencher| bencher.iter(|| view.hash(black_box(&paths[0]))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(500));
    targets = stat, get, set_data, children
}
criterion_main!(benches);
