//! Records of a shard: the pages of the partitions that hold them made one, and what the API shows of each. Pure.

use model::codec::{encoded_item_size, pick_attributes};
use model::json;
use model::stream::Stream;
use model::{ApiError, TableDefinition};
use protocol::changes::{Change, ChangeRecord, Place};
use sha2::{Digest, Sha256};

use super::names::sequence_number;
use crate::answer::Answer;
use crate::texts;

/// What one partition gave of a shard.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// In order.
    pub(super) changes: Vec<Change>,
    /// All of its changes up to here were seen.
    pub(super) next: Place,
    /// There are no more up to where the shard ends, or there is now.
    pub(super) end: bool,
}

/// Makes one page of at most `limit` changes and `bytes_max` bytes (but one) of what the partitions gave: the changes, the place behind which the next
/// page begins, and whether everything was seen.
pub(super) fn merge(
    parts: Vec<Part>,
    limit: usize,
    bytes_max: usize,
) -> (Vec<Change>, Place, bool) {
    let unread = parts.iter().filter(|part| !part.end);
    // Behind this, a partition may have changes that it did not give.
    let known = unread.map(|part| part.next).min();
    let last = parts.iter().map(|part| part.next).max().unwrap_or_default();
    let mut changes: Vec<Change> = parts.into_iter().flat_map(|part| part.changes).collect();
    changes.retain(|change| known.is_none_or(|known| change.place <= known));
    changes.sort_by_key(|change| change.place);
    let mut bytes = 0;
    let fitting = changes.iter().take_while(|change| {
        bytes += change.value.len();
        bytes <= bytes_max
    });
    let count = fitting.count().max(1).min(limit);
    let cut = changes.len() > count;
    changes.truncate(count);
    match changes.last() {
        Some(change) if cut => {
            let next = change.place;
            (changes, next, false)
        }
        _ => (changes, known.unwrap_or(last), known.is_none()),
    }
}

/// Writes a record as the API shows it.
pub(super) fn write(
    change: &Change,
    table: &TableDefinition,
    (stream, arn, region): (&Stream, &str, &str),
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    let record = ChangeRecord::decode(&change.value).map_err(texts::internal)?;
    let image = record.new.as_ref().or(record.old.as_ref());
    let image = image.ok_or_else(|| texts::internal("a change record without an image"))?;
    let names: Vec<&str> = std::iter::once(&table.keys.partition)
        .chain(table.keys.sort.as_ref())
        .map(|key| key.name.as_str())
        .collect();
    let keys = pick_attributes(image, &names).map_err(texts::internal)?;
    let new = record.new.as_ref().filter(|_| stream.view.shows_new());
    let old = record.old.as_ref().filter(|_| stream.view.shows_old());
    let mut size_bytes = 0;
    for shown in [Some(&keys), new, old].into_iter().flatten() {
        size_bytes += encoded_item_size(shown).map_err(texts::internal)?;
    }
    let mut shown = Answer::with_capacity(256 + 2 * image.len());
    shown.number("ApproximateCreationDateTime", record.time_ms / 1_000);
    shown.item("Keys", &keys)?;
    if let Some(new) = new {
        shown.item("NewImage", new)?;
    }
    if let Some(old) = old {
        shown.item("OldImage", old)?;
    }
    let sequence = sequence_number(change.place);
    json::write_string(&sequence, shown.member("SequenceNumber"));
    shown.number("SizeBytes", size_bytes);
    json::write_string(stream.view.as_str(), shown.member("StreamViewType"));
    let mut answer = Answer::with_capacity(512 + 2 * image.len());
    // Unique for ever: of the same change always the same.
    let digest = Sha256::digest(format!("{arn}|{sequence}|{}", hex::encode(&record.key)));
    let id = hex::encode(&digest[..16]);
    json::write_string(&id, answer.member("eventID"));
    json::write_string(record.kind.as_str(), answer.member("eventName"));
    json::write_string("1.1", answer.member("eventVersion"));
    json::write_string("aws:dynamodb", answer.member("eventSource"));
    json::write_string(region, answer.member("awsRegion"));
    answer.member("dynamodb").extend_from_slice(&shown.finish());
    if record.by_service {
        let identity = answer.member("userIdentity");
        identity.extend_from_slice(br#"{"PrincipalId":"dynamodb.amazonaws.com","Type":"Service"}"#);
    }
    out.extend_from_slice(&answer.finish());
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn part(places: &[u64], next: u64, end: bool) -> Part {
        let change = |position: &u64| Change {
            place: (*position, 0),
            value: Bytes::from_static(b"ten bytes!"),
        };
        Part {
            changes: places.iter().map(change).collect(),
            next: (next, 0),
            end,
        }
    }

    fn merged(parts: Vec<Part>, limit: usize, bytes: usize) -> (Vec<u64>, u64, bool) {
        let (changes, next, end) = merge(parts, limit, bytes);
        let places = changes.iter().map(|change| change.place.0).collect();
        (places, next.0, end)
    }

    #[test]
    fn pages_of_descendants_become_one_in_order() {
        let whole = vec![part(&[1, 4], 9, true), part(&[2, 3], 9, true)];
        assert_eq!(merged(whole, 10, 1_000), (vec![1, 2, 3, 4], 9, true));
        let cut = vec![part(&[1, 4], 9, true), part(&[2, 3], 9, true)];
        assert_eq!(merged(cut, 3, 1_000), (vec![1, 2, 3], 3, false));
        let bytes = vec![part(&[1, 4], 9, true), part(&[2, 3], 9, true)];
        assert_eq!(merged(bytes, 10, 25), (vec![1, 2], 2, false));
        // One of them has more behind 3: what the other has behind it waits.
        let unread = vec![part(&[1, 4], 9, true), part(&[2, 3], 3, false)];
        assert_eq!(merged(unread, 10, 1_000), (vec![1, 2, 3], 3, false));
        let nothing = vec![part(&[], 5, false), part(&[7], 9, true)];
        assert_eq!(merged(nothing, 10, 1_000), (vec![], 5, false));
        assert_eq!(merged(vec![part(&[], 9, true)], 10, 1), (vec![], 9, true));
        let large = vec![part(&[1, 2], 9, true)];
        assert_eq!(merged(large, 10, 1), (vec![1], 1, false), "at least one");
    }
}
