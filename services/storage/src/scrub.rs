//! This node's part in scrubs: the views of B-trees at markers, their digests, and the listings of single items. Owns the views, each for a
//! bounded time, and the blocking work on them at a bounded rate. Compares nothing with anybody (the scrubber does).

mod job;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use partition::Marked;
use paxos::{GroupId, Millis};
use protocol::scrub::{Bucket, Digest, Head, ScrubReply};

use btree::Snapshot;

pub(crate) use job::{DigestJob, KeysJob, ScrubJob};

/// A view that nobody asked about for so long is let go, milliseconds: it keeps LMDB from reusing pages.
const IDLE_MS: u64 = 60_000;
/// A view is let go after so long in any case, milliseconds.
const LIFE_MS: u64 = 3_600_000;
/// A marker that was made longer ago is history (a log is being replayed, or a replica lags): nobody waits for its digest. Milliseconds.
const MARKER_AGE_MS: u64 = 60_000;
/// Buckets in one answer.
const BUCKETS_PER_ANSWER: usize = 1_000;
/// Views at a time; one of them is being digested.
const VIEWS_MAX: usize = 4;

/// The scrubs that this node takes part in, at most one a replica.
#[derive(Default)]
pub(crate) struct Scrubs(Mutex<BTreeMap<GroupId, Scrub>>);

struct Scrub {
    number: u64,
    incarnation: u64,
    /// None once the view is of no more use.
    view: Option<Arc<Snapshot>>,
    stage: Stage,
    begun: Millis,
    /// When somebody asked last.
    asked: Millis,
}

enum Stage {
    Digesting { bytes: u64 },
    Done(Box<Done>),
    Void(String),
    Damaged(String),
}

/// A complete digest.
pub(crate) struct Done {
    pub(crate) head: Head,
    pub(crate) disk_bytes: u64,
    pub(crate) buckets: Vec<Bucket>,
}

