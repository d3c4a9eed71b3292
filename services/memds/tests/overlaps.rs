//! The map against a plain model, with partitions that overlap as splits and merges make them: of each partition the newest
//! description counts, of several that hold a key the one that was made last.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use memds::RouteMap;
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{KeyRange, TableDefinition, TableId};
use paxos::{Ballot, GroupId, Member, NodeId, Role};
use proptest::prelude::*;
use protocol::directory::{Lookup, LookupAnswer, PartitionInfo, PlacedMember, Push, TableRef};

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a test's few steps")]
enum Step {
    Learn(PartitionInfo),
    Drop(GroupId),
}

#[derive(Default)]
struct Model {
    partitions: BTreeMap<GroupId, PartitionInfo>,
    dropped: BTreeSet<GroupId>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Drop(id) => {
                self.dropped.insert(*id);
                self.partitions.remove(id);
            }
            Step::Learn(info) => {
                let rank = |p: &PartitionInfo| (p.generation, p.ballot, p.table_version);
                let known = self.partitions.get(&info.partition);
                let newer = known.is_none_or(|known| rank(info) > rank(known));
                if newer && !info.range.is_empty() && !self.dropped.contains(&info.partition) {
                    self.partitions.insert(info.partition, info.clone());
                }
            }
        }
    }

    fn of(&self, table: TableId, key: &[u8]) -> Option<&PartitionInfo> {
        let mut later_first = self.partitions.values().rev();
        later_first.find(|p| p.table == table && p.range.contains(key))
    }
}

/// Everything about a description follows from the partition and its version, as it does in a replicated log; only the range may
/// move with the generation.
fn described(id: u64, generation: u64, round: u64, table_version: u64) -> PartitionInfo {
    let mut draw = (id * 31 + generation) * 0x9E37_79B9;
    let mut next = |below: u64| {
        draw = draw.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(11);
        (draw >> 33) % below
    };
    let table = TableId(40 + id % 2);
    let (from, length) = (next(12), 1 + next(12));
    let bound = |at: u64| match at {
        // Also bounds that do not begin with the table's number, and the end of everything.
        0 => Bytes::new(),
        13.. => Bytes::new(),
        at => [&table.0.to_be_bytes()[..], &[0, 0, at as u8 * 16]]
            .concat()
            .into(),
    };
    let placed = |node: u64, role, incarnation| PlacedMember {
        member: Member {
            node: NodeId(node),
            role,
            incarnation,
        },
        zone: format!("az{}", node % 3),
    };
    let mut info = PartitionInfo {
        partition: GroupId(id),
        table,
        range: KeyRange {
            start: bound(from),
            end: bound(from + length),
        },
        generation,
        ballot: Ballot {
            round,
            node: NodeId(1 + round % 3),
        },
        leader: [None, Some(NodeId(1 + round % 3)), Some(NodeId(9))][next(3) as usize],
        members: (0..next(5))
            .map(|n| {
                placed(
                    n,
                    if next(4) == 0 {
                        Role::Log
                    } else {
                        Role::Storage
                    },
                    next(3),
                )
            })
            .collect(),
        table_version,
        ..PartitionInfo::default()
    };
    if next(4) == 0 {
        info.learners = vec![placed(7, Role::Storage, 123_456_789_123)];
    }
    info
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..14u64, 1..4u64, 1..4u64, 1..3u64).prop_map(|(id, g, r, v)| Step::Learn(described(id, g, r, v))),
        1 => (1..14u64).prop_map(|id| Step::Drop(GroupId(id))),
    ]
}

fn push(step: &Step) -> Push {
    let mut push = Push {
        node: NodeId(1),
        partitions: Vec::new(),
        tables: Vec::new(),
        dropped: Vec::new(),
    };
    match step {
        Step::Learn(info) => push.partitions.push(info.clone()),
        Step::Drop(id) => push.dropped.push(*id),
    }
    push
}

