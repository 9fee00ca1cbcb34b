//! `ostler log recover --give-up-after`: brings back a directory whose log is damaged, at the price of every txn behind
//! the given one. Nothing is destroyed: the file that is cut is copied first, and what lies behind it is moved, into a
//! directory beside the log whose name no server takes for a log or a snapshot.
//! Not here: finding the damage (log_verify), making checksums right (log_recover).
//!
//! In the order of a TRUNC, so that after a crash at any point the same command goes on: the copy, the side mark, snapshots
//! from the newest, logs from the newest, the cut.

use super::log_verify::{self, Nothing};
use super::{Failure, at, file_name, nothing_here, version_dir};
use ostler_engine::config::Config;
use ostler_engine::io::directories::Directories;
use ostler_engine::io::disk::{Disk, RealDisk};
use ostler_engine::log::{
    FILE_HEADER_BYTES, Found, LogFile, MARK_NAME, RecoverError, RecoverSettings, epochs, log_files, recover,
    scan,
};
use ostler_engine::snapshot::{LoadError, ReadOptions, load_newest, names};
use ostler_replication::Zxid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub fn give_up(
    dir: &Path,
    snap_dir: Option<&Path>,
    after: Zxid,
    out: &mut dyn Write,
) -> Result<i32, Failure> {
    if !dir.is_dir() {
        return Err(Failure::Other(format!(
            "{}: --give-up-after wants a directory, dataLogDir or dataDir of the configuration",
            dir.display()
        )));
    }
    let log_dir = version_dir(dir);
    let snap_dir = snap_dir.map_or(log_dir.clone(), version_dir);
    let _taken = take(&log_dir, &snap_dir)?;
    let base = base(&snap_dir, after)?;
    if reach((&log_dir, &snap_dir), base, after)? {
        writeln!(out, "There is nothing behind txn {after}: nothing was changed.")?;
        return log_verify::start(&log_dir, after, out);
    }
    let plan = Plan::of(&log_dir, &snap_dir, after)?;
    plan.carry_out(out)?;
    if log_dir.parent().is_some_and(|data_dir| data_dir.join("myid").exists()) {
        eprintln!(
            "A server of an ensemble that forgets txns which it acknowledged can make the ensemble lose them. While other \
             servers have them, rather move the data directory away and let this one fetch everything from them."
        );
    }
    log_verify::start(&log_dir, after, out)
}

/// No server may run on what is changed.
fn take(log_dir: &Path, snap_dir: &Path) -> Result<Option<Directories>, Failure> {
    let data_dir = |version: &Path| match version.file_name() {
        Some(name) if name == "version-2" => std::path::absolute(version).ok()?.parent().map(Path::to_owned),
        _ => None,
    };
    // Files copied to some other place are nobody's.
    let (Some(logs), Some(snapshots)) = (data_dir(log_dir), data_dir(snap_dir)) else { return Ok(None) };
    let config = Config { data_log_dir: logs, data_dir_create: false, ..Config::embedded(snapshots) };
    Directories::take(&config).map(Some).map_err(|error| Failure::Other(error.to_string()))
}

/// The snapshot that a start would begin from.
fn base(snap_dir: &Path, after: Zxid) -> Result<Zxid, Failure> {
    match load_newest(&RealDisk, snap_dir, ReadOptions::default(), |_| Nothing) {
        Ok(Some(loaded)) if loaded.zxid > after => Err(Failure::Other(format!(
            "{} is whole and holds everything up to txn {}, so nothing up to there has to be given up. To go back to {after} \
             all the same, move it away first",
            loaded.path.display(),
            loaded.zxid
        ))),
        Ok(Some(loaded)) => Ok(loaded.zxid),
        Ok(None) => Err(Failure::Other(format!(
            "{}; where the two are apart, name both: dataLogDir, then dataDir",
            nothing_here(snap_dir, "snapshot (snapshot.<zxid>)")
        ))),
        Err(LoadError::Io { path, source }) => Err(Failure::File(path, source.to_string())),
        Err(error @ LoadError::NoneLoads(_)) => Err(Failure::Damaged(error.to_string())),
    }
}

/// Whether a start ends exactly with `after` as things stand. An error when it cannot be made to.
fn reach((log_dir, snap_dir): (&Path, &Path), base: Zxid, after: Zxid) -> Result<bool, Failure> {
    let mut reached = base;
    let mut note = |zxid: Zxid, _: &[u8]| {
        if zxid <= after {
            reached = zxid;
        }
        Ok(())
    };
    let alone = !epochs::is_of_ensemble(&RealDisk, snap_dir)
        .map_err(|error| Failure::File(snap_dir.into(), error.to_string()))?;
    let settings = RecoverSettings { repair: false, alone, until: None };
    let outcome = recover(&RealDisk, log_dir, base, settings, &mut note);
    let (last, whole) = match outcome {
        Ok(found) => (found.last, true),
        Err(RecoverError::Corrupt { last_good, .. } | RecoverError::Gap { last_good, .. }) => {
            (last_good, false)
        }
        Err(RecoverError::Io { segment, source }) => return Err(Failure::File(segment, source.to_string())),
        Err(error) => return Err(Failure::Damaged(error.to_string())),
    };
    if after > last {
        return Err(Failure::Other(format!(
            "{}: the log can be read up to txn {last} only: --give-up-after {last}",
            log_dir.display()
        )));
    }
    if reached != after {
        return Err(Failure::Other(format!(
            "{}: there is no txn {after} to end with; the one before is {reached}",
            log_dir.display()
        )));
    }
    Ok(whole && last == after)
}

