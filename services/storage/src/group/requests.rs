//! Item requests and table definitions at a replica: who may answer what, and the faults for what it may not.

use partition::{Evaluated, PartitionError};
use paxos::{Millis, Refusal, Standing};
use protocol::item::{ItemFault, ItemOperation, ItemReply};

use super::Group;
use crate::env::Env;
use crate::inbox::Caller;
use crate::orders::OrderCaller;

impl Group {
    pub(super) fn refusal_fault(&self, refusal: Refusal) -> ItemFault {
        match refusal {
            Refusal::NotLeader(_) => self.not_here(),
            Refusal::NotServing => ItemFault::NotReady,
            Refusal::Overloaded => ItemFault::Overloaded,
        }
    }

    /// "Ask the leader."
    pub(super) fn not_here(&self) -> ItemFault {
        ItemFault::NotHere {
            partition: self.info().map(Box::new),
        }
    }

    /// The fault for what only a leader under its lease may do; none if this is one.
    pub(super) fn leader_fault(&self, now: Millis) -> Option<ItemFault> {
        if self.replica.can_serve_reads(now) {
            return None;
        }
        let status = self.replica.status();
        Some(match status.standing {
            Standing::Leader { .. } => ItemFault::NotReady,
            _ if status.leader.is_none() => ItemFault::NotReady,
            _ => self.not_here(),
        })
    }

    /// An item request: answers it, or keeps the caller until its write is committed.
    pub(crate) fn request(
        &mut self,
        env: &mut Env,
        operation: &ItemOperation,
        caller: Caller,
    ) -> Result<(), PartitionError> {
        let strong = match operation {
            ItemOperation::Get(get) => get.strong,
            ItemOperation::Page(page) => page.strong,
            ItemOperation::Write(_) => true,
        };
        let age_ms_max = env.node.settings.limits.eventual_age_ms_max;
        let fault = if strong {
            let shed = matches!(operation, ItemOperation::Write(_))
                && (env.node.overlays_full() || env.node.disk_low());
            let overloaded = shed.then_some(ItemFault::Overloaded);
            self.leader_fault(env.now).or(overloaded)
        } else if self.copying.is_some()
            || !self.replica.heard_from_leader_within(env.now, age_ms_max)
        {
            Some(ItemFault::NotReady)
        } else {
            None
        };
        if let Some(fault) = fault {
            env.answers.push((caller, ItemReply::Fault(fault)));
            return Ok(());
        }
        let reply = match operation {
            ItemOperation::Get(get) => self.partition.get(&*self.tree, get),
            ItemOperation::Page(page) => self.partition.page(&*self.tree, page),
            ItemOperation::Write(write) => {
                match self
                    .partition
                    .evaluate(&*self.tree, write, env.unix_ms, caller)?
                {
                    Evaluated::Propose(command) => {
                        self.commands.push(command);
                        env.touch(self.id, &mut self.touched);
                    }
                    Evaluated::Waits => {}
                    Evaluated::Answer(caller, reply) => {
                        env.answers.push((caller, self.located(reply)))
                    }
                }
                return Ok(());
            }
        };
        match reply {
            Ok(reply) => {
                let reply = self.located(reply);
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

    /// Says which range the partition really has.
    pub(super) fn located(&self, reply: ItemReply) -> ItemReply {
        match reply {
            ItemReply::Fault(ItemFault::WrongRange { .. }) => {
                ItemReply::Fault(ItemFault::WrongRange {
                    partition: self.info().map(Box::new),
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
        if let Some(fault) = self.leader_fault(env.now) {
            env.answers.push((caller, ItemReply::Fault(fault)));
            return;
        }
        match self.partition.evaluate_table(table, env.unix_ms, caller) {
            Evaluated::Propose(command) => {
                self.commands.push(command);
                env.touch(self.id, &mut self.touched);
            }
            Evaluated::Waits => {}
            Evaluated::Answer(caller, reply) => env.answers.push((caller, reply)),
        }
    }
}
