//! Item requests and table definitions at a replica: who may answer what, and the faults for what it may not.

use model::{ApiError, ErrorKind, Units};
use partition::{Evaluated, PartitionError, command};
use paxos::{Refusal, Standing};
use protocol::item::{ItemCall, ItemFault, ItemOperation, ItemReply};
use protocol::transact::Transact;

use super::admission::key_of;
use super::store::Change;
use super::{Group, Store};
use crate::env::Env;
use crate::inbox::Caller;
use crate::orders::OrderCaller;

/// A write at a leader whose node has no space for it. Not a capacity limit, and not for the client to mend; it may go elsewhere soon.
fn no_space() -> ItemFault {
    ItemFault::Api(ApiError::new(
        ErrorKind::Throttling,
        "The request was not executed: the partition's leader has no space left. Please try again.",
    ))
}

impl Group {
    pub(super) fn refusal_fault(&self, env: &Env, refusal: Refusal) -> ItemFault {
        match refusal {
            Refusal::NotLeader(_) => self.not_here(env),
            Refusal::NotServing => ItemFault::NotReady,
            Refusal::Overloaded => ItemFault::Overloaded,
        }
    }

    /// "Ask the leader."
    pub(super) fn not_here(&self, env: &Env) -> ItemFault {
        ItemFault::NotHere {
            partition: self.info(env).map(Box::new),
        }
    }

    /// Whether this is a storage replica with a vote, as far as it knows.
    fn votes(&self) -> bool {
        let identity = self.replica.identity();
        let mut voters = self.replica.configuration().voters();
        self.store.is_some() && voters.any(|m| m.incarnation == identity.incarnation)
    }

    /// The fault for what only a leader under its lease may do; none if this is one.
    pub(super) fn leader_fault(&self, env: &Env) -> Option<ItemFault> {
        if self.replica.can_serve_reads(env.now) && !self.is_ending() {
            return None;
        }
        let status = self.replica.status();
        Some(match status.standing {
            Standing::Leader { .. } => ItemFault::NotReady,
            _ if status.leader.is_none() => ItemFault::NotReady,
            _ => self.not_here(env),
        })
    }

    /// An item request: answers it, or keeps the caller until its write is committed.
    pub(crate) fn request(
        &mut self,
        env: &mut Env,
        call: ItemCall,
        caller: Caller,
    ) -> Result<(), PartitionError> {
        let (operation, uncharged) = (call.operation, call.uncharged);
        if let Some(ended) = self.ended_fault(env) {
            env.answers.push((caller, ended));
            return Ok(());
        }
        let strong = match &operation {
            ItemOperation::Get(get) => get.strong,
            ItemOperation::Page(page) => page.strong,
            ItemOperation::Write(_)
            | ItemOperation::Propagate(_)
            | ItemOperation::Changes(_)
            | ItemOperation::Transact(_) => true,
        };
        let age_ms_max = env.node.settings.limits.eventual_age_ms_max;
        let copying = self.store.as_ref().is_none_or(|s| s.copy.is_some());
        let fault = if strong {
            let (writes, fills_indexes) = match &operation {
                ItemOperation::Write(_) => (true, true),
                ItemOperation::Propagate(_) => (true, false),
                ItemOperation::Transact(transact) => match **transact {
                    Transact::Read { .. } => (false, false),
                    Transact::Prepare { .. } => (true, true),
                    // What is pending must not stay so because an index is behind.
                    Transact::Commit(_) | Transact::Cancel(_) => (true, false),
                },
                ItemOperation::Get(_) | ItemOperation::Page(_) | ItemOperation::Changes(_) => {
                    (false, false)
                }
            };
            let shed = if writes && env.node.is_full() {
                Some(no_space())
            } else if writes && env.node.overlays_full() {
                Some(ItemFault::Overloaded)
            } else if fills_indexes {
                self.index_fault(env)
            } else {
                None
            };
            self.leader_fault(env).or(shed)
        } else if !self.votes() {
            // A learner may still be empty, a log replica has nothing. Nobody is sent to them, except by old news.
            Some(self.not_here(env))
        } else if copying || !self.replica.heard_from_leader_within(env.now, age_ms_max) {
            Some(ItemFault::NotReady)
        } else {
            None
        };
        if let Some(fault) = fault {
            env.answers.push((caller, ItemReply::Fault(fault)));
            return Ok(());
        }
        let Some(store) = &mut self.store else {
            // A log replica: whoever asks it is misled.
            let fault = ItemFault::NotHere { partition: None };
            env.answers.push((caller, ItemReply::Fault(fault)));
            return Ok(());
        };
        let Some(charge) = store.admit(env, &operation, uncharged) else {
            let (direction, _) = operation.surely();
            let fault = ItemFault::Throttled {
                direction,
                index: None,
            };
            env.answers.push((caller, ItemReply::Fault(fault)));
            return Ok(());
        };
        let reply = match operation {
            ItemOperation::Get(ref get) => store.partition.get(&*store.tree, get),
            ItemOperation::Page(ref page) => store.partition.page(&*store.tree, page),
            ItemOperation::Propagate(propagate) => {
                return self.bring_in(env, &propagate, caller, charge);
            }
            ItemOperation::Changes(ref request) => {
                let group = self.id;
                store.partition.answer_changes(&*store.tree, request, group)
            }
            ItemOperation::Write(write) => {
                store.writes.push((Change::Write(write), caller, charge));
                env.touch(self.id, &mut self.touched);
                return Ok(());
            }
            ItemOperation::Transact(ref transact) => match &**transact {
                Transact::Read {
                    get,
                    unchanged_since,
                } => store
                    .partition
                    .transactional_get(&*store.tree, get, *unchanged_since),
                Transact::Prepare { .. } | Transact::Commit(_) | Transact::Cancel(_) => {
                    let change = Change::Transact(transact.clone());
                    store.writes.push((change, caller, charge));
                    env.touch(self.id, &mut self.touched);
                    return Ok(());
                }
            },
        };
        match reply {
            Ok(reply) => {
                if !uncharged {
                    let cost = reply.cost(charge.sure(), strong);
                    store.settle(env, key_of(&operation), charge, cost);
                }
                let reply = self.located(env, reply);
                env.answers.push((caller, reply));
                Ok(())
            }
            Err(error) => {
                env.answers.push((
                    caller,
                    ItemReply::Fault(ItemFault::NotHere { partition: None }),
                ));
                Err(error)
            }
        }
    }

