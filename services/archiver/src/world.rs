//! For tests: a partition whose three replicas answer from memory, one store, and instances that meet there. Owns the log as it really is, and notes
//! what its leader was told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::key::{ObjectName, parse};
use archive::segment;
use archive::{Chain, PartitionRef};
use bytes::Bytes;
use mesh::{Identity, LocalBus, Mesh, Subscription};
use model::key::table_range;
use model::{TableDefinition, TableId};
use objects::{ArchiveSettings, FaultStore, MemoryStore, Objects, Store};
use parking_lot::Mutex;
use partition::command;
use paxos::{Ballot, Entry, GroupId, Index, NodeId, Payload, Role};
use protocol::archive::{ArchiveCall, ArchiveReply, LedLog, LogReplica};
use protocol::subjects;
use telemetry::traces::Flows;

use crate::ArchiverSettings;
use crate::archiving::Work;
use crate::desk::Desk;
use crate::source::Source;

const TABLE: TableId = TableId(20);
const UUID: &str = "5e0d3a52-98c4-4d0a-a0a5-2c1d4f1e7a11";
pub(crate) const PARTITION: GroupId = GroupId(7);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const LEADER: NodeId = NODES[0];
/// Keys that are written in turn.
const KEYS: u64 = 5;
/// Entries in one answer of a node.
const PAGE: usize = 2;
/// Far more than any of it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What happens to a node's answer on its way.
pub(crate) type Bend = Box<dyn FnMut(&mut ArchiveReply) + Send>;

/// The log, equal at all replicas.
#[derive(Default)]
pub(crate) struct Log {
    /// From position 1 on, as if nothing were ever cut off.
    pub(crate) entries: Vec<Entry>,
    /// But at this node this position has something else.
    pub(crate) odd: Option<(NodeId, Index)>,
    /// Sees all answers.
    pub(crate) bend: Option<Bend>,
    /// The replicas' logs begin behind this position.
    floor: Index,
    /// The leader was told.
    archived: Index,
    /// It was told of more than the store had.
    told_too_much: bool,
}

impl Log {
    pub(crate) fn end(&self) -> Index {
        self.entries.len() as Index
    }

    fn answer(&mut self, node: NodeId, call: ArchiveCall, sealed: Index) -> ArchiveReply {
        let (first, last) = match call {
            ArchiveCall::Entries { first, last, .. } | ArchiveCall::Digest { first, last, .. } => {
                (first, last)
            }
            ArchiveCall::Archived { index, .. } => {
                self.told_too_much |= index > sealed;
                self.archived = self.archived.max(index);
                return ArchiveReply::Noted;
            }
            ArchiveCall::Status { .. } => return ArchiveReply::Unavailable("not asked".to_owned()),
        };
        if first <= self.floor {
            return ArchiveReply::Gone { floor: self.floor };
        }
        let entries = self.entries.iter();
        let entries = entries.filter(|entry| (first..=last).contains(&entry.index));
        let mut entries: Vec<Entry> = entries.cloned().collect();
        for entry in &mut entries {
            if self.odd == Some((node, entry.index)) {
                entry.payload = put(entry.index, b"itch");
            }
        }
        match call {
            _ if entries.is_empty() => ArchiveReply::Unavailable("not there yet".to_owned()),
            ArchiveCall::Entries { .. } => {
                ArchiveReply::Entries(entries.into_iter().take(PAGE).collect())
            }
            _ => {
                let segment = segment::encode(&partition(), &entries).unwrap();
                ArchiveReply::Digest(Bytes::copy_from_slice(
                    archive::Digest::of(&segment).bytes(),
                ))
            }
        }
    }
}

pub(crate) fn partition() -> PartitionRef {
    PartitionRef::new(UUID, PARTITION).unwrap()
}

pub(crate) fn definition() -> TableDefinition {
    TableDefinition {
        id: TABLE,
        name: "films".into(),
        version: 1,
        uuid: UUID.into(),
        ..Default::default()
    }
}

pub(crate) fn key(n: u64) -> Bytes {
    let mut key = TABLE.0.to_be_bytes().to_vec();
    key.extend([0, 0]);
    key.extend(n.to_be_bytes());
    key.into()
}

/// A write as of a position, of an item of four bytes.
pub(crate) fn put(index: Index, item: &[u8; 4]) -> Payload {
    let before = if index > KEYS { 4 } else { 0 };
    let write = command::encode_write(1_000 * index, &key(index % KEYS), Some(item), before, 4);
    Payload::Command(write)
}

fn settings() -> ArchiveSettings {
    ArchiveSettings {
        pause_ms: 1,
        pause_ms_max: 2,
        ..ArchiveSettings::default()
    }
}

