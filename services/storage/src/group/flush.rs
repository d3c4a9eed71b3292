//! How a replica's B-tree is brought up to date: by flushes of the overlay, or as a whole by a full copy; never by both at once.

use partition::{Batch, Partition};
use paxos::{Input, Millis, Position};

use super::Group;
use crate::btree::TreeError;
use crate::copier::{Copied, CopyJob};
use crate::env::Env;
use crate::fence::Fence;
use crate::flusher::{FlushJob, Flushed};
use crate::inbox::Event;

/// What a flush is doing.
pub(super) enum Flush {
    Idle,
    Running,
    /// It could not be done (disk full, queue full): try this again at that time.
    Retry(Box<Batch>, Millis),
}

/// After a failed flush, milliseconds.
const FLUSH_RETRY_MS: u64 = 1_000;

impl Group {
    /// Starts the flush that is due.
    pub(super) fn tick_flush(&mut self, env: &mut Env) {
        if self.copying.is_some() {
            return;
        }
        if let Flush::Retry(_, at) = &self.flush {
            if *at <= env.now
                && let Flush::Retry(batch, _) = std::mem::replace(&mut self.flush, Flush::Idle)
            {
                self.submit_flush(env, batch);
            }
        } else if self
            .unflushed_since
            .is_some_and(|since| env.now.since(since) >= env.flush_age_ms)
        {
            self.start_flush(env);
        }
    }

    /// Milliseconds for which the oldest unflushed entry waits.
    pub(crate) fn flush_lag_ms(&self, now: Millis) -> u64 {
        self.unflushed_since.map_or(0, |since| now.since(since))
    }

    /// Whether everything applied is in the B-tree.
    pub(crate) fn is_flushed(&self) -> bool {
        self.partition.flushed_position() >= self.partition.state().applied
    }

    /// Brings what is applied into the B-tree, unless a flush is under way.
    pub(crate) fn start_flush(&mut self, env: &mut Env) {
        if !matches!(self.flush, Flush::Idle) || self.copying.is_some() {
            return;
        }
        if let Some(batch) = self.partition.seal().map(Box::new) {
            // What is applied from now on is for the next flush.
            self.unflushed_since = None;
            self.submit_flush(env, batch);
        }
    }

    pub(super) fn submit_flush(&mut self, env: &mut Env, batch: Box<Batch>) {
        let job = FlushJob {
            group: self.id,
            tree: self.tree.clone(),
            batch,
            inbox: env.inbox.clone(),
        };
        self.flush = match env.flusher.submit(job) {
            Ok(()) => Flush::Running,
            Err(job) => Flush::Retry(job.batch, env.now.plus(FLUSH_RETRY_MS)),
        };
    }

    /// A flush ended. An error is for the operator: the replica must be fenced.
    pub(crate) fn flushed(&mut self, env: &mut Env, flushed: Flushed) -> Result<(), Fence> {
        if !matches!(self.flush, Flush::Running) {
            // Of an earlier life of this group.
            return Ok(());
        }
        self.flush = Flush::Idle;
        match flushed.result {
            Ok((index, tree_bytes)) => {
                self.tree_bytes = tree_bytes;
                self.partition.flushed(index);
                self.step(env, Input::Flushed { index })?;
                if self.copying.is_some() {
                    // The copy waited for the flush.
                    self.start_copy(env);
                }
                Ok(())
            }
            Err((error @ TreeError::DiskFull { .. }, batch)) => {
                tracing::warn!(group = self.id.0, %error, "flush failed, trying again");
                self.flush = Flush::Retry(batch, env.now.plus(FLUSH_RETRY_MS));
                Ok(())
            }
            Err((error, _)) => Err(error.into()),
        }
    }

    /// Starts the wanted copy, unless a flush must end first.
    pub(super) fn start_copy(&mut self, env: &mut Env) {
        let Some(from) = self.copying else { return };
        if matches!(self.flush, Flush::Running) {
            return;
        }
        tracing::info!(
            group = self.id.0,
            from = from.0,
            "pulling a full copy: this replica is too far behind"
        );
        let job = CopyJob {
            group: self.id,
            from,
            tree: self.tree.clone(),
            own: self.partition.state().clone(),
            inbox: env.inbox.clone(),
        };
        if let Err(job) = env.copier.submit(job) {
            // Copies are few at a time: the core asks again later.
            env.inbox.event(Event::Copied(Box::new(job.refused())));
        }
    }

    /// A copy ended. An error is for the operator: the replica must be fenced.
    pub(crate) fn copied(&mut self, env: &mut Env, copied: Copied) -> Result<(), Fence> {
        if self.copying.take().is_none() {
            // Of an earlier life of this group.
            return Ok(());
        }
        let input = match copied.result {
            Ok(state) => {
                let applied = Position {
                    index: state.applied,
                    ballot: state.ballot,
                };
                let configuration = state.configuration.clone();
                self.tree_bytes = self.tree.disk_bytes();
                self.partition = Partition::new(state, env.node.partition_limits());
                self.unflushed_since = None;
                // What waited to be tried again is in the copy.
                self.flush = Flush::Idle;
                env.node.metrics.copies_installed.inc();
                tracing::info!(
                    group = self.id.0,
                    applied = applied.index,
                    "installed a full copy"
                );
                Input::CopyInstalled {
                    applied,
                    configuration,
                }
            }
            Err(why) => {
                tracing::warn!(
                    group = self.id.0,
                    why,
                    "a full copy failed, the B-tree is as it was"
                );
                Input::CopyFailed
            }
        };
        Ok(self.step(env, input)?)
    }
}