    /// Turns the writes that came into commands, unless they shall wait for the log. Not evaluated before: only what is in the log may
    /// be answered with "unknown", and a leader that lost its office meanwhile refuses the rest.
    pub(super) fn evaluate_writes(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let waiting = |store: &Store| !store.writes.is_empty();
        if !self.store.as_deref().is_some_and(waiting) {
            return Ok(());
        }
        let fault = self.leader_fault(env);
        if fault.is_none() && self.appends > 0 {
            return Ok(());
        }
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let mut writes = std::mem::take(&mut store.writes);
        let ended = self.ended_fault(env);
        let fault = match ended {
            Some(ItemReply::Fault(ended)) => Some(ended),
            _ => fault,
        };
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        if let Some(fault) = fault {
            for (change, caller, charge) in writes.drain(..) {
                store.settle(env, change.key(), charge, Units::ZERO);
                env.answers.push((caller, ItemReply::Fault(fault.clone())));
            }
            store.writes = writes;
            return Ok(());
        }
        let (mut answers, mut evaluated_all) = (Vec::new(), Ok(()));
        let mut left = writes.drain(..);
        for (change, mut caller, charge) in left.by_ref() {
            if let Some(traced) = caller.traced() {
                traced.evaluated_ns = env.unix_ns;
            }
            let write = match &change {
                Change::Write(write) => write,
                Change::Transact(transact) => {
                    match store.transact(env, transact, caller, charge) {
                        Ok(answer) => answers.extend(answer),
                        Err(error) => {
                            evaluated_all = Err(error);
                            break;
                        }
                    }
                    continue;
                }
            };
            let evaluated = store
                .partition
                .evaluate(&*store.tree, write, env.unix_ms, caller);
            let cost = match evaluated {
                Ok(Evaluated::Propose(command)) => {
                    let units = command::units(&command).unwrap_or_default();
                    store.commands.push(command);
                    units
                }
                // Its condition failed, by a write in flight.
                Ok(Evaluated::Waits) => charge.sure(),
                Ok(Evaluated::Answer(caller, reply)) => {
                    let cost = reply.cost(charge.sure(), false);
                    answers.push((caller, reply));
                    cost
                }
                Err(error) => {
                    // The replica will be fenced, which answers the others.
                    evaluated_all = Err(error);
                    break;
                }
            };
            store.settle(env, &write.key, charge, cost);
        }
        match &evaluated_all {
            Ok(()) => {
                drop(left);
                store.writes = writes;
            }
            Err(_) => store.writes = left.collect(),
        }
        for (caller, reply) in answers {
            let reply = self.located(env, reply);
            env.answers.push((caller, reply));
        }
        evaluated_all
    }

    /// Says which range the partition really has.
    pub(super) fn located(&self, env: &Env, reply: ItemReply) -> ItemReply {
        match reply {
            ItemReply::Fault(ItemFault::WrongRange { .. }) => {
                ItemReply::Fault(ItemFault::WrongRange {
                    partition: self.info(env).map(Box::new),
                    children: Vec::new(),
                })
            }
            other => other,
        }
    }

    /// Replicates a newer definition of the table.
    pub(crate) fn set_table(
        &mut self,
        env: &mut Env,
        table: &model::TableDefinition,
        caller: OrderCaller,
    ) {
        let caller = Caller::Order(caller);
        if let Some(fault) = self.leader_fault(env) {
            env.answers.push((caller, ItemReply::Fault(fault)));
            return;
        }
        let Some(store) = &mut self.store else { return };
        match store.partition.evaluate_table(table, env.unix_ms, caller) {
            Evaluated::Propose(command) => {
                store.commands.push(command);
                env.touch(self.id, &mut self.touched);
            }
            Evaluated::Waits => {}
            Evaluated::Answer(caller, reply) => env.answers.push((caller, reply)),
        }
    }
}