/// Everything but the instances.
pub(crate) struct World {
    bus: LocalBus,
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) objects: Arc<MemoryStore>,
    pub(crate) faults: Arc<FaultStore>,
    _served: Vec<Subscription>,
}

impl World {
    pub(crate) async fn new() -> World {
        let (bus, log) = (LocalBus::new(), Arc::new(Mutex::new(Log::default())));
        let objects = Arc::new(MemoryStore::default());
        let mesh = join(&bus, "storage", 1);
        let mut served = Vec::new();
        for node in NODES {
            let (log, objects) = (log.clone(), objects.clone());
            let subject = subjects::node_archive(node);
            let serving = mesh.serve(&subject, None, move |delivery| {
                let call = delivery.decode().unwrap();
                let mut log = log.lock();
                let mut answer = log.answer(node, call, chain(&objects).reach(0));
                if let Some(bend) = &mut log.bend {
                    bend(&mut answer);
                }
                drop(log);
                delivery.reply(&answer);
            });
            served.push(serving.await.unwrap());
        }
        World {
            bus,
            log,
            faults: FaultStore::new(objects.clone()),
            objects,
            _served: served,
        }
    }

    /// An instance that cuts segments of about so many bytes.
    pub(crate) fn instance(&self, number: u64, segment_bytes: u64) -> Desk {
        let settings = ArchiverSettings {
            instance: number,
            segment_bytes,
            segment_age_ms: 0,
            compare_wait_ms: 600_000,
            retry_ms: 1,
            retry_ms_max: 2,
            ..ArchiverSettings::default()
        };
        let source = Source::new(join(&self.bus, "archiver", number), settings.call_ms);
        let objects = Objects::over(self.faults.clone() as Arc<dyn Store>, &self::settings());
        Desk::new(settings, source, objects, Flows::default())
    }

    /// So many more writes.
    pub(crate) fn write(&self, count: u64) {
        let mut log = self.log.lock();
        for index in log.end() + 1..=log.end() + count {
            let ballot = Ballot {
                round: 1,
                node: LEADER,
            };
            log.entries.push(Entry {
                index,
                ballot,
                payload: put(index, b"item"),
            });
        }
    }

    /// The replicas cut off what the leader knows to be archived.
    pub(crate) fn truncate(&self) {
        let mut log = self.log.lock();
        log.floor = log.archived;
    }

    /// The replicas lose their logs up to here, archived or not.
    pub(crate) fn lose(&self, floor: Index) {
        self.log.lock().floor = floor;
    }

    /// The leader describes its log to an instance.
    pub(crate) fn describe(&self, desk: &Desk) {
        let log = self.log.lock();
        let replica = |&node: &NodeId| LogReplica {
            node,
            incarnation: 1,
            role: Role::Storage,
            votes: true,
        };
        let described = LedLog {
            partition: PARTITION,
            table: TABLE,
            table_uuid: UUID.into(),
            definition: Some(Box::new(definition())),
            range: table_range(TABLE),
            replicas: NODES.iter().map(replica).collect(),
            floor: log.floor,
            committed: log.end(),
            archived: log.archived,
            unarchived_bytes: 100 * (log.end() - log.archived),
            ..LedLog::default()
        };
        let now_ms = desk.now_ms();
        (desk.survey.lock()).described(LEADER, vec![described], now_ms);
    }

    pub(crate) fn work(&self, desk: &Desk) -> Work {
        self.describe(desk);
        let known = desk.log(PARTITION).unwrap();
        Work::new(desk, &known).unwrap()
    }

    /// The instance works on, whatever it knows at first, until everything is archived and the leader knows that.
    pub(crate) async fn finish(&self, desk: &Desk, work: &mut Work) {
        let begun = Instant::now();
        loop {
            work.advance(desk).await;
            let (end, archived) = {
                let log = self.log.lock();
                (log.end(), log.archived)
            };
            if archived == end && work.course.end() == Some(end) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{:?} of {end} is archived, the leader knows of {archived}: {:?}",
                work.course.end(),
                desk.alarms.texts()
            );
            // It pauses after failures.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.describe(desk);
        }
    }

    /// What the store's manifests name.
    pub(crate) fn chain(&self) -> Chain {
        chain(&self.objects)
    }

    /// The leader was never told of more than what was archived.
    pub(crate) fn nothing_was_told_too_early(&self) -> bool {
        !self.log.lock().told_too_much
    }
}

fn chain(objects: &MemoryStore) -> Chain {
    let objects = objects.objects();
    let names = objects.keys().filter_map(|key| match parse(key)? {
        (_, ObjectName::SegmentManifest(name)) => Some(name),
        _ => None,
    });
    names.collect()
}

fn join(bus: &LocalBus, service: &str, instance: u64) -> Mesh {
    let identity = Identity {
        service: service.to_owned(),
        instance,
        incarnation: 1,
    };
    Mesh::local(bus, identity)
}
