//! `limit sync`: what raw group commit costs on this disk, by method. One batch is written and made durable, then the
//! next: the ceiling for durable writes.
//! `unsafe` here: the mapping, aligned buffers and the ring of io_uring; nothing outlives the measurement.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::measure::{Percentiles, new_histogram};

const SEGMENT_BYTES: u64 = 64 << 20;
const BLOCK: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Method {
    /// pwrite behind the end of the file, fdatasync.
    Extending,
    /// pwrite into blocks that fallocate reserved, fdatasync.
    Fallocated,
    /// pwrite into blocks already written with zeros, fdatasync.
    PreWritten,
    /// Store through a mapping of such blocks, fdatasync.
    Mapped,
    /// The same, msync.
    MappedMsync,
    /// Whole blocks with O_DIRECT and O_DSYNC into such blocks.
    DirectDsync,
    /// A write linked to an fdatasync through io_uring, one call.
    IoUring,
}

pub const METHODS: [Method; 7] = [
    Method::Extending,
    Method::Fallocated,
    Method::PreWritten,
    Method::Mapped,
    Method::MappedMsync,
    Method::DirectDsync,
    Method::IoUring,
];

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SyncResult {
    pub method: Method,
    pub batch_bytes: usize,
    pub syncs_per_second: f64,
    /// CPU the committing thread spent on one commit.
    pub cpu_us: f64,
    pub latency: Percentiles,
}

/// One method's file, prepared once for many short measurements; removed when dropped.
pub struct Probe {
    path: PathBuf,
    method: Method,
    file: File,
}

impl Probe {
    pub fn new(dir: &Path, method: Method) -> io::Result<Probe> {
        let path = dir.join(format!("sync-limit-{}-{method:?}", std::process::id()));
        match prepare(&path, method) {
            Ok(file) => Ok(Probe { path, method, file }),
            Err(e) => {
                let _ = std::fs::remove_file(&path);
                Err(e)
            }
        }
    }

    /// Commits batches of `batch_bytes`, which the segment holds at least one of, for `duration`.
    pub fn measure(&self, batch_bytes: usize, duration: Duration) -> io::Result<SyncResult> {
        let mut commit = committer(&self.file, self.method, batch_bytes)?;
        let mut histogram = new_histogram();
        let cpu_before = own_cpu();
        let begin = Instant::now();
        let mut at = 0u64;
        while begin.elapsed() < duration {
            if at + batch_bytes as u64 + BLOCK as u64 > SEGMENT_BYTES {
                at = 0;
            }
            let start = Instant::now();
            at += commit(at)? as u64;
            histogram.saturating_record(start.elapsed().as_nanos() as u64);
        }
        let seconds = begin.elapsed().as_secs_f64();
        let cpu = own_cpu().saturating_sub(cpu_before);
        let commits = histogram.len().max(1) as f64;
        Ok(SyncResult {
            method: self.method,
            batch_bytes,
            syncs_per_second: histogram.len() as f64 / seconds,
            cpu_us: cpu.as_secs_f64() * 1e6 / commits,
            latency: Percentiles::of(&histogram),
        })
    }
}

