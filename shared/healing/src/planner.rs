//! The planner of one group, alive as long as its replica leads: looks at the group again and again, and names the next thing to
//! do, one at a time. Owns what must be remembered between two looks; what can be said from one look is `view`'s.

use std::collections::BTreeMap;

use paxos::{GroupId, Member, Millis, NodeId, ReconfigureRefusal, Role};

use crate::change::Lists;
use crate::{Replacement, Settings, View};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Order `JoinReplica` from this node, with the configuration in force; answer with `Planner::joined` or `Planner::join_failed`.
    Join {
        /// The node.
        node: NodeId,
        /// With a B-tree or without.
        role: Role,
        /// Give up after so long, milliseconds.
        within_ms: u64,
    },
    /// `Input::Reconfigure`; answer with `Planner::refused` if the core refuses.
    Reconfigure {
        /// Generation in force.
        generation: u64,
        /// The new voters.
        members: Vec<Member>,
        /// The new learners.
        learners: Vec<Member>,
    },
}

/// A replica that is being made, or was made and is not yet taken in.
#[derive(Clone, Copy, Debug)]
struct Join {
    node: NodeId,
    role: Role,
    /// Generation that it was ordered in.
    generation: u64,
    /// It counts as failed then.
    deadline: Millis,
    incarnation: Option<u64>,
}

/// Failures of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    until: Millis,
}

/// The planner of one group at its leader.
#[derive(Debug)]
pub struct Planner {
    pub(crate) settings: Settings,
    group: GroupId,
    /// When each replica was first seen here without having been heard; and in step: since when it is.
    unheard_since: BTreeMap<(NodeId, u64), Millis>,
    in_step_since: BTreeMap<(NodeId, u64), Millis>,
    /// Learners without a place to take, since when.
    idle_since: BTreeMap<(NodeId, u64), Millis>,
    /// How often each node lost its vote because of silence.
    relapses: BTreeMap<NodeId, u32>,
    failures: BTreeMap<NodeId, Failures>,
    join: Option<Join>,
    pub(crate) replacement: Option<Replacement>,
    /// No change is tried before.
    not_before: Millis,
    stepped: Millis,
    /// This node stood still until then: no silence counts from before.
    awake_since: Option<Millis>,
}

impl Planner {
    /// A planner for a leader that was just elected.
    pub fn new(group: GroupId, settings: Settings, now: Millis) -> Self {
        Self {
            settings,
            group,
            unheard_since: BTreeMap::new(),
            in_step_since: BTreeMap::new(),
            idle_since: BTreeMap::new(),
            relapses: BTreeMap::new(),
            failures: BTreeMap::new(),
            join: None,
            replacement: None,
            not_before: Millis(0),
            stepped: now,
            awake_since: None,
        }
    }

    /// Looks at the group; the next thing to do, if any. Cheap, and without allocation, where all is well. To be called at least
    /// twice within `Settings::pause_ms`.
    pub fn step(&mut self, now: Millis, view: &View<'_>) -> Option<Action> {
        if now.since(self.stepped) > self.settings.pause_ms {
            self.awake_since = Some(now);
        }
        self.stepped = now;
        if self.is_well(now, view) {
            return None;
        }
        if !view.settled {
            return None;
        }
        self.remember(now, view);
        self.forget_late_join(now, view);
        if now < self.not_before {
            return None;
        }
        if let Some(Join {
            incarnation: None, ..
        }) = self.join
        {
            return None;
        }
        self.promote(now, view)
            .or_else(|| self.take_in(now, view))
            .or_else(|| self.replace_silent(now, view))
            .or_else(|| self.start_replacement(now, view))
            .or_else(|| self.let_go(now, view))
    }

    /// The ordered replica is there.
    pub fn joined(&mut self, node: NodeId, role: Role, incarnation: u64) {
        if let Some(join) = &mut self.join
            && (join.node, join.role) == (node, role)
        {
            join.incarnation = Some(incarnation);
            self.failures.remove(&node);
        }
    }

    /// The ordered replica could not be made, or nobody answered.
    pub fn join_failed(&mut self, now: Millis, node: NodeId, role: Role) {
        let Some(join) = self.join else { return };
        if (join.node, join.role) != (node, role) {
            return;
        }
        self.join = None;
        let failures = self.failures.entry(node).or_default();
        let pause = self.settings.retry_ms << failures.count.min(16);
        failures.count = failures.count.saturating_add(1);
        failures.until = now.plus(pause.min(self.settings.retry_ms_max));
        if role == Role::Storage
            && let Some(replacement) = &mut self.replacement
            && replacement.target == node
        {
            replacement.failures += 1;
            if replacement.failures >= self.settings.replacement_tries_max {
                self.replacement = None;
            }
        }
    }

