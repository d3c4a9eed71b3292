//! Which storage nodes live, as seen from several places: their own heartbeats and what their peers say of them. Pure.
//!
//! A node is dead only when it is silent here *and* most of those that share groups with it hear nothing of it: a cut between it and the
//! bus, the admin or one peer kills nobody. Only leaders and their followers talk to each other all the time, so only between them
//! does silence mean anything.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{GroupId, NodeId};
use protocol::health::{NodeRoom, StorageHealth};
use protocol::operate::Vitality;

use crate::cluster::{Cluster, SILENT_MS, StorageNode};
use crate::partitions::Partitions;
use crate::records::NodeRecord;

/// Heartbeats in a row in which a node must be slow to be called so, and not slow to be called well again.
const SLOW_AFTER: u32 = 5;
const WELL_AFTER: u32 = 30;
/// Slow: so many times the mesh's median …
const SLOW_FACTOR: u64 = 10;
/// … and at least this long, microseconds: below it nobody waits.
const SLOW_US_MIN: u64 = 50_000;
/// A node that came back gets no leaders and no new replicas for so long, milliseconds: one that restarts in a loop gets none.
pub(crate) const SETTLE_MS: u64 = 15_000;

/// A storage node as the planners see it.
#[derive(Clone, Debug)]
pub(crate) struct NodeView {
    pub(crate) node: NodeId,
    pub(crate) zone: String,
    pub(crate) vitality: Vitality,
    pub(crate) slow: bool,
    /// The operator wants it empty.
    pub(crate) draining: bool,
    /// It says itself that it stops.
    pub(crate) stopping: bool,
    pub(crate) ready: bool,
    pub(crate) silent_ms: u64,
    /// Alive for so long without a break.
    pub(crate) alive_ms: u64,
    pub(crate) free_bytes: u64,
    pub(crate) used_bytes: u64,
    /// Capacity units a second that it is rated for; nothing: it does not say.
    pub(crate) rated: NodeRoom,
    /// It says that it is under pressure.
    pub(crate) pressed: bool,
    /// Partitions that it would like to be rid of.
    pub(crate) candidates: BTreeSet<GroupId>,
    pub(crate) former: Vec<u64>,
    pub(crate) fenced: BTreeSet<GroupId>,
    /// As its peers see it; 0 = not measured.
    pub(crate) acknowledged_us: u64,
}

impl NodeView {
    pub(crate) fn alive(&self) -> bool {
        self.vitality == Vitality::Alive
    }

    pub(crate) fn dead(&self) -> bool {
        matches!(self.vitality, Vitality::Dead | Vitality::Gone)
    }

    /// Whether new replicas may go there.
    pub(crate) fn takes_replicas(&self, free_bytes_min: u64) -> bool {
        self.alive()
            && self.ready
            && !self.stopping
            && !self.draining
            && !self.slow
            && self.free_bytes >= free_bytes_min
    }

    /// Whether it may become the leader of something.
    pub(crate) fn takes_leaders(&self) -> bool {
        self.alive() && self.ready && !self.stopping && !self.draining && !self.slow
    }
}

/// All nodes, by number.
pub(crate) type NodeViews = BTreeMap<NodeId, NodeView>;

/// What is remembered from look to look.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Since when this admin listens.
    started_ms: u64,
    gone_after_ms: u64,
    alive_since_ms: BTreeMap<NodeId, u64>,
    slow: BTreeMap<NodeId, Slowness>,
    looked_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Slowness {
    over: u32,
    under: u32,
    slow: bool,
}

/// Time between two counts of slow answers, milliseconds: that of the heartbeats.
const COUNT_EVERY_MS: u64 = 1_000;

impl Watch {
    /// `gone_after_ms`: after how long a dead node's replicas are built anew elsewhere.
    pub(crate) fn new(started_ms: u64, gone_after_ms: u64) -> Self {
        Self {
            started_ms,
            gone_after_ms,
            alive_since_ms: BTreeMap::new(),
            slow: BTreeMap::new(),
            looked_ms: None,
        }
    }

