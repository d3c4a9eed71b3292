//! The end of a split at a replica: its children become replicas. Reserves their numbers at their shards, then hands the installation to the disk
//! threads.

use partition::split::{self, SIDES};
use partition::{PartitionError, PartitionState};
use paxos::{GroupId, Input, Standing};

use super::RETRY_MS;
use crate::env::Env;
use crate::group::Group;
use crate::group::flush::Flush;
use crate::inbox::{Event, Reservation};
use crate::orders::{InstallJob, OrderJob};

impl Group {
    /// Reserves the children's numbers at their shards, then hands the installation to the disk threads.
    pub(super) fn install_children(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let me = (env.node.id, self.replica.identity().incarnation);
        let leads = matches!(self.replica.status().standing, Standing::Leader { .. });
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let Some(splitting) = &mut store.splitting else {
            return Ok(());
        };
        let state = store.partition.state();
        let Some(split) = state.split.clone() else {
            return Ok(());
        };
        let members = split
            .committed
            .iter()
            .flat_map(|c| &c.configuration.members);
        let Some(member) = members.copied().find(|m| m.is(me.0, me.1)) else {
            return Ok(());
        };
        let [Some(left), Some(right)] = splitting.reserved else {
            splitting.at = env.now.plus(RETRY_MS);
            for (side, reserved) in SIDES.into_iter().zip(splitting.reserved) {
                if reserved.is_none() {
                    let child = split::child_of(&split, side);
                    let event = Event::Reserve {
                        child,
                        parent: self.id,
                    };
                    env.node.inbox(child).event(event);
                }
            }
            return Ok(());
        };
        tracing::info!(
            group = self.id.0,
            left = split.left.0,
            right = split.right.0,
            "installing the children's replicas"
        );
        let job = OrderJob::Install(Box::new(InstallJob {
            parent: self.id,
            tree: store.tree.clone(),
            children: splitting.children.clone(),
            note: store.partition.note_installed(),
            member,
            others: [left, right].map(|r| r == Reservation::Taken),
            campaign: leads,
            node: env.node.clone(),
        }));
        splitting.installing = true;
        // Nothing else writes the parent's B-tree meanwhile.
        store.flush = Flush::Running;
        if env.orders.submit(job).is_err() {
            let busy = Err("too many orders at once".to_owned());
            return self.children_installed(env, busy);
        }
        Ok(())
    }

    /// A child's shard answered.
    pub(crate) fn child_reserved(
        &mut self,
        env: &mut Env,
        child: GroupId,
        answer: Option<Reservation>,
    ) {
        let Some(splitting) = self.store.as_mut().and_then(|s| s.splitting.as_mut()) else {
            return self.release_child(env, child, answer);
        };
        let side = usize::from(child != splitting.children.left());
        splitting.reserved[side] = answer;
        if splitting.reserved.iter().all(Option::is_some) {
            splitting.at = env.now;
            env.touch(self.id, &mut self.touched);
        }
    }

    fn release_child(&self, env: &Env, child: GroupId, answer: Option<Reservation>) {
        if answer == Some(Reservation::Granted) {
            env.node.inbox(child).event(Event::Release(child));
        }
    }

    /// The children are replicas and that is noted, or not.
    pub(crate) fn children_installed(
        &mut self,
        env: &mut Env,
        result: Result<Box<PartitionState>, String>,
    ) -> Result<(), PartitionError> {
        let id = self.id;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let Some(splitting) = store.splitting.as_mut().filter(|s| s.installing) else {
            // Of an earlier life of this group.
            return Ok(());
        };
        store.flush = Flush::Idle;
        splitting.installing = false;
        match result {
            Ok(state) => {
                let index = state.applied;
                store.partition.flushed(index);
                store.durable = *state;
                store.splitting = None;
                self.push_due = true;
                env.directory_changed = true;
                env.node.metrics.children_installed.inc();
                tracing::info!(group = id.0, "split: the children's replicas are installed");
                return self.step(env, Input::Flushed { index });
            }
            Err(why) => {
                tracing::warn!(
                    group = id.0,
                    why,
                    "the children's replicas are not installed, trying again"
                );
                store.partition.install_failed();
                splitting.fillings = None;
                splitting.at = env.now.plus(RETRY_MS);
            }
        }
        Ok(())
    }

    /// Whether the children are just being installed: the replica must not go now.
    pub(crate) fn is_installing(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|s| s.splitting.as_ref().is_some_and(|s| s.installing))
    }

    /// The replica goes: numbers that it reserved are free.
    pub(in crate::group) fn release_children(&mut self, env: &Env) {
        let Some(store) = &mut self.store else { return };
        let Some(splitting) = &mut store.splitting else {
            return;
        };
        let Some(split) = store.partition.state().split.as_ref() else {
            return;
        };
        if splitting.installing {
            // Done, or found half done at the next start.
            return;
        }
        for (side, reserved) in SIDES.into_iter().zip(splitting.reserved) {
            if reserved == Some(Reservation::Granted) {
                let child = split::child_of(split, side);
                env.node.inbox(child).event(Event::Release(child));
            }
        }
    }
}
