//! What a model is about: who there is, what may happen, and how often.

use crate::invariant::Sight;
use paxos::{Configuration, Identity, Limits, Member, Millis, Mutation, NodeId, Role, Timing};

/// Every node's clock at the start.
pub const START: Millis = Millis(1_000_000);
/// Longer than anything lasts: timers with it never fire.
const NEVER_MS: u64 = 1 << 40;

/// How often things may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Attempts at leadership, each in a ballot of its own.
    pub campaigns: u8,
    /// Commands proposed.
    pub proposals: u8,
    /// Crashes, each followed by a restart.
    pub crashes: u8,
    /// Changes of the members ordered (a joint change is one).
    pub changes: u8,
    /// Orders to hand leadership over.
    pub transfers: u8,
    /// Disks lost for good.
    pub losses: u8,
    /// Steps of real time.
    pub ticks: u8,
    /// Timers that fire: with clocks, heartbeats.
    pub wakes: u8,
    /// Full copies installed.
    pub copies: u8,
}

/// Voters and learners that a leader may be told to put in force.
#[derive(Clone, Debug)]
pub struct Target {
    /// The voters.
    pub members: Vec<Member>,
    /// The learners.
    pub learners: Vec<Member>,
}

/// What happened before the model starts, on a perfect network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Elect this node.
    Elect(u64),
    /// It changes the members to this target.
    Change(u64, usize),
    /// It puts a command in the log.
    Propose(u64),
    /// Time passes.
    Tick,
    /// This node dies and starts again.
    Restart(u64),
    /// This node's timer fires.
    Wake(u64),
    /// From here on this node gets no messages (any more); they are lost.
    Deaf(u64),
    /// This node gets messages again.
    Hears(u64),
}

/// A model.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, for the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The founding members.
    pub members: Vec<Member>,
    /// Replicas that are made and in no configuration yet.
    pub joining: Vec<Member>,
    /// Replicas that are made on a node when the disk of the one before them is lost.
    pub spare: Vec<Member>,
    /// Changes of the members that a leader may be told to make.
    pub targets: Vec<Target>,
    /// What happened before.
    pub before: Vec<Before>,
    /// Nodes that may campaign; all that can if empty.
    pub campaigners: Vec<u64>,
    /// Nodes that may crash; all if empty.
    pub crashers: Vec<u64>,
    /// Milliseconds by which each node's clock moves a tick, in the order of the nodes. None: clocks are arbitrary, leases count for
    /// nothing, and reads are not looked at.
    pub clocks: Option<Vec<u64>>,
    /// With clocks: any message may take longer than a tick; else only answers and orders to campaign do.
    pub late: bool,
    /// A write is durable in the step that asked for it: disks are no subject of this model.
    pub sync_at_once: bool,
    /// Otherwise: only these nodes' disks are slow, all if empty. The disk of a node that never crashes may as well be fast: that
    /// its messages wait for the disk is no other than that they are long on their way.
    pub slow_disks: Vec<u64>,
    /// A crash may leave a part of the first batch that was not synced.
    pub torn: bool,
    /// B-trees are flushed with every commit and logs truncated as early as possible; else neither ever happens.
    pub truncate: bool,
    /// Followers are told of commits at once (else with the next entries).
    pub notices: bool,
    /// How often things may happen.
    pub bounds: Bounds,
    /// What must be reachable.
    pub expects: Vec<Sight>,
    /// Deliberate bugs.
    pub mutations: Vec<Mutation>,
}

impl Scenario {
    /// The configuration at the start.
    pub fn configuration(&self) -> Configuration {
        Configuration::founding(self.members.clone())
    }

    /// Whether this node's writes are durable in the step that asked for them.
    pub fn syncs_at_once(&self, node: NodeId) -> bool {
        self.sync_at_once || !(self.slow_disks.is_empty() || self.slow_disks.contains(&node.0))
    }

    /// What a replica is.
    pub fn identity(&self, member: Member) -> Identity {
        Identity {
            incarnation: member.incarnation,
            role: member.role,
            generation: 1,
        }
    }

    /// Whether a deliberate bug is on.
    pub fn mutated(&self, mutation: Mutation) -> bool {
        self.mutations.contains(&mutation)
    }

    /// A node's clock after so many ticks.
    pub fn clock(&self, node: NodeId, ticks: u8) -> Millis {
        let Some(clocks) = &self.clocks else {
            return START;
        };
        let rate = clocks.get(node.0 as usize - 1).copied().unwrap_or(20);
        START.plus(rate * u64::from(ticks))
    }

    /// The core's timing. Elections start and end by the model's actions only; with clocks, a lease lasts three ticks.
    pub fn timing(&self) -> Timing {
        let (lease_ms, heartbeat_ms) = match self.clocks {
            Some(_) => (60, 19),
            None => (60, NEVER_MS),
        };
        Timing {
            heartbeat_ms,
            commit_notice_ms: if self.notices { 0 } else { heartbeat_ms },
            lease_ms,
            lease_belief_permille: 900,
            // "Hears a healthy leader" is manners, not safety: in the models nobody does.
            election_ms: 0,
            election_jitter_ms: u64::MAX - 1,
            candidate_ms: NEVER_MS,
            leader_patience_ms: NEVER_MS,
            leader_stall_ms: NEVER_MS,
            retransmit_ms: NEVER_MS,
            log_read_ms: NEVER_MS,
            transfer_ms: NEVER_MS,
            member_silent_ms: NEVER_MS,
            limits: Limits {
                floor_step_entries: if self.truncate { 1 } else { NEVER_MS },
                ..Limits::default()
            },
        }
    }
}

/// A storage member.
pub fn storage(node: u64) -> Member {
    Member {
        node: NodeId(node),
        role: Role::Storage,
        incarnation: node * 100,
    }
}

/// A log member.
pub fn log(node: u64) -> Member {
    Member {
        role: Role::Log,
        ..storage(node)
    }
}
