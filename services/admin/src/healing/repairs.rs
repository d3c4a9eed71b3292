//! The replacements that are wanted and under way. Pure.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId, Role};
use protocol::control::Order;

use super::balance;
use super::diagnosis::{Ailment, Reason, bad, copies, diagnose, healthy};
use super::target::{Choice, Target, choose};
use super::{Directive, View};
use crate::driver::Outcome;
use crate::partitions::Seen;
use crate::placement::REPLICAS;

/// Between the end of one replacement of a partition and the next look at it, milliseconds: heartbeats and pushes of before must not
/// be taken for those of after.
const COOLDOWN_MS: u64 = 5_000;
/// First wait after a refusal, milliseconds; doubled with each.
const BACKOFF_MS: u64 = 1_000;
/// Refusals after which another target is tried.
const REFUSALS_MAX: u32 = 3;
/// An answer that only says "not yet" (no leader, newer generation, none at all) is followed by another try after this, milliseconds.
const AGAIN_MS: u64 = 1_000;
/// A newcomer that nobody ordered here is left to its leader for so long, milliseconds.
const SURPLUS_AFTER_MS: u64 = 30_000;

/// A replacement that was ordered, or is to be.
#[derive(Debug)]
struct Pending {
    ailment: Ailment,
    target: NodeId,
    since_ms: u64,
    /// The leader has it, as far as is known: it holds its places in the bounds.
    running: bool,
    next_ms: u64,
    refusals: u32,
    why: String,
    avoid: Vec<NodeId>,
}

/// How far all of it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// At the worst moment since all was well.
    pub(crate) total: u64,
    pub(crate) done: u64,
    pub(crate) running: u64,
}

/// The planner.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    pending: BTreeMap<GroupId, Pending>,
    /// Since when a partition ails.
    ailing: BTreeMap<GroupId, u64>,
    /// No new diagnosis before.
    cooldown: BTreeMap<GroupId, u64>,
    done: u64,
    /// Why replacements wait: words and how many.
    waiting: BTreeMap<String, u64>,
    /// What ended with the last step, and whether it was done.
    ended: Vec<(GroupId, bool)>,
}

/// The bounds, as far as they are used.
#[derive(Default)]
struct Used {
    total: usize,
    moves: usize,
    by_target: BTreeMap<NodeId, usize>,
    by_source: BTreeMap<NodeId, usize>,
}

impl Used {
    fn take(&mut self, source: Option<NodeId>, target: NodeId, is_move: bool) {
        self.total += 1;
        self.moves += usize::from(is_move);
        *self.by_target.entry(target).or_insert(0) += 1;
        if let Some(source) = source {
            *self.by_source.entry(source).or_insert(0) += 1;
        }
    }
}

impl Repairs {
    /// What is to be ordered now.
    pub(crate) fn step(&mut self, view: &View) -> Vec<Directive> {
        let mut orders = Vec::new();
        self.ended.clear();
        if view.blind() {
            self.waiting =
                BTreeMap::from([("most nodes are silent: is this admin cut off?".into(), 1)]);
            return orders;
        }
        self.settle(view);
        self.cooldown.retain(|_, until_ms| view.now_ms < *until_ms);
        let mut ailing = self.diagnose(view);
        let mut used = self.used(view);
        for (&partition, pending) in &mut self.pending {
            if pending.running && view.now_ms >= pending.next_ms {
                orders.extend(pending.order(partition, view));
            }
        }
        let mut load = view.partitions.storage_replicas();
        for (partition, pending) in &self.pending {
            let there = view.partitions.get(*partition);
            if pending.running && there.is_none_or(|seen| !seen.on(pending.target)) {
                *load.entry(pending.target).or_insert(0) += 1;
            }
        }
        if ailing.is_empty() && self.pending.is_empty() {
            self.done = 0;
            let moves = balance::moves(view, &load, view.settings.moves_max);
            ailing.extend(moves);
        }
        self.waiting.clear();
        for (partition, ailment) in self.in_order(ailing, view) {
            self.begin(partition, ailment, view, &mut used, &mut load, &mut orders);
        }
        orders
    }

