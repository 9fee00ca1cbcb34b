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

use super::table::{CACHE_LINE_BYTES, prefetch};
use std::ptr::NonNull;

/// Bytes of address space kept for blocks: all that a 32-bit handle in units of 8 bytes can name.
const ARENA_BYTES: usize = if cfg!(miri) { 8 << 20 } else { 32 << 30 };
/// Handles count in units of this many bytes; every block is a whole number of them.
pub(super) const UNIT_BYTES: usize = 8;
/// Blocks of up to this many units have a free list for each size.
const EXACT_UNITS: u32 = 64;
/// Above that, eight sizes for each doubling up to the whole arena.
const CLASSES: usize = EXACT_UNITS as usize + 8 * 26 + 1;
const FIRST_UNIT: u32 = 8;
/// The reserve is this part of the memory, or 256 MiB: several times what one batch can bring about.
const RESERVE_PART: u32 = 32;
const RESERVE_UNITS_LEAST: u32 = (256 << 20) / UNIT_BYTES as u32;

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

    /// Puts pages behind a part of the region now instead of at the first touch. Its content stays as it is, so any
    /// thread may ask, whoever uses the region.
    pub(super) fn populate(&self, offset: usize, bytes: usize) {
        assert!(offset + bytes <= self.bytes);
        advise(self.at(offset), bytes, Advice::Populate);
    }

    /// Gives back the pages behind a part of the region that nobody has written to and nobody uses.
    pub(super) fn discard(&self, offset: usize, bytes: usize) {
        assert!(offset + bytes <= self.bytes);
        advise(self.at(offset), bytes, Advice::Discard);
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Advice {
    Populate,
    Discard,
}

#[cfg(not(miri))]
fn advise(at: *mut u8, bytes: usize, advice: Advice) {
    let advice = match advice {
        Advice::Populate => libc::MADV_POPULATE_WRITE,
        Advice::Discard => libc::MADV_DONTNEED,
    };
    // SAFETY: the range is inside of a mapping of ours, as the callers assert. Populating changes no content; what is
    // discarded holds nothing by `discard`'s contract. A kernel that knows neither refuses: everything works, slower.
    unsafe { libc::madvise(at.cast(), bytes, advice) };
}

#[cfg(miri)]
fn advise(_: *mut u8, _: usize, _: Advice) {}

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

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    #[inline]
    pub(super) fn at(&self, handle: Handle) -> *mut u8 {
        self.region.at(handle.0 as usize * UNIT_BYTES)
    }

    /// Begins to fetch a block's first bytes.
    #[inline]
    pub(super) fn prefetch(&self, handle: Handle) {
        prefetch(self.at(handle));
    }

    /// The same for all of a small block.
    #[inline]
    fn prefetch_whole(&self, handle: Handle, units: u32) {
        let at = self.at(handle);
        let bytes = (units as usize * UNIT_BYTES).min(4 * CACHE_LINE_BYTES);
        (0..bytes).step_by(CACHE_LINE_BYTES).for_each(|line| prefetch(at.wrapping_add(line)));
        prefetch(at.wrapping_add(bytes - 1));
    }
}

/// Gives out and takes back blocks. The writer's alone.
///
/// Free blocks are never joined. Plenty of room is taken from what was never given out; once only the reserve is left
/// of that, larger free blocks are split before the reserve is touched.
pub(super) struct Allocator {
    /// First unit never given out yet. The first ones are not used, so that handle 0 can mean none.
    next: u32,
    end: u32,
    /// What is only broken into when no free block serves.
    reserve: u32,
    /// Head of each size's free list; a free block begins with the handle of the next one.
    free: Box<[Handle; CLASSES]>,
    live_units: u64,
}

impl Allocator {
    pub(super) fn new(memory: &Memory) -> Allocator {
        let mut allocator = Allocator {
            next: FIRST_UNIT,
            end: 0,
            reserve: 0,
            free: Box::new([Handle::NONE; CLASSES]),
            live_units: 0,
        };
        allocator.limit(memory.region.bytes());
        allocator
    }

    /// Gives out no more than so many bytes altogether, if the arena has as many.
    pub(super) fn limit(&mut self, bytes: usize) {
        let units = (bytes.min(ARENA_BYTES) / UNIT_BYTES).min(u32::MAX as usize) as u32;
        self.end = units.max(self.next);
        self.reserve = (units / RESERVE_PART).max(RESERVE_UNITS_LEAST).min(units / 2);
    }

    /// A block of at least `bytes`, its content unspecified. Panics when all is in use: `room` tells long before.
    pub(super) fn alloc(&mut self, memory: &Memory, bytes: usize) -> Handle {
        let (class, units) = class_of(bytes);
        self.live_units += u64::from(units);
        let first = self.free[class];
        if !first.is_none() {
            // SAFETY: a free block belongs to the allocator and begins with a handle that `free` wrote.
            let next = Handle(unsafe { memory.at(first).cast::<u32>().read() });
            self.free[class] = next;
            if !next.is_none() {
                // It was freed some time ago, and will be filled soon: a store that waits for its cache line holds up
                // every later one.
                memory.prefetch_whole(next, units);
            }
            return first;
        }
        let left = self.end - self.next;
        if left <= self.reserve.saturating_add(units)
            && let Some(block) = self.split(memory, class, units)
        {
            return block;
        }
        assert!(left > units, "the world's memory is spent: {left} units are left, {units} are wanted");
        let handle = Handle(self.next);
        self.next += units;
        handle
    }

