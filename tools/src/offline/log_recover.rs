//! `ostler log recover`: Apache's TxnLogToolkit -r and -c. Writes a new file and never touches the old one.
//! Not here: a directory that is to be served again (log_give_up).

use super::log::{self, Framed};
use super::{EXIT_DAMAGED, EXIT_OK, Failure, at, log_give_up, open};
use ostler_engine::log::{FILE_HEADER_BYTES, Origin, put_record};
use ostler_replication::Zxid;
use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct RecoverArgs {
    /// A log file; with --give-up-after dataLogDir, or dataDir when there is no other
    #[arg(value_name = "FILE | DIR")]
    file: PathBuf,
    /// With --give-up-after, where the snapshots are, when not in the same place: dataDir
    #[arg(value_name = "SNAPDIR", requires = "give_up_after")]
    snap_dir: Option<PathBuf>,
    /// Repair all checksums without asking
    #[arg(short, long)]
    yes: bool,
    /// Print every txn, not just the repaired ones
    #[arg(short, long)]
    verbose: bool,
    /// Instead write FILE.chopped<ZXID>: a copy that ends with this txn (decimal, or hex behind 0x)
    #[arg(short, long, value_name = "ZXID", value_parser = zxid, conflicts_with = "yes")]
    chop: Option<Zxid>,
    /// Make a damaged directory one that a server starts from: everything behind this txn, which the server's message or log
    /// verify names, is set aside there, and what is lost is said
    #[arg(long, value_name = "ZXID", value_parser = zxid, conflicts_with_all = ["yes", "verbose", "chop"])]
    give_up_after: Option<Zxid>,
}

fn zxid(word: &str) -> Result<Zxid, String> {
    let number = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    number
        .map(Zxid)
        .map_err(|_| format!("{word} is no zxid: expected decimal digits, or hex digits behind 0x"))
}

