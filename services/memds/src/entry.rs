//! How the map lies in its Perkle tree: keys, versions and values of its entries. Owns these encodings, all of them known to this
//! crate only; keys and versions are what memds nodes compare, so a change of theirs is a new `SCHEME`.
//!
//! | key | version | value |
//! |---|---|---|
//! | `p` ‖ table ‖ start of the range | `Stamp` | the rest of the partition |
//! | `c` ‖ partition | `Stamp` | none: covered partitions are kept beside the tree |
//! | `t` ‖ table | version of the definition | none: definitions are kept beside the tree |
//! | `d` ‖ partition | none | none: it was dropped |

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{KeyRange, TableId};
use paxos::{Ballot, GroupId, Member, NodeId, Role};
use perkle::{Entry, counter};
use protocol::directory::{PartitionInfo, PlacedMember};

/// Names how keys, versions and hashes are made. Nodes with different schemes don't compare.
pub(crate) const SCHEME: u32 = 1;

const PARTITION: u8 = b'p';
const COVERED: u8 = b'c';
const TABLE: u8 = b't';
const DROPPED: u8 = b'd';

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Partition(TableId, Bytes),
    Covered(GroupId),
    Table(TableId),
    Dropped(GroupId),
}

impl Kind {
    /// None: no entry has such a key.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        let (&kind, rest) = key.split_first()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let id = u64::from_be_bytes(*number);
        match (kind, rest) {
            (PARTITION, rest) => {
                let (tag, behind) = rest.split_first()?;
                let start = match tag {
                    1 => [number, behind].concat().into(),
                    _ => Bytes::copy_from_slice(behind),
                };
                Some(Self::Partition(TableId(id), start))
            }
            (COVERED, []) => Some(Self::Covered(GroupId(id))),
            (TABLE, []) => Some(Self::Table(TableId(id))),
            (DROPPED, []) => Some(Self::Dropped(GroupId(id))),
            _ => None,
        }
    }
}

fn numbered(kind: u8, number: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn covered_key(partition: GroupId) -> [u8; 9] {
    numbered(COVERED, partition.0)
}

pub(crate) fn table_key(table: TableId) -> [u8; 9] {
    numbered(TABLE, table.0)
}

pub(crate) fn dropped_key(partition: GroupId) -> [u8; 9] {
    numbered(DROPPED, partition.0)
}

/// What the keys of all dropped partitions start with.
pub(crate) const DROPPED_PREFIX: &[u8] = &[DROPPED];

/// What the keys of a table's partitions start with.
pub(crate) fn table_prefix(table: TableId) -> [u8; 9] {
    numbered(PARTITION, table.0)
}

/// The key of the partition of `table` that starts at `start`: in the order of the starts. A start begins with the table's
/// number as a rule, which is not said twice then.
pub(crate) fn partition_key(table: TableId, start: &[u8]) -> Vec<u8> {
    let number = table.0.to_be_bytes();
    let (tag, rest) = match start.strip_prefix(&number) {
        Some(rest) => (1, rest),
        None if start < &number[..] => (0, start),
        None => (2, start),
    };
    let mut key = Vec::with_capacity(10 + rest.len());
    key.extend_from_slice(&table_prefix(table));
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

/// What makes one description of a partition newer than another. The number of the partition goes first: of two partitions
/// at one place, the one that was made later counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) partition: GroupId,
    pub(crate) generation: u64,
    pub(crate) ballot: Ballot,
    pub(crate) table_version: u64,
}

impl Stamp {
    pub(crate) fn of(info: &PartitionInfo) -> Self {
        Self {
            partition: info.partition,
            generation: info.generation,
            ballot: info.ballot,
            table_version: info.table_version,
        }
    }

    /// As a version of an entry: bytes with the same order.
    pub(crate) fn version(&self) -> Vec<u8> {
        let mut version = Vec::with_capacity(16);
        for number in [
            self.partition.0,
            self.generation,
            self.ballot.round,
            self.ballot.node.0,
            self.table_version,
        ] {
            counter::put(number, &mut version);
        }
        version
    }

    /// None: it is no version of a partition.
    pub(crate) fn from_version(mut version: &[u8]) -> Option<Self> {
        let mut next = || counter::take(&mut version);
        Some(Self {
            partition: GroupId(next()?),
            generation: next()?,
            ballot: Ballot {
                round: next()?,
                node: NodeId(next()?),
            },
            table_version: next()?,
        })
    }
}

/// Encodes and decodes the rest of a partition. Owns the common parts: nodes with their zones and disks are kept once. There are
/// as many as the mesh has had storage nodes.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    places: Vec<Place>,
    numbers: BTreeMap<NodeId, BTreeMap<String, u32>>,
}

#[derive(Debug)]
struct Place {
    node: NodeId,
    zone: String,
    /// The first incarnation that was seen there: that of the node's disk, which all its founding members have.
    incarnation: u64,
}

