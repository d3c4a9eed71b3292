//! Clients: each calls one operation at a time on the keys of one group, and writes down what came of it.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId};
use protocol::item::{ItemFault, ItemReply};

use crate::fixture::{Value, value_of};
use crate::rng::Rng;
use linearizability::{Action, Operation};

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Number of the call, unique in the run.
    pub id: u64,
    /// Client.
    pub client: usize,
    /// Key.
    pub key: u64,
    /// The group that is asked.
    pub group: GroupId,
    /// What is asked for.
    pub wish: Wish,
    /// Bytes that pad a written item.
    pub padding: u64,
    /// When it was called, microseconds.
    pub called: u64,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// A strong read.
    Read,
    /// A write, with the value that must be there before, if it is conditional.
    Write {
        /// New value.
        value: Value,
        /// Expected value.
        expected: Option<Value>,
        /// By an update expression, where the value is not to be removed.
        update: bool,
    },
    /// An update that writes the value if there is none, and returns what is there then.
    Once {
        /// New value.
        value: u64,
    },
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Group that it works on, with all that it is split into.
    pub group: GroupId,
    /// Where it believes keys to be, if not there.
    pub leaves: BTreeMap<u64, GroupId>,
    /// Node that it believes to lead.
    pub target: NodeId,
    /// Its request under way.
    pub call: Option<Call>,
    /// Last value that it saw of each key.
    seen: BTreeMap<u64, Value>,
}

/// What a reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened; the action is what it did or saw.
    Done(Action),
    /// It certainly did not happen.
    NotExecuted,
    /// It may have happened.
    Unknown,
    /// An answer that makes no sense.
    Nonsense,
}

impl Client {
    /// An idle client.
    pub fn new(group: GroupId, target: NodeId) -> Client {
        Client {
            group,
            leaves: BTreeMap::new(),
            target,
            call: None,
            seen: BTreeMap::new(),
        }
    }

    /// Thinks of the next request.
    pub fn next(
        &mut self,
        rng: &mut Rng,
        ids: &mut u64,
        (client, now): (usize, u64),
        keys: u64,
    ) -> Call {
        *ids += 1;
        let id = *ids;
        let key = rng.below(keys);
        let expected = self.seen.get(&key).copied().unwrap_or_default();
        let update = rng.chance(400_000);
        let write = |value, expected| Wish::Write {
            value,
            expected,
            update,
        };
        let wish = match rng.below(100) {
            0..40 => Wish::Read,
            40..60 => write(Some(id), None),
            60..66 => Wish::Once { value: id },
            66..94 => write(Some(id), Some(expected)),
            94..97 => write(None, None),
            _ => write(None, Some(expected)),
        };
        let padding = if rng.chance(20_000) {
            rng.below(6_000)
        } else {
            rng.below(200)
        };
        let call = Call {
            id,
            client,
            key,
            group: self.leaves.get(&key).copied().unwrap_or(self.group),
            wish,
            padding,
            called: now,
        };
        self.call = Some(call);
        call
    }

    /// Remembers what an outcome tells of the key.
    pub fn learn(&mut self, key: u64, outcome: Outcome) {
        if let Outcome::Done(action) = outcome {
            let value = match action {
                Action::Read(value) | Action::Write(value) => value,
                Action::WriteIf { value, .. } | Action::Refused { found: value, .. } => value,
            };
            self.seen.insert(key, value);
        }
    }
}

impl Call {
    /// What a reply to this call means.
    pub fn outcome(&self, reply: &ItemReply) -> Outcome {
        match (self.wish, reply) {
            (Wish::Read, ItemReply::Item { item, .. }) => {
                Outcome::Done(Action::Read(value_of(item.as_ref())))
            }
            (
                Wish::Write {
                    value,
                    expected: None,
                    ..
                },
                ItemReply::Written { .. },
            ) => Outcome::Done(Action::Write(value)),
            (
                Wish::Write {
                    value,
                    expected: Some(expected),
                    ..
                },
                ItemReply::Written { .. },
            ) => Outcome::Done(Action::WriteIf { expected, value }),
            (
                Wish::Write {
                    expected: Some(expected),
                    ..
                },
                ItemReply::Fault(ItemFault::ConditionFailed { item, .. }),
            ) => {
                let found = value_of(item.as_ref());
                Outcome::Done(Action::Refused { expected, found })
            }
            (Wish::Once { value }, ItemReply::Written { attributes, .. }) => {
                Outcome::Done(match value_of(attributes.as_ref()) {
                    Some(now) if now == value => Action::WriteIf {
                        expected: None,
                        value: Some(value),
                    },
                    found => Action::Read(found),
                })
            }
            (_, ItemReply::Fault(fault)) => match fault {
                ItemFault::NotHere { .. }
                | ItemFault::WrongRange { .. }
                | ItemFault::NotReady
                | ItemFault::Overloaded => Outcome::NotExecuted,
                ItemFault::Unknown => Outcome::Unknown,
                _ => Outcome::Nonsense,
            },
            _ => Outcome::Nonsense,
        }
    }

    /// The operation for the history; none if there is nothing to write down.
    pub fn record(&self, outcome: Outcome, now: u64) -> Option<Operation> {
        let called = self.called;
        match (outcome, self.wish) {
            (Outcome::Done(action), _) => Some(Operation {
                called,
                answered: Some(now),
                action,
            }),
            (Outcome::Unknown, wish) => {
                let action = match wish {
                    Wish::Read => return None,
                    Wish::Write {
                        value,
                        expected: None,
                        ..
                    } => Action::Write(value),
                    Wish::Write {
                        value,
                        expected: Some(expected),
                        ..
                    } => Action::WriteIf { expected, value },
                    Wish::Once { value } => Action::WriteIf {
                        expected: None,
                        value: Some(value),
                    },
                };
                Some(Operation {
                    called,
                    answered: None,
                    action,
                })
            }
            _ => None,
        }
    }
}
