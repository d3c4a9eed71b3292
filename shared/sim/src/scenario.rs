//! What a run is like: sizes, timings and how much goes wrong, drawn from its seed.

use paxos::{Configuration, GroupId, Member, Mutation, NodeId, Role, Timing};

use crate::rng::Rng;

/// What happens to the members of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// They stay.
    Fixed,
    /// They are changed at random, and disks get lost; an onlooker brings the groups back into shape.
    Churn,
    /// Disks get lost, nodes fall silent, and the real planner heals the groups.
    Healing,
}

/// All of them.
pub const MEMBERS: [Members; 3] = [Members::Fixed, Members::Churn, Members::Healing];

impl std::fmt::Display for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Members::Fixed => "fixed",
            Members::Churn => "churn",
            Members::Healing => "healing",
        })
    }
}

impl std::str::FromStr for Members {
    type Err = String;

    fn from_str(text: &str) -> Result<Members, String> {
        let named = MEMBERS.into_iter().find(|m| m.to_string() == text);
        named.ok_or_else(|| format!("{text}: one of fixed, churn, healing"))
    }
}

/// What the caller of a run may fix.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Number of nodes; drawn if none.
    pub nodes: Option<u64>,
    /// Number of partitions; drawn if none.
    pub partitions: Option<u64>,
    /// Length of the phase with faults, in simulated milliseconds; 20 s if none.
    pub faults_ms: Option<u64>,
    /// Make every run a storm of elections.
    pub storm: bool,
    /// What happens to the members; drawn if none.
    pub members: Option<Members>,
    /// Deliberate bugs.
    pub mutations: Vec<Mutation>,
    /// Partitions are split.
    pub splits: bool,
    /// Deliberate bugs of partitions.
    pub split_mutations: Vec<partition::Mutation>,
    /// Replicas are compared at markers.
    pub scrubs: bool,
    /// Logs are archived, and truncated only so far.
    pub archive: bool,
    /// Keep the text of the trace.
    pub keep_trace: bool,
}

/// Parameters of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Members of each group; group numbers from 1.
    pub groups: Vec<(GroupId, Configuration)>,
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// The core's timing.
    pub timing: Timing,
    /// Messages lost, per million.
    pub loss: u64,
    /// Messages delivered twice, per million.
    pub duplication: u64,
    /// Messages that take up to seconds, per million.
    pub straggling: u64,
    /// Shortest and longest usual delay in microseconds; the range makes the reordering.
    pub delay_us: (u64, u64),
    /// Usual duration of a disk sync in microseconds.
    pub sync_us: u64,
    /// New leaders that die or are cut off within milliseconds, per million.
    pub ambush: u64,
    /// Faults that are traps (see `figure_eight`), per million.
    pub traps: u64,
    /// What happens to the members.
    pub members: Members,
    /// Faults that concern the members, per million.
    pub churn: u64,
    /// Requests that arrive at a leader within so many microseconds are proposed together.
    pub batch_us: u64,
    /// Mean time between faults in milliseconds.
    pub fault_every_ms: u64,
    /// Greatest deviation of a node's clock from real time, in parts per million.
    pub drift_ppm: u64,
    /// Clients of each group.
    pub clients: u64,
    /// Keys of each group.
    pub keys: u64,
    /// Mean pause of a client between requests in milliseconds.
    pub pause_ms: u64,
    /// Mean pause between flushes of a B-tree in milliseconds.
    pub flush_ms: u64,
    /// Length of the phase with faults, in milliseconds.
    pub faults_ms: u64,
    /// Deliberate bugs.
    pub mutations: Vec<Mutation>,
    /// Partitions are split.
    pub splits: bool,
    /// Mean pause between the steps that a replica takes for a split, in milliseconds.
    pub split_ms: u64,
    /// Deliberate bugs of partitions.
    pub split_mutations: Vec<partition::Mutation>,
    /// Replicas are compared at markers.
    pub scrubs: bool,
    /// Mean pause between the archiver's looks at the groups in milliseconds; 0 = nothing is archived.
    pub archive_ms: u64,
}

/// Incarnation of a node's disk.
pub fn incarnation(node: NodeId) -> u64 {
    node.0 * 1_000 + 7
}

/// Zones of the mesh.
const ZONES: u64 = 3;

/// A node's zone.
fn zone(node: NodeId) -> u64 {
    node.0 % ZONES
}

impl Scenario {
    /// A node's zone.
    pub fn zone(&self, node: NodeId) -> u64 {
        zone(node)
    }

    /// The deliberate bugs of partitions at a node: some are those of one replica.
    pub fn partition_mutations(&self, node: NodeId) -> Vec<partition::Mutation> {
        let everywhere = |mutation: &partition::Mutation| {
            *mutation != partition::Mutation::SkipWrite || Some(&node) == self.nodes.first()
        };
        let mutations = self.split_mutations.iter().copied();
        mutations.filter(everywhere).collect()
    }