    /// The core refused the change: it is thought over after a while.
    pub fn refused(&mut self, now: Millis, refusal: &ReconfigureRefusal) {
        let pause = match refusal {
            // Over in a moment, or leadership is.
            ReconfigureRefusal::NotServing | ReconfigureRefusal::UnderWay => 100,
            ReconfigureRefusal::Stale(_) | ReconfigureRefusal::NotInStep(_) => 500,
            ReconfigureRefusal::NotLeader(_) | ReconfigureRefusal::Invalid(_) => {
                self.settings.retry_ms
            }
        };
        self.not_before = now.plus(pause);
    }

    /// Nothing is under way, nobody is missing, nothing was ordered.
    fn is_well(&mut self, now: Millis, view: &View<'_>) -> bool {
        let members = &view.configuration.members;
        let well = view.settled
            && self.join.is_none()
            && self.replacement.is_none()
            && view.configuration.learners.is_empty()
            && view.followers.len() + 1 == members.len()
            && members.iter().all(|m| m.role == Role::Storage)
            && view.followers.iter().all(|f| {
                f.heard
                    .is_some_and(|at| now.since(at) < self.settings.log_replica_after_ms)
            });
        if well {
            self.unheard_since.clear();
            self.in_step_since.clear();
            self.idle_since.clear();
        }
        well
    }

    /// Notes since when things are as they are.
    fn remember(&mut self, now: Millis, view: &View<'_>) {
        let configuration = view.configuration;
        let named = |key: &(NodeId, u64)| configuration.contains(key.0, key.1);
        self.unheard_since.retain(|key, _| named(key));
        let everybody = configuration.members.iter().chain(&configuration.learners);
        for member in everybody {
            let heard = view.follower(member).is_some_and(|f| f.heard.is_some());
            if !heard && !view.is_me(member) {
                let key = (member.node, member.incarnation);
                self.unheard_since.entry(key).or_insert(now);
            }
        }
        let in_step = |member: &Member| view.follower(member).is_some_and(|f| f.in_step);
        let learners = || configuration.learners.iter();
        let key = |l: &Member| (l.node, l.incarnation);
        self.in_step_since
            .retain(|at, _| learners().any(|l| key(l) == *at && in_step(l)));
        for learner in learners().filter(|l| in_step(l)) {
            self.in_step_since.entry(key(learner)).or_insert(now);
        }
        let idle: Vec<(NodeId, u64)> = learners()
            .filter(|l| self.place(now, view, l).is_none())
            .filter(|l| !self.is_wanted(now, l))
            .map(key)
            .collect();
        self.idle_since.retain(|at, _| idle.contains(at));
        for at in idle {
            self.idle_since.entry(at).or_insert(now);
        }
    }

    /// The replacement has a use for this learner: it is the new one, or the one that goes.
    /// Not for ever: the admin repeats what it still wants.
    fn is_wanted(&self, now: Millis, learner: &Member) -> bool {
        self.replacement.is_some_and(|r| {
            let stands = now.since(r.ordered) < self.settings.replacement_hold_ms;
            stands && [r.target, r.replaced].contains(&learner.node)
        })
    }

    /// For how long nothing came from a replica, milliseconds.
    pub fn silent_ms(&self, now: Millis, view: &View<'_>, member: &Member) -> u64 {
        if view.is_me(member) {
            return 0;
        }
        let heard = view.follower(member).and_then(|f| f.heard);
        let silent = match heard {
            Some(at) => now.since(at),
            None => {
                // Not since this leader was elected, or the replica taken in. Heartbeats of its node may tell more.
                let since = self.unheard_since.get(&(member.node, member.incarnation));
                let own = since.map_or(0, |since| now.since(*since));
                let node = view.nodes.get(member.node);
                own.max(node.map_or(0, |node| now.since(node.heard)))
            }
        };
        self.awake_since
            .map_or(silent, |awake| silent.min(now.since(awake)))
    }

