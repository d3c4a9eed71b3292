//! How a replica's B-tree is brought up to date: by flushes of the overlay, or as a whole by a full copy; never by both at once. What
//! is done to the children's B-trees of a split is done in between.

use std::sync::Arc;

use btree::TreeError;
use mesh::TraceContext;
use partition::Partition;
use paxos::{Input, Millis, NodeId, Position};

use super::Group;
use crate::copier::{Copied, CopyJob};
use crate::env::Env;
use crate::fence::Fence;
use crate::flusher::{Done, FlushJob, Flushed, Work};

/// What a flush is doing.
pub(super) enum Flush {
    Idle,
    Running,
    /// It could not be done (disk full, queue full): try this again at that time.
    Retry(Work, Millis),
}

/// After a failed flush, milliseconds.
const FLUSH_RETRY_MS: u64 = 1_000;
/// After a copy that failed, or found no room in the queue, milliseconds; doubled with every failure, up to 32-fold.
const COPY_RETRY_MS: u64 = 1_000;

impl Group {
    /// Starts the flush that is due.
    pub(super) fn tick_flush(&mut self, env: &mut Env) {
        let Some(store) = &mut self.store else { return };
        if store.copy.is_some() {
            if store.copy_at.is_some_and(|at| at <= env.now) {
                self.start_copy(env);
            }
            return;
        }
        if let Flush::Retry(_, at) = &store.flush {
            if *at <= env.now
                && let Flush::Retry(work, _) = std::mem::replace(&mut store.flush, Flush::Idle)
            {
                self.submit_flush(env, work);
            }
        } else if store
            .unflushed_since
            .is_some_and(|since| env.now.since(since) >= env.flush_age_ms)
        {
            self.start_flush(env);
        }
    }

    /// Milliseconds for which the oldest unflushed entry waits.
    pub(crate) fn flush_lag_ms(&self, now: Millis) -> u64 {
        let since = self.store.as_ref().and_then(|s| s.unflushed_since);
        since.map_or(0, |since| now.since(since))
    }

    /// Whether everything applied is in the B-tree.
    pub(crate) fn is_flushed(&self) -> bool {
        self.store.as_ref().is_none_or(|store| {
            store.partition.flushed_position() >= store.partition.state().applied
        })
    }

    /// Brings what is applied into the B-tree, unless a flush is under way.
    pub(crate) fn start_flush(&mut self, env: &mut Env) {
        let Some(store) = &mut self.store else { return };
        if !matches!(store.flush, Flush::Idle) || store.copy.is_some() {
            return;
        }
        if let Some(batch) = store.partition.seal().map(Box::new) {
            // What is applied from now on is for the next flush.
            let behind = store.partition.state().applied > batch.state.applied;
            store.unflushed_since = behind.then_some(env.now);
            self.submit_flush(env, Work::Batch(batch));
        }
    }

    pub(super) fn submit_flush(&mut self, env: &mut Env, work: Work) {
        let Some(store) = &mut self.store else { return };
        let job = FlushJob {
            group: self.id,
            tree: store.tree.clone(),
            children: store.splitting.as_ref().map(|s| s.children.clone()),
            work,
            inbox: env.inbox.clone(),
        };
        store.flush = match env.flusher.submit(job) {
            Ok(()) => Flush::Running,
            Err(job) => Flush::Retry(job.work, env.now.plus(FLUSH_RETRY_MS)),
        };
    }