    /// Somebody wants a replica built anew on `to`: the operator, or whoever saw that its node is under pressure.
    ///
    /// # Errors
    /// Why that can't be, in words.
    pub(crate) fn replace(
        &mut self,
        partition: GroupId,
        from: NodeId,
        to: NodeId,
        reason: Reason,
        view: &View,
    ) -> Result<(), String> {
        let seen = view.partitions.get(partition);
        let seen = seen.ok_or_else(|| format!("partition {} is not known", partition.0))?;
        if let Some(pending) = self.pending.get(&partition)
            && pending.running
        {
            return Err(format!(
                "partition {} is being changed already: {}",
                partition.0,
                pending.words()
            ));
        }
        let replica = seen.replicas().find(|m| m.member.node == from);
        let replica = replica.ok_or_else(|| {
            format!(
                "partition {} has no replica on node {}",
                partition.0, from.0
            )
        })?;
        let node = view.nodes.get(&to);
        let node = node.ok_or_else(|| format!("node {} is not known", to.0))?;
        if from == to && healthy(replica, seen, view) {
            // Its leader would refuse, again and again.
            return Err(format!(
                "partition {}: the replica on node {} is healthy; in its place only one is built anew that is fenced, or whose node or disk is gone",
                partition.0, from.0
            ));
        }
        if from != to && seen.on(to) {
            return Err(format!(
                "partition {} has a replica on node {} already",
                partition.0, to.0
            ));
        }
        if !node.takes_replicas(view.free_bytes_min) {
            return Err(format!(
                "node {} takes no replicas: it must be alive, ready, neither slow nor draining, and have room",
                to.0
            ));
        }
        let stay = seen
            .info
            .members
            .iter()
            .filter(|m| m.member.role == Role::Storage && m.member.node != from);
        if let Some(other) = stay.into_iter().find(|m| m.zone == node.zone) {
            return Err(format!(
                "node {} is in zone {}, where the partition has a replica on node {} already",
                to.0, node.zone, other.member.node.0
            ));
        }
        let ailment = Ailment {
            replaced: from,
            incarnation: replica.member.incarnation,
            reason,
            copies: copies(seen, view),
            joining: None,
        };
        let pending = Pending::new(ailment, to, view.now_ms);
        self.pending.insert(partition, pending);
        Ok(())
    }

    /// What a leader answered to the order for its partition.
    pub(crate) fn answered(&mut self, partition: GroupId, outcome: &Outcome, view: &View) {
        let Some(pending) = self.pending.get_mut(&partition) else {
            return;
        };
        match outcome {
            Outcome::Done => {
                pending.refusals = 0;
                pending.next_ms = view.now_ms + view.settings.repeat_ms;
            }
            Outcome::NotLeader | Outcome::Stale(_) | Outcome::Silent | Outcome::Unauthorised => {
                pending.next_ms = view.now_ms + AGAIN_MS;
            }
            Outcome::Refused(why) => {
                pending.running = false;
                pending.why.clone_from(why);
                pending.refusals = pending.refusals.saturating_add(1);
                let wait_ms = BACKOFF_MS << pending.refusals.saturating_sub(1).min(10);
                pending.next_ms = view.now_ms + wait_ms.min(view.settings.backoff_ms_max);
                if pending.refusals % REFUSALS_MAX == 0 {
                    pending.avoid.push(pending.target);
                }
            }
        }
    }

    /// How far all of it is.
    pub(crate) fn progress(&self) -> Progress {
        let open = self.ailing.len() as u64;
        Progress {
            total: self.done + open,
            done: self.done,
            running: self.pending.values().filter(|p| p.running).count() as u64,
        }
    }

