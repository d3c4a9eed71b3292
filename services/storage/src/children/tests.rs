//! One replica of a parent on a real disk, which dies between any two of the transactions of a split, goes on from what it finds,
//! and dies again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use btree::fixtures::{SMALL, content, everything, item, key, state};
use bytes::Bytes;
use model::KeyRange;
use partition::change::{change_key, is_change_key};
use partition::command::{Command, CommandKind};
use partition::split::{Filling, Local, Task, next_task};
use partition::{Limits, Partition, PartitionState, command};
use paxos::{
    Ballot, Configuration, Entry, GroupId, Identity, Member, NodeId, Payload, PersistOp, Position,
    Role,
};
use protocol::changes::Tracking;
use protocol::split::Split;
use wal::{DataDir, Wal, WalOptions};

use super::*;
use crate::recovery::{Found, take_stock};

const PARENT: GroupId = GroupId(10);
const LEFT: GroupId = GroupId(11);
const RIGHT: GroupId = GroupId(12);
const ME: NodeId = NodeId(1);
const DISK: u64 = 77;
/// Items of the parent; the right child gets those from the middle on.
const ITEMS: u64 = 24;
/// So few that a chunk holds two items.
const CHUNK_BYTES: usize = 40;

fn member() -> Member {
    Member {
        node: ME,
        role: Role::Storage,
        incarnation: DISK,
    }
}

fn configuration() -> Configuration {
    Configuration::founding(vec![member()])
}

fn split() -> Split {
    Split {
        point: key(ITEMS / 2),
        left: LEFT,
        right: RIGHT,
        committed: None,
    }
}

/// The parent's log: items, the split begins, items are changed, removed and come back meanwhile, it is committed.
fn log() -> Vec<Entry> {
    // Some of the changes leave records.
    let write = |number: u64, item: Option<&[u8]>, sizes: (u64, u64)| match number % 4 {
        0 => command::encode_change(1, &key(number), item, sizes, &Tracking::default()),
        _ => command::encode_write(1, &key(number), item, sizes.0, sizes.1),
    };
    let put = |number, bytes| write(number, Some(&item(bytes)), (0, 1));
    let delete = |number| write(number, None, (1, 0));
    let mut commands: Vec<Bytes> = (0..ITEMS).map(|number| put(number, 3)).collect();
    commands.push(command::encode_begin_split(1, &split()).expect("encodes"));
    for number in 0..ITEMS {
        commands.push(delete(number));
        if number % 3 != 0 {
            commands.push(put(number, 5));
        }
    }
    commands.push(put(100, 2));
    commands.push(command::encode_commit_split(1, LEFT).expect("encodes"));
    let entry = |(index, command)| Entry {
        index,
        ballot: Ballot::from((1, 1)),
        payload: Payload::Command(command),
    };
    (1..).zip(commands).map(entry).collect()
}

/// What the children must hold.
fn expected(range: impl Fn(&Bytes) -> bool) -> Vec<(Bytes, Bytes)> {
    let mut items: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for number in (0..ITEMS).filter(|number| number % 3 != 0) {
        items.insert(key(number), item(5));
    }
    items.insert(key(100), item(2));
    items.into_iter().filter(|(key, _)| range(key)).collect()
}

/// The change records that the children must hold.
fn expected_records(range: &KeyRange) -> Vec<(Bytes, Bytes)> {
    let record = |entry: Entry| {
        let Payload::Command(command) = &entry.payload else {
            return None;
        };
        let CommandKind::Write(write) = Command::decode(command).expect("decodes").kind else {
            return None;
        };
        let value = write.change.filter(|_| range.contains(&write.key))?;
        Some((change_key((entry.index, 0)), value))
    };
    log().into_iter().filter_map(record).collect()
}

/// The open node.
struct Node {
    data_dir: DataDir,
    wal: Wal,
    found: BTreeMap<GroupId, Found>,
}

impl Node {
    fn open(folder: &Path) -> Self {
        let data_dir = DataDir::open(folder, ME, DISK).expect("opens");
        let options = WalOptions {
            spare: false,
            segment_bytes: 1 << 20,
            ..WalOptions::new(ME, data_dir.incarnation())
        };
        let (wal, recovery) = Wal::open(&data_dir.wal(), options).expect("opens");
        let inventory = take_stock(&data_dir, &wal, recovery, SMALL).expect("is taken");
        assert!(inventory.fenced.is_empty(), "{:?}", inventory.fenced);
        let found = inventory.replicas.into_iter();
        Self {
            data_dir,
            wal,
            found: found.map(|found| (found.group, found)).collect(),
        }
    }

    /// Makes the parent's replica, with its whole log.
    fn found(&self) {
        let first = PartitionState {
            configuration: configuration(),
            ..state(0)
        };
        let folder = self.data_dir.replicas().join(PARENT.0.to_string());
        ReplicaTree::create(&folder, SMALL, &first).expect("is made");
        let install = PersistOp::Install {
            index: 0,
            ballot: Ballot::default(),
            configuration: configuration(),
            identity: Identity {
                incarnation: DISK,
                role: Role::Storage,
                generation: 1,
            },
        };
        let (sender, written) = std::sync::mpsc::channel();
        let operations = vec![install, PersistOp::Append(log())];
        let done = move |result| sender.send(result).expect("somebody waits");
        self.wal.append(PARENT, operations, done).expect("room");
        written.recv().expect("written").expect("durable");
    }
}

