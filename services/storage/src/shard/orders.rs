//! The admin's orders at a shard: which are due, which were done before, which contradict what is under way.

use std::sync::Arc;

use partition::Partition;
use paxos::{GroupId, Identity, Input, Replica, Restored, Role};
use protocol::control::CreateReplica;

use super::Shard;
use crate::fence::{Fence, Reason};
use crate::group::Group;
use crate::orders::{Created, OrderCaller, OrderJob};

/// Orders that wait for the same founding.
const FOUNDING_CALLERS_MAX: usize = 16;

impl Shard {
    pub(super) fn create(&mut self, order: CreateReplica, caller: OrderCaller) {
        let id = order.partition;
        let me = order.configuration.member(self.env.node.id);
        if let Some(why) = self.fenced.get(&id) {
            caller.refused(format!("fenced: {why}"));
        } else if let Some(group) = self.groups.get_mut(&id) {
            if (1..FOUNDING_CALLERS_MAX).contains(&group.founding.len()) {
                group.founding.push(caller);
            } else {
                caller.done();
            }
        } else if self.creating.contains(&id) || self.dropping.contains(&id) {
            caller.refused("an earlier order for this replica is under way");
        } else if me.is_none_or(|me| me.incarnation != self.env.node.incarnation) {
            caller.refused("the configuration does not name this node and its disk");
        } else if me.is_some_and(|me| me.role != Role::Storage) {
            caller.refused("log replicas are not supported yet");
        } else {
            let inbox = self.env.inbox.clone();
            let folder = self.env.node.replica_folder(id);
            let options = self.env.node.tree_options();
            let job = OrderJob::Create {
                folder,
                options,
                order: Box::new(order),
                caller,
                inbox,
            };
            match self.env.orders.submit(job) {
                Ok(()) => drop(self.creating.insert(id)),
                Err(job) => job.refuse("too many orders at once"),
            }
        }
    }

    pub(super) fn created(&mut self, created: Created) {
        let Created {
            group: id,
            caller,
            result,
        } = created;
        self.creating.remove(&id);
        let (tree, state) = match result {
            Ok(made) => made,
            Err(error) => return caller.refused(error.to_string()),
        };
        let node = &self.env.node;
        let identity = Identity {
            incarnation: node.incarnation,
            role: Role::Storage,
            generation: state.configuration.generation,
        };
        let restored = Restored::founding(identity, state.configuration.clone());
        let timing = node.settings.timing.clone();
        let replica = Replica::new(node.id, id, restored, timing, self.env.now);
        let partition = Partition::new(state, node.partition_limits());
        let mut group = Group::new(id, replica, partition, Arc::new(tree));
        group.founding.push(caller);
        self.groups.insert(id, group);
        // Its first step persists the founding.
        self.with_group(id, |group, env| group.step(env, Input::Tick));
    }

    pub(super) fn drop_replica(&mut self, id: GroupId, caller: OrderCaller) {
        if self.creating.contains(&id) || self.dropping.contains(&id) {
            return caller.refused("an earlier order for this replica is under way");
        }
        let tree = match self.groups.remove(&id) {
            Some(mut group) => {
                group.partition.lose(&mut self.env.answers);
                self.env.directory_changed = true;
                Some(group.tree)
            }
            None if self.fenced.contains_key(&id) => None,
            None => {
                self.dropped.push((id, self.env.now));
                return caller.done();
            }
        };
        let inbox = self.env.inbox.clone();
        let folder = self.env.node.replica_folder(id);
        self.dropping.insert(id);
        if let Err(job) = self.env.orders.submit(OrderJob::Drop {
            group: id,
            folder,
            tree,
            caller,
            inbox,
        }) {
            self.dropping.remove(&id);
            let why = "its drop was ordered, but not done yet";
            self.fenced.insert(id, Fence::new(Reason::DropFailed, why));
            job.refuse("too many orders at once");
        }
    }

    pub(super) fn replica_dropped(
        &mut self,
        id: GroupId,
        result: Result<(), String>,
        caller: OrderCaller,
    ) {
        self.dropping.remove(&id);
        match result {
            Ok(()) => {
                self.fenced.remove(&id);
                self.dropped.push((id, self.env.now));
                self.push(Vec::new(), true);
                caller.done();
            }
            Err(why) => {
                let what = format!("its drop failed: {why}");
                self.fenced.insert(id, Fence::new(Reason::DropFailed, what));
                caller.refused(why);
            }
        }
        self.report_fenced();
    }
}
