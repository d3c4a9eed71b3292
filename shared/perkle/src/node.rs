//! How leaves and branches lie in their blocks. Owns reading and writing of their fields; never walks the tree.
//!
//! Leaf: `0 ‖ version length (1) ‖ key length (2) ‖ value length (2) ‖ key ‖ version ‖ value`. The key is whole, so that an
//! entry is one slice of memory and does not change when its neighbours do.
//!
//! Branch: `1 ‖ 0 ‖ children (2) ‖ path length (2) ‖ 0 (2) ‖ hash (16) ‖ entries (4) ‖ own leaf (4) ‖ path ‖ first bytes of the
//! children, ascending ‖ names of the children (4 each)`. The path is what all keys below share from the branch's depth on. The
//! own leaf is the entry whose key ends here. Room for children grows in steps, and follows from their number.

use crate::arena::{Arena, Block};
use crate::hash::Hash;

const LEAF: u8 = 0;
const BRANCH: u8 = 1;
const LEAF_HEADER: usize = 6;
const BRANCH_HEADER: usize = 32;
const HASH_AT: usize = 8;
const ENTRIES_AT: usize = 24;
const OWN_AT: usize = 28;

/// A leaf or a branch, to read.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    Leaf(Leaf<'a>),
    Branch(Branch<'a>),
}

#[derive(Clone, Copy)]
pub(crate) struct Leaf<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) version: &'a [u8],
    pub(crate) value: &'a [u8],
}

#[derive(Clone, Copy)]
pub(crate) struct Branch<'a> {
    bytes: &'a [u8],
    children: usize,
    path_length: usize,
}

/// Where a pointer to a node is.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    Root,
    Own(Block),
    Child(Block, usize),
}

impl<'a> Node<'a> {
    pub(crate) fn at(arena: &'a Arena, block: Block) -> Self {
        let bytes = arena.bytes(block);
        match bytes[0] {
            LEAF => {
                let version = usize::from(bytes[1]);
                let key = usize::from(u16_at(bytes, 2));
                let value = usize::from(u16_at(bytes, 4));
                let (key, rest) = bytes[LEAF_HEADER..].split_at(key);
                let (version, rest) = rest.split_at(version);
                let value = &rest[..value];
                Self::Leaf(Leaf {
                    key,
                    version,
                    value,
                })
            }
            _ => Self::Branch(Branch {
                bytes,
                children: usize::from(u16_at(bytes, 2)),
                path_length: usize::from(u16_at(bytes, 4)),
            }),
        }
    }

    /// The number of entries below and their hash. That of a leaf is computed.
    pub(crate) fn summary(&self) -> (u32, Hash) {
        match self {
            Self::Leaf(leaf) => (1, Hash::of(leaf.key, leaf.version)),
            Self::Branch(branch) => (branch.entries(), branch.hash()),
        }
    }

    pub(crate) fn block_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => {
                LEAF_HEADER + leaf.key.len() + leaf.version.len() + leaf.value.len()
            }
            Self::Branch(branch) => branch_bytes(branch.path_length, branch.children),
        }
    }
}

impl<'a> Branch<'a> {
    pub(crate) fn path(&self) -> &'a [u8] {
        &self.bytes[BRANCH_HEADER..BRANCH_HEADER + self.path_length]
    }

    pub(crate) fn len(&self) -> usize {
        self.children
    }

    pub(crate) fn hash(&self) -> Hash {
        let mut hash = [0; 16];
        hash.copy_from_slice(&self.bytes[HASH_AT..ENTRIES_AT]);
        Hash::from_bytes(hash)
    }

    pub(crate) fn entries(&self) -> u32 {
        u32_at(self.bytes, ENTRIES_AT)
    }

    /// The leaf whose key ends here, or `NONE`.
    pub(crate) fn own(&self) -> Block {
        Block(u32_at(self.bytes, OWN_AT))
    }

    /// First bytes of the children, ascending.
    pub(crate) fn firsts(&self) -> &'a [u8] {
        let at = BRANCH_HEADER + self.path_length;
        &self.bytes[at..at + self.children]
    }

    pub(crate) fn child(&self, index: usize) -> Block {
        Block(u32_at(
            self.bytes,
            child_at(self.path_length, self.children, index),
        ))
    }

    /// The pointer that leads to a key with those bytes behind this branch's path, and the node there, or `NONE`.
    pub(crate) fn step(&self, block: Block, rest: &[u8]) -> (Slot, Block) {
        match rest.first() {
            None => (Slot::Own(block), self.own()),
            Some(&first) => match self.find(first) {
                Ok(index) => (Slot::Child(block, index), self.child(index)),
                Err(index) => (Slot::Child(block, index), Block::NONE),
            },
        }
    }

    /// Where the child with that first byte is, or would be.
    pub(crate) fn find(&self, first: u8) -> Result<usize, usize> {
        let firsts = self.firsts();
        // A branch with every byte is its own index.
        if firsts.len() == 256 {
            return Ok(usize::from(first));
        }
        firsts.binary_search(&first)
    }
}

