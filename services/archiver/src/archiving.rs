//! Work on one partition: carries out what its course says (`archive::course`), against storage nodes and the store. Decides nothing about order; owns
//! what is kept between the steps: birth, tail of the archived log, the segment in hand.

use archive::check::{Checked, check};
use archive::course::{Alarm, Course, Loaded, Step, Word};
use archive::{Birth, Chain, Origin, PartitionRef, Tail};
use futures::future::join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use paxos::{Entry, GroupId, Index, NodeId};
use std::sync::atomic::Ordering::Relaxed;
use telemetry::traces::{Flow, now_ns};

use crate::desk::{Desk, contradiction};
use crate::snapshot;
use crate::source::SourceError;
use crate::survey::Known;
use crate::suspects::{self, diverges};
use crate::trouble::Trouble;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod race;

/// Steps in one go; then others get their turn.
const STEPS_MAX: usize = 32;
/// Manifests read at a time, and at most, to weigh the segments behind a snapshot.
const WEIGHED_AT_ONCE: usize = 8;
const WEIGHED_MAX: usize = 512;

/// One partition's.
pub(crate) struct Work {
    partition: PartitionRef,
    pub(crate) course: Course,
    /// How the partition began; none before `Step::Load`.
    birth: Option<Birth>,
    /// Where the archived log ends.
    tail: Tail,
    /// What is in the store without its manifest.
    checked: Option<Checked>,
    /// When the segment in hand was begun and when its content was stored, Unix nanoseconds; for its trace.
    times_ns: (u64, u64),
}

impl Work {
    /// Work that begins; none for a table that has no uuid, and so no place in the archive.
    pub(crate) fn new(desk: &Desk, known: &Known) -> Option<Self> {
        let log = &known.log;
        Some(Self {
            partition: PartitionRef::new(&log.table_uuid, log.partition).ok()?,
            course: Course::new(desk.settings.course()),
            birth: None,
            tail: Tail::default(),
            checked: None,
            times_ns: (0, 0),
        })
    }

    fn id(&self) -> GroupId {
        self.partition.partition
    }

    /// Takes steps until there is nothing to do at the moment.
    pub(crate) async fn advance(&mut self, desk: &Desk) {
        for _ in 0..STEPS_MAX {
            if !self.turn(desk).await {
                return;
            }
        }
    }

    /// Takes one step; false if there is nothing to do at the moment, or it failed.
    async fn turn(&mut self, desk: &Desk) -> bool {
        let Some(known) = desk.log(self.id()) else {
            return false;
        };
        let log = known.for_course();
        let step = self.course.next(&log, desk.now_ms());
        let done = match step {
            Step::Wait { .. } => return false,
            Step::Load => self.load(desk, &known).await,
            Step::Store {
                first,
                last,
                sources,
            } => self.store(desk, (first, last), &sources).await,
            Step::Compare { first, last, nodes } => {
                self.compare(desk, (first, last), &nodes).await;
                Ok(())
            }
            Step::Seal => self.seal(desk).await,
            Step::Tell { leader, index } => {
                let told = desk.source.archived(leader, self.id(), index).await;
                told.map(|()| self.course.told(log.version, index))
                    .map_err(Trouble::from)
            }
            Step::Snapshot { sources } => {
                self.snapshot(desk, &sources).await;
                Ok(())
            }
        };
        let Err(trouble) = done else { return true };
        desk.note(self.id(), &trouble);
        self.segment_ended(desk, Err(trouble.to_string()));
        match trouble {
            Trouble::Refused(_) => self.course.refused(desk.now_ms()),
            Trouble::Contradiction(_) => {
                self.checked = None;
                self.course.forget(desk.now_ms());
            }
            _ => self.course.failed(desk.now_ms()),
        }
        false
    }

