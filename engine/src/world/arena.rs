//! The world's memory: reserved stretches of address space that never move, and one allocator for blocks in the
//! largest of them. Blocks are named by 32-bit handles in units of 8 bytes.
//! Not here: what a block holds, and when it may be freed (retire).
//!
//! # Who runs at once
//! One writer allocates, frees and fills blocks through `&mut Allocator`; any number of readers follow handles. The
//! allocator's own state is never shared. A block becomes known to readers only through a release-store of its handle
//! (or of something that leads to it) in the node table or the index; its bytes are written before that store. A freed
//! block's bytes are written again only after every reader that could still hold its handle has dropped its View, and
//! the writer has seen that drop with acquire ordering (retire.rs); so plain loads and stores are enough in here.

use std::ptr::NonNull;

/// Bytes of address space kept for blocks: all that a 32-bit handle in units of 8 bytes can name.
const ARENA_BYTES: usize = if cfg!(miri) { 8 << 20 } else { 32 << 30 };
/// Handles count in units of this many bytes; every block is a whole number of them.
pub(super) const UNIT_BYTES: usize = 8;
/// Blocks of up to this many units have a free list for each size.
const EXACT_UNITS: u32 = 64;
/// Above that, eight sizes for each doubling up to the whole arena.
const CLASSES: usize = EXACT_UNITS as usize + 8 * 26 + 1;

/// Zeroed memory at a fixed address, reserved at once and backed by pages only where it is touched.
pub(super) struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a Region is only an address and a length; what may be done at that address by whom is argued by its users.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Panics when the system has no address space left: nothing can be served then.
    pub(super) fn reserve(bytes: usize) -> Region {
        Region { base: map(bytes), bytes }
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address `offset` bytes in. Panics outside of the region.
    #[inline]
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.bytes, "offset {offset} outside of a region of {} bytes", self.bytes);
        // SAFETY: within the allocation, as just asserted.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        unmap(self.base, self.bytes);
    }
}

#[cfg(not(miri))]
fn map(bytes: usize) -> NonNull<u8> {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    assert!(
        base != libc::MAP_FAILED,
        "no address space for {bytes} bytes: check `ulimit -v` and vm.overcommit_memory"
    );
    // SAFETY: the range was just mapped. Only advice: without huge pages everything works, slower.
    unsafe { libc::madvise(base, bytes, libc::MADV_HUGEPAGE) };
    NonNull::new(base.cast()).expect("a mapping is never at address 0")
}

#[cfg(not(miri))]
fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: exactly the range that `map` returned; the owner is being dropped, so nobody uses it any more.
    unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
}

#[cfg(miri)]
fn layout(bytes: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(bytes, 4096).expect("sizes are constants")
}

#[cfg(miri)]
fn map(bytes: usize) -> NonNull<u8> {
    // SAFETY: no region is empty.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(bytes)) }).expect("memory for a test")
}

#[cfg(miri)]
fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: allocated by `map` with this layout.
    unsafe { std::alloc::dealloc(base.as_ptr(), layout(bytes)) };
}

/// Names a block. Only the world makes them, and only from what `Allocator::alloc` returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Handle(pub(super) u32);

impl Handle {
    pub(super) const NONE: Handle = Handle(0);

    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// The blocks' memory, as readers and the writer share it.
pub(super) struct Memory {
    region: Region,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory { region: Region::reserve(ARENA_BYTES) }
    }

    #[inline]
    pub(super) fn at(&self, handle: Handle) -> *mut u8 {
        self.region.at(handle.0 as usize * UNIT_BYTES)
    }
}

/// Gives out and takes back blocks. The writer's alone.
pub(super) struct Allocator {
    /// First unit never given out yet. Unit 0 is not used, so that handle 0 can mean none.
    next: u32,
    end: u32,
    /// Head of each size's free list; a free block begins with the handle of the next one.
    free: Box<[Handle; CLASSES]>,
    live_units: u64,
}

