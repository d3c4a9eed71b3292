//! Which part of this replica's state is durable, and which messages wait for it. Owns tokens; never sends by itself.

use std::collections::VecDeque;

use crate::{Ballot, Index, Message, NodeId, Token};

/// A batch under way to the disk.
#[derive(Clone, Debug, Hash)]
struct Batch {
    token: Token,
    /// Last index of the log once the batch is durable.
    end: Index,
    /// Promise once the batch is durable.
    promised: Ballot,
    /// Messages that promise what the batch holds.
    held: Vec<(NodeId, Message)>,
}

/// Tracks batches, which become durable in order.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Durability {
    next: Token,
    /// Every entry up to here is durable (as far as the log has them).
    durable: Index,
    promised: Ballot,
    batches: VecDeque<Batch>,
}

impl Durability {
    /// All that was restored is durable.
    pub fn new(durable: Index, promised: Ballot) -> Durability {
        Durability {
            next: Token(1),
            durable,
            promised,
            batches: VecDeque::new(),
        }
    }

    pub fn durable(&self) -> Index {
        self.durable
    }

    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Numbers the batches under way from 1, and forgets that a message waits twice.
    #[cfg(feature = "model")]
    pub fn renumber(&mut self) {
        for (batch, number) in self.batches.iter_mut().zip(1..) {
            batch.token = Token(number);
            let held = std::mem::take(&mut batch.held);
            for message in held {
                if !batch.held.contains(&message) {
                    batch.held.push(message);
                }
            }
        }
        self.next = Token(self.batches.len() as u64 + 1);
    }

    /// The log was cut: what is under way or durable from `from` on no longer counts.
    pub fn truncated_from(&mut self, from: Index) {
        let end = from.saturating_sub(1);
        self.durable = self.durable.min(end);
        for batch in &mut self.batches {
            batch.end = batch.end.min(end);
        }
    }

    /// A new batch goes to the disk; `held` may leave once it is there.
    pub fn begin(&mut self, end: Index, promised: Ballot, held: Vec<(NodeId, Message)>) -> Token {
        let token = self.next;
        self.next = Token(token.0 + 1);
        self.batches.push_back(Batch {
            token,
            end,
            promised,
            held,
        });
        token
    }

    /// Messages that promise what is already under way, or (returned) durable.
    pub fn hold(&mut self, held: Vec<(NodeId, Message)>) -> Vec<(NodeId, Message)> {
        match self.batches.back_mut() {
            Some(batch) => {
                batch.held.extend(held);
                Vec::new()
            }
            None => held,
        }
    }

    /// Everything up to `token` is durable: moves what waited for it to `send`.
    pub fn persisted(&mut self, token: Token, send: &mut Vec<(NodeId, Message)>) {
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.token <= token)
        {
            let Some(batch) = self.batches.pop_front() else {
                break;
            };
            self.durable = self.durable.max(batch.end);
            self.promised = self.promised.max(batch.promised);
            send.extend(batch.held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncation_is_not_undone_by_an_older_batch() {
        let mut durability = Durability::new(3, Ballot::default());
        let first = durability.begin(9, Ballot::default(), Vec::new());
        durability.truncated_from(5);
        let second = durability.begin(7, Ballot::default(), Vec::new());
        durability.persisted(first, &mut Vec::new());
        assert_eq!(durability.durable(), 4);
        durability.persisted(second, &mut Vec::new());
        assert_eq!(durability.durable(), 7);
        durability.persisted(first, &mut Vec::new());
        assert_eq!(durability.durable(), 7, "a repeated token changes nothing");
    }

    #[test]
    fn one_token_stands_for_all_before_it() {
        let mut durability = Durability::new(0, Ballot::default());
        let ballot = Ballot {
            round: 2,
            node: NodeId(1),
        };
        durability.begin(1, ballot, Vec::new());
        let second = durability.begin(2, ballot, Vec::new());
        assert_eq!(durability.promised(), Ballot::default());
        durability.persisted(second, &mut Vec::new());
        assert_eq!((durability.durable(), durability.promised()), (2, ballot));
    }
}
