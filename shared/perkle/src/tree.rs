//! The tree: what it holds and how it changes. Owns versions (newest wins), the structure, and the hashes along a changed path;
//! sorted access is in `search`, ranges are in `iter`.

use std::cmp::Ordering;
use std::num::NonZeroU32;

use thiserror::Error;

use crate::arena::{Arena, Block};
use crate::hash::Hash;
use crate::node::{self, Leaf, NewBranch, Node, Slot};
use crate::{KEY_BYTES_MAX, VALUE_BYTES_MAX, VERSION_BYTES_MAX};

/// A tree. Of each key it holds the newest version that it was told.
///
/// A version names a value: whoever updates must never give one key two different values with the same version. Hashes cover
/// keys and versions only, so two trees that break this rule look equal.
#[derive(Default)]
pub struct Perkle {
    pub(crate) arena: Arena,
    pub(crate) root: Option<Block>,
}

/// A key with the newest version and value that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Key.
    pub key: &'a [u8],
    /// Version; larger is newer.
    pub version: &'a [u8],
    /// Value.
    pub value: &'a [u8],
}

/// Names an entry in 4 bytes until that entry itself is updated or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef(NonZeroU32);

impl EntryRef {
    /// One more than the block's number, so that an optional reference takes 4 bytes too.
    fn of(block: Block) -> Self {
        Self(NonZeroU32::MIN.saturating_add(block.0))
    }

    fn block(self) -> Block {
        Block(self.0.get() - 1)
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// The key is new.
    Inserted(EntryRef),
    /// The key had an older version.
    Replaced(EntryRef),
    /// The key has this version already: nothing changed.
    Same,
    /// The key has a newer version: nothing changed.
    Older,
}

/// How many entries there are somewhere, and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries.
    pub entries: u64,
    /// Hash of their keys and versions.
    pub hash: Hash,
}

/// Why an update was refused; the tree is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PerkleError {
    /// Key, version or value is longer than it may be.
    #[error(
        "an entry with {key} bytes of key, {version} of version and {value} of value is too long"
    )]
    TooLong {
        /// Bytes of the key.
        key: usize,
        /// Bytes of the version.
        version: usize,
        /// Bytes of the value.
        value: usize,
    },
    /// 32 GiB are in use.
    #[error("the tree is full")]
    Full,
}

impl Perkle {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.root().entries as usize
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// All entries and their hash: equal hashes mean equal content.
    pub fn root(&self) -> Summary {
        self.root
            .map_or(Summary::default(), |root| self.summary_at(root))
    }

    /// Bytes that the tree takes from the system, and how many of them are free for further entries.
    pub fn memory(&self) -> (usize, usize) {
        self.arena.size()
    }

