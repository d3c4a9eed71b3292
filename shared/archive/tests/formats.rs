//! Formats: what is written is read again; whatever is changed, cut off, left out, doubled or put elsewhere is refused.

use archive::check::{CheckError, check};
use archive::key::{ObjectName, parse, parse_folder};
use archive::segment::{self, Digester};
use archive::snapshot::Part;
use archive::{
    Birth, Digest, Fault, Origin, PartitionRef, Segment, SegmentManifest, SnapshotManifest,
    SplitMark, Tail,
};
use bytes::Bytes;
use model::key::table_range;
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{KeyRange, TableDefinition, TableId};
use partition::command;
use paxos::{Ballot, Configuration, Entry, GroupId, Member, NodeId, Payload, Role};
use proptest::prelude::*;
use protocol::split::{CommittedSplit, Split};

const UUID: &str = "5e0d3a52-98c4-4d0a-a0a5-2c1d4f1e7a11";

fn place() -> PartitionRef {
    PartitionRef::new(UUID, GroupId(7)).unwrap()
}

fn definition() -> TableDefinition {
    TableDefinition {
        id: TableId(20),
        name: "films".into(),
        version: 3,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "title".into(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 1_700_000_000_000,
        uuid: UUID.into(),
        deletion_protection: false,
        table_class: None,
        tags: [("team".to_owned(), "\u{1F3AC} \"x\"".to_owned())].into(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

fn birth() -> Birth {
    Birth {
        partition: place(),
        range: table_range(TableId(20)),
        origin: Origin::Founded,
        table: definition(),
    }
}

fn key(n: u8) -> Bytes {
    let mut key = 20u64.to_be_bytes().to_vec();
    key.extend([0, 0, n]);
    key.into()
}

fn ballot(round: u64) -> Ballot {
    Ballot {
        round,
        node: NodeId(2),
    }
}

fn entry(index: u64, payload: Payload) -> Entry {
    Entry {
        index,
        ballot: ballot(1 + index / 3),
        payload,
    }
}

fn put(index: u64, n: u8, time_ms: u64) -> Entry {
    let command = command::encode_write(time_ms, &key(n), Some(b"item"), 0, 4);
    entry(index, Payload::Command(command))
}

fn member(node: u64, role: Role) -> Member {
    Member {
        node: NodeId(node),
        role,
        incarnation: u64::MAX - node,
    }
}

fn configuration() -> Configuration {
    Configuration {
        generation: 5,
        members: vec![
            member(1, Role::Storage),
            member(2, Role::Storage),
            member(3, Role::Log),
        ],
        joint: Some(vec![member(1, Role::Storage)]),
        learners: vec![member(9, Role::Storage)],
    }
}

/// One of each kind; the clock of the fourth entry's leader is behind.
fn entries() -> Vec<Entry> {
    let delete = command::encode_write(1_090, &key(1), None, 4, 0);
    let table = command::encode_set_table(
        1_200,
        &TableDefinition {
            version: 4,
            ..definition()
        },
    )
    .unwrap();
    vec![
        entry(1, Payload::Noop),
        put(2, 1, 1_000),
        put(3, 2, 1_100),
        entry(4, Payload::Command(delete)),
        entry(5, Payload::Config(configuration())),
        entry(6, Payload::Command(table)),
        entry(
            7,
            Payload::Command(command::encode_commit_split(1_150, GroupId(9)).unwrap()),
        ),
        entry(8, Payload::Noop),
    ]
}

fn checked() -> archive::check::Checked {
    check(&birth(), &birth().tail(), &entries()).unwrap()
}

fn snapshot() -> (SnapshotManifest, Vec<Bytes>) {
    let pairs = |from: u8| -> Vec<(Bytes, Bytes)> {
        (from..from + 3)
            .map(|n| (key(n), Bytes::from(vec![n; 5])))
            .collect()
    };
    let (first, one) = Part::encode(&place(), 8, 0, &pairs(1)).unwrap();
    let (second, other) = Part::encode(&place(), 8, 1, &pairs(7)).unwrap();
    let split = Split {
        point: key(5),
        left: GroupId(9),
        right: GroupId(10),
        committed: Some(CommittedSplit {
            time_ms: 0,
            at: 7,
            configuration: configuration(),
        }),
    };
    let state = partition::PartitionState {
        applied: 8,
        ballot: ballot(3),
        items: 6,
        bytes: 66,
        parent: Some(GroupId(3)),
        split: Some(split),
        ..partition::PartitionState::empty(configuration(), birth().range, definition(), Vec::new())
    };
    let tail = Tail {
        index: 8,
        time_ms: 1_200,
        ..Tail::default()
    };
    (
        SnapshotManifest::of(&place(), &state, &tail, vec![first, second]),
        vec![one, other],
    )
}

/// Every single flipped bit, and every shorter body, must be refused.
fn all_damage_is_refused(bytes: &Bytes, open: impl Fn(&Bytes) -> Result<(), Fault>) {
    assert_eq!(open(bytes), Ok(()));
    for at in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[at / 8] ^= 1 << (at % 8);
        let refused = open(&damaged.into());
        assert!(
            refused.is_err(),
            "bit {at} of {} was not missed",
            bytes.len() * 8
        );
    }
    for length in 0..bytes.len() {
        assert!(
            open(&bytes.slice(..length)).is_err(),
            "{length} of {} bytes were enough",
            bytes.len()
        );
    }
    let mut longer = bytes.to_vec();
    longer.push(b'\n');
    assert!(open(&longer.into()).is_err(), "a byte more was not noticed");
}

#[test]
fn a_segment_refuses_all_damage() {
    let checked = checked();
    let decoded = checked.manifest.open(&checked.segment).unwrap();
    assert_eq!(decoded.entries, entries());
    all_damage_is_refused(&checked.segment, |bytes| {
        checked.manifest.open(bytes).map(drop)
    });
    // Also without any digest: by its own checksums.
    all_damage_is_refused(&checked.segment, |bytes| {
        Segment::decode(&place(), bytes).map(drop)
    });
    let name = checked.manifest.name();
    all_damage_is_refused(&checked.segment, |bytes| {
        Segment::decode_named(&place(), &name, bytes).map(drop)
    });
}

#[test]
fn a_segments_manifest_refuses_all_damage() {
    let manifest = checked().manifest;
    let bytes = manifest.encode().unwrap();
    let name = manifest.name();
    assert_eq!(
        SegmentManifest::decode(&place(), &name, &bytes),
        Ok(manifest)
    );
    all_damage_is_refused(&bytes, |bytes| {
        SegmentManifest::decode(&place(), &name, bytes).map(drop)
    });
}

#[test]
fn a_birth_refuses_all_damage() {
    for origin in [
        Origin::Founded,
        Origin::Adopted { at: 12 },
        Origin::Split {
            parent: GroupId(3),
            at: 900,
        },
    ] {
        let birth = Birth { origin, ..birth() };
        let (_, bytes) = birth.encode().unwrap();
        assert_eq!(Birth::decode(&place(), &bytes), Ok(birth));
        all_damage_is_refused(&bytes, |bytes| Birth::decode(&place(), bytes).map(drop));
    }
}

#[test]
fn a_snapshot_refuses_all_damage() {
    let (manifest, parts) = snapshot();
    let (name, bytes) = manifest.encode().unwrap();
    let decoded = SnapshotManifest::decode(&place(), &name, &bytes).unwrap();
    assert_eq!(decoded, manifest);
    assert_eq!(decoded.state().split, manifest.split);
    all_damage_is_refused(&bytes, |bytes| {
        SnapshotManifest::decode(&place(), &name, bytes).map(drop)
    });
    for (part, bytes) in manifest.parts.iter().zip(&parts) {
        let pairs = part.open(&place(), 8, bytes).unwrap();
        assert_eq!(pairs.len(), 3);
        all_damage_is_refused(bytes, |bytes| part.open(&place(), 8, bytes).map(drop));
    }
    // The other part, another position, another partition.
    assert!(manifest.parts[0].open(&place(), 8, &parts[1]).is_err());
    assert!(manifest.parts[0].open(&place(), 9, &parts[0]).is_err());
    let other = PartitionRef {
        partition: GroupId(8),
        ..place()
    };
    assert!(manifest.parts[0].open(&other, 8, &parts[0]).is_err());
    assert!(SnapshotManifest::decode(&other, &name, &bytes).is_err());
}

#[test]
fn a_snapshot_without_all_of_its_items_is_not_written() {
    let (mut manifest, _) = snapshot();
    manifest.parts.pop();
    assert!(matches!(manifest.encode(), Err(Fault::Contradicts(_))));
}

#[test]
fn a_snapshot_says_how_many_of_its_pairs_are_entries_of_local_indexes() {
    let (plain, _) = snapshot();
    let (_, without) = plain.encode().unwrap();
    assert!(
        !String::from_utf8_lossy(&without).contains("\"entries\""),
        "as manifests were before there were indexes"
    );
    let indexed = SnapshotManifest {
        items: 4,
        entries: 2,
        ..plain.clone()
    };
    let (name, bytes) = indexed.encode().unwrap();
    let decoded = SnapshotManifest::decode(&place(), &name, &bytes).unwrap();
    assert_eq!(decoded, indexed);
    assert_eq!((decoded.state().items, decoded.state().entries), (4, 2));
    for (items, entries) in [(4, 1), (5, 2), (6, 2), (u64::MAX, 7)] {
        let wrong = SnapshotManifest {
            items,
            entries,
            ..plain.clone()
        };
        assert!(matches!(wrong.encode(), Err(Fault::Contradicts(_))));
    }
}

#[test]
fn a_newer_format_is_called_so() {
    let (_, bytes) = birth().encode().unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let newer = text.replacen("\"format\":1", "\"format\":2", 1);
    let error = Birth::decode(&place(), newer.as_bytes()).unwrap_err();
    assert_eq!(error, Fault::UnknownFormat("birth version 2".to_owned()));
}

#[test]
fn a_manifest_says_what_the_log_says() {
    let manifest = checked().manifest;
    assert_eq!((manifest.first, manifest.last, manifest.entries), (1, 8, 8));
    assert_eq!(
        (manifest.first_time_ms, manifest.last_time_ms),
        (0, 1_200),
        "a running maximum"
    );
    assert_eq!(manifest.generation, 5);
    let mark = SplitMark {
        at: 7,
        time_ms: 1_200,
        left: GroupId(9),
    };
    assert_eq!(manifest.split, Some(mark));
    let firsts: Vec<u64> = manifest.ballots.iter().map(|b| b.first).collect();
    assert_eq!(firsts, [1, 3, 6]);
    assert_eq!(manifest.tail().ballot, ballot(3));
}

#[test]
fn another_partitions_entries_are_refused() {
    let other = PartitionRef {
        partition: GroupId(8),
        ..place()
    };
    let checked = checked();
    assert!(matches!(
        Segment::decode(&other, &checked.segment),
        Err(Fault::Foreign(_))
    ));
    let name = checked.manifest.name();
    let manifest = checked.manifest.encode().unwrap();
    assert!(matches!(
        SegmentManifest::decode(&other, &name, &manifest),
        Err(Fault::Foreign(_))
    ));
    // An entry of another partition's segment, bytes and checksum and all, in the place of one of ours.
    let ours = segment::encode(&place(), &entries()).unwrap();
    let theirs = segment::encode(&other, &entries()).unwrap();
    let last = segment::entry_bytes(&entries()[7]);
    let mut mixed = ours.to_vec();
    let at = mixed.len() - last;
    mixed[at..].copy_from_slice(&theirs[at..]);
    assert!(matches!(
        Segment::decode(&place(), &mixed.into()),
        Err(Fault::Damaged(_))
    ));
}

#[test]
fn nothing_dropped_doubled_or_foreign_is_uploaded() {
    let (birth, tail) = (birth(), birth().tail());
    let refused = |entries: &[Entry]| check(&birth, &tail, entries).unwrap_err();
    assert_eq!(refused(&[]), CheckError::Empty);
    for at in 0..7 {
        let mut dropped = entries();
        dropped.remove(at);
        let found = at as u64 + 2;
        assert_eq!(
            refused(&dropped),
            CheckError::Gap {
                due: found - 1,
                found
            }
        );
        let mut doubled = entries();
        doubled.insert(at, doubled[at].clone());
        assert_eq!(
            refused(&doubled),
            CheckError::Gap {
                due: at as u64 + 2,
                found: at as u64 + 1
            }
        );
    }
    let mut old = entries();
    old[4].ballot = ballot(1);
    assert!(matches!(
        refused(&old),
        CheckError::BallotFalls { index: 5, .. }
    ));
    let mut unreadable = entries();
    unreadable[2].payload = Payload::Command(Bytes::from_static(b"\x01\x63garbage garbage"));
    assert!(matches!(
        refused(&unreadable),
        CheckError::BadCommand { index: 3, .. }
    ));
    let mut foreign = entries();
    let command = command::encode_write(1, &21u64.to_be_bytes(), None, 0, 0);
    foreign[2].payload = Payload::Command(command);
    assert!(matches!(
        refused(&foreign),
        CheckError::ForeignKey { index: 3, .. }
    ));
    let mut other_table = entries();
    let table = TableDefinition {
        uuid: "other".into(),
        ..definition()
    };
    other_table[2].payload = Payload::Command(command::encode_set_table(1, &table).unwrap());
    assert!(matches!(
        refused(&other_table),
        CheckError::ForeignTable { index: 3, .. }
    ));
    let mut beyond = entries();
    beyond.push(Entry {
        ballot: ballot(9),
        ..put(9, 3, 1_300)
    });
    assert_eq!(refused(&beyond), CheckError::AfterSplit { index: 9 });
    let mut older = entries();
    older.push(Entry {
        index: 9,
        ballot: ballot(9),
        payload: Payload::Config(Configuration {
            generation: 4,
            ..configuration()
        }),
    });
    assert!(matches!(
        refused(&older),
        CheckError::GenerationFalls { index: 9, .. }
    ));
}

#[test]
fn births_agree_on_what_counts() {
    let later = Birth {
        table: TableDefinition {
            version: 8,
            ..definition()
        },
        ..birth()
    };
    let agreed = Birth::agree([later.clone(), birth()]).unwrap();
    assert_eq!(agreed, Some(birth()), "the earliest definition");
    assert_eq!(Birth::agree([]), Ok(None));
    let other = Birth {
        range: KeyRange {
            start: key(3),
            end: birth().range.end,
        },
        ..birth()
    };
    assert!(matches!(
        Birth::agree([birth(), other]),
        Err(Fault::Contradicts(_))
    ));
    let adopted = Birth {
        origin: Origin::Adopted { at: 5 },
        ..birth()
    };
    assert!(Birth::agree([birth(), adopted]).is_err());
    let foreign = Birth {
        table: TableDefinition {
            uuid: "x".into(),
            ..definition()
        },
        ..birth()
    };
    assert!(matches!(foreign.encode(), Err(Fault::Foreign(_))));
}

#[test]
fn keys_are_read_as_they_are_written_and_sort_by_position() {
    let manifest = checked().manifest;
    let (snapshot, _) = snapshot();
    let (name, _) = snapshot.encode().unwrap();
    let names = [
        ObjectName::Birth(Digest::of(b"x").short()),
        ObjectName::Segment(manifest.name()),
        ObjectName::SegmentManifest(manifest.name()),
        snapshot.parts[1].name(8),
        ObjectName::SnapshotManifest(name),
    ];
    for name in names {
        let key = place().key(&name);
        assert_eq!(parse(&key), Some((place(), name)), "{key}");
        for wrong in [
            key.replace("tables/", "table/"),
            key.replace('7', "x"),
            format!("{key}x"),
            key.to_uppercase(),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
    assert_eq!(parse_folder(&place().folder()), Some(place()));
    for uuid in ["", "..", "a/b", "A", "ä", &"x".repeat(65)] {
        assert!(PartitionRef::new(uuid, GroupId(1)).is_err(), "{uuid:?}");
    }
    let key = |first, last| {
        let name = archive::SegmentName::new(first, last, &Digest::of(b""));
        place().key(&ObjectName::Segment(name))
    };
    assert!(key(9, 10) < key(10, 12) && key(10, 12) < key(100, 101));
}

proptest! {
    #[test]
    fn any_entries_are_read_again_and_digested_alike(
        contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20),
        first in 1u64..1_000_000,
    ) {
        let entries: Vec<Entry> = contents
            .into_iter()
            .zip(first..)
            .map(|(content, index)| Entry { index, ballot: ballot(index), payload: Payload::Command(content.into()) })
            .collect();
        let encoded = segment::encode(&place(), &entries).unwrap();
        let last = entries.last().unwrap().index;
        let mut digester = Digester::new(&place(), first, last).unwrap();
        for entry in &entries {
            prop_assert_eq!(digester.next(), entry.index);
            digester.push(entry).unwrap();
        }
        prop_assert!(digester.push(&entries[0]).is_err());
        let digest = digester.finish().unwrap();
        prop_assert_eq!((digest.sha256, digest.bytes), (Digest::of(&encoded), encoded.len() as u64));
        let decoded = Segment::decode(&place(), &encoded).unwrap();
        prop_assert_eq!(decoded.entries, entries.clone());
        let mut unfinished = Digester::new(&place(), first, last + 1).unwrap();
        for entry in &entries {
            unfinished.push(entry).unwrap();
        }
        prop_assert!(unfinished.finish().is_err());
    }

    #[test]
    fn any_bytes_are_safe_to_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(Segment::decode(&place(), &bytes).is_err());
        prop_assert!(Birth::decode(&place(), &bytes).is_err());
        let (manifest, _) = snapshot();
        prop_assert!(manifest.parts[0].open(&place(), 8, &bytes).is_err());
    }
}

#[test]
fn a_snapshot_says_what_is_pending_in_it() {
    use partition::transactions::{Outcome, Prepared};
    use protocol::transact::{Settle, TransactionId, TransactionRef};

    let transaction = TransactionRef {
        id: TransactionId(1, u64::MAX),
        record: Bytes::from_static(b"record"),
        timestamp_ms: 1_000,
    };
    let prepared = Prepared {
        key: key(1),
        transaction: transaction.clone(),
        outcome: Outcome::Put(Bytes::from_static(b"image")),
        old_size_bytes: 4,
        new_size_bytes: 5,
        since_ms: 0,
    };
    let other = Settle {
        key: key(2),
        id: TransactionId(2, 2),
        timestamp_ms: 1_000,
        commit_ms: 1_100,
    };
    let commands = [
        command::encode_prepare(1_000, &prepared).unwrap(),
        command::encode_finish(1_100, &other).unwrap(),
    ];
    let mut machine = partition::Partition::<()>::new(birth().state(), Default::default());
    for (index, command) in (1..).zip(commands) {
        let entry = entry(index, Payload::Command(command));
        machine.apply(&entry, &mut Vec::new()).unwrap();
    }
    let (plain, _) = snapshot();
    let (_, without) = plain.encode().unwrap();
    assert!(!String::from_utf8_lossy(&without).contains("transactions"));
    let state = partition::PartitionState {
        items: 6,
        ..machine.state().clone()
    };
    let taken = SnapshotManifest::of(&place(), &state, &Tail::default(), plain.parts);
    let (name, bytes) = taken.encode().unwrap();
    let read = SnapshotManifest::decode(&place(), &name, &bytes).unwrap();
    let transactions = read.state().transactions;
    assert_eq!(transactions, state.transactions.only_pending());
    let pending = transactions.pending(&key(1)).unwrap();
    assert_eq!(pending.transaction, transaction);
    assert!(!transactions.has_finished(TransactionId(2, 2)));
}
