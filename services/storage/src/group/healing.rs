//! What a leader does for its group's members: asks the planner, carries out what it says, takes the orders that concern members.
//! Decides nothing; `healing` does.

use healing::{Action, Planner, ReplacementRefusal, View};
use mesh::TraceContext;
use partition::PartitionError;
use paxos::{FollowerStatus, GroupId, Input, Millis, NodeId, ReconfigureRefusal, Role, Standing};
use protocol::control::{JoinReplica, Order};

use super::{Group, zone_of};
use crate::env::Env;
use crate::joiner::JoinCall;
use crate::orders::OrderCaller;

/// Between two looks of the planner, milliseconds: short against the two seconds after which it acts.
const PLAN_EVERY_MS: u64 = 200;

/// The planner and when it looks.
pub(super) struct Healing {
    /// While this replica leads.
    planner: Option<Planner>,
    led_since: Millis,
    plan_at: Millis,
    /// What the replacement that was ordered last is part of.
    cause: TraceContext,
}

impl Healing {
    pub(super) fn new(group: GroupId, now: Millis) -> Self {
        Self {
            planner: None,
            led_since: now,
            // Not all groups at the same moment.
            plan_at: now.plus(group.0 % PLAN_EVERY_MS),
            cause: TraceContext::default(),
        }
    }

    /// For how long nothing came from a follower, milliseconds.
    pub(super) fn silent_ms(&self, now: Millis, follower: &FollowerStatus) -> u64 {
        now.since(follower.heard.unwrap_or(self.led_since))
    }

    /// What the core said to the planner's change.
    pub(super) fn reconfigured(
        &mut self,
        now: Millis,
        group: GroupId,
        answer: Result<u64, ReconfigureRefusal>,
    ) {
        match answer {
            Ok(generation) => tracing::info!(group = group.0, generation, "changing members"),
            Err(refusal) => {
                tracing::debug!(group = group.0, ?refusal, "the members stay as they are");
                if let Some(planner) = &mut self.planner {
                    planner.refused(now, &refusal);
                }
            }
        }
    }
}

impl Group {
    /// Lets the planner look, if it is time to.
    pub(super) fn heal(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        if env.now < self.healing.plan_at {
            return Ok(());
        }
        self.healing.plan_at = env.now.plus(PLAN_EVERY_MS);
        if self
            .replica
            .heard_from_leader_within(env.now, PLAN_EVERY_MS * 4)
        {
            self.led_at = env.now;
        }
        // Where a partition ends, its children take its members over; they are healed.
        if env.node.is_draining() || self.is_ending() {
            return Ok(());
        }
        self.plan(env)
    }

    /// Lets the planner look, and carries out what it says.
    fn plan(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let action = self.with_planner(env, |planner, now, view| planner.step(now, view));
        match action.flatten() {
            None => Ok(()),
            Some(Action::Join {
                node,
                role,
                within_ms,
            }) => {
                self.ask_to_join(env, node, role, within_ms);
                Ok(())
            }
            Some(Action::Reconfigure {
                generation,
                members,
                learners,
            }) => {
                let input = Input::Reconfigure {
                    generation,
                    members,
                    learners,
                };
                self.step(env, input)
            }
        }
    }

    /// Shows the planner the group; none if this replica does not lead.
    fn with_planner<T>(
        &mut self,
        env: &Env,
        act: impl FnOnce(&mut Planner, Millis, &View<'_>) -> T,
    ) -> Option<T> {
        let leads = matches!(self.replica.status().standing, Standing::Leader { .. });
        let Some(store) = self.store.as_ref().filter(|_| leads) else {
            self.healing.planner = None;
            return None;
        };
        if self.healing.planner.is_none() {
            self.healing.led_since = env.now;
        }
        let settings = &env.node.settings.healing;
        let planner = self
            .healing
            .planner
            .get_or_insert_with(|| Planner::new(self.id, settings.clone(), env.now));
        let followers = self.replica.followers();
        let nodes = env.node.nodes.read();
        let view = View {
            me: env.node.id,
            incarnation: self.replica.identity().incarnation,
            configuration: self.replica.configuration(),
            settled: self.replica.configuration_settled(),
            followers: &followers,
            nodes: &nodes,
            placed: &store.partition.state().members,
        };
        Some(act(planner, env.now, &view))
    }

    fn ask_to_join(&mut self, env: &mut Env, node: NodeId, role: Role, within_ms: u64) {
        let Some(store) = &self.store else { return };
        let state = store.partition.state();
        let nodes = env.node.nodes.read();
        let configuration = self.replica.configuration();
        let placed = |member: &paxos::Member| protocol::directory::PlacedMember {
            member: *member,
            zone: zone_of(&nodes, &state.members, member.node),
        };
        let order = Order::JoinReplica(Box::new(JoinReplica {
            partition: self.id,
            role,
            table: state.table.clone(),
            range: state.range.clone(),
            members: configuration.all().map(placed).collect(),
            configuration: configuration.clone(),
        }));
        drop(nodes);
        tracing::info!(
            group = self.id.0,
            node = node.0,
            ?role,
            "asking for a new replica"
        );
        let call = JoinCall {
            group: self.id,
            node,
            role,
            order,
            within_ms,
            cause: self.healing.cause,
        };
        call.start(env.node.clone(), env.inbox.clone());
    }

    /// A node answered to `JoinReplica`, or did not.
    pub(crate) fn join_answered(
        &mut self,
        env: &mut Env,
        node: NodeId,
        role: Role,
        result: Result<u64, String>,
    ) -> Result<(), PartitionError> {
        let Some(planner) = &mut self.healing.planner else {
            return Ok(());
        };
        match result {
            Ok(incarnation) => planner.joined(node, role, incarnation),
            Err(why) => {
                tracing::warn!(
                    group = self.id.0,
                    node = node.0,
                    ?role,
                    why,
                    "no new replica"
                );
                planner.join_failed(env.now, node, role);
            }
        }
        self.plan(env)
    }

    /// `ReplaceReplica`.
    pub(crate) fn replace(
        &mut self,
        env: &mut Env,
        generation: u64,
        (replaced, target): (NodeId, NodeId),
        caller: OrderCaller,
    ) -> Result<(), PartitionError> {
        if self.is_ending() {
            caller.refused("the partition ends in a split: its children have its members");
            return Ok(());
        }
        let taken = self.with_planner(env, |planner, now, view| {
            planner.replace(now, view, generation, replaced, target)
        });
        match taken {
            None => caller.not_leader(),
            Some(Ok(())) => {
                self.healing.cause = caller.cause();
                caller.done();
                return self.plan(env);
            }
            Some(Err(ReplacementRefusal::Stale(generation))) => caller.stale(generation),
            Some(Err(ReplacementRefusal::Refused(why))) => caller.refused(why),
        }
        Ok(())
    }

    /// `TransferLeadership`: only to who can take it at once, since nothing is written meanwhile.
    pub(crate) fn transfer(
        &mut self,
        env: &mut Env,
        to: NodeId,
        caller: OrderCaller,
    ) -> Result<(), PartitionError> {
        if !self.leads() {
            caller.not_leader();
            return Ok(());
        }
        if to == env.node.id {
            caller.done();
            return Ok(());
        }
        let followers = self.replica.followers();
        let ready = followers.iter().any(|f| {
            f.member.node == to && f.member.role == Role::Storage && !f.learner && f.in_step
        });
        if !ready {
            caller.refused("the successor is not a storage member in step with the log");
            return Ok(());
        }
        let cause = caller.cause();
        caller.done();
        self.give_away(env, to, "ordered", cause)
    }
}