/// Who leads: nobody, the node whose ballot it is, another.
const NOBODY: u8 = 0;
const OF_THE_BALLOT: u8 = 1;
const ANOTHER: u8 = 2;

impl Codec {
    /// `end ‖ leader ‖ members ‖ all that is not told otherwise, if there is any`.
    pub(crate) fn value(&mut self, info: PartitionInfo) -> Vec<u8> {
        let mut value = Vec::with_capacity(32);
        let (start, end) = (&info.range.start, &info.range.end);
        let shared = start.iter().zip(end).take_while(|(a, b)| a == b).count();
        counter::put(shared as u64, &mut value);
        counter::put((end.len() - shared) as u64, &mut value);
        value.extend_from_slice(&end[shared..]);
        match info.leader {
            None => value.push(NOBODY),
            Some(leader) if leader == info.ballot.node => value.push(OF_THE_BALLOT),
            Some(leader) => {
                value.push(ANOTHER);
                counter::put(leader.0, &mut value);
            }
        }
        counter::put(info.members.len() as u64, &mut value);
        for placed in &info.members {
            let place = self.place(placed);
            let own = self.places[place as usize].incarnation != placed.member.incarnation;
            let is_log = placed.member.role == Role::Log;
            counter::put(
                u64::from(place) << 2 | u64::from(is_log) << 1 | u64::from(own),
                &mut value,
            );
            if own {
                value.extend_from_slice(&placed.member.incarnation.to_le_bytes());
            }
        }
        let rest = rest_of(info);
        if rest != PartitionInfo::default()
            && let Ok(bytes) = rmp_serde::to_vec(&rest)
        {
            value.extend_from_slice(&bytes);
        }
        value
    }

    /// The partition of an entry. None: it is not one that `value` made.
    pub(crate) fn partition(&self, entry: &Entry<'_>) -> Option<PartitionInfo> {
        let Kind::Partition(table, start) = Kind::of(entry.key)? else {
            return None;
        };
        let stamp = Stamp::from_version(entry.version)?;
        let (end, mut value) = end_of(&start, entry.value)?;
        let (&leader, behind) = value.split_first()?;
        value = behind;
        let leader = match leader {
            NOBODY => None,
            OF_THE_BALLOT => Some(stamp.ballot.node),
            _ => Some(NodeId(counter::take(&mut value)?)),
        };
        let count = counter::take(&mut value)?;
        let mut members = Vec::new();
        for _ in 0..count {
            let code = counter::take(&mut value)?;
            let place = self.places.get(usize::try_from(code >> 2).ok()?)?;
            let mut incarnation = place.incarnation;
            if code & 1 == 1 {
                let (own, behind) = value.split_first_chunk::<8>()?;
                (incarnation, value) = (u64::from_le_bytes(*own), behind);
            }
            let role = match code & 2 {
                0 => Role::Storage,
                _ => Role::Log,
            };
            members.push(PlacedMember {
                member: Member {
                    node: place.node,
                    role,
                    incarnation,
                },
                zone: place.zone.clone(),
            });
        }
        let rest = match value {
            [] => PartitionInfo::default(),
            bytes => rmp_serde::from_slice(bytes).ok()?,
        };
        Some(PartitionInfo {
            partition: stamp.partition,
            table,
            range: KeyRange { start, end },
            generation: stamp.generation,
            ballot: stamp.ballot,
            leader,
            members,
            table_version: stamp.table_version,
            ..rest
        })
    }

    fn place(&mut self, placed: &PlacedMember) -> u32 {
        let of_node = self.numbers.entry(placed.member.node).or_default();
        if let Some(&number) = of_node.get(&placed.zone) {
            return number;
        }
        let number = self.places.len() as u32;
        of_node.insert(placed.zone.clone(), number);
        self.places.push(Place {
            node: placed.member.node,
            zone: placed.zone.clone(),
            incarnation: placed.member.incarnation,
        });
        number
    }
}

/// The end of the range of a partition with that start, and the value behind it.
pub(crate) fn end_of<'a>(start: &[u8], mut value: &'a [u8]) -> Option<(Bytes, &'a [u8])> {
    let shared = usize::try_from(counter::take(&mut value)?).ok()?;
    let own = usize::try_from(counter::take(&mut value)?).ok()?;
    let (own, behind) = value.split_at_checked(own)?;
    let end = [start.get(..shared)?, own].concat();
    Some((end.into(), behind))
}

/// All of a partition that neither key nor version nor the fields above tell.
fn rest_of(info: PartitionInfo) -> PartitionInfo {
    PartitionInfo {
        partition: GroupId::default(),
        table: TableId::default(),
        range: KeyRange::default(),
        generation: 0,
        ballot: Ballot::default(),
        leader: None,
        members: Vec::new(),
        table_version: 0,
        ..info
    }
}