pub fn recover(args: &RecoverArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<i32, Failure> {
    if let Some(after) = args.give_up_after {
        return log_give_up::give_up(&args.file, args.snap_dir.as_deref(), after, out);
    }
    match args.chop {
        Some(zxid) => chop(&args.file, zxid, out),
        None => fix(args, input, out),
    }
}

/// What the user wants done with a record whose checksum does not hold.
enum Answer {
    Fix,
    Keep,
    Abort,
    /// Nobody is there to answer.
    Silence,
}

fn fix(args: &RecoverArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<i32, Failure> {
    let path = &args.file;
    let file = open(path)?.contents().map_err(at(path))?;
    let target = beside(path, ".fixed");
    if target.exists() {
        return Err(Failure::Other(format!(
            "Recovery file {} already exists or not writable\nRecovery aborted.",
            target.display()
        )));
    }
    let origin = log::header(path, &file, out)?;
    let mut fixed = Target::create(&target, &file[..FILE_HEADER_BYTES])?;
    let (mut count, mut repaired, mut kept, mut aborted) = (0u64, 0u64, 0u64, false);
    let ended = log::walk(&file, origin, |framed| {
        count += 1;
        if framed.problem.is_none() && !args.verbose {
            fixed.put(framed.bytes)?;
            return Ok(true);
        }
        let line = log::line(path, &framed)?;
        if framed.problem.is_none() {
            writeln!(out, "{line}")?;
            fixed.put(framed.bytes)?;
            return Ok(true);
        }
        let answer = match args.yes {
            true => Answer::Fix,
            false => {
                writeln!(out, "CRC ERROR - {line}")?;
                ask(input, out)?
            }
        };
        match answer {
            Answer::Fix => {
                if args.yes {
                    writeln!(out, "CRC FIXED - {line}")?;
                }
                fixed.put(&repair(&framed, origin))?;
                repaired += 1;
            }
            Answer::Keep => {
                fixed.put(framed.bytes)?;
                kept += 1;
            }
            Answer::Abort => aborted = true,
            Answer::Silence => {
                return Err(Failure::Other(format!(
                    "\nThere is no answer: that means no, and nothing is written. To repair all without being asked: \
                     ostler log recover --yes {}",
                    path.display()
                )));
            }
        }
        if args.verbose && !aborted {
            writeln!(out, "{line}")?;
        }
        Ok(!aborted)
    })?;
    fixed.finish()?;
    if aborted {
        return Ok(EXIT_OK);
    }
    writeln!(out, "EOF reached after {count} txns.")?;
    writeln!(out, "Recovery file {} has been written with {repaired} fixed CRC error(s)", target.display())?;
    if let Some(problem) = ended.problem {
        out.flush()?;
        let offset = ended.offset_bytes;
        eprintln!(
            "{}: at offset {offset}: {problem}. The new file ends before it; nothing behind it can be \
             used, because the txns in between are lost. What is there: ostler log verify {}",
            path.display(),
            path.display()
        );
        return Ok(EXIT_DAMAGED);
    }
    Ok(if kept == 0 { EXIT_OK } else { EXIT_DAMAGED })
}

fn ask(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<Answer, Failure> {
    loop {
        write!(out, "Would you like to fix it (Yes/No/Abort) ? ")?;
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(Answer::Silence);
        }
        match line.chars().next().map(|c| c.to_ascii_lowercase()) {
            Some('y') => return Ok(Answer::Fix),
            Some('n') => return Ok(Answer::Keep),
            Some('a') => return Ok(Answer::Abort),
            _ => {}
        }
    }
}

/// The same record at the same offset with every check made right.
fn repair(framed: &Framed<'_>, origin: Origin) -> Vec<u8> {
    match origin {
        Origin::Ostler(id) if framed.entry.len() < framed.bytes.len() - 13 => {
            let mut record = Vec::with_capacity(framed.bytes.len());
            put_record(&mut record, id, framed.offset_bytes, framed.begins_batch, framed.entry);
            record
        }
        // Of a file of ours whose trailer is gone only Apache's checks can be made right; the server still refuses it.
        _ => {
            let mut record = framed.bytes.to_vec();
            let adler = simd_adler32::adler32(&&record[12..record.len() - 1]);
            record[..8].copy_from_slice(&u64::from(adler).to_be_bytes());
            record
        }
    }
}

fn chop(path: &Path, zxid: Zxid, out: &mut dyn Write) -> Result<i32, Failure> {
    let file = open(path)?.contents().map_err(at(path))?;
    let target = beside(path, &format!(".chopped{}", zxid.0));
    let origin = log::header(path, &file, out)?;
    let (mut count, mut end, mut last, mut damage) = (0u64, None, None::<Zxid>, None);
    let ended = log::walk(&file, origin, |framed| {
        if framed.problem.is_some() {
            damage = framed.problem;
            return Ok(false);
        }
        let found = entry_zxid(framed.entry);
        count += 1;
        if let Some(word) = last.and_then(|last| gap(last, found)) {
            writeln!(out, "There is {word} gap between {:x} and {:x}", last.unwrap_or_default().0, found.0)?;
        }
        last = Some(found);
        end = (found == zxid).then_some(framed.offset_bytes + framed.bytes.len() as u64);
        Ok(end.is_none())
    })?;
    let Some(end) = end else {
        if let Some(problem) = damage.or(ended.problem) {
            let offset = ended.offset_bytes;
            return Err(Failure::Damaged(format!(
                "Failed to chop {}: no txn {zxid} before offset {offset}, where {problem}",
                path.display()
            )));
        }
        return Err(Failure::Other(format!(
            "Failed to chop {}: there is no txn {zxid} in it",
            path.display()
        )));
    };
    let mut chopped = Target::create(&target, &file[..end as usize])?;
    chopped.finish()?;
    writeln!(out, "Chopping at {:x} new log has {count} records", zxid.0)?;
    Ok(EXIT_OK)
}

/// What is missing between two neighbours: an epoch's txns count from 1.
fn gap(last: Zxid, found: Zxid) -> Option<&'static str> {
    if last.epoch() == found.epoch() {
        return (found.0 != last.0 + 1).then_some("intra-epoch");
    }
    (found.counter() != 1).then_some("inter-epoch")
}

fn entry_zxid(entry: &[u8]) -> Zxid {
    entry
        .get(12..20)
        .and_then(|bytes| bytes.first_chunk())
        .map_or(Zxid::ZERO, |raw| Zxid(u64::from_be_bytes(*raw)))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The file being written; synced before anybody is told of it, and gone if it is not brought to its end.
struct Target {
    path: PathBuf,
    file: BufWriter<File>,
    finished: bool,
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Target {
    fn create(path: &Path, start: &[u8]) -> Result<Target, Failure> {
        let file = File::create(path).map_err(at(path))?;
        let mut target = Target { path: path.to_owned(), file: BufWriter::new(file), finished: false };
        target.put(start)?;
        Ok(target)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(at(&self.path))
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(at(&self.path))?;
        self.finished = true;
        Ok(())
    }
}