/// A view of a replica's B-tree at a marker.
pub(crate) struct View {
    pub(crate) group: GroupId,
    pub(crate) incarnation: u64,
    pub(crate) marked: Marked,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Scrubs {
    /// Whether a marker is worth a view.
    pub(crate) fn is_current(marked: &Marked, unix_ms: u64) -> bool {
        unix_ms.saturating_sub(marked.time_ms) < MARKER_AGE_MS
    }

    /// Why no scrub of this replica can begin now; none: it can.
    pub(crate) fn busy(&self, group: GroupId) -> Option<String> {
        let scrubs = self.0.lock();
        let mut others = scrubs.iter().filter(|(id, _)| **id != group);
        if let Some((other, _)) =
            others.find(|(_, scrub)| matches!(scrub.stage, Stage::Digesting { .. }))
        {
            return Some(format!("partition {} is being scrubbed", other.0));
        }
        (scrubs.len() >= VIEWS_MAX && !scrubs.contains_key(&group))
            .then(|| "too many scrubs are open".to_owned())
    }

    /// A view is there: it takes the place of the replica's earlier one. False: not now, and the scrub is void here.
    pub(crate) fn begin(&self, view: &View, now: Millis) -> bool {
        let busy = self.busy(view.group);
        let begins = busy.is_none();
        let scrub = Scrub {
            number: view.marked.marker.scrub,
            incarnation: view.incarnation,
            view: begins.then(|| view.snapshot.clone()),
            stage: busy.map_or(Stage::Digesting { bytes: 0 }, Stage::Void),
            begun: now,
            asked: now,
        };
        self.0.lock().insert(view.group, scrub);
        begins
    }

    fn with<T>(&self, group: GroupId, number: u64, act: impl FnOnce(&mut Scrub) -> T) -> Option<T> {
        let mut scrubs = self.0.lock();
        let scrub = scrubs.get_mut(&group).filter(|s| s.number == number)?;
        Some(act(scrub))
    }

    /// So much is digested. False: nobody wants the rest.
    pub(crate) fn advance(&self, group: GroupId, number: u64, digested: u64) -> bool {
        let advanced = self.with(group, number, |scrub| match &mut scrub.stage {
            Stage::Digesting { bytes } => {
                *bytes = digested;
                true
            }
            _ => false,
        });
        advanced == Some(true)
    }

    /// The digest is complete.
    pub(crate) fn complete(&self, group: GroupId, number: u64, done: Done) {
        self.with(group, number, |scrub| {
            scrub.stage = Stage::Done(Box::new(done));
        });
    }

    /// There will be no digest.
    pub(crate) fn give_up(&self, group: GroupId, number: u64, why: String) {
        self.with(group, number, |scrub| {
            scrub.stage = Stage::Void(why);
            scrub.view = None;
        });
    }

    /// The replica is damaged.
    pub(crate) fn damaged(&self, group: GroupId, number: u64, what: String) {
        self.with(group, number, |scrub| {
            scrub.stage = Stage::Damaged(what);
            scrub.view = None;
        });
    }

    /// Answers `Digest`.
    pub(crate) fn digest(&self, group: GroupId, number: u64, from: u64, now: Millis) -> ScrubReply {
        let reply = self.with(group, number, |scrub| {
            scrub.asked = now;
            match &scrub.stage {
                Stage::Digesting { bytes } => ScrubReply::Digesting { bytes: *bytes },
                Stage::Void(why) => ScrubReply::Void(why.clone()),
                Stage::Damaged(what) => ScrubReply::Damaged(what.clone()),
                Stage::Done(done) => {
                    let wanted = done.buckets.iter().skip(from as usize);
                    ScrubReply::Digest(Box::new(Digest {
                        incarnation: scrub.incarnation,
                        head: done.head.clone(),
                        disk_bytes: done.disk_bytes,
                        buckets_total: done.buckets.len() as u64,
                        from,
                        buckets: wanted.take(BUCKETS_PER_ANSWER).cloned().collect(),
                    }))
                }
            }
        });
        reply.unwrap_or_else(unknown)
    }

    /// The view, for a listing.
    pub(crate) fn view(
        &self,
        group: GroupId,
        number: u64,
        now: Millis,
    ) -> Result<Arc<Snapshot>, ScrubReply> {
        let view = self.with(group, number, |scrub| {
            scrub.asked = now;
            scrub.view.clone()
        });
        view.flatten().ok_or_else(unknown)
    }

    /// Nobody wants it any more.
    pub(crate) fn end(&self, group: GroupId, number: u64) {
        let mut scrubs = self.0.lock();
        if scrubs.get(&group).is_some_and(|s| s.number == number) {
            scrubs.remove(&group);
        }
    }

    /// Lets go of what nobody asks for.
    pub(crate) fn tidy(&self, now: Millis) {
        self.0.lock().retain(|_, scrub| {
            now.since(scrub.asked) < IDLE_MS && now.since(scrub.begun) < LIFE_MS
        });
    }

    /// Digests under way.
    pub(crate) fn running(&self) -> u64 {
        let scrubs = self.0.lock();
        let digesting = |scrub: &&Scrub| matches!(scrub.stage, Stage::Digesting { .. });
        scrubs.values().filter(digesting).count() as u64
    }
}

fn unknown() -> ScrubReply {
    ScrubReply::Unknown("no view of the replica at this marker".to_owned())
}

/// What a replica says of itself at a marker.
fn head_of(view: &View) -> Head {
    let state = view.snapshot.state();
    Head {
        index: state.applied,
        time_ms: view.marked.time_ms,
        table: state.table.uuid.clone(),
        table_id: state.table.id.0,
        table_version: state.table.version,
        generation: state.configuration.generation,
        range: state.range.clone(),
        items: state.items,
        entries: state.entries,
        bytes: state.bytes,
        splits_into: state.split.as_ref().map(|split| split.left),
    }
}

/// A key for logs and reports: printable bytes as they are, others escaped.
pub(crate) fn escaped(key: &Bytes) -> String {
    key.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use btree::ReplicaTree;
    use btree::fixtures::{SMALL, state};
    use protocol::scrub::Marker;

    use super::*;

    fn view(dir: &std::path::Path, group: u64, scrub: u64) -> View {
        let folder = dir.join(format!("{group}-{scrub}"));
        let tree = ReplicaTree::create(&folder, SMALL, &state(0)).unwrap();
        let marker = Marker {
            scrub,
            bytes_per_second: 0,
        };
        View {
            group: GroupId(group),
            incarnation: 5,
            marked: Marked { marker, time_ms: 9 },
            snapshot: Arc::new(tree.snapshot().unwrap()),
        }
    }

    fn done(view: &View) -> Done {
        Done {
            head: head_of(view),
            disk_bytes: 0,
            buckets: Vec::new(),
        }
    }

    #[test]
    fn one_digest_at_a_time_and_what_nobody_asks_for_ends() {
        let dir = tempfile::tempdir().unwrap();
        let scrubs = Scrubs::default();
        let (first, second) = (view(dir.path(), 1, 10), view(dir.path(), 2, 20));
        assert!(scrubs.begin(&first, Millis(1)));
        assert!(!scrubs.begin(&second, Millis(1)), "another one is digested");
        let answer = scrubs.digest(GroupId(2), 20, 0, Millis(1));
        assert!(matches!(answer, ScrubReply::Void(_)), "{answer:?}");
        assert!(scrubs.advance(GroupId(1), 10, 7));
        assert!(!scrubs.advance(GroupId(1), 11, 7), "an older one's job");
        scrubs.complete(GroupId(1), 10, done(&first));
        assert!(scrubs.begin(&second, Millis(2)));
        let answer = scrubs.digest(GroupId(1), 10, 0, Millis(IDLE_MS));
        assert!(matches!(answer, ScrubReply::Digest(_)), "{answer:?}");
        scrubs.tidy(Millis(IDLE_MS + 5));
        let answer = scrubs.digest(GroupId(2), 20, 0, Millis(IDLE_MS + 5));
        assert!(matches!(answer, ScrubReply::Unknown(_)), "{answer:?}");
        assert!(scrubs.view(GroupId(1), 10, Millis(IDLE_MS + 5)).is_ok());
        scrubs.end(GroupId(1), 10);
        assert!(scrubs.view(GroupId(1), 10, Millis(IDLE_MS + 5)).is_err());
    }

    #[test]
    fn a_replayed_marker_is_history() {
        let marked = Marked {
            marker: Marker::default(),
            time_ms: 1_000,
        };
        assert!(Scrubs::is_current(&marked, 1_000));
        assert!(!Scrubs::is_current(&marked, 1_000 + MARKER_AGE_MS));
    }
}
