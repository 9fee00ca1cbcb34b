//! From the files of a data directory to the newest state they hold.
//! Not here: the formats (snapshot, log), applying (world).

use super::{StartError, replay};
use crate::admin::{Counter, Counters, Summary};
use crate::config::Config;
use crate::io::disk::Disk;
use crate::io::process;
use crate::log::epochs::EpochFiles;
use crate::log::{self, RecoverSettings, RecoverUntil, Recovered};
use crate::snapshot::{self, Contents, Loaded, Pinned, Progress, ReadOptions, SnapshotError};
use crate::wire::txn::TxnDigest;
use crate::world::{DigestCheck, Head, Mismatch, Restorer, Settings};
use ostler_replication::{Epochs, Zxid};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// `version-2` below `dataDir` and `dataLogDir`.
#[derive(Clone, Debug)]
pub struct Paths {
    pub snapshots: PathBuf,
    pub logs: PathBuf,
}

pub struct Recovery {
    pub head: Head,
    /// Size of the snapshot it started from; 0 when there was none.
    pub snapshot_bytes: u64,
}

impl Paths {
    pub fn of(config: &Config) -> Paths {
        Paths { snapshots: config.data_dir.join("version-2"), logs: config.data_log_dir.join("version-2") }
    }
}

/// Newest snapshot that loads, then the log behind it. A directory without either gets `snapshot.0`, as Apache's does.
/// If `ahead`, files are read and checked on threads of their own; off where everything must happen on one thread in one
/// order (simulation).
pub fn recover(
    disk: &dyn Disk,
    paths: &Paths,
    config: &Config,
    seed: [u64; 2],
    ahead: bool,
    counters: &Counters,
) -> Result<Recovery, StartError> {
    let begun = Instant::now();
    if let Some(zxid) = log::quarantine::finish_interrupted(disk, &paths.logs, &paths.snapshots)
        .map_err(StartError::Install)?
    {
        tracing::info!(%zxid, "finished the installation of a snapshot of the leader's");
    }
    for path in snapshot::remove_leftovers(disk, &paths.snapshots).map_err(StartError::Purge)? {
        tracing::info!(path = %path.display(), "removed a snapshot that was not finished");
    }
    let Base { mut head, zxid: base, snapshot, damaged, mut digests } =
        load(disk, paths, config, seed, Zxid(u64::MAX), ahead)?;
    if snapshot.is_some() {
        // A process killed between giving a snapshot its name and syncing that leaves a name that a power cut takes; by
        // then nobody may have built on it.
        let failed = |source| StartError::Io { path: paths.snapshots.clone(), source };
        disk.sync_dir(&paths.snapshots).map_err(failed)?;
    }
    let snapshot_loaded = begun.elapsed();
    let replay_begun = Instant::now();
    // An ensemble's history changes its epoch behind any txn, and its directory may be opened by a server that stands alone.
    let of_ensemble = log::epochs::is_of_ensemble(disk, &paths.snapshots)
        .map_err(|source| StartError::Io { path: paths.snapshots.clone(), source })?;
    let log_settings =
        RecoverSettings { repair: true, alone: !of_ensemble && config.ensemble.is_none(), until: None };
    let recovered = replay::replay(disk, &paths.logs, base, log_settings, &mut head, ahead, &mut digests)
        .map_err(StartError::Log)?;
    say_mismatches(&digests);
    counters.add(Counter::DigestMismatches, digests.mismatches());
    reached_known(damaged, recovered.last)?;
    let nanos = |took: Duration| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    counters.record(Summary::SnapshotLoadTime, nanos(snapshot_loaded));
    counters.record(Summary::LogLoadTime, nanos(replay_begun.elapsed()));
    counters.record(Summary::LogLoadTxns, recovered.records);
    counters.record(Summary::LoadTime, nanos(begun.elapsed()));
    recovered.notes.iter().for_each(|note| tracing::warn!("{note}"));
    if let Some(cut) = &recovered.cut {
        tracing::warn!(
            segment = %cut.segment.display(),
            offset_bytes = cut.offset_bytes,
            "cut a torn tail off the log: {}; nothing of it had been acknowledged",
            cut.problem
        );
    }
    let snapshot_bytes = match &snapshot {
        Some((_, bytes)) => *bytes,
        None => first_snapshot(disk, paths, config, &mut head)?,
    };
    tracing::info!(
        zxid = %head.zxid(),
        znodes = head.totals().znodes,
        sessions = head.sessions().len(),
        snapshot = %snapshot.map_or("none".to_owned(), |(path, _)| path.display().to_string()),
        replayed = recovered.records,
        took_ms = begun.elapsed().as_millis() as u64,
        "recovered"
    );
    Ok(Recovery { head, snapshot_bytes })
}

