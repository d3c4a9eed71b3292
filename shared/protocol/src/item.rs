//! Item requests: router (or admin) → storage node.

use bytes::Bytes;
use expression::{Condition, Projection, Update};
use model::capacity::Direction;
use model::{ApiError, EncodedKey, IndexId, KeyRange, Units};
use paxos::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use crate::changes::{ChangesReply, ChangesRequest};
use crate::directory::PartitionInfo;
use crate::propagate::Propagate;
use crate::transact::{Transact, TransactionRef};

/// A request on one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ItemCall {
    /// The partition that the sender believes responsible.
    #[serde(rename = "p")]
    pub partition: GroupId,
    /// The request.
    #[serde(rename = "o")]
    pub operation: ItemOperation,
    /// The storage node that shall answer, if the sender cannot reach it: the receiver passes the call on, without this.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub forward_to: Option<NodeId>,
    /// A read of the mesh's own (a scrub's): nobody pays for it, and it is no demand. Writes are charged all the same.
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    pub uncharged: bool,
}

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ItemOperation {
    /// Read one item.
    Get(Get),
    /// Write one item.
    Write(Box<Write>),
    /// Read one page of a key range.
    Page(Box<Page>),
    /// Bring entries into a global secondary index.
    Propagate(Box<Propagate>),
    /// One item's part in a transaction.
    Transact(Box<Transact>),
    /// Read change records.
    Changes(Box<ChangesRequest>),
}

/// Read one item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Get {
    /// Encoded key.
    pub key: EncodedKey,
    /// Strong: leader under its lease only. Otherwise any storage replica.
    pub strong: bool,
    /// Attributes to return; the size in the reply is always the whole item's.
    #[serde(default)]
    pub projection: Option<Projection>,
}

/// Write one item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write {
    /// Encoded key.
    pub key: EncodedKey,
    /// The change.
    pub action: WriteAction,
    /// Must hold for the item as it is before the change (an absent item is an empty item).
    #[serde(default)]
    pub condition: Option<Condition>,
    /// What to return on success.
    #[serde(default)]
    pub return_values: ReturnValues,
    /// Return the item when the condition fails.
    #[serde(default)]
    pub return_on_failure: bool,
}

/// The change that a write makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WriteAction {
    /// Replace the item by this one (encoded, validated by the router, at most 400 KB).
    Put(Bytes),
    /// Same, by a job that fills a new table: executed only while the table is CREATING, so that a worker that comes late can't undo what users
    /// have written since. Refused with a ResourceInUseException afterwards. Not limited by the table's throughput.
    Fill(Bytes),
    /// Remove the item.
    Delete,
    /// Nothing but the condition: a ConditionCheck of a transaction.
    Check,
    /// Remove the item if its time to live is over: by the service itself.
    Expire {
        /// The attribute that says when.
        attribute: String,
        /// Seconds since the epoch.
        now_s: u64,
    },
    /// Change the item, or make it from its key.
    Update {
        /// Encoded item that holds the key attributes only.
        key_item: Bytes,
        /// The update; none for an UpdateItem without UpdateExpression.
        update: Option<Update>,
    },
}

/// ReturnValues of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ReturnValues {
    #[default]
    None,
    AllOld,
    UpdatedOld,
    AllNew,
    UpdatedNew,
}

/// Read one page of a contiguous key range within the partition, in key order or reverse.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Page {
    /// Keys to read; the node clips it to the partition's own range.
    pub range: KeyRange,
    /// Start behind this key (exclusive, in reading direction).
    #[serde(default)]
    pub after: Option<EncodedKey>,
    /// Descending.
    #[serde(default)]
    pub reverse: bool,
    /// Strong: leader under its lease only.
    pub strong: bool,
    /// Stop after having evaluated so many items.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Stop once the evaluated items' sizes exceed this (1 MB less what earlier partitions used).
    pub bytes_max: u64,
    /// Drop items for which this does not hold, after they were counted.
    #[serde(default)]
    pub filter: Option<Condition>,
    /// Attributes to return.
    #[serde(default)]
    pub projection: Option<Projection>,
    /// Return counts only.
    #[serde(default)]
    pub count_only: bool,
    /// The partition's range as the sender knows it; the node refuses with `WrongRange` if it is another one, so that no keys are
    /// passed over in silence. None: the sender says nothing of it.
    #[serde(default)]
    pub believed: Option<KeyRange>,
    /// Name the last evaluated item also when the range is read to its end: the request goes on in another partition, which may
    /// have no capacity left for it.
    #[serde(default)]
    pub name_last: bool,
    /// Read the entries of this local secondary index; none: the items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexId>,
    /// Of an index: with all attributes of the items, fetched from the table.
    #[serde(default)]
    pub fetch: bool,
}

