//! Markers of scrubs in the logs: leaders put them there now and then, and whatever replica flushes up to one must hold exactly what
//! every other one held there.

use std::collections::BTreeMap;

use partition::{Batch, PartitionState};
use paxos::{Configuration, GroupId, Input, NodeId};
use protocol::item::ItemFault;
use protocol::scrub::Marker;

use crate::fixture::MapTree;
use crate::world::{Violation, World, broken};

/// A group gets a marker at a look of the onlooker, per million.
const MARKED: u64 = 400_000;

/// What replicas held at markers, by group and number of the scrub: the first one's is kept.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    numbers: u64,
    seen: BTreeMap<(GroupId, u64), (NodeId, MapTree, PartitionState)>,
}

/// What must be equal at all replicas.
fn replicated(state: &PartitionState) -> PartitionState {
    PartitionState {
        // Who joins starts from the configuration in force then, which may be newer than the entries that it applies first.
        configuration: Configuration::default(),
        members: Vec::new(),
        installed: false,
        entries: 0,
        backfills: Vec::new(),
        sources: Vec::new(),
        filling: None,
        ..state.clone()
    }
}

impl World {
    /// Puts markers into some groups' logs.
    pub(crate) fn care_for_scrubs(&mut self) -> Result<(), Violation> {
        for (group, _) in self.scenario.groups.clone() {
            if self.rng.chance(MARKED)
                && let Some(leader) = self.leader(group)
            {
                self.mark(leader, group)?;
            }
        }
        Ok(())
    }

    fn mark(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        self.markers.numbers += 1;
        let marker = Marker {
            scrub: self.markers.numbers,
            bytes_per_second: 0,
        };
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        let ballot = hosted.replica.status().promised;
        if !hosted.replica.can_serve_reads(now) || !hosted.partition.serves(ballot) {
            return Ok(());
        }
        let Ok(command) = hosted.partition.marker(&marker, 0) else {
            return broken("markers are encoded", format!("{marker:?}"));
        };
        let mut output = hosted.replica.step(now, Input::Propose(vec![command]));
        match output.proposed.take() {
            Some(Ok(first)) => hosted.partition.proposed(first),
            Some(Err(_)) | None => {
                let mut answers = Vec::new();
                hosted.partition.refused(&ItemFault::NotReady, &mut answers);
            }
        }
        self.carry_out(node, group, output)
    }

    /// A flush that ends at a marker is on disk.
    pub(crate) fn check_marker(
        &mut self,
        node: NodeId,
        group: GroupId,
        batch: &Batch,
    ) -> Result<(), Violation> {
        let Some(marked) = &batch.marked else {
            return Ok(());
        };
        let Some(disk) = self
            .hosts
            .get(&node)
            .and_then(|h| h.disk.groups.get(&group))
        else {
            return Ok(());
        };
        let held = (disk.tree.clone(), replicated(&disk.state));
        let key = (group, marked.marker.scrub);
        let Some((first, tree, state)) = self.markers.seen.get(&key) else {
            let (tree, state) = held;
            self.markers.seen.insert(key, (node, tree, state));
            return Ok(());
        };
        self.coverage.hit("replicas compared at a marker");
        if (tree, state) == (&held.0, &held.1) {
            return Ok(());
        }
        let what = format!(
            "group {}, scrub {}: node {} held {:?} with {state:?}, node {} {:?} with {:?}",
            group.0,
            marked.marker.scrub,
            first.0,
            tree.0.keys(),
            node.0,
            held.0.0.keys(),
            held.1,
        );
        broken("replicas are equal at a marker", what)
    }
}
