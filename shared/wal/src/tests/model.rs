//! What a log should hold, kept the simple way; and helpers to drive a real log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use paxos::{
    Ballot, Configuration, Entry, GroupId, Identity, Index, Member, NodeId, Payload, PersistOp,
    Position, Role,
};
use proptest::prelude::*;

use crate::log::{RecoveredGroup, Wal};
use crate::options::WalOptions;
use crate::{Overloaded, WalError};

pub(crate) const NODE: NodeId = NodeId(7);
pub(crate) const INCARNATION: u64 = 0xfeed;

/// All groups, as recovery should report them.
pub(crate) type Model = BTreeMap<GroupId, RecoveredGroup>;

pub(crate) fn options(segment_bytes: u32) -> WalOptions {
    let on_fatal = std::sync::Arc::new(|error: &WalError| panic!("fatal: {error}"));
    WalOptions {
        segment_bytes,
        spare: false,
        on_fatal,
        ..WalOptions::new(NODE, INCARNATION)
    }
}

/// What was recovered, with all entries.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) groups: Model,
    pub(crate) damaged: BTreeMap<GroupId, String>,
    pub(crate) unattributed_damage: bool,
    pub(crate) torn_bytes: u64,
}

pub(crate) fn open(dir: &Path, segment_bytes: u32) -> (Wal, Recovery) {
    open_with(dir, options(segment_bytes))
}

pub(crate) fn open_with(dir: &Path, options: WalOptions) -> (Wal, Recovery) {
    let (wal, recovery) = Wal::open(dir, options).unwrap();
    let groups = recovery.groups.into_iter();
    let groups = groups.map(|(id, found)| {
        let loaded = wal.load(id, found, Position::default()).unwrap();
        (id, loaded)
    });
    let recovery = Recovery {
        groups: groups.collect(),
        damaged: recovery.damaged,
        unattributed_damage: recovery.unattributed_damage,
        torn_bytes: recovery.torn_bytes,
    };
    (wal, recovery)
}

pub(crate) fn ballot(round: u64) -> Ballot {
    Ballot {
        round,
        node: NodeId(1),
    }
}

/// Of a replica that joined later than its node's disk.
const IDENTITY: Identity = Identity {
    incarnation: 4_711,
    role: Role::Log,
    generation: 12,
};

pub(crate) fn configuration(generation: u64) -> Configuration {
    let member = Member {
        node: NODE,
        role: Role::Storage,
        incarnation: INCARNATION,
    };
    Configuration {
        generation,
        ..Configuration::founding(vec![member])
    }
}

pub(crate) fn entry(index: Index, len: usize) -> Entry {
    let payload = match len % 7 {
        0 => Payload::Noop,
        1 => Payload::Config(configuration(index)),
        _ => Payload::Command(Bytes::from(vec![index as u8; len])),
    };
    Entry {
        index,
        ballot: ballot(len as u64),
        payload,
    }
}

pub(crate) fn install(index: Index) -> PersistOp {
    PersistOp::Install {
        index,
        ballot: ballot(index),
        configuration: configuration(index),
        identity: IDENTITY,
    }
}

pub(crate) fn floor(index: Index) -> PersistOp {
    PersistOp::Floor {
        index,
        ballot: ballot(index),
        configuration: configuration(index),
    }
}

pub(crate) fn append(first: Index, lens: &[usize]) -> PersistOp {
    let entries = lens
        .iter()
        .enumerate()
        .map(|(at, len)| entry(first + at as u64, *len));
    PersistOp::Append(entries.collect())
}

/// Applies operations to the model.
pub(crate) fn apply(model: &mut Model, id: GroupId, ops: &[PersistOp]) {
    let group = model.entry(id).or_default();
    for op in ops {
        match op.clone() {
            PersistOp::Promise(ballot) => group.promised = group.promised.max(ballot),
            PersistOp::TruncateFrom(index) => group.entries.retain(|e| e.index < index),
            PersistOp::Append(entries) => group.entries.extend(entries),
            PersistOp::Install {
                index,
                ballot,
                configuration,
                identity,
            } => {
                group.floor = Position { ballot, index };
                group.configuration = Some(configuration);
                group.identity = Some(identity);
                group.entries.clear();
            }
            PersistOp::Floor {
                index,
                ballot,
                configuration,
            } => {
                if index >= group.floor.index {
                    group.floor = Position { ballot, index };
                    group.configuration = Some(configuration);
                    group.entries.retain(|e| e.index > index);
                }
            }
        }
    }
}

