//! The orders at a shard: which are due, which were done before, which contradict what is under way.

use std::sync::atomic::Ordering;

use partition::{Partition, PartitionState};
use paxos::{GroupId, Identity, Input, Replica, Restored, Role};
use protocol::control::{CreateReplica, JoinReplica};

use super::Shard;
use crate::children::Made;
use crate::fence::{Fence, Reason};
use crate::group::{Group, Store};
use crate::inbox::{Event, Reservation};
use crate::middle::MiddleJob;
use crate::orders::{Created, Dropping, Founder, OrderCaller, OrderJob};

/// Orders that wait for the same founding.
const FOUNDING_CALLERS_MAX: usize = 16;
const UNDER_WAY: &str = "an earlier order for this replica is under way";
const TOO_MANY: &str = "too many orders at once";

impl Shard {
    pub(super) fn create(&mut self, order: CreateReplica, caller: OrderCaller) {
        let id = order.partition;
        let me = order.configuration.member(self.env.node.id);
        if let Some(why) = self.fenced.get(&id) {
            caller.refused(format!("fenced: {why}"));
        } else if self.groups.contains_key(&id) {
            self.founded_before(id, Founder::First(caller));
        } else if self.creating.contains(&id) || self.dropping.contains(&id) {
            caller.refused(UNDER_WAY);
        } else if me.is_none_or(|me| me.incarnation != self.env.node.incarnation) {
            caller.refused("the configuration does not name this node and its disk");
        } else if me.is_some_and(|me| me.role != Role::Storage) {
            caller.refused("a partition is founded by storage replicas");
        } else {
            let identity = Identity {
                incarnation: self.env.node.incarnation,
                role: Role::Storage,
                generation: order.configuration.generation,
            };
            let state =
                PartitionState::empty(order.configuration, order.range, order.table, order.members);
            self.create_store(id, state, identity, Founder::First(caller));
        }
    }