fn definition(id: u64) -> TableDefinition {
    TableDefinition {
        id: TableId(id),
        name: format!("t{id}"),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".into(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

fn tables() -> Push {
    Push {
        node: NodeId(1),
        partitions: Vec::new(),
        tables: vec![definition(40), definition(41)],
        dropped: Vec::new(),
    }
}

fn lookup(table: u64, key: &[u8]) -> Lookup {
    Lookup {
        table: TableRef::Id(TableId(table)),
        key: Some(Bytes::copy_from_slice(key)),
        known_table_version: 0,
        known_partition: None,
        known_id: None,
    }
}

fn found(answer: LookupAnswer) -> Option<PartitionInfo> {
    match answer {
        LookupAnswer::Found { partition, .. } => partition.map(|p| *p),
        _ => None,
    }
}

fn agrees(map: &RouteMap, model: &Model) {
    assert_eq!(map.partitions(), model.partitions.len());
    for id in 1..14 {
        assert_eq!(
            map.partition(GroupId(id)).as_ref(),
            model.partitions.get(&GroupId(id))
        );
    }
    for table in 40..42u64 {
        for at in 0..=255u8 {
            let key = [&table.to_be_bytes()[..], &[0, 0, at, 5]].concat();
            let expected = model.of(TableId(table), &key);
            assert_eq!(found(map.lookup(&lookup(table, &key))).as_ref(), expected);
        }
    }
}

proptest! {
    #[test]
    fn the_newest_description_of_the_last_partition_counts(
        steps in prop::collection::vec(step(), 0..60),
        shuffle in any::<u64>(),
    ) {
        let (mut map, mut model) = (RouteMap::default(), Model::default());
        for step in &steps {
            map.push(push(step));
            model.apply(step);
        }
        map.push(tables());
        agrees(&map, &model);

        // The same news in another order, and twice: the same map, by its hash and by its answers.
        let mut other = RouteMap::default();
        let mut order: Vec<usize> = (0..steps.len()).collect();
        order.sort_by_key(|n| (*n as u64 ^ shuffle).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for n in order.iter().chain(&order) {
            other.push(push(&steps[*n]));
        }
        other.push(tables());
        agrees(&other, &model);
        prop_assert_eq!(map.root(), other.root());
        prop_assert_eq!(map.covered(), other.covered());
        prop_assert_eq!(map.tables(), other.tables());
    }
}

fn plain(id: u64, range: (&str, &str), generation: u64) -> PartitionInfo {
    PartitionInfo {
        partition: GroupId(id),
        table: TableId(40),
        range: KeyRange {
            start: range.0.to_owned().into(),
            end: range.1.to_owned().into(),
        },
        generation,
        table_version: 1,
        ..PartitionInfo::default()
    }
}

fn id_of(map: &RouteMap, key: &str) -> Option<u64> {
    found(map.lookup(&lookup(40, key.as_bytes()))).map(|p| p.partition.0)
}

#[test]
fn a_split_partition_serves_only_what_its_parts_do_not_hold() {
    let learn = |map: &mut RouteMap, info| map.push(push(&Step::Learn(info)));
    let mut map = RouteMap::default();
    learn(&mut map, plain(7, ("a", "z"), 5));
    map.push(tables());
    learn(&mut map, plain(9, ("m", "z"), 1));
    assert_eq!((id_of(&map, "b"), id_of(&map, "n")), (Some(7), Some(9)));
    learn(&mut map, plain(8, ("a", "m"), 1));
    // The leader of old goes on pushing for a while.
    learn(&mut map, plain(7, ("a", "z"), 6));
    assert_eq!((id_of(&map, "b"), id_of(&map, "n")), (Some(8), Some(9)));
    assert_eq!((map.partitions(), map.covered()), (3, 1));
    // A split that came to nothing: the parts are dropped, and the whole counts again.
    for id in [8, 9] {
        map.push(push(&Step::Drop(GroupId(id))));
    }
    assert_eq!((id_of(&map, "b"), id_of(&map, "n")), (Some(7), Some(7)));
    assert_eq!((map.partitions(), map.covered()), (1, 0));
    // A split in place: the old partition keeps its number and half of its range, whichever half is told first.
    learn(&mut map, plain(12, ("a", "m"), 1));
    assert_eq!((id_of(&map, "b"), id_of(&map, "n")), (Some(12), Some(7)));
    learn(&mut map, plain(7, ("m", "z"), 7));
    assert_eq!((id_of(&map, "b"), id_of(&map, "n")), (Some(12), Some(7)));
    assert_eq!(map.covered(), 0);
}

#[test]
fn an_asker_with_the_old_partition_is_told_of_its_parts_whatever_the_generations() {
    let mut map = RouteMap::default();
    map.push(push(&Step::Learn(plain(7, ("a", "z"), 5))));
    map.push(tables());
    let knows = |id: u64, generation| Lookup {
        known_table_version: 1,
        known_partition: Some((generation, Ballot::default())),
        known_id: Some(GroupId(id)),
        ..lookup(40, b"b")
    };
    // The asker heard of the split first.
    assert!(matches!(map.lookup(&knows(8, 1)), LookupAnswer::Unchanged));
    map.push(push(&Step::Learn(plain(8, ("a", "m"), 1))));
    let told = found(map.lookup(&knows(7, 5))).map(|p| p.partition.0);
    assert_eq!(told, Some(8));
    assert!(matches!(map.lookup(&knows(8, 1)), LookupAnswer::Unchanged));
    // A part that was dropped is taken back.
    map.push(push(&Step::Drop(GroupId(8))));
    let told = found(map.lookup(&knows(8, 1))).map(|p| p.partition.0);
    assert_eq!(told, Some(7));
}
