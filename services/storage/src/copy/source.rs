//! The serving side of full copies. Owns the sessions, each with one consistent snapshot, bounded in number and life; chunks
//! are read on the one thread of this module, at a bounded rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use btree::{ReplicaTree, Snapshot, TreeError};
use bytes::Bytes;
use partition::PartitionState;
use paxos::{GroupId, NodeId};
use protocol::replication::{CopyChunk, CopyEnd, CopyRequest, chunk_crc};

/// Limits of the serving side.
#[derive(Clone, Copy, Debug)]
pub struct SourceOptions {
    /// Copies at a time; each keeps LMDB from reusing pages.
    pub sessions_max: usize,
    /// A session ends when nothing was asked of it for so long.
    pub idle_max: Duration,
    /// A session ends after so long in any case.
    pub life_max: Duration,
    /// Keys and values in a chunk, bytes.
    pub chunk_bytes: usize,
    /// Bytes a second over all copies, so that they never starve the service; none = unlimited.
    pub bytes_per_s: Option<u64>,
    /// Requests waiting.
    pub queue_max: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            sessions_max: 4,
            idle_max: Duration::from_secs(30),
            life_max: Duration::from_secs(3_600),
            // With framing under the 512 KiB from which on messages are cut up.
            chunk_bytes: 480 << 10,
            bytes_per_s: Some(64 << 20),
            queue_max: 64,
        }
    }
}

/// Too many requests are waiting: not answered, ask again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests for copies")]
pub struct Busy;

/// How an answer goes out.
type Reply = Box<dyn FnOnce(CopyChunk) + Send>;

struct Job {
    request: CopyRequest,
    tree: Option<Arc<ReplicaTree>>,
    reply: Reply,
}

/// The serving side. Dropping it ends all sessions.
pub struct CopySource {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl CopySource {
    /// Starts its thread.
    pub fn start(options: SourceOptions) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(options.queue_max.max(1));
        let sessions = Sessions {
            options,
            open: BTreeMap::new(),
            next_id: 1,
            next_read: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("copy-source".into())
            .spawn(move || sessions.run(&receiver))?;
        Ok(Self {
            jobs: Some(sender),
            thread: Some(thread),
        })
    }

    /// Queues a request. `tree` is the replica's B-tree if this node has it (needed for the first chunk only); it is let go as
    /// soon as the request is answered. Never blocks.
    pub fn serve(
        &self,
        request: CopyRequest,
        tree: Option<Arc<ReplicaTree>>,
        reply: impl FnOnce(CopyChunk) + Send + 'static,
    ) -> Result<(), Busy> {
        let job = Job {
            request,
            tree,
            reply: Box::new(reply),
        };
        let jobs = self.jobs.as_ref().ok_or(Busy)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })
    }
}

