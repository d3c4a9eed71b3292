//! What a stream asks for: shares of the kinds of requests, by YCSB's names or in numbers. Pure.

use rand::{Rng, RngExt as _};
use serde::Deserialize;

use super::keys::Choice;

/// Shares of the kinds of requests, percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    /// GetItem.
    pub read: f64,
    /// PutItem of an item that is there.
    pub update: f64,
    /// PutItem of a new item.
    pub insert: f64,
    /// GetItem, then PutItem on condition that nothing changed.
    pub modify: f64,
    /// How YCSB chooses keys in it.
    pub keys: Choice,
}

impl Default for Workload {
    fn default() -> Self {
        Self::named("c").unwrap_or(Self {
            read: 100.0,
            update: 0.0,
            insert: 0.0,
            modify: 0.0,
            keys: Choice::Uniform,
        })
    }
}

/// One request's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// GetItem.
    Read,
    /// PutItem of an item that is there.
    Update,
    /// PutItem of a new item.
    Insert,
    /// GetItem, then a conditional PutItem.
    Modify,
}

impl Workload {
    /// YCSB's A, B, C, D and F, and `write`. Keys are uniform, as in Amazon's published measurements, but for D.
    pub fn named(name: &str) -> Option<Self> {
        let [read, update, insert, modify] = match name.to_ascii_lowercase().as_str() {
            "a" => [50.0, 50.0, 0.0, 0.0],
            "b" => [95.0, 5.0, 0.0, 0.0],
            "c" | "read" => [100.0, 0.0, 0.0, 0.0],
            "d" => [95.0, 0.0, 5.0, 0.0],
            "f" => [50.0, 0.0, 0.0, 50.0],
            "write" => [0.0, 100.0, 0.0, 0.0],
            "insert" => [0.0, 0.0, 100.0, 0.0],
            _ => return None,
        };
        let keys = match name {
            "d" | "D" => Choice::Latest,
            _ => Choice::Uniform,
        };
        Some(Self {
            read,
            update,
            insert,
            modify,
            keys,
        })
    }

    /// Draws one request's kind.
    pub fn draw(&self, random: &mut impl Rng) -> Action {
        let draw = random.random::<f64>() * 100.0;
        let mut until = self.read;
        if draw < until {
            return Action::Read;
        }
        until += self.update;
        if draw < until {
            return Action::Update;
        }
        until += self.insert;
        if draw < until {
            return Action::Insert;
        }
        if self.modify > 0.0 {
            Action::Modify
        } else {
            Action::Read
        }
    }
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[derive(Default)]
        struct Shares {
            read: f64,
            update: f64,
            insert: f64,
            modify: f64,
        }
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a workload is a, b, c, d, f, read, write, insert, or shares in percent: {read = 90, update = 10}"
        )]
        enum Written {
            Name(String),
            Shares(Shares),
        }
        match Written::deserialize(deserializer)? {
            Written::Name(name) => Self::named(&name).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "the workload \"{name}\" is none of a, b, c, d, f, read, write, insert"
                ))
            }),
            Written::Shares(shares) => {
                let all = [shares.read, shares.update, shares.insert, shares.modify];
                let sum: f64 = all.iter().sum();
                if all.iter().any(|share| !(0.0..=100.0).contains(share))
                    || (sum - 100.0).abs() > 1e-6
                {
                    return Err(serde::de::Error::custom(
                        "the shares of a workload must add up to 100",
                    ));
                }
                Ok(Self {
                    read: shares.read,
                    update: shares.update,
                    insert: shares.insert,
                    modify: shares.modify,
                    keys: Choice::Uniform,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn workloads_have_their_shares() {
        let mut random = SmallRng::seed_from_u64(3);
        for (name, expected) in [
            ("a", [50, 50, 0, 0]),
            ("d", [95, 0, 5, 0]),
            ("f", [50, 0, 0, 50]),
            ("c", [100, 0, 0, 0]),
        ] {
            let workload = Workload::named(name).unwrap();
            let mut counts = [0; 4];
            for _ in 0..100_000 {
                counts[workload.draw(&mut random) as usize] += 1;
            }
            for (count, percent) in counts.into_iter().zip(expected) {
                assert!(
                    (f64::from(count) / 1_000.0 - f64::from(percent)).abs() < 0.7,
                    "{name}: {counts:?}"
                );
                assert!(percent > 0 || count == 0);
            }
        }
    }
}
