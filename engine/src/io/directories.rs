//! The two data directories of one server: made or found, not mixed up with each other, and taken for this process, which
//! nobody gets while another process shows that it serves them.
//! Not here: what their files hold, and what shows that (`owners`).

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::owners::{Owner, Processes, Sign};
use crate::config::Config;
use crate::limits;

/// Name of the file that is locked. Neither Apache's tools nor ours take it for a data file.
const LOCK_FILE: &str = "ostler.lock";

/// Both directories belong to this process until this is dropped. A process that dies releases them.
#[derive(Debug)]
pub struct Directories {
    _locks: Vec<File>,
}

/// Why a server cannot use its data directories.
#[derive(Debug)]
pub enum DirectoryError {
    /// It is missing and `datadir.autocreate` is off.
    Missing {
        directory: PathBuf,
    },
    /// Another server runs on it; who, if that can be said.
    Taken {
        directory: PathBuf,
        owner: Option<Owner>,
    },
    /// `dataDir` and `dataLogDir` were apart, or were one, when these files were written.
    Misplaced {
        directory: PathBuf,
        file: String,
        belongs: &'static str,
    },
    Io {
        path: PathBuf,
        source: io::Error,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::Missing { directory } => write!(
                f,
                "data directory {} is missing, and zookeeper.datadir.autocreate=false forbids to make it: create it, \
                 or mount what should be there",
                directory.display()
            ),
            DirectoryError::Taken { directory, owner } => {
                write!(f, "another server uses {}: ", directory.display())?;
                if let Some(owner) = owner {
                    write!(f, "{owner}. ")?;
                }
                f.write_str(
                    "Stop it, or give this server a directory of its own; if you know that nobody serves that directory, \
                     start once with -Dostler.ignoreOwner=true",
                )
            }
            DirectoryError::Misplaced { directory, file, belongs } => write!(
                f,
                "{} holds {file}, which belongs into {belongs}: dataDir and dataLogDir were set otherwise when it was \
                 written; move the files, or set the directories as they were",
                directory.display()
            ),
            DirectoryError::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for DirectoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DirectoryError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Directories {
    /// Makes both `version-2` directories if that is allowed, checks that neither holds the other's files, and takes
    /// them for this process.
    pub fn take(config: &Config) -> Result<Directories, DirectoryError> {
        let (data, logs) = (&config.data_dir, &config.data_log_dir);
        let apart = data != logs;
        let mut locks = Vec::new();
        let directories: Vec<&Path> =
            [data.as_path(), logs].into_iter().take(if apart { 2 } else { 1 }).collect();
        for directory in &directories {
            make(directory, config.data_dir_create)?;
            match lock(directory) {
                Ok(lock) => locks.push(lock),
                Err(error @ DirectoryError::Taken { .. }) if config.ignore_owner => ignore(&error),
                Err(error) => return Err(error),
            }
        }
        // Only whoever has the lock looks for others: two servers of ours never find each other here.
        match find_owner(&directories) {
            Err(error) if config.ignore_owner => ignore(&error),
            found => found?,
        }
        if apart {
            forbid(logs, "snapshot.", "dataDir")?;
            forbid(data, "log.", "dataLogDir")?;
        }
        Ok(Directories { _locks: locks })
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_path_buf();
    move |source| DirectoryError::Io { path, source }
}

fn make(directory: &Path, allowed: bool) -> Result<(), DirectoryError> {
    let version = directory.join("version-2");
    if version.is_dir() {
        return Ok(());
    }
    // Apache makes `version-2` only along with the directory itself; an empty mount point stays visible as a mistake.
    if !allowed {
        return Err(DirectoryError::Missing { directory: version });
    }
    fs::create_dir_all(&version).map_err(failed(&version))?;
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(failed(path));
    sync(directory)?;
    directory.parent().filter(|parent| parent.is_dir()).map_or(Ok(()), sync)
}

fn ignore(error: &DirectoryError) {
    tracing::warn!("{error}. It is set, so this server starts all the same");
}

/// Looks again for a while: a process that was killed, and one that has forked and not yet begun its program, keep files
/// for a moment.
fn until_gone(mut is_gone: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_millis(limits::OWNER_GONE_MS_MAX);
    while !is_gone() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(limits::OWNER_LOOK_MS));
    }
    true
}

fn find_owner(directories: &[&Path]) -> Result<(), DirectoryError> {
    let processes = Processes::of_this_machine();
    while let Some(owner) = processes.owner_of(directories) {
        // Then there may be another one.
        if !until_gone(|| !processes.is_owner(owner.pid, directories)) {
            return Err(DirectoryError::Taken {
                directory: directories[0].to_path_buf(),
                owner: Some(owner),
            });
        }
    }
    Ok(())
}

/// The lock, with our pid in the file for whoever does not get it.
fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK_FILE);
    let mut file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
    let mut failure = None;
    let got = until_gone(|| match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(source)) => {
            failure = Some(source);
            true
        }
    });
    if let Some(source) = failure {
        return Err(DirectoryError::Io { path, source });
    }
    if !got {
        return Err(DirectoryError::Taken { directory: directory.to_path_buf(), owner: holder(&path) });
    }
    // Without a pid, on a full disk, it is a lock all the same.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Who says in the lock file that it has the lock.
