//! The receiving side of full copies: builds the new B-tree in `<group>.incoming`, checks it, and puts it in the place of the old
//! one. Owns that folder. An interrupted copy leaves the old B-tree as it was.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use btree::{ReplicaTree, TreeError, TreeOptions, remove_folder, sync_dir};
use bytes::Bytes;
use partition::change::is_change_key;
use partition::{PartitionState, Transactions};
use paxos::{GroupId, Index, NodeId};
use protocol::changes::ChangeState;
use protocol::replication::{CopyChunk, CopyEnd, CopyRequest, chunk_crc};

const SUFFIX: &str = "incoming";

/// Limits of the receiving side.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveOptions {
    /// Limits of the new B-tree.
    pub tree: TreeOptions,
    /// How often one chunk is asked for before the copy is given up.
    pub tries_max: u32,
    /// How often a copy starts over when its session is gone or its content is wrong.
    pub starts_max: u32,
    /// Wait before asking again; doubled each time, up to 32-fold.
    pub pause: Duration,
    /// Chunks in one copy: bounds what a mad sender can make us write.
    pub chunks_max: u64,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            tree: TreeOptions::default(),
            tries_max: 6,
            starts_max: 4,
            pause: Duration::from_millis(100),
            chunks_max: 1 << 20,
        }
    }
}

/// Why there is no copy. The old B-tree is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The own disk failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The sender did not answer, or not in a usable way, as often as was tried.
    #[error("no copy of group {} could be pulled: {why}", group.0)]
    GaveUp {
        /// The group.
        group: GroupId,
        /// The last reason.
        why: String,
    },
    /// The copy is older than what this replica has.
    #[error("the copy of group {} is at {copied}, this replica is at {own} already", group.0)]
    Older {
        /// The group.
        group: GroupId,
        /// Position of the copy.
        copied: Index,
        /// Own position.
        own: Index,
    },
    /// The caller wants it no longer.
    #[error("the copy was stopped")]
    Stopped,
}

/// A complete copy, durable, not yet in place. Dropping it leaves the folder for `tidy`.
#[derive(Debug)]
pub struct Incoming {
    folder: PathBuf,
    end: CopyEnd,
}

impl Incoming {
    /// What the copy stands for.
    pub fn end(&self) -> &CopyEnd {
        &self.end
    }

    /// Puts the copy in the place of `tree`'s content, atomically and durably. Whoever holds the tree reads the new content
    /// from now on. On an error the old content stays.
    pub fn install(self, tree: &ReplicaTree) -> Result<PartitionState, TreeError> {
        tree.replace(&self.folder)
    }
}

/// Pulls a copy of `group` for `me`, to stand beside the B-tree in `<replicas>/<group>`, whose state is `own`. `fetch` sends a
/// request and waits for the answer; it says why there is none. Blocks for as long as it takes, bounded by the options;
/// `stop` is asked before each request.
pub fn receive(
    replicas: &Path,
    group: GroupId,
    me: NodeId,
    own: &PartitionState,
    options: &ReceiveOptions,
    mut fetch: impl FnMut(&CopyRequest) -> Result<CopyChunk, String>,
    stop: impl Fn() -> bool,
) -> Result<Incoming, CopyError> {
    let folder = replicas.join(format!("{}.{SUFFIX}", group.0));
    let mut why = String::new();
    for start in 0..options.starts_max {
        if start > 0 {
            pause(options, start);
        }
        let mut attempt = Attempt::new(&folder, group, me, own, options)?;
        match attempt.run(&mut fetch, &stop) {
            Ok(end) => {
                drop(attempt);
                sync_dir(replicas)?;
                return Ok(Incoming { folder, end });
            }
            Err(Fault::Final(error)) => {
                drop(attempt);
                // Best effort: `tidy` does it otherwise.
                let _ = remove_folder(&folder);
                return Err(error);
            }
            Err(Fault::StartOver(reason)) => {
                tracing::warn!(group = group.0, reason, "a full copy starts over");
                why = reason;
            }
        }
    }
    let _ = remove_folder(&folder);
    Err(CopyError::GaveUp { group, why })
}

/// Deletes what interrupted copies left in the folder of the replicas. For the start of a node, before any B-tree is open.
pub fn tidy(replicas: &Path) -> Result<(), TreeError> {
    let io = |error: std::io::Error| TreeError::io(replicas, "listing", &error);
    for entry in std::fs::read_dir(replicas).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension() == Some(OsStr::new(SUFFIX)) {
            remove_folder(&path)?;
        }
    }
    Ok(())
}

fn pause(options: &ReceiveOptions, times: u32) {
    std::thread::sleep(options.pause * (1 << times.min(5)));
}

enum Fault {
    Final(CopyError),
    StartOver(String),
}

impl From<TreeError> for Fault {
    fn from(error: TreeError) -> Self {
        Self::Final(CopyError::Tree(error))
    }
}

