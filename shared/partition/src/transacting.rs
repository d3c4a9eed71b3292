//! Transactions at a leader (ADR 0010): prepares, commits and cancels become commands, transactional reads are answered. A commit
//! goes the way of a single write, with `Finish` behind it.

use bytes::Bytes;
use model::codec::{decode_item, encode_item, encoded_item_size};
use model::error::texts;
use model::{ApiError, ErrorKind};
use protocol::item::{Get, ItemFault, ItemReply, Write};
use protocol::transact::{Settle, TransactionRef};

use crate::evaluate::{Before, WriteParts, refuse_at};
use crate::flight::Lock;
use crate::partition::Partition;
use crate::transactions::{LatestWrites, Outcome, Prepared, is_timely};
use crate::{BTree, PartitionError, command};

/// What became of a transaction's request at the leader.
#[derive(Debug)]
pub enum Transacted<C> {
    /// Propose these commands, in order and together. The caller is kept, as by [`crate::Evaluated::Propose`].
    Propose(Vec<Bytes>),
    /// Nothing to propose, but the answer rests on a write in flight: it comes back from `apply` (or `lose`).
    Waits,
    /// The answer.
    Answer(C, ItemReply),
}

/// "Ended as you wish."
const ENDED: ItemReply = ItemReply::Written {
    attributes: None,
    old_size_bytes: 0,
    new_size_bytes: 0,
    indexes: Vec::new(),
    collection_bytes: None,
};

/// The error of a single write on whose item a transaction is pending.
pub(crate) fn conflict() -> ItemReply {
    ItemReply::Fault(ItemFault::Api(ApiError::transaction_conflict()))
}

fn conflict_with(pending: Option<&Prepared>) -> ItemReply {
    ItemReply::Fault(ItemFault::Conflict {
        pending: pending.map(|prepared| prepared.transaction.clone()),
    })
}