/// Answer to an `ItemCall`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ItemReply {
    /// To `Get`.
    Item {
        /// Encoded (projected) item, if there is one.
        item: Option<Bytes>,
        /// Size of the whole item in bytes as DynamoDB counts; 0 when absent.
        size_bytes: u64,
    },
    /// To `Write`: done, durable on a quorum.
    Written {
        /// Attributes as asked for by `return_values`, encoded.
        attributes: Option<Bytes>,
        /// Size before, 0 when absent.
        old_size_bytes: u64,
        /// Size after, 0 when absent.
        new_size_bytes: u64,
        /// What it wrote in the table's indexes, write units by index.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        indexes: Vec<(IndexId, Units)>,
        /// In a table with local secondary indexes: bytes that the item collection has at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        collection_bytes: Option<u64>,
    },
    /// To `Page`.
    Page(PageReply),
    /// To `Transact::Prepare`: pending, durable on a quorum.
    Prepared {
        /// Size before, 0 when absent.
        old_size_bytes: u64,
        /// Size after a commit, 0 when absent.
        new_size_bytes: u64,
        /// The log's time at the prepare, milliseconds since the epoch; 0: the leader does not say.
        #[serde(default)]
        time_ms: u64,
        /// In a table with local secondary indexes: bytes that the item collection has at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        collection_bytes: Option<u64>,
    },
    /// To `Transact::Read`.
    Versioned {
        /// Encoded (projected) item, if there is one; none if the question was whether it is unchanged.
        item: Option<Bytes>,
        /// Size of the whole item in bytes as DynamoDB counts; 0 when absent.
        size_bytes: u64,
        /// The version of the item that this is.
        version: u64,
    },
    /// To `Changes`.
    Changes(Box<ChangesReply>),
    /// Not done, or not known to be done: see the fault.
    Fault(ItemFault),
}

impl ItemOperation {
    /// What is asked for, in a word for traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "Get",
            Self::Write(_) => "Write",
            Self::Page(_) => "Page",
            Self::Transact(_) => "Transact",
            _ => "Other",
        }
    }
}

impl ItemReply {
    /// How the request ended, in a word for traces: `ok`, or the fault.
    pub fn outcome(&self) -> &'static str {
        let Self::Fault(fault) = self else {
            return "ok";
        };
        match fault {
            ItemFault::ConditionFailed { .. } => "condition failed",
            ItemFault::Api(_) => "refused",
            ItemFault::NotHere { .. } => "not here",
            ItemFault::WrongRange { .. } => "wrong range",
            ItemFault::NotReady => "not ready",
            ItemFault::Overloaded => "overloaded",
            ItemFault::Throttled { .. } => "throttled",
            ItemFault::Conflict { .. } => "conflict",
            _ => "unknown",
        }
    }
}

/// One page.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PageReply {
    /// Encoded items that passed the filter (empty when `count_only`).
    pub items: Vec<Bytes>,
    /// How many passed the filter.
    pub count: u64,
    /// How many were evaluated.
    pub scanned_count: u64,
    /// Sizes of the evaluated items, summed.
    pub bytes_read: u64,
    /// Set when the page stopped before the end of the range: encoded key of the last evaluated item …
    pub last_key: Option<EncodedKey>,
    /// … and that item's key attributes (table keys) as an encoded item.
    pub last_key_item: Option<Bytes>,
    /// With `Page::name_last`, of a range that was read to its end: encoded key of the last evaluated item, if there is one …
    #[serde(default)]
    pub end_key: Option<EncodedKey>,
    /// … and its key attributes.
    #[serde(default)]
    pub end_key_item: Option<Bytes>,
    /// With `Page::fetch`: read blocks of the items that were fetched, each rounded up.
    #[serde(default)]
    pub fetched_blocks: u64,
}

/// Why an item request failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ItemFault {
    /// The condition did not hold. Final.
    ConditionFailed {
        /// The item as it is, encoded, if it was asked for and there is one.
        item: Option<Bytes>,
        /// Its size, for capacity.
        size_bytes: u64,
    },
    /// The request is wrong (operand types, item size …). Final.
    Api(ApiError),
    /// Not executed: this node does not lead the partition, or does not hold it. Try what `partition` says, if it is there.
    NotHere {
        /// The newest membership that the node knows.
        partition: Option<Box<PartitionInfo>>,
    },
    /// Not executed: the key is outside of the partition's range, or the partition was split. Look it up again.
    WrongRange {
        /// The range that this partition really has; none if it was split.
        partition: Option<Box<PartitionInfo>>,
        /// The partitions that it was split into, as far as this node knows them.
        #[serde(default)]
        children: Vec<PartitionInfo>,
    },
    /// Not executed: no lease yet, starting, draining. Try again shortly.
    NotReady,
    /// Not executed: a bound was reached (queue, in-flight bytes). Shed.
    Overloaded,
    /// Not executed: the partition has no capacity units left. Final: the client backs off.
    Throttled {
        /// Which of its units.
        direction: Direction,
        /// The global secondary index that takes no more, if not the table itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<IndexId>,
    },
    /// Not executed: a transaction is pending on the item, or (of an item that a transaction reads) it has changed. Final.
    Conflict {
        /// The transaction that is pending, if it is known.
        pending: Option<TransactionRef>,
    },
    /// Not executed: the timestamp of the transaction is too far ahead of, or behind, the leader's time. Final.
    Untimely {
        /// The leader's time, milliseconds since the epoch.
        now_ms: u64,
    },
    /// It may or may not have been executed (leadership lost while in flight, time-out). Never retried as if it had not.
    Unknown,
}
