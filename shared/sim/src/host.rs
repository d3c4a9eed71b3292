//! A node: its clock, its disk, and the replicas that it hosts, each the real replication core with the real partition
//! on top. Does what the storage service's shell does, on simulated parts.

use std::collections::BTreeMap;

use healing::{Nodes, Planner};
use partition::split::{Reports, restored_child};
use partition::{Batch, Limits, Partition};
use paxos::{GroupId, Millis, NodeId, Outline, Replica, Restored};

use crate::client::Call;
use crate::disk::{Disk, GroupDisk};
use crate::rng::Rng;
use crate::scenario::Scenario;

/// Who waits for an answer: number of the call.
pub type Caller = u64;

/// A monotonic clock that is not quite right.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Rate: parts per million of real time.
    rate: u64,
    /// Reading at real time 0; arbitrary after each restart.
    offset_ms: u64,
}

impl Clock {
    /// Off by at most `drift_ppm`.
    pub fn draw(rng: &mut Rng, drift_ppm: u64) -> Clock {
        Clock {
            rate: 1_000_000 - drift_ppm + rng.below(2 * drift_ppm + 1),
            offset_ms: rng.below(1_000_000),
        }
    }

    /// After a restart of the process: another origin, the same rate.
    pub fn restart(&mut self, rng: &mut Rng) {
        self.offset_ms = rng.below(1_000_000);
    }

    /// Reading at a real time in microseconds.
    pub fn at(&self, real_us: u64) -> Millis {
        let local = u128::from(real_us) * u128::from(self.rate) / 1_000_000_000;
        Millis(self.offset_ms + local as u64)
    }

    /// First real time, in microseconds, at which the clock reads at least this.
    pub fn when(&self, reading: Millis) -> u64 {
        let local = u128::from(reading.0.saturating_sub(self.offset_ms));
        (local * 1_000_000_000).div_ceil(u128::from(self.rate)) as u64
    }
}

/// A replica with its partition.
#[derive(Debug)]
pub struct Hosted {
    /// The replication core.
    pub replica: Replica,
    /// The state machine.
    pub partition: Partition<Caller>,
    /// Distinguishes the replicas that this node ever ran: events meant for another one are ignored.
    pub birth: u64,
    /// Requests that are evaluated, and proposed, together.
    pub inbox: Vec<Call>,
    /// When the next tick is scheduled, real microseconds.
    pub tick_at: u64,
    /// A flush of the B-tree under way.
    pub flushing: Option<Batch>,
    /// Transactions of it that are done.
    pub flushed: usize,
    /// While it leads: what it was told of a split.
    pub reports: Reports,
    /// The node that a copy is being pulled from.
    pub copying: Option<NodeId>,
    /// While it leads: what it does about its members.
    pub planner: Option<Planner>,
    /// Distinguishes flushes and copies that a copy overtook.
    pub epoch: u64,
}

/// A node.
#[derive(Debug)]
pub struct Host {
    /// Its number.
    pub node: NodeId,
    /// Counts its lives; events of an earlier life are ignored.
    pub life: u64,
    /// Runs.
    pub up: bool,
    /// Its clock.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// Syncs are slow until then, real microseconds.
    pub slow_until: u64,
    /// The process is stopped until then, real microseconds: everything waits.
    pub paused_until: u64,
    /// What it heard of the others.
    pub nodes: Nodes,
    /// Replicas started so far.
    births: u64,
    /// Replicas, while it runs.
    pub groups: BTreeMap<GroupId, Hosted>,
}

impl Host {
    /// A node with these groups to found.
    pub fn new(node: NodeId, clock: Clock, groups: BTreeMap<GroupId, GroupDisk>) -> Host {
        Host {
            node,
            life: 0,
            up: false,
            clock,
            disk: Disk::new(groups),
            slow_until: 0,
            paused_until: 0,
            nodes: Nodes::default(),
            births: 0,
            groups: BTreeMap::new(),
        }
    }

    /// Starts the process from what the disk holds.
    pub fn start(&mut self, now_us: u64, scenario: &Scenario) {
        self.up = true;
        self.life += 1;
        self.complete_installs();
        let groups: Vec<GroupId> = self.disk.groups.keys().copied().collect();
        for group in groups {
            self.host(group, now_us, scenario);
        }
    }

    /// Starts the replica of a group from what the disk holds.
    pub fn host(&mut self, group: GroupId, now_us: u64, scenario: &Scenario) {
        if let Some(disk) = self.disk.groups.get(&group) {
            let (outlines, restored) = disk.restored().outlined();
            self.run(group, outlines, restored, (now_us, scenario));
        }
    }

    /// Starts the replica of a split's child for the first time.
    pub fn begin_child(&mut self, group: GroupId, now_us: u64, scenario: &Scenario) {
        if let Some(disk) = self.disk.groups.get(&group) {
            let member = paxos::Member {
                node: self.node,
                role: disk.identity.role,
                incarnation: disk.identity.incarnation,
            };
            let restored = restored_child(&disk.state, &member);
            self.run(group, Vec::new(), restored, (now_us, scenario));
        }
    }

    fn run(
        &mut self,
        group: GroupId,
        outlines: Vec<Outline>,
        restored: Restored,
        (now_us, scenario): (u64, &Scenario),
    ) {
        let Some(disk) = self.disk.groups.get(&group) else {
            return;
        };
        let now = self.clock.at(now_us);
        let timing = scenario.timing.clone();
        let mut replica = Replica::from_disk(self.node, group, outlines, restored, timing, now);
        replica.mutate(&scenario.mutations);
        let mut partition = Partition::new(disk.state.clone(), Limits::default());
        partition.mutate(&scenario.partition_mutations(self.node));
        let mut reports = Reports::default();
        reports.quorum = scenario
            .split_mutations
            .contains(&partition::Mutation::CommitByQuorum);
        self.births += 1;
        let hosted = Hosted {
            replica,
            partition,
            birth: self.births,
            inbox: Vec::new(),
            tick_at: 0,
            flushing: None,
            flushed: 0,
            reports,
            copying: None,
            planner: None,
            epoch: 0,
        };
        self.groups.insert(group, hosted);
    }

    /// Kills the process; the disk keeps `survive` of the unsynced operations.
    pub fn crash(&mut self, survive: u64) -> Vec<(GroupId, Vec<paxos::PersistOp>)> {
        self.up = false;
        self.paused_until = 0;
        self.nodes = Nodes::default();
        self.groups.clear();
        self.disk.crash(survive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_a_reading_exactly_when_it_says() {
        let mut rng = Rng::new(3);
        for _ in 0..1_000 {
            let clock = Clock::draw(&mut rng, 49_000);
            let real = rng.below(100_000_000);
            let reading = clock.at(real).plus(rng.below(1_000));
            let when = clock.when(reading);
            assert!(clock.at(when) >= reading);
            assert!(when == 0 || clock.at(when - 1) < reading);
        }
    }
}