/// One session, from the first chunk to the last.
struct Attempt<'a> {
    group: GroupId,
    me: NodeId,
    own: &'a PartitionState,
    options: &'a ReceiveOptions,
    tree: ReplicaTree,
    first: Option<Bytes>,
    last: Option<Bytes>,
}

impl<'a> Attempt<'a> {
    fn new(
        folder: &Path,
        group: GroupId,
        me: NodeId,
        own: &'a PartitionState,
        options: &'a ReceiveOptions,
    ) -> Result<Self, TreeError> {
        remove_folder(folder)?;
        let empty = PartitionState {
            applied: 0,
            ..own.clone()
        };
        let tree = ReplicaTree::create(folder, options.tree, &empty)?;
        Ok(Self {
            group,
            me,
            own,
            options,
            tree,
            first: None,
            last: None,
        })
    }

    fn run(
        &mut self,
        fetch: &mut impl FnMut(&CopyRequest) -> Result<CopyChunk, String>,
        stop: &impl Fn() -> bool,
    ) -> Result<CopyEnd, Fault> {
        let mut session = 0;
        for number in 0..self.options.chunks_max {
            let request = CopyRequest {
                group: self.group,
                to: self.me,
                session,
                chunk: number,
            };
            let chunk = self.fetch(&request, fetch, stop)?;
            session = chunk.session;
            self.check(&chunk)?;
            match chunk.end {
                None if chunk.pairs.is_empty() => {
                    return Err(Fault::StartOver("an empty chunk".to_owned()));
                }
                None => {
                    let before = PartitionState {
                        applied: 0,
                        ..self.own.clone()
                    };
                    self.tree.add(&before, &chunk.pairs)?;
                }
                Some(end) => {
                    self.finish(&end, &chunk.pairs)?;
                    return Ok(end);
                }
            }
        }
        Err(Fault::StartOver(format!(
            "no end after {} chunks",
            self.options.chunks_max
        )))
    }

    /// Asks until there is an answer.
    fn fetch(
        &self,
        request: &CopyRequest,
        fetch: &mut impl FnMut(&CopyRequest) -> Result<CopyChunk, String>,
        stop: &impl Fn() -> bool,
    ) -> Result<CopyChunk, Fault> {
        let mut why = String::new();
        for times in 0..self.options.tries_max {
            if times > 0 {
                pause(self.options, times - 1);
            }
            if stop() {
                return Err(Fault::Final(CopyError::Stopped));
            }
            match fetch(request) {
                Ok(chunk) if chunk.expired => {
                    return Err(Fault::StartOver("the session is gone".to_owned()));
                }
                // Damaged on its way: the same chunk once more.
                Ok(chunk) if chunk_crc(&chunk.pairs) != chunk.crc32c => {
                    why = format!("checksum of chunk {}", request.chunk);
                }
                Ok(chunk) => return Ok(chunk),
                Err(error) => why = error,
            }
        }
        Err(Fault::Final(CopyError::GaveUp {
            group: self.group,
            why,
        }))
    }

    /// Keys must ascend over all chunks.
    fn check(&mut self, chunk: &CopyChunk) -> Result<(), Fault> {
        for (key, _) in &chunk.pairs {
            if self.last.as_ref().is_some_and(|last| last >= key) {
                return Err(Fault::StartOver("keys do not ascend".to_owned()));
            }
            self.first.get_or_insert_with(|| key.clone());
            self.last = Some(key.clone());
        }
        Ok(())
    }

    fn finish(&mut self, end: &CopyEnd, pairs: &[(Bytes, Bytes)]) -> Result<(), Fault> {
        if end.applied < self.own.applied {
            let (copied, own) = (end.applied, self.own.applied);
            return Err(Fault::Final(CopyError::Older {
                group: self.group,
                copied,
                own,
            }));
        }
        let ends = [&self.first, &self.last];
        if ends
            .into_iter()
            .flatten()
            .any(|key| !is_change_key(key) && !end.range.contains(key))
        {
            return Err(Fault::StartOver(
                "keys outside of the partition's range".to_owned(),
            ));
        }
        let state = PartitionState {
            applied: end.applied,
            ballot: end.ballot,
            configuration: end.configuration.clone(),
            range: end.range.clone(),
            table: end.table.clone(),
            members: end.members.clone(),
            items: 0,
            bytes: 0,
            entries: 0,
            backfills: end.backfills.clone(),
            sources: end.sources.clone(),
            time_ms: end.time_ms,
            begins: end.begins,
            changes: ChangeState {
                count: 0,
                bytes: 0,
                ..end.changes.clone()
            },
            parent: end.parent,
            split: end.split.clone(),
            transactions: Transactions::decode(&end.transactions)
                .map_err(|why| Fault::StartOver(format!("transactions: {why}")))?,
            // A copy brings no children along: what this replica has done, it has done.
            installed: self.own.installed,
            filling: None,
        };
        let stored = self.tree.add(&state, pairs)?;
        match end.items {
            Some(items) if items != stored.items => Err(Fault::StartOver(format!(
                "{} items came, the sender has {items}",
                stored.items
            ))),
            _ => Ok(()),
        }
    }
}
