//! What requests may spend at this replica of a partition, the second line behind the table's own limit (ADR 0005): admits before
//! anything is evaluated, settles afterwards, and counts what was asked for. No lock, no message: buckets of the replica, the
//! node's shared ones, and what the other nodes said last. Never says what an operation costs (`protocol::cost`).

use std::collections::BTreeSet;

use admission::{DecayedRate, Grant, PartitionBucket, PartitionLimits};
use bytes::Bytes;
use heat::{Advice, Heat, Obstacle};
use model::capacity::Direction;
use model::table::{BillingMode, TableStatus};
use model::{EncodedKey, TableDefinition, Units};
use paxos::{GroupId, Millis, NodeId};
use protocol::demand::FollowerDemand;
use protocol::item::ItemOperation;

use super::Store;
use crate::capacity::NodeCapacity;
use crate::env::Env;
use crate::settings::Admission as Settings;

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
#[derive(Clone, Debug, Default)]
struct Line {
    /// None: no limit.
    bucket: Option<PartitionBucket>,
    served: DecayedRate,
}

/// Caps by which consumption is compared where there is no limit, read and write units a second: DynamoDB's.
const USUAL_CAPS: [u64; 2] = [3_000, 1_000];
/// A millionth of what a partition may consume in a second, in its units' thousandths: what `heat` counts in.
const MILLIONTHS: u64 = 1_000;

/// Buckets and rates of one replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// The table's definition that the buckets follow; none at first.
    version: Option<u64>,
    reads: Line,
    writes: Line,
    refused: DecayedRate,
    /// Where the consumption falls; none: nothing came yet.
    heat: Option<Heat>,
    /// What a partition may consume in a second, reads and writes.
    caps: [u64; 2],
    /// Read units served and refused since the leader was told of them.
    untold: (Units, Units),
}

