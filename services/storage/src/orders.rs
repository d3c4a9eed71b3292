//! The admin's orders: their answers, and the part of them that blocks on disks. Which order is due is decided by the shard,
//! which knows its groups; here is only what runs on the orders' thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use btree::{ReplicaTree, TreeError, TreeOptions};
use mesh::{Delivery, Responder, TraceContext};
use model::EncodedKey;
use partition::{Batch, PartitionState};
use paxos::{GroupId, Identity, Member};
use protocol::archive::ArchiveReply;
use protocol::control::{JoinReplica, OrderReply};
use protocol::item::{ItemFault, ItemReply};
use wal::Wal;

use crate::children::Children;
use crate::fence::Fence;
use crate::inbox::{Event, Inbox};
use crate::node::Node;

/// Who gave an order.
pub(crate) struct OrderCaller {
    responder: Responder,
    /// What the order is part of.
    cause: TraceContext,
}

impl OrderCaller {
    pub(crate) fn new(delivery: Delivery) -> Self {
        Self {
            cause: delivery.trace,
            responder: delivery.responder(),
        }
    }

    /// What the order is part of, for what comes about because of it.
    pub(crate) fn cause(&self) -> TraceContext {
        self.cause
    }

    pub(crate) fn done(self) {
        self.responder.reply(&OrderReply::Done);
    }

    pub(crate) fn refused(self, why: impl Into<String>) {
        self.responder.reply(&OrderReply::Refused(why.into()));
    }

    pub(crate) fn joined(self, incarnation: u64) {
        self.responder.reply(&OrderReply::Joined { incarnation });
    }

    pub(crate) fn not_leader(self) {
        self.responder.reply(&OrderReply::NotLeader);
    }

    pub(crate) fn middle(self, key: Option<EncodedKey>) {
        self.responder.reply(&OrderReply::Middle(key));
    }

    /// The order is older than what this node knows: the generation or epoch that counts.
    pub(crate) fn stale(self, current: u64) {
        self.responder.reply(&OrderReply::Stale(current));
    }

    /// What became of a `SetTable` that went through the log.
    pub(crate) fn answer(self, reply: &ItemReply) {
        self.responder.reply(&match reply {
            ItemReply::Fault(ItemFault::NotHere { .. } | ItemFault::NotReady) => {
                OrderReply::NotLeader
            }
            ItemReply::Fault(ItemFault::Api(error)) => OrderReply::Refused(error.message.clone()),
            ItemReply::Fault(fault) => OrderReply::Refused(format!("{fault:?}")),
            _ => OrderReply::Done,
        });
    }
}

/// An archiver that asked something.
pub(crate) struct ArchiveCaller(pub(crate) Responder);

impl ArchiveCaller {
    pub(crate) fn answer(self, reply: &ArchiveReply) {
        self.0.reply(reply);
    }

    pub(crate) fn unavailable(self, why: String) {
        self.answer(&ArchiveReply::Unavailable(why));
    }
}

/// Who waits for a replica to be founded, durably.
pub(crate) enum Founder {
    /// `CreateReplica`.
    First(OrderCaller),
    /// `JoinReplica`.
    Joining(OrderCaller),
}

impl Founder {
    /// Why the replica is filled with a copy of the others; none: it is not.
    pub(crate) fn cause(&self) -> TraceContext {
        match self {
            Self::First(_) => TraceContext::default(),
            Self::Joining(caller) => caller.cause(),
        }
    }

    /// The replica is there.
    pub(crate) fn founded(self, incarnation: u64) {
        match self {
            Self::First(caller) => caller.done(),
            Self::Joining(caller) => caller.joined(incarnation),
        }
    }

    pub(crate) fn refused(self, why: impl Into<String>) {
        match self {
            Self::First(caller) | Self::Joining(caller) => caller.refused(why),
        }
    }
}

/// Why a replica is dropped, and who waits for it.
pub(crate) enum Dropping {
    /// Its table is deleted: the directory is told.
    Deleted(OrderCaller),
    /// It is no longer in its group; nobody may wait.
    Retired(Option<OrderCaller>),
    /// A new one takes its place.
    Replaced(Box<JoinReplica>, OrderCaller),
}

impl Dropping {
    pub(crate) fn refused(self, why: impl Into<String>) {
        match self {
            Self::Deleted(caller) | Self::Retired(Some(caller)) | Self::Replaced(_, caller) => {
                caller.refused(why);
            }
            Self::Retired(None) => {}
        }
    }
}

