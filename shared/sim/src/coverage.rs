//! How often the interesting things happened: a run in which nothing happened proves nothing.

use std::collections::BTreeMap;

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<&'static str, u64>);

/// What a set of runs must have met.
pub const WANTED: [&str; 49] = [
    "acknowledged write",
    "adopted suffix",
    "adopted suffix of a log replica",
    "adopted what only a log replica had",
    "all members replaced at once",
    "append rejected",
    "change refused: invalid",
    "change refused: not in step",
    "change refused: not leader",
    "change refused: stale",
    "change refused: under way",
    "clock drift",
    "condition failed",
    "copy failed",
    "copy installed",
    "crash with a torn write",
    "disk lost",
    "entry truncated",
    "joint change completed by another leader",
    "leader ambushed",
    "leader crashed",
    "leader paused",
    "leader serves",
    "leader stepped down",
    "learner got its vote back",
    "log read",
    "log replica got a vote",
    "log truncated",
    "message from long ago",
    "new storage replica got a vote",
    "not leader",
    "overloaded or not ready",
    "planner changes the members",
    "planner orders a log replica",
    "planner orders a storage replica",
    "probe calmed",
    "process paused",
    "replacement ordered",
    "replica joined",
    "replica retired",
    "replica retired by order",
    "restart",
    "several commands a proposal",
    "slow disk",
    "stale message",
    "strong read",
    "transfer completed",
    "trap closed",
    "unknown outcome",
];

/// What a set of runs in which the members change must have met, too: the rare turns of a change.
pub const WANTED_OF_CHANGES: [&str; 2] = ["candidate asked again", "change undone"];

/// What a set of runs in which partitions are split must have met.
pub const WANTED_OF_SPLITS: [&str; 10] = [
    "child joined before it was installed",
    "children discarded",
    "children installed",
    "commit of a split proposed",
    "copy installed",
    "order about a split refused",
    "parent dropped",
    "sent on to a child",
    "split committed",
    "split to be abandoned",
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
    pub fn missing(&self, wanted: &[&'static str]) -> Vec<&'static str> {
        let missing = |what: &&str| self.count(what) == 0;
        wanted.iter().copied().filter(missing).collect()
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
