//! Token buckets against their definition, over a simulated clock.

use admission::{DecayedRate, Grant, NodeBucket, PartitionBucket, PartitionLimits, TokenBucket};
use model::Units;
use proptest::prelude::*;

fn units(thousandths: u64) -> Units {
    Units::from_thousandths(thousandths)
}

#[test]
fn a_full_bucket_admits_what_exceeds_its_depth_and_then_owes() {
    let mut bucket = TokenBucket::full(Units::new(2), Units::new(2), 0);
    assert!(bucket.take(0, Units::new(10)));
    assert_eq!(bucket.debt(), Units::new(8));
    assert!(!bucket.take(4000, units(1)), "just paid, holds nothing");
    assert!(bucket.take(4001, units(2)));
    assert!(!bucket.take(4001, units(1)));
}

#[test]
fn a_bucket_without_rate_and_depth_admits_nothing() {
    let mut bucket = TokenBucket::full(Units::ZERO, Units::ZERO, 0);
    assert!(!bucket.take(1 << 40, units(1)));
    assert!(!bucket.admits(1 << 40, Units::ZERO));
}

#[test]
fn nothing_overflows_and_the_clock_may_step_back() {
    let mut bucket = TokenBucket::full(Units::MAX, Units::MAX, 0);
    bucket.charge(Units::MAX);
    bucket.charge(Units::MAX);
    assert_eq!(bucket.debt(), Units::MAX);
    assert_eq!(bucket.available(u64::MAX), Units::MAX);
    bucket.charge(Units::ONE);
    let held = bucket.available(5);
    assert!(held < Units::MAX, "time that passed twice fills nothing");
}

#[test]
fn settling_corrects_in_both_directions() {
    let mut bucket = TokenBucket::full(Units::ONE, Units::new(10), 0);
    assert!(bucket.take(0, Units::new(4)));
    bucket.settle(Units::new(4), Units::new(6));
    assert_eq!(bucket.available(0), Units::new(4));
    bucket.settle(Units::new(6), Units::ONE);
    assert_eq!(bucket.available(0), Units::new(9));
}

#[test]
fn a_partition_gets_its_tables_rate_up_to_the_cap() {
    let cap = Units::new(3000);
    let allocated = |rate| PartitionLimits::new(cap, rate, 300).allocated;
    assert_eq!(allocated(None), cap);
    assert_eq!(allocated(Some(Units::new(150))), Units::new(165));
    assert_eq!(allocated(Some(Units::new(2_727))), units(2_999_700));
    assert_eq!(allocated(Some(Units::new(2_728))), cap);
    assert_eq!(allocated(Some(Units::MAX)), cap);
}

/// Offers one unit a request, `per_ms` times a millisecond. How many are admitted, by grant.
fn offer(
    bucket: &mut PartitionBucket,
    ms: std::ops::Range<u64>,
    per_ms: u64,
    room: bool,
) -> [u64; 2] {
    let mut admitted = [0; 2];
    for now in ms {
        for _ in 0..per_ms {
            match bucket.take(now, Units::ONE, || room) {
                Some(Grant::Allocated) => admitted[0] += 1,
                Some(Grant::Burst) => admitted[1] += 1,
                None => {}
            }
        }
    }
    admitted
}

/// AWS's example (developer guide, "Burst capacity"): 150 units a second, idle for five minutes, then 200 a second.
#[test]
fn a_burst_sustains_what_the_idle_time_saved() {
    let limits = PartitionLimits {
        cap: Units::new(3000),
        allocated: Units::new(150),
        burst_s: 300,
    };
    let mut bucket = PartitionBucket::new(limits, 0);
    let idle_ms = 301_000;
    let mut sustained_s = 0;
    let mut now = idle_ms;
    'second: loop {
        for request in 0..200 {
            if bucket
                .take(now + request * 5, Units::ONE, || true)
                .is_none()
            {
                break 'second;
            }
        }
        now += 1000;
        sustained_s += 1;
    }
    assert!((900..=904).contains(&sustained_s), "{sustained_s}");
}

#[test]
fn a_burst_needs_room_and_never_exceeds_the_cap() {
    let limits = PartitionLimits {
        cap: Units::new(1000),
        allocated: Units::new(100),
        burst_s: 300,
    };
    let idle_ms = 100_000;
    let second = idle_ms..idle_ms + 1000;
    let mut bucket = PartitionBucket::new(limits, 0);
    let without_room = offer(&mut bucket.clone(), second.clone(), 5, false);
    assert_eq!(
        without_room,
        [100 + 99, 0],
        "what it holds and what it gets"
    );
    let with_room = offer(&mut bucket, second, 5, true);
    assert_eq!(
        with_room[0] + with_room[1],
        1000 + 999,
        "the cap's bucket was full, and fills for 999 ms"
    );
}