    /// Finds out how far the archive goes, and writes the birth if there is none.
    async fn load(&mut self, desk: &Desk, known: &Known) -> Result<(), Trouble> {
        let (reader, partition) = (&desk.reader, &self.partition);
        let birth = match reader.birth(partition).await? {
            Some(birth) => birth,
            None => {
                let birth = self.born(known)?;
                desk.writer.birth(&birth).await?;
                birth
            }
        };
        if birth.range != known.log.range {
            let what = format!(
                "the archive says of {partition} that it has other keys than its leader says"
            );
            return Err(Trouble::Contradiction(what));
        }
        let chain = reader.chain(partition).await?;
        let snapshots = reader.snapshots(partition).await?;
        desk.store_answered(Ok(()));
        let begins = birth.begins();
        let applied = snapshots.iter().map(|name| name.applied);
        let (end, anchor) = goes_on_at(begins, applied, &chain, known.log.floor);
        self.tail = self.tail_at(desk, &birth, &chain, end).await?;
        let newest = snapshots.iter().map(|name| name.applied).max();
        let weight = self.weigh(desk, &chain, newest.unwrap_or(anchor)).await?;
        let adopted = matches!(birth.origin, Origin::Adopted { .. });
        self.birth = Some(birth);
        self.checked = None;
        self.course.loaded(Loaded {
            end,
            since_snapshot_bytes: weight,
            needs_snapshot: adopted && newest.is_none(),
        });
        desk.reached(self.id(), end, self.tail.time_ms);
        Ok(())
    }

    fn born(&self, known: &Known) -> Result<Birth, Trouble> {
        let log = &known.log;
        let Some(table) = &log.definition else {
            // It comes with the description of a leader that was told nothing yet.
            let what = "the definition of its table is not known yet".to_owned();
            return Err(SourceError::Unavailable(what).into());
        };
        let origin = match (log.parent, log.begins) {
            (None, _) => Origin::Founded,
            // A child of before there was an archive.
            (Some(_), 0) => Origin::Adopted { at: log.floor },
            (Some(parent), at) => Origin::Split { parent, at },
        };
        Ok(Birth {
            partition: self.partition.clone(),
            range: log.range.clone(),
            origin,
            table: (**table).clone(),
        })
    }

    /// The tail of the archived log at `end`.
    async fn tail_at(
        &self,
        desk: &Desk,
        birth: &Birth,
        chain: &Chain,
        end: Index,
    ) -> Result<Tail, Trouble> {
        if let Some(name) = chain.covering(end).filter(|name| name.last == end) {
            return Ok(desk.reader.manifest(&self.partition, name).await?.tail());
        }
        if end == birth.begins() {
            return Ok(birth.tail());
        }
        let snapshots = desk.reader.snapshots(&self.partition).await?;
        let Some(name) = snapshots.iter().find(|name| name.applied == end) else {
            return Ok(blind(end));
        };
        let snapshot = desk.reader.snapshot(&self.partition, name).await?;
        Ok(Tail {
            index: snapshot.applied,
            ballot: snapshot.ballot,
            time_ms: snapshot.time_ms,
            generation: snapshot.configuration.generation,
            split: None,
        })
    }

    /// Bytes of the segments behind a position.
    async fn weigh(&self, desk: &Desk, chain: &Chain, after: Index) -> Result<u64, Trouble> {
        let path = chain.path(after);
        // Of very many the rest is estimated: a snapshot is due then in any case.
        let rest = path.len().saturating_sub(WEIGHED_MAX) as u64;
        let names: Vec<_> = path.into_iter().rev().take(WEIGHED_MAX).cloned().collect();
        let read = names
            .iter()
            .map(|name| desk.reader.manifest(&self.partition, name));
        let read: Vec<_> = read.collect();
        let bytes: Vec<u64> = stream::iter(read)
            .buffer_unordered(WEIGHED_AT_ONCE)
            .map_ok(|manifest| manifest.bytes)
            .try_collect()
            .await?;
        Ok(bytes.iter().sum::<u64>() + rest * desk.settings.segment_bytes)
    }