    /// Why replacements wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&str, u64)> {
        self.waiting
            .iter()
            .map(|(why, &count)| (why.as_str(), count))
    }

    /// What is being done about a partition, in words; none = nothing.
    pub(crate) fn words(&self, partition: GroupId) -> Option<String> {
        self.pending.get(&partition).map(Pending::words)
    }

    /// Why a partition's replica is built anew; none = it is not.
    pub(crate) fn reason(&self, partition: GroupId) -> Option<Reason> {
        let pending = self.pending.get(&partition)?;
        Some(pending.ailment.reason)
    }

    /// What ended with the last step, and whether it was done.
    pub(crate) fn ended(&self) -> &[(GroupId, bool)] {
        &self.ended
    }

    /// Whether a partition's replicas are being changed.
    pub(crate) fn touches(&self, partition: GroupId) -> bool {
        self.pending.contains_key(&partition) || self.ailing.contains_key(&partition)
    }

    /// Forgets everything: another admin plans now.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Looks which of the ordered ones are done, or have lost their sense.
    fn settle(&mut self, view: &View) {
        let mut ended = Vec::new();
        for (&partition, pending) in &mut self.pending {
            let Some(seen) = view.partitions.get(partition) else {
                ended.push((partition, false));
                continue;
            };
            if seen.info.changing || !seen.fresh(view.now_ms) {
                continue;
            }
            let ailment = &pending.ailment;
            let gone = !seen
                .replicas()
                .any(|m| m.member.is(ailment.replaced, ailment.incarnation));
            if gone {
                ended.push((partition, true));
                continue;
            }
            let target = view.nodes.get(&pending.target);
            let target_lost = target.is_none_or(|n| n.dead() || n.draining)
                || (pending.target != ailment.replaced
                    && seen.replicas().any(|m| {
                        m.member.node == pending.target
                            && m.member.role == Role::Storage
                            && bad(m, seen, view).is_some()
                    }));
            let stuck =
                view.now_ms.saturating_sub(pending.since_ms) >= view.settings.stuck_after_ms;
            // What the leader has taken on goes on, even if its cause is gone: two decisions in a row cost more than one too many.
            let healed =
                !pending.running && !ailment.reason.is_placed() && diagnose(seen, view).is_none();
            if target_lost || stuck || healed {
                ended.push((partition, false));
            }
        }
        for (partition, done) in &ended {
            let (partition, done) = (*partition, *done);
            if let Some(pending) = self.pending.remove(&partition)
                && done
            {
                self.done += 1;
                tracing::info!(
                    partition = partition.0,
                    from = pending.ailment.replaced.0,
                    to = pending.target.0,
                    reason = pending.ailment.reason.words(),
                    "a replica was replaced"
                );
                self.cooldown.insert(partition, view.now_ms + COOLDOWN_MS);
            }
        }
        self.ended = ended;
    }

    fn diagnose(&mut self, view: &View) -> BTreeMap<GroupId, Ailment> {
        let mut found = BTreeMap::new();
        for (partition, seen) in view.partitions.iter() {
            if self.cooldown.contains_key(&partition) {
                continue;
            }
            if let Some(ailment) = diagnose(seen, view) {
                found.insert(partition, ailment);
            }
        }
        // Moves that can't be made are no ailments.
        let pending = &self.pending;
        self.ailing.retain(|partition, _| {
            found.contains_key(partition) || pending.contains_key(partition)
        });
        for partition in found.keys().chain(self.pending.keys()) {
            self.ailing.entry(*partition).or_insert(view.now_ms);
        }
        found
    }

    /// What is under way: ours, and copies that leaders began by themselves or for another admin.
    fn used(&self, view: &View) -> Used {
        let mut used = Used::default();
        for (partition, pending) in self.pending.iter().filter(|(_, p)| p.running) {
            let seen = view.partitions.get(*partition);
            let source = seen.and_then(|seen| seen.info.leader);
            used.take(source, pending.target, pending.ailment.reason.is_move());
        }
        for (partition, seen) in view.partitions.iter() {
            if self.pending.get(&partition).is_some_and(|p| p.running) {
                continue;
            }
            for copying in seen.info.progress.iter().filter(|p| p.copying) {
                used.take(seen.info.leader, copying.node, false);
            }
        }
        used
    }

    /// The most endangered first; then by urgency; then whoever waits longest and was refused least.
    fn in_order(&self, ailing: BTreeMap<GroupId, Ailment>, view: &View) -> Vec<(GroupId, Ailment)> {
        let waits = self
            .pending
            .iter()
            .filter(|(_, p)| !p.running && p.ailment.reason.is_placed())
            .map(|(&partition, p)| (partition, p.ailment.clone()));
        let mut order: BTreeMap<GroupId, Ailment> = ailing;
        order.extend(waits);
        let due = |partition: &GroupId| {
            let pending = self.pending.get(partition);
            pending.is_none_or(|p| !p.running && view.now_ms >= p.next_ms)
        };
        let mut order: Vec<_> = order.into_iter().filter(|(p, _)| due(p)).collect();
        order.sort_by_key(|(partition, ailment)| {
            let refusals = self.pending.get(partition).map_or(0, |p| p.refusals);
            let since_ms = self.ailing.get(partition).copied().unwrap_or(view.now_ms);
            let copies = ailment.copies.min(REPLICAS);
            (copies, ailment.reason, refusals, since_ms, *partition)
        });
        order
    }

    fn begin(
        &mut self,
        partition: GroupId,
        ailment: Ailment,
        view: &View,
        used: &mut Used,
        load: &mut BTreeMap<NodeId, u64>,
        orders: &mut Vec<Directive>,
    ) {
        let settings = view.settings;
        let Some(seen) = view.partitions.get(partition) else {
            return;
        };
        if ailment.reason == Reason::Surplus {
            let since_ms = self.ailing.get(&partition).copied().unwrap_or(view.now_ms);
            if view.now_ms.saturating_sub(since_ms) < SURPLUS_AFTER_MS {
                return;
            }
        }
        let full = used.total >= settings.replacements_max
            || (ailment.reason.is_move() && used.moves >= settings.moves_max)
            || seen.info.leader.is_some_and(|source| {
                used.by_source.get(&source).copied().unwrap_or(0)
                    >= settings.replacements_per_source_max
            });
        let earlier = self.pending.get(&partition);
        let fixed = earlier
            .filter(|p| p.ailment.reason.is_placed())
            .map(|p| p.target);
        let target = match fixed {
            Some(target) => Target::Node(target),
            None => {
                let avoid = earlier.map(|p| p.avoid.as_slice()).unwrap_or_default();
                let choice = Choice {
                    load,
                    incoming: &used.by_target,
                    avoid,
                };
                choose(seen, &ailment, view, &choice)
            }
        };
        let target = match target {
            Target::Node(target) if !full => target,
            Target::None(_) if ailment.reason.is_move() => {
                self.ailing.remove(&partition);
                return;
            }
            Target::None(why) => {
                // All have refused: begin with them again.
                if let Some(pending) = self.pending.get_mut(&partition) {
                    pending.avoid.clear();
                }
                return self.wait(format!("{}: {why}", ailment.reason.words()));
            }
            Target::Node(_) | Target::Busy => {
                return self.wait("for others to finish (bounded concurrency)".to_owned());
            }
        };
        let is_move = ailment.reason.is_move();
        let mut pending = self
            .pending
            .remove(&partition)
            .unwrap_or_else(|| Pending::new(ailment.clone(), target, view.now_ms));
        if !pending.ailment.reason.is_placed() {
            pending.ailment = ailment;
        }
        pending.target = target;
        pending.running = true;
        if let Some(order) = pending.order(partition, view) {
            used.take(seen.info.leader, target, is_move);
            *load.entry(target).or_insert(0) += 1;
            orders.push(order);
        }
        self.ailing.entry(partition).or_insert(view.now_ms);
        self.pending.insert(partition, pending);
    }

    fn wait(&mut self, why: String) {
        *self.waiting.entry(why).or_insert(0) += 1;
    }
}

