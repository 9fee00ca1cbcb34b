//! User-space instructions of another process, where the machine counts them (many virtual machines do not): a figure
//! that noise does not touch.
//! `unsafe` here: the system call perf_event_open, which libc has no wrapper for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;

/// Bits of perf_event_attr's flag word: no kernel, no hypervisor.
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const TYPE_HARDWARE: u32 = 0;
const INSTRUCTIONS: u64 = 1;
/// PERF_FLAG_FD_CLOEXEC.
const CLOSE_ON_EXEC: libc::c_ulong = 8;

/// The first version of perf_event_attr (64 bytes), which every kernel takes.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_kind: u32,
    breakpoint_address: u64,
}

const _: () = assert!(size_of::<Attributes>() == 64);

/// Counters of every thread a process had when it was opened.
pub struct Instructions(Vec<File>);

impl Instructions {
    /// `None` where they cannot be counted: no such counter, no permission, no such process.
    pub fn of(pids: &[u32]) -> Option<Instructions> {
        open_all(pids, TYPE_HARDWARE, INSTRUCTIONS)
    }

    /// Instructions since `of`.
    pub fn count(&self) -> io::Result<u64> {
        let mut total = 0;
        for mut counter in &self.0 {
            let mut value = [0; 8];
            counter.read_exact(&mut value)?;
            total += u64::from_ne_bytes(value);
        }
        Ok(total)
    }
}

fn open_all(pids: &[u32], kind: u32, config: u64) -> Option<Instructions> {
    let mut counters = Vec::new();
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let thread = task.file_name().to_str()?.parse().ok()?;
            match open(thread, kind, config) {
                Ok(counter) => counters.push(counter),
                // The thread has ended in between.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                Err(_) => return None,
            }
        }
    }
    (!counters.is_empty()).then_some(Instructions(counters))
}

fn open(thread: i32, kind: u32, config: u64) -> io::Result<File> {
    let attributes = Attributes {
        kind,
        size: size_of::<Attributes>() as u32,
        config,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
        wakeup_events: 0,
        breakpoint_kind: 0,
        breakpoint_address: 0,
    };
    const ANY_CPU: i32 = -1;
    const NO_GROUP: i32 = -1;
    // SAFETY: the kernel only reads `attributes`, whose size it is told, and gives a descriptor of our own or -1.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &attributes, thread, ANY_CPU, NO_GROUP, CLOSE_ON_EXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor just opened, owned by nobody else.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE_SOFTWARE: u32 = 1;
    const TASK_CLOCK: u64 = 1;

    /// Hardware counters are missing on many machines; a counter of the kernel's own shows that the rest works.
    #[test]
    fn a_process_is_counted() {
        let Some(counters) = open_all(&[std::process::id()], TYPE_SOFTWARE, TASK_CLOCK) else {
            eprintln!("this machine lets nobody count");
            return;
        };
        let mut last = counters.count().unwrap();
        for _ in 0..3 {
            let mut sum = 0u64;
            while counters.count().unwrap() <= last {
                sum = std::hint::black_box(sum + 1);
            }
            last = counters.count().unwrap();
        }
    }
}
