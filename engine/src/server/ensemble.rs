//! What a member of an ensemble is given at its start, out of its configuration: the protocol's settings, and the
//! connections to the other servers.
//! Not here: reading the configuration, acting for the protocol (`driver::membership`).

use super::StartError;
use super::driver::{Membership, MembershipParts};
use super::recovery::Paths;
use crate::config::{Config, EnsembleConfig};
use crate::intake::Bell;
use crate::io::disk::Disk;
use crate::io::poll::{MioPoll, Poll};
use crate::limits::{COMMITTED_BYTES_KEPT, HISTORY_PIECES_AHEAD, LEARNER_BYTES_MAX, UNCOMMITTED_BYTES_MAX};
use crate::log::history::HistoryReader;
use crate::peers::{self, Endpoint, Peers, Place, snapshot::Staging, snapshot::Threads};
use crate::ring::Wake;
use crate::world;
use crossbeam::channel::bounded;
use ostler_replication::{CacheLimits, ElectionSettings, Members, ServerId, Settings};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

pub fn protocol_settings(config: &Config, ensemble: &EnsembleConfig) -> Settings {
    let EnsembleConfig { me, members, settings } = ensemble;
    Settings {
        me: *me,
        members: members.clone(),
        is_observer: ensemble.own().is_observer,
        tick_ms: u64::from(config.tick_ms),
        init_limit: u64::from(settings.init_ticks),
        sync_limit: u64::from(settings.sync_ticks),
        connect_limit: u64::from(settings.connect_ticks),
        cache: CacheLimits { txns: u64::from(settings.committed_txns_kept), bytes: COMMITTED_BYTES_KEPT },
        link_bytes_max: LEARNER_BYTES_MAX as u64,
        uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
        is_reconfig_enabled: config.reconfig_enabled,
        election: ElectionSettings {
            interval_ms_min: settings.notification_ms_least,
            interval_ms_max: settings.notification_ms_most,
            multi_address: settings.multi_address,
        },
    }
}

/// `files`: the disk and where on it. `started`: who wakes the core, the size of the snapshot that was loaded, and the seed
/// of its tables.
pub(super) fn membership(
    config: &Config,
    ensemble: &EnsembleConfig,
    poll: MioPoll,
    files: (&Arc<dyn Disk>, &Paths),
    started: (Arc<Bell>, u64, [u64; 2]),
) -> Result<Membership<MioPoll>, StartError> {
    let (disk, paths) = files;
    let (bell, snapshot_bytes, hash_seed) = started;
    let staging = staging(config, disk, paths, hash_seed);
    let waker: Arc<dyn Wake> = Arc::from(poll.waker());
    let peers = Peers::new(poll, Box::new(Threads::new(staging, waker)), peer_settings(config, ensemble));
    let (tell, found) = bounded(HISTORY_PIECES_AHEAD);
    let tell = Arc::new(move |link, number, history| {
        // Nobody listens any more when the server ends.
        if tell.send((link, number, history)).is_ok() {
            bell.ring();
        }
    });
    let reader = HistoryReader::start(disk.clone(), paths.logs.clone(), paths.snapshots.clone(), tell)
        .map_err(StartError::Threads)?;
    Ok(Membership::new(MembershipParts {
        peers,
        disk: disk.clone(),
        paths: paths.clone(),
        config: config.clone(),
        hash_seed,
        found,
        reader: Box::new(reader),
        reads_ahead: true,
        snapshot_bytes,
    }))
}

/// What snapshots of a leader's are received into.
pub fn staging(config: &Config, disk: &Arc<dyn Disk>, paths: &Paths, hash_seed: [u64; 2]) -> Staging {
    Staging {
        disk: disk.clone(),
        dir: paths.snapshots.clone(),
        world: world::Settings { hash_seed, digests: config.digest },
        tree_bytes_max: config.tree_bytes_max,
        field_bytes_max: config.entry_bytes_max() as usize,
    }
}

/// Whether an empty data directory is one that may be: see `EnsembleSettings::empty_votes`.
pub fn check_not_lost(disk: &dyn Disk, paths: &Paths, ensemble: &EnsembleConfig) -> Result<(), StartError> {
    if ensemble.settings.empty_votes {
        return Ok(());
    }
    for dir in [&paths.snapshots, &paths.logs] {
        let failed = |source| StartError::Io { path: dir.clone(), source };
        let is_data = |name: &str| name.starts_with("snapshot.") || name.starts_with("log.");
        if disk.list(dir).map_err(failed)?.iter().any(|file| is_data(&file.name)) {
            return Ok(());
        }
    }
    Err(StartError::DataLost { snapshots: paths.snapshots.clone() })
}

/// The file `initialize` allows one start on an empty directory.
pub fn forget_initialize(disk: &dyn Disk, config: &Config) {
    if config.ensemble.is_none() {
        return;
    }
    for dir in [&config.data_dir, &config.data_log_dir] {
        let path = dir.join("initialize");
        match disk.unlink(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "a file that allows an empty start stays");
            }
            _ => {}
        }
    }
}

pub fn peer_settings(config: &Config, ensemble: &EnsembleConfig) -> peers::Settings {
    let EnsembleConfig { me, members, settings } = ensemble;
    let ticks_ms = |ticks: u32| u64::from(config.tick_ms) * u64::from(ticks);
    peers::Settings {
        me: *me,
        places: places(members),
        listen_everywhere: settings.listen_everywhere,
        bind_tries: settings.bind_tries,
        election_connect_ms: settings.election_connect_ms,
        quorum_connect_ms: ticks_ms(settings.connect_ticks),
        hello_ms: settings.election_handshake_ms.unwrap_or(ticks_ms(settings.sync_ticks)),
        data_bytes_max: config.entry_bytes_max() as usize,
        queue_bytes_max: LEARNER_BYTES_MAX,
    }
}

fn places(members: &Members) -> BTreeMap<ServerId, Place> {
    let endpoint = |host: &str, port| Endpoint { host: host.to_owned(), port };
    members
        .servers()
        .map(|(id, member)| {
            let election = member.addresses.iter().map(|at| endpoint(&at.host, at.election_port)).collect();
            let quorum = member.addresses.iter().map(|at| endpoint(&at.host, at.quorum_port)).collect();
            (id, Place { election, quorum })
        })
        .collect()
}