    /// Somebody waits for a replica that is here already, though perhaps not yet on disk.
    fn founded_before(&mut self, id: GroupId, founder: Founder) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if (1..FOUNDING_CALLERS_MAX).contains(&group.founding.len()) {
            group.founding.push(founder);
        } else if group.founding.is_empty() {
            founder.founded(group.replica.identity().incarnation);
        } else {
            founder.refused(TOO_MANY);
        }
    }

    fn create_store(
        &mut self,
        id: GroupId,
        state: PartitionState,
        identity: Identity,
        founder: Founder,
    ) {
        let job = OrderJob::Create {
            folder: self.env.node.replica_folder(id),
            options: self.env.node.tree_options(),
            group: id,
            state: Box::new(state),
            identity,
            founder,
            inbox: self.env.inbox.clone(),
        };
        match self.env.orders.submit(job) {
            Ok(()) => drop(self.creating.insert(id)),
            Err(job) => job.refuse(TOO_MANY),
        }
    }

    pub(super) fn created(&mut self, created: Created) {
        let Created {
            group: id,
            identity,
            founder,
            result,
        } = created;
        self.creating.remove(&id);
        let (tree, state) = match result {
            Ok(made) => made,
            Err(error) => return founder.refused(error.to_string()),
        };
        let restored = Restored::founding(identity, state.configuration.clone());
        let partition = Partition::new(state, self.env.node.partition_limits());
        self.found(
            id,
            restored,
            Some(Store::new(partition, tree)),
            Some(founder),
        );
    }

    /// A parent's replica wants to install a child's.
    pub(super) fn reserve(&mut self, child: GroupId, parent: GroupId) {
        let answer = if self.groups.contains_key(&child) || self.fenced.contains_key(&child) {
            Some(Reservation::Taken)
        } else if self.dropping.contains(&child) || !self.creating.insert(child) {
            None
        } else {
            Some(Reservation::Granted)
        };
        self.env.node.inbox(parent).event(Event::Reserved {
            child,
            parent,
            answer,
        });
    }

    /// A child's shard answered to `reserve`.
    pub(super) fn reserved(
        &mut self,
        parent: GroupId,
        child: GroupId,
        answer: Option<Reservation>,
    ) {
        match self.groups.get_mut(&parent) {
            Some(group) => group.child_reserved(&mut self.env, child, answer),
            None if answer == Some(Reservation::Granted) => {
                self.env.node.inbox(child).event(Event::Release(child));
            }
            None => {}
        }
    }

    /// A reserved number is not needed.
    pub(super) fn release(&mut self, child: GroupId) {
        self.creating.remove(&child);
    }

    /// A child begins.
    pub(super) fn begin(&mut self, made: Made, campaign: bool) {
        let Made {
            group: id,
            tree,
            state,
            restored,
            split,
        } = made;
        self.creating.remove(&id);
        let partition = Partition::new(state, self.env.node.partition_limits());
        self.found(id, restored, Some(Store::new(partition, tree)), None);
        self.with_group(id, |group, env| group.begin_as_child(env, split, campaign));
    }

    /// `FindMiddle`.
    pub(super) fn find_middle(&mut self, id: GroupId, caller: OrderCaller) {
        let led = self.groups.get(&id).filter(|group| group.leads());
        let Some(store) = led.and_then(|group| group.store.as_ref()) else {
            return caller.not_leader();
        };
        let tree = std::sync::Arc::downgrade(&store.tree);
        let job = MiddleJob {
            tree,
            whole_collections: store.partition.state().table.has_local_indexes(),
            caller,
        };
        if let Err(job) = self.env.middles.submit(job) {
            job.caller.refused(TOO_MANY);
        }
    }

    /// A new replica begins its life.
    fn found(
        &mut self,
        id: GroupId,
        restored: Restored,
        store: Option<Store>,
        founder: Option<Founder>,
    ) {
        let node = &self.env.node;
        let timing = node.settings.timing.clone();
        let replica = Replica::new(node.id, id, restored, timing, self.env.now);
        let mut group = Group::new(id, replica, store, self.env.now);
        group.copy_cause = founder.as_ref().map(Founder::cause).unwrap_or_default();
        group.founding.extend(founder);
        self.groups.insert(id, group);
        // A partition that was deleted here is not the one that is made now.
        self.dropped.retain(|(dropped, _)| *dropped != id);
        // Its first step persists the founding.
        self.with_group(id, |group, env| group.step(env, Input::Tick));
    }

    /// `JoinReplica`: makes a replica that the leader takes in later, unless it is there.
    pub(super) fn join(&mut self, order: Box<JoinReplica>, caller: OrderCaller) {
        let (id, me) = (order.partition, self.env.node.id);
        if self.creating.contains(&id) || self.dropping.contains(&id) {
            return caller.refused(UNDER_WAY);
        }
        if let Some(group) = self.groups.get(&id) {
            let identity = group.replica.identity();
            let known = group.replica.configuration();
            let named = |c: &paxos::Configuration| c.contains(me, identity.incarnation);
            if known.generation > order.configuration.generation {
                return caller.stale(known.generation);
            }
            if order.configuration.votes(me, identity.incarnation) {
                return caller.refused("its replica on this node has a vote");
            }
            // Taken in as a learner by this generation, or made for an earlier order and never taken in.
            let waits = named(&order.configuration) || !named(known);
            if waits && identity.role == order.role {
                return self.founded_before(id, Founder::Joining(caller));
            }
        }
        if self.groups.contains_key(&id) || self.fenced.contains_key(&id) {
            tracing::info!(
                group = id.0,
                "a new replica takes the place of the one here"
            );
            return self.drop_replica(id, Dropping::Replaced(order, caller));
        }
        self.make_joining(*order, caller);
    }

    fn make_joining(&mut self, order: JoinReplica, caller: OrderCaller) {
        let id = order.partition;
        let identity = Identity {
            // Not 0; below 2^53 it survives any JSON.
            incarnation: rand::random::<u64>() >> 11 | 1,
            role: order.role,
            generation: order.configuration.generation,
        };
        let founder = Founder::Joining(caller);
        match order.role {
            Role::Log => {
                let restored = Restored::founding(identity, order.configuration);
                self.found(id, restored, None, Some(founder));
            }
            Role::Storage => {
                let state = PartitionState::empty(
                    order.configuration,
                    order.range,
                    order.table,
                    order.members,
                );
                self.create_store(id, state, identity, founder);
            }
        }
    }

    /// `RetireReplica`: drops a replica that is out of its group, unless it knows better.
    pub(super) fn retire(
        &mut self,
        id: GroupId,
        incarnation: u64,
        generation: u64,
        caller: OrderCaller,
    ) {
        if let Some(group) = self.groups.get(&id) {
            let identity = group.replica.identity();
            let known = group.replica.configuration();
            if identity.incarnation != incarnation {
                return caller.done();
            }
            if !group.replica.is_ended_by(generation) {
                return caller.stale(known.generation.max(identity.generation));
            }
        } else if !self.fenced.contains_key(&id) {
            return caller.done();
        }
        self.drop_replica(id, Dropping::Retired(Some(caller)));
    }

    pub(super) fn drop_replica(&mut self, id: GroupId, dropping: Dropping) {
        if self.creating.contains(&id) || self.dropping.contains(&id) {
            return dropping.refused(UNDER_WAY);
        }
        if self.groups.get(&id).is_some_and(Group::is_installing) {
            return dropping.refused("its children are being installed");
        }
        let (tree, children) = match self.groups.remove(&id) {
            Some(mut group) => {
                group.abandon(&mut self.env);
                self.env.answer_all();
                self.env.directory_changed = true;
                for founder in group.founding.drain(..) {
                    founder.refused("the replica is dropped");
                }
                let parts = group.store.map(|store| {
                    store.dropped.store(true, Ordering::Relaxed);
                    (store.tree, store.splitting.map(|s| s.children))
                });
                parts.map_or((None, None), |(tree, children)| (Some(tree), children))
            }
            None if self.fenced.contains_key(&id) => (None, None),
            None => return self.replica_dropped(id, Ok(()), dropping),
        };
        let inbox = self.env.inbox.clone();
        let folder = self.env.node.replica_folder(id);
        self.dropping.insert(id);
        if let Err(job) = self.env.orders.submit(OrderJob::Drop {
            group: id,
            folder,
            tree,
            children,
            dropping,
            inbox,
        }) {
            self.dropping.remove(&id);
            let why = "its drop was ordered, but not done yet";
            self.fenced.insert(id, Fence::new(Reason::DropFailed, why));
            job.refuse(TOO_MANY);
        }
    }

    pub(super) fn replica_dropped(
        &mut self,
        id: GroupId,
        result: Result<(), String>,
        dropping: Dropping,
    ) {
        self.dropping.remove(&id);
        if let Err(why) = result {
            let what = format!("its drop failed: {why}");
            self.fenced.insert(id, Fence::new(Reason::DropFailed, what));
            self.report_fenced();
            return dropping.refused(why);
        }
        self.fenced.remove(&id);
        self.report_fenced();
        match dropping {
            Dropping::Deleted(caller) => {
                self.dropped.push((id, self.env.now));
                self.push(Vec::new(), true);
                caller.done();
            }
            Dropping::Retired(caller) => {
                if let Some(caller) = caller {
                    caller.done();
                }
            }
            Dropping::Replaced(order, caller) => self.make_joining(*order, caller),
        }
    }
}