    fn is_silent(&self, now: Millis, view: &View<'_>, member: &Member) -> bool {
        self.silent_ms(now, view, member) >= self.settings.log_replica_after_ms
    }

    /// A replica that was ordered and never came, or was made for a configuration that is history.
    fn forget_late_join(&mut self, now: Millis, view: &View<'_>) {
        let Some(join) = self.join else { return };
        if join.incarnation.is_none() && now >= join.deadline {
            self.join_failed(now, join.node, join.role);
        } else if join.generation != view.configuration.generation {
            // It learns from its probes that it is not wanted, and goes.
            self.join = None;
        }
    }

    /// Whether these lists leave the group able to decide: most of the old and most of the new voters are alive. Newcomers are:
    /// they were just made, or are in step.
    fn is_safe(&self, now: Millis, view: &View<'_>, lists: &Lists) -> bool {
        let old = &view.configuration.members;
        let alive = |m: &&Member| !old.contains(m) || !self.is_silent(now, view, m);
        let most = |list: &[Member]| list.iter().filter(alive).count() > list.len() / 2;
        most(old) && most(&lists.members)
    }

    fn change(&self, now: Millis, view: &View<'_>, lists: Lists) -> Option<Action> {
        if lists == Lists::of(view.configuration) || !self.is_safe(now, view, &lists) {
            return None;
        }
        let Lists { members, learners } = lists;
        Some(Action::Reconfigure {
            generation: view.configuration.generation,
            members,
            learners,
        })
    }