    /// Looks at everybody.
    pub(crate) fn look(
        &mut self,
        cluster: &Cluster,
        records: &BTreeMap<NodeId, NodeRecord>,
        partitions: &Partitions,
        now_ms: u64,
    ) -> NodeViews {
        let reports = peer_reports(cluster, &partitions.talking(now_ms), now_ms);
        let counts = self
            .looked_ms
            .is_none_or(|at| now_ms.saturating_sub(at) >= COUNT_EVERY_MS);
        if counts {
            self.looked_ms = Some(now_ms);
            self.count_slow(&reports);
        }
        let heard: BTreeMap<NodeId, &StorageNode> = cluster.all().map(|n| (n.node, n)).collect();
        let all: BTreeSet<NodeId> = heard.keys().chain(records.keys()).copied().collect();
        let mut views = NodeViews::new();
        for node in all {
            let known = heard.get(&node).copied();
            // Of a node that was never heard from since the start, silence counts from the start.
            let silent_ms = cluster
                .silent_ms(node, now_ms)
                .unwrap_or_else(|| now_ms.saturating_sub(self.started_ms));
            let report = reports.get(&node);
            let mute = known.is_some_and(|n| is_mute(&n.health));
            let vitality = self.judge(silent_ms, report, mute);
            if vitality == Vitality::Alive {
                self.alive_since_ms.entry(node).or_insert(now_ms);
            } else {
                self.alive_since_ms.remove(&node);
            }
            let record = records.get(&node);
            let health = known.map(|n| &n.health);
            let zone = known
                .map(|n| &n.zone)
                .or(record.map(|r| &r.zone))
                .cloned()
                .unwrap_or_default();
            let view = NodeView {
                node,
                zone,
                vitality,
                slow: self.slow.get(&node).is_some_and(|s| s.slow),
                draining: record.is_some_and(|r| r.draining),
                stopping: known.is_some_and(|n| n.draining),
                ready: known.is_some_and(|n| n.ready),
                silent_ms,
                alive_ms: self
                    .alive_since_ms
                    .get(&node)
                    .map_or(0, |since| now_ms.saturating_sub(*since)),
                free_bytes: health.map_or(0, |h| h.free_bytes),
                used_bytes: health.map_or(0, |h| h.used_bytes),
                rated: health.map(|h| h.rated).unwrap_or_default(),
                pressed: health.is_some_and(|h| h.pressed),
                candidates: health
                    .map(|h| h.candidates.iter().map(|c| c.partition).collect())
                    .unwrap_or_default(),
                former: record.map(|r| r.former.clone()).unwrap_or_default(),
                fenced: health
                    .map(|h| h.fenced.iter().copied().collect())
                    .unwrap_or_default(),
                acknowledged_us: report.map_or(0, |r| r.acknowledged_us),
            };
            views.insert(node, view);
        }
        self.slow.retain(|node, _| views.contains_key(node));
        views
    }

    /// `mute`: that its peers hear nothing of it says nothing.
    fn judge(&self, silent_ms: u64, report: Option<&Report>, mute: bool) -> Vitality {
        let silent = silent_ms >= SILENT_MS;
        // Most of those that say something of it; if nobody does, its own word is all there is.
        let lost = report.is_none_or(|r| r.peers == 0 || r.deaf * 2 > r.peers);
        let unheard = !mute && report.is_some_and(|r| r.deaf * 2 > r.peers && r.peers > 1);
        match (silent, lost) {
            (true, true) if silent_ms >= self.gone_after_ms => Vitality::Gone,
            (true, true) => Vitality::Dead,
            (true, false) => Vitality::Suspect,
            (false, _) if unheard => Vitality::Suspect,
            (false, _) => Vitality::Alive,
        }
    }

    fn count_slow(&mut self, reports: &BTreeMap<NodeId, Report>) {
        let mut measured: Vec<u64> = reports
            .values()
            .map(|r| r.acknowledged_us)
            .filter(|&us| us > 0)
            .collect();
        let typical = median(&mut measured);
        for (&node, report) in reports {
            let us = report.acknowledged_us;
            let over = us >= SLOW_US_MIN && us >= typical.saturating_mul(SLOW_FACTOR);
            let slowness = self.slow.entry(node).or_default();
            if over {
                (slowness.over, slowness.under) = (slowness.over + 1, 0);
            } else {
                (slowness.over, slowness.under) = (0, slowness.under + 1);
            }
            if slowness.over >= SLOW_AFTER {
                slowness.slow = true;
            } else if slowness.under >= WELL_AFTER {
                slowness.slow = false;
            }
        }
        // Of whom nobody says anything any more, nothing is known.
        self.slow.retain(|node, _| reports.contains_key(node));
    }
}

/// Whether a good part of a node's replicas is fenced, or it has none (its disk was replaced). Those send nothing, and peers that share no
/// others with it hear nothing: it must be taken at its own word, or it would never get the replicas that heal it.
fn is_mute(health: &StorageHealth) -> bool {
    let fenced = health.fenced.len() as u64;
    fenced * 4 >= health.replicas
}

/// What the peers say of a node.
#[derive(Debug, Default)]
struct Report {
    peers: usize,
    /// Peers that have heard nothing of it.
    deaf: usize,
    acknowledged_us: u64,
}

