//! Blocks of bytes in large pages. Owns their allocation: a block is named by 4 bytes, has no header, and takes a whole number
//! of 8-byte granules. Never knows what is in a block; who frees one says how long it was.

use memmap2::{Advice, MmapMut};

/// Size of a granule, in bytes; with 32-bit names an arena holds up to 32 GiB.
const GRANULE: usize = 8;
/// Size of a page, in bytes: two huge pages of the processor. Lookups jump all over a large map, and with small pages each jump
/// would miss the processor's table of pages, too (a third of the time of a lookup among ten million).
const PAGE_BYTES: usize = 4 << 20;
/// Granules in a page.
const PAGE_GRANULES: usize = PAGE_BYTES / GRANULE;
/// Longest block, in granules.
const BLOCK_GRANULES_MAX: usize = (64 * 1024) / GRANULE;
/// Pages at most: their granules can be named with 32 bits, and the last name is `NONE`.
const PAGES_MAX: usize = (1 << 32) / PAGE_GRANULES - 1;
/// Pages that only removals may take: they allocate too (branches merge), but free more than that.
const PAGES_RESERVED: usize = 64;

/// Name of a block: its first granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block(pub(crate) u32);

impl Block {
    /// No block.
    pub(crate) const NONE: Block = Block(u32::MAX);

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

#[derive(Default)]
pub(crate) struct Arena {
    pages: Vec<MmapMut>,
    /// Granules of the last page that were never handed out start here.
    fresh: usize,
    /// First free block of each length in granules; the next one's name is in its first 4 bytes.
    free: Vec<Block>,
    /// Which lengths have a free block.
    lengths: Vec<u64>,
    /// Granules in free blocks.
    free_granules: usize,
}

impl Arena {
    /// Whether an update may still be made: the few blocks that one needs fit into a page.
    pub(crate) fn has_room(&self) -> bool {
        self.pages.len() + PAGES_RESERVED < PAGES_MAX
    }

    /// A block of `bytes` bytes (at most `BLOCK_BYTES_MAX`) with unspecified content.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Block {
        let want = granules(bytes);
        // A few words are looked at before fresh memory is taken: an exact or slightly longer free block.
        if let Some(found) = self.free_length_from(want) {
            let block = self.pop_free(found);
            self.push_free(Block(block.0 + want as u32), found - want);
            return block;
        }
        if self.pages.is_empty() || self.fresh + want > PAGE_GRANULES {
            // Names would repeat beyond; `has_room` keeps updates far away from that.
            assert!(
                want <= BLOCK_GRANULES_MAX && self.pages.len() < PAGES_MAX,
                "the arena is full"
            );
            self.retire_page();
            self.pages.push(new_page());
            self.fresh = 0;
        }
        let first = (self.pages.len() - 1) * PAGE_GRANULES + self.fresh;
        self.fresh += want;
        Block(first as u32)
    }

    /// Gives back a block that was allocated with that length.
    pub(crate) fn release(&mut self, block: Block, bytes: usize) {
        self.push_free(block, granules(bytes));
    }

    /// The bytes from the start of `block` to the end of its page.
    pub(crate) fn bytes(&self, block: Block) -> &[u8] {
        let (page, at) = place(block);
        &self.pages[page][at..]
    }

    /// The bytes from the start of `block` to the end of its page.
    pub(crate) fn bytes_mut(&mut self, block: Block) -> &mut [u8] {
        let (page, at) = place(block);
        &mut self.pages[page][at..]
    }

    /// Whether `block` lies in a page that exists.
    pub(crate) fn contains(&self, block: Block) -> bool {
        place(block).0 < self.pages.len()
    }

    /// Bytes taken from the system, and how many of them no block uses.
    pub(crate) fn size(&self) -> (usize, usize) {
        let taken = self.pages.len() * PAGE_BYTES;
        let fresh = match self.pages.is_empty() {
            true => 0,
            false => PAGE_GRANULES - self.fresh,
        };
        (taken, (fresh + self.free_granules) * GRANULE)
    }

    /// What is left of the last page becomes a free block.
    fn retire_page(&mut self) {
        if let Some(last) = self.pages.len().checked_sub(1) {
            let first = (last * PAGE_GRANULES + self.fresh) as u32;
            self.push_free(Block(first), PAGE_GRANULES - self.fresh);
        }
    }

    fn push_free(&mut self, block: Block, length: usize) {
        if length == 0 {
            return;
        }
        if self.free.len() <= length {
            self.free.resize(length + 1, Block::NONE);
            self.lengths.resize(length / 64 + 1, 0);
        }
        let next = std::mem::replace(&mut self.free[length], block);
        self.bytes_mut(block)[..4].copy_from_slice(&next.0.to_le_bytes());
        self.lengths[length / 64] |= 1 << (length % 64);
        self.free_granules += length;
    }

    fn pop_free(&mut self, length: usize) -> Block {
        let block = self.free[length];
        let next = self.bytes(block);
        let next = Block(u32::from_le_bytes([next[0], next[1], next[2], next[3]]));
        self.free[length] = next;
        if next.is_none() {
            self.lengths[length / 64] &= !(1 << (length % 64));
        }
        self.free_granules -= length;
        block
    }

    /// The shortest length of at least `want` granules that has a free block.
    fn free_length_from(&self, want: usize) -> Option<usize> {
        let first = want / 64;
        let masked = self.lengths.get(first)? & (u64::MAX << (want % 64));
        let rest = self.lengths[first + 1..].iter().copied();
        let mut words = std::iter::once(masked).chain(rest).zip(first..);
        let (word, at) = words.find(|(word, _)| *word != 0)?;
        Some(at * 64 + word.trailing_zeros() as usize)
    }
}

/// Memory for one more page, of zeros.
fn new_page() -> MmapMut {
    // As with any allocation, there is no going on without memory.
    let page = MmapMut::map_anon(PAGE_BYTES).expect("memory for a page of the tree");
    // Where the kernel has no huge pages, small ones do.
    let _ = page.advise(Advice::HugePage);
    page
}

fn granules(bytes: usize) -> usize {
    bytes.div_ceil(GRANULE).max(1)
}

fn place(block: Block) -> (usize, usize) {
    let first = block.0 as usize;
    (first / PAGE_GRANULES, first % PAGE_GRANULES * GRANULE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_are_used_again() {
        let mut arena = Arena::default();
        let mut blocks = Vec::new();
        for n in 0..20_000usize {
            let bytes = 1 + n * 7 % 300;
            let block = arena.allocate(bytes);
            arena.bytes_mut(block)[..bytes].fill(n as u8);
            blocks.push((block, bytes, n as u8));
        }
        let taken = arena.size().0;
        for round in 0..20 {
            for (n, (block, bytes, mark)) in blocks.iter_mut().enumerate() {
                assert!(arena.bytes(*block)[..*bytes].iter().all(|b| b == mark));
                arena.release(*block, *bytes);
                *bytes = 1 + (n * 7 + round * 31) % 300;
                *mark = (n + round) as u8;
                *block = arena.allocate(*bytes);
                arena.bytes_mut(*block)[..*bytes].fill(*mark);
            }
        }
        assert!(
            arena.size().0 <= taken * 3 / 2,
            "freed blocks are used again"
        );
    }
}