    /// A flush ended. An error is for the operator: the replica must be fenced.
    pub(crate) fn flushed(&mut self, env: &mut Env, flushed: Flushed) -> Result<(), Fence> {
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        if !matches!(store.flush, Flush::Running) {
            // Of an earlier life of this group.
            return Ok(());
        }
        store.flush = Flush::Idle;
        match flushed.result {
            Ok(Done::Batch(state, tree_bytes, view)) => {
                let index = state.applied;
                if let Some(view) = view {
                    let (marked, snapshot) = *view;
                    self.begin_digest(env, marked, snapshot);
                }
                let Some(store) = &mut self.store else {
                    return Ok(());
                };
                store.tree_bytes = tree_bytes;
                store.partition.flushed(index);
                store.durable = *state;
                self.step(env, Input::Flushed { index })?;
            }
            Ok(Done::Children(fillings)) => self.split_worked(env, Ok(fillings)),
            Ok(Done::Discarded) => {
                let splitting = store.splitting.take();
                store.discarded = splitting.map(|s| s.children.left());
            }
            Err((error @ TreeError::DiskFull { .. }, work)) => {
                tracing::warn!(group = self.id.0, %error, "flush failed, trying again");
                store.flush = Flush::Retry(work, env.now.plus(FLUSH_RETRY_MS));
                return Ok(());
            }
            // Its own B-tree's map grew while it was read.
            Err((TreeError::SnapshotGone { .. }, Work::Fill(..))) => {
                self.split_worked(env, Err(()));
            }
            Err((error, _)) => return Err(error.into()),
        }
        // A copy may have waited for the flush.
        self.start_copy(env);
        // A split gets its turn before the next flush: the two alternate, however much is written.
        self.work_on_split(env)?;
        env.touch(self.id, &mut self.touched);
        Ok(())
    }

    /// A full copy is needed: until it is there, nothing is applied, flushed or served.
    pub(super) fn want_copy(&mut self, env: &mut Env, from: NodeId) {
        let Some(store) = &mut self.store else { return };
        store.copy = Some(from);
        // After failures not at once.
        let pause = COPY_RETRY_MS << store.copy_failures.min(5);
        store.copy_at = Some(match store.copy_failures {
            0 => env.now,
            _ => env.now.plus(pause),
        });
        store.partition.lose(&mut env.answers);
        self.start_copy(env);
    }

    /// Starts the wanted copy, unless it is under way, has to wait, or a flush must end first.
    pub(super) fn start_copy(&mut self, env: &mut Env) {
        let Some(store) = &mut self.store else { return };
        let (Some(from), Some(at)) = (store.copy, store.copy_at) else {
            return;
        };
        if at > env.now || matches!(store.flush, Flush::Running) {
            return;
        }
        let job = CopyJob {
            group: self.id,
            from,
            tree: Arc::downgrade(&store.tree),
            own: store.partition.state().clone(),
            inbox: env.inbox.clone(),
            dropped: store.dropped.clone(),
            children: store.splitting.as_ref().map(|s| s.children.clone()),
            cause: self.copy_cause,
        };
        store.copy_at = match env.copier.submit(job) {
            Ok(()) => None,
            // Copies are few at a time.
            Err(_) => Some(env.now.plus(COPY_RETRY_MS)),
        };
    }

    /// A copy ended. An error is for the operator: the replica must be fenced.
    pub(crate) fn copied(&mut self, env: &mut Env, copied: Copied) -> Result<(), Fence> {
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        if store.copy_at.is_some() || store.copy.take().is_none() {
            // Of an earlier life of this group.
            return Ok(());
        }
        // They were of the B-tree that was replaced; if it was not, they are opened again.
        store.splitting = None;
        let input = match copied.result {
            Ok(state) => {
                let applied = Position {
                    index: state.applied,
                    ballot: state.ballot,
                };
                let configuration = state.configuration.clone();
                store.tree_bytes = store.tree.disk_bytes();
                store.durable = state.clone();
                store.partition = Partition::new(state, env.node.partition_limits());
                store.unflushed_since = None;
                store.copy_failures = 0;
                self.copy_cause = TraceContext::default();
                // What waited to be tried again is in the copy.
                store.flush = Flush::Idle;
                env.node.metrics.copies_installed.inc();
                tracing::info!(
                    group = self.id.0,
                    applied = applied.index,
                    bytes = store.tree_bytes,
                    "installed a full copy"
                );
                Input::CopyInstalled {
                    applied,
                    configuration,
                }
            }
            Err(why) => {
                store.copy_failures = store.copy_failures.saturating_add(1);
                tracing::warn!(
                    group = self.id.0,
                    why,
                    failures = store.copy_failures,
                    "a full copy failed, the B-tree is as it was"
                );
                Input::CopyFailed
            }
        };
        Ok(self.step(env, input)?)
    }
}
