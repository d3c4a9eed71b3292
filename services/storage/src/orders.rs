//! The admin's orders: their answers, and the part of them that blocks on disks. Which order is due is decided by the shard,
//! which knows its groups; here is only what runs on the orders' thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh::Responder;
use partition::PartitionState;
use paxos::{Ballot, GroupId};
use protocol::control::{CreateReplica, OrderReply};
use protocol::item::{ItemFault, ItemReply};
use wal::Wal;

use crate::btree::{ReplicaTree, TreeError, TreeOptions};
use crate::fence::Fence;
use crate::inbox::{Event, Inbox};

/// Who gave an order.
pub(crate) struct OrderCaller(pub(crate) Responder);

impl OrderCaller {
    pub(crate) fn done(self) {
        self.0.reply(&OrderReply::Done);
    }

    pub(crate) fn refused(self, why: impl Into<String>) {
        self.0.reply(&OrderReply::Refused(why.into()));
    }

    /// What became of a `SetTable` that went through the log.
    pub(crate) fn answer(self, reply: &ItemReply) {
        self.0.reply(&match reply {
            ItemReply::Fault(ItemFault::NotHere { .. } | ItemFault::NotReady) => {
                OrderReply::NotLeader
            }
            ItemReply::Fault(fault) => OrderReply::Refused(format!("{fault:?}")),
            _ => OrderReply::Done,
        });
    }
}

/// Blocking part of an order.
pub(crate) enum OrderJob {
    /// Make the B-tree of a new replica.
    Create {
        folder: PathBuf,
        options: TreeOptions,
        order: Box<CreateReplica>,
        caller: OrderCaller,
        inbox: Arc<Inbox>,
    },
    /// Note that a replica is fenced.
    Mark { folder: PathBuf, fence: Fence },
    /// Forget a replica: its log, then its B-tree.
    Drop {
        group: GroupId,
        folder: PathBuf,
        tree: Option<Arc<ReplicaTree>>,
        caller: OrderCaller,
        inbox: Arc<Inbox>,
    },
}

/// The B-tree of a new replica is there, or not.
pub(crate) struct Created {
    pub(crate) group: GroupId,
    pub(crate) caller: OrderCaller,
    pub(crate) result: Result<(ReplicaTree, PartitionState), TreeError>,
}

/// How long a drop waits for others to let go of the B-tree.
const RELEASE_MAX: Duration = Duration::from_secs(30);

impl OrderJob {
    /// It will not be done.
    pub(crate) fn refuse(self, why: &str) {
        match self {
            Self::Create { caller, .. } | Self::Drop { caller, .. } => caller.refused(why),
            Self::Mark { .. } => {}
        }
    }

    /// Does it. Blocks.
    pub(crate) fn run(self, wal: &Wal) {
        match self {
            Self::Create {
                folder,
                options,
                order,
                caller,
                inbox,
            } => {
                let group = order.partition;
                let state = first_state(*order);
                let result =
                    ReplicaTree::create(&folder, options, &state).map(|tree| (tree, state));
                inbox.event(Event::Created(Box::new(Created {
                    group,
                    caller,
                    result,
                })));
            }
            Self::Mark { folder, fence } => {
                if let Err(error) = fence.mark(&folder) {
                    tracing::warn!(folder = %folder.display(), %error, "the fence is not noted on disk");
                }
            }
            Self::Drop {
                group,
                folder,
                tree,
                caller,
                inbox,
            } => {
                let dropped = drop_replica(wal, group, &folder, tree);
                inbox.event(Event::Dropped(group, dropped, caller));
            }
        }
    }
}

/// What a new partition's replica starts from.
fn first_state(order: CreateReplica) -> PartitionState {
    PartitionState {
        applied: 0,
        ballot: Ballot::default(),
        configuration: order.configuration,
        range: order.range,
        table: order.table,
        members: order.members,
        items: 0,
        bytes: 0,
    }
}

/// Marks a replica's folder whose drop has begun, so that a restart goes on with it.
pub(crate) const DROPPED_MARK: &str = "dropped";

/// First the mark, then the log's tombstone, then the files: a crash in between is completed at the next start.
fn drop_replica(
    wal: &Wal,
    group: GroupId,
    folder: &std::path::Path,
    tree: Option<Arc<ReplicaTree>>,
) -> Result<(), String> {
    if folder.exists() {
        let mark =
            std::fs::File::create(folder.join(DROPPED_MARK)).and_then(|mark| mark.sync_all());
        let synced = mark.and_then(|()| std::fs::File::open(folder)?.sync_all());
        synced.map_err(|error| format!("cannot mark {} as dropped: {error}", folder.display()))?;
    }
    forget_log(wal, group)?;
    let Some(tree) = tree else {
        return remove_folder(folder);
    };
    let tree = release(tree).ok_or_else(|| format!("{} is still in use", folder.display()))?;
    tree.destroy().map_err(|error| error.to_string())
}

/// Removes a group from the log, durably. Blocks.
pub(crate) fn forget_log(wal: &Wal, group: GroupId) -> Result<(), String> {
    let (sender, removed) = std::sync::mpsc::channel();
    let queued = wal.remove_group(group, move |result| {
        let _ = sender.send(result);
    });
    queued.map_err(|error| error.to_string())?;
    match removed.recv() {
        Ok(Ok(()) | Err(wal::WalError::UnknownGroup { .. })) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the write-ahead log has stopped".to_owned()),
    }
}

/// Removes a replica's folder whose B-tree is not open.
pub(crate) fn remove_folder(folder: &std::path::Path) -> Result<(), String> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("cannot remove {}: {error}", folder.display())),
    }
}

/// The tree, once nobody else has it (a copy being served ends within its time).
pub(crate) fn release(mut tree: Arc<ReplicaTree>) -> Option<ReplicaTree> {
    let started = Instant::now();
    loop {
        match Arc::try_unwrap(tree) {
            Ok(tree) => return Some(tree),
            Err(shared) if started.elapsed() < RELEASE_MAX => {
                tree = shared;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return None,
        }
    }
}
