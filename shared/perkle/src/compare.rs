//! How two trees find what differs, over messages: one asks with hashes of its parts, the other answers with the parts of those
//! that differ, until single entries are left. Owns the questions, the answers and what follows from them; never moves values.
//!
//! An exchange costs one message each way whatever the size; equal trees need one, one difference needs one a level of branches.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::iter::behind_prefix;
use crate::node::Node;
use crate::tree::Perkle;

/// A part with at most so many entries is answered with its entries: it takes a message less and hardly more bytes than hashes.
const LISTED_ENTRIES_MAX: u64 = 64;

/// The entries whose keys start with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The prefix; empty = everything.
    pub prefix: Bytes,
    /// Hash of the entries.
    pub hash: Hash,
}

/// A key and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Key.
    pub key: Bytes,
    /// Version.
    pub version: Bytes,
}

/// "These are my hashes."
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Parts that do not overlap.
    pub parts: Vec<Part>,
}

/// What the answering tree has in one part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartAnswer {
    /// The hashes are equal; the rest is empty.
    #[serde(default)]
    pub same: bool,
    /// Its smaller parts.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Its entries that are in none of the smaller parts.
    #[serde(default)]
    pub entries: Vec<Stamp>,
}

/// "This is what I have there": one a part of the question, in the same order; fewer if there would be too much to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The answers.
    pub parts: Vec<PartAnswer>,
}

impl Perkle {
    /// Answers another tree. Ends early once the answer holds `items_max` hashes and stamps; a first part is always answered.
    pub fn answer(&self, question: &Question, items_max: usize) -> Answer {
        let mut answer = Answer::default();
        let mut items = 0;
        for part in &question.parts {
            if items >= items_max && !answer.parts.is_empty() {
                break;
            }
            let answered = self.answer_part(part);
            items += 1 + answered.parts.len() + answered.entries.len();
            answer.parts.push(answered);
        }
        answer
    }

    fn answer_part(&self, part: &Part) -> PartAnswer {
        let node = self.below_prefix(&part.prefix);
        let summary = node.map(|n| self.summary_at(n)).unwrap_or_default();
        let mut answer = PartAnswer::default();
        if summary.hash == part.hash {
            answer.same = true;
            return answer;
        }
        let Some(node) = node else {
            return answer;
        };
        let is_leaf = matches!(Node::at(&self.arena, node), Node::Leaf(_));
        if is_leaf || summary.entries <= LISTED_ENTRIES_MAX {
            let entries = self.prefix(&part.prefix);
            let stamps = entries.map(|entry| stamp(entry.key, entry.version));
            answer.entries = stamps.collect();
            return answer;
        }
        let (parts, own) = self.children(node);
        let parts = parts.into_iter().map(|(prefix, hash)| Part {
            prefix: prefix.into(),
            hash,
        });
        answer.parts = parts.collect();
        answer.entries = own
            .map(|entry| stamp(entry.key, entry.version))
            .into_iter()
            .collect();
        answer
    }
}

/// The asking side of one comparison. The trees may change meanwhile: what is found is what differed when it was looked at.
#[derive(Debug)]
pub struct Comparison {
    /// Prefixes that may differ.
    pending: Vec<Bytes>,
    findings_max: usize,
    /// Keys of which the other tree has a newer version, or which only it has.
    pub wanted: Vec<Bytes>,
    /// Keys of which this tree has a newer version, or which only it has.
    pub offered: Vec<Bytes>,
}

impl Comparison {
    /// A comparison that ends at the latest when it has found about so many differences.
    pub fn new(findings_max: usize) -> Self {
        Self {
            pending: vec![Bytes::new()],
            findings_max: findings_max.max(1),
            wanted: Vec::new(),
            offered: Vec::new(),
        }
    }

    /// The next question, with at most so many parts. None: there is nothing left to ask, or enough was found.
    pub fn question(&mut self, tree: &Perkle, parts_max: usize) -> Option<Question> {
        if self.pending.is_empty() || self.room() == 0 {
            return None;
        }
        let from = self.pending.len().saturating_sub(parts_max.max(1));
        let parts = self.pending.drain(from..).map(|prefix| Part {
            hash: tree.summary(&prefix).hash,
            prefix,
        });
        Some(Question {
            parts: parts.collect(),
        })
    }

    /// Whether everything that differs was found.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.room() > 0
    }

    /// Takes in the other tree's answer to `question`. An answer with more parts than were asked for is cut.
    pub fn learn(&mut self, tree: &Perkle, question: &Question, answer: &Answer) {
        for (asked, answered) in question.parts.iter().zip(&answer.parts) {
            if !answered.same {
                self.learn_part(tree, &asked.prefix, answered);
            }
        }
        let unanswered = question.parts.iter().skip(answer.parts.len());
        self.pending
            .extend(unanswered.map(|part| part.prefix.clone()));
    }

    fn learn_part(&mut self, tree: &Perkle, prefix: &[u8], answer: &PartAnswer) {
        for part in &answer.parts {
            // Only what is smaller than what was asked for: so a comparison ends, whatever the other side says.
            let smaller = part.prefix.len() > prefix.len() && part.prefix.starts_with(prefix);
            if smaller && tree.summary(&part.prefix).hash != part.hash {
                self.pending.push(part.prefix.clone());
            }
        }
        for theirs in &answer.entries {
            let mine = tree.get(&theirs.key);
            if mine.is_none_or(|mine| mine.version < &theirs.version[..]) && self.room() > 0 {
                self.wanted.push(theirs.key.clone());
            }
        }
        // What this tree has there and the other has not, or has older. Both lists are in the order of the keys.
        let mut parts = answer.parts.iter().peekable();
        let mut entries = answer.entries.iter().peekable();
        let mut next = tree.ceiling(prefix);
        while let Some(mine) = next.filter(|mine| mine.key.starts_with(prefix)) {
            if self.room() == 0 {
                return;
            }
            while parts
                .next_if(|part| is_behind(mine.key, &part.prefix))
                .is_some()
            {}
            if let Some(part) = parts.peek().filter(|p| mine.key.starts_with(&p.prefix)) {
                // Asked for on its own.
                next = behind_prefix(&part.prefix).and_then(|behind| tree.ceiling(&behind));
                continue;
            }
            while entries.next_if(|theirs| theirs.key < mine.key).is_some() {}
            let theirs = entries.peek().filter(|theirs| theirs.key == mine.key);
            if theirs.is_none_or(|theirs| &theirs.version[..] < mine.version) {
                self.offered.push(Bytes::copy_from_slice(mine.key));
            }
            next = tree.greater_than(mine.key);
        }
    }

    fn room(&self) -> usize {
        self.findings_max
            .saturating_sub(self.wanted.len() + self.offered.len())
    }
}

/// Whether `key` lies behind all keys with that prefix.
fn is_behind(key: &[u8], prefix: &[u8]) -> bool {
    key > prefix && !key.starts_with(prefix)
}

fn stamp(key: &[u8], version: &[u8]) -> Stamp {
    Stamp {
        key: Bytes::copy_from_slice(key),
        version: Bytes::copy_from_slice(version),
    }
}