impl Allocator {
    pub(super) fn new(memory: &Memory) -> Allocator {
        Allocator {
            next: 8,
            end: (memory.region.bytes() / UNIT_BYTES).min(u32::MAX as usize) as u32,
            free: Box::new([Handle::NONE; CLASSES]),
            live_units: 0,
        }
    }

    /// A block of at least `bytes`, its content unspecified. Panics when 32 GiB are in use: `bytes_left` tells before.
    pub(super) fn alloc(&mut self, memory: &Memory, bytes: usize) -> Handle {
        let (class, units) = class_of(bytes);
        self.live_units += u64::from(units);
        let first = self.free[class];
        if !first.is_none() {
            // SAFETY: a free block belongs to the allocator and begins with a handle that `free` wrote.
            self.free[class] = Handle(unsafe { memory.at(first).cast::<u32>().read() });
            return first;
        }
        assert!(self.end - self.next > units, "the world's memory of {ARENA_BYTES} bytes is spent");
        let handle = Handle(self.next);
        self.next += units;
        handle
    }

    /// Takes back a block of `bytes` (as it was asked for) that nobody can reach any more.
    pub(super) fn free(&mut self, memory: &Memory, handle: Handle, bytes: usize) {
        assert!(!handle.is_none() && handle.0 < self.next, "{handle:?} was never given out");
        let (class, units) = class_of(bytes);
        self.live_units -= u64::from(units);
        // SAFETY: the caller gave the block back and no reader holds its handle (retire.rs), so its bytes are ours.
        unsafe { memory.at(handle).cast::<u32>().write(self.free[class].0) };
        self.free[class] = handle;
    }

    /// Bytes in blocks that are given out.
    pub(super) fn bytes_live(&self) -> u64 {
        self.live_units * UNIT_BYTES as u64
    }

    /// Bytes never given out yet; freed blocks come on top.
    pub(super) fn bytes_left(&self) -> u64 {
        u64::from(self.end - self.next) * UNIT_BYTES as u64
    }
}

/// The free list for blocks of `bytes`, and how many units such a block really has.
#[inline]
fn class_of(bytes: usize) -> (usize, u32) {
    let units = bytes.div_ceil(UNIT_BYTES).max(1);
    assert!(units <= u32::MAX as usize / 2, "a block of {bytes} bytes");
    let units = units as u32;
    if units <= EXACT_UNITS {
        return (units as usize, units);
    }
    // Eight steps for each doubling: at most an eighth is wasted.
    let shift = (units - 1).ilog2() - 3;
    let steps = ((units - 1) >> shift) + 1;
    let class = EXACT_UNITS + (shift - 3) * 8 + (steps - 8);
    (class as usize, steps << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_ascend_and_waste_little() {
        let mut last = (0, 0);
        for bytes in (1..100_000).chain([1 << 20, 1 << 24, (1 << 30) + 1]) {
            let (class, units) = class_of(bytes);
            let size = units as usize * UNIT_BYTES;
            assert!(size >= bytes && size <= bytes.max(8) + bytes / 8 + 7, "{bytes} bytes in {size}");
            assert!(class < CLASSES);
            assert!(
                (class, units) == last || (class > last.0 && units > last.1),
                "{bytes}: {class} {units} {last:?}"
            );
            last = (class, units);
        }
    }

    #[test]
    fn a_freed_block_serves_its_size_again() {
        let memory = Memory::new();
        let mut blocks = Allocator::new(&memory);
        let (a, b, c) = (blocks.alloc(&memory, 96), blocks.alloc(&memory, 96), blocks.alloc(&memory, 1000));
        assert!(a.0 + 12 == b.0 && b.0 + 12 == c.0);
        blocks.free(&memory, a, 96);
        blocks.free(&memory, c, 1000);
        assert_eq!(blocks.alloc(&memory, 93), a);
        assert_eq!(blocks.alloc(&memory, 1001), c, "1000 and 1001 bytes share a class");
        assert_eq!(blocks.bytes_live(), 96 + 96 + 1024);
    }
}