/// What a test does to a log: valid whatever the state is, since positions are relative.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Append {
        group: u64,
        truncate: u64,
        lens: Vec<usize>,
    },
    Promise {
        group: u64,
        round: u64,
    },
    Floor {
        group: u64,
        by: u64,
    },
    Install {
        group: u64,
        by: u64,
    },
    Remove {
        group: u64,
    },
}

pub(crate) fn actions(max: usize) -> impl Strategy<Value = Vec<Action>> {
    let group = 1_u64..5;
    let lens = prop::collection::vec(0_usize..300, 1..4);
    let action = prop_oneof![
        8 => (group.clone(), prop_oneof![4 => Just(0), 1 => 0_u64..4], lens)
            .prop_map(|(group, truncate, lens)| Action::Append { group, truncate, lens }),
        2 => (group.clone(), 0_u64..50).prop_map(|(group, round)| Action::Promise { group, round }),
        3 => (group.clone(), 0_u64..12).prop_map(|(group, by)| Action::Floor { group, by }),
        1 => (group.clone(), 0_u64..9).prop_map(|(group, by)| Action::Install { group, by }),
        1 => group.prop_map(|group| Action::Remove { group }),
    ];
    prop::collection::vec(action, 1..max)
}

/// The operations that an action stands for in this state; none = removal.
pub(crate) fn resolve(model: &Model, action: &Action) -> (GroupId, Option<Vec<PersistOp>>) {
    let state = |id: u64| {
        let group = model.get(&GroupId(id)).cloned().unwrap_or_default();
        let last = group.entries.last().map_or(group.floor.index, |e| e.index);
        (group.floor.index, last)
    };
    match action {
        Action::Append {
            group,
            truncate,
            lens,
        } => {
            let (floor_index, last) = state(*group);
            let keep = last.saturating_sub(*truncate).max(floor_index);
            let mut ops = vec![];
            if keep < last {
                ops.push(PersistOp::TruncateFrom(keep + 1));
            }
            ops.push(append(keep + 1, lens));
            (GroupId(*group), Some(ops))
        }
        Action::Promise { group, round } => (
            GroupId(*group),
            Some(vec![PersistOp::Promise(ballot(*round))]),
        ),
        Action::Floor { group, by } => {
            let (floor_index, last) = state(*group);
            (
                GroupId(*group),
                Some(vec![floor((floor_index + by).min(last))]),
            )
        }
        Action::Install { group, by } => {
            let (_, last) = state(*group);
            (GroupId(*group), Some(vec![install(last + by)]))
        }
        Action::Remove { group } => (GroupId(*group), None),
    }
}

/// Does an action to log and model; the receiver hears when it is durable.
pub(crate) fn act(
    wal: &Wal,
    model: &mut Model,
    action: &Action,
) -> Result<mpsc::Receiver<Result<(), WalError>>, Overloaded> {
    let (sender, receiver) = mpsc::channel();
    let done = move |result| {
        let _ = sender.send(result);
    };
    match resolve(model, action) {
        (id, Some(ops)) => {
            apply(model, id, &ops);
            wal.append(id, ops, done)?;
        }
        (id, None) => {
            model.remove(&id);
            wal.remove_group(id, done)?;
        }
    }
    Ok(receiver)
}

/// A folder in memory where there is one: what these tests do to files needs no disk, and syncs cost nothing there.
pub(crate) fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Appends and waits.
pub(crate) fn append_now(wal: &Wal, group: u64, ops: Vec<PersistOp>) -> Result<(), WalError> {
    let (sender, receiver) = mpsc::channel();
    wal.append(GroupId(group), ops, move |result| {
        sender.send(result).unwrap()
    })
    .unwrap();
    receiver.recv().unwrap()
}

/// Copies a folder of files.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Newest segment file of a folder.
pub(crate) fn last_segment(dir: &Path) -> std::path::PathBuf {
    let number = *crate::segment::list(dir).unwrap().last().unwrap();
    crate::segment::path(dir, number)
}