    /// Gets entries from the first of these nodes that has them, checks them, and stores the segment without its manifest.
    async fn store(
        &mut self,
        desk: &Desk,
        (first, last): (Index, Index),
        sources: &[NodeId],
    ) -> Result<(), Trouble> {
        let Some(birth) = self.birth.clone() else {
            self.course.forget(desk.now_ms());
            return Ok(());
        };
        self.times_ns = (now_ns(), 0);
        let (mut gone, mut why) = (Vec::new(), SourceError::Silent("nobody to ask".to_owned()));
        for &node in sources {
            let entries = match self.fetch(desk, node, (first, last)).await {
                Ok(entries) => entries,
                Err(SourceError::Gone(floor)) => {
                    gone.push(floor);
                    continue;
                }
                Err(error) => {
                    why = error;
                    continue;
                }
            };
            let checked = check(&birth, &self.tail, &entries)
                .map_err(|error| Trouble::Refused(format!("node {}: {error}", node.0)))?;
            drop(entries);
            desk.writer.content(&checked).await?;
            desk.store_answered(Ok(()));
            let manifest = &checked.manifest;
            let (first, last, bytes) = (manifest.first, manifest.last, manifest.bytes);
            self.course.stored(first, last, bytes, node, desk.now_ms());
            self.checked = Some(checked);
            self.times_ns.1 = now_ns();
            return Ok(());
        }
        match gone.iter().min() {
            // Every voter says so.
            Some(&floor) if gone.len() == sources.len() => self.gone(desk, &birth, floor).await?,
            _ => return Err(why.into()),
        }
        Ok(())
    }

    /// No replica has what comes next. What another instance has archived since the last look may be gone because of that, so only a look at the archive
    /// from now on tells whether it is lost: then the archive goes on behind a hole.
    async fn gone(&mut self, desk: &Desk, birth: &Birth, floor: Index) -> Result<(), Trouble> {
        let chain = desk.reader.chain(&self.partition).await?;
        let snapshots = desk.reader.snapshots(&self.partition).await?;
        let applied = snapshots.iter().map(|name| name.applied);
        let (end, _) = goes_on_at(birth.begins(), applied, &chain, floor);
        if end > self.tail.index {
            self.course.forget(desk.now_ms());
            return Ok(());
        }
        let floor = chain.reach(floor);
        if let Some(alarm) = self.course.gone(floor) {
            self.tail = blind(floor);
            desk.reached(self.id(), floor, 0);
            self.raise(desk, &alarm);
        }
        Ok(())
    }

    async fn fetch(
        &self,
        desk: &Desk,
        node: NodeId,
        (first, last): (Index, Index),
    ) -> Result<Vec<Entry>, SourceError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while bytes < desk.settings.segment_bytes {
            let next = entries.last().map_or(first, |entry| entry.index + 1);
            if next > last {
                break;
            }
            let more = match desk.source.entries(node, self.id(), (next, last)).await {
                Ok(more) => more,
                // What came is a segment, too.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            };
            bytes += more.iter().map(Entry::bytes).sum::<u64>();
            entries.extend(more);
        }
        Ok(entries)
    }

    /// What the other replicas would have written.
    async fn compare(&mut self, desk: &Desk, range: (Index, Index), nodes: &[NodeId]) {
        let Some(checked) = &self.checked else {
            return self.course.forget(desk.now_ms());
        };
        let (id, uuid) = (self.id(), self.partition.table.clone());
        let digest = |node: NodeId| desk.source.digest(node, id, uuid.as_str(), range);
        let answers = join_all(nodes.iter().map(|&node| digest(node))).await;
        let expected = checked.manifest.sha256;
        for (&node, answer) in nodes.iter().zip(answers) {
            let word = match answer {
                Ok(digest) if digest[..] == expected.bytes()[..] => {
                    // It may differ in what came before.
                    if !desk.suspects.lock().contains_key(&(self.id(), node)) {
                        desk.alarms.clear(&diverges(self.id(), node));
                    }
                    Word::Equal
                }
                // A damaged message is no damaged log: it has to say so twice, and now, since the log is cut soon after the seal.
                Ok(_) => match digest(node).await {
                    Ok(again) if again[..] == expected.bytes()[..] => Word::Equal,
                    Ok(_) => Word::Differs,
                    Err(SourceError::Gone(_)) => Word::Gone,
                    Err(_) => Word::Silent,
                },
                Err(SourceError::Gone(_)) => Word::Gone,
                Err(_) => Word::Silent,
            };
            self.course.compared(node, word, desk.now_ms());
        }
    }

