//! Transactions (ADR 0010): what their coordinators ask of the leaders of items, and what leaders report. Owns the shapes only.

use model::{EncodedKey, TableId};
use serde::{Deserialize, Serialize};

use crate::item::{Get, Write};

/// Number of one attempt at a transaction: 128 bits that its coordinator drew, never used twice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TransactionId(pub u64, pub u64);

/// A transaction as its participants know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRef {
    /// The attempt.
    #[serde(rename = "i")]
    pub id: TransactionId,
    /// Encoded key of its record in the ledger: whoever finds it unfinished reads there what became of it.
    #[serde(rename = "r")]
    pub record: EncodedKey,
    /// When it began by its coordinator's clock, milliseconds since the epoch.
    #[serde(rename = "t")]
    pub timestamp_ms: u64,
}

/// What a coordinator asks of the leader of one item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Transact {
    /// Evaluate this write, and keep its outcome pending on the item. At most one a transaction and item.
    Prepare {
        /// For whom.
        transaction: TransactionRef,
        /// The write; `WriteAction::Check` for one that changes nothing. Its `return_values` mean nothing.
        write: Write,
    },
    /// Make what is pending true. May be repeated.
    Commit(Settle),
    /// Forget what is pending, and refuse a `Prepare` that comes late. May be repeated.
    Cancel(Settle),
    /// Read an item for a transaction; `unchanged_since`: only say whether it was neither written since that version nor is pending.
    Read {
        /// The item; always read strongly.
        get: Get,
        /// The version that the first read gave.
        #[serde(default)]
        unchanged_since: Option<u64>,
    },
}

/// The end of a transaction at one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The item.
    pub key: EncodedKey,
    /// The transaction.
    pub id: TransactionId,
    /// Its timestamp.
    pub timestamp_ms: u64,
    /// When it counts as committed, on all of its items: milliseconds since the epoch, not before any of its prepares. The commit is not stamped
    /// with an earlier time. 0: it is cancelled, or its coordinator does not say.
    #[serde(default)]
    pub commit_ms: u64,
}

impl Transact {
    /// The item that it is about.
    pub fn key(&self) -> &EncodedKey {
        match self {
            Self::Prepare { write, .. } => &write.key,
            Self::Commit(settle) | Self::Cancel(settle) => &settle.key,
            Self::Read { get, .. } => &get.key,
        }
    }

    /// Whether it ends a transaction: never limited, and safe to repeat.
    pub fn settles(&self) -> bool {
        matches!(self, Self::Commit(_) | Self::Cancel(_))
    }
}

/// An item on which a transaction has been pending for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StalledItem {
    /// Its table.
    pub table: TableId,
    /// Its encoded key.
    pub key: EncodedKey,
    /// The transaction.
    pub transaction: TransactionRef,
}

/// A leader's report (subject `transactions.stalled`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stalled {
    /// At most [`STALLED_MAX`].
    pub items: Vec<StalledItem>,
}

/// Most items in one report.
pub const STALLED_MAX: usize = 64;
