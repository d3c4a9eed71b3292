//! A group's part in global secondary indexes (ADR 0009). At a leader of a table's partition: one run of changes at a time is sent, then noted in the
//! log. At a leader of an index's partition: entries are brought in. Never finds or calls a node (`propagator`).

use model::{IndexId, Units};
use partition::{Evaluated, PartitionError, command};
use paxos::{Input, Millis};
use protocol::changes::Place;
use protocol::item::ItemFault;
use protocol::propagate::Propagate;

use super::Group;
use super::admission::Charge;
use crate::env::Env;
use crate::inbox::Caller;
use crate::propagator::{Delivered, Errand};

/// First pause behind a run that was not delivered, milliseconds; it doubles …
const PAUSE_MS: u64 = 50;
/// … up to this.
const PAUSE_MS_MAX: u64 = 2_000;
/// A table is held back once an index that refuses entries for its throughput is so far behind, milliseconds …
const LAG_MS_MAX: u64 = 5_000;
/// … or lacks changes of so many bytes.
const LAG_BYTES_MAX: u64 = 64 << 20;

/// What a leader knows of its propagation. Volatile: its successor begins behind what is noted in the log.
#[derive(Debug, Default)]
pub(crate) struct Propagation {
    /// A run is under way.
    sending: bool,
    /// Changes up to here were delivered, whether noted or not.
    delivered: Place,
    failures: u32,
    /// Not before.
    next_at: Millis,
    /// The index that refused the last run for its throughput.
    throttled: Option<IndexId>,
    /// When the oldest change under way was made, milliseconds since the epoch; 0: none is.
    since_ms: u64,
}

impl Propagation {
    /// How old the oldest change is that an index lacks, as far as is known, milliseconds.
    pub(crate) fn lag_ms(&self, unix_ms: u64) -> u64 {
        match self.since_ms {
            0 => 0,
            since_ms => unix_ms.saturating_sub(since_ms),
        }
    }
}

impl Group {
    /// Goes on with propagation, at a leader that serves.
    pub(super) fn propagate(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let concerned = |table: &model::TableDefinition| table.has_global_indexes();
        let store = self.store.as_ref();
        if !store.is_some_and(|store| concerned(&store.partition.state().table)) {
            return Ok(());
        }
        if self.leader_fault(env).is_some() {
            return Ok(());
        }
        let ballot = self.replica.status().promised;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        if store.propagation.sending || env.now < store.propagation.next_at || store.copy.is_some()
        {
            return Ok(());
        }
        let after = store.propagation.delivered;
        let Some(run) = store.partition.next_run(&*store.tree, after)? else {
            store.propagation.since_ms = 0;
            return Ok(());
        };
        store.propagation.since_ms = run.since_ms;
        let state = store.partition.state();
        let errand = Errand {
            group: self.id,
            ballot,
            table: state.table.clone(),
            source: state.range.clone(),
            run,
        };
        // Too many at once: at the next tick.
        store.propagation.sending = env.node.propagator.send(&env.node, errand);
        Ok(())
    }

    /// A run came to its end.
    pub(crate) fn delivered(
        &mut self,
        env: &mut Env,
        delivered: Delivered,
    ) -> Result<(), PartitionError> {
        let fault = self.leader_fault(env);
        let ballot = self.replica.status().promised;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let propagation = &mut store.propagation;
        propagation.sending = false;
        if fault.is_some() || ballot != delivered.ballot {
            *propagation = Propagation::default();
            return Ok(());
        }
        if let Err(undelivered) = delivered.result {
            let shift = propagation.failures.min(10);
            let pause_ms = (PAUSE_MS << shift).min(PAUSE_MS_MAX);
            propagation.next_at = Millis(env.now.0 + pause_ms);
            propagation.failures += 1;
            propagation.throttled = undelivered.throttled.then_some(undelivered.index);
            env.node.metrics.index_failures.inc();
            let index = undelivered.index.0;
            let (group, why) = (self.id.0, undelivered.why);
            tracing::debug!(group, index, why, "an index lacks changes");
            return Ok(());
        }
        propagation.failures = 0;
        propagation.throttled = None;
        propagation.delivered = propagation.delivered.max(delivered.run.upto);
        env.node.metrics.index_runs.inc();
        // Commands that were evaluated and not proposed yet have their places in the log reserved: these come behind them.
        let unix_ms = env.unix_ms;
        let noted = store.partition.acknowledge(delivered.run.position, unix_ms);
        let backfill = delivered.run.backfill;
        let filled = backfill.and_then(|b| store.partition.note_backfill(&b, unix_ms));
        let commands: Vec<_> = noted.into_iter().chain(filled).collect();
        if store.commands.is_empty() {
            if !commands.is_empty() {
                self.step(env, Input::Propose(commands))?;
            }
        } else {
            // What is not noted is done again.
            store.propagation.delivered = Place::default();
        }
        self.propagate(env)
    }

    /// Entries for this partition of an index.
    pub(super) fn bring_in(
        &mut self,
        env: &mut Env,
        propagate: &Propagate,
        caller: Caller,
        charge: Charge,
    ) -> Result<(), PartitionError> {
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let now_ms = env.unix_ms;
        let key = propagate.entries.first().map(|entry| entry.key.clone());
        let key = key.unwrap_or_default();
        let evaluated = store
            .partition
            .evaluate_entries(&*store.tree, propagate, now_ms, caller);
        match evaluated {
            Ok(Evaluated::Propose(command)) => {
                let units = command::units(&command).unwrap_or_default();
                store.commands.push(command);
                store.settle(env, &key, charge, units);
                env.touch(self.id, &mut self.touched);
            }
            Ok(Evaluated::Waits) => store.settle(env, &key, charge, Units::ZERO),
            Ok(Evaluated::Answer(caller, reply)) => {
                store.settle(env, &key, charge, Units::ZERO);
                let reply = self.located(env, reply);
                env.answers.push((caller, reply));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The fault for a write of a table one of whose indexes takes no more and is too far behind; none otherwise.
    pub(super) fn index_fault(&self, env: &Env) -> Option<ItemFault> {
        let store = self.store.as_ref()?;
        let index = store.propagation.throttled?;
        let state = store.partition.state();
        // A stream's records stay for a day: they say nothing of the indexes.
        let long = state.table.streams.enabled().is_none() && state.changes.bytes > LAG_BYTES_MAX;
        let behind = long || store.propagation.lag_ms(env.unix_ms) > LAG_MS_MAX;
        behind.then_some(ItemFault::Throttled {
            direction: model::capacity::Direction::Write,
            index: Some(index),
        })
    }
}