    /// Whose vote a learner should take over.
    fn place<'a>(&self, now: Millis, view: &View<'a>, learner: &Member) -> Option<&'a Member> {
        let members = || view.configuration.members.iter();
        // Its node's own earlier replica, whose disk is gone; its log replica never has a learner beside it.
        let own = || members().find(|m| m.node == learner.node);
        let ordered = || {
            let replacement = self.replacement.filter(|r| r.target == learner.node)?;
            members().find(|m| m.node == replacement.replaced)
        };
        let log = || {
            let zone = view.zone(learner.node);
            let logs = members().filter(|m| m.role == Role::Log);
            logs.max_by_key(|m| (self.is_silent(now, view, m), view.zone(m.node) == zone))
        };
        let silent = || {
            let storage = members().filter(|m| m.role == Role::Storage);
            let silent = storage.map(|m| (self.silent_ms(now, view, m), m));
            let silent = silent.filter(|(ms, _)| *ms >= self.settings.log_replica_after_ms);
            silent.max_by_key(|(ms, _)| *ms).map(|(_, m)| m)
        };
        own().or_else(ordered).or_else(log).or_else(silent)
    }

    /// A learner that is in step gets a vote.
    fn promote(&mut self, now: Millis, view: &View<'_>) -> Option<Action> {
        for learner in &view.configuration.learners {
            let at = (learner.node, learner.incarnation);
            let Some(since) = self.in_step_since.get(&at) else {
                continue;
            };
            if view.nodes.get(learner.node).is_some_and(|n| n.draining) {
                continue;
            }
            let relapses = self.relapses.get(&learner.node).copied().unwrap_or(0);
            let doublings = relapses
                .saturating_sub(1)
                .min(self.settings.steady_doublings_max);
            let ordered = self.replacement.filter(|r| r.target == learner.node);
            let steady_ms = self.settings.steady_ms << doublings;
            // A new replica that has just been filled never fell silent.
            if now.since(*since) < steady_ms && ordered.is_none() {
                continue;
            }
            let Some(place) = self.place(now, view, learner) else {
                continue;
            };
            let mut lists = Lists::of(view.configuration).swap(place, *learner);
            let succeeded = place.node == learner.node;
            if !succeeded && ordered.is_none_or(|r| r.replaced != place.node) {
                // Nobody ordered that this one goes, and its disk may still be there.
                lists = lists.demote(place);
            }
            if let Some(replacement) = ordered {
                lists = lists.without_learner(replacement.replaced);
            }
            let Some(action) = self.change(now, view, lists) else {
                continue;
            };
            let back = self.replacement.is_some_and(|r| r.replaced == learner.node);
            if ordered.is_some() || back {
                // Done; or who was to be replaced is back before its successor.
                self.replacement = None;
            }
            return Some(action);
        }
        None
    }

    /// The replica that was made is taken in, if it is still wanted.
    fn take_in(&mut self, now: Millis, view: &View<'_>) -> Option<Action> {
        let join = self.join.take()?;
        let newcomer = Member {
            node: join.node,
            role: join.role,
            incarnation: join.incarnation?,
        };
        if join.role == Role::Log {
            let voter = self.longest_silent(now, view)?;
            let lists = Lists::of(view.configuration).swap(&voter, newcomer);
            let action = self.change(now, view, lists.demote(&voter))?;
            if voter.role == Role::Storage {
                let relapses = self.relapses.entry(voter.node).or_default();
                *relapses = relapses.saturating_add(1);
            }
            return Some(action);
        }
        let replacement = self.replacement.as_mut()?;
        if replacement.target != join.node {
            return None;
        }
        replacement.made = Some(newcomer.incarnation);
        let replaced = replacement.replaced;
        let lists = Lists::of(view.configuration).teach(newcomer);
        let lists = match replaced == newcomer.node {
            true => lists,
            // A learner that is to go need not wait for its successor.
            false => lists.without_learner(replaced),
        };
        self.change(now, view, lists)
    }

    fn longest_silent(&self, now: Millis, view: &View<'_>) -> Option<Member> {
        let members = view.configuration.members.iter();
        let silent = members.filter(|m| self.is_silent(now, view, m));
        silent.max_by_key(|m| self.silent_ms(now, view, m)).copied()
    }

    /// A voter that is silent makes room for a log replica.
    fn replace_silent(&mut self, now: Millis, view: &View<'_>) -> Option<Action> {
        let missing = self.longest_silent(now, view)?;
        let resting = |node: NodeId| {
            let failures = self.failures.get(&node);
            failures.is_some_and(|failures| now < failures.until)
        };
        let node = view.log_node(self.group, &missing, now, &self.settings, resting)?;
        let newcomer = Member {
            node,
            role: Role::Log,
            incarnation: 0,
        };
        // Nobody is asked for a replica that could not be taken in.
        let lists = Lists::of(view.configuration).swap(&missing, newcomer);
        if !self.is_safe(now, view, &lists) {
            return None;
        }
        let within_ms = self.settings.join_log_ms;
        Some(self.join(now, view, newcomer, within_ms))
    }

    /// The new replica of a replacement is made, unless it is there already.
    fn start_replacement(&mut self, now: Millis, view: &View<'_>) -> Option<Action> {
        let replacement = self.replacement?;
        if view.configuration.member(replacement.replaced).is_none() {
            // It is gone. A new replica that is being filled takes the place of a log replica, or is of no use any more.
            self.replacement = None;
            return None;
        }
        let node = replacement.target;
        let mut learners = view.configuration.learners.iter();
        if let Some(learner) = learners.find(|l| l.node == node) {
            // If its node is there and it is not, its disk is gone, and it is to be made once more.
            let gone = self.is_silent(now, view, learner)
                && view.takes_replicas(node, now, &self.settings);
            let made = replacement.made == Some(learner.incarnation) && !gone;
            let lives = view.follower(learner).is_some_and(|f| f.heard.is_some());
            let another = replacement.replaced != node;
            if made || (lives && another) {
                // It is being filled.
                return None;
            }
        } else if !Lists::of(view.configuration).has_room_for_learner() {
            return None;
        }
        let resting = self.failures.get(&node).is_some_and(|f| now < f.until);
        if resting {
            return None;
        }
        let newcomer = Member {
            node,
            role: Role::Storage,
            incarnation: 0,
        };
        let within_ms = self.settings.join_storage_ms;
        Some(self.join(now, view, newcomer, within_ms))
    }

    /// A learner that nobody has wanted for long goes.
    fn let_go(&mut self, now: Millis, view: &View<'_>) -> Option<Action> {
        let mut idle = self.idle_since.iter();
        let old = idle.find(|(_, since)| now.since(**since) >= self.settings.learner_idle_ms)?;
        let lists = Lists::of(view.configuration).without_learner(old.0.0);
        self.change(now, view, lists)
    }

    fn join(&mut self, now: Millis, view: &View<'_>, who: Member, within_ms: u64) -> Action {
        self.join = Some(Join {
            node: who.node,
            role: who.role,
            generation: view.configuration.generation,
            // The shell gives up first.
            deadline: now.plus(within_ms.saturating_mul(2)),
            incarnation: None,
        });
        Action::Join {
            node: who.node,
            role: who.role,
            within_ms,
        }
    }
}
