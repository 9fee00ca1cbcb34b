//! The calling thread's share of the CPU. System calls; nothing else may live here, because it is unsafe.

/// So many steps below the process's other threads: a quarter of the share of one that serves clients. With the 1.5 % of
/// the lowest priority, a snapshot of a million znodes took 18 s on a CPU that was busy all the time, and as long kept
/// what was replaced meanwhile from being freed.
const STEPS: libc::c_int = 5;

/// Lets other threads go first when CPUs are short. Failure is harmless and ignored.
pub fn lower() {
    // SAFETY: plain integers, no memory of ours. On Linux `who` 0 with PRIO_PROCESS means the calling thread alone. What
    // is beyond the lowest priority is taken as that.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, libc::getpriority(libc::PRIO_PROCESS, 0) + STEPS);
    }
}

/// Whether the calling thread is lower than the main one; `None` where that one has the lowest priority itself.
#[cfg(test)]
pub fn is_low() -> Option<bool> {
    const LOWEST: libc::c_int = 19;
    // SAFETY: as above; a process's own id means its main thread.
    let (own, main) = unsafe {
        let main = std::process::id();
        (libc::getpriority(libc::PRIO_PROCESS, 0), libc::getpriority(libc::PRIO_PROCESS, main))
    };
    (main < LOWEST).then_some(own > main)
}
