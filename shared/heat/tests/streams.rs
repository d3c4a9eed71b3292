//! Streams of requests as tables see them: where the advice falls, and where there is none.

use heat::{Advice, Heat, Obstacle, Settings};
use model::key::{COLLECTION_BYTES, encode_key};
use model::{AttributeValue, IndexId, TableId};
use proptest::prelude::*;

/// Requests of a second; each costs a thousandth of what the partition may consume: it is at its cap.
const REQUESTS: u64 = 1_000;
const SECONDS: u64 = 45;

struct Random(u64);

impl Random {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn key(partition: u64, sort: Option<u64>) -> Vec<u8> {
    let partition = AttributeValue::S(format!("user-{partition}"));
    let sort = sort.map(|sort| AttributeValue::S(format!("{sort:012}")));
    let key = encode_key(TableId(20), IndexId(0), &partition, sort.as_ref());
    key.unwrap().to_vec()
}

/// `stream` gives the key of each request, given its number.
fn observe(mut stream: impl FnMut(u64) -> Vec<u8>) -> Heat {
    let mut heat = Heat::new(Settings::default(), 7);
    for request in 0..SECONDS * REQUESTS {
        heat.note(request, &stream(request), 1_000);
    }
    heat
}

fn advice(heat: &Heat) -> Advice {
    heat.advise(SECONDS * REQUESTS, false)
}

/// Thousandths of the stream's requests whose key is left of the advised point.
fn left_share(heat: &Heat, mut stream: impl FnMut(u64) -> Vec<u8>) -> u64 {
    let Advice::At(point) = advice(heat) else {
        panic!("{:?}", advice(heat));
    };
    let requests = 20_000;
    let left = (0..requests).filter(|&n| stream(n)[..] < point[..]).count();
    left as u64 * 1_000 / requests
}

/// Ranks by Zipf's law with the exponent 0.99, as YCSB draws them.
fn zipfian(items: usize) -> impl FnMut(&mut Random) -> u64 {
    let mut sums = Vec::with_capacity(items);
    let mut sum = 0.0;
    for rank in 1..=items {
        sum += 1.0 / (rank as f64).powf(0.99);
        sums.push(sum);
    }
    move |random| {
        let drawn = random.draw(1 << 40) as f64 / (1u64 << 40) as f64 * sum;
        sums.partition_point(|&s| s < drawn) as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn uniform_traffic_is_halved(seed in 1u64.., items in 50u64..100_000) {
        let mut random = Random(seed);
        let mut stream = |_| key(random.draw(items), None);
        let heat = observe(&mut stream);
        let left = left_share(&heat, &mut stream);
        prop_assert!((400..=600).contains(&left), "{left}");
    }

    #[test]
    fn zipfian_traffic_is_halved_though_some_keys_are_far_hotter(seed in 1u64.., items in 1_000usize..50_000) {
        let mut random = Random(seed);
        let mut rank = zipfian(items);
        let mut stream = |_| key(rank(&mut random), None);
        let heat = observe(&mut stream);
        let left = left_share(&heat, &mut stream);
        // The hottest item has about a tenth: it falls on one side.
        prop_assert!((370..=630).contains(&left), "{left}");
    }

    #[test]
    fn zipfian_sort_keys_of_one_collection_are_halved_within_it(seed in 1u64..) {
        let mut random = Random(seed);
        let mut rank = zipfian(5_000);
        // Spread over the collection, so that the hot ones do not stand together.
        let mut stream = |_| key(1, Some(rank(&mut random).wrapping_mul(0x9e37_79b9) % 1_000_003));
        let heat = observe(&mut stream);
        let left = left_share(&heat, &mut stream);
        prop_assert!((370..=630).contains(&left), "{left}");
        prop_assert_eq!(
            heat.advise(SECONDS * REQUESTS, true),
            Advice::Nowhere(Obstacle::SingleCollection)
        );
    }

    #[test]
    fn one_hot_item_is_no_reason(seed in 1u64.., hot in 890u64..1_000) {
        let mut random = Random(seed);
        let heat = observe(|_| match random.draw(1_000) < hot {
            true => key(77, None),
            false => key(random.draw(10_000), None),
        });
        prop_assert_eq!(advice(&heat), Advice::Nowhere(Obstacle::SingleItem));
    }

    #[test]
    fn growing_or_shrinking_sort_keys_are_no_reason(seed in 1u64.., grows: bool, jitter in 1u64..500) {
        let mut random = Random(seed);
        let heat = observe(|n| {
            let place = n + random.draw(jitter);
            key(1, Some(if grows { place } else { 1_000_000 - place }))
        });
        prop_assert_eq!(advice(&heat), Advice::Nowhere(Obstacle::Sequential));
    }

    #[test]
    fn many_growing_collections_are_split_between_them(seed in 1u64.., devices in 8u64..200) {
        let mut random = Random(seed);
        let mut stream = |n| key(random.draw(devices), Some(n));
        let heat = observe(&mut stream);
        let left = left_share(&heat, &mut stream);
        prop_assert!((330..=670).contains(&left), "{left}");
        let Advice::At(point) = advice(&heat) else { unreachable!() };
        prop_assert!(point.len() <= COLLECTION_BYTES, "inside a collection");
        prop_assert_eq!(heat.advise(SECONDS * REQUESTS, true), Advice::At(point));
    }

    #[test]
    fn memory_is_bounded_and_follows_the_heat(
        notes in prop::collection::vec((0u64..5_000, 0u64..5_000, 0u64..20_000_000), 1..2_000),
    ) {
        let settings = Settings { samples_max: 100, ..Settings::default() };
        let mut heat = Heat::new(settings.clone(), 3);
        let (mut now_ms, mut consumed) = (0, 0);
        for (pause_ms, item, weight) in notes {
            now_ms += pause_ms;
            consumed += weight;
            heat.note(now_ms, &key(item, None), weight);
            prop_assert!(heat.samples() <= 100);
            prop_assert!(heat.samples() as u64 <= consumed / (settings.stride / 2));
        }
        let later_ms = now_ms + 4 * settings.half_life_ms + 1;
        prop_assert_eq!(heat.advise(later_ms, false), Advice::Nowhere(Obstacle::FewSamples));
        heat.note(later_ms, b"k", 10 * settings.stride);
        prop_assert_eq!(heat.samples(), 1, "the others are forgotten");
    }

    #[test]
    fn the_point_lies_between_keys_that_were_used(
        requests in prop::collection::vec((0u64..20, 0u64..50), 100..400),
        whole: bool,
    ) {
        let mut heat = Heat::new(Settings::default(), 1);
        let keys: Vec<_> = requests.iter().map(|&(p, s)| key(p, Some(s))).collect();
        for (n, key) in keys.iter().enumerate() {
            heat.note(n as u64, key, 200_000);
        }
        if let Advice::At(point) = heat.advise(1_000, whole) {
            prop_assert!(keys.iter().any(|k| k[..] < point[..]));
            prop_assert!(keys.iter().any(|k| k[..] >= point[..]));
            prop_assert!(!whole || point.len() <= COLLECTION_BYTES);
        }
    }
}

#[test]
fn a_scan_that_passes_over_the_keys_is_no_reason() {
    let mut keys: Vec<_> = (0..SECONDS * REQUESTS).map(|n| key(n, None)).collect();
    keys.sort();
    let heat = observe(|n| keys[n as usize].clone());
    assert_eq!(advice(&heat), Advice::Nowhere(Obstacle::Sequential));
}

#[test]
fn growing_writes_with_reads_all_over_the_collection_are_halved() {
    let mut random = Random(5);
    let history = 1_000_000;
    let mut stream = |n: u64| {
        let sort = match n % 2 {
            0 => history + n,
            _ => random.draw(history + n),
        };
        key(1, Some(sort))
    };
    let heat = observe(&mut stream);
    // The reads go to the left, the writes to the right.
    let left = left_share(&heat, |n| stream(n + SECONDS * REQUESTS));
    assert!((400..=600).contains(&left), "{left}");
}

#[test]
fn little_consumption_gives_no_advice() {
    let mut heat = Heat::new(Settings::default(), 1);
    assert_eq!(heat.advise(0, false), Advice::Nowhere(Obstacle::FewSamples));
    for n in 0..1_000 {
        heat.note(n * 100, &key(n, None), 1_000);
    }
    assert_eq!(
        heat.advise(100_000, false),
        Advice::Nowhere(Obstacle::FewSamples)
    );
    heat.note(100_001, b"", u64::MAX);
    heat.note(100_002, b"x", u64::MAX);
    heat.advise(100_003, false);
}

#[test]
fn the_point_follows_the_traffic() {
    let mut random = Random(9);
    let mut heat = observe(|_| key(random.draw(10_000), None));
    let Advice::At(before) = advice(&heat) else {
        panic!("uniform traffic");
    };
    // From now on only the keys on the left are used.
    for n in 0..4 * SECONDS * REQUESTS {
        let key = key(random.draw(10_000), None);
        if key[..] < before[..] {
            heat.note(SECONDS * REQUESTS + n, &key, 1_000);
        }
    }
    let Advice::At(after) = heat.advise(5 * SECONDS * REQUESTS, false) else {
        panic!("traffic on half of the keys");
    };
    assert!(after < before);
}

#[test]
fn what_one_replica_sampled_another_can_judge_by() {
    let mut random = Random(11);
    let mut follower = observe(|_| key(random.draw(1_000), None));
    let mut leader = Heat::new(Settings::default(), 9);
    let now_ms = SECONDS * REQUESTS;
    let samples = follower.hand_on();
    leader.take_in(now_ms, &samples);
    assert!(matches!(leader.advise(now_ms, false), Advice::At(_)));
    assert!(follower.hand_on().is_empty(), "told once");
    assert!(leader.hand_on().is_empty(), "not told on");
    follower.note(now_ms, &key(1, None), 1 << 30);
    assert_eq!(follower.hand_on().len(), 1);
}
