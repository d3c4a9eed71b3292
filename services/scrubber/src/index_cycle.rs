//! Which index is compared with its table next. Pure: the tables that there are and the results of comparisons come in, names come out. Never talks to
//! anybody.
//!
//! The one that was compared the longest ago goes first, what an operator asked for before that; one at a time.

use std::collections::{BTreeMap, BTreeSet};

use model::index::split_index_table_name;
use serde::{Deserialize, Serialize};

use crate::cycle::Known;

/// After a comparison that came to nothing, milliseconds; doubled each time …
const AGAIN_MS: u64 = 1_000;
/// … up to this.
const AGAIN_MS_MAX: u64 = 300_000;

/// What is remembered of an index's comparisons, over restarts, too. Times are wall clock, milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// UUID of the table that holds its entries: another index may come to have its name.
    pub(crate) uuid: String,
    /// When it was first seen.
    pub(crate) seen_ms: u64,
    /// When it was last found to say what its table says (when that comparison began).
    pub(crate) clean_ms: Option<u64>,
    /// When a comparison last came to an end …
    pub(crate) compared_ms: Option<u64>,
    /// … or was tried.
    pub(crate) tried_ms: u64,
    /// Tries in a row that came to nothing.
    pub(crate) failures: u32,
    /// How the last one ended, in words.
    pub(crate) state: String,
    /// What was found since the last clean one, in words.
    pub(crate) finding: String,
}

/// How a comparison ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// They say the same; in words, what was looked at.
    Clean(String),
    /// They differ, in words.
    Differs(String),
    /// It came to nothing, and why.
    Void(String),
}

/// Pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// An index is compared again so long after its last comparison, milliseconds.
    pub(crate) again_after_ms: u64,
    /// A new one for the first time so long after it was first seen, milliseconds.
    pub(crate) first_after_ms: u64,
}

/// The planner.
#[derive(Debug)]
pub(crate) struct IndexCycle {
    limits: Limits,
    /// By name of the table that holds the entries.
    records: BTreeMap<String, Record>,
    /// Asked for by an operator.
    wishes: BTreeSet<String>,
    /// Under way.
    running: Option<String>,
}

impl IndexCycle {
    /// Goes on from what is remembered.
    pub(crate) fn new(limits: Limits, records: BTreeMap<String, Record>) -> Self {
        Self {
            limits,
            records,
            wishes: BTreeSet::new(),
            running: None,
        }
    }

    /// What is remembered, by name of the table that holds the entries.
    pub(crate) fn records(&self) -> &BTreeMap<String, Record> {
        &self.records
    }

    /// What is being compared.
    pub(crate) fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// Takes note of the tables that there are; those that are gone are forgotten. Nothing is known while none is.
    pub(crate) fn hear(&mut self, now_ms: u64, known: &[Known]) {
        if known.is_empty() {
            return;
        }
        let indexes: BTreeMap<&str, &str> = known
            .iter()
            .filter(|known| split_index_table_name(&known.table).is_some())
            .map(|known| (&known.table[..], &known.table_uuid[..]))
            .collect();
        let is_same = |name: &String, record: &mut Record| {
            indexes.get(&name[..]).is_some_and(|uuid| {
                let is_known = !uuid.is_empty() && !record.uuid.is_empty();
                !is_known || *uuid == record.uuid
            })
        };
        self.records.retain(is_same);
        for (name, uuid) in indexes {
            let record = self
                .records
                .entry(name.to_owned())
                .or_insert_with(|| Record {
                    seen_ms: now_ms,
                    ..Record::default()
                });
            if record.uuid.is_empty() {
                record.uuid = uuid.to_owned();
            }
        }
        let records = &self.records;
        self.wishes.retain(|name| records.contains_key(name));
    }

    /// Wanted before all others: the indexes of this table, or this one, or all.
    pub(crate) fn wish(&mut self, table: Option<&str>) {
        let wanted = self.records.keys().filter(|name| is_of(name, table));
        self.wishes.extend(wanted.cloned());
    }

    fn due_ms(&self, record: &Record) -> u64 {
        if record.tried_ms == 0 {
            return record.seen_ms.saturating_add(self.limits.first_after_ms);
        }
        let pause = match record.failures {
            0 => self.limits.again_after_ms,
            failures => (AGAIN_MS << (failures - 1).min(20)).min(AGAIN_MS_MAX),
        };
        record.tried_ms.saturating_add(pause)
    }

    /// The index to compare now, if there is one; it counts as running from here on.
    pub(crate) fn next(&mut self, now_ms: u64) -> Option<String> {
        if self.running.is_some() {
            return None;
        }
        let order = |(name, record): (&String, &Record)| {
            // A clock that was set back must not stop the comparisons.
            let due = now_ms >= self.due_ms(record) || record.tried_ms > now_ms;
            let wished = self.wishes.contains(name) && (record.failures == 0 || due);
            (wished || due).then(|| (!wished, record.tried_ms, name.clone()))
        };
        let (_, _, name) = self.records.iter().filter_map(order).min()?;
        self.running = Some(name.clone());
        Some(name)
    }

