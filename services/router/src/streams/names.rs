//! The names of the streams' API: ARNs, shard ids and sequence numbers, written and read. Pure.

use model::stream::Stream;
use protocol::changes::{GroupId, Place};

/// Sequence numbers begin here: they have 21 digits, as the service's do at least, and their order as texts is that of their values.
const SEQUENCE_BASE: u128 = 100_000_000_000_000_000_000;
/// Changes of one command.
const SUB_MAX: u128 = 10_000;

/// Table and label in `arn:aws:dynamodb:region:account:table/name/stream/label`.
pub(super) fn parse_arn(arn: &str) -> Option<(&str, &str)> {
    let rest = arn.strip_prefix("arn:")?;
    let (_, rest) = rest.split_once(":table/")?;
    let (table, label) = rest.split_once("/stream/")?;
    (!table.is_empty() && !label.is_empty() && !label.contains('/')).then_some((table, label))
}

/// The sequence number of a change.
pub(super) fn sequence_number((position, sub): Place) -> String {
    let number = SEQUENCE_BASE + u128::from(position) * SUB_MAX + u128::from(sub).min(SUB_MAX - 1);
    number.to_string()
}

/// The change that a sequence number names; none: it names none.
pub(super) fn place_of(number: &str) -> Option<Place> {
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let above = number.parse::<u128>().ok()?.checked_sub(SEQUENCE_BASE)?;
    let position = u64::try_from(above / SUB_MAX).ok()?;
    Some((position, (above % SUB_MAX) as u32))
}

/// The id of a partition's shard of a stream.
pub(super) fn shard_id(stream: &Stream, partition: GroupId) -> String {
    format!("shardId-{:020}-{:08x}", stream.created_ms, partition.0)
}

/// The partition whose shard of this stream it is.
pub(super) fn partition_of(stream: &Stream, id: &str) -> Option<GroupId> {
    let rest = id.strip_prefix("shardId-")?;
    let (created, partition) = rest.split_once('-')?;
    let partition = GroupId(u64::from_str_radix(partition, 16).ok()?);
    (created.parse() == Ok(stream.created_ms) && shard_id(stream, partition) == id)
        .then_some(partition)
}

#[cfg(test)]
mod tests {
    use model::stream::StreamViewType;

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let arn =
            "arn:aws:dynamodb:us-east-1:000000000000:table/music/stream/2024-01-01T00:00:00.000";
        assert_eq!(parse_arn(arn), Some(("music", "2024-01-01T00:00:00.000")));
        for wrong in [
            "",
            "arn:",
            "arn:aws:dynamodb:x:y:table/music",
            "music/stream/x",
        ] {
            assert_eq!(parse_arn(wrong), None, "{wrong}");
        }
        let places = [(0, 0), (1, 0), (1, 7), (2, 0), (u64::MAX / 20_000, 9_999)];
        let numbers: Vec<_> = places.into_iter().map(sequence_number).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert!(numbers.iter().all(|number| number.len() >= 21));
        for (place, number) in places.into_iter().zip(&numbers) {
            assert_eq!(place_of(number), Some(place));
        }
        for wrong in ["", "12", "x00000000000000000000", "-100000000000000000000"] {
            assert_eq!(place_of(wrong), None, "{wrong}");
        }
        let stream = Stream {
            created_ms: 1_700_000_000_000,
            view: StreamViewType::KeysOnly,
            ended_ms: None,
        };
        let id = shard_id(&stream, GroupId(77));
        assert_eq!(id, "shardId-00000001700000000000-0000004d");
        assert_eq!(partition_of(&stream, &id), Some(GroupId(77)));
        let other = Stream {
            created_ms: 1,
            ..stream
        };
        assert_eq!(partition_of(&other, &id), None);
        assert_eq!(partition_of(&stream, "shardId-1700000000000-4d"), None);
    }
}
