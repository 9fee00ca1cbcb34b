//! `ostler log verify`: everything that can be checked about logs without a tree. Each file by itself, the steps between
//! records and files, and for a directory what a server started on it would do.

use super::{EXIT_DAMAGED, EXIT_OK, Failure, at, file_name, nothing_here, open, version_dir};
use ostler_engine::io::disk::RealDisk;
use ostler_engine::log::{
    Found, LogFile, Origin, Problem, Record, RecoverSettings, epochs, is_undecodable_request, log_files,
    recover, scan,
};
use ostler_engine::model::SessionId;
use ostler_engine::snapshot::{LoadError, ReadOptions, Restore, SnapshotNode, load_newest};
use ostler_engine::wire::txn::TxnEntry;
use ostler_replication::Zxid;
use std::io::Write;
use std::path::Path;

pub fn verify(path: &Path, out: &mut dyn Write) -> Result<i32, Failure> {
    if path.is_dir() {
        return directory(&version_dir(path), out);
    }
    let file =
        LogFile { first: Zxid::ZERO, path: path.to_owned(), bytes: open(path)?.len().map_err(at(path))? };
    let report = Report::of(&file, None)?;
    report.print(out)?;
    if let Some(tail) = &report.tail {
        writeln!(
            out,
            "{tail}. In the newest log this is a torn write that was never acknowledged: the server cuts it when it \
             starts. With a newer log beside it that does not go on exactly there, it is damage. To be told which: \
             ostler log verify on the directory"
        )?;
    }
    Ok(report.exit_code())
}

fn directory(dir: &Path, out: &mut dyn Write) -> Result<i32, Failure> {
    let files = log_files(&RealDisk, dir).map_err(at(dir))?;
    if files.is_empty() {
        return Err(nothing_here(dir, "log file (log.<zxid>)"));
    }
    let (mut last, mut first, mut code) = (None, None, EXIT_OK);
    for file in &files {
        let report = Report::of(file, last)?;
        report.print(out)?;
        if let Some(tail) = &report.tail {
            writeln!(out, "  {tail}")?;
        }
        first = first.or(report.first);
        last = report.last.or(last);
        code = code.max(report.exit_code());
    }
    let Some(first) = first else {
        writeln!(out, "{}: no txn in {} log files", dir.display(), files.len())?;
        return Ok(code);
    };
    Ok(code.max(start(dir, first, out)?))
}

/// What a server started on the directory would do.
pub fn start(dir: &Path, first: Zxid, out: &mut dyn Write) -> Result<i32, Failure> {
    let (base, from, has_snapshot) = match load_newest(&RealDisk, dir, ReadOptions::default(), |_| Nothing) {
        Ok(Some(loaded)) => {
            for skipped in &loaded.skipped {
                writeln!(out, "DAMAGED snapshot, an older one is used: {skipped}")?;
            }
            (loaded.zxid, file_name(&loaded.path), true)
        }
        Ok(None) => (
            Zxid(first.0.saturating_sub(1)),
            "no snapshot here; replay is checked from the first txn".into(),
            false,
        ),
        Err(LoadError::Io { path, source }) => return Err(Failure::File(path, source.to_string())),
        Err(error @ LoadError::NoneLoads(_)) => {
            writeln!(out, "A server would not start: {error}")?;
            return Ok(EXIT_DAMAGED);
        }
    };
    let entry =
        &mut |_: Zxid, entry: &[u8]| TxnEntry::decode(entry).map(|_| ()).map_err(|error| error.to_string());
    // Without a snapshot here the epoch files lie elsewhere, too.
    let ensemble = epochs::is_of_ensemble(&RealDisk, dir)
        .map_err(|error| Failure::File(dir.into(), error.to_string()))?;
    let settings = RecoverSettings { repair: false, alone: has_snapshot && !ensemble, until: None };
    match recover(&RealDisk, dir, base, settings, entry) {
        Ok(found) => {
            writeln!(
                out,
                "A server would start ({from}): {} txns behind {base}, up to {}",
                found.records, found.last
            )?;
            if let Some(cut) = &found.cut {
                let offset = cut.offset_bytes;
                writeln!(
                    out,
                    "  it would cut {} at offset {offset}, a torn write that was never acknowledged: {}",
                    file_name(&cut.segment),
                    cut.problem
                )?;
            }
            found.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))?;
            Ok(EXIT_OK)
        }
        Err(error) => {
            writeln!(out, "A server would not start ({from}): {error}")?;
            Ok(EXIT_DAMAGED)
        }
    }
}

/// A state that keeps nothing: for loading a snapshot only to see whether it loads.
pub struct Nothing;

