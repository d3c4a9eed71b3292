//! The point at which a split would halve the sampled consumption, and the reasons why no split would help.

use bytes::Bytes;
use model::key::COLLECTION_BYTES;
use serde::{Deserialize, Serialize};

use crate::sample::{Sample, Settings};

/// The newest one in so many samples shows where the traffic goes.
const RECENT_PART: usize = 4;
/// What the lesser side of a point must have of the recent consumption, thousandths.
const RECENT_SHARE_MIN: u64 = 100;
/// How far the recent and the older consumption's shares on one side of a point may be apart, thousandths: three times the chance
/// deviation of the fewest samples that are judged.
const DRIFT_MAX: u64 = 350;
/// Recent samples of one item collection below which nothing is said of its order.
const COLLECTION_RECENT_MIN: usize = 8;
/// A point between two item collections is preferred if it halves this much less well, thousandths: queries of a collection then go on
/// asking one partition.
const BETWEEN_BONUS: u64 = 75;

/// Where to split for consumption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Advice {
    /// Here: the first key of the right side.
    At(Bytes),
    /// Nowhere.
    Nowhere(Obstacle),
}

/// Why a split would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Obstacle {
    /// Too little was consumed to tell.
    FewSamples,
    /// No point leaves each side a fair share: one item has most of it.
    SingleItem,
    /// A point would have to lie in an item collection, which must stay whole.
    SingleCollection,
    /// The traffic moves over the keys (ever-increasing sort keys, a scan): it would leave one side for good.
    Sequential,
}

impl Obstacle {
    /// In words for the operator.
    pub fn words(self) -> &'static str {
        match self {
            Self::FewSamples => "too little was consumed to tell where",
            Self::SingleItem => "a single item has most of the consumption",
            Self::SingleCollection => "one item collection has most of it and must stay whole",
            Self::Sequential => "the traffic moves on along the keys",
        }
    }
}

/// Consumption on both sides of a point.
#[derive(Clone, Copy, Default)]
struct Sides {
    left: u64,
    total: u64,
}

impl Sides {
    /// The left side's share, thousandths.
    fn share(self) -> u64 {
        (u128::from(self.left) * 1_000 / u128::from(self.total.max(1))) as u64
    }

    /// The lesser side's share, thousandths.
    fn lesser(self) -> u64 {
        self.share().min(1_000 - self.share())
    }
}

/// The same, by age.
#[derive(Clone, Copy, Default)]
struct Ages {
    older: Sides,
    recent: Sides,
}

impl Ages {
    fn of(samples: &[Weighed]) -> Self {
        let mut ages = Self::default();
        for sample in samples {
            ages.side(sample).total += sample.worth;
        }
        ages
    }

    fn side(&mut self, sample: &Weighed) -> &mut Sides {
        match sample.recent {
            true => &mut self.recent,
            false => &mut self.older,
        }
    }

    fn whole(self) -> Sides {
        Sides {
            left: self.older.left + self.recent.left,
            total: self.older.total + self.recent.total,
        }
    }

    /// Whether the consumption moves over the point, or has passed it.
    fn moves_on(self) -> bool {
        self.recent.lesser() < RECENT_SHARE_MIN
            || self.recent.share().abs_diff(self.older.share()) > DRIFT_MAX
    }
}

/// A sample with what it counts for.
struct Weighed<'a> {
    key: &'a [u8],
    worth: u64,
    recent: bool,
}

/// Samples in the order of time.
pub(crate) fn advise(
    samples: &[&Sample],
    settings: &Settings,
    now_ms: u64,
    whole_collections: bool,
) -> Advice {
    if samples.len() < settings.samples_min.max(2) {
        return Advice::Nowhere(Obstacle::FewSamples);
    }
    let first_recent = samples.len() - samples.len().div_ceil(RECENT_PART);
    let mut weighed: Vec<Weighed> = samples
        .iter()
        .enumerate()
        .map(|(at, sample)| Weighed {
            key: &sample.key,
            worth: sample.worth(settings, now_ms),
            recent: at >= first_recent,
        })
        .collect();
    weighed.sort_by(|a, b| a.key.cmp(b.key));
    let mut ages = Ages::of(&weighed);
    let mut best: Option<(u64, usize)> = None;
    let mut obstacle = Obstacle::SingleItem;
    for at in 1..weighed.len() {
        let (before, here) = (&weighed[at - 1], &weighed[at]);
        ages.side(before).left += before.worth;
        let whole = ages.whole();
        if before.key == here.key || whole.lesser() < settings.fair_share {
            continue;
        }
        let inside = collection(before.key) == collection(here.key);
        if inside && whole_collections {
            obstacle = obstacle.or(Obstacle::SingleCollection);
            continue;
        }
        if ages.moves_on() || inside && collection_moves_on(&weighed, at) {
            obstacle = obstacle.or(Obstacle::Sequential);
            continue;
        }
        let score = whole.lesser() + if inside { 0 } else { BETWEEN_BONUS };
        if best.is_none_or(|(known, _)| score > known) {
            best = Some((score, at));
        }
    }
    match best {
        Some((_, at)) => Advice::At(separator(weighed[at - 1].key, weighed[at].key)),
        None => Advice::Nowhere(obstacle),
    }
}

impl Obstacle {
    /// The one that was in the way of the better point.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Sequential, _) | (_, Self::Sequential) => Self::Sequential,
            (_, other) => other,
        }
    }
}

/// What all keys of an item collection begin with.
fn collection(key: &[u8]) -> &[u8] {
    &key[..key.len().min(COLLECTION_BYTES)]
}

/// Whether the consumption of the item collection around `at` moves over it: sort keys that only grow, or shrink.
fn collection_moves_on(weighed: &[Weighed], at: usize) -> bool {
    let mine = collection(weighed[at].key);
    let start = weighed.partition_point(|w| collection(w.key) < mine);
    let end = weighed.partition_point(|w| collection(w.key) <= mine);
    let samples = &weighed[start..end];
    let mut ages = Ages::of(samples);
    for sample in &weighed[start..at] {
        ages.side(sample).left += sample.worth;
    }
    let recent = samples.iter().filter(|w| w.recent).count();
    recent >= COLLECTION_RECENT_MIN && ages.moves_on()
}

/// The shortest key that is above `left` and not above `right`. Between two item collections it is no longer than what a collection
/// begins with, and so leaves both whole.
fn separator(left: &[u8], right: &[u8]) -> Bytes {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    Bytes::copy_from_slice(&right[..(common + 1).min(right.len())])
}