/// The state at `to` and what of the log leads there, for a TRUNC. Nothing is changed on disk.
pub fn recover_until(
    disk: &dyn Disk,
    paths: &Paths,
    config: &Config,
    seed: [u64; 2],
    to: Zxid,
    ahead: bool,
) -> Result<(Head, Recovered), StartError> {
    let Base { mut head, zxid, damaged, mut digests, .. } = load(disk, paths, config, seed, to, ahead)?;
    let settings = RecoverSettings { repair: false, alone: false, until: Some(to) };
    let recovered = replay::replay(disk, &paths.logs, zxid, settings, &mut head, ahead, &mut digests)
        .map_err(StartError::Log)?;
    say_mismatches(&digests);
    reached_known(damaged, recovered.last)?;
    Ok((head, recovered))
}

/// For the log's queue: [`recover_until`] on its thread, with the state left in `state`, for this zxid and with files read
/// ahead or not. Until that is taken there are two worlds in memory.
pub fn recover_for_truncation(
    disk: Arc<dyn Disk>,
    paths: Paths,
    config: Config,
    seed: [u64; 2],
    (to, ahead): (Zxid, bool),
    state: Arc<Mutex<Option<Head>>>,
) -> RecoverUntil {
    RecoverUntil(Box::new(move || {
        let (head, recovered) =
            recover_until(&*disk, &paths, &config, seed, to, ahead).map_err(|error| error.to_string())?;
        *state.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        Ok(recovered)
    }))
}

/// The epochs of a member of an ensemble whose history ends at `last`; makes its epoch files when they are missing, and
/// repairs what a crash between history and epoch leaves.
pub fn epochs(disk: &dyn Disk, paths: &Paths, last: Zxid) -> Result<Epochs, StartError> {
    EpochFiles::new(disk, &paths.snapshots).load(last).map_err(StartError::Epochs)
}

/// What the log is replayed upon.
struct Base {
    head: Head,
    zxid: Zxid,
    /// The file and its size.
    snapshot: Option<(PathBuf, u64)>,
    /// A newer snapshot that does not load, and the zxid that the log must reach because of it.
    damaged: Option<(Zxid, SnapshotError)>,
    digests: DigestCheck,
}

/// The newest snapshot that loads and is no newer than `until`, or an empty world.
fn load(
    disk: &dyn Disk,
    paths: &Paths,
    config: &Config,
    seed: [u64; 2],
    until: Zxid,
    ahead: bool,
) -> Result<Base, StartError> {
    let settings = Settings { hash_seed: seed, digests: config.digest };
    let options = ReadOptions { field_bytes_max: config.entry_bytes_max() as usize, ahead };
    let loaded = snapshot::load_newest_until(disk, &paths.snapshots, until, options, |zxid| {
        let mut restorer = Restorer::new(settings, zxid);
        restorer.limit_memory(config.tree_bytes_max);
        restorer
    })
    .map_err(StartError::Snapshot)?;
    let Some(Loaded { restored, zxid, path, file_bytes, contents, skipped, known }) = loaded else {
        let failed = |source| StartError::Io { path: paths.logs.clone(), source };
        if log::has_records(disk, &paths.logs).map_err(failed)? && !config.trust_empty_snapshot {
            let (logs, snapshots) = (paths.logs.clone(), paths.snapshots.clone());
            return Err(StartError::NoSnapshot { logs, snapshots });
        }
        let mut head = Head::new(settings);
        head.limit_memory(config.tree_bytes_max);
        return Ok(Base {
            head,
            zxid: Zxid::ZERO,
            snapshot: None,
            damaged: None,
            digests: DigestCheck::default(),
        });
    };
    let head = restored
        .finish()
        .map_err(|error| StartError::Content { path: path.clone(), reason: error.to_string() })?;
    let digests = DigestCheck::of_snapshot(&head, recorded_digest(&contents));
    if ahead {
        // What was gathered for the index, 8 bytes a znode, would stay in the heap.
        process::give_back_memory();
    }
    let damaged = skipped.into_iter().next().map(|error| (known, error));
    Ok(Base { head, zxid, snapshot: Some((path, file_bytes)), damaged, digests })
}

