//! `acceptedEpoch`, `currentEpoch` and `myid`: small text files of dataDir.
//! Not here: when an epoch may change. History goes before the epoch, the epoch before its ack; callers keep that order.
//!
//! A file is replaced as one: temporary name, sync, rename, directory sync. A crash leaves the old value or the new one.

use crate::io::disk::{Disk, Open};
use ostler_replication::{Epoch, Epochs, ServerId, Zxid};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

const ACCEPTED: &str = "acceptedEpoch";
const CURRENT: &str = "currentEpoch";

/// What is wrong with one of the files.
#[derive(Debug)]
pub enum EpochError {
    Io {
        path: PathBuf,
        source: io::Error,
    },
    /// Not a decimal number on the first line.
    Malformed {
        path: PathBuf,
        text: String,
    },
    /// `acceptedEpoch` below `currentEpoch`, or below the epoch of the last txn: these files are not of this history.
    Behind {
        dir: PathBuf,
        epochs: Epochs,
        last: Zxid,
    },
}

impl fmt::Display for EpochError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EpochError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            EpochError::Malformed { path, text } => {
                write!(f, "{} must hold a decimal number on its first line, not {text:?}", path.display())
            }
            EpochError::Behind { dir, epochs, last } => write!(
                f,
                "acceptedEpoch {} and currentEpoch {} in {} do not fit each other or the last txn {last}: files of \
                 different servers are mixed there. Put back the right ones, or, with other servers in the ensemble, \
                 empty the data directory and let this server fetch everything from them",
                epochs.accepted.0,
                epochs.current.0,
                dir.display()
            ),
        }
    }
}

impl std::error::Error for EpochError {}

/// The epoch files of one `version-2` directory under dataDir.
pub struct EpochFiles<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
}

