//! Mapped files and the few system calls the standard library has no safe name for. The only `unsafe` of the log.
//! Not here: what is stored.
//!
//! A page of a mapped file that cannot be read in (a failing disk) raises SIGBUS in whoever touches it. There is nothing
//! to go on with: [`stop_on_bus_error`] makes the process print the segment and exit with the disk's code. An address
//! outside our mappings keeps the system's default.
//!
//! Who runs at once: the log thread stores; the handler may run on any thread at any time and reads `REGIONS` only.
//! A region's name is published before its `start` (Release/Acquire) and freed after `start` is 0 again; the handler uses
//! a name only for a fault inside that region, whose mapping therefore still lives.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, compiler_fence};

/// Exit code of a process whose disk failed under it: a sync that did not return `Ok`, an unreadable mapped page.
/// Apache's codes end at 14.
pub const EXIT_DISK: i32 = 20;

/// A file mapped shared, to store to.
pub struct WriteMap {
    map: memmap2::MmapMut,
    _region: Region,
}

impl WriteMap {
    pub fn new(file: &File, path: &Path) -> io::Result<WriteMap> {
        // SAFETY: segments are private to this process (the data directory is locked by convention) and keep their length
        // while mapped; bytes are only ever stored, never read back through this mapping, so outside changes cannot
        // break a Rust invariant.
        let map = unsafe { memmap2::MmapOptions::new().map_mut(file)? };
        let region = Region::register(map.as_ptr() as usize, map.len(), path);
        Ok(WriteMap { map, _region: region })
    }
}

impl crate::io::disk::Mapping for WriteMap {
    fn store(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        let target = &mut self.map[at..at + bytes.len()];
        // A kill takes effect between two instructions of this thread, so program order is all the order there is to
        // keep: the fences keep the compiler from moving stores across.
        compiler_fence(Ordering::SeqCst);
        if let Ok(word) = <[u8; 4]>::try_from(bytes) {
            // SAFETY: `target` is valid for 4 bytes; an unaligned 4-byte store is one instruction on our targets.
            unsafe { target.as_mut_ptr().cast::<u32>().write_unaligned(u32::from_ne_bytes(word)) };
        } else {
            target.copy_from_slice(bytes);
        }
        compiler_fence(Ordering::SeqCst);
    }
}

/// A file mapped to read from start to end.
pub struct ReadMap {
    map: memmap2::Mmap,
    _region: Region,
}

impl ReadMap {
    pub fn new(file: &File, path: &Path) -> io::Result<ReadMap> {
        // SAFETY: only files that nobody writes meanwhile are read this way: before the writer starts, or by tools on a
        // copy or a stopped server's directory. Parsing tolerates any bytes.
        let map = unsafe { memmap2::MmapOptions::new().map(file)? };
        // Wishes; a kernel without them reads as well.
        let _ = map.advise(memmap2::Advice::Sequential);
        let _ = map.advise(memmap2::Advice::WillNeed);
        let region = Region::register(map.as_ptr() as usize, map.len(), path);
        Ok(ReadMap { map, _region: region })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// Reserves blocks; a file system that cannot is not an error.
pub fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: a plain system call on an open descriptor.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}

pub fn forget_cached(file: &File) {
    // SAFETY: a plain system call on an open descriptor; its failure changes nothing.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let mut about = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is NUL-terminated and `about` is writable memory of the right type.
    if unsafe { libc::statvfs(path.as_ptr(), about.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned 0, so it filled the structure.
    let about = unsafe { about.assume_init() };
    Ok(about.f_bavail * about.f_frsize)
}

/// Installs the SIGBUS handler once per process. Called by whoever starts the log.
pub fn stop_on_bus_error() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is async-signal-safe: it reads atomics, calls write and _exit, or restores the default.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
    });
}

/// Mappings at once: the open segment, the next one, and files being replayed. More simply go without a name.
const REGIONS_MAX: usize = 16;

static REGIONS: [Slot; REGIONS_MAX] = [const { Slot::free() }; REGIONS_MAX];

struct Slot {
    /// 0 = free, 1 = being filled or emptied.
    start: AtomicUsize,
    bytes: AtomicUsize,
    name: AtomicPtr<u8>,
    name_bytes: AtomicUsize,
}

impl Slot {
    const fn free() -> Slot {
        Slot {
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            name: AtomicPtr::new(std::ptr::null_mut()),
            name_bytes: AtomicUsize::new(0),
        }
    }
}

/// A slot of `REGIONS` held, and the name it points to.
struct Region {
    slot: Option<&'static Slot>,
    _name: Box<[u8]>,
}

impl Region {
    fn register(start: usize, bytes: usize, path: &Path) -> Region {
        let name: Box<[u8]> = path.as_os_str().as_bytes().into();
        let slot = REGIONS
            .iter()
            .find(|slot| slot.start.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok());
        if let Some(slot) = slot {
            slot.bytes.store(bytes, Ordering::Relaxed);
            slot.name.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
            slot.name_bytes.store(name.len(), Ordering::Relaxed);
            slot.start.store(start, Ordering::Release);
        }
        Region { slot, _name: name }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.start.store(0, Ordering::Release);
        }
    }
}

extern "C" fn on_bus_error(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &REGIONS {
        let start = slot.start.load(Ordering::Acquire);
        if start < 4096 || !(start..start + slot.bytes.load(Ordering::Relaxed)).contains(&address) {
            continue;
        }
        let name = slot.name.load(Ordering::Relaxed);
        let name_bytes = slot.name_bytes.load(Ordering::Relaxed);
        let before = b"ostler: the disk failed under log segment ";
        let after = b" (SIGBUS); stopping, nothing unacknowledged is promised\n";
        // SAFETY: the fault is inside this region, so its mapping and name are alive; write and _exit are
        // async-signal-safe.
        unsafe {
            libc::write(2, before.as_ptr().cast(), before.len());
            libc::write(2, name.cast(), name_bytes);
            libc::write(2, after.as_ptr().cast(), after.len());
            libc::_exit(EXIT_DISK);
        }
    }
    // SAFETY: restoring the default is async-signal-safe; the instruction faults again and the default applies.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}