impl Restore for Nothing {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        Ok(())
    }

    fn acl(&mut self, _: i64, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn node(&mut self, _: SnapshotNode<'_>) -> Result<(), String> {
        Ok(())
    }
}

struct Report {
    name: String,
    origin: Option<Origin>,
    first: Option<Zxid>,
    last: Option<Zxid>,
    txns: u64,
    batches: u64,
    used_bytes: u64,
    bytes: u64,
    /// Sentences on what is wrong for certain.
    damage: Vec<String>,
    /// What may be a torn write or damage, depending on other files.
    tail: Option<String>,
}

impl Report {
    /// `before`: the last zxid of the file before this one.
    fn of(file: &LogFile, before: Option<Zxid>) -> Result<Report, Failure> {
        let contents = open(&file.path)?.contents().map_err(at(&file.path))?;
        let mut scan = scan(&contents);
        let mut report = Report {
            name: file_name(&file.path),
            origin: scan.origin(),
            first: None,
            last: None,
            txns: 0,
            batches: 0,
            used_bytes: 0,
            bytes: file.bytes,
            damage: Vec::new(),
            tail: None,
        };
        let mut last = before;
        for found in &mut scan {
            match found {
                Found::Record(record) => {
                    report.record(&record, last);
                    last = Some(record.zxid);
                }
                Found::Problem { offset_bytes, problem, resumes_bytes } => {
                    report.problem(offset_bytes, problem, resumes_bytes, last);
                }
            }
        }
        Ok(report)
    }

    fn record(&mut self, record: &Record<'_>, last: Option<Zxid>) {
        let offset = record.offset_bytes;
        let place = format!("at offset {offset}");
        if let Some(last) = last
            && !follows(last, record)
        {
            let (found, missing) =
                (record.zxid, if record.zxid > last { "txns are missing" } else { "it goes back" });
            self.damage.push(format!("{place}: {found} comes after {last}: {missing}"));
        }
        match TxnEntry::decode(record.entry) {
            Ok((_, used)) if used == record.entry.len() => {}
            // Apache reads 1 to 11 bytes behind a body as "no digest", and more than 12 as a digest and something.
            Ok((_, used)) => self.damage.push(format!(
                "{place}: txn {} has {} bytes behind its end",
                record.zxid,
                record.entry.len() - used
            )),
            Err(error) => self.damage.push(format!("{place}: txn {} does not decode: {error}", record.zxid)),
        }
        self.first = self.first.or(Some(record.zxid));
        self.last = Some(record.zxid);
        self.txns += 1;
        self.batches += u64::from(record.begins_batch);
        self.used_bytes = record.next_bytes;
    }

    fn problem(&mut self, offset: u64, problem: Problem, resumes: Option<u64>, last: Option<Zxid>) {
        let good = last.map_or("no txn before it".to_owned(), |last| format!("last good txn {last}"));
        let what = format!("at offset {offset}: {problem}; {good}");
        match resumes {
            Some(resumes) => {
                self.damage.push(format!("{what}; whole txns go on at offset {resumes}"));
            }
            None => self.tail = Some(what),
        }
    }

    fn exit_code(&self) -> i32 {
        // A file without a readable header is no torn tail.
        if self.damage.is_empty() && self.origin.is_some() { EXIT_OK } else { EXIT_DAMAGED }
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let origin = match self.origin {
            None => "not a log".to_owned(),
            Some(Origin::Apache) => "Apache's, checked by Adler-32".to_owned(),
            Some(Origin::Ostler(_)) => format!("Ostler's, checked by CRC32C, {} batches", self.batches),
        };
        let range = match (self.first, self.last) {
            (Some(first), Some(last)) => format!("{} txns, {first} to {last}", self.txns),
            _ => "no txn".to_owned(),
        };
        writeln!(out, "{}: {range}; {} of {} bytes used; {origin}", self.name, self.used_bytes, self.bytes)?;
        self.damage.iter().try_for_each(|what| writeln!(out, "  DAMAGED {what}"))?;
        if !self.damage.is_empty() {
            writeln!(
                out,
                "  Next: put this file back from a copy; or, in an ensemble, move the data directory away and let the \
                 server fetch everything from its peers; or give up all txns from the damage on: \
                 ostler log recover --give-up-after, as ostler log verify on the directory says"
            )?;
        }
        Ok(())
    }
}

/// The next zxid, the start of a later epoch, or the one record Apache logs under the zxid of the record before it.
fn follows(last: Zxid, record: &Record<'_>) -> bool {
    let zxid = record.zxid;
    let undecodable = is_undecodable_request(record.entry);
    last.0.checked_add(1) == Some(zxid.0)
        || (zxid.epoch() > last.epoch() && (zxid.counter() == 1 || (zxid.counter() == 0 && undecodable)))
        || (zxid == last && undecodable)
}
