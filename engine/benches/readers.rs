//! CPU per read with one reader thread and with two, beside a core that publishes a batch of 32 setDatas five thousand
//! times a second: what readers cost each other (goal P17: at most 1.05 times). Counted is the readers' own CPU time, so
//! that three threads may share two CPUs. `cargo bench -p ostler-engine --bench readers`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ostler_engine::model::{SessionId, WallMillis, Xid};
use ostler_engine::ring::{Publisher, Subscriber, Wake, ring};
use ostler_engine::wire::{AclBytes, Create, CreateKind, TxnBody, TxnHeader};
use ostler_engine::world::{Ahead, Changes, Head, Settings, View};
use ostler_replication::Zxid;
use std::hint::black_box;
use std::time::Duration;

const ZNODES: usize = 100_000;
const BATCH: usize = 32;
const GROUP: usize = 64;
const BETWEEN_BATCHES: Duration = Duration::from_micros(200);

struct NobodySleeps;

impl Wake for NobodySleeps {
    fn wake(&self) {}
}

struct Core {
    head: Head,
    changes: Changes,
    zxid: u64,
    paths: Vec<String>,
}

impl Core {
    fn new() -> Core {
        let head = Head::new(Settings { hash_seed: [0x1234_5678, 0x9abc_def0], digests: true });
        let mut core = Core { head, changes: Changes::default(), zxid: 0, paths: Vec::new() };
        let kind = CreateKind::Plain { create2: false, ephemeral: false };
        let create = |path: &str| {
            TxnBody::Create(Create {
                path: path.to_owned().into(),
                data: Some(vec![b'x'; 46].into()),
                acl: AclBytes::OPEN,
                kind,
                parent_cversion: -1,
            })
        };
        for number in 0..ZNODES {
            let parent = format!("/services-of-a-production-cluster-{:040}", number / 1000);
            if number.is_multiple_of(1000) {
                core.apply(&create(&parent));
            }
            let path = format!("{parent}/instance-{number:015}");
            core.apply(&create(&path));
            core.paths.push(path);
            if number.is_multiple_of(BATCH) {
                drop(core.seal());
            }
        }
        core
    }

    fn apply(&mut self, body: &TxnBody<'_>) {
        self.zxid += 1;
        let (zxid, time) = (Zxid(self.zxid), WallMillis(1_700_000_000_000 + self.zxid as i64));
        let header = TxnHeader { session: SessionId(1), cxid: Xid(1), zxid, time, kind: body.kind() };
        assert_eq!(self.head.apply(&header, body, &mut self.changes).error, 0);
    }

    fn seal(&mut self) -> View {
        let view = self.head.seal();
        self.head.committed(Zxid(self.zxid));
        self.head.reclaim(200);
        self.changes = Changes::default();
        view
    }

    fn publish_batch(&mut self, publisher: &mut Publisher<View>) {
        for _ in 0..BATCH {
            let path = self.paths[(self.zxid as usize * 7_919) % ZNODES].clone();
            let body = TxnBody::SetData {
                path: path.into(),
                data: Some(vec![b'y'; 46].into()),
                version: self.zxid as i32,
            };
            self.apply(&body);
        }
        let view = self.seal();
        // A full ring means that readers lag: they will find the next one.
        let _ = publisher.publish(view, |_, _, _| false);
    }
}

/// CPU time of the calling thread.
fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.expect("Linux tells a thread its run time"))
}

/// `count` reads in groups, as a worker serves them, moving on with the ring between groups.
fn read(subscriber: &mut Subscriber<View>, paths: &[String], mut at: usize, count: u64) -> Duration {
    let mut ahead = Ahead::default();
    let begin = own_cpu();
    for _ in 0..count.div_ceil(GROUP as u64) {
        while subscriber.take().is_some() {}
        let view = subscriber.current();
        at = (at + 7_368_787) % (paths.len() - GROUP);
        let group = &paths[at..at + GROUP];
        let mut hashes = [view.hash(""); GROUP];
        hashes.iter_mut().zip(group).for_each(|(hash, path)| *hash = view.hash(path));
        view.fetch_ahead(hashes.iter().copied(), &mut ahead);
        for (hash, path) in hashes.iter().zip(group) {
            black_box(view.get_hashed(*hash, path).expect("it is there").stat());
        }
    }
    own_cpu() - begin
}

/// CPU time of one reader, the mean over `readers`, for `count` reads each.
fn beside_the_core(core: &mut Core, readers: usize, count: u64) -> Duration {
    let wakers = (0..readers).map(|_| Box::new(NobodySleeps) as Box<dyn Wake>).collect();
    let (mut publisher, subscribers) = ring(1024, core.seal(), wakers);
    let paths = core.paths.clone();
    std::thread::scope(|scope| {
        let threads: Vec<_> = subscribers
            .into_iter()
            .enumerate()
            .map(|(index, mut subscriber)| {
                let paths = &paths;
                scope.spawn(move || read(&mut subscriber, paths, index * 31_337, count))
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            core.publish_batch(&mut publisher);
            std::thread::park_timeout(BETWEEN_BATCHES);
        }
        let total: Duration =
            threads.into_iter().map(|thread| thread.join().expect("a reader ended well")).sum();
        total / readers as u32
    })
}

fn readers(criterion: &mut Criterion) {
    let mut core = Core::new();
    let mut group = criterion.benchmark_group("readers beside a publishing core");
    group.throughput(Throughput::Elements(1));
    for count in [1, 2] {
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_custom(|iterations| beside_the_core(&mut core, count, iterations.max(GROUP as u64)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    targets = readers
}
criterion_main!(benches);