    /// The entry of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Entry<'_>> {
        let leaf = self.find(key)?;
        Some(self.entry(leaf))
    }

    /// The entry that `reference` names. Something else, or none, if that entry was updated or removed since.
    pub fn entry_of(&self, reference: EntryRef) -> Option<Entry<'_>> {
        let block = reference.block();
        if !self.arena.contains(block) {
            return None;
        }
        // A freed block may hold anything, so its lengths are checked before they are believed.
        let bytes = self.arena.bytes(block);
        let header = bytes.first_chunk::<6>()?;
        let lengths = usize::from(header[1])
            + usize::from(u16::from_le_bytes([header[2], header[3]]))
            + usize::from(u16::from_le_bytes([header[4], header[5]]));
        if header[0] != 0 || bytes.len() < header.len() + lengths {
            return None;
        }
        Some(self.entry(block))
    }

    /// Takes in a version of `key` with its value, unless it is not newer than what is known.
    ///
    /// # Errors
    /// When something is too long or the tree is full.
    pub fn update(
        &mut self,
        key: &[u8],
        version: &[u8],
        value: &[u8],
    ) -> Result<Updated, PerkleError> {
        if key.len() > KEY_BYTES_MAX
            || version.len() > VERSION_BYTES_MAX
            || value.len() > VALUE_BYTES_MAX
        {
            return Err(PerkleError::TooLong {
                key: key.len(),
                version: version.len(),
                value: value.len(),
            });
        }
        let leaf = Leaf {
            key,
            version,
            value,
        };
        match self.find(key) {
            _ if !self.arena.has_room() => Err(PerkleError::Full),
            None => Ok(Updated::Inserted(EntryRef::of(self.insert(leaf)))),
            Some(old) => match version.cmp(self.entry(old).version) {
                Ordering::Less => Ok(Updated::Older),
                Ordering::Equal => Ok(Updated::Same),
                Ordering::Greater => Ok(Updated::Replaced(EntryRef::of(self.replace(old, leaf)))),
            },
        }
    }

    /// Removes the entry of `key` if its version is at most `version`; says whether it did. Nothing remains of it: an owner for
    /// whom old news may come late keeps an entry that says "gone" instead, and removes that when it is safe.
    pub fn remove(&mut self, key: &[u8], version: &[u8]) -> bool {
        let Some(leaf) = self.find(key) else {
            return false;
        };
        if self.entry(leaf).version > version {
            return false;
        }
        let (_, hash) = Node::at(&self.arena, leaf).summary();
        // The pointers to the leaf's branch and to the leaf.
        let (mut to_parent, mut to_leaf) = (Slot::Root, Slot::Root);
        let (mut at, mut depth) = (self.root.unwrap_or(leaf), 0);
        while at != leaf {
            node::account(&mut self.arena, at, |entries, sum| {
                *entries -= 1;
                *sum -= hash;
            });
            let Node::Branch(branch) = Node::at(&self.arena, at) else {
                break;
            };
            to_parent = to_leaf;
            let rest = &key[depth + branch.path().len()..];
            depth += branch.path().len() + usize::from(!rest.is_empty());
            (to_leaf, at) = branch.step(at, rest);
        }
        match to_leaf {
            Slot::Root => self.root = None,
            Slot::Own(parent) => self.shrink(parent, to_parent, |branch| branch.own = Block::NONE),
            Slot::Child(parent, index) => self.shrink(parent, to_parent, |branch| {
                branch.children.remove(index);
            }),
        }
        self.free(leaf);
        true
    }

    /// Takes a pointer out of a branch, and the branch out of the tree if only one is left in it.
    fn shrink(&mut self, block: Block, to: Slot, take: impl FnOnce(&mut NewBranch)) {
        let Node::Branch(branch) = Node::at(&self.arena, block) else {
            return;
        };
        let mut new = NewBranch::like(&branch);
        take(&mut new);
        match (&new.children[..], new.own.is_none()) {
            ([], _) => {
                self.free(block);
                self.set(to, new.own);
            }
            (&[(first, child)], true) => {
                self.free(block);
                let mut heir = child;
                if let Node::Branch(below) = Node::at(&self.arena, child) {
                    let mut longer = NewBranch::like(&below);
                    new.path.push(first);
                    new.path.append(&mut longer.path);
                    longer.path = new.path;
                    self.free(child);
                    heir = longer.build(&mut self.arena);
                }
                self.set(to, heir);
            }
            _ => self.rewrite(block, to, &new),
        }
    }

    /// Hangs a new leaf into the tree.
    fn insert(&mut self, leaf: Leaf<'_>) -> Block {
        let (key, hash) = (leaf.key, Hash::of(leaf.key, leaf.version));
        let new = node::new_leaf(&mut self.arena, leaf);
        let Some(root) = self.root else {
            self.root = Some(new);
            return new;
        };
        let (mut slot, mut at, mut depth) = (Slot::Root, root, 0);
        loop {
            let rest = &key[depth..];
            let node = Node::at(&self.arena, at);
            let path = match node {
                Node::Leaf(other) => &other.key[depth..],
                Node::Branch(branch) => branch.path(),
            };
            let common = common_prefix(path, rest);
            match node {
                Node::Branch(branch) if common == path.len() => {
                    let rest = &rest[common..];
                    let (next_slot, next) = branch.step(at, rest);
                    if next.is_none() {
                        let mut wider = NewBranch::like(&branch);
                        wider.entries += 1;
                        wider.hash += hash;
                        wider.put(rest, new);
                        self.rewrite(at, slot, &wider);
                        return new;
                    }
                    node::account(&mut self.arena, at, |entries, sum| {
                        *entries += 1;
                        *sum += hash;
                    });
                    (slot, at) = (next_slot, next);
                    depth += common + 1;
                }
                // The paths part within this node's: a new branch takes what they share.
                _ => {
                    let (entries, sum) = node.summary();
                    let mut fork = NewBranch {
                        path: rest[..common].to_vec(),
                        hash: sum,
                        entries: entries + 1,
                        own: Block::NONE,
                        children: Vec::with_capacity(2),
                    };
                    fork.hash += hash;
                    fork.put(&rest[common..], new);
                    let first_old = path.get(common).copied();
                    let mut old = at;
                    if let Node::Branch(branch) = node {
                        let mut shorter = NewBranch::like(&branch);
                        shorter.path.drain(..=common);
                        self.free(at);
                        old = shorter.build(&mut self.arena);
                    }
                    fork.put(first_old.as_slice(), old);
                    let fork = fork.build(&mut self.arena);
                    self.set(slot, fork);
                    return new;
                }
            }
        }
    }

    fn replace(&mut self, old: Block, leaf: Leaf<'_>) -> Block {
        let before = Node::at(&self.arena, old);
        let (_, old_hash) = before.summary();
        let fits = before.block_bytes().div_ceil(8) == Node::Leaf(leaf).block_bytes().div_ceil(8);
        let new_hash = Hash::of(leaf.key, leaf.version);
        let (mut slot, mut depth) = (Slot::Root, 0);
        let mut at = self.root.unwrap_or(old);
        while at != old {
            node::account(&mut self.arena, at, |_, sum| {
                *sum -= old_hash;
                *sum += new_hash;
            });
            let Node::Branch(branch) = Node::at(&self.arena, at) else {
                break;
            };
            let rest = &leaf.key[depth + branch.path().len()..];
            depth += branch.path().len() + usize::from(!rest.is_empty());
            (slot, at) = branch.step(at, rest);
        }
        if fits {
            node::write_leaf(self.arena.bytes_mut(old), leaf);
            return old;
        }
        self.free(old);
        let new = node::new_leaf(&mut self.arena, leaf);
        self.set(slot, new);
        new
    }

    /// The leaf of `key`.
    fn find(&self, key: &[u8]) -> Option<Block> {
        let (mut at, mut rest) = (self.root?, key);
        loop {
            match Node::at(&self.arena, at) {
                Node::Leaf(leaf) => return (leaf.key == key).then_some(at),
                Node::Branch(branch) => {
                    rest = rest.strip_prefix(branch.path())?;
                    at = branch.step(at, rest).1;
                    if at.is_none() {
                        return None;
                    }
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
        }
    }

    pub(crate) fn summary_at(&self, block: Block) -> Summary {
        let (entries, hash) = Node::at(&self.arena, block).summary();
        Summary {
            entries: u64::from(entries),
            hash,
        }
    }

    pub(crate) fn entry(&self, block: Block) -> Entry<'_> {
        match Node::at(&self.arena, block) {
            Node::Leaf(Leaf {
                key,
                version,
                value,
            }) => Entry {
                key,
                version,
                value,
            },
            Node::Branch(_) => Entry {
                key: &[],
                version: &[],
                value: &[],
            },
        }
    }

    /// Writes a branch anew, in place if its size allows it.
    fn rewrite(&mut self, block: Block, slot: Slot, new: &NewBranch) {
        let old = Node::at(&self.arena, block).block_bytes();
        if old.div_ceil(8) == new.block_bytes().div_ceil(8) {
            new.write(self.arena.bytes_mut(block));
            return;
        }
        let to = new.build(&mut self.arena);
        self.free(block);
        self.set(slot, to);
    }

    fn set(&mut self, slot: Slot, to: Block) {
        match slot {
            Slot::Root => self.root = Some(to),
            slot => node::point(&mut self.arena, slot, to),
        }
    }

    fn free(&mut self, block: Block) {
        let bytes = Node::at(&self.arena, block).block_bytes();
        self.arena.release(block, bytes);
    }
}

impl std::fmt::Debug for Perkle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Perkle")
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