impl Admission {
    /// Follows a new definition of the table.
    fn follow(&mut self, now: Millis, settings: &Settings, table: &TableDefinition) {
        if self.version == Some(table.version) {
            return;
        }
        self.version = Some(table.version);
        let caps = [
            settings.partition_read_units_max,
            settings.partition_write_units_max,
        ];
        self.caps = [0, 1].map(|at| {
            if caps[at] == 0 {
                USUAL_CAPS[at]
            } else {
                caps[at]
            }
        });
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

    /// Where a split would halve what this leader has seen consumed, or why nowhere; none: too little came to tell.
    /// `whole_collections`: local secondary indexes keep item collections whole.
    pub(super) fn advice(&self, now: Millis, whole_collections: bool) -> Option<Advice> {
        let advice = self.heat.as_ref()?.advise(now.0, whole_collections);
        (advice != Advice::Nowhere(Obstacle::FewSamples)).then_some(advice)
    }

    /// What was asked of this replica of a partition since the last call; none: nothing.
    pub(super) fn hand_on(&mut self, partition: GroupId) -> Option<FollowerDemand> {
        let (served, refused) = std::mem::take(&mut self.untold);
        if served.is_zero() && refused.is_zero() {
            return None;
        }
        Some(FollowerDemand {
            partition,
            served,
            refused,
            keys: self.heat.as_mut().map(Heat::hand_on).unwrap_or_default(),
        })
    }

    /// What a follower served and refused. `heat`: settings and seed of the sample.
    pub(super) fn take_in(
        &mut self,
        now: Millis,
        heat: (&heat::Settings, u64),
        served: Units,
        refused: Units,
        keys: &[(Bytes, u64)],
    ) {
        self.reads.served.add(now.0, served);
        self.refused.add(now.0, refused);
        self.heat
            .get_or_insert_with(|| Heat::new(heat.0.clone(), heat.1))
            .take_in(now.0, keys);
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
    // What fills a new table is limited by whoever sends it.
    let filled = table.status == TableStatus::Creating;
    if cap == 0 || table.id.is_system() || filled {
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
    /// `uncharged`: as the call says; it counts for reads.
    pub(super) fn admit(
        &mut self,
        env: &Env,
        operation: &ItemOperation,
        uncharged: bool,
    ) -> Option<Charge> {
        let state = self.partition.state();
        let table = &state.table;
        let node = &env.node;
        self.admission
            .heat
            .get_or_insert_with(|| Heat::new(node.settings.heat.clone(), node.id.0));
        self.admission
            .follow(env.now, &node.settings.admission, table);
        let (direction, sure) = operation.surely();
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
        let settles = matches!(operation, ItemOperation::Transact(transact) if transact.settles());
        if settles || (uncharged && direction == Direction::Read) {
            // Paid for when it was prepared; and what is pending must never stay so for want of units. Or nobody pays.
            return Some(Charge {
                direction,
                sure,
                grant: None,
            });
        }
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
        key: &EncodedKey,
        direction: Direction,
        units: Units,
        admitted: bool,
    ) {
        // A follower serves reads only; what a leader wrote before it stepped down is no read.
        if direction == Direction::Read {
            let untold = &mut self.admission.untold;
            let untold = match admitted {
                true => &mut untold.0,
                false => &mut untold.1,
            };
            *untold = untold.saturating_add(units);
        }
        let rate = match admitted {
            true => &mut self.admission.line(direction).served,
            false => &mut self.admission.refused,
        };
        rate.add(now.0, units);
        let admission = &mut self.admission;
        let cap = match direction {
            Direction::Read => admission.caps[0],
            Direction::Write => admission.caps[1],
        };
        if let Some(heat) = &mut admission.heat {
            let weight = units.saturating_mul(MILLIONTHS).thousandths() / cap.max(1);
            heat.note(now.0, key, weight);
        }
    }
}

impl Charge {
    /// What was charged at first.
    pub(super) fn sure(self) -> Units {
        self.sure
    }
}

/// The key that a request is about; of a page, where it begins.
pub(super) fn key_of(operation: &ItemOperation) -> &EncodedKey {
    match operation {
        ItemOperation::Get(get) => &get.key,
        ItemOperation::Write(write) => &write.key,
        ItemOperation::Propagate(propagate) => {
            static NONE: EncodedKey = EncodedKey::from_static(b"");
            propagate.entries.first().map_or(&NONE, |entry| &entry.key)
        }
        ItemOperation::Transact(transact) => transact.key(),
        ItemOperation::Changes(request) => &request.key,
        ItemOperation::Page(page) => page.after.as_ref().unwrap_or(match page.reverse {
            true => &page.range.end,
            false => &page.range.start,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::TableId;
    use model::table::{KeyAttribute, KeySchema, ScalarType};
    use protocol::health::{Heartbeat, NodeRoom, StorageHealth};

    use super::*;

    fn table(id: u64, version: u64, billing: BillingMode) -> TableDefinition {
        TableDefinition {
            id: TableId(id),
            name: "t".to_owned(),
            version,
            keys: KeySchema {
                partition: KeyAttribute {
                    name: "pk".to_owned(),
                    kind: ScalarType::S,
                },
                sort: None,
            },
            billing,
            status: TableStatus::Active,
            created_ms: 0,
            uuid: String::new(),
            deletion_protection: false,
            table_class: None,
            tags: BTreeMap::new(),
            throughput_changes: Default::default(),
            on_demand_max: Default::default(),
            ..Default::default()
        }
    }

    fn provisioned(read_units: u64, write_units: u64) -> BillingMode {
        BillingMode::Provisioned {
            read_units,
            write_units,
        }
    }

    /// A replica of a partition of such a table.
    fn replica(settings: &Settings, table: &TableDefinition) -> Admission {
        let mut admission = Admission::default();
        admission.follow(Millis(0), settings, table);
        admission
    }

    /// Offers a write of one unit, `per_ms` times in each of these milliseconds; how many are admitted.
    fn offer(
        admission: &mut Admission,
        ms: std::ops::Range<u64>,
        per_ms: u64,
        room: impl Fn(Millis) -> bool,
    ) -> u64 {
        let mut admitted = 0;
        for now in ms.map(Millis) {
            for _ in 0..per_ms {
                let taken = admission.take(now, Direction::Write, Units::ONE, || room(now));
                admitted += u64::from(taken.is_some());
            }
        }
        admitted
    }

    #[test]
    fn a_hot_partition_gets_exactly_its_cap() {
        let settings = Settings::default();
        let mut admission = replica(&settings, &table(20, 1, BillingMode::PayPerRequest));
        offer(&mut admission, 0..1_000, 5, |_| true);
        for second in 1..20 {
            let ms = second * 1_000..(second + 1) * 1_000;
            assert_eq!(offer(&mut admission, ms, 5, |_| true), 1_000, "{second}");
        }
        // A day of rest saves no more than one second's worth above the cap.
        let ms = 86_400_000..86_401_000;
        assert_eq!(offer(&mut admission, ms, 5, |_| true), 1_000 + 999);
    }

    #[test]
    fn bursts_need_room_here_and_those_of_writes_also_where_the_other_members_are() {
        let settings = Settings {
            node_read_units: 500,
            node_write_units: 500,
            ..Settings::default()
        };
        let admission = replica(&settings, &table(20, 1, provisioned(100, 100)));
        let node = NodeCapacity::new(&settings);
        let second = 200_000..201_000;
        let now = Millis(second.start);
        let members = [NodeId(2), NodeId(3)];
        let room = |now, direction| {
            let full = node.full_peers(now);
            has_room(now, direction, &node, &full, members.into_iter())
        };
        let writes = |now| room(now, Direction::Write);
        let admitted = || offer(&mut admission.clone(), second.clone(), 2, writes);
        // 110 a second are allocated, and 100 seconds were idle: all 2,000 fit, below the cap of 1,000 + 999.
        assert_eq!(admitted(), 1_999);

        let says = |write| {
            let beat = Heartbeat {
                service: "storage".to_owned(),
                instance: 3,
                zone: "az3".to_owned(),
                incarnation: 1,
                http: String::new(),
                ready: true,
                draining: false,
                version: String::new(),
                storage: Some(StorageHealth {
                    room: Some(NodeRoom {
                        read: Units::ZERO,
                        write,
                    }),
                    ..StorageHealth::default()
                }),
                ..Heartbeat::default()
            };
            node.hear(now, &beat);
        };
        says(Units::ZERO);
        assert_eq!(admitted(), 110 + 109, "only what is allocated");
        assert!(room(now, Direction::Read), "reads are decided here alone");
        says(Units::ONE);
        assert_eq!(admitted(), 1_999);

        node.charge(now, Direction::Write, Units::new(1_000_000));
        assert_eq!(admitted(), 110 + 109, "this node is full for a second");
        assert!(room(now, Direction::Read));
        node.charge(now, Direction::Read, Units::new(1_000_000));
        assert!(!room(now, Direction::Read));
    }

    #[test]
    fn what_is_refused_changes_nothing_and_what_was_not_executed_is_given_back() {
        let settings = Settings::default();
        let mut admission = replica(&settings, &table(20, 1, provisioned(1, 1)));
        let take = |admission: &mut Admission, units| {
            admission.take(Millis(5_000), Direction::Write, Units::new(units), || false)
        };
        let charge = take(&mut admission, 400).expect("a full bucket admits anything");
        let before = format!("{admission:?}");
        assert_eq!(take(&mut admission, 1), None);
        assert_eq!(format!("{admission:?}"), before);
        admission.settle(charge, Units::ZERO);
        assert!(take(&mut admission, 1).is_some());
    }

    #[test]
    fn system_tables_and_caps_of_zero_are_not_limited() {
        let none = Settings {
            partition_read_units_max: 0,
            partition_write_units_max: 0,
            ..Settings::default()
        };
        for (settings, id) in [(Settings::default(), 1), (none, 20)] {
            let mut admission = replica(&settings, &table(id, 1, provisioned(1, 1)));
            assert_eq!(offer(&mut admission, 0..10, 1_000, |_| false), 10_000);
        }
    }

    #[test]
    fn a_new_definition_counts_at_once() {
        let settings = Settings::default();
        let mut admission = replica(&settings, &table(20, 1, provisioned(10, 10)));
        assert_eq!(offer(&mut admission, 0..10_001, 2, |_| false), 11 + 110);
        let more = table(20, 2, provisioned(100, 100));
        admission.follow(Millis(10_001), &settings, &more);
        assert_eq!(offer(&mut admission, 10_001..20_002, 2, |_| false), 1_100);
    }
}