/// The replica lives until its steps are used up, or until it has installed the children.
fn live(node: &mut Node, steps: &Arc<AtomicI64>) -> Result<(), String> {
    let parent = node.found.remove(&PARENT).expect("the parent is there");
    let (tree, state) = parent.store.expect("a storage replica");
    let mut durable = state.clone();
    let mut partition: Partition<u32> = Partition::new(state, Limits::default());
    let mut children: Option<Arc<Children>> = None;
    let mut fillings: Option<[Filling; 2]> = None;
    let text = |error: TreeError| error.to_string();
    let spent = || match steps.fetch_sub(1, Ordering::Relaxed) {
        0.. => Ok(()),
        _ => Err("died".to_owned()),
    };
    for round in 0..500 {
        let split = durable.split.as_ref().filter(|_| !durable.installed);
        if let (None, Some(split)) = (&children, split) {
            let mut made = Children::new(&node.data_dir.replicas(), SMALL, PARENT, split);
            Arc::get_mut(&mut made).expect("its only owner").steps = steps.clone();
            children = Some(made);
        }
        let local = Local {
            durable: &durable,
            applied: partition.state(),
            me: (ME, DISK),
            children: children.as_ref().map(|children| children.left()),
            fillings: fillings.as_ref().map(|[left, right]| [left, right]),
        };
        let task = next_task(&local);
        let rests = task == Task::Rest;
        match (task, &children) {
            (Task::Create, Some(open)) => {
                open.create(partition.state()).map_err(text)?;
                fillings = open.fillings().map_err(text)?;
            }
            (Task::Fill(side), Some(open)) => {
                open.fill(&tree, side, CHUNK_BYTES).map_err(text)?;
                fillings = open.fillings().map_err(text)?;
            }
            (Task::Discard, Some(open)) => {
                open.destroy().map_err(text)?;
                children = None;
            }
            (Task::Install, Some(open)) => {
                let note = partition.note_installed();
                open.install(&node.wal, &note.state, &member(), [false, false])?;
                spent()?;
                tree.flush(&note).map_err(text)?;
                return Ok(());
            }
            _ => {}
        }
        // Everything but the commit comes as it comes; that waits until all is ready, as the leader sees to.
        let applied = partition.state().applied;
        let entries = log();
        let next = entries.iter().filter(|entry| entry.index > applied).take(2);
        for entry in next {
            let commits = entry.index == entries.len() as u64;
            if !commits || rests {
                partition.apply(entry, &mut Vec::new()).expect("applies");
            }
        }
        if task == Task::Flush || round % 2 == 0 {
            let Some(batch) = partition.seal() else {
                continue;
            };
            if let Some(children) = &children {
                children.flush(&batch).map_err(text)?;
            }
            spent()?;
            durable = tree.flush(&batch).map_err(text)?;
            partition.flushed(durable.applied);
        }
    }
    Err("it never came to an end".to_owned())
}

/// Both children are replicas with what they must hold, and nothing else is left.
fn check(folder: &Path) {
    let mut node = Node::open(folder);
    assert_eq!(
        node.found.keys().copied().collect::<Vec<_>>(),
        [PARENT, LEFT, RIGHT]
    );
    let at = log().len() as u64;
    for (child, range) in [
        (
            LEFT,
            KeyRange {
                start: Bytes::new(),
                end: key(ITEMS / 2),
            },
        ),
        (
            RIGHT,
            KeyRange {
                start: key(ITEMS / 2),
                end: Bytes::new(),
            },
        ),
    ] {
        let found = node.found.remove(&child).expect("it is there");
        assert_eq!(
            found.restored.floor,
            Position {
                ballot: Ballot::default(),
                index: at
            }
        );
        assert_eq!(found.restored.identity.incarnation, DISK);
        let (tree, state) = found.store.expect("a storage replica");
        assert_eq!(
            (state.applied, state.parent, state.filling),
            (at, Some(PARENT), None)
        );
        assert_eq!(
            (&state.range, &state.configuration),
            (&range, &configuration())
        );
        let held = content(&tree, &everything(), false);
        let (records, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(key, _)| is_change_key(key));
        assert_eq!(records, expected_records(&range), "of group {}", child.0);
        assert!(records.len() > 3);
        assert_eq!(state.changes.count, records.len() as u64);
        assert_eq!(state.changes.lineage.len(), 1);
        assert_eq!(
            held,
            expected(|key| range.contains(key)),
            "group {}",
            child.0
        );
        assert_eq!(state.items, held.len() as u64);
    }
    let (_, state) = node
        .found
        .remove(&PARENT)
        .expect("there")
        .store
        .expect("a tree");
    assert!(state.installed && state.has_ended());
    for entry in std::fs::read_dir(node.data_dir.replicas()).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        assert!(
            ["10", "11", "12"].iter().any(|n| name == *n),
            "{name:?} is left"
        );
    }
    node.wal.close();
}

/// A life that ends after so many steps (or when all is done). True: all is done.
fn a_life(folder: &Path, steps: i64) -> bool {
    let mut node = Node::open(folder);
    let steps = Arc::new(AtomicI64::new(steps));
    let installed = |node: &Node| {
        let parent = node
            .found
            .get(&PARENT)
            .and_then(|found| found.store.as_ref());
        parent.is_some_and(|(_, state)| state.installed)
    };
    let done = installed(&node) || live(&mut node, &steps).is_ok();
    node.wal.close();
    done
}

#[test]
fn a_split_survives_a_crash_between_any_two_transactions() {
    let mut lives = 0;
    for steps in 0.. {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let node = Node::open(folder.path());
        node.found();
        node.wal.close();
        drop(node);
        let whole = a_life(folder.path(), steps);
        // It dies again soon after, and then lives.
        let _ = whole || a_life(folder.path(), steps % 3) || a_life(folder.path(), i64::MAX);
        check(folder.path());
        if whole {
            break;
        }
        lives += 1;
    }
    assert!(lives > 30, "only {lives} places to die at");
}
