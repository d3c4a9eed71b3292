//! How often the interesting things happened: a run in which nothing happened proves nothing.

use std::collections::BTreeMap;

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<&'static str, u64>);

/// What a set of runs must have met.
pub const WANTED: [&str; 26] = [
    "acknowledged write",
    "adopted suffix",
    "adopted suffix of a log replica",
    "append rejected",
    "clock drift",
    "condition failed",
    "copy failed",
    "copy installed",
    "crash with a torn write",
    "entry truncated",
    "leader ambushed",
    "leader crashed",
    "leader serves",
    "leader stepped down",
    "log read",
    "log truncated",
    "not leader",
    "overloaded or not ready",
    "probe calmed",
    "restart",
    "slow disk",
    "stale message",
    "strong read",
    "transfer completed",
    "trap closed",
    "unknown outcome",
];

impl Coverage {
    /// It happened.
    pub fn hit(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Coverage) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// How often.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// What of the wanted never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let missing = |what: &&str| self.count(what) == 0;
        WANTED.into_iter().filter(missing).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, count) in &self.0 {
            writeln!(f, "{count:>12}  {what}")?;
        }
        Ok(())
    }
}
