//! A stand-in for the archiver: an onlooker that takes entries from the disks of running nodes and says so late, repeatedly, out of
//! order and to the wrong nodes. Owns what is archived; never touches a replica but by telling it.

use std::collections::VecDeque;

use paxos::{GroupId, Index, Input, NodeId};

use crate::event::Event;
use crate::world::{Violation, World};

/// Acknowledgements that may be given again, at most.
const SAID_MAX: usize = 20;

/// What of a group is archived.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    /// Everything up to here.
    end: Index,
    /// What was acknowledged lately.
    said: VecDeque<Index>,
}

impl World {
    /// The archiver looks at all groups.
    pub(crate) fn archive(&mut self) {
        let groups: Vec<GroupId> = self.scenario.groups.iter().map(|(g, _)| *g).collect();
        for group in groups {
            self.archive_group(group);
        }
        let pause = self.rng.around(self.scenario.archive_ms) * 1_000 + 1_000;
        self.after(pause, Event::Archive);
    }

    fn archive_group(&mut self, group: GroupId) {
        let end = self.archives.entry(group).or_default().end;
        let to = self.archivable(group, end);
        // Sometimes the store is slow, and only a part gets there.
        let to = match self.faulty && self.rng.chance(500_000) {
            true => end + self.rng.below(to - end + 1),
            false => to,
        };
        if to > end {
            self.coverage.hit("entries archived");
            for invariant in &mut self.invariants {
                invariant.archived(group, to);
            }
        }
        let archive = self.archives.entry(group).or_default();
        archive.end = to;
        if archive.said.len() >= SAID_MAX {
            archive.said.pop_front();
        }
        archive.said.push_back(to);
        let said: Vec<Index> = archive.said.iter().copied().collect();
        if let Some(leader) = self.leader(group) {
            self.say(leader, group, to);
        }
        if self.faulty && self.rng.chance(300_000) {
            // Once more, or something older, to whoever led then, or never did.
            let nodes = self.scenario.nodes.clone();
            let (node, index) = (
                self.rng.pick(&nodes).copied(),
                self.rng.pick(&said).copied(),
            );
            if let (Some(node), Some(index)) = (node, index) {
                self.coverage.hit("archived, said again");
                self.say(node, group, index);
            }
        }
    }

    /// Up to where the entries behind `end` can be had from running nodes.
    fn archivable(&mut self, group: GroupId, end: Index) -> Index {
        let hosts = self.hosts.values().filter(|host| host.up);
        let replicas = hosts.filter_map(|host| {
            let hosted = host.groups.get(&group)?;
            Some((
                hosted.replica.status().commit,
                host.disk.groups.get(&group)?,
            ))
        });
        let replicas: Vec<_> = replicas.collect();
        let mut best = end;
        for (commit, disk) in &replicas {
            let entries = disk.entries.range(end + 1..).zip(end + 1..=*commit);
            let consecutive = entries.take_while(|((at, _), next)| *at == next);
            best = best.max(end + consecutive.count() as Index);
        }
        if best > end {
            return best;
        }
        // Nobody has what comes next: whoever has a log begins behind it, with a copy (a snapshot of which goes to the archive).
        let floors = self
            .hosts
            .values()
            .filter_map(|host| host.disk.groups.get(&group));
        let lowest = floors.map(|disk| disk.floor.index).min().unwrap_or(end);
        if lowest > end && end > 0 {
            self.coverage.hit("hole in the archive");
        }
        lowest.max(end)
    }

    fn say(&mut self, node: NodeId, group: GroupId, index: Index) {
        let late = self.faulty && self.rng.chance(200_000);
        let delay = match late {
            true => self.rng.between(100_000, 8_000_000),
            false => self.rng.around(20_000) + 500,
        };
        self.after(delay, Event::Archived { node, group, index });
    }

    /// A node is told what is archived.
    pub(crate) fn archived(
        &mut self,
        node: NodeId,
        group: GroupId,
        index: Index,
    ) -> Result<(), Violation> {
        self.step(node, group, Input::Archived { index })
    }
}
