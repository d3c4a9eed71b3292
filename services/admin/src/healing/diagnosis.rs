//! What is wrong with a partition's replicas. Pure.

use paxos::{NodeId, Role};
use protocol::directory::{PlacedMember, ReplicaProgress};

use super::View;
use crate::cluster::SILENT_MS;
use crate::partitions::Seen;
use crate::placement::REPLICAS;

/// Why a replica is to be built anew; the more urgent, the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The operator ordered it.
    Operator,
    /// Its node fenced it: what is stored there is wrong or unreadable.
    Fenced,
    /// Its node came back with another disk.
    DiskLost,
    /// Its node is dead, or nothing has come from it, for long.
    Dead,
    /// The group has a log replica, and no storage replica that could take its place.
    Missing,
    /// Its node is being drained.
    Draining,
    /// Two storage replicas in one zone, and another zone has room.
    Crowded,
    /// A replica that was built for a move which nobody finished.
    Surplus,
    /// Its node works near what it is rated for, or its disk fills up.
    Pressure,
    /// Its node holds far more than another.
    Balance,
}

impl Reason {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Operator => "ordered by the operator",
            Self::Fenced => "replica fenced",
            Self::DiskLost => "disk replaced",
            Self::Dead => "node dead",
            Self::Missing => "storage replica missing",
            Self::Draining => "node draining",
            Self::Crowded => "two replicas in one zone",
            Self::Surplus => "unfinished move",
            Self::Pressure => "node under pressure",
            Self::Balance => "balancing",
        }
    }

    /// Nothing is endangered: it may wait.
    pub(crate) fn is_move(self) -> bool {
        matches!(
            self,
            Self::Crowded | Self::Surplus | Self::Pressure | Self::Balance
        )
    }

    /// Whoever gave the reason chose the place, too.
    pub(crate) fn is_placed(self) -> bool {
        matches!(self, Self::Operator | Self::Pressure)
    }
}

/// A replica to be built anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ailment {
    pub(crate) replaced: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) reason: Reason,
    /// Healthy storage copies that there are.
    pub(crate) copies: usize,
    /// A replica that was made to take its place already.
    pub(crate) joining: Option<NodeId>,
}

impl Ailment {
    fn of(member: &PlacedMember, reason: Reason, copies: usize, joining: Option<NodeId>) -> Self {
        Self {
            replaced: member.member.node,
            incarnation: member.member.incarnation,
            reason,
            copies,
            joining,
        }
    }
}

fn progress<'a>(member: &PlacedMember, seen: &'a Seen) -> Option<&'a ReplicaProgress> {
    let of = |p: &&ReplicaProgress| member.member.is(p.node, p.incarnation);
    seen.info.progress.iter().find(of)
}

/// Why this replica must go, if it must.
pub(crate) fn bad(member: &PlacedMember, seen: &Seen, view: &View) -> Option<Reason> {
    let replace_after_ms = view.settings.replace_after_ms;
    let node = view.nodes.get(&member.member.node);
    if let Some(node) = node {
        if node.fenced.contains(&seen.info.partition) {
            return Some(Reason::Fenced);
        }
        if node.former.contains(&member.member.incarnation) {
            return Some(Reason::DiskLost);
        }
        if node.dead() && node.silent_ms >= replace_after_ms {
            return Some(Reason::Dead);
        }
    }
    // Whatever its node says of itself: its leader has heard nothing of this very replica.
    if progress(member, seen).is_some_and(|p| p.silent_ms >= replace_after_ms) {
        return Some(Reason::Dead);
    }
    node.filter(|n| n.draining).map(|_| Reason::Draining)
}

/// Whether this is a storage copy with which nothing is wrong at the moment.
pub(crate) fn healthy(member: &PlacedMember, seen: &Seen, view: &View) -> bool {
    let votes = seen.info.members.contains(member);
    let follows = match progress(member, seen) {
        Some(p) => p.silent_ms < 2 * SILENT_MS && !p.copying && (votes || p.in_step),
        // The leader itself, or a leader that says nothing of its followers.
        None => votes,
    };
    let lives = view
        .nodes
        .get(&member.member.node)
        .is_none_or(|n| !n.dead());
    let fit = matches!(bad(member, seen, view), None | Some(Reason::Draining));
    member.member.role == Role::Storage && follows && lives && fit
}

