//! The ledger: one record a transaction, in a system table. Owns the table's definition, the form of its items, the conditions on which they are
//! written, and what an older record under a request's token means. Never reads or writes them.

use std::collections::BTreeMap;

use bytes::Bytes;
use expression::{Condition, ConditionKind, Placeholders, parse_condition};
use model::codec::{decode_item, encode_item};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{ApiError, AttributeValue, EncodedKey, Item, Number, TableDefinition, TableId};
use protocol::transact::TransactionId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the ledger. Users can neither make nor see it.
pub const TABLE: &str = "evenkeel.transactions";
/// Number of the ledger.
pub const TABLE_ID: TableId = TableId(2);
/// So long a token stands for the transaction that was done with it (developer guide), milliseconds.
pub const TOKEN_MS: u64 = 600_000;

const KEY: &str = "pk";

/// The ledger, as the admin makes it.
pub fn definition(created_ms: u64, uuid: String) -> TableDefinition {
    TableDefinition {
        id: TABLE_ID,
        name: TABLE.to_owned(),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: KEY.to_owned(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Creating,
        created_ms,
        uuid,
        deletion_protection: true,
        ..TableDefinition::default()
    }
}

/// What a record says of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing: it is being prepared, or its coordinator is gone.
    Open,
    /// It is committed.
    Committed,
    /// It is committed, everywhere.
    Done,
    /// It is cancelled.
    Cancelled,
}

impl State {
    fn letter(self) -> &'static str {
        match self {
            Self::Open => "P",
            Self::Committed => "C",
            Self::Done => "D",
            Self::Cancelled => "X",
        }
    }

    fn of(letter: &str) -> Option<Self> {
        let all = [Self::Open, Self::Committed, Self::Done, Self::Cancelled];
        all.into_iter().find(|state| state.letter() == letter)
    }
}

/// One item of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Its table.
    #[serde(rename = "t")]
    pub table: TableId,
    /// Its encoded key.
    #[serde(rename = "k")]
    pub key: EncodedKey,
    /// The larger of its sizes before and after, bytes; 0 until it is known.
    #[serde(rename = "s", default)]
    pub size_bytes: u64,
}

/// A transaction in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The attempt.
    pub id: TransactionId,
    /// What it says.
    pub state: State,
    /// Its timestamp, milliseconds since the epoch.
    pub timestamp_ms: u64,
    /// Digest of the request.
    pub digest: [u8; 32],
    /// Its items, in the order of its operations.
    pub participants: Vec<Participant>,
    /// Once it is committed: when it counts, on all of its items, milliseconds since the epoch; 0 before, or if nobody said.
    pub commit_ms: u64,
}

/// What a record that is already there means for a request with its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing any more: it may be replaced.
    Replaceable,
    /// It was done, and is not done again.
    Done,
    /// It is under way.
    InProgress,
    /// It was another request.
    Mismatch,
}

/// `pk` of the record for a token (of a client, or drawn): its digest.
pub fn record_name(token: &[u8]) -> String {
    hex::encode(&Sha256::digest(token)[..16])
}

fn id_bytes(id: TransactionId) -> Bytes {
    Bytes::from([id.0.to_be_bytes(), id.1.to_be_bytes()].concat())
}

impl Record {
    /// Encoded item of the record with this name.
    ///
    /// # Errors
    /// InternalServerError, when it cannot be encoded.
    pub fn encode(&self, name: &str) -> Result<Bytes, ApiError> {
        let participants =
            rmp_serde::to_vec_named(&self.participants).map_err(|_| ApiError::internal())?;
        let number = |ms: u64| {
            let number = Number::parse(&ms.to_string()).map_err(|_| ApiError::internal())?;
            Ok::<_, ApiError>(AttributeValue::N(number))
        };
        let mut item = Item::from([
            (KEY.to_owned(), AttributeValue::S(name.to_owned())),
            ("i".to_owned(), AttributeValue::B(id_bytes(self.id))),
            (
                "s".to_owned(),
                AttributeValue::S(self.state.letter().to_owned()),
            ),
            ("t".to_owned(), number(self.timestamp_ms)?),
            (
                "d".to_owned(),
                AttributeValue::B(Bytes::copy_from_slice(&self.digest)),
            ),
            ("p".to_owned(), AttributeValue::B(participants.into())),
        ]);
        if self.commit_ms > 0 {
            item.insert("c".to_owned(), number(self.commit_ms)?);
        }
        Ok(encode_item(&item))
    }

