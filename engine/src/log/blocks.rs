//! Memory for writing past the page cache: whole blocks, aligned, the last one filled up with zeros.
//! Not here: what is written, files.
//!
//! Each batch begins in the block in which the one before ended; that block's bytes are kept and written again with it.
//! To a power cut this is what the page cache does, too: sectors that did not change come back as they were.

use crate::io::disk::BLOCK_BYTES;
use std::io;

/// What the next write consists of.
pub struct Blocks {
    /// Aligned to a page by the system.
    memory: memmap2::MmapMut,
    /// Bytes at the front that were put in; zeros follow up to the end of that block.
    filled: usize,
    /// Offset in the file of the front: a multiple of [`BLOCK_BYTES`].
    at: u64,
}

impl Blocks {
    pub fn new() -> io::Result<Blocks> {
        Ok(Blocks { memory: memmap2::MmapMut::map_anon(16 * BLOCK_BYTES)?, filled: 0, at: 0 })
    }

    /// Begins a file.
    pub fn begin(&mut self, header: &[u8]) -> io::Result<()> {
        (self.filled, self.at) = (0, 0);
        self.push(header)
    }

    /// Appends what comes next in the file.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let filled = self.filled + bytes.len();
        let whole = filled.next_multiple_of(BLOCK_BYTES);
        if whole > self.memory.len() {
            let mut larger = memmap2::MmapMut::map_anon(whole.next_power_of_two())?;
            larger[..self.filled].copy_from_slice(&self.memory[..self.filled]);
            self.memory = larger;
        }
        self.memory[self.filled..filled].copy_from_slice(bytes);
        self.memory[filled..whole].fill(0);
        self.filled = filled;
        Ok(())
    }

    /// All of it, and where it goes.
    pub fn blocks(&self) -> (&[u8], u64) {
        (&self.memory[..self.filled.next_multiple_of(BLOCK_BYTES)], self.at)
    }

    /// The write was done: keeps the block that has room left.
    pub fn written(&mut self) {
        let whole = self.filled - self.filled % BLOCK_BYTES;
        self.memory.copy_within(whole..self.filled, 0);
        self.at += whole as u64;
        self.filled -= whole;
    }
}

/// As many zeros as are written at once into a segment: few calls, and a sync of the log that comes meanwhile does not
/// wait long behind one.
pub const ZEROS_BYTES: usize = 128 * BLOCK_BYTES;

/// Zeros aligned for [`crate::io::disk::DirectFile`].
pub fn zeros() -> &'static [u8] {
    #[repr(align(4096))]
    struct Aligned([u8; ZEROS_BYTES]);
    const _: () = assert!(std::mem::align_of::<Aligned>() == BLOCK_BYTES);
    static ZEROS: Aligned = Aligned([0; ZEROS_BYTES]);
    &ZEROS.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes pieces of these lengths as batches and replays the writes onto a file: it must hold the pieces in order.
    fn check(lengths: &[usize]) {
        let mut blocks = Blocks::new().unwrap();
        let mut file = Vec::new();
        let mut expected = b"header".to_vec();
        blocks.begin(b"header").unwrap();
        for (number, length) in lengths.iter().enumerate() {
            let piece = vec![number as u8 + 1; *length];
            blocks.push(&piece).unwrap();
            expected.extend(&piece);
            let (bytes, at) = blocks.blocks();
            assert!(bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
            assert!(bytes.len().is_multiple_of(BLOCK_BYTES) && at.is_multiple_of(BLOCK_BYTES as u64));
            file.resize(at as usize + bytes.len(), 0xee);
            file[at as usize..].copy_from_slice(bytes);
            blocks.written();
            assert!(file.starts_with(&expected));
            assert!(file[expected.len()..].iter().all(|byte| *byte == 0), "zeros follow");
        }
    }

    #[test]
    fn pieces_come_back_whatever_their_lengths() {
        check(&[1, 2, 3]);
        check(&[BLOCK_BYTES - 6, 1, BLOCK_BYTES - 1, BLOCK_BYTES]);
        check(&[100_000, 5, 1 << 20, 4096, 4090]);
        check(&[BLOCK_BYTES - 7, 1, 8 * BLOCK_BYTES + 17]);
        assert!(zeros().as_ptr().addr().is_multiple_of(BLOCK_BYTES));
    }
}