fn peer_reports(
    cluster: &Cluster,
    talking: &BTreeSet<(NodeId, NodeId)>,
    now_ms: u64,
) -> BTreeMap<NodeId, Report> {
    let mut said: BTreeMap<NodeId, (Report, Vec<u64>)> = BTreeMap::new();
    for witness in cluster.alive(now_ms) {
        for peer in &witness.health.peers {
            if peer.node == witness.node {
                continue;
            }
            let (report, times) = said.entry(peer.node).or_default();
            let heard = peer.silent_ms < SILENT_MS;
            let pair = (witness.node, peer.node);
            let expected = talking.contains(&pair) || talking.contains(&(pair.1, pair.0));
            report.peers += usize::from(heard || expected);
            report.deaf += usize::from(!heard && expected);
            if peer.acknowledged_us > 0 {
                times.push(peer.acknowledged_us);
            }
        }
    }
    let of = |(node, (report, mut times)): (NodeId, (Report, Vec<u64>))| {
        let acknowledged_us = median(&mut times);
        let report = Report {
            acknowledged_us,
            ..report
        };
        (node, report)
    };
    said.into_iter().map(of).collect()
}

/// The lower median; 0 of nothing.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::beat;
    use crate::partitions::tests::{info, push};
    use protocol::health::PeerHealth;

    fn peer(node: u64, silent_ms: u64, acknowledged_us: u64) -> PeerHealth {
        PeerHealth {
            node: NodeId(node),
            silent_ms,
            acknowledged_us,
        }
    }

    /// A heartbeat of `node` with what it says of others.
    fn heard(cluster: &mut Cluster, node: u64, peers: Vec<PeerHealth>, now_ms: u64) {
        let mut beat = beat("storage", node, &format!("az{node}"), 1);
        beat.storage.as_mut().unwrap().peers = peers;
        cluster.heard(beat, now_ms);
    }

    fn look(watch: &mut Watch, cluster: &Cluster, now_ms: u64) -> NodeViews {
        watch.look(cluster, &BTreeMap::new(), &led_by_others(now_ms), now_ms)
    }

    /// Node 4 follows nodes 1, 2 and 3, each in one partition.
    fn led_by_others(now_ms: u64) -> Partitions {
        let led = |leader: u64| info(15 + leader, &[(leader, "azx"), (4, "az4")]);
        let mut partitions = Partitions::default();
        partitions.learn(push((1..=3).map(led).collect()), now_ms);
        partitions
    }

    #[test]
    fn dead_needs_silence_here_and_for_most_peers() {
        let mut watch = Watch::new(0, 300_000);
        let mut cluster = Cluster::default();
        for node in 1..=4 {
            heard(&mut cluster, node, vec![], 0);
        }
        let mut now_ms = 0;
        let mut say = |silences: [u64; 3]| {
            now_ms += 10_000;
            for (node, silent_ms) in [1, 2, 3].into_iter().zip(silences) {
                heard(&mut cluster, node, vec![peer(4, silent_ms, 0)], now_ms);
            }
            look(&mut watch, &cluster, now_ms)[&NodeId(4)].vitality
        };
        assert_eq!(say([100, 100, 100]), Vitality::Suspect, "the bus is cut");
        assert_eq!(say([100, 9_000, 100]), Vitality::Suspect);
        assert_eq!(say([100, 9_000, 9_000]), Vitality::Dead);
        assert_eq!(say([9_000, 9_000, 9_000]), Vitality::Dead);
        for _ in 0..30 {
            say([9_000, 9_000, 9_000]);
        }
        assert_eq!(say([9_000, 9_000, 9_000]), Vitality::Gone);
    }

    #[test]
    fn a_node_that_one_peer_cannot_reach_is_alive_and_one_that_most_cannot_is_suspect() {
        let mut watch = Watch::new(0, 300_000);
        let mut cluster = Cluster::default();
        heard(&mut cluster, 4, vec![], 0);
        for node in 1..=3 {
            let silent_ms = if node == 1 { 60_000 } else { 100 };
            heard(&mut cluster, node, vec![peer(4, silent_ms, 0)], 0);
        }
        assert!(look(&mut watch, &cluster, 0)[&NodeId(4)].alive());
        heard(&mut cluster, 2, vec![peer(4, 60_000, 0)], 10);
        let views = look(&mut watch, &cluster, 10);
        assert_eq!(views[&NodeId(4)].vitality, Vitality::Suspect);
    }

    #[test]
    fn a_node_whose_replicas_are_fenced_is_alive_although_its_peers_hear_nothing() {
        let mut watch = Watch::new(0, 300_000);
        let mut cluster = Cluster::default();
        for node in 1..=3 {
            heard(&mut cluster, node, vec![peer(4, 60_000, 0)], 0);
        }
        let mut vitality = |fenced: u64, replicas| {
            let mut beat = beat("storage", 4, "az4", replicas);
            beat.storage.as_mut().unwrap().fenced = (0..fenced).map(GroupId).collect();
            cluster.heard(beat, 0);
            look(&mut watch, &cluster, 0)[&NodeId(4)].vitality
        };
        assert_eq!(vitality(13, 0), Vitality::Alive);
        assert_eq!(vitality(5, 8), Vitality::Alive, "half healed");
        assert_eq!(
            vitality(1, 12),
            Vitality::Suspect,
            "the others should be heard"
        );
        assert_eq!(vitality(0, 0), Vitality::Alive, "its disk was replaced");
        assert_eq!(vitality(0, 1), Vitality::Suspect);
    }

    #[test]
    fn silence_between_followers_means_nothing() {
        let mut watch = Watch::new(0, 300_000);
        let mut cluster = Cluster::default();
        heard(&mut cluster, 4, vec![], 0);
        // Node 4 follows node 1 alone; 2 and 3 once shared a partition with it.
        for (node, silent_ms) in [(1, 100), (2, 60_000), (3, 60_000)] {
            heard(&mut cluster, node, vec![peer(4, silent_ms, 0)], 0);
        }
        let mut partitions = Partitions::default();
        partitions.learn(
            push(vec![info(16, &[(1, "az1"), (4, "az4"), (2, "az2")])]),
            0,
        );
        let views = watch.look(&cluster, &BTreeMap::new(), &partitions, 0);
        assert!(views[&NodeId(4)].alive());
        // Its leader hears it still, so it is not dead when its heartbeats do not arrive; 2 and 3 have no say in it.
        for node in 1..=3 {
            let silent_ms = if node == 1 { 100 } else { 70_000 };
            heard(&mut cluster, node, vec![peer(4, silent_ms, 0)], 10_000);
        }
        let views = watch.look(&cluster, &BTreeMap::new(), &partitions, 10_000);
        assert_eq!(views[&NodeId(4)].vitality, Vitality::Suspect);
    }

    #[test]
    fn without_witnesses_a_nodes_own_silence_decides() {
        let mut watch = Watch::new(0, 300_000);
        let mut cluster = Cluster::default();
        heard(&mut cluster, 1, vec![], 0);
        let views = look(&mut watch, &cluster, SILENT_MS);
        assert_eq!(views[&NodeId(1)].vitality, Vitality::Dead);
        // A node of which only its record is known: silence counts from the admin's start.
        let record = NodeRecord::noted(None, NodeId(9), "az9", 1).unwrap();
        let records = BTreeMap::from([(NodeId(9), record)]);
        let mut watch = Watch::new(1_000_000, 300_000);
        let views = watch.look(&cluster, &records, &Partitions::default(), 1_010_000);
        let view = &views[&NodeId(9)];
        assert_eq!(
            (view.vitality, view.silent_ms, view.zone.as_str()),
            (Vitality::Dead, 10_000, "az9")
        );
    }

    #[test]
    fn slow_is_ten_times_the_median_several_times_in_a_row() {
        let mut watch = Watch::new(0, 300_000);
        let mut cluster = Cluster::default();
        let mut now_ms = 0;
        let mut second = |of_four: u64, of_others: u64| {
            now_ms += 1_000;
            for node in 1..=4 {
                let others = (1..=4).filter(|&other| other != node);
                let peers = others
                    .map(|other| peer(other, 0, if other == 4 { of_four } else { of_others }));
                heard(&mut cluster, node, peers.collect(), now_ms);
            }
            let views = look(&mut watch, &cluster, now_ms);
            let slow: Vec<u64> = views
                .values()
                .filter(|v| v.slow)
                .map(|v| v.node.0)
                .collect();
            slow
        };
        for _ in 0..60 {
            assert!(second(40_000, 1_000).is_empty(), "below 50 ms nobody waits");
            assert!(second(90_000, 20_000).is_empty(), "all are slow");
        }
        for _ in 0..SLOW_AFTER - 1 {
            assert!(second(100_000, 1_000).is_empty());
        }
        assert!(second(1_000, 1_000).is_empty(), "one good second");
        for _ in 0..SLOW_AFTER - 1 {
            assert!(second(100_000, 1_000).is_empty());
        }
        assert_eq!(second(100_000, 1_000), [4]);
        for _ in 0..WELL_AFTER - 1 {
            assert_eq!(second(1_000, 1_000), [4]);
        }
        assert!(second(1_000, 1_000).is_empty());
    }
}