fn holder(path: &Path) -> Option<Owner> {
    let pid = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let command = Processes::of_this_machine().command(pid)?;
    Some(Owner { pid, command, sign: Sign::Lock(path.to_path_buf()) })
}

/// Apache refuses such a start, too: it would begin empty, or read half of its data.
fn forbid(directory: &Path, prefix: &str, belongs: &'static str) -> Result<(), DirectoryError> {
    let version = directory.join("version-2");
    for entry in fs::read_dir(&version).map_err(failed(&version))? {
        let name = entry.map_err(failed(&version))?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            return Err(DirectoryError::Misplaced { directory: version, file: name, belongs });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(home: &Path, apart: bool) -> Config {
        let mut config = Config::embedded(home.join("data"));
        if apart {
            config.data_log_dir = home.join("logs");
        }
        config
    }

    #[track_caller]
    fn check(config: &Config, expected: &str) {
        match Directories::take(config) {
            Ok(_) => assert_eq!(expected, ""),
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{error} lacks {expected:?}");
            }
        }
    }

    #[test]
    fn made_taken_and_given_back() {
        let home = tempfile::tempdir().unwrap();
        for apart in [false, true] {
            let config = config(home.path(), apart);
            let held = Directories::take(&config).unwrap();
            assert!(config.data_log_dir.join("version-2").is_dir());
            check(&config, "another server uses");
            drop(held);
            check(&config, "");
        }
    }

    #[test]
    fn a_directory_that_another_process_writes_is_refused_until_it_ends() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path(), true);
        drop(Directories::take(&config).unwrap());
        let log = config.data_log_dir.join("version-2/log.1");
        let mut writer = std::process::Command::new("sh");
        writer.arg("-c").arg("exec 3>>\"$1\"; echo open; read end").arg("sh").arg(&log);
        writer.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut writer = writer.spawn().unwrap();
        let mut open = [0; 5];
        io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut open).unwrap();
        check(&config, &format!("process {} (sh", writer.id()));
        check(&config, &format!("has {} open for writing", log.display()));
        check(&config, "start once with -Dostler.ignoreOwner=true");
        check(&Config { ignore_owner: true, ..config.clone() }, "");
        drop(writer.stdin.take());
        writer.wait().unwrap();
        check(&config, "");
    }

    #[test]
    fn whoever_has_the_lock_is_named() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path(), false);
        let held = Directories::take(&config).unwrap();
        check(&config, &format!("process {} (", std::process::id()));
        drop(held);
    }

    #[test]
    fn not_made_when_forbidden() {
        let home = tempfile::tempdir().unwrap();
        let config = Config { data_dir_create: false, ..config(home.path(), false) };
        check(&config, "is missing");
        fs::create_dir_all(config.data_dir.join("version-2")).unwrap();
        check(&config, "");
    }

    #[test]
    fn files_in_the_wrong_directory() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path(), true);
        check(&config, "");
        let stray = config.data_dir.join("version-2/log.1");
        fs::write(&stray, "").unwrap();
        check(&config, "log.1, which belongs into dataLogDir");
        fs::remove_file(stray).unwrap();
        fs::write(config.data_log_dir.join("version-2/snapshot.0"), "").unwrap();
        check(&config, "snapshot.0, which belongs into dataDir");
        // One directory for both may hold both.
        let one = Config { data_dir: config.data_log_dir.clone(), ..config };
        check(&one, "");
    }

    #[test]
    fn a_file_in_the_way() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path(), false);
        fs::write(&config.data_dir, "").unwrap();
        check(&config, "version-2: Not a directory");
    }
}