impl Pending {
    fn new(ailment: Ailment, target: NodeId, now_ms: u64) -> Self {
        Self {
            ailment,
            target,
            since_ms: now_ms,
            running: false,
            next_ms: now_ms,
            refusals: 0,
            why: String::new(),
            avoid: Vec::new(),
        }
    }

    /// The order to the leader, if there is one to give it to now.
    fn order(&mut self, partition: GroupId, view: &View) -> Option<Directive> {
        let seen: &Seen = view.partitions.get(partition)?;
        if seen.info.changing || !seen.fresh(view.now_ms) {
            return None;
        }
        let leader = seen.info.leader?;
        if view.nodes.get(&leader).is_some_and(|n| n.dead()) {
            return None;
        }
        // Until it is answered.
        self.next_ms = view.now_ms + view.settings.repeat_ms;
        Some(Directive {
            to: leader,
            partition,
            order: Order::ReplaceReplica {
                partition,
                generation: seen.info.generation,
                replaced: self.ailment.replaced,
                target: self.target,
            },
        })
    }

    fn words(&self) -> String {
        let (from, to) = (self.ailment.replaced.0, self.target.0);
        let reason = self.ailment.reason.words();
        if self.running {
            format!("node {from} -> node {to} ({reason})")
        } else if self.why.is_empty() {
            format!("node {from} -> node {to} waits ({reason})")
        } else {
            format!("node {from} -> node {to} refused: {} ({reason})", self.why)
        }
    }
}