impl<'a> EpochFiles<'a> {
    pub fn new(disk: &'a dyn Disk, dir: impl Into<PathBuf>) -> EpochFiles<'a> {
        EpochFiles { disk, dir: dir.into() }
    }

    /// Both values at boot; missing files are made from the epoch of `last`, the last zxid on disk. Repairs what a crash
    /// between history and epoch leaves: whoever holds a txn of an epoch, or its first snapshot, holds all the history
    /// that its leader started from.
    pub fn load(&self, last: Zxid) -> Result<Epochs, EpochError> {
        self.remove_staged()?;
        let of_last = last.epoch();
        let current = match self.read(CURRENT)? {
            Some(epoch) => epoch,
            None => self.write(CURRENT, of_last)?,
        };
        let accepted = match self.read(ACCEPTED)? {
            Some(epoch) => epoch,
            None => self.write(ACCEPTED, of_last.max(current))?,
        };
        let epochs = Epochs { accepted, current };
        if accepted < current || accepted < of_last {
            return Err(EpochError::Behind { dir: self.dir.clone(), epochs, last });
        }
        if of_last > current {
            return Ok(Epochs { accepted, current: self.write(CURRENT, of_last)? });
        }
        Ok(epochs)
    }

    /// Writes what differs from the files, `acceptedEpoch` first: it is never below the other. Durable on return.
    pub fn persist(&self, epochs: Epochs) -> Result<(), EpochError> {
        if self.read(ACCEPTED)? != Some(epochs.accepted) {
            // A sync with a new leader begins: what an earlier one has staged must not be adopted.
            self.remove_staged()?;
            self.write(ACCEPTED, epochs.accepted)?;
        }
        if self.read(CURRENT)? != Some(epochs.current) {
            self.write(CURRENT, epochs.current)?;
        }
        Ok(())
    }

    /// `None` when there is no such file.
    pub fn current(&self) -> Result<Option<Epoch>, EpochError> {
        self.read(CURRENT)
    }

    /// Before a snapshot of the leader's gets its name: its history is that of the epoch that was accepted last.
    pub fn stage_accepted(&self) -> Result<(), EpochError> {
        match (self.read(ACCEPTED)?, self.read(CURRENT)?) {
            (Some(accepted), current) if current.is_none_or(|current| current < accepted) => {
                self.stage_current(accepted)
            }
            _ => Ok(()),
        }
    }

    /// Durable on return.
    pub fn write_accepted(&self, epoch: Epoch) -> Result<(), EpochError> {
        self.write(ACCEPTED, epoch).map(drop)
    }

    /// Durable on return.
    pub fn write_current(&self, epoch: Epoch) -> Result<(), EpochError> {
        self.write(CURRENT, epoch).map(drop)
    }

    /// Writes `currentEpoch.tmp` only, for an Apache server that may open this directory after a crash: it adopts that
    /// value when the log is an epoch ahead. Only once the history of `epoch` is complete; `write_current` follows.
    pub fn stage_current(&self, epoch: Epoch) -> Result<(), EpochError> {
        self.stage(CURRENT, epoch).map(drop)
    }

    /// Deletes a stale `currentEpoch.tmp`: at boot and when a sync with a leader starts.
    pub fn remove_staged(&self) -> Result<(), EpochError> {
        let path = self.temporary(CURRENT);
        match self.disk.unlink(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(EpochError::Io { path, source }),
            _ => Ok(()),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Epoch>, EpochError> {
        let path = self.dir.join(name);
        let Some(line) = first_line(self.disk, &path)? else { return Ok(None) };
        match line.parse::<u32>() {
            Ok(epoch) => Ok(Some(Epoch(epoch))),
            Err(_) => Err(EpochError::Malformed { path, text: line }),
        }
    }

    fn write(&self, name: &str, epoch: Epoch) -> Result<Epoch, EpochError> {
        let staged = self.stage(name, epoch)?;
        let path = self.dir.join(name);
        let renamed = self.disk.rename(&staged, &path).and_then(|()| self.disk.sync_dir(&self.dir));
        renamed.map_err(|source| EpochError::Io { path, source })?;
        Ok(epoch)
    }

    fn stage(&self, name: &str, epoch: Epoch) -> Result<PathBuf, EpochError> {
        let path = self.temporary(name);
        let write = || {
            self.disk.create_dir(&self.dir)?;
            let file = self.disk.open(&path, Open::Create)?;
            file.write_at(epoch.0.to_string().as_bytes(), 0)?;
            file.sync_data()
        };
        write().map_err(|source| EpochError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.tmp"))
    }
}

/// Whether a `version-2` directory under dataDir is that of a server of an ensemble: only those have epoch files.
pub fn is_of_ensemble(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    Ok(disk.exists(&dir.join(CURRENT))? || disk.exists(&dir.join(ACCEPTED))?)
}

/// `myid` of a data directory; `None` when there is none: then the server has no ensemble.
pub fn my_id(disk: &dyn Disk, data_dir: &Path) -> Result<Option<ServerId>, EpochError> {
    let path = data_dir.join("myid");
    let Some(line) = first_line(disk, &path)? else { return Ok(None) };
    match line.parse::<u64>() {
        Ok(id) => Ok(Some(ServerId(id))),
        Err(_) => Err(EpochError::Malformed { path, text: line }),
    }
}

/// Not trimmed, as Apache reads it.
fn first_line(disk: &dyn Disk, path: &Path) -> Result<Option<String>, EpochError> {
    match disk.read(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EpochError::Io { path: path.to_path_buf(), source }),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk_sim::SimDisk;

    const DIR: &str = "/data/version-2";

    /// Files before, the last zxid on disk; the outcome and the files after.
    fn check(files: &[(&str, &str)], last: Zxid, expected: &str) {
        let disk = SimDisk::new();
        disk.create_dir(Path::new(DIR)).unwrap();
        for (name, text) in files {
            disk.put(&Path::new(DIR).join(name), text.as_bytes());
        }
        let outcome = match EpochFiles::new(&disk, DIR).load(last) {
            Ok(epochs) => format!("{} {}", epochs.accepted.0, epochs.current.0),
            Err(EpochError::Behind { .. }) => "behind".into(),
            Err(error) => error.to_string(),
        };
        let mut after = Vec::new();
        for file in disk.list(Path::new(DIR)).unwrap() {
            let text = disk.read(&Path::new(DIR).join(&file.name)).unwrap();
            after.push(format!("{}={}", file.name, String::from_utf8(text).unwrap()));
        }
        assert_eq!(format!("{outcome}: {}", after.join(" ")), expected);
    }

    fn at(epoch: u32) -> Zxid {
        Zxid::new(Epoch(epoch), 5)
    }

    #[test]
    fn epochs_at_boot() {
        check(&[], at(3), "3 3: acceptedEpoch=3 currentEpoch=3");
        check(
            &[("acceptedEpoch", "4"), ("currentEpoch", "3\nx")],
            at(3),
            "4 3: acceptedEpoch=4 currentEpoch=3\nx",
        );
        // A crash between history and epoch; and a stale temporary file, which Apache would adopt.
        check(
            &[("acceptedEpoch", "4"), ("currentEpoch", "3"), ("currentEpoch.tmp", "9")],
            at(4),
            "4 4: acceptedEpoch=4 currentEpoch=4",
        );
        check(
            &[("acceptedEpoch", "3"), ("currentEpoch", "3")],
            at(4),
            "behind: acceptedEpoch=3 currentEpoch=3",
        );
        check(
            &[("acceptedEpoch", "2"), ("currentEpoch", "3")],
            at(1),
            "behind: acceptedEpoch=2 currentEpoch=3",
        );
        check(
            &[("acceptedEpoch", " 2"), ("currentEpoch", "2")],
            at(1),
            "/data/version-2/acceptedEpoch must hold a decimal number on its first line, not \" 2\": acceptedEpoch= 2 \
             currentEpoch=2",
        );
    }

    #[test]
    fn a_crash_leaves_the_old_epoch_or_the_new_one() {
        for stop in 0.. {
            let disk = SimDisk::new();
            disk.put(&Path::new(DIR).join("acceptedEpoch"), b"7");
            disk.put(&Path::new(DIR).join("currentEpoch"), b"7");
            disk.stop_at(stop);
            let done = EpochFiles::new(&disk, DIR).write_accepted(Epoch(123)).is_ok();
            for bits in 0_u32..1 << disk.choices().len().min(8) {
                let picks: Vec<usize> = (0..)
                    .zip(disk.choices())
                    .map(|(at, states)| ((bits >> at & 1) as usize).min(states - 1))
                    .collect();
                let left = disk.after_power_cut(&picks);
                let epochs = EpochFiles::new(&left, DIR).load(Zxid::ZERO).unwrap();
                assert!(
                    epochs.accepted == Epoch(123) || (!done && epochs.accepted == Epoch(7)),
                    "stop {stop}: {epochs:?}"
                );
            }
            if done {
                break;
            }
        }
    }

    #[test]
    fn my_id_is_read_as_apache_reads_it() {
        let disk = SimDisk::new();
        let read = |text: &str| {
            disk.put(Path::new("/data/myid"), text.as_bytes());
            my_id(&disk, Path::new("/data")).map_err(|error| error.to_string())
        };
        assert_eq!(my_id(&disk, Path::new("/data")).unwrap(), None);
        assert_eq!(read("3\n"), Ok(Some(ServerId(3))));
        assert_eq!(read("12"), Ok(Some(ServerId(12))));
        assert!(read("3 \n").is_err());
        assert!(read("").is_err());
    }
}
