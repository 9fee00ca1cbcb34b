//! The calling thread's share of the CPU. System calls; nothing else may live here, because it is unsafe.

/// A quarter of the share of one that serves clients. With the 1.5 % of the lowest priority, a snapshot of a million
/// znodes took 18 s on a CPU that was busy all the time, and as long kept what was replaced meanwhile from being freed.
const LOW: libc::c_int = 5;

/// Lets other threads go first when CPUs are short. Failure is harmless and ignored.
pub fn lower() {
    // SAFETY: setpriority takes plain integers and touches no memory of ours. On Linux `who` 0 with PRIO_PROCESS means
    // the calling thread alone.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, LOW);
    }
}

#[cfg(test)]
pub fn is_low() -> bool {
    // SAFETY: as above.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) == LOW }
}
