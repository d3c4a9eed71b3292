//! One partition's archived log on its way into the state machine. Owns that segments agree with the log before them, with what both hold, and with
//! their manifests, and what a split's child begins with. Reads nothing.

use archive::check::{CheckError, follow};
use archive::{Birth, Segment, SegmentManifest, Tail};
use partition::split::{self, SIDES};
use partition::{Partition, PartitionError};
use paxos::Ballot;

use super::{Leg, Point, RebuildError, Target};

/// One partition's log on its way into the state machine.
pub(super) struct Replay<'a> {
    pub(super) leg: &'a Leg,
    pub(super) machine: Partition<()>,
    pub(super) tail: Tail,
    /// The time where the replay began.
    pub(super) inherited_ms: u64,
    /// The segment before, which the next one may overlap.
    pub(super) before: Option<Segment>,
    pub(super) beyond: bool,
}

impl Replay<'_> {
    fn contradiction(&self, manifest: &SegmentManifest, why: String) -> RebuildError {
        RebuildError::Contradiction {
            partition: self.leg.birth.partition.clone(),
            name: manifest.name(),
            why,
        }
    }

    /// What is known of the entries that this segment repeats must be what it says.
    pub(super) fn compare(
        &self,
        manifest: &SegmentManifest,
        segment: &Segment,
    ) -> Result<(), RebuildError> {
        let known = self.before.iter().flat_map(|before| &before.entries);
        let same = known
            .filter(|known| known.index >= segment.first() && known.index <= segment.last())
            .all(|known| {
                segment
                    .entries
                    .get((known.index - segment.first()) as usize)
                    == Some(known)
            });
        // A birth does not know the ballot before its first entry.
        let at_tail = segment
            .entries
            .iter()
            .find(|entry| entry.index == self.tail.index);
        let follows = at_tail.is_none_or(|entry| {
            self.tail.ballot == Ballot::default() || entry.ballot == self.tail.ballot
        });
        match same && follows {
            true => Ok(()),
            false => Err(self.contradiction(manifest, "entries that both hold differ".to_owned())),
        }
    }

    /// Applies the next entry; false: it lies behind the target.
    pub(super) fn apply(
        &mut self,
        manifest: &SegmentManifest,
        entry: &paxos::Entry,
    ) -> Result<bool, RebuildError> {
        let failed = |error: CheckError| self.contradiction(manifest, error.to_string());
        let tail = follow(&self.leg.birth, &self.tail, entry).map_err(failed)?;
        let is_behind = match self.leg.target {
            Target::Index(index) => entry.index > index,
            Target::Time(time_ms) => tail.time_ms > time_ms,
            Target::End => false,
        };
        if is_behind {
            self.beyond = true;
            return Ok(false);
        }
        let applied = self.machine.apply(entry, &mut Vec::new());
        applied.map_err(|error: PartitionError| self.contradiction(manifest, error.to_string()))?;
        self.tail = tail;
        Ok(true)
    }

    /// The manifest must say of the log what the log says itself.
    pub(super) fn check_tail(&self, manifest: &SegmentManifest) -> Result<(), RebuildError> {
        let (said, found) = (manifest.tail(), self.tail);
        // Behind a hole, and for an adopted partition, manifests do not know the configuration (0) nor the time before: both come with the
        // snapshot. A child's snapshot also has its parent's time while there is no later command.
        let inherited = found.time_ms == self.inherited_ms;
        let split = |tail: &Tail| tail.split.map(|split| (split.at, split.left));
        let same = (said.index, said.ballot) == (found.index, found.ballot)
            && (inherited || said.time_ms == found.time_ms)
            && (said.generation == 0 || said.generation == found.generation)
            && split(&said) == split(&found);
        match same {
            true => Ok(()),
            false => Err(self.contradiction(
                manifest,
                format!("its manifest says {said:?}, the log {found:?}"),
            )),
        }
    }
}

/// What the child begins with, where its parent's log ended.
pub(super) fn born(parent: &Leg, child: &Birth, point: &Point) -> Result<Point, RebuildError> {
    let id = child.partition.partition;
    let split = point.state.split.as_ref();
    let begun = split.and_then(|split| {
        let committed = split
            .committed
            .as_ref()
            .filter(|committed| committed.at == child.begins())?;
        let side = SIDES
            .into_iter()
            .find(|side| split::child_of(split, *side) == id)?;
        let parent = parent.birth.partition.partition;
        let begun = split::begun_child(&point.state, parent, split, committed, side);
        (begun.range == child.range).then_some(begun)
    });
    match begun {
        Some(state) => Ok(Point {
            state,
            tail: child.tail(),
        }),
        None => {
            let key = child.partition.folder_of(archive::key::Folder::Births);
            let why = format!(
                "the log of partition {} does not end with it",
                parent.birth.partition.partition.0
            );
            Err(archive::Fault::Contradicts(why).at(key).into())
        }
    }
}
