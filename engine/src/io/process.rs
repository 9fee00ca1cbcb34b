//! What the process asks of the system for itself: a CPU for a thread, and to take memory back. System calls and those
//! of the C library; nothing else may live here, because it is unsafe.

/// Binds the calling thread to the CPU with this number. Left where it is when the system does not allow that.
pub fn pin(cpu: usize) {
    // SAFETY: `set` is a plain bit set for which all zeros is the empty set; `CPU_SET` and `CPU_ZERO` stay within it
    // for the numbers let through here; the kernel only reads it, and 0 names the calling thread.
    let pinned = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if cpu >= libc::CPU_SETSIZE as usize {
            return;
        }
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if pinned != 0 {
        tracing::warn!(cpu, "cannot pin a thread: {}", std::io::Error::last_os_error());
    }
}

/// Returns pages of the heap that hold nothing but freed memory: by itself the C library keeps several megabytes of them
/// for each thread. Takes milliseconds (18 where a hundred thousand freed pieces lie between others, 0.2 for a
/// hundredth of that), and holds up whoever asks the same part of the heap for more than its cache has.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: any thread may call it at any time, and memory in use stays as it is.
    unsafe {
        libc::malloc_trim(0);
    }
}
