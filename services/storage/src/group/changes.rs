//! What a leader does about change records and expired items by itself: trims what nobody may want any more, and deletes items whose time to live is
//! over, at a bounded rate. Owns when; `partition` says what.

use model::EncodedKey;
use partition::change::TrimPolicy;
use partition::{Evaluated, PartitionError};
use paxos::{Input, Millis};
use protocol::item::{Write, WriteAction};

use super::Group;
use crate::env::Env;
use crate::inbox::Caller;

/// When a leader looks again, and where it is in its round over the items.
#[derive(Default)]
pub(super) struct Upkeep {
    trim_at: Millis,
    expire_at: Millis,
    /// The last key that was looked at in this round; none: a round begins.
    cursor: Option<EncodedKey>,
}

impl Group {
    /// Looks whether something is due.
    pub(super) fn tick_upkeep(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let state = store.partition.state();
        let trims = state.changes.count > 0 && store.upkeep.trim_at <= env.now;
        let expires = state.table.ttl.attribute.is_some() && store.upkeep.expire_at <= env.now;
        if (!trims && !expires) || !self.leads() || self.leader_fault(env).is_some() {
            return Ok(());
        }
        if trims {
            self.trim_changes(env)?;
        }
        if expires {
            self.expire_items(env)?;
        }
        Ok(())
    }

    fn trim_changes(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let settings = &env.node.settings.changes;
        let policy = TrimPolicy {
            retention_ms: settings.retention_ms,
            bytes_max: settings.bytes_max,
        };
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        // Commands that were evaluated and not proposed yet have their places in the log reserved.
        if !store.commands.is_empty() {
            return Ok(());
        }
        let excess = store.partition.state().changes.bytes > policy.bytes_max;
        let Some(command) = store.partition.trim(&*store.tree, &policy, env.unix_ms)? else {
            store.upkeep.trim_at = env.now.plus(settings.trim_every_ms);
            return Ok(());
        };
        if excess {
            env.node.metrics.changes_cut.inc();
        }
        // There may be more: the next turn, once this is applied.
        store.upkeep.trim_at = env.now.plus(settings.trim_every_ms.min(200));
        self.step(env, Input::Propose(vec![command]))
    }

    /// Looks at the next items, and deletes those that are expired.
    fn expire_items(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let settings = &env.node.settings.ttl;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let attribute = store.partition.state().table.ttl.attribute.clone();
        let Some(attribute) = attribute.filter(|_| !env.node.is_full()) else {
            return Ok(());
        };
        let now_s = env.unix_ms / 1_000;
        let after = store.upkeep.cursor.take();
        let (expired, last) = store.partition.expired(
            &*store.tree,
            after,
            (&attribute, now_s),
            (settings.items_per_turn, settings.deletes_per_turn),
        )?;
        let pause = match &last {
            Some(_) => settings.turn_every_ms,
            None => settings.round_every_ms,
        };
        store.upkeep.cursor = last;
        store.upkeep.expire_at = env.now.plus(pause);
        for key in expired {
            let write = Write {
                key,
                action: WriteAction::Expire {
                    attribute: attribute.clone(),
                    now_s,
                },
                condition: None,
                return_values: Default::default(),
                return_on_failure: false,
            };
            let evaluated =
                store
                    .partition
                    .evaluate(&*store.tree, &write, env.unix_ms, Caller::Service)?;
            if let Evaluated::Propose(command) = evaluated {
                env.node.metrics.expired_items.inc();
                store.commands.push(command);
            }
        }
        if !store.commands.is_empty() {
            env.touch(self.id, &mut self.touched);
        }
        Ok(())
    }
}
