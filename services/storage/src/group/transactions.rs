//! Transactions at a leader: their requests become commands, and what has been pending for long is reported to the routers, which find out
//! what is to become of it. Never decides that itself.

use partition::{PartitionError, Transacted};
use protocol::item::ItemReply;
use protocol::subjects;
use protocol::transact::{STALLED_MAX, Stalled, StalledItem, Transact};

use super::admission::Charge;
use super::{Group, Store};
use crate::env::Env;
use crate::inbox::Caller;

/// A transaction is reported once it has been pending for so long: far longer than its rounds take, milliseconds.
const STALLED_AFTER_MS: u64 = 3_000;
/// Between two reports of a partition, milliseconds: as long as a recovery may take.
const REPORT_EVERY_MS: u64 = 2_000;

impl Store {
    /// Evaluates a transaction's request; an answer that can be given at once.
    pub(super) fn transact(
        &mut self,
        env: &Env,
        transact: &Transact,
        caller: Caller,
        charge: Charge,
    ) -> Result<Option<(Caller, ItemReply)>, PartitionError> {
        let tree = self.tree.clone();
        let transacted = match transact {
            Transact::Prepare { transaction, write } => {
                self.partition
                    .prepare(&*tree, (transaction, write), env.unix_ms, caller)?
            }
            Transact::Commit(settle) => {
                self.partition
                    .settle(&*tree, (settle, true), env.unix_ms, caller)?
            }
            Transact::Cancel(settle) => {
                self.partition
                    .settle(&*tree, (settle, false), env.unix_ms, caller)?
            }
            Transact::Read {
                get,
                unchanged_since,
            } => {
                let reply = self
                    .partition
                    .transactional_get(&*tree, get, *unchanged_since)?;
                Transacted::Answer(caller, reply)
            }
        };
        let (cost, answer) = match transacted {
            // What an update makes of the item is known to the caller's own line only; this one is charged what was sent.
            Transacted::Propose(commands) => {
                self.commands.extend(commands);
                (charge.sure(), None)
            }
            Transacted::Waits => (charge.sure(), None),
            Transacted::Answer(caller, reply) => {
                (reply.cost(charge.sure(), true), Some((caller, reply)))
            }
        };
        let cost = if transact.settles() {
            model::Units::ZERO
        } else {
            cost
        };
        self.settle(env, transact.key(), charge, cost);
        Ok(answer)
    }
}

impl Group {
    /// Tells the routers of transactions whose coordinators seem to be gone.
    pub(super) fn report_stalled(&mut self, env: &mut Env) {
        if env.now.since(self.stalled_at) < REPORT_EVERY_MS || !self.leads() {
            return;
        }
        self.stalled_at = env.now;
        let Some(store) = &self.store else { return };
        let known = &store.partition.state().transactions;
        if known.pending_len() == 0 {
            return;
        }
        let before_ms = env.unix_ms.saturating_sub(STALLED_AFTER_MS);
        let table = store.partition.state().table.id;
        let items: Vec<StalledItem> = known
            .stalled(before_ms)
            .take(STALLED_MAX)
            .map(|prepared| StalledItem {
                table,
                key: prepared.key.clone(),
                transaction: prepared.transaction.clone(),
            })
            .collect();
        if items.is_empty() {
            return;
        }
        tracing::info!(
            partition = self.id.0,
            items = items.len(),
            "transactions are pending for long, the routers are told"
        );
        let report = Stalled { items };
        // It is repeated until they have ended.
        if let Err(error) = env.node.mesh.cast(subjects::TRANSACTIONS_STALLED, &report) {
            tracing::debug!(%error, "stalled transactions can't be reported");
        }
    }
}
