//! The B-trees of a split's children while they are no replicas yet: in `<child>.child` beside the replicas' folders. Owns these
//! folders, the transactions that fill them, and their way to replicas. Each step is durable when it returns, and may be the last
//! one before a crash. Decides nothing (`partition::split` does); runs on disk threads.

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use btree::{ReplicaTree, TreeError, TreeOptions, remove_folder, sync_dir};
use mesh::TraceContext;
use parking_lot::Mutex;
use partition::change::{belongs, change_keys};
use partition::split::{self, Filling, SIDES, Side};
use partition::{Batch, PartitionState};
use paxos::{GroupId, Member, PersistOp, Restored};
use protocol::split::{CommittedSplit, Split};
use telemetry::traces::split_context;
use wal::Wal;

const SUFFIX: &str = "child";

/// The children's B-trees of one split on this node.
pub(crate) struct Children {
    folder: PathBuf,
    options: TreeOptions,
    parent: GroupId,
    split: Split,
    trees: Mutex<Trees>,
    /// Transactions until the process dies.
    #[cfg(test)]
    steps: Arc<std::sync::atomic::AtomicI64>,
}

#[derive(Default)]
struct Trees {
    open: [Option<ReplicaTree>; 2],
    /// Those that have a replica's folder already.
    promoted: [bool; 2],
    /// They are given up, or became replicas: nothing is opened or made any more.
    closed: bool,
}

/// A child that became a replica: on disk, in the log, and not begun.
pub(crate) struct Made {
    pub(crate) group: GroupId,
    pub(crate) tree: ReplicaTree,
    pub(crate) state: PartitionState,
    pub(crate) restored: Restored,
    /// The split that it is a child of, as the traces know it.
    pub(crate) split: TraceContext,
}

impl Children {
    /// Those of `parent`'s split, in the folder of the replicas. Touches no disk.
    pub(crate) fn new(
        folder: &Path,
        options: TreeOptions,
        parent: GroupId,
        split: &Split,
    ) -> Arc<Self> {
        Arc::new(Self {
            folder: folder.into(),
            options,
            parent,
            split: split.clone(),
            trees: Mutex::default(),
            #[cfg(test)]
            steps: Arc::new(i64::MAX.into()),
        })
    }

    /// The split's left child, which names it.
    pub(crate) fn left(&self) -> GroupId {
        self.split.left
    }

