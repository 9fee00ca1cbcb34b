//! User-space instructions of another process, a figure that noise does not touch: where the machine counts them (many
//! virtual machines do not), or where the process runs under valgrind's callgrind, which counts what it emulates.
//! `unsafe` here: the system call perf_event_open, which libc has no wrapper for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::process::Command;

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

/// A count over all threads of some processes.
pub enum Instructions {
    /// The kernel's, of the threads there were when it was opened.
    Kernel(Vec<File>),
    /// Processes that callgrind emulates.
    Callgrind(Vec<u32>),
}

impl Instructions {
    /// `None` where they cannot be counted: no such counter, no permission, no such process.
    pub fn of(pids: &[u32]) -> Option<Instructions> {
        let emulated = pids.iter().filter(|pid| is_under_callgrind(**pid)).count();
        match emulated {
            // Those of the emulation itself would be counted.
            1.. => (emulated == pids.len()).then(|| Instructions::Callgrind(pids.to_vec())),
            0 => open_all(pids, TYPE_HARDWARE, INSTRUCTIONS).map(Instructions::Kernel),
        }
    }

    /// Instructions since `of`.
    pub fn count(&self) -> io::Result<u64> {
        match self {
            Instructions::Kernel(counters) => sum(counters),
            Instructions::Callgrind(pids) => {
                pids.iter().try_fold(0, |total, pid| Ok(total + ask_callgrind(*pid)?))
            }
        }
    }
}

fn sum(counters: &[File]) -> io::Result<u64> {
    let mut total = 0;
    for mut counter in counters {
        let mut value = [0; 8];
        counter.read_exact(&mut value)?;
        total += u64::from_ne_bytes(value);
    }
    Ok(total)
}

/// Words before a server's own that have callgrind count it; `None` where valgrind is not installed. `{dir}` as in
/// `ServerKind`.
pub fn callgrind() -> Option<Vec<String>> {
    let installed =
        |word: &str| Command::new(word).arg("--version").output().is_ok_and(|o| o.status.success());
    let words = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file={dir}/callgrind.out",
        // Its pipes: of a server that is killed they would stay in the place for temporary files.
        &format!("{PIPES}{{dir}}/vgdb"),
    ];
    (installed("valgrind") && installed("callgrind_control")).then(|| words.map(String::from).to_vec())
}

fn is_under_callgrind(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|p| p.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind-")))
}

const PIPES: &str = "--vgdb-prefix=";

/// Instructions since its start, all threads together.
fn ask_callgrind(pid: u32) -> io::Result<u64> {
    let mut command = Command::new("callgrind_control");
    let started = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    command.args(started.split('\0').filter(|word| word.starts_with(PIPES)));
    let answer = command.args(["-e", &pid.to_string()]).output()?;
    let text = String::from_utf8_lossy(&answer.stdout);
    events(&text).ok_or_else(|| io::Error::other(format!("callgrind_control -e {pid} said: {}", text.trim())))
}

/// Sum over the threads of what `callgrind_control -e` prints: lines such as `   Th 4  583,547`.
fn events(text: &str) -> Option<u64> {
    let of_thread = |line: &str| {
        // Numbers of two digits take the place of the space: `  Th12  583,547`.
        let count = line.trim().strip_prefix("Th")?.split_whitespace().nth(1)?;
        count.replace(',', "").parse::<u64>().ok()
    };
    text.lines().filter_map(of_thread).reduce(|a, b| a + b)
}

fn open_all(pids: &[u32], kind: u32, config: u64) -> Option<Vec<File>> {
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
    (!counters.is_empty()).then_some(counters)
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
        let counters = Instructions::Kernel(counters);
        let mut last = counters.count().unwrap();
        for _ in 0..3 {
            let mut sum = 0u64;
            while counters.count().unwrap() <= last {
                sum = std::hint::black_box(sum + 1);
            }
            last = counters.count().unwrap();
        }
    }

    #[test]
    fn threads_of_callgrind_are_summed() {
        let text = "PID 7: ostler server z.cfg\n\n  Totals:     Ir \n   Th 1        0 \n   Th 3    1,642 \n   Th12  2,583,547 \n";
        assert_eq!(events(text), Some(2_585_189));
        assert_eq!(events("Error: Callgrind task with PID 7 not found."), None);
    }
}
