//! What requests may spend at this replica of a partition, the second line behind the table's own limit (ADR 0005): admits before
//! anything is evaluated, settles afterwards, and counts what was asked for. No lock, no message: buckets of the replica, the
//! node's shared ones, and what the other nodes said last. Never says what an operation costs (`model::capacity`).

use std::collections::BTreeSet;

use admission::{DecayedRate, Grant, PartitionBucket, PartitionLimits};
use model::capacity::{self, Direction};
use model::codec::encoded_item_size;
use model::table::BillingMode;
use model::{EncodedKey, TableDefinition, TableId, Units};
use paxos::{Millis, NodeId};
use protocol::item::{ItemFault, ItemOperation, ItemReply, WriteAction};

use super::Store;
use crate::capacity::NodeCapacity;
use crate::env::Env;
use crate::settings::Admission as Settings;

/// Tables below this number are the mesh's own: never throttled.
const CUSTOMER_TABLE_MIN: TableId = TableId(16);

/// A request that was admitted, until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    direction: Direction,
    /// What was charged at first.
    sure: Units,
    /// None: nothing limits this direction.
    grant: Option<Grant>,
}

/// One direction.
#[derive(Debug, Default)]
struct Line {
    /// None: no limit.
    bucket: Option<PartitionBucket>,
    served: DecayedRate,
}

/// Buckets and rates of one replica.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// The table's definition that the buckets follow; none at first.
    version: Option<u64>,
    reads: Line,
    writes: Line,
    refused: DecayedRate,
}

impl Admission {
    /// Follows a new definition of the table.
    fn follow(&mut self, now: Millis, settings: &Settings, table: &TableDefinition) {
        if self.version == Some(table.version) {
            return;
        }
        self.version = Some(table.version);
        for direction in [Direction::Read, Direction::Write] {
            let limits = limits(settings, table, direction);
            let bucket = &mut self.line(direction).bucket;
            match (limits, bucket.as_mut()) {
                (Some(limits), Some(bucket)) => bucket.resize(limits, now.0),
                (limits, _) => {
                    *bucket = limits.map(|limits| PartitionBucket::new(limits, now.0));
                }
            }
        }
    }

    fn line(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
        }
    }

    /// Admits a request that surely costs `sure`; none: the partition has nothing left for it, and nothing was charged.
    fn take(
        &mut self,
        now: Millis,
        direction: Direction,
        sure: Units,
        room: impl FnOnce() -> bool,
    ) -> Option<Charge> {
        let grant = match &mut self.line(direction).bucket {
            None => None,
            Some(bucket) => Some(bucket.take(now.0, sure, room)?),
        };
        Some(Charge {
            direction,
            sure,
            grant,
        })
    }

    /// Corrects the charge to what the request really cost.
    fn settle(&mut self, charge: Charge, cost: Units) {
        let line = self.line(charge.direction);
        if let (Some(bucket), Some(grant)) = (&mut line.bucket, charge.grant) {
            bucket.settle(grant, charge.sure, cost);
        }
    }

    /// Units a second, lately: reads, writes, refused.
    pub(super) fn rates(&self, now: Millis) -> (Units, Units, Units) {
        (
            self.reads.served.per_second(now.0),
            self.writes.served.per_second(now.0),
            self.refused.per_second(now.0),
        )
    }
}

/// What a partition of a table may spend; none: as much as it likes.
fn limits(
    settings: &Settings,
    table: &TableDefinition,
    direction: Direction,
) -> Option<PartitionLimits> {
    let cap = match direction {
        Direction::Read => settings.partition_read_units_max,
        Direction::Write => settings.partition_write_units_max,
    };
    if cap == 0 || table.id < CUSTOMER_TABLE_MIN {
        return None;
    }
    let rate = match (table.billing, direction) {
        (BillingMode::PayPerRequest, _) => None,
        (BillingMode::Provisioned { read_units, .. }, Direction::Read) => Some(read_units),
        (BillingMode::Provisioned { write_units, .. }, Direction::Write) => Some(write_units),
    };
    let rate = rate.map(Units::new);
    Some(PartitionLimits::new(
        Units::new(cap),
        rate,
        settings.burst_s,
    ))
}

