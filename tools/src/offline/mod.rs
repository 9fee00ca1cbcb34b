//! Tools for files of a data directory with no server running on it: `ostler log`, `ostler snapshot`, `ostler purge`.
//! They read Apache's files and ours, and print what Apache's tools print where Apache has such a tool.
//! Not here: formats (engine::log, engine::snapshot); anything that talks to a server.

mod java;
mod log;
mod log_give_up;
mod log_recover;
mod log_verify;
mod purge;
mod snapshot;
mod snapshot_compare;
mod snapshot_verify;
mod tree;
mod txn_text;

use ostler_engine::io::disk::{Disk, DiskFile, Open, RealDisk};
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What was asked for was done, and nothing wrong was found.
pub const EXIT_OK: i32 = 0;
/// A file cannot be read or written, or is not of its kind at all; or nothing of the kind is there.
pub const EXIT_FAILED: i32 = 1;
/// A file was read and is damaged.
pub const EXIT_DAMAGED: i32 = 3;

const EXIT_CODES: &str = "\
Exit codes: 0 nothing wrong; 1 a file cannot be read or written, or there is none; 2 the command line makes no sense; 3 damage was found.";

/// The offline part of the command line.
#[derive(clap::Subcommand, Debug)]
pub enum Offline {
    /// Show, check and repair transaction logs (log.<zxid>), Apache's or Ostler's
    #[command(subcommand, after_help = EXIT_CODES)]
    Log(LogCommand),
    /// Show, check and compare snapshots (snapshot.<zxid>[.gz|.snappy]), Apache's or Ostler's
    #[command(subcommand, after_help = EXIT_CODES)]
    Snapshot(SnapshotCommand),
    /// Remove old snapshots and the logs that only they need, as zkCleanup.sh does
    #[command(after_help = EXIT_CODES)]
    Purge(purge::PurgeArgs),
}

#[derive(clap::Subcommand, Debug)]
pub enum LogCommand {
    /// Print every txn, as Apache's TxnLogToolkit does
    Dump {
        /// A log file
        file: PathBuf,
    },
    /// Check framing, checksums, trailers and contiguity; say what is damaged, what is whole, and what to do next
    Verify {
        /// A log file, a data directory, or its version-2
        path: PathBuf,
    },
    /// Write FILE.fixed with checksums made right, as Apache's TxnLogToolkit -r; or cut a copy with --chop;
    /// or give up what stands behind damage with --give-up-after
    Recover(log_recover::RecoverArgs),
}

#[derive(clap::Subcommand, Debug)]
pub enum SnapshotCommand {
    /// Print every znode and session, as Apache's SnapshotFormatter does
    Dump(snapshot::DumpArgs),
    /// Read everything and check seals, footer, tree, ACLs and digest
    Verify {
        /// A snapshot, a data directory, or its version-2
        path: PathBuf,
    },
    /// Compare the sizes of two trees layer by layer, as Apache's SnapshotComparer does
    Compare(snapshot_compare::CompareArgs),
    /// Number and bytes of descendants of each inner znode, as Apache's SnapshotRecursiveSummary does
    Summary {
        /// A snapshot
        file: PathBuf,
        /// Where to start, for example /
        node: String,
        /// Levels printed below it; 0: all
        depth: u32,
    },
}

/// Options that Apache's tools spell with one dash and several letters, in the spelling of our command line.
pub fn respelled(mut arguments: Vec<String>) -> Vec<String> {
    if let [_, tool, verb, rest @ ..] = arguments.as_mut_slice()
        && (tool.as_str(), verb.as_str()) == ("snapshot", "dump")
    {
        rest.iter_mut().filter(|word| *word == "-json").for_each(|word| word.insert(0, '-'));
    }
    arguments
}

/// Runs a command to its end; the value is the process's exit code.
pub fn run(command: Offline) -> i32 {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = dispatch(command, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => EXIT_OK,
        Err(failure) => {
            // What was found before it still counts.
            let _ = out.flush();
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(command: Offline, out: &mut dyn Write) -> Result<i32, Failure> {
    match command {
        Offline::Log(LogCommand::Dump { file }) => log::dump(&file, out),
        Offline::Log(LogCommand::Verify { path }) => log_verify::verify(&path, out),
        Offline::Log(LogCommand::Recover(args)) => log_recover::recover(&args, &mut io::stdin().lock(), out),
        Offline::Snapshot(SnapshotCommand::Dump(args)) => snapshot::dump(&args, out),
        Offline::Snapshot(SnapshotCommand::Verify { path }) => snapshot_verify::verify(&path, out),
        Offline::Snapshot(SnapshotCommand::Compare(args)) => {
            snapshot_compare::compare(&args, &mut io::stdin().lock(), out)
        }
        Offline::Snapshot(SnapshotCommand::Summary { file, node, depth }) => {
            snapshot::summary(&file, &node, depth, out)
        }
        Offline::Purge(args) => purge::purge(&args, out),
    }
}

/// Why a tool ended early; already told to the user when it is `Told`.
#[derive(Debug)]
enum Failure {
    /// A file that cannot be used, and why.
    File(PathBuf, String),
    Damaged(String),
    Other(String),
    /// Our own output cannot be written.
    Output(io::Error),
}

impl Failure {
    fn exit_code(&self) -> i32 {
        match self {
            Failure::Damaged(_) => EXIT_DAMAGED,
            _ => EXIT_FAILED,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::File(path, why) => write!(f, "{}: {why}", path.display()),
            Failure::Damaged(why) | Failure::Other(why) => f.write_str(why),
            Failure::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::File(path.to_owned(), error.to_string())
}

fn open(path: &Path) -> Result<Box<dyn DiskFile>, Failure> {
    if path.is_dir() {
        return Err(Failure::File(path.to_owned(), "is a directory".into()));
    }
    RealDisk.open(path, Open::Read).map_err(at(path))
}

/// `version-2` below a data directory, or the directory itself when it is one.
fn version_dir(dir: &Path) -> PathBuf {
    let below = dir.join("version-2");
    if below.is_dir() { below } else { dir.to_owned() }
}

/// A tool that found nothing to work on was most likely pointed at the wrong place: that is no success.
fn nothing_here(dir: &Path, what: &str) -> Failure {
    Failure::Other(format!(
        "{}: there is no {what} here. Name dataDir or dataLogDir of the configuration, or a version-2 directory in it",
        dir.display()
    ))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