    /// Reads a record and its name; none if it is not of this form (a later version wrote it).
    pub fn decode(encoded: &[u8]) -> Option<(String, Record)> {
        let item = decode_item(encoded).ok()?;
        let bytes = |name: &str| match item.get(name) {
            Some(AttributeValue::B(bytes)) => Some(bytes),
            _ => None,
        };
        let text = |name: &str| match item.get(name) {
            Some(AttributeValue::S(text)) => Some(text.as_str()),
            _ => None,
        };
        let id: [u8; 16] = bytes("i")?[..].try_into().ok()?;
        let half = |at: usize| {
            id[at..at + 8]
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let number = |name: &str| match item.get(name) {
            Some(AttributeValue::N(number)) => number.to_string().parse().ok(),
            _ => None,
        };
        let record = Record {
            id: TransactionId(half(0), half(8)),
            state: State::of(text("s")?)?,
            timestamp_ms: number("t")?,
            digest: bytes("d")?[..].try_into().ok()?,
            participants: rmp_serde::from_slice(bytes("p")?).ok()?,
            commit_ms: number("c").unwrap_or_default(),
        };
        Some((text(KEY)?.to_owned(), record))
    }

    /// What it means for a request with its token and this digest, at this time by the router's clock.
    pub fn meets(&self, digest: &[u8; 32], now_ms: u64) -> Existing {
        let expired = now_ms > self.timestamp_ms.saturating_add(TOKEN_MS);
        match self.state {
            State::Cancelled => Existing::Replaceable,
            State::Done if expired => Existing::Replaceable,
            _ if self.digest != *digest => Existing::Mismatch,
            State::Done => Existing::Done,
            State::Open | State::Committed => Existing::InProgress,
        }
    }

    /// Whether it is of no use to anybody any more.
    pub fn has_expired(&self, now_ms: u64) -> bool {
        // A cancelled one may still be looked for by an item where it is pending.
        let kept_ms = match self.state {
            State::Done => TOKEN_MS,
            State::Cancelled => TOKEN_MS / 10,
            State::Open | State::Committed => return false,
        };
        now_ms > self.timestamp_ms.saturating_add(kept_ms)
    }

    /// What it decided, if anything.
    pub fn decided(&self) -> Option<bool> {
        match self.state {
            State::Open => None,
            State::Committed | State::Done => Some(true),
            State::Cancelled => Some(false),
        }
    }
}

/// Holds if there is no such record.
///
/// # Errors
/// Never, as the text is fixed.
pub fn is_new() -> Result<Condition, ApiError> {
    let mut none = Placeholders::new(None, None);
    parse_condition(
        ConditionKind::Condition,
        "attribute_not_exists(pk)",
        &mut none,
    )
}

/// Holds while the record is of this attempt and says one of these.
///
/// # Errors
/// Never, as the text is fixed.
pub fn says(id: TransactionId, states: &[State]) -> Result<Condition, ApiError> {
    let names = [("#i", "i"), ("#s", "s")].map(|(key, name)| (key.to_owned(), name.to_owned()));
    let mut values = BTreeMap::from([(":i".to_owned(), AttributeValue::B(id_bytes(id)))]);
    let mut listed = Vec::new();
    for state in states {
        let letter = state.letter();
        let placeholder = format!(":{}", letter.to_lowercase());
        values.insert(placeholder.clone(), AttributeValue::S(letter.to_owned()));
        listed.push(placeholder);
    }
    let text = format!("#i = :i AND #s IN ({})", listed.join(", "));
    let mut placeholders = Placeholders::new(Some(names.into()), Some(values));
    parse_condition(ConditionKind::Condition, &text, &mut placeholders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: State) -> Record {
        Record {
            id: TransactionId(1, u64::MAX),
            state,
            timestamp_ms: 1_700_000_000_000,
            digest: [7; 32],
            participants: vec![Participant {
                table: TableId(20),
                key: Bytes::from_static(b"\0\xff"),
                size_bytes: 3,
            }],
            commit_ms: 0,
        }
    }

    #[test]
    fn records_come_back_as_they_were_stored() {
        for state in [State::Open, State::Committed, State::Done, State::Cancelled] {
            let encoded = record(state).encode("n").unwrap();
            let decoded = Record::decode(&encoded);
            assert_eq!(decoded, Some(("n".to_owned(), record(state))));
        }
        let committed = Record {
            commit_ms: 1_700_000_000_001,
            ..record(State::Committed)
        };
        let decoded = Record::decode(&committed.encode("n").unwrap());
        assert_eq!(decoded, Some(("n".to_owned(), committed)));
        assert_eq!(Record::decode(b"nonsense"), None);
    }

    #[test]
    fn conditions_hold_for_the_attempt_and_what_it_says() {
        let item = |state| decode_item(&record(state).encode("n").unwrap()).unwrap();
        let open = says(TransactionId(1, u64::MAX), &[State::Open, State::Committed]).unwrap();
        assert!(open.evaluate(&item(State::Open)).unwrap());
        assert!(open.evaluate(&item(State::Committed)).unwrap());
        assert!(!open.evaluate(&item(State::Cancelled)).unwrap());
        assert!(!open.evaluate(&Item::new()).unwrap());
        let other = says(TransactionId(2, 2), &[State::Open]).unwrap();
        assert!(!other.evaluate(&item(State::Open)).unwrap());
        assert!(is_new().unwrap().evaluate(&Item::new()).unwrap());
        assert!(!is_new().unwrap().evaluate(&item(State::Open)).unwrap());
    }

    #[test]
    fn a_token_stands_for_what_was_done_with_it_for_ten_minutes() {
        let now = 1_700_000_000_000 + TOKEN_MS;
        let meets = |state, digest, now| record(state).meets(&[digest; 32], now);
        assert_eq!(meets(State::Done, 7, now), Existing::Done);
        assert_eq!(meets(State::Done, 8, now), Existing::Mismatch);
        assert_eq!(meets(State::Done, 8, now + 1), Existing::Replaceable);
        assert_eq!(meets(State::Open, 7, now + 1), Existing::InProgress);
        assert_eq!(meets(State::Committed, 8, now), Existing::Mismatch);
        assert_eq!(meets(State::Cancelled, 8, now), Existing::Replaceable);
    }
}
