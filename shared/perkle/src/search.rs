//! Sorted access to single entries, and to what lies below a prefix. Owns the descents; changes nothing.

use crate::arena::Block;
use crate::hash::Hash;
use crate::node::Node;
use crate::tree::{Entry, Perkle, Summary};

impl Perkle {
    /// The entry with the largest key that is at most `key`.
    pub fn floor(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.below(key, true)
    }

    /// The entry with the largest key that is less than `key`.
    pub fn less_than(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.below(key, false)
    }

    /// The entry with the smallest key that is at least `key`.
    pub fn ceiling(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.above(key, true)
    }

    /// The entry with the smallest key that is greater than `key`.
    pub fn greater_than(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.above(key, false)
    }

    /// The entry with the smallest key.
    pub fn first(&self) -> Option<Entry<'_>> {
        self.root.map(|root| self.entry(self.first_below(root)))
    }

    /// The entry with the largest key.
    pub fn last(&self) -> Option<Entry<'_>> {
        self.root.map(|root| self.entry(self.last_below(root)))
    }

    /// How many entries have keys that start with `prefix`, and their hash. Costs one descent.
    pub fn summary(&self, prefix: &[u8]) -> Summary {
        self.below_prefix(prefix)
            .map_or(Summary::default(), |node| self.summary_at(node))
    }

    /// The node that has all keys with that prefix below it.
    pub(crate) fn below_prefix(&self, prefix: &[u8]) -> Option<Block> {
        let (mut at, mut rest) = (self.root?, prefix);
        loop {
            match Node::at(&self.arena, at) {
                Node::Leaf(leaf) => return leaf.key.starts_with(prefix).then_some(at),
                Node::Branch(branch) => {
                    if branch.path().starts_with(rest) {
                        return Some(at);
                    }
                    rest = rest.strip_prefix(branch.path())?;
                    let (&first, behind) = rest.split_first()?;
                    at = branch.child(branch.find(first).ok()?);
                    rest = behind;
                }
            }
        }
    }

    /// The prefixes of a branch's children with what is below them, in order, and its own leaf. `node` must be a branch.
    pub(crate) fn children(&self, node: Block) -> (Vec<(Vec<u8>, Hash)>, Option<Entry<'_>>) {
        let Node::Branch(branch) = Node::at(&self.arena, node) else {
            return (Vec::new(), None);
        };
        let own = branch.own();
        let own = (!own.is_none()).then(|| self.entry(own));
        // What the first and the last key below share is the branch's own prefix.
        let (first, last) = (self.first_below(node), self.last_below(node));
        let (first, last) = (self.entry(first).key, self.entry(last).key);
        let depth = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let parts = (0..branch.len()).map(|index| {
            let mut prefix = last[..depth].to_vec();
            prefix.push(branch.firsts()[index]);
            (prefix, self.summary_at(branch.child(index)).hash)
        });
        (parts.collect(), own)
    }

    fn below(&self, key: &[u8], inclusive: bool) -> Option<Entry<'_>> {
        let (mut at, mut rest) = (self.root?, key);
        // The subtree whose last entry is the answer if the descent finds nothing.
        let mut instead = None;
        let found = loop {
            match Node::at(&self.arena, at) {
                Node::Leaf(leaf) => {
                    let fits = leaf.key < key || inclusive && leaf.key == key;
                    break if fits { Some(at) } else { instead };
                }
                Node::Branch(branch) => {
                    let Some(behind) = rest.strip_prefix(branch.path()) else {
                        // All keys below are on one side of `key`.
                        break if branch.path() < rest {
                            Some(at)
                        } else {
                            instead
                        };
                    };
                    let Some((&first, behind)) = behind.split_first() else {
                        break if inclusive && !branch.own().is_none() {
                            Some(branch.own())
                        } else {
                            instead
                        };
                    };
                    let index = branch.find(first);
                    let smaller = index.unwrap_or_else(|index| index);
                    if let Some(before) = smaller.checked_sub(1) {
                        instead = Some(branch.child(before));
                    } else if !branch.own().is_none() {
                        instead = Some(branch.own());
                    }
                    match index {
                        Ok(index) => (at, rest) = (branch.child(index), behind),
                        Err(_) => break instead,
                    }
                }
            }
        };
        found.map(|node| self.entry(self.last_below(node)))
    }

    fn above(&self, key: &[u8], inclusive: bool) -> Option<Entry<'_>> {
        let (mut at, mut rest) = (self.root?, key);
        // The subtree whose first entry is the answer if the descent finds nothing.
        let mut instead = None;
        let found = loop {
            match Node::at(&self.arena, at) {
                Node::Leaf(leaf) => {
                    let fits = leaf.key > key || inclusive && leaf.key == key;
                    break if fits { Some(at) } else { instead };
                }
                Node::Branch(branch) => {
                    let Some(behind) = rest.strip_prefix(branch.path()) else {
                        break if branch.path() > rest {
                            Some(at)
                        } else {
                            instead
                        };
                    };
                    let Some((&first, behind)) = behind.split_first() else {
                        if inclusive && !branch.own().is_none() {
                            break Some(branch.own());
                        }
                        break if branch.len() > 0 {
                            Some(branch.child(0))
                        } else {
                            instead
                        };
                    };
                    let index = branch.find(first);
                    let larger = index.map_or_else(|index| index, |index| index + 1);
                    if larger < branch.len() {
                        instead = Some(branch.child(larger));
                    }
                    match index {
                        Ok(index) => (at, rest) = (branch.child(index), behind),
                        Err(_) => break instead,
                    }
                }
            }
        };
        found.map(|node| self.entry(self.first_below(node)))
    }

    fn first_below(&self, mut at: Block) -> Block {
        while let Node::Branch(branch) = Node::at(&self.arena, at) {
            at = match branch.own() {
                own if !own.is_none() => own,
                _ => branch.child(0),
            };
        }
        at
    }

    fn last_below(&self, mut at: Block) -> Block {
        while let Node::Branch(branch) = Node::at(&self.arena, at) {
            at = match branch.len().checked_sub(1) {
                Some(last) => branch.child(last),
                None => branch.own(),
            };
        }
        at
    }
}
