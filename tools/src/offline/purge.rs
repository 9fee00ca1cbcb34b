//! `ostler purge`: Apache's PurgeTxnLog, as zkCleanup.sh calls it.

use super::{EXIT_OK, Failure, at, nothing_here, version_dir};
use crate::date;
use ostler_engine::io::disk::{Disk, RealDisk};
use ostler_engine::snapshot::names;
use ostler_engine::snapshot::purge::{RETAIN_MIN, purge as remove, superfluous};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

#[derive(clap::Args, Debug)]
pub struct PurgeArgs {
    /// Where the logs are: dataLogDir, or dataDir when there is no other
    #[arg(value_name = "DATALOGDIR")]
    log_dir: PathBuf,
    /// Where the snapshots are, when not in the same place: dataDir
    #[arg(value_name = "SNAPDIR")]
    snap_dir: Option<PathBuf>,
    /// Snapshots to keep, at least 3
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: usize,
    /// Say what would be removed and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn purge(args: &PurgeArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    if args.count < RETAIN_MIN {
        return Err(Failure::Other(format!("count should be greater than or equal to {RETAIN_MIN}")));
    }
    let log_dir = version_dir(&args.log_dir);
    let snap_dir = args.snap_dir.as_deref().map_or(log_dir.clone(), version_dir);
    let is_snapshot = |name: &str| names::zxid_in_name(name, names::SNAPSHOT_PREFIX).is_some();
    let listed = |dir: &Path| RealDisk.list(dir).map_err(at(dir));
    listed(&log_dir)?;
    if !listed(&snap_dir)?.iter().any(|file| is_snapshot(&file.name)) {
        return Err(nothing_here(&snap_dir, "snapshot (snapshot.<zxid>)"));
    }
    let purged = |error: ostler_engine::snapshot::purge::PurgeError| {
        Failure::File(error.path.clone(), error.source.to_string())
    };
    let (snapshots, logs) = superfluous(&RealDisk, &log_dir, &snap_dir, args.count).map_err(purged)?;
    // Asked before the files are gone.
    let lines: Vec<String> = snapshots
        .iter()
        .chain(&logs)
        .map(|path| {
            let modified = path.metadata().and_then(|about| about.modified()).ok();
            let millis =
                modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_millis());
            format!("Removing file: {}\t{}", date::medium(millis as i64), path.display())
        })
        .collect();
    if !args.dry_run {
        remove(&RealDisk, &log_dir, &snap_dir, args.count).map_err(purged)?;
    }
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(EXIT_OK)
}