/// Writes a leaf into a new block.
pub(crate) fn new_leaf(arena: &mut Arena, leaf: Leaf<'_>) -> Block {
    let block = arena.allocate(Node::Leaf(leaf).block_bytes());
    write_leaf(arena.bytes_mut(block), leaf);
    block
}

/// Writes a leaf over one of the same size in granules.
pub(crate) fn write_leaf(bytes: &mut [u8], leaf: Leaf<'_>) {
    bytes[0] = LEAF;
    bytes[1] = leaf.version.len() as u8;
    bytes[2..4].copy_from_slice(&(leaf.key.len() as u16).to_le_bytes());
    bytes[4..6].copy_from_slice(&(leaf.value.len() as u16).to_le_bytes());
    let mut at = LEAF_HEADER;
    for part in [leaf.key, leaf.version, leaf.value] {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
}

/// What a branch is to hold.
pub(crate) struct NewBranch {
    pub(crate) path: Vec<u8>,
    pub(crate) hash: Hash,
    pub(crate) entries: u32,
    pub(crate) own: Block,
    /// Ascending first bytes.
    pub(crate) children: Vec<(u8, Block)>,
}

impl NewBranch {
    /// A copy of a branch, to be changed.
    pub(crate) fn like(branch: &Branch<'_>) -> Self {
        let children = branch.firsts().iter().enumerate();
        Self {
            path: branch.path().to_vec(),
            hash: branch.hash(),
            entries: branch.entries(),
            own: branch.own(),
            children: children.map(|(i, &b)| (b, branch.child(i))).collect(),
        }
    }

    /// Adds a node under the key bytes that follow this branch's path.
    pub(crate) fn put(&mut self, rest: &[u8], node: Block) {
        match rest.first() {
            None => self.own = node,
            Some(&first) => {
                let at = self.children.partition_point(|(b, _)| *b < first);
                self.children.insert(at, (first, node));
            }
        }
    }

    /// Writes it into a new block.
    pub(crate) fn build(&self, arena: &mut Arena) -> Block {
        let block = arena.allocate(self.block_bytes());
        self.write(arena.bytes_mut(block));
        block
    }

    pub(crate) fn block_bytes(&self) -> usize {
        branch_bytes(self.path.len(), self.children.len())
    }

    /// Writes it over a node of the same size in granules.
    pub(crate) fn write(&self, bytes: &mut [u8]) {
        let children = self.children.len();
        bytes[..2].copy_from_slice(&[BRANCH, 0]);
        bytes[2..4].copy_from_slice(&(children as u16).to_le_bytes());
        bytes[4..6].copy_from_slice(&(self.path.len() as u16).to_le_bytes());
        bytes[6..8].fill(0);
        bytes[HASH_AT..ENTRIES_AT].copy_from_slice(&self.hash.to_bytes());
        bytes[ENTRIES_AT..OWN_AT].copy_from_slice(&self.entries.to_le_bytes());
        bytes[OWN_AT..BRANCH_HEADER].copy_from_slice(&self.own.0.to_le_bytes());
        let firsts_at = BRANCH_HEADER + self.path.len();
        bytes[BRANCH_HEADER..firsts_at].copy_from_slice(&self.path);
        for (index, (first, node)) in self.children.iter().enumerate() {
            bytes[firsts_at + index] = *first;
            let at = child_at(self.path.len(), children, index);
            bytes[at..at + 4].copy_from_slice(&node.0.to_le_bytes());
        }
    }
}

/// Changes the hash and the number of entries of the branch in `block`.
pub(crate) fn account(arena: &mut Arena, block: Block, change: impl FnOnce(&mut u32, &mut Hash)) {
    let Node::Branch(branch) = Node::at(arena, block) else {
        return;
    };
    let (mut entries, mut hash) = (branch.entries(), branch.hash());
    change(&mut entries, &mut hash);
    let bytes = arena.bytes_mut(block);
    bytes[HASH_AT..ENTRIES_AT].copy_from_slice(&hash.to_bytes());
    bytes[ENTRIES_AT..OWN_AT].copy_from_slice(&entries.to_le_bytes());
}

/// Sets a pointer within a branch.
pub(crate) fn point(arena: &mut Arena, slot: Slot, to: Block) {
    let (block, at) = match slot {
        Slot::Root => return,
        Slot::Own(block) => (block, OWN_AT),
        Slot::Child(block, index) => {
            let bytes = arena.bytes(block);
            let children = usize::from(u16_at(bytes, 2));
            let path_length = usize::from(u16_at(bytes, 4));
            (block, child_at(path_length, children, index))
        }
    };
    arena.bytes_mut(block)[at..at + 4].copy_from_slice(&to.0.to_le_bytes());
}

fn branch_bytes(path_length: usize, children: usize) -> usize {
    BRANCH_HEADER + path_length + 5 * room(children)
}

fn child_at(path_length: usize, children: usize, index: usize) -> usize {
    BRANCH_HEADER + path_length + room(children) + 4 * index
}

/// Children that there is room for in a branch with so many.
fn room(children: usize) -> usize {
    let step = match children {
        0..=8 => 2,
        9..=32 => 4,
        _ => 16,
    };
    children.next_multiple_of(step)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