impl<C> Partition<C> {
    /// Evaluates a transaction's write, as [`Partition::evaluate`] does a single one, and makes the command that keeps the outcome pending.
    pub fn prepare(
        &mut self,
        base: &impl BTree,
        (transaction, write): (&TransactionRef, &Write),
        now_ms: u64,
        caller: C,
    ) -> Result<Transacted<C>, PartitionError> {
        let key = &write.key;
        let refusal = self.refuse_key(key);
        if let Some(refusal) = refusal.or_else(|| refuse_at(self.state.table.status, write)) {
            return Ok(Transacted::Answer(caller, refusal));
        }
        if self.is_overloaded() || self.state.transactions.is_full() {
            let overloaded = ItemReply::Fault(ItemFault::Overloaded);
            return Ok(Transacted::Answer(caller, overloaded));
        }
        let now_ms = self.stamp(now_ms);
        let (flight, bytes) = match self.flights.newest_locked(key) {
            Some((number, Lock::Held(id), _)) if id == transaction.id => {
                // Sent twice: the first is on its way.
                let reply = ItemReply::Fault(ItemFault::NotReady);
                self.flights.wait(number, caller, reply);
                return Ok(Transacted::Waits);
            }
            Some((_, Lock::Held(_), _)) => {
                return Ok(Transacted::Answer(caller, conflict_with(None)));
            }
            Some((number, Lock::Free, after)) => (Some(number), after.clone()),
            None => match self.state.transactions.pending(key) {
                Some(pending) if pending.transaction.id == transaction.id => {
                    let reply = ItemReply::Prepared {
                        old_size_bytes: pending.old_size_bytes,
                        new_size_bytes: pending.new_size_bytes,
                        time_ms: pending.since_ms,
                        collection_bytes: self.collection_bytes(),
                    };
                    return Ok(Transacted::Answer(caller, reply));
                }
                Some(pending) => {
                    let reply = conflict_with(Some(pending));
                    return Ok(Transacted::Answer(caller, reply));
                }
                None => (None, self.lookup(base, key)?),
            },
        };
        if !self.state.transactions.admits(transaction, now_ms)
            || self.flights.finishes(transaction.id, None)
        {
            let untimely = ItemReply::Fault(ItemFault::Untimely { now_ms });
            return Ok(Transacted::Answer(caller, untimely));
        }
        let mut before = Before::of(bytes)?;
        let plan = match crate::evaluate::plan(&self.state.table, write, &mut before, |fault| {
            fault.of_transaction()
        })? {
            Ok(plan) => plan,
            Err(fault) => {
                let reply = ItemReply::Fault(fault);
                let Some(number) = flight else {
                    return Ok(Transacted::Answer(caller, reply));
                };
                self.flights.wait(number, caller, reply);
                return Ok(Transacted::Waits);
            }
        };
        if plan.new_size > before.size && self.collection_is_full() {
            let error = ApiError::new(
                ErrorKind::ItemCollectionSizeLimitExceeded,
                texts::COLLECTION_SIZE,
            );
            let reply = ItemReply::Fault(ItemFault::Api(error));
            return Ok(Transacted::Answer(caller, reply));
        }
        let (outcome, new_size_bytes) = match plan.item {
            _ if plan.checks => (Outcome::Keep, before.size),
            Some(item) => (Outcome::Put(item), plan.new_size),
            None => (Outcome::Delete, 0),
        };
        let prepared = Prepared {
            key: key.clone(),
            transaction: transaction.clone(),
            outcome,
            old_size_bytes: before.size,
            new_size_bytes,
            since_ms: now_ms,
        };
        let command = match command::encode_prepare(now_ms, &prepared) {
            Ok(command) => command,
            Err(why) => return Ok(Transacted::Answer(caller, internal(why))),
        };
        let reply = ItemReply::Prepared {
            old_size_bytes: before.size,
            new_size_bytes,
            time_ms: now_ms,
            collection_bytes: self.collection_bytes(),
        };
        let key = key.clone();
        self.flights
            .push(command.clone(), key, before.bytes, caller, reply);
        self.flights.lock_newest(transaction.id);
        Ok(Transacted::Propose(vec![command]))
    }

    /// Makes the commands that end a transaction at an item: its pending outcome comes true if it `commits`.
    pub fn settle(
        &mut self,
        base: &impl BTree,
        (settle, commits): (&Settle, bool),
        now_ms: u64,
        caller: C,
    ) -> Result<Transacted<C>, PartitionError> {
        if let Some(refusal) = self.refuse_key(&settle.key) {
            return Ok(Transacted::Answer(caller, refusal));
        }
        if self.is_overloaded() {
            let overloaded = ItemReply::Fault(ItemFault::Overloaded);
            return Ok(Transacted::Answer(caller, overloaded));
        }
        let pending = self.state.transactions.pending(&settle.key);
        let pending = pending.filter(|p| p.transaction.id == settle.id).cloned();
        let in_flight = match self.flights.newest_locked(&settle.key) {
            // Its prepare is not applied yet: what is to be ended is not known.
            Some((_, Lock::Held(id), _)) if id == settle.id && pending.is_none() => {
                let not_ready = ItemReply::Fault(ItemFault::NotReady);
                return Ok(Transacted::Answer(caller, not_ready));
            }
            // It is being ended, or was.
            Some((number, _, _)) if self.flights.finishes(settle.id, Some(&settle.key)) => {
                self.flights.wait(number, caller, ENDED);
                return Ok(Transacted::Waits);
            }
            Some((_, _, after)) => Some(after.clone()),
            None => None,
        };
        // Not before it counts: so a point in time that has the commit here has the prepares everywhere.
        let now_ms = self.stamp(now_ms.max(settle.commit_ms));
        let Some(pending) = pending else {
            // A commit finds nothing only if it was done before. A cancel also tells the partition not to let a late prepare in.
            let known = commits
                || self.state.transactions.has_finished(settle.id)
                || !is_timely(settle.timestamp_ms, now_ms);
            if known {
                return Ok(Transacted::Answer(caller, ENDED));
            }
            return self.finish(base, settle, in_flight, (Vec::new(), now_ms), caller);
        };
        if !commits || pending.outcome == Outcome::Keep {
            return self.finish(base, settle, in_flight, (Vec::new(), now_ms), caller);
        }
        let bytes = match in_flight {
            Some(after) => after,
            None => self.lookup(base, &settle.key)?,
        };
        let before = Before::of(bytes)?;
        let (item, new_size) = match &pending.outcome {
            Outcome::Put(item) => (Some(item.clone()), encoded_item_size(item)?),
            Outcome::Keep | Outcome::Delete => (None, 0),
        };
        let written = self.write_command(
            (&settle.key, false),
            &before,
            (item.as_deref(), new_size),
            now_ms,
        )?;
        let WriteParts {
            command,
            key,
            after,
            ..
        } = written;
        self.flights
            .push_before(command.clone(), key, after.clone());
        self.finish(base, settle, Some(after), (vec![command], now_ms), caller)
    }

