//! What a member of an ensemble asks of the log's thread beside appending: epochs, TRUNC, SNAP. They stand in the log's one
//! queue, between two groups, so that history is on the disk before the epoch that rests on it, and both before what is said
//! of them.
//! Not here: when they are due; the order of what each does to the files (epochs, truncate, quarantine).

use super::epochs::{EpochError, EpochFiles};
use super::quarantine::{self, Install, InstallError};
use super::recover::Recovered;
use super::truncate::{TruncateError, Truncation, truncate};
use super::turn::LogAnswer;
use super::writer::{LogFailure, LogWriter};
use crate::io::disk::is_full;
use ostler_replication::{Epoch, Epochs, Number, Zxid};
use std::fmt;
use std::io;
use std::path::Path;

/// Recovers until the zxid of a TRUNC, changing nothing, and keeps the state for whoever asked. An error is the reason why
/// there is no way to that zxid here.
pub struct RecoverUntil(pub Box<dyn FnOnce() -> Result<Recovered, String> + Send>);

impl fmt::Debug for RecoverUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoverUntil")
    }
}

/// Writes the epoch files.
pub(super) fn persist(writer: &LogWriter, number: Number, epochs: Epochs) -> Result<LogAnswer, LogFailure> {
    files(writer).persist(epochs).map_err(epoch_failure)?;
    Ok(LogAnswer::Persisted { number, epochs })
}

/// Ends the log at `to`. `done` is false, and nothing has changed, when there is no way to end there.
pub(super) fn cut(
    writer: &mut LogWriter,
    (number, to): (Number, Zxid),
    recover: RecoverUntil,
) -> Result<LogAnswer, LogFailure> {
    writer.roll()?;
    let refused = |reason: &str| {
        tracing::warn!("the log cannot be cut to {to}: {reason}");
        LogAnswer::Truncated { number, to, done: false }
    };
    let recovered = match (recover.0)() {
        Ok(recovered) => recovered,
        Err(reason) => return Ok(refused(&reason)),
    };
    let current_epoch = files(writer).current().map_err(epoch_failure)?.unwrap_or(Epoch(0));
    let what = Truncation { log_dir: writer.dir(), snapshot_dir: writer.snapshot_dir(), current_epoch, to };
    match truncate(writer.disk(), &what, &recovered) {
        Ok(()) => {}
        Err(TruncateError::NotOurs { reason, .. }) => return Ok(refused(&reason)),
        Err(TruncateError::Io { path, source }) => {
            return Err(LogFailure { doing: "truncating", path, source });
        }
    }
    writer.go_on_behind(recovered.last);
    Ok(LogAnswer::Truncated { number, to, done: true })
}

/// Puts the snapshot that lies there as `staged` in place of the history. `done` is false, and nothing has changed, when the
/// disk is full or there is no such file.
pub(super) fn install(
    writer: &mut LogWriter,
    (number, zxid): (Number, Zxid),
    (staged, name): (&str, &str),
) -> Result<LogAnswer, LogFailure> {
    writer.roll()?;
    let what = Install { log_dir: writer.dir(), snapshot_dir: writer.snapshot_dir(), zxid, staged, name };
    // Where an Apache server would need it, should it be started on what a crash leaves here.
    let committed = match files(writer).stage_accepted() {
        Err(EpochError::Io { path, source }) => Err(InstallError { path, source }),
        Err(error) => return Err(epoch_failure(error)),
        Ok(()) => quarantine::commit(writer.disk(), &what),
    };
    match committed {
        Ok(()) => quarantine::finish(writer.disk(), &what).map_err(install_failure)?,
        Err(error) if is_full(&error.source) || error.source.kind() == io::ErrorKind::NotFound => {
            tracing::warn!("{error}");
            quarantine::withdraw(writer.disk(), &what).map_err(install_failure)?;
            files(writer).remove_staged().map_err(epoch_failure)?;
            return Ok(LogAnswer::Installed { number, zxid, done: false });
        }
        Err(error) => return Err(install_failure(error)),
    }
    writer.go_on_behind(zxid);
    Ok(LogAnswer::Installed { number, zxid, done: true })
}

fn files(writer: &LogWriter) -> EpochFiles<'_> {
    EpochFiles::new(writer.disk(), writer.snapshot_dir())
}

fn install_failure(InstallError { path, source }: InstallError) -> LogFailure {
    LogFailure { doing: "installing a snapshot by", path, source }
}

fn epoch_failure(error: EpochError) -> LogFailure {
    match error {
        EpochError::Io { path, source } => LogFailure { doing: "writing an epoch to", path, source },
        other => LogFailure {
            doing: "reading the epochs beside",
            path: Path::new("currentEpoch").into(),
            source: io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        },
    }
}