    /// The one under way, begun at `began_ms`, ended.
    pub(crate) fn ended(&mut self, now_ms: u64, began_ms: u64, ended: &Ended) {
        let Some(name) = self.running.take() else {
            return;
        };
        // It may be gone by now.
        let Some(record) = self.records.get_mut(&name) else {
            return;
        };
        record.tried_ms = now_ms;
        match ended {
            Ended::Void(why) => {
                record.failures = record.failures.saturating_add(1);
                record.state = format!("came to nothing: {why}");
                return;
            }
            Ended::Clean(words) => {
                record.clean_ms = Some(began_ms);
                record.state.clone_from(words);
                record.finding.clear();
            }
            Ended::Differs(finding) => {
                "differs".clone_into(&mut record.state);
                record.finding.clone_from(finding);
            }
        }
        record.failures = 0;
        record.compared_ms = Some(now_ms);
        self.wishes.remove(&name);
    }
}

/// Whether the table that holds an index's entries is what is meant by this name of a table: its own, its table's, or any.
pub(crate) fn is_of(entries: &str, table: Option<&str>) -> bool {
    let base = split_index_table_name(entries).map(|(base, _)| base);
    table.is_none_or(|table| table == entries || Some(table) == base)
}

#[cfg(test)]
mod tests {
    use paxos::{GroupId, NodeId};

    use super::*;

    const LIMITS: Limits = Limits {
        again_after_ms: 10_000,
        first_after_ms: 600,
    };
    const ONE: &str = "a/index/one";
    const TWO: &str = "b/index/two";

    fn known(table: &str, uuid: &str) -> Known {
        Known {
            partition: GroupId(1),
            table: table.to_owned(),
            table_uuid: uuid.to_owned(),
            bytes: 1,
            leader: Some(NodeId(1)),
            nodes: vec![NodeId(1)],
            whole: true,
        }
    }

    fn cycle() -> IndexCycle {
        let mut cycle = IndexCycle::new(LIMITS, BTreeMap::new());
        let all = [known("a", "ua"), known(ONE, "u1"), known(TWO, "u2")];
        cycle.hear(1_000, &all);
        cycle
    }

    fn clean() -> Ended {
        Ended::Clean("clean".to_owned())
    }

    #[test]
    fn only_indexes_are_compared_one_at_a_time_and_none_too_often() {
        let mut cycle = cycle();
        assert_eq!(cycle.next(1_599), None, "it was just made");
        assert_eq!(cycle.next(1_600).as_deref(), Some(ONE));
        assert_eq!(cycle.next(1_600), None, "one at a time");
        cycle.ended(1_700, 1_600, &clean());
        assert_eq!(cycle.next(1_700).as_deref(), Some(TWO));
        cycle.ended(1_800, 1_700, &clean());
        assert_eq!(cycle.next(11_699), None);
        assert_eq!(cycle.next(11_700).as_deref(), Some(ONE));
        assert_eq!(cycle.records()[ONE].clean_ms, Some(1_600));
    }

    #[test]
    fn a_wish_comes_first_and_is_kept_until_something_came_of_it() {
        let mut cycle = cycle();
        cycle.wish(Some("b"));
        assert_eq!(cycle.next(1_000).as_deref(), Some(TWO));
        cycle.ended(1_100, 1_000, &Ended::Void("no leader".to_owned()));
        assert_eq!(cycle.next(1_101), None, "not again at once");
        assert_eq!(cycle.next(2_100).as_deref(), Some(TWO));
        cycle.ended(2_200, 2_100, &clean());
        assert_eq!(cycle.next(2_200).as_deref(), Some(ONE), "it is due");
        cycle.ended(2_300, 2_200, &clean());
        cycle.wish(None);
        assert_eq!(cycle.next(2_300).as_deref(), Some(TWO));
    }

    #[test]
    fn a_finding_stays_until_a_clean_comparison() {
        let mut cycle = cycle();
        cycle.next(2_000);
        cycle.ended(2_100, 2_000, &Ended::Differs("x".to_owned()));
        assert_eq!(cycle.records()[ONE].finding, "x");
        assert_eq!(cycle.records()[ONE].compared_ms, Some(2_100));
        cycle.wish(Some(ONE));
        cycle.next(2_200);
        cycle.ended(2_300, 2_200, &Ended::Void("y".to_owned()));
        assert_eq!(cycle.records()[ONE].finding, "x");
        cycle.next(4_000);
        cycle.ended(4_100, 4_000, &clean());
        assert_eq!(cycle.records()[ONE].finding, "");
    }

    #[test]
    fn what_is_gone_or_made_anew_is_forgotten() {
        let mut cycle = cycle();
        cycle.next(2_000);
        cycle.hear(2_050, &[known(ONE, "another"), known(TWO, "u2")]);
        cycle.ended(2_100, 2_000, &Ended::Differs("x".to_owned()));
        cycle.hear(2_200, &[known(TWO, "")]);
        assert!(!cycle.records().contains_key(ONE));
        cycle.hear(2_300, &[]);
        assert!(cycle.records().contains_key(TWO), "nobody knows just now");
    }

    #[test]
    fn an_index_is_meant_by_its_own_name_and_by_its_tables() {
        assert!(is_of(ONE, None) && is_of(ONE, Some("a")) && is_of(ONE, Some(ONE)));
        assert!(!is_of(ONE, Some("b")) && !is_of(ONE, Some("a/index")));
    }
}