    /// Before each transaction: in tests, the process may die there.
    fn step(&self) -> Result<(), TreeError> {
        #[cfg(test)]
        if self
            .steps
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed)
            <= 0
        {
            // An error that changes nothing.
            return Err(TreeError::DiskFull {
                path: self.folder.clone(),
            });
        }
        Ok(())
    }

    fn path(&self, side: Side) -> PathBuf {
        child_folder(&self.folder, split::child_of(&self.split, side))
    }

    /// Opens what an earlier life left. What cannot be used is deleted: it is only a copy.
    fn open(&self, trees: &mut Trees, side: Side) -> Result<(), TreeError> {
        let open = &mut trees.open[side as usize];
        if open.is_some() || trees.closed {
            return Ok(());
        }
        let path = self.path(side);
        match ReplicaTree::open(&path, self.options) {
            Ok((tree, _)) => *open = Some(tree),
            Err(TreeError::Missing { .. }) => {}
            Err(error @ TreeError::DiskFull { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a child's B-tree cannot be used, it is made anew");
                remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// Runs `act` on a child's B-tree, if it is there. On any error but a full disk it is deleted, to be made anew.
    fn with<T>(
        &self,
        trees: &mut Trees,
        side: Side,
        act: impl FnOnce(&ReplicaTree) -> Result<T, TreeError>,
    ) -> Result<Option<T>, TreeError> {
        self.open(trees, side)?;
        let open = &mut trees.open[side as usize];
        let Some(tree) = open else { return Ok(None) };
        match act(tree) {
            Ok(result) => Ok(Some(result)),
            Err(error @ TreeError::DiskFull { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a child's B-tree failed, it is made anew");
                if let Some(tree) = open.take() {
                    tree.destroy()?;
                }
                Ok(None)
            }
        }
    }

    /// Makes those changes of a parent's batch that concern what is filled already. To be called before the parent's own flush:
    /// so the children are never behind it, and what a crash cuts off is made again from the log.
    pub(crate) fn flush(&self, batch: &Batch) -> Result<(), TreeError> {
        let mut trees = self.trees.lock();
        for side in SIDES {
            self.with(&mut trees, side, |tree| {
                let state = tree.state()?;
                let changes = split::changes_for(batch, &state);
                if changes.is_empty() {
                    return Ok(());
                }
                self.step()?;
                let items = Arc::new(changes.into_iter().collect());
                let marked = None;
                tree.flush(&Batch {
                    state,
                    items,
                    marked,
                })
                .map(|_| ())
            })?;
        }
        Ok(())
    }

    /// Opens the children's B-trees; those that are not there are made, empty.
    pub(crate) fn create(&self, parent: &PartitionState) -> Result<(), TreeError> {
        let mut trees = self.trees.lock();
        for side in SIDES {
            self.open(&mut trees, side)?;
            let promoted = trees.promoted[side as usize];
            if trees.open[side as usize].is_none() && !promoted && !trees.closed {
                self.step()?;
                let empty = split::empty_child(parent, self.parent, &self.split, side);
                let tree = ReplicaTree::create(&self.path(side), self.options, &empty)?;
                trees.open[side as usize] = Some(tree);
            }
        }
        Ok(())
    }

    /// Copies the next chunk of about `bytes_max` from the parent's B-tree, which nobody flushes meanwhile. Returns its bytes.
    pub(crate) fn fill(
        &self,
        parent: &ReplicaTree,
        side: Side,
        bytes_max: usize,
    ) -> Result<u64, TreeError> {
        let mut trees = self.trees.lock();
        let Some(state) = self.with(&mut trees, side, ReplicaTree::state)? else {
            return Ok(0);
        };
        let Some(filling) = &state.filling else {
            return Ok(0);
        };
        let cursor = filling.cursor.as_deref();
        let snapshot = parent.snapshot()?;
        let range = match filling.at_changes() {
            true => change_keys(),
            false => state.range.clone(),
        };
        let (mut pairs, is_last) = snapshot.pairs_of(&range, cursor, bytes_max)?;
        let filling = match is_last && !filling.at_changes() && snapshot.state().changes.count > 0 {
            true => Filling::items_done(),
            false => filling.advanced(pairs.last().map(|(key, _)| key), is_last),
        };
        pairs.retain(|(key, value)| belongs(&state.range, key, Some(value)));
        let bytes = pairs.iter().map(|(key, item)| key.len() + item.len());
        let bytes = bytes.sum::<usize>() as u64;
        // Items and cursor in one transaction.
        let filled = PartitionState {
            filling: Some(filling),
            ..state
        };
        self.step()?;
        self.with(&mut trees, side, |tree| tree.add(&filled, &pairs))?;
        Ok(bytes)
    }

    /// How far the children are; none if one of them is not there.
    pub(crate) fn fillings(&self) -> Result<Option<[Filling; 2]>, TreeError> {
        let trees = self.trees.lock();
        let mut fillings = [Filling::FULL, Filling::FULL];
        for side in SIDES {
            match &trees.open[side as usize] {
                Some(tree) => fillings[side as usize] = filling_of(&tree.state()?),
                None if trees.promoted[side as usize] => {}
                None => return Ok(None),
            }
        }
        Ok(Some(fillings))
    }

    /// Deletes the children's B-trees, durably. Nothing is made here afterwards.
    pub(crate) fn destroy(&self) -> Result<(), TreeError> {
        let mut trees = self.trees.lock();
        trees.closed = true;
        for side in SIDES {
            drop(trees.open[side as usize].take());
            remove_folder(&self.path(side))?;
        }
        sync_dir(&self.folder)
    }

    /// Turns the children's B-trees into replicas that have not begun, except those for which another replica is on this node
    /// already. May be repeated after any interruption.
    pub(crate) fn install(
        &self,
        wal: &Wal,
        parent: &PartitionState,
        member: &Member,
        others: [bool; 2],
    ) -> Result<Vec<Made>, String> {
        let mut trees = self.trees.lock();
        let split = parent.split.as_ref();
        let committed = split.and_then(|split| split.committed.as_ref());
        let committed = committed.ok_or("the split is not committed")?;
        let mut made = Vec::new();
        for side in SIDES {
            if others[side as usize] {
                drop(trees.open[side as usize].take());
                remove_folder(&self.path(side)).map_err(|error| error.to_string())?;
                continue;
            }
            let (tree, state) = self
                .promote(&mut trees, parent, committed, side)
                .map_err(|error| error.to_string())?;
            let restored = split::restored_child(&state, member);
            let group = split::child_of(&self.split, side);
            self.step().map_err(|error| error.to_string())?;
            log_founding(wal, group, &restored)?;
            made.push(Made {
                group,
                tree,
                state,
                restored,
                split: split_context(self.parent.0, self.split.left.0, self.split.right.0),
            });
        }
        trees.closed = true;
        Ok(made)
    }

    /// Gives a child its first state and its folder's final name.
    fn promote(
        &self,
        trees: &mut Trees,
        parent: &PartitionState,
        committed: &CommittedSplit,
        side: Side,
    ) -> Result<(ReplicaTree, PartitionState), TreeError> {
        let target = self
            .folder
            .join(split::child_of(&self.split, side).0.to_string());
        self.open(trees, side)?;
        if let Some(tree) = trees.open[side as usize].take() {
            let begun = split::begun_child(parent, self.parent, &self.split, committed, side);
            self.step()?;
            let result = tree.add(&begun, &[]);
            drop(tree);
            result?;
            self.step()?;
            rename(&self.path(side), &target)?;
            trees.promoted[side as usize] = true;
        }
        // An earlier attempt may have come so far.
        ReplicaTree::open(&target, self.options)
    }
}

/// How far a child with this state is: one that was given its first state as a replica is filled.
fn filling_of(state: &PartitionState) -> Filling {
    state.filling.clone().unwrap_or(Filling::FULL)
}

/// Where a child's B-tree is until it is a replica.
pub(crate) fn child_folder(replicas: &Path, child: GroupId) -> PathBuf {
    replicas.join(format!("{}.{SUFFIX}", child.0))
}

/// Gives a folder another name, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), TreeError> {
    std::fs::rename(from, to).map_err(|error| TreeError::io(from, "renaming", &error))?;
    btree::sync_parent(to)
}

/// Writes the founding of a replica to the log and waits until it is durable. Blocks.
fn log_founding(wal: &Wal, group: GroupId, restored: &Restored) -> Result<(), String> {
    let install = PersistOp::Install {
        index: restored.floor.index,
        ballot: restored.floor.ballot,
        configuration: restored.configuration.clone(),
        identity: restored.identity,
    };
    let (sender, written) = std::sync::mpsc::channel();
    let queued = wal.append(group, vec![install], move |result| {
        let _ = sender.send(result);
    });
    queued.map_err(|error| error.to_string())?;
    match written.recv() {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the write-ahead log has stopped".to_owned()),
    }
}

/// Deletes children's B-trees that no replica on this node knows of. For the start of a node.
pub(crate) fn tidy(replicas: &Path, known: impl Fn(GroupId) -> bool) -> Result<(), TreeError> {
    let io = |error: std::io::Error| TreeError::io(replicas, "listing", &error);
    for entry in std::fs::read_dir(replicas).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if let Some(child) = child_in(&path)
            && !child.is_some_and(&known)
        {
            remove_folder(&path)?;
        }
    }
    Ok(())
}

/// Whether a folder is a child's that is no replica yet; which.
pub(crate) fn child_in(path: &Path) -> Option<Option<GroupId>> {
    (path.extension() == Some(OsStr::new(SUFFIX))).then(|| {
        let number = path.file_stem()?.to_str()?.parse().ok()?;
        Some(GroupId(number))
    })
}