/// The txns of a snapshot were in the log before it was taken.
fn reached_known(damaged: Option<(Zxid, SnapshotError)>, last: Zxid) -> Result<(), StartError> {
    match damaged {
        Some((known, damaged)) if last < known => Err(StartError::Lost { known, last, damaged }),
        _ => Ok(()),
    }
}

/// Those of other versions than ours are of other sums.
fn recorded_digest(contents: &Contents) -> Option<(Zxid, TxnDigest)> {
    let section = contents.digest?;
    Some((section.zxid, TxnDigest { version: section.version, tree: section.value }))
}

/// As Apache: an operator is to hear of it, and a server that does not start would not make it better.
fn say_mismatches(digests: &DigestCheck) {
    let Some(Mismatch { zxid, recorded, computed }) = digests.first() else { return };
    tracing::error!(
        "at {zxid} the files record the tree digest {recorded:#x}, but the tree has {computed:#x}: the server that wrote \
         them had another tree, or they are not of one server. {} digests differ in all. Compare snapshots with other \
         servers' by `ostler snapshot compare`",
        digests.mismatches()
    );
}

fn first_snapshot(
    disk: &dyn Disk,
    paths: &Paths,
    config: &Config,
    head: &mut Head,
) -> Result<u64, StartError> {
    let source = Pinned { view: head.seal(), digest: config.digest };
    let mut go_on = |_: Progress| ControlFlow::Continue(());
    let compression = super::compression(config);
    snapshot::writer::write(disk, &paths.snapshots, &source, compression, &mut go_on)
        .map(|written| written.file_bytes)
        .map_err(StartError::FirstSnapshot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Registry;
    use crate::io::disk::RealDisk;
    use crate::io::disk_sim::SimDisk;
    use crate::log::{FileId, file_header, put_record};
    use crate::model::{SessionId, WallMillis, Xid};
    use crate::snapshot::{Compression, Image, writer};
    use crate::wire::txn::{TxnBody, TxnEntry, TxnHeader};
    use crate::world::Changes;
    use std::path::Path;

    const ID: FileId = FileId([1, 2, 3, 4]);

    fn snapshot(dir: &Path, zxid: u64, damaged: bool) {
        let image = Image { zxid: Zxid(zxid), ..Image::initial() };
        let go_on = &mut |_: Progress| ControlFlow::Continue(());
        let path = writer::write(&RealDisk, dir, &image, Compression::Plain, go_on).unwrap().path;
        if damaged {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[200] ^= 4;
            std::fs::write(&path, bytes).unwrap();
        }
    }

    fn log(dir: &Path, first: u64, last: u64) {
        let mut file = file_header(ID).to_vec();
        for zxid in first..=last {
            let header = TxnHeader {
                session: SessionId(1),
                cxid: Xid(0),
                zxid: Zxid(zxid),
                time: WallMillis(1),
                kind: -1,
            };
            let mut entry = Vec::new();
            TxnEntry { header, body: TxnBody::Error { code: -101 }, digest: None }.encode(&mut entry);
            let at = file.len() as u64;
            put_record(&mut file, ID, at, true, &entry);
        }
        std::fs::write(dir.join(format!("log.{first:x}")), file).unwrap();
    }

    /// What a server with these files begins with: the zxid it reaches, or the start of why it does not start.
    fn check(make: impl Fn(&Path), expected: Result<u64, &str>) {
        [false, true].into_iter().for_each(|ahead| check_start(&make, ahead, expected));
    }

    fn check_start(make: &impl Fn(&Path), ahead: bool, expected: Result<u64, &str>) {
        let temp = tempfile::tempdir().unwrap();
        let config = Config::embedded(temp.path());
        let paths = Paths::of(&config);
        RealDisk.create_dir(&paths.snapshots).unwrap();
        make(&paths.snapshots);
        let started = recover(&RealDisk, &paths, &config, [1, 2], ahead, &Registry::default().thread());
        match (started, expected) {
            (Ok(recovery), Ok(zxid)) => assert_eq!(recovery.head.zxid(), Zxid(zxid)),
            (Err(error), Err(start)) => assert!(error.to_string().starts_with(start), "{error}"),
            (Ok(recovery), Err(start)) => panic!("started at {} instead of: {start}", recovery.head.zxid()),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
    }

    #[test]
    fn an_older_snapshot_is_enough_exactly_if_the_log_leads_as_far_as_the_newer_one_did() {
        let good_and_bad = |dir: &Path| {
            snapshot(dir, 3, false);
            snapshot(dir, 9, true);
        };
        check(|dir| snapshot(dir, 3, false), Ok(3));
        check(
            |dir| good_and_bad(dir),
            Err("txns are missing: an older snapshot and the log behind it reach 0x3"),
        );
        let reaching = |last| {
            move |dir: &Path| {
                good_and_bad(dir);
                log(dir, 1, last);
            }
        };
        check(reaching(8), Err("txns are missing: an older snapshot and the log behind it reach 0x8"));
        check(reaching(9), Ok(9));
        check(reaching(12), Ok(12));
        let only_later = |dir: &Path| {
            good_and_bad(dir);
            log(dir, 10, 12);
        };
        check(only_later, Err("txns are missing: log"));
    }

    /// As an Apache server leaves it: nothing says behind what an epoch began.
    fn log_of_two_epochs(dir: &Path, last: u64, next: u64) {
        snapshot(dir, last - 1, false);
        log(dir, last, last);
        log(dir, next, next);
    }

    #[test]
    fn an_epoch_ends_behind_any_txn_only_in_an_ensemble() {
        const EPOCH: u64 = 1 << 32;
        check(|dir| log_of_two_epochs(dir, 7, EPOCH + 1), Err("txns are missing: log"));
        check(|dir| log_of_two_epochs(dir, EPOCH - 1, EPOCH), Ok(EPOCH));
        check(|dir| log_of_two_epochs(dir, EPOCH - 1, EPOCH + 1), Ok(EPOCH + 1));
        check(|dir| log_of_two_epochs(dir, EPOCH - 1, 2 * EPOCH + 1), Err("txns are missing: log"));
        for name in ["acceptedEpoch", "currentEpoch"] {
            let of_ensemble = |dir: &Path| {
                log_of_two_epochs(dir, 7, EPOCH + 1);
                std::fs::write(dir.join(name), "1").unwrap();
            };
            check(of_ensemble, Ok(EPOCH + 1));
        }
    }

    #[test]
    fn a_digest_that_differs_is_counted_and_keeps_nobody_from_starting() {
        let start = |digests: [u64; 3]| {
            let temp = tempfile::tempdir().unwrap();
            let config = Config::embedded(temp.path());
            let paths = Paths::of(&config);
            RealDisk.create_dir(&paths.snapshots).unwrap();
            snapshot(&paths.snapshots, 0, false);
            let mut file = file_header(ID).to_vec();
            for (zxid, digest) in (1..).zip(digests) {
                let body = match zxid {
                    2 => TxnBody::Create(crate::wire::Create {
                        path: "/a".into(),
                        data: None,
                        acl: crate::wire::AclBytes::OPEN,
                        kind: crate::wire::CreateKind::Plain { create2: false, ephemeral: false },
                        parent_cversion: 1,
                    }),
                    _ => TxnBody::CreateSession { timeout_ms: 4000 },
                };
                let (session, time) = (SessionId(zxid as i64), WallMillis(1));
                let header = TxnHeader { session, cxid: Xid(0), zxid: Zxid(zxid), time, kind: body.kind() };
                let mut entry = Vec::new();
                TxnEntry { header, body, digest: Some(TxnDigest::of(digest)) }.encode(&mut entry);
                let at = file.len() as u64;
                put_record(&mut file, ID, at, true, &entry);
            }
            std::fs::write(paths.logs.join("log.1"), file).unwrap();
            let registry = Registry::default();
            let recovery = recover(&RealDisk, &paths, &config, [1, 2], false, &registry.thread()).unwrap();
            assert_eq!(recovery.head.zxid(), Zxid(3));
            (registry.totals().count(Counter::DigestMismatches), recovery.head.digest())
        };
        const EMPTY: u64 = 0x51c6_d660;
        let (_, with_a) = start([0; 3]);
        assert_eq!(start([EMPTY, with_a, with_a]).0, 0);
        assert_eq!(start([EMPTY, with_a + 1, with_a]).0, 1);
        assert_eq!(start([EMPTY + 1, EMPTY, with_a]).0, 2);
    }

    #[test]
    fn a_truncation_leads_to_the_state_that_a_start_finds_then_or_changes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let config = Config::embedded(temp.path());
        let paths = Paths::of(&config);
        let dir = &paths.snapshots;
        RealDisk.create_dir(dir).unwrap();
        snapshot(dir, 50, false);
        snapshot(dir, 90, false);
        log(dir, 1, 100);
        let path = dir.join("log.1");
        let record = (std::fs::metadata(&path).unwrap().len() as usize - 16) / 100;
        let mut damaged = std::fs::read(&path).unwrap();
        damaged[16 + 19 * record + 20] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let cut = |to| {
            let state = Arc::new(Mutex::new(None));
            let to = Zxid(to);
            let (disk, paths, config) = (Arc::new(RealDisk), paths.clone(), config.clone());
            let recover =
                recover_for_truncation(disk, paths.clone(), config, [1, 2], (to, true), state.clone());
            let recovered = (recover.0)()?;
            let what = log::Truncation {
                log_dir: &paths.logs,
                snapshot_dir: &paths.snapshots,
                current_epoch: ostler_replication::Epoch(0),
                to,
            };
            log::truncate(&RealDisk, &what, &recovered).map_err(|error| error.to_string())?;
            Ok::<_, String>(state.lock().unwrap().take().unwrap())
        };
        for to in [101, 40] {
            assert!(cut(to).is_err());
        }
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
        assert!(dir.join("snapshot.5a").exists());
        assert_eq!(cut(80).unwrap().zxid(), Zxid(80));
        assert!(!dir.join("snapshot.5a").exists());
        let recovery =
            recover(&RealDisk, &paths, &config, [1, 2], true, &Registry::default().thread()).unwrap();
        assert_eq!(recovery.head.zxid(), Zxid(80));
    }

    #[test]
    fn bytes_behind_a_txn_are_damage() {
        let with = |extra: usize| {
            move |dir: &Path| {
                snapshot(dir, 0, false);
                let header = TxnHeader {
                    session: SessionId(1),
                    cxid: Xid(0),
                    zxid: Zxid(1),
                    time: WallMillis(1),
                    kind: -1,
                };
                let mut entry = Vec::new();
                TxnEntry { header, body: TxnBody::Error { code: -101 }, digest: None }.encode(&mut entry);
                entry.resize(entry.len() + extra, 0);
                let mut file = file_header(ID).to_vec();
                let at = file.len() as u64;
                put_record(&mut file, ID, at, true, &entry);
                std::fs::write(dir.join("log.1"), file).unwrap();
            }
        };
        check(with(0), Ok(1));
        check(with(TxnDigest::BYTES), Ok(1));
        for extra in [1, 8, 13] {
            check(with(extra), Err(""));
        }
    }

    #[test]
    fn a_tree_larger_than_the_memory_for_it_is_an_error_that_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = Config::embedded(temp.path());
        let paths = Paths::of(&config);
        RealDisk.create_dir(&paths.snapshots).unwrap();
        let settings = Settings { hash_seed: [1, 2], digests: true };
        let mut head = Head::new(settings);
        let mut file = file_header(ID).to_vec();
        for zxid in 1..=40 {
            let body = TxnBody::Create(crate::wire::Create {
                path: format!("/{zxid}").into(),
                data: Some(vec![7; 5000].into()),
                acl: crate::wire::AclBytes::OPEN,
                kind: crate::wire::CreateKind::Plain { create2: false, ephemeral: false },
                parent_cversion: -1,
            });
            let zxid = Zxid(zxid);
            let header = TxnHeader {
                session: SessionId(1),
                cxid: Xid(0),
                zxid,
                time: WallMillis(1),
                kind: body.kind(),
            };
            head.apply(&header, &body, &mut Changes::default());
            let mut entry = Vec::new();
            TxnEntry { header, body, digest: None }.encode(&mut entry);
            let at = file.len() as u64;
            put_record(&mut file, ID, at, true, &entry);
        }
        let recover =
            |config: &Config| recover(&RealDisk, &paths, config, [1, 2], true, &Registry::default().thread());
        let refused = |config: &Config| {
            let error = recover(config).err().expect("more than fits").to_string();
            assert!(error.contains("ostler.treeMemory"), "{error}");
        };
        snapshot(&paths.snapshots, 0, false);
        std::fs::write(paths.logs.join("log.1"), &file).unwrap();
        config.tree_bytes_max = 150 << 10;
        refused(&config);
        config.tree_bytes_max = 300 << 10;
        assert_eq!(recover(&config).unwrap().head.zxid(), Zxid(40));

        let source = Pinned { view: head.seal(), digest: true };
        let go_on = &mut |_: Progress| ControlFlow::Continue(());
        writer::write(&RealDisk, &paths.snapshots, &source, Compression::Plain, go_on).unwrap();
        std::fs::remove_file(paths.logs.join("log.1")).unwrap();
        assert_eq!(recover(&config).unwrap().head.zxid(), Zxid(40));
        config.tree_bytes_max = 150 << 10;
        refused(&config);
    }

    #[test]
    fn a_snapshot_that_a_killed_process_named_is_durable_before_anything_is_built_on_it() {
        let config = Config { data_dir: "/data".into(), data_log_dir: "/log".into(), ..Config::default() };
        let paths = Paths::of(&config);
        let start =
            |disk: &SimDisk| recover(disk, &paths, &config, [1, 2], true, &Registry::default().thread());
        for stop in 0.. {
            let disk = SimDisk::new();
            disk.create_dir(&paths.snapshots).unwrap();
            disk.create_dir(&paths.logs).unwrap();
            disk.stop_at(disk.calls() + stop);
            let whole = start(&disk).is_ok();
            let killed = disk.after_kill();
            start(&killed).unwrap();
            let left = killed.after_power_cut(&vec![0; killed.choices().len()]);
            assert!(left.exists(&paths.snapshots.join("snapshot.0")).unwrap(), "killed before call {stop}");
            if whole {
                return;
            }
        }
    }

    #[test]
    fn a_partial_snapshot_of_a_killed_process_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let config = Config::embedded(temp.path());
        let paths = Paths::of(&config);
        RealDisk.create_dir(&paths.snapshots).unwrap();
        let partial = paths.snapshots.join("partial-snapshot.7");
        std::fs::write(&partial, b"ZKSN").unwrap();
        assert_eq!(
            recover(&RealDisk, &paths, &config, [1, 2], true, &Registry::default().thread())
                .unwrap()
                .head
                .zxid(),
            Zxid::ZERO
        );
        assert!(!partial.exists() && paths.snapshots.join("snapshot.0").exists());
    }
}