/// What is to be done to a directory.
struct Plan {
    log_dir: PathBuf,
    snap_dir: PathBuf,
    after: Zxid,
    /// The file that ends with `after`, where something stands behind it, and where that begins.
    cut: Option<(PathBuf, u64)>,
    /// Descending.
    logs: Vec<PathBuf>,
    snapshots: Vec<PathBuf>,
    /// Whole txns that go: their number, the first and the last.
    lost: Option<(u64, Zxid, Zxid)>,
}

impl Plan {
    fn of(log_dir: &Path, snap_dir: &Path, after: Zxid) -> Result<Plan, Failure> {
        let files = log_files(&RealDisk, log_dir).map_err(at(log_dir))?;
        let mut plan = Plan {
            log_dir: log_dir.to_owned(),
            snap_dir: snap_dir.to_owned(),
            after,
            cut: None,
            logs: Vec::new(),
            snapshots: Vec::new(),
            lost: None,
        };
        let kept = files.iter().rposition(|file| file.first <= after);
        let from = kept.unwrap_or(0);
        for (position, file) in files.iter().enumerate().skip(from) {
            plan.file(file, Some(position) == kept)?;
        }
        plan.logs.reverse();
        let listed = RealDisk.list(snap_dir).map_err(at(snap_dir))?;
        let mut snapshots: Vec<_> = listed
            .iter()
            .filter_map(|file| Some((names::zxid_in_name(&file.name, names::SNAPSHOT_PREFIX)?, &file.name)))
            .filter(|(zxid, _)| *zxid > after)
            .collect();
        snapshots.sort_by(|a, b| b.cmp(a));
        plan.snapshots = snapshots.iter().map(|(_, name)| snap_dir.join(name)).collect();
        Ok(plan)
    }

    /// `ends`: whether `after`, or what a snapshot holds of it, ends in this file.
    fn file(&mut self, file: &LogFile, ends: bool) -> Result<(), Failure> {
        let contents = super::open(&file.path)?.contents().map_err(at(&file.path))?;
        let mut found = scan(&contents);
        // A file whose header cannot be read gives nothing.
        let ends = ends && found.origin().is_some();
        let mut end_bytes = FILE_HEADER_BYTES as u64;
        for item in &mut found {
            let Found::Record(record) = item else { continue };
            if ends && record.zxid <= self.after {
                end_bytes = record.next_bytes;
            } else {
                let (number, first, _) = self.lost.unwrap_or((0, record.zxid, record.zxid));
                self.lost = Some((number + 1, first, record.zxid));
            }
        }
        if !ends {
            self.logs.push(file.path.clone());
        } else if contents.get(end_bytes as usize..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0)) {
            self.cut = Some((file.path.clone(), end_bytes));
        }
        Ok(())
    }

    fn carry_out(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let name = self.free_name();
        let aside = self.log_dir.join(&name);
        make(&aside)?;
        writeln!(out, "Giving up everything behind txn {} in {}:", self.after, self.log_dir.display())?;
        match self.lost {
            Some((1, only, _)) => writeln!(out, "  lost: txn {only}, and what the damaged bytes held")?,
            Some((number, first, last)) => writeln!(
                out,
                "  lost: {number} whole txns, {first} to {last}, and what the damaged bytes held"
            )?,
            None => writeln!(out, "  lost: what the damaged bytes held; no whole txn stands behind them")?,
        }
        if let Some((path, _)) = &self.cut {
            copy(path, &aside.join(file_name(path)))?;
            sync(&aside)?;
        }
        let mark = self.log_dir.join(MARK_NAME);
        if mark.exists() {
            set_aside(&mark, &aside)?;
        }
        if !self.snapshots.is_empty() {
            let aside = self.snap_dir.join(&name);
            if self.snap_dir != self.log_dir {
                make(&aside)?;
            }
            for path in &self.snapshots {
                set_aside(path, &aside)?;
                writeln!(out, "  {} is moved to {}", file_name(path), aside.display())?;
            }
        }
        for path in &self.logs {
            set_aside(path, &aside)?;
            writeln!(out, "  {} is moved to {}", file_name(path), aside.display())?;
        }
        if let Some((path, end_bytes)) = &self.cut {
            cut(path, *end_bytes).map_err(at(path))?;
            let aside = aside.display();
            writeln!(out, "  {} is cut at offset {end_bytes}; it is whole in {aside}", file_name(path))?;
        }
        Ok(())
    }

    /// Of a directory that neither place has yet.
    fn free_name(&self) -> String {
        let name = format!("given-up-after-{:x}", self.after.0);
        let taken = |name: &str| self.log_dir.join(name).exists() || self.snap_dir.join(name).exists();
        let more = (2u64..).map(|number| format!("{name}-{number}"));
        std::iter::once(name.clone()).chain(more).find(|name| !taken(name)).unwrap_or(name)
    }
}

fn make(dir: &Path) -> Result<(), Failure> {
    fs::create_dir(dir).map_err(at(dir))?;
    dir.parent().map_or(Ok(()), sync)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to).and_then(|_| File::open(to)?.sync_all()).map_err(at(to))
}

/// Durable at the new place before it is gone from the old one.
fn set_aside(path: &Path, aside: &Path) -> Result<(), Failure> {
    fs::rename(path, aside.join(file_name(path))).map_err(at(path))?;
    sync(aside)?;
    path.parent().map_or(Ok(()), sync)
}

fn sync(dir: &Path) -> Result<(), Failure> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

fn cut(path: &Path, end_bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(end_bytes)?;
    file.sync_all()
}