    /// Writes the manifest, if the replicas agree.
    async fn seal(&mut self, desk: &Desk) -> Result<(), Trouble> {
        let (may, alarms) = self.course.may_seal(desk.now_ms());
        for alarm in &alarms {
            self.raise(desk, alarm);
            self.suspect(desk, alarm);
        }
        if !may {
            self.checked = None;
            return Ok(());
        }
        let Some(checked) = &self.checked else {
            self.course.forget(desk.now_ms());
            return Ok(());
        };
        desk.writer.manifest(checked).await?;
        desk.store_answered(Ok(()));
        let manifest = &checked.manifest;
        desk.counts.segments.fetch_add(1, Relaxed);
        desk.counts.segment_bytes.fetch_add(manifest.bytes, Relaxed);
        desk.counts.entries.fetch_add(manifest.entries, Relaxed);
        self.tail = manifest.tail();
        self.segment_ended(desk, Ok(()));
        self.checked = None;
        self.course.sealed();
        desk.reached(self.id(), self.tail.index, self.tail.time_ms);
        desk.alarms.clear(&contradiction(self.id()));
        desk.alarms.clear(&undecided(self.id()));
        Ok(())
    }

    /// The trace of the segment in hand, if there is one: it is archived, or why not.
    fn segment_ended(&mut self, desk: &Desk, result: Result<(), String>) {
        let (begun_ns, stored_ns) = std::mem::take(&mut self.times_ns);
        if begun_ns == 0 {
            return;
        }
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut flow = Flow::since("archive segment", begun_ns).of_partition(self.id().0);
        if stored_ns > 0 {
            flow = flow
                .step("fetch, check and store", (begun_ns, stored_ns))
                .step("compare replicas and seal", (stored_ns, now_ns()));
        }
        if let Some(checked) = &self.checked {
            let manifest = &checked.manifest;
            flow = flow
                .with("evenkeel.log.first", number(manifest.first))
                .with("evenkeel.log.last", number(manifest.last))
                .with("evenkeel.segment.bytes", number(manifest.bytes));
        }
        desk.flows.end(flow, result);
    }

    /// Has the replica that an alarm is about fenced, if a majority stands against it.
    fn suspect(&self, desk: &Desk, alarm: &Alarm) {
        let Alarm::Diverges {
            node,
            first,
            last,
            equal,
        } = *alarm
        else {
            return;
        };
        let (Some(known), Some(checked)) = (desk.log(self.id()), &self.checked) else {
            return;
        };
        let expected = checked.manifest.sha256;
        let found = suspects::suspect(&known.log, node, equal, (first, last), expected);
        if let Some(found) = found {
            suspects::note(&mut desk.suspects.lock(), (self.id(), node), found);
        }
    }

    async fn snapshot(&mut self, desk: &Desk, sources: &[NodeId]) {
        for &node in sources {
            let flow = Flow::begin("archive snapshot").of_partition(self.id().0);
            match snapshot::take(desk, &self.partition, node).await {
                Ok(bytes) => {
                    let size = i64::try_from(bytes).unwrap_or(i64::MAX);
                    desk.flows
                        .end(flow.with("evenkeel.snapshot.bytes", size), Ok(()));
                    desk.counts.snapshots.fetch_add(1, Relaxed);
                    desk.counts.snapshot_bytes.fetch_add(bytes, Relaxed);
                    desk.alarms.clear(&hole(self.id()));
                    return self.course.snapshotted();
                }
                Err(trouble) => {
                    desk.flows.end(flow, Err(trouble.to_string()));
                    desk.note(self.id(), &trouble);
                    if matches!(trouble, Trouble::Store(_)) {
                        break;
                    }
                }
            }
        }
        self.course.no_snapshot(desk.now_ms());
    }