/// Healthy storage copies, one a node.
pub(crate) fn copies(seen: &Seen, view: &View) -> usize {
    seen.replicas()
        .filter(|m| healthy(m, seen, view))
        .map(|m| m.member.node)
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

/// Healthy storage copies with a vote, one a node, while nobody is coming or going: what the group can lose one of. A learner that is in
/// step is a copy, but nobody can decide with it yet.
pub(crate) fn voting_copies(seen: &Seen, view: &View) -> usize {
    let members = seen.info.members.iter();
    let healthy = members.filter(|m| healthy(m, seen, view));
    let nodes: std::collections::BTreeSet<_> = healthy.map(|m| m.member.node).collect();
    match seen.info.changing {
        false => nodes.len(),
        true => nodes.len().min(REPLICAS - 1),
    }
}

/// How a replica is, in words for the operator.
pub(crate) fn state_of(member: &PlacedMember, seen: &Seen, view: &View) -> String {
    let node = view.nodes.get(&member.member.node);
    match bad(member, seen, view) {
        Some(Reason::Draining) | None => {}
        Some(reason) => return reason.words().to_owned(),
    }
    if node.is_some_and(|n| n.dead()) {
        return "node dead".to_owned();
    }
    if seen.info.leader == Some(member.member.node) {
        return "leader".to_owned();
    }
    match progress(member, seen) {
        None => "no word of it".to_owned(),
        Some(p) if p.silent_ms >= 2 * SILENT_MS => format!("silent for {} s", p.silent_ms / 1_000),
        Some(p) if p.copying => "copying".to_owned(),
        Some(p) if p.in_step => "in step".to_owned(),
        Some(p) => format!("{} entries behind", p.behind_entries),
    }
}

/// What is wrong with a partition: the replica to be built anew first. Nothing while its members change, and nothing that is the
/// leader's own business (a log replica for a silent member, the vote of one that came back).
pub(crate) fn diagnose(seen: &Seen, view: &View) -> Option<Ailment> {
    let info = &seen.info;
    let leader = info.leader?;
    // A partition that was split stays as it is until it is dropped.
    if info.changing || !seen.fresh(view.now_ms) || seen.ended() {
        return None;
    }
    let storage = |m: &&PlacedMember| m.member.role == Role::Storage;
    let good = |m: &&PlacedMember| bad(m, seen, view).is_none();
    let copies = copies(seen, view);
    let good_copies = seen.replicas().filter(storage).filter(good).count();
    // Enough are there or on their way: one of the newcomers takes the place.
    let newcomer = info.learners.iter().filter(storage).find(good);
    let joining = newcomer
        .filter(|_| good_copies >= REPLICAS)
        .map(|m| m.member.node);

    let worst = seen
        .replicas()
        .filter(storage)
        .filter(|m| m.member.node != leader)
        .filter_map(|m| Some((bad(m, seen, view)?, m)))
        .min_by_key(|&(reason, m)| (reason, m.member));
    if let Some((reason, member)) = worst {
        // Three good voters and a bad rest: the leader clears that away.
        let needed = good_copies < REPLICAS || joining.is_some();
        return needed.then(|| Ailment::of(member, reason, copies, joining));
    }
    if seen.replicas().filter(storage).count() < REPLICAS {
        let log = info.members.iter().find(|m| m.member.role == Role::Log)?;
        let reason = bad(log, seen, view).unwrap_or(Reason::Missing);
        return Some(Ailment::of(log, reason, copies, None));
    }
    let voters: Vec<&PlacedMember> = info.members.iter().filter(storage).collect();
    if info.members.len() != voters.len() || voters.len() < REPLICAS {
        return None;
    }
    let movable = |m: &&&PlacedMember| m.member.node != leader;
    if let Some(newcomer) = newcomer {
        let same_zone = |m: &&&PlacedMember| m.zone == newcomer.zone;
        let old = voters
            .iter()
            .filter(movable)
            .find(same_zone)
            .or_else(|| voters.iter().find(movable))?;
        let joining = Some(newcomer.member.node);
        return Some(Ailment::of(old, Reason::Surplus, copies, joining));
    }
    let crowded = |m: &&&PlacedMember| {
        let same = voters.iter().filter(|other| other.zone == m.zone);
        same.count() > 1
    };
    let member = voters.iter().filter(movable).find(crowded)?;
    Some(Ailment::of(member, Reason::Crowded, copies, None))
}