impl Drop for CopySource {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Session {
    group: GroupId,
    to: NodeId,
    snapshot: Snapshot,
    opened: Instant,
    used: Instant,
    /// Number of the chunk to be read next …
    next: u64,
    /// … the key behind which it starts …
    after: Option<Bytes>,
    /// … and the key behind which the one before started: a lost answer is given again.
    after_before: Option<Bytes>,
}

struct Sessions {
    options: SourceOptions,
    open: BTreeMap<u64, Session>,
    next_id: u64,
    /// When the rate allows the next chunk.
    next_read: Instant,
}

impl Sessions {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            // Sessions end on time also when nobody asks.
            let job = match self.open.is_empty() {
                true => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => jobs.recv_timeout(self.options.idle_max / 2),
            };
            self.end_old();
            match job {
                Ok(Job {
                    request,
                    tree,
                    reply,
                }) => {
                    self.wait_for_rate();
                    let chunk = self.chunk(&request, tree.as_deref());
                    drop(tree);
                    self.spend(&chunk);
                    reply(chunk);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn end_old(&mut self) {
        let SourceOptions {
            idle_max, life_max, ..
        } = self.options;
        self.open.retain(|_, session| {
            session.used.elapsed() < idle_max && session.opened.elapsed() < life_max
        });
    }

    fn wait_for_rate(&self) {
        let wait = self.next_read.saturating_duration_since(Instant::now());
        // A wrong rate must not turn into a hang.
        std::thread::sleep(wait.min(Duration::from_secs(1)));
    }

    fn spend(&mut self, chunk: &CopyChunk) {
        let Some(rate) = self.options.bytes_per_s else {
            return;
        };
        let bytes: usize = chunk
            .pairs
            .iter()
            .map(|(key, item)| key.len() + item.len())
            .sum();
        let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.next_read = self.next_read.max(Instant::now()) + cost;
    }

    /// Answers one request; a session that cannot go on is reported as expired.
    fn chunk(&mut self, request: &CopyRequest, tree: Option<&ReplicaTree>) -> CopyChunk {
        let id = match (request.session, tree) {
            (0, Some(tree)) => self.open(request, tree),
            (0, None) => None,
            (id, _) => Some(id),
        };
        let expired = CopyChunk {
            session: 0,
            pairs: Vec::new(),
            crc32c: 0,
            applied: 0,
            end: None,
            expired: true,
        };
        let Some(id) = id else { return expired };
        let Some(session) = self.open.get_mut(&id) else {
            return expired;
        };
        if (session.group, session.to) != (request.group, request.to) {
            return expired;
        }
        match session.chunk(request.chunk, self.options.chunk_bytes) {
            Ok(Some(chunk)) => CopyChunk {
                session: id,
                ..chunk
            },
            Ok(None) => expired,
            Err(error) => {
                if !matches!(error, TreeError::SnapshotGone { .. }) {
                    tracing::error!(group = request.group.0, %error, "a copy cannot be read");
                }
                self.open.remove(&id);
                expired
            }
        }
    }

    fn open(&mut self, request: &CopyRequest, tree: &ReplicaTree) -> Option<u64> {
        // Who asks anew has given up the old session.
        self.open
            .retain(|_, s| (s.group, s.to) != (request.group, request.to));
        if self.open.len() >= self.options.sessions_max {
            return None;
        }
        let snapshot = tree
            .snapshot()
            .inspect_err(|error| tracing::error!(%error, "no snapshot for a copy"))
            .ok()?;
        let id = self.next_id;
        self.next_id += 1;
        let now = Instant::now();
        let session = Session {
            group: request.group,
            to: request.to,
            snapshot,
            opened: now,
            used: now,
            next: 0,
            after: None,
            after_before: None,
        };
        self.open.insert(id, session);
        Some(id)
    }
}

impl Session {
    /// Chunk `number`: the next one, or the one before it again. None for any other.
    fn chunk(&mut self, number: u64, bytes_max: usize) -> Result<Option<CopyChunk>, TreeError> {
        let after = if number == self.next {
            self.after.clone()
        } else if number + 1 == self.next {
            self.after_before.clone()
        } else {
            return Ok(None);
        };
        self.used = Instant::now();
        let (pairs, is_last) = self.snapshot.pairs(after.as_deref(), bytes_max)?;
        if number == self.next {
            self.next += 1;
            let last = pairs.last().map(|(key, _)| key.clone());
            self.after_before = std::mem::replace(&mut self.after, last.or(after));
        }
        let crc32c = chunk_crc(&pairs);
        let end = is_last.then(|| end_of(self.snapshot.state()));
        Ok(Some(CopyChunk {
            session: 0,
            pairs,
            crc32c,
            applied: self.snapshot.state().applied,
            end,
            expired: false,
        }))
    }
}

fn end_of(state: &PartitionState) -> CopyEnd {
    CopyEnd {
        applied: state.applied,
        ballot: state.ballot,
        configuration: state.configuration.clone(),
        table: state.table.clone(),
        range: state.range.clone(),
        members: state.members.clone(),
        items: Some(state.items),
        entries: Some(state.entries),
        bytes: state.bytes,
        time_ms: state.time_ms,
        begins: state.begins,
        backfills: state.backfills.clone(),
        sources: state.sources.clone(),
        changes: state.changes.clone(),
        parent: state.parent,
        split: state.split.clone(),
        transactions: state.transactions.encode(),
    }
}