    fn raise(&self, desk: &Desk, alarm: &Alarm) {
        let id = self.id();
        let (what, text) = match alarm {
            Alarm::Diverges {
                node, first, last, ..
            } => (
                diverges(id, *node),
                format!(
                    "node {}'s log of partition {} differs from those of the other replicas in entries {first} to {last}",
                    node.0, id.0
                ),
            ),
            Alarm::Undecided { first, last } => (
                undecided(id),
                format!(
                    "the replicas of partition {} contradict each other about entries {first} to {last}: they are not archived",
                    id.0
                ),
            ),
            Alarm::Hole { first, last } => (
                hole(id),
                format!(
                    "entries {first} to {last} of partition {} are lost to the archive: no replica has them; a snapshot closes the gap, but no time in between can be restored",
                    id.0
                ),
            ),
        };
        desk.alarms.raise(what, text);
    }
}

/// Where a partition's archive goes on, and the snapshot or birth from which it reaches there. What is no longer needed is deleted: the archive may
/// begin with a snapshot. But a snapshot may also be ahead of the segments: what is between is archived, too, while the leader's log, which
/// begins behind `floor`, still has it.
fn goes_on_at(
    begins: Index,
    snapshots: impl Iterator<Item = Index>,
    chain: &Chain,
    floor: Index,
) -> (Index, Index) {
    let mut anchors: Vec<Index> = snapshots.collect();
    if anchors.is_empty() || chain.covering(begins + 1).is_some() {
        anchors.push(begins);
    }
    let ends = anchors
        .into_iter()
        .map(|anchor| (chain.reach(anchor), anchor));
    let ends: Vec<(Index, Index)> = ends.collect();
    let had = ends.iter().filter(|(end, _)| *end >= floor).min();
    let found = had.or(ends.iter().max()).copied();
    found.unwrap_or((begins, begins))
}

/// The tail at a position of which nothing else is known.
fn blind(index: Index) -> Tail {
    Tail {
        index,
        ..Tail::default()
    }
}

fn undecided(partition: GroupId) -> String {
    format!("partition {}: undecided", partition.0)
}

fn hole(partition: GroupId) -> String {
    format!("partition {}: hole", partition.0)
}

#[cfg(test)]
mod tests {
    use archive::{Digest, SegmentName};

    use super::*;

    fn chain(ranges: &[(Index, Index)]) -> Chain {
        let name =
            |&(first, last): &(Index, Index)| SegmentName::new(first, last, &Digest::of(b""));
        ranges.iter().map(name).collect()
    }

    #[test]
    fn a_snapshot_ahead_of_the_segments_leaves_nothing_out_that_the_leader_still_has() {
        let segments = chain(&[(1, 50), (51, 96)]);
        let at = |floor| goes_on_at(0, [109].into_iter(), &segments, floor);
        assert_eq!(at(0), (96, 0));
        assert_eq!(at(96), (96, 0));
        // It is lost: only the snapshot goes beyond it.
        assert_eq!(at(97), (109, 109));
    }

    #[test]
    fn an_archive_may_begin_with_a_snapshot() {
        let segments = chain(&[(81, 100), (101, 120)]);
        for floor in [0, 90, 120] {
            let at = goes_on_at(0, [90, 110].into_iter(), &segments, floor);
            assert_eq!(at.0, 120);
        }
        assert_eq!(goes_on_at(7, [].into_iter(), &Chain::default(), 0), (7, 7));
    }
}
