//! Shard iterators: a place in a shard, with the time of issue, in a form that nobody but a router can make. Pure.

use bytes::{BufMut, Bytes};
use hmac::{Hmac, KeyInit, Mac};
use model::{EncodedKey, TableDefinition};
use protocol::changes::{GroupId, Place};
use sha2::Sha256;

/// An iterator is good for so long, milliseconds (API reference, GetShardIterator).
pub(super) const LIFE_MS: u64 = 15 * 60 * 1_000;
const FIXED_BYTES: usize = 29;
const MAC_BYTES: usize = 16;

/// A place in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShardIterator {
    /// The shard's partition.
    pub(super) partition: GroupId,
    /// First key of that partition: where it, or the first of its descendants, is found.
    pub(super) start: EncodedKey,
    /// Behind this place.
    pub(super) after: Place,
    /// It stands at the oldest record there is: that some were trimmed is no error.
    pub(super) horizon: bool,
    /// When it was given out, milliseconds since the epoch.
    pub(super) issued_ms: u64,
}

/// Why a text is no iterator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// It was not given out for this stream.
    Garbage,
    /// It is too old; when it was given out.
    Expired(u64),
}

fn mac(table: &TableDefinition, arn: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    // All routers know the table's number and uuid, and no client needs to.
    let mut mac = Hmac::<Sha256>::new_from_slice(table.uuid.as_bytes()).ok()?;
    mac.update(&table.id.0.to_be_bytes());
    mac.update(arn.as_bytes());
    mac.update(body);
    Some(mac)
}

impl ShardIterator {
    /// Its text: the stream's ARN, a version, and the rest.
    pub(super) fn write(&self, table: &TableDefinition, arn: &str) -> String {
        let mut body = Vec::with_capacity(FIXED_BYTES + self.start.len() + MAC_BYTES);
        body.put_u64(self.partition.0);
        body.put_u64(self.after.0);
        body.put_u32(self.after.1);
        body.put_u8(u8::from(self.horizon));
        body.put_u64(self.issued_ms);
        body.put_slice(&self.start);
        if let Some(mac) = mac(table, arn, &body) {
            let tag = mac.finalize().into_bytes();
            body.put_slice(&tag[..MAC_BYTES]);
        }
        format!("{arn}|1|{}", hex::encode(body))
    }

    /// Reads what `write` wrote, at `now_ms`; `rest` is what stands behind the ARN and version.
    pub(super) fn read(
        table: &TableDefinition,
        arn: &str,
        rest: &str,
        now_ms: u64,
    ) -> Result<Self, Invalid> {
        let bytes = hex::decode(rest).map_err(|_| Invalid::Garbage)?;
        let at = bytes.len().checked_sub(MAC_BYTES);
        let (body, tag) = bytes.split_at(at.ok_or(Invalid::Garbage)?);
        let mac = mac(table, arn, body).ok_or(Invalid::Garbage)?;
        mac.verify_truncated_left(tag)
            .map_err(|_| Invalid::Garbage)?;
        let fixed = body.get(..FIXED_BYTES).ok_or(Invalid::Garbage)?;
        let number = |from: usize, to: usize| {
            let bytes = fixed[from..to].iter();
            bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let issued_ms = number(21, 29);
        if now_ms > issued_ms.saturating_add(LIFE_MS) {
            return Err(Invalid::Expired(issued_ms));
        }
        Ok(Self {
            partition: GroupId(number(0, 8)),
            start: Bytes::copy_from_slice(&body[FIXED_BYTES..]),
            after: (number(8, 16), number(16, 20) as u32),
            horizon: fixed[20] == 1,
            issued_ms,
        })
    }
}

/// ARN and rest of an iterator's text.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once("|1|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iterator_is_read_as_it_was_given_out_and_nothing_else_is() {
        let table = TableDefinition {
            uuid: "some-uuid".to_owned(),
            ..TableDefinition::default()
        };
        let iterator = ShardIterator {
            partition: GroupId(9),
            start: Bytes::from_static(b"key"),
            after: (77, 3),
            horizon: true,
            issued_ms: 1_000,
        };
        let text = iterator.write(&table, "arn");
        let (arn, rest) = split(&text).unwrap();
        let read = |table, rest: &str, now_ms| ShardIterator::read(table, arn, rest, now_ms);
        assert_eq!(read(&table, rest, 1_000 + LIFE_MS), Ok(iterator));
        let late = read(&table, rest, 1_001 + LIFE_MS);
        assert_eq!(late, Err(Invalid::Expired(1_000)));
        let again = TableDefinition {
            uuid: "another".to_owned(),
            ..TableDefinition::default()
        };
        assert_eq!(read(&again, rest, 1_000), Err(Invalid::Garbage));
        for cut in 0..rest.len() {
            assert_eq!(read(&table, &rest[..cut], 1_000), Err(Invalid::Garbage));
        }
        let mut other = rest.as_bytes().to_vec();
        other[20] = if other[20] == b'0' { b'1' } else { b'0' };
        let other = String::from_utf8(other).unwrap();
        assert_eq!(read(&table, &other, 1_000), Err(Invalid::Garbage));
        assert_eq!(read(&table, "garbage", 1_000), Err(Invalid::Garbage));
        assert_eq!(split("garbage"), None);
    }
}