/// Blocking part of an order.
pub(crate) enum OrderJob {
    /// Make the B-tree of a new replica.
    Create {
        folder: PathBuf,
        options: TreeOptions,
        group: GroupId,
        state: Box<PartitionState>,
        identity: Identity,
        founder: Founder,
        inbox: Arc<Inbox>,
    },
    /// Note that a replica is fenced.
    Mark { folder: PathBuf, fence: Fence },
    /// Forget a replica: its log, then its B-tree.
    Drop {
        group: GroupId,
        folder: PathBuf,
        tree: Option<Arc<ReplicaTree>>,
        /// Of a split under way.
        children: Option<Arc<Children>>,
        dropping: Dropping,
        inbox: Arc<Inbox>,
    },
    /// Make a split's children replicas.
    Install(Box<InstallJob>),
}

/// Makes the children's replicas, notes it in the parent's B-tree, and lets them begin; in this order, whatever happens in between.
pub(crate) struct InstallJob {
    pub(crate) parent: GroupId,
    pub(crate) tree: Arc<ReplicaTree>,
    pub(crate) children: Arc<Children>,
    /// The parent's state, which says that they are installed.
    pub(crate) note: Batch,
    /// The parent's replica on this node.
    pub(crate) member: Member,
    /// Children of which there is another replica on this node.
    pub(crate) others: [bool; 2],
    /// The parent is led here: the children stand for election.
    pub(crate) campaign: bool,
    pub(crate) node: Arc<Node>,
}

impl InstallJob {
    fn run(self, wal: &Wal) {
        let result = self.install(wal);
        let inbox = self.node.inbox(self.parent).clone();
        let parent = self.parent;
        // Whoever waits for the tree may have it.
        drop(self);
        inbox.event(Event::Installed(parent, result));
    }

    fn install(&self, wal: &Wal) -> Result<Box<PartitionState>, String> {
        let made = self
            .children
            .install(wal, &self.note.state, &self.member, self.others)?;
        let noted = self.tree.flush(&self.note);
        let state = noted.map_err(|error| error.to_string())?;
        for made in made {
            let inbox = self.node.inbox(made.group);
            inbox.event(Event::Begin(Box::new(made), self.campaign));
        }
        Ok(Box::new(state))
    }
}

/// The B-tree of a new replica is there, or not.
pub(crate) struct Created {
    pub(crate) group: GroupId,
    pub(crate) identity: Identity,
    pub(crate) founder: Founder,
    pub(crate) result: Result<(ReplicaTree, PartitionState), TreeError>,
}

/// How long a drop waits for others to let go of the B-tree.
const RELEASE_MAX: Duration = Duration::from_secs(30);

impl OrderJob {
    /// It will not be done.
    pub(crate) fn refuse(self, why: &str) {
        match self {
            Self::Create { founder, .. } => founder.refused(why),
            Self::Drop { dropping, .. } => dropping.refused(why),
            // Its caller keeps it.
            Self::Mark { .. } | Self::Install(_) => {}
        }
    }

    /// Does it. Blocks.
    pub(crate) fn run(self, wal: &Wal) {
        match self {
            Self::Create {
                folder,
                options,
                group,
                state,
                identity,
                founder,
                inbox,
            } => {
                let result =
                    ReplicaTree::create(&folder, options, &state).map(|tree| (tree, *state));
                inbox.event(Event::Created(Box::new(Created {
                    group,
                    identity,
                    founder,
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
                children,
                dropping,
                inbox,
            } => {
                let dropped = drop_replica(wal, group, &folder, tree, children);
                inbox.event(Event::Dropped(group, dropped, dropping));
            }
            Self::Install(job) => job.run(wal),
        }
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
    children: Option<Arc<Children>>,
) -> Result<(), String> {
    if folder.exists() {
        let mark =
            std::fs::File::create(folder.join(DROPPED_MARK)).and_then(|mark| mark.sync_all());
        let synced = mark.and_then(|()| std::fs::File::open(folder)?.sync_all());
        synced.map_err(|error| format!("cannot mark {} as dropped: {error}", folder.display()))?;
    }
    forget_log(wal, group)?;
    if let Some(children) = children {
        children.destroy().map_err(|error| error.to_string())?;
    }
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