    /// Adds `Finish`, which the caller waits for, behind these commands.
    fn finish(
        &mut self,
        base: &impl BTree,
        settle: &Settle,
        after: Option<Option<Bytes>>,
        (mut commands, now_ms): (Vec<Bytes>, u64),
        caller: C,
    ) -> Result<Transacted<C>, PartitionError> {
        let after = match after {
            Some(after) => after,
            None => self.lookup(base, &settle.key)?,
        };
        let command = match command::encode_finish(now_ms, settle) {
            Ok(command) => command,
            Err(why) => return Ok(Transacted::Answer(caller, internal(why))),
        };
        let key = settle.key.clone();
        // Behind a prepare of another transaction in flight the item stays that one's.
        let held = match self.flights.newest_locked(&settle.key) {
            Some((_, Lock::Held(id), _)) if id != settle.id => Some(id),
            Some(_) => None,
            None => {
                let pending = self.state.transactions.pending(&settle.key);
                let pending = pending.map(|p| p.transaction.id);
                pending.filter(|id| *id != settle.id)
            }
        };
        self.flights
            .push(command.clone(), key, after, caller, ENDED);
        self.flights.finish_newest(settle.id);
        if let Some(id) = held {
            self.flights.lock_newest(id);
        }
        commands.push(command);
        Ok(Transacted::Propose(commands))
    }

    /// Reads an item for a transaction, at a leader under its lease. With `unchanged_since` only whether the item is as it was then.
    pub fn transactional_get(
        &mut self,
        base: &impl BTree,
        get: &Get,
        unchanged_since: Option<u64>,
    ) -> Result<ItemReply, PartitionError> {
        if let Some(refusal) = self.refuse_key(&get.key) {
            return Ok(refusal);
        }
        if let Some(pending) = self.state.transactions.pending(&get.key) {
            return Ok(conflict_with(Some(pending)));
        }
        let applied = self.state.applied;
        let latest = self
            .latest
            .get_or_insert_with(|| LatestWrites::new(applied));
        if unchanged_since.is_some_and(|since| !latest.unchanged(&get.key, since)) {
            return Ok(conflict_with(None));
        }
        let item = self.lookup(base, &get.key)?;
        let size_bytes = item
            .as_ref()
            .map_or(Ok(0), |item| encoded_item_size(item))?;
        let item = match (item, &get.projection) {
            _ if unchanged_since.is_some() => None,
            (Some(item), Some(projection)) => {
                Some(encode_item(&projection.apply(&decode_item(&item)?)))
            }
            (item, _) => item,
        };
        Ok(ItemReply::Versioned {
            item,
            size_bytes,
            version: applied,
        })
    }
}

fn internal(why: String) -> ItemReply {
    let error = ApiError::new(model::ErrorKind::InternalServerError, why);
    ItemReply::Fault(ItemFault::Api(error))
}