/// Whether a burst fits: this node must have room, and for writes the nodes of all other members, which write the same.
fn has_room(
    now: Millis,
    direction: Direction,
    node: &NodeCapacity,
    full_peers: &BTreeSet<NodeId>,
    mut members: impl Iterator<Item = NodeId>,
) -> bool {
    node.has_room(now, direction)
        && (direction == Direction::Read
            || full_peers.is_empty()
            || !members.any(|member| full_peers.contains(&member)))
}

impl Store {
    /// Admits a request before it is evaluated; none: the partition has nothing left for it, and nothing was charged.
    pub(super) fn admit(&mut self, env: &Env, operation: &ItemOperation) -> Option<Charge> {
        let state = self.partition.state();
        let table = &state.table;
        let node = &env.node;
        self.admission
            .follow(env.now, &node.settings.admission, table);
        let (direction, sure) = surely(operation);
        let room = || {
            let members = state.configuration.voters().map(|member| member.node);
            has_room(
                env.now,
                direction,
                &node.capacity,
                &env.full_peers,
                members.filter(|member| *member != node.id),
            )
        };
        let charge = self.admission.take(env.now, direction, sure, room);
        if charge.is_none() {
            let refused = match direction {
                Direction::Read => &node.metrics.throttled_reads,
                Direction::Write => &node.metrics.throttled_writes,
            };
            refused.inc();
            self.note_demand(env.now, key_of(operation), direction, sure, false);
        }
        charge
    }

    /// Settles an admitted request of `key` at its real cost; nothing if it was not executed.
    pub(super) fn settle(&mut self, env: &Env, key: &EncodedKey, charge: Charge, cost: Units) {
        self.admission.settle(charge, cost);
        if cost.is_zero() {
            return;
        }
        env.node.capacity.charge(env.now, charge.direction, cost);
        self.note_demand(env.now, key, charge.direction, cost, true);
    }

    /// Takes note of what was asked of a key: what an admitted request cost, or a refused one would at least have.
    pub(super) fn note_demand(
        &mut self,
        now: Millis,
        _key: &EncodedKey,
        direction: Direction,
        units: Units,
        admitted: bool,
    ) {
        let rate = match admitted {
            true => &mut self.admission.line(direction).served,
            false => &mut self.admission.refused,
        };
        rate.add(now.0, units);
    }
}

impl Charge {
    /// What an evaluated request cost, by its answer.
    pub(super) fn cost(self, reply: &ItemReply, strong: bool) -> Units {
        match reply {
            ItemReply::Item { size_bytes, .. } => capacity::read_units(*size_bytes, strong),
            ItemReply::Page(page) => capacity::read_units(page.bytes_read, strong),
            ItemReply::Written {
                old_size_bytes,
                new_size_bytes,
                ..
            } => capacity::write_units(*old_size_bytes.max(new_size_bytes)),
            // As the write would have cost: what was to be written, or what is there, whichever is larger.
            ItemReply::Fault(ItemFault::ConditionFailed { size_bytes, .. }) => {
                self.sure.max(capacity::write_units(*size_bytes))
            }
            ItemReply::Fault(_) => Units::ZERO,
        }
    }

    /// What was charged at first.
    pub(super) fn sure(self) -> Units {
        self.sure
    }
}

/// What a request costs at least: the smallest read, the size that is sent to be written.
fn surely(operation: &ItemOperation) -> (Direction, Units) {
    match operation {
        ItemOperation::Get(get) => (Direction::Read, capacity::read_units(0, get.strong)),
        ItemOperation::Page(page) => (Direction::Read, capacity::read_units(0, page.strong)),
        ItemOperation::Write(write) => {
            let bytes = match &write.action {
                // A malformed item is refused when it is evaluated.
                WriteAction::Put(item) => encoded_item_size(item).unwrap_or(0),
                WriteAction::Delete | WriteAction::Update { .. } => 0,
            };
            (Direction::Write, capacity::write_units(bytes))
        }
    }
}

/// The key that a request is about; of a page, where it begins.
pub(super) fn key_of(operation: &ItemOperation) -> &EncodedKey {
    match operation {
        ItemOperation::Get(get) => &get.key,
        ItemOperation::Write(write) => &write.key,
        ItemOperation::Page(page) => page.after.as_ref().unwrap_or(match page.reverse {
            true => &page.range.end,
            false => &page.range.start,
        }),
    }
}
