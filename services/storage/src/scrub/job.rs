//! The blocking work of scrubs, on threads of its own: reads a view from end to end, checks it, digests it, and looks whether the disk holds
//! what the page cache says; lists single items.

use std::sync::Arc;
use std::time::{Duration, Instant};

use btree::{Snapshot, TreeError};
use mesh::Responder;
use model::{EncodedKey, KeyRange};
use protocol::scrub::{KeyDigest, ScrubReply};
use scrub::{Digester, key_digest};

use super::{Done, View, escaped, head_of};
use crate::inbox::Event;
use crate::node::Node;

/// Read at a time, bytes.
const PART_BYTES: usize = 1 << 20;
/// Keys and digests in one answer, bytes: with framing under the 512 KiB from which on messages are cut up.
const KEYS_BYTES: usize = 256 << 10;
/// A pause is cut into pieces of so long, so that the end of the node or of the scrub is seen.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Work on a view.
pub(crate) enum ScrubJob {
    Digest(DigestJob),
    Keys(KeysJob),
}

impl ScrubJob {
    /// Does it. Blocks.
    pub(crate) fn run(self) {
        match self {
            Self::Digest(job) => job.run(),
            Self::Keys(job) => job.run(),
        }
    }
}

/// Digest a view.
pub(crate) struct DigestJob {
    pub(crate) view: View,
    pub(crate) node: Arc<Node>,
}

/// Why a digest ends early.
enum Stop {
    /// Nobody wants it.
    Unwanted,
    Failed(TreeError),
}

impl From<TreeError> for Stop {
    fn from(error: TreeError) -> Self {
        Self::Failed(error)
    }
}

impl DigestJob {
    fn run(self) {
        let Self { view, node } = self;
        let (group, number) = (view.group, view.marked.marker.scrub);
        let result = digest(&view, &node);
        let incarnation = view.incarnation;
        // The view is the registry's from now on.
        drop(view);
        match result {
            Ok(done) => node.scrubs.complete(group, number, done),
            Err(Stop::Unwanted) => {
                node.scrubs
                    .give_up(group, number, "it was given up".to_owned());
            }
            Err(Stop::Failed(TreeError::SnapshotGone { .. })) => {
                let why = "the B-tree's map grew, or the replica was replaced".to_owned();
                node.scrubs.give_up(group, number, why);
            }
            Err(Stop::Failed(error)) => {
                node.scrubs.damaged(group, number, error.to_string());
                let damaged = Event::ScrubFailed(group, incarnation, error);
                node.inbox(group).event(damaged);
            }
        }
    }
}

/// Keeps to a rate.
struct Pace<'a> {
    view: &'a View,
    node: &'a Node,
    bytes_per_second: u64,
    /// When the next part may be read.
    next: Instant,
}

impl Pace<'_> {
    /// After so many bytes were read: waits until their time is over. False: stop.
    fn after(&mut self, bytes: u64, digested: u64) -> bool {
        self.node.metrics.scrubbed_bytes.inc_by(bytes);
        let takes = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_second);
        // What a slow disk took longer is not caught up with.
        self.next = (self.next + takes).max(Instant::now());
        loop {
            let number = self.view.marked.marker.scrub;
            let wanted = self.node.scrubs.advance(self.view.group, number, digested);
            if !wanted || self.node.is_draining() {
                return false;
            }
            let left = self.next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(PAUSE_MAX));
        }
    }
}

fn digest(view: &View, node: &Node) -> Result<Done, Stop> {
    let snapshot = &view.snapshot;
    let head = head_of(view);
    let most = node.settings.limits.scrub_bytes_per_second_max.max(1);
    let wanted = view.marked.marker.bytes_per_second;
    let mut pace = Pace {
        view,
        node,
        bytes_per_second: if wanted == 0 { most } else { wanted.min(most) },
        next: Instant::now(),
    };
    let mut digester = Digester::default();
    let mut after: Option<EncodedKey> = None;
    // Change records are not in the archive, with which this is compared.
    let items = partition::change::item_keys();
    loop {
        let (pairs, is_last) = snapshot.pairs_of(&items, after.as_deref(), PART_BYTES)?;
        let before = digester.bytes();
        for (key, item) in &pairs {
            if !head.range.contains(key) {
                let what = format!("key {} lies outside of the partition", escaped(key));
                return Err(snapshot.damaged(what).into());
            }
            if !digester.add(key, item) {
                let what = format!("key {} is not in its order", escaped(key));
                return Err(snapshot.damaged(what).into());
            }
        }
        if let Some(key) = snapshot.hidden(&pairs)? {
            let what = format!(
                "item {} is there, but a search does not find it",
                escaped(key)
            );
            return Err(snapshot.damaged(what).into());
        }
        if !pace.after(digester.bytes() - before, digester.bytes()) {
            return Err(Stop::Unwanted);
        }
        after = pairs.into_iter().next_back().map(|(key, _)| key);
        if is_last {
            break;
        }
    }
    if digester.items() != head.items + head.entries {
        let (found, items) = (digester.items(), head.items + head.entries);
        let what = format!("{found} items can be reached, there are {items}");
        return Err(snapshot.damaged(what).into());
    }
    let digested = digester.bytes();
    let mut disk_bytes = 0;
    let finished = snapshot.compare_disk(|bytes| {
        disk_bytes += bytes;
        pace.after(bytes, digested)
    })?;
    if !finished {
        return Err(Stop::Unwanted);
    }
    Ok(Done {
        head,
        disk_bytes,
        buckets: digester.finish(),
    })
}

/// List items of a view.
pub(crate) struct KeysJob {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) range: KeyRange,
    pub(crate) after: Option<EncodedKey>,
    pub(crate) responder: Responder,
}

impl KeysJob {
    fn run(self) {
        let after = self.after.as_deref();
        let read = self.snapshot.pairs_of(&self.range, after, PART_BYTES);
        self.responder.reply(&match read {
            Err(TreeError::SnapshotGone { .. }) => ScrubReply::Void("the view is gone".to_owned()),
            Err(error) => ScrubReply::Damaged(error.to_string()),
            Ok((pairs, is_last)) => {
                let total = pairs.len();
                let mut bytes = 0;
                let fits = |key: &EncodedKey| {
                    bytes += key.len() + 32;
                    bytes <= KEYS_BYTES
                };
                let mut fits = fits;
                let fitting = pairs.into_iter().take_while(|(key, _)| fits(key));
                let keys: Vec<KeyDigest> = fitting
                    .map(|(key, item)| KeyDigest {
                        digest: key_digest(&item),
                        key,
                    })
                    .collect();
                let is_last = is_last && keys.len() == total;
                ScrubReply::Keys { keys, is_last }
            }
        });
    }
}
