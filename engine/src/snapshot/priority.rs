//! The calling thread's share of the CPU. System calls; nothing else may live here, because it is unsafe.

const NICEST: libc::c_int = 19;

/// Lets every other thread of the machine go first when CPUs are short (nice 19). Failure is harmless and ignored.
pub fn lowest() {
    // SAFETY: setpriority takes plain integers and touches no memory of ours. On Linux `who` 0 with PRIO_PROCESS means
    // the calling thread alone.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICEST);
    }
}

#[cfg(test)]
pub fn is_lowest() -> bool {
    // SAFETY: as above.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) == NICEST }
}