/// CPU time of this process, with the threads that the kernel gives it for io_uring.
fn own_cpu() -> Duration {
    crate::measure::cpu_exact(std::process::id()).unwrap_or_default()
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Every method this file system and sandbox allow, in `passes` turns of `duration` each; medians.
pub fn measure_all(
    dir: &Path,
    batch_bytes: usize,
    passes: usize,
    duration: Duration,
) -> io::Result<Vec<SyncResult>> {
    let mut probes = Vec::new();
    for method in METHODS {
        match Probe::new(dir, method) {
            Ok(probe) => probes.push((probe, Vec::new())),
            Err(_) if matches!(method, Method::DirectDsync | Method::IoUring) => {}
            Err(e) => return Err(e),
        }
    }
    for _ in 0..passes {
        for (probe, results) in &mut probes {
            match probe.measure(batch_bytes, duration) {
                Ok(result) => results.push(result),
                Err(_) if matches!(probe.method, Method::DirectDsync | Method::IoUring) => {}
                Err(e) => return Err(e),
            }
        }
    }
    let middle = |(_, mut results): (Probe, Vec<SyncResult>)| {
        results.sort_by(|a, b| a.syncs_per_second.total_cmp(&b.syncs_per_second));
        let half = results.len() / 2;
        results.into_iter().nth(half)
    };
    Ok(probes.into_iter().filter_map(middle).collect())
}

fn prepare(path: &Path, method: Method) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(path)?;
    match method {
        Method::Extending => {}
        Method::Fallocated => {
            // SAFETY: a plain call on a file we own.
            let failed = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, SEGMENT_BYTES as i64) };
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
        }
        _ => {
            // In 4 KiB writes: larger ones leave large folios in the page cache, and every sync then writes one whole.
            for block in 0..SEGMENT_BYTES / BLOCK as u64 {
                file.write_all_at(&[0; BLOCK], block * BLOCK as u64)?;
            }
        }
    }
    file.sync_all()?;
    if method == Method::DirectDsync {
        return OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path);
    }
    Ok(file)
}

type Commit<'a> = Box<dyn FnMut(u64) -> io::Result<usize> + 'a>;

fn committer(file: &File, method: Method, batch_bytes: usize) -> io::Result<Commit<'_>> {
    let batch = vec![0x5a; batch_bytes];
    Ok(match method {
        Method::Extending | Method::Fallocated | Method::PreWritten => Box::new(move |at| {
            file.write_all_at(&batch, at)?;
            file.sync_data()?;
            Ok(batch.len())
        }),
        Method::Mapped | Method::MappedMsync => {
            // SAFETY: the file is private to this measurement and is not cut while it is mapped.
            let mut map = unsafe { memmap2::MmapMut::map_mut(file) }?;
            Box::new(move |at| {
                map[at as usize..at as usize + batch.len()].copy_from_slice(&batch);
                match method {
                    Method::Mapped => file.sync_data()?,
                    _ => map.flush_range(at as usize, batch.len())?,
                }
                Ok(batch.len())
            })
        }
        Method::DirectDsync => {
            let length = batch_bytes.next_multiple_of(BLOCK);
            let buffer = vec![0x5au8; length + BLOCK];
            let skip = buffer.as_ptr().align_offset(BLOCK);
            Box::new(move |at| {
                file.write_all_at(&buffer[skip..skip + length], at)?;
                Ok(length)
            })
        }
        Method::IoUring => {
            let mut ring = io_uring::IoUring::new(4)?;
            let fd = io_uring::types::Fd(file.as_raw_fd());
            Box::new(move |at| {
                let write = io_uring::opcode::Write::new(fd, batch.as_ptr(), batch.len() as u32)
                    .offset(at)
                    .build()
                    .flags(io_uring::squeue::Flags::IO_LINK);
                let sync =
                    io_uring::opcode::Fsync::new(fd).flags(io_uring::types::FsyncFlags::DATASYNC).build();
                // SAFETY: `batch` lives until both completions below were taken.
                unsafe { ring.submission().push_multiple(&[write, sync]) }.map_err(io::Error::other)?;
                ring.submit_and_wait(2)?;
                for completion in ring.completion() {
                    if completion.result() < 0 {
                        return Err(io::Error::from_raw_os_error(-completion.result()));
                    }
                }
                Ok(batch.len())
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_commits() {
        let dir = tempfile::tempdir().unwrap();
        let results = measure_all(dir.path(), 300, 3, Duration::from_millis(20)).unwrap();
        // Sandboxes forbid io_uring; some file systems have no O_DIRECT.
        assert!(results.len() >= METHODS.len() - 2);
        for result in results {
            assert!(result.syncs_per_second > 1.0, "{result:?}");
            assert!(result.latency.p50_us > 0.01, "{result:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
