use paxos::{Configuration, Member, Role};
use proptest::prelude::*;

use super::*;

const FROM: NodeId = NodeId(3);

fn ballot(round: u64) -> Ballot {
    Ballot {
        round,
        node: NodeId(9),
    }
}

fn append(entries: Vec<Entry>) -> Body {
    Body::Append(Append {
        ballot: ballot(5),
        sent: Millis(77),
        prev: Position {
            ballot: ballot(4),
            index: 10,
        },
        entries,
        commit: 9,
        floor: 2,
        healthy: true,
    })
}

fn entry(index: u64, payload: Payload) -> Entry {
    Entry {
        index,
        ballot: ballot(5),
        payload,
    }
}

fn bodies() -> Vec<Body> {
    let member = Member {
        node: NodeId(1),
        role: Role::Storage,
        incarnation: 4,
    };
    let configuration = Configuration {
        generation: 3,
        members: vec![member],
        ..Configuration::default()
    };
    vec![
        append(Vec::new()),
        append(vec![
            entry(11, Payload::Noop),
            entry(12, Payload::Command(Bytes::from_static(b"command"))),
            entry(13, Payload::Config(configuration)),
            entry(14, Payload::Command(Bytes::new())),
        ]),
        Body::Ack(Ack {
            ballot: ballot(5),
            sent: Millis(77),
            matched: 12,
            received: 14,
            flushed: 8,
        }),
        Body::Probe { attempt: 6 },
        Body::Refuse {
            promised: ballot(8),
        },
    ]
}

fn messages() -> Vec<GroupMessage> {
    let message = |(number, body)| {
        let message = Message {
            to_incarnation: 100 + number,
            generation: 7,
            body,
        };
        GroupMessage::new(GroupId(number), FROM, 200 + number, message)
    };
    (1..).zip(bodies()).map(message).collect()
}

fn batch() -> BatchWriter {
    let mut batch = BatchWriter::default();
    for m in messages() {
        batch
            .push(m.from, m.group, m.incarnation, m.message)
            .expect("encodes");
    }
    batch
}

fn read(bytes: &[u8]) -> Vec<Result<GroupMessage, Malformed>> {
    BatchReader::new(FROM, bytes)
        .map(|read| read.map(|(message, _)| message))
        .collect()
}

#[test]
fn messages_come_back_as_they_went_in_their_order() {
    let batch = batch();
    assert_eq!(batch.messages(), messages().len());
    let expected: Vec<_> = messages().into_iter().map(Ok).collect();
    assert_eq!(read(batch.bytes()), expected);
    let lengths = BatchReader::new(FROM, batch.bytes()).map(|read| read.expect("well formed").1);
    assert_eq!(lengths.sum::<usize>(), batch.bytes().len());
}

#[test]
fn a_cleared_writer_starts_over() {
    let mut batch = batch();
    batch.clear(16);
    assert_eq!((batch.bytes().len(), batch.messages()), (0, 0));
}

#[test]
fn the_sender_is_who_sent_the_batch_whatever_a_record_says() {
    let batch = batch();
    let other = BatchReader::new(NodeId(8), batch.bytes());
    assert!(
        other
            .into_iter()
            .all(|read| read.expect("well formed").0.from == NodeId(8))
    );
}

#[test]
fn unknown_kinds_and_trailing_fields_of_a_newer_sender_are_skipped() {
    let mut bytes = vec![99, 3, 0, 0, 0, 1, 2, 3];
    let old = batch();
    // A heartbeat comes first; let it grow by two bytes.
    let length = u32::from_le_bytes(old.bytes()[1..5].try_into().expect("four"));
    let end = HEAD_BYTES + length as usize;
    bytes.push(old.bytes()[0]);
    bytes.extend_from_slice(&(length + 2).to_le_bytes());
    bytes.extend_from_slice(&old.bytes()[HEAD_BYTES..end]);
    bytes.extend_from_slice(&[7, 7]);
    bytes.extend_from_slice(&old.bytes()[end..]);
    let expected: Vec<_> = messages().into_iter().map(Ok).collect();
    assert_eq!(read(&bytes), expected);
}

#[test]
fn a_malformed_record_does_not_take_the_others_with_it() {
    let mut bytes = vec![ACK, 1, 0, 0, 0, 5];
    bytes.extend_from_slice(batch().bytes());
    let read = read(&bytes);
    assert_eq!(read[0], Err(Malformed));
    assert_eq!(read.len(), 1 + messages().len());
    assert!(read[1..].iter().all(Result::is_ok));
}

#[test]
fn every_cut_ends_with_one_error() {
    let batch = batch();
    for end in 0..batch.bytes().len() {
        let read = read(&batch.bytes()[..end]);
        let broken = read.iter().filter(|read| read.is_err()).count();
        assert!(broken <= 1, "cut at {end}");
        assert!(read.iter().rev().skip(1).all(Result::is_ok), "cut at {end}");
        assert!(read.len() <= messages().len());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_safe_input(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        // At least five bytes a record.
        prop_assert!(read(&bytes).len() <= bytes.len());
    }

    #[test]
    fn any_change_of_a_batch_is_safe_input(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = batch().bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assert!(read(&bytes).len() <= bytes.len());
    }
}
