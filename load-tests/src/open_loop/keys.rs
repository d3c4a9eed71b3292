//! Which item a request is for. Pure: random numbers are inputs. Items are numbered from 0; what their keys look like is not known here.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt as _};
use serde::Deserialize;

/// YCSB's constant: the skew of its zipfian choice.
pub const THETA: f64 = 0.99;
/// Items of a table at most: the sum behind the zipfian choice is computed over all of them once.
pub const ITEMS_MAX: u64 = 100_000_000;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Choice {
    /// `uniform`: all alike.
    #[default]
    Uniform,
    /// `zipfian` or `zipfian:0.8`: few are wanted often; they are scattered over the key space (YCSB's scrambled zipfian).
    Zipfian(f64),
    /// `latest`: the newest are wanted most, zipfian by age.
    Latest,
    /// `hotspot:10:90`: so many percent of the items get so many percent of the requests.
    Hotspot {
        /// Percent of the items, scattered.
        items: f64,
        /// Percent of the requests.
        requests: f64,
    },
    /// `single`: always item 0.
    Single,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = |text: &str| match text.parse() {
            Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
            _ => Err(format!("\"{text}\" is not a percentage")),
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["uniform"] => Ok(Choice::Uniform),
            ["zipfian"] => Ok(Choice::Zipfian(THETA)),
            ["zipfian", theta] => match theta.parse() {
                Ok(theta) if (0.01..=0.999).contains(&theta) => Ok(Choice::Zipfian(theta)),
                _ => Err(format!(
                    "the skew \"{theta}\" is not between 0.01 and 0.999"
                )),
            },
            ["latest"] => Ok(Choice::Latest),
            ["hotspot"] => Ok(Choice::Hotspot {
                items: 10.0,
                requests: 90.0,
            }),
            ["hotspot", items, requests] => Ok(Choice::Hotspot {
                items: percent(items)?,
                requests: percent(requests)?,
            }),
            ["single"] => Ok(Choice::Single),
            _ => Err(format!(
                "\"{text}\" is none of uniform, zipfian[:SKEW], latest, hotspot[:ITEMS_PERCENT:REQUESTS_PERCENT], single"
            )),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Uniform => f.write_str("uniform"),
            Choice::Zipfian(theta) => write!(f, "zipfian:{theta}"),
            Choice::Latest => f.write_str("latest"),
            Choice::Hotspot { items, requests } => write!(f, "hotspot:{items}:{requests}"),
            Choice::Single => f.write_str("single"),
        }
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Chooses among so many items that are there from the start, and those that came since.
#[derive(Clone, Debug)]
pub struct Keys {
    choice: Choice,
    items: u64,
    zipf: Option<Zipf>,
    multiplier: u64,
}

impl Keys {
    /// A choice among `items` items (1 to `ITEMS_MAX`).
    pub fn new(choice: Choice, items: u64) -> Self {
        let items = items.clamp(1, ITEMS_MAX);
        let theta = match choice {
            Choice::Zipfian(theta) => Some(theta),
            Choice::Latest => Some(THETA),
            Choice::Uniform | Choice::Hotspot { .. } | Choice::Single => None,
        };
        Self {
            choice,
            items,
            zipf: theta.map(|theta| Zipf::new(items, theta)),
            multiplier: multiplier(items),
        }
    }

    /// An item; `there` (at least 1) is the number of items that are there by now: only `latest` looks at those that came since.
    pub fn pick(&self, there: u64, random: &mut impl Rng) -> u64 {
        match self.choice {
            Choice::Uniform => random.random_range(0..self.items),
            Choice::Single => 0,
            Choice::Zipfian(_) => self.scattered(self.rank(random)),
            Choice::Latest => {
                let age = self.rank(random);
                (there.max(1) - 1).saturating_sub(age)
            }
            Choice::Hotspot { items, requests } => {
                let hot = ((self.items as f64 * items / 100.0).round() as u64).clamp(1, self.items);
                let rank = if hot == self.items || random.random_bool(requests / 100.0) {
                    random.random_range(0..hot)
                } else {
                    random.random_range(hot..self.items)
                };
                self.scattered(rank)
            }
        }
    }

    fn rank(&self, random: &mut impl Rng) -> u64 {
        let draw = random.random::<f64>();
        self.zipf.as_ref().map_or(0, |zipf| zipf.rank(draw))
    }

    /// Where the item of this rank is: a permutation, so that every item has exactly one rank.
    fn scattered(&self, rank: u64) -> u64 {
        let product = u128::from(rank) * u128::from(self.multiplier) + u128::from(self.items / 3);
        (product % u128::from(self.items)) as u64
    }
}

/// A multiplier that shares no factor with `items`, near the golden section of it: neighbours end up far apart.
fn multiplier(items: u64) -> u64 {
    let mut multiplier = ((items as f64 * 0.618_033_988_75) as u64).max(1);
    while common_factor(multiplier, items) != 1 {
        multiplier += 1;
    }
    multiplier
}

fn common_factor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Ranks with probability 1/(rank + 1)^theta: Gray et al., "Quickly generating billion-record synthetic databases", as YCSB uses it.
#[derive(Clone, Debug)]
struct Zipf {
    items: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
    half: f64,
}

impl Zipf {
    fn new(items: u64, theta: f64) -> Self {
        // Smallest parts first: less is lost in rounding.
        let zeta: f64 = (1..=items).rev().map(|n| (n as f64).powf(-theta)).sum();
        let half = 0.5_f64.powf(theta);
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - theta)) / (1.0 - (1.0 + half) / zeta);
        Self {
            items,
            alpha: 1.0 / (1.0 - theta),
            zeta,
            eta,
            half,
        }
    }

    /// The rank for an even draw from 0 to 1.
    fn rank(&self, draw: f64) -> u64 {
        let place = draw * self.zeta;
        if place < 1.0 || self.items == 1 {
            return 0;
        }
        if place < 1.0 + self.half || self.items == 2 {
            return 1;
        }
        let rank = self.items as f64 * (self.eta * draw - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.items - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    const DRAWS: u64 = 400_000;

    /// Share of the draws by item.
    fn shares(choice: &str, items: u64, there: u64) -> BTreeMap<u64, f64> {
        let keys = Keys::new(choice.parse().unwrap(), items);
        let mut random = SmallRng::seed_from_u64(7);
        let mut shares = BTreeMap::new();
        for _ in 0..DRAWS {
            *shares.entry(keys.pick(there, &mut random)).or_insert(0.0) += 1.0 / DRAWS as f64;
        }
        shares
    }

    #[test]
    fn zipfian_ranks_have_their_probabilities() {
        let items = 1_000;
        let mut by_rank: Vec<f64> = shares("zipfian", items, items).into_values().collect();
        by_rank.sort_by(|a, b| b.total_cmp(a));
        let zeta: f64 = (1..=items).map(|n| (n as f64).powf(-THETA)).sum();
        // The first two ranks are exact; those behind are an approximation whose sums are.
        for rank in [0, 1] {
            let expected = ((rank + 1) as f64).powf(-THETA) / zeta;
            assert!(
                (by_rank[rank] - expected).abs() < 0.004,
                "rank {rank}: {}",
                by_rank[rank]
            );
        }
        for top in [10, 50, 100, 500] {
            let expected: f64 = (1..=top).map(|n| (n as f64).powf(-THETA)).sum::<f64>() / zeta;
            let got: f64 = by_rank[..top].iter().sum();
            assert!(
                (got - expected).abs() < 0.02,
                "top {top}: {got} instead of {expected}"
            );
        }
    }

    #[test]
    fn zipfian_hot_items_are_scattered() {
        let mut shares: Vec<(u64, f64)> = shares("zipfian", 100_000, 0).into_iter().collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let hot: Vec<u64> = shares[..8].iter().map(|(item, _)| item / 12_500).collect();
        let eighths: std::collections::BTreeSet<&u64> = hot.iter().collect();
        assert!(eighths.len() >= 5, "in eighths {hot:?}");
    }

    #[test]
    fn uniform_is_uniform() {
        let shares = shares("uniform", 100, 0);
        assert_eq!(shares.len(), 100);
        assert!(shares.values().all(|share| (share - 0.01).abs() < 0.002));
    }

    #[test]
    fn latest_prefers_the_newest() {
        let shares = shares("latest", 1_000, 1_500);
        assert!(shares.keys().all(|item| (500..1_500).contains(item)));
        let newest = shares[&1_499];
        assert!(newest > 0.1 && shares.values().all(|share| *share <= newest));
    }

    #[test]
    fn a_hotspot_gets_its_share() {
        let mut shares: Vec<f64> = shares("hotspot:10:90", 1_000, 0).into_values().collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        let hot: f64 = shares[..100].iter().sum();
        assert!((hot - 0.9).abs() < 0.01, "{hot}");
    }

    #[test]
    fn choices_are_read_as_they_are_written() {
        for text in ["uniform", "zipfian:0.8", "latest", "hotspot:5:95", "single"] {
            let choice: Choice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
        }
        for wrong in [
            "",
            "zipfian:1",
            "zipfian:x",
            "hotspot:10",
            "hotspot:-1:5",
            "hotspot:1:500",
        ] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_item_has_one_place(items in 1_u64..3_000) {
            let keys = Keys::new(Choice::Zipfian(THETA), items);
            let places: std::collections::BTreeSet<u64> = (0..items).map(|rank| keys.scattered(rank)).collect();
            prop_assert_eq!(places.len() as u64, items);
            prop_assert!(places.last().is_some_and(|place| *place < items));
        }

        #[test]
        fn picks_are_items_that_are_there(items in 1_u64..500, more in 0_u64..50, seed: u64) {
            let mut random = SmallRng::seed_from_u64(seed);
            for choice in [Choice::Uniform, Choice::Zipfian(THETA), Choice::Latest, Choice::Hotspot { items: 20.0, requests: 80.0 }, Choice::Single] {
                let keys = Keys::new(choice, items);
                for _ in 0..20 {
                    prop_assert!(keys.pick(items + more, &mut random) < items + more);
                }
            }
        }
    }
}