#[test]
fn a_node_has_room_below_its_rate_only() {
    let node = NodeBucket::new(Units::new(1000));
    let mut now = 0;
    for _ in 0..100 {
        node.charge(now, units(900));
        now += 1;
    }
    assert!(node.has_room(now));
    for _ in 0..2000 {
        node.charge(now, Units::new(2));
        now += 1;
    }
    assert!(!node.has_room(now));
    assert!(
        !node.has_room(now + 999),
        "the last charge was at {}",
        now - 1
    );
    assert!(node.has_room(now + 1000), "it owes a second at most");
    assert_eq!(node.available(now + 60_000), Units::new(1000));
}

#[test]
fn a_node_without_a_rate_always_has_room() {
    let node = NodeBucket::new(Units::ZERO);
    node.charge(0, Units::MAX);
    assert!(node.has_room(0));
}

#[test]
fn rates_follow_the_traffic_and_fade() {
    let mut rate = DecayedRate::default();
    for ms in 0..60_000 {
        rate.add(ms, units(250));
    }
    let steady = rate.per_second(60_000);
    assert!((Units::new(249)..=Units::new(250)).contains(&steady));
    let later = rate.per_second(68_000);
    assert!(later < steady.share(1, 2) && later > steady.share(1, 4));
    assert_eq!(rate.per_second(10_000_000), Units::ZERO);
    rate.add(u64::MAX, Units::MAX);
    assert_eq!(rate.per_second(u64::MAX), Units::ZERO);
}

proptest! {
    /// Whatever is asked for when, a bucket never gives more than it held plus what it got, beyond one request's excess; and a
    /// refused request changes nothing.
    #[test]
    fn no_bucket_gives_more_than_it_got(
        rate in 0u64..5_000_000,
        depth in 0u64..5_000_000,
        requests in prop::collection::vec((0u64..500, 1u64..4_000, 0u64..4_000), 1..200),
    ) {
        let (rate, depth) = (units(rate), units(depth));
        let mut bucket = TokenBucket::full(rate, depth, 0);
        let (mut now, mut spent, mut largest) = (0, 0u128, 0);
        for (pause, sure, more) in requests {
            now += pause;
            let before = bucket.available(now);
            let (sure, cost) = (units(sure), units(sure + more));
            let owed = bucket.debt();
            if bucket.take(now, sure) {
                prop_assert!(!before.is_zero() && before >= sure.min(depth));
                bucket.settle(sure, cost);
                spent += u128::from(cost.thousandths());
                largest = largest.max(cost.thousandths());
            } else {
                prop_assert_eq!(bucket.available(now), before);
                prop_assert_eq!(bucket.debt(), owed);
            }
            let got = u128::from(rate.thousandths()) * u128::from(now) / 1000;
            prop_assert!(spent <= u128::from(depth.thousandths()) + got + u128::from(largest));
            prop_assert!(bucket.available(now) <= depth);
        }
    }

    /// Settling makes no difference to a request whose cost was known: taking the cost and taking less and settling end alike.
    #[test]
    fn settling_ends_where_charging_ends(sure in 0u64..10_000, cost in 0u64..10_000, held in 0u64..20_000) {
        let depth = units(20_000);
        let mut charged = TokenBucket::new(Units::ONE, depth, units(held), 0);
        let mut settled = charged.clone();
        charged.charge(units(cost));
        settled.charge(units(sure));
        settled.settle(units(sure), units(cost));
        prop_assert_eq!(charged, settled);
    }

    /// A partition that is asked for more than enough gets exactly its allocated rate without room, whatever the request's size.
    #[test]
    fn a_hot_partition_gets_its_rate(allocated in 1u64..3_000, sure in prop::sample::select(vec![500u64, 1000]), seconds in 2u64..10) {
        let limits = PartitionLimits { cap: Units::new(3000), allocated: Units::new(allocated), burst_s: 300 };
        let mut bucket = PartitionBucket::new(limits, 0);
        let mut spent = 0;
        for now in 0..=seconds * 1000 {
            while bucket.take(now, units(sure), || false).is_some() {
                spent += sure;
            }
        }
        let due = allocated * 1000 * (seconds + 1);
        prop_assert!(spent <= due && spent + sure > due, "{} of {}", spent, due);
    }

    /// Shards that charge one node's bucket in any order leave it as one shard would.
    #[test]
    fn charges_of_a_node_commute(costs in prop::collection::vec(1u64..100_000, 1..20)) {
        let (one, other) = (NodeBucket::new(Units::new(1000)), NodeBucket::new(Units::new(1000)));
        costs.iter().for_each(|cost| one.charge(5000, units(*cost)));
        costs.iter().rev().for_each(|cost| other.charge(5000, units(*cost)));
        for later in [0, 500, 1000, 3000] {
            prop_assert_eq!(one.available(5000 + later), other.available(5000 + later));
        }
    }
}