    /// Draws a scenario.
    pub fn draw(rng: &mut Rng, options: &Options) -> Scenario {
        let count = options.nodes.unwrap_or_else(|| rng.between(3, 7)).max(3);
        let members = *rng.pick(&MEMBERS).unwrap_or(&Members::Fixed);
        let members = options.members.unwrap_or(members);
        let partitions = options.partitions.unwrap_or_else(|| rng.between(1, 3));
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let groups = (1..=partitions)
            .map(|group| (GroupId(group), draw_members(rng, &nodes, members)))
            .collect();
        let calm = rng.chance(150_000);
        let delay_min = rng.between(100, 2_000);
        let mut scenario = Scenario {
            groups,
            nodes,
            timing: draw_timing(rng),
            loss: if calm {
                0
            } else {
                let most = *rng.pick(&[10_000, 80_000, 250_000]).unwrap_or(&0);
                rng.below(most)
            },
            duplication: if calm { 0 } else { rng.below(50_000) },
            straggling: if calm { 0 } else { rng.below(20_000) },
            delay_us: (delay_min, delay_min + rng.around(5_000)),
            sync_us: rng.between(200, 8_000),
            ambush: if rng.chance(500_000) {
                rng.below(500_000)
            } else {
                0
            },
            traps: 20_000,
            members,
            churn: match members {
                Members::Fixed => 0,
                Members::Churn => rng.between(100_000, 800_000),
                Members::Healing => rng.between(50_000, 400_000),
            },
            batch_us: *rng.pick(&[0, 1_000, 20_000]).unwrap_or(&0),
            fault_every_ms: rng.between(150, 2_500),
            // Timing's lease margin is made for clocks within 5 % of real time.
            drift_ppm: *rng.pick(&[0, 1_000, 40_000, 49_000]).unwrap_or(&0),
            clients: rng.between(2, 5),
            keys: rng.between(1, 5),
            pause_ms: rng.between(5, 120),
            flush_ms: rng.between(50, 3_000),
            faults_ms: options.faults_ms.unwrap_or(20_000),
            mutations: options.mutations.clone(),
            splits: options.splits,
            split_ms: 0,
            split_mutations: options.split_mutations.clone(),
            scrubs: options.scrubs,
            archive_ms: 0,
        };
        if scenario.splits {
            scenario.split_ms = *rng.pick(&[10, 60, 300]).unwrap_or(&60);
            scenario.keys = rng.between(4, 10);
            scenario.clients = rng.between(3, 6);
        }
        if options.storm || rng.chance(200_000) {
            scenario.storm(rng);
        }
        if options.archive {
            scenario.timing.limits.archive = true;
            scenario.archive_ms = *rng.pick(&[20, 200, 2_000]).unwrap_or(&200);
        }
        scenario
    }

    /// Elections all the time: messages take as long as candidates wait, new leaders do not live long, entries go one by
    /// one.
    fn storm(&mut self, rng: &mut Rng) {
        let timing = &mut self.timing;
        timing.lease_ms = rng.between(100, 500);
        timing.heartbeat_ms = timing.lease_ms / 5;
        timing.election_ms = rng.between(timing.heartbeat_ms, timing.lease_ms);
        timing.election_jitter_ms = rng.between(20, 400);
        timing.candidate_ms = rng.between(60, 500);
        timing.leader_patience_ms = timing.lease_ms * 2;
        timing.retransmit_ms = rng.between(30, 200);
        timing.limits.append_bytes_max = 1;
        timing.limits.window_messages_max = rng.between(1, 3) as usize;
        self.delay_us = (100, rng.between(3_000, 60_000));
        self.straggling = rng.below(100_000);
        self.ambush = rng.between(500_000, 950_000);
        self.traps = 300_000;
        self.fault_every_ms = rng.between(100, 800);
        self.pause_ms = 2;
        self.clients = 10;
    }
}

/// Three members on nodes of three zones; sometimes one of them is a log replica.
fn draw_members(rng: &mut Rng, nodes: &[NodeId], members: Members) -> Configuration {
    // Where members change, log replicas come by themselves; on three nodes there is no place to replace one.
    let with_log_replica = rng.chance(300_000) && members == Members::Fixed;
    let first = rng.below(ZONES);
    let members = (0..ZONES)
        .map(|n| {
            let of_zone = |node: &&NodeId| zone(**node) == (first + n) % ZONES;
            let choice: Vec<NodeId> = nodes.iter().filter(of_zone).copied().collect();
            let node = *rng.pick(&choice).unwrap_or(&nodes[n as usize]);
            let role = if n == 2 && with_log_replica {
                Role::Log
            } else {
                Role::Storage
            };
            Member {
                node,
                role,
                incarnation: incarnation(node),
            }
        })
        .collect();
    Configuration::founding(members)
}

/// The product's durations, sometimes in quick motion; limits small enough that short runs meet all of them.
fn draw_timing(rng: &mut Rng) -> Timing {
    let mut timing = Timing::default();
    let limits = &mut timing.limits;
    limits.pending_proposals_max = rng.between(2, 64);
    // Sometimes every entry goes alone.
    limits.append_bytes_max = if rng.chance(300_000) {
        1
    } else {
        rng.between(200, 4_000)
    };
    limits.window_bytes_max = rng.between(500, 20_000);
    limits.window_messages_max = rng.between(1, 16) as usize;
    limits.memory_bytes_max = rng.between(0, 4_000);
    limits.floor_step_entries = rng.between(1, 40);
    limits.log_bytes_max = rng.between(0, 60_000);
    if rng.chance(400_000) {
        // The same proportions, faster: more elections in a run.
        let faster = rng.between(2, 8);
        for ms in [
            &mut timing.heartbeat_ms,
            &mut timing.lease_ms,
            &mut timing.election_ms,
            &mut timing.election_jitter_ms,
            &mut timing.candidate_ms,
            &mut timing.leader_patience_ms,
            &mut timing.retransmit_ms,
            &mut timing.transfer_ms,
        ] {
            *ms /= faster;
        }
    }
    if rng.chance(300_000) {
        // Elections long before leases run out.
        let least = timing.heartbeat_ms * 3 / 2;
        timing.election_ms = rng.between(least, timing.election_ms.max(least));
    }
    timing.member_silent_ms = rng.between(500, 6_000);
    timing.log_read_ms = rng.between(300, 2_000);
    timing.leader_stall_ms = rng.between(3_000, 10_000);
    timing
}