    /// A block of a class whose list is empty, cut from a free one of a larger class.
    #[cold]
    fn split(&mut self, memory: &Memory, class: usize, units: u32) -> Option<Handle> {
        let larger = (class + 1..CLASSES).find(|class| !self.free[*class].is_none())?;
        let block = self.free[larger];
        // SAFETY: as in `alloc`.
        self.free[larger] = Handle(unsafe { memory.at(block).cast::<u32>().read() });
        let (mut at, end) = (block.0 + units, block.0 + units_of(larger));
        while at < end {
            let class = class_within(end - at);
            self.put_back(memory, Handle(at), class);
            at += units_of(class);
        }
        Some(block)
    }

    fn put_back(&mut self, memory: &Memory, block: Handle, class: usize) {
        // SAFETY: the block belongs to the allocator, which nobody else reads or writes.
        unsafe { memory.at(block).cast::<u32>().write(self.free[class].0) };
        self.free[class] = block;
    }

    /// Takes back a block of `bytes` (as it was asked for) that nobody can reach any more.
    pub(super) fn free(&mut self, memory: &Memory, handle: Handle, bytes: usize) {
        assert!(!handle.is_none() && handle.0 < self.next, "{handle:?} was never given out");
        let (class, units) = class_of(bytes);
        self.live_units -= u64::from(units);
        // The caller gave the block back and no reader holds its handle (retire.rs), so its bytes are ours.
        self.put_back(memory, handle, class);
    }

    /// Bytes in blocks that are given out.
    pub(super) fn bytes_live(&self) -> u64 {
        self.live_units * UNIT_BYTES as u64
    }

    /// Bytes from the region's begin to the end of what was ever given out.
    #[inline]
    pub(super) fn bytes_taken(&self) -> usize {
        self.next as usize * UNIT_BYTES
    }

    /// Bytes never given out yet; freed blocks come on top.
    pub(super) fn bytes_left(&self) -> u64 {
        u64::from(self.end - self.next) * UNIT_BYTES as u64
    }

    /// Bytes in blocks that were given back.
    pub(super) fn bytes_free(&self) -> u64 {
        (u64::from(self.next - FIRST_UNIT) - self.live_units) * UNIT_BYTES as u64
    }

    /// Bytes never given out below which the world says that it is nearly full.
    pub(super) fn bytes_reserve(&self) -> u64 {
        u64::from(self.reserve) * UNIT_BYTES as u64
    }

    /// Whether a free block would serve for so many bytes.
    pub(super) fn has_free(&self, bytes: usize) -> bool {
        self.free[class_of(bytes).0..].iter().any(|first| !first.is_none())
    }
}

/// Units of a class's blocks.
fn units_of(class: usize) -> u32 {
    let class = class as u32;
    if class <= EXACT_UNITS {
        return class;
    }
    let (doubling, step) = ((class - EXACT_UNITS - 1) / 8, (class - EXACT_UNITS - 1) % 8 + 1);
    (8 + step) << (doubling + 3)
}

/// The class of the largest blocks that fit into so many units.
fn class_within(units: u32) -> usize {
    if units <= EXACT_UNITS {
        return units as usize;
    }
    let (class, needed) = class_of(units as usize * UNIT_BYTES);
    if needed == units { class } else { class - 1 }
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
        let exact = if cfg!(miri) { 2_000 } else { 100_000 };
        for bytes in (1..exact).chain([1 << 20, 1 << 24, (1 << 30) + 1]) {
            let (class, units) = class_of(bytes);
            let size = units as usize * UNIT_BYTES;
            assert!(size >= bytes && size <= bytes.max(8) + bytes / 8 + 7, "{bytes} bytes in {size}");
            assert!(class < CLASSES);
            assert_eq!(units_of(class), units);
            let within = units_of(class_within((bytes / UNIT_BYTES).max(1) as u32)) as usize;
            assert!(within * UNIT_BYTES <= bytes.max(8) && within * UNIT_BYTES * 9 / 8 + 16 >= bytes);
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

    #[test]
    fn when_only_the_reserve_is_left_larger_free_blocks_are_split() {
        let memory = Memory::new();
        let mut blocks = Allocator::new(&memory);
        blocks.limit(64 << 10);
        let large: Vec<Handle> = (0..8).map(|_| blocks.alloc(&memory, 4096)).collect();
        let left = blocks.bytes_left();
        assert!(left < blocks.bytes_reserve());
        blocks.free(&memory, large[3], 4096);
        let mut small: Vec<Handle> = (0..32).map(|_| blocks.alloc(&memory, 96)).collect();
        assert_eq!((blocks.bytes_left(), blocks.bytes_free()), (left, 4096 - 32 * 96));
        small.sort_unstable_by_key(|block| block.0);
        assert!(small.windows(2).all(|two| two[0].0 + 12 <= two[1].0), "no two overlap");
        assert!(small[0].0 >= large[3].0 && small[31].0 + 12 <= large[3].0 + 512);
        // The reserve is broken into when no free block serves.
        assert!(!blocks.has_free(2048));
        blocks.alloc(&memory, 2048);
        assert_eq!(blocks.bytes_left(), left - 2048);
    }
}
