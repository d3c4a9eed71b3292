//! Which partition is scrubbed next. Pure: what is known of the partitions and the results of scrubs come in, partitions come out. Never talks to
//! anybody, never compares anything.
//!
//! The one that was compared the longest ago goes first; what an operator asked for before that. A node's replicas are read one at a time.
//! A scrub that came to nothing is repeated after a pause that doubles; no partition is scrubbed more often than the settings say.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// After a scrub that came to nothing, milliseconds; doubled each time …
const AGAIN_MS: u64 = 1_000;
/// … up to this.
const AGAIN_MS_MAX: u64 = 300_000;
/// A partition that is not heard of for so long is forgotten, milliseconds: it was split or deleted.
const FORGET_MS: u64 = 3_600_000;

/// A partition as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The partition.
    pub partition: GroupId,
    /// Name of its table.
    pub table: String,
    /// UUID of that; empty: not known.
    pub table_uuid: String,
    /// Bytes of its items.
    pub bytes: u64,
    /// Its leader; none: it cannot be scrubbed now.
    pub leader: Option<NodeId>,
    /// Nodes of its replicas.
    pub nodes: Vec<NodeId>,
    /// It is whole: three storage replicas with which nothing is wrong, and no split under way. Others may wait.
    pub whole: bool,
}

/// What is remembered of a partition's scrubs, over restarts, too. Times are wall clock, milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// All replicas were equal.
    pub clean_ms: Option<u64>,
    /// … and equal to the archive.
    pub archive_clean_ms: Option<u64>,
    /// When a comparison was last made …
    pub compared_ms: u64,
    /// … or tried.
    pub tried_ms: u64,
    /// Tries in a row that came to nothing.
    pub failures: u32,
    /// How the last one ended, in words.
    pub state: String,
    /// What was found since the last clean scrub, in words.
    pub finding: String,
    /// What was found since the archive was last found to say the same, in words.
    pub archive_finding: String,
    /// Why the last comparison with the archive came to nothing, in words; empty = it did not.
    pub archive_void: String,
    /// Replicas of the last comparison.
    pub replicas: u64,
    /// When the partition was last heard of.
    pub heard_ms: u64,
}

/// How a scrub ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many replicas are equal. Where not all replicas took part, the age of the last clean scrub goes on.
    Clean {
        /// Replicas.
        replicas: u64,
        /// All of the partition's took part.
        all: bool,
    },
    /// There is a difference, in words.
    Differs {
        /// Replicas.
        replicas: u64,
        /// In words.
        finding: String,
    },
    /// It came to nothing, and why.
    Void(String),
}

impl Ended {
    /// As a trace has it: what was found, or why it came to nothing, is an error.
    pub fn outcome(&self) -> Result<(), String> {
        match self {
            Self::Clean { .. } => Ok(()),
            Self::Differs { finding, .. } => Err(finding.clone()),
            Self::Void(why) => Err(format!("came to nothing: {why}")),
        }
    }
}

/// Limits of a cycle.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Scrubs at a time.
    pub scrubs_max: usize,
    /// A partition is scrubbed again so long after its last scrub, milliseconds.
    pub again_after_ms: u64,
}

/// The planner.
#[derive(Debug)]
pub struct Cycle {
    limits: Limits,
    records: BTreeMap<GroupId, Record>,
    /// Asked for by an operator.
    wishes: BTreeSet<GroupId>,
    /// Under way, with the nodes that they use.
    running: BTreeMap<GroupId, Vec<NodeId>>,
}

impl Record {
    /// Everything that stands against the partition, in words; empty: nothing does.
    pub fn findings(&self) -> String {
        let all = [&self.finding[..], &self.archive_finding[..]];
        let all: Vec<&str> = all.into_iter().filter(|f| !f.is_empty()).collect();
        all.join("; ")
    }
}

impl Cycle {
    /// Goes on from what is remembered.
    pub fn new(limits: Limits, records: BTreeMap<GroupId, Record>) -> Self {
        Self {
            limits,
            records,
            wishes: BTreeSet::new(),
            running: BTreeMap::new(),
        }
    }

    /// What is remembered.
    pub fn records(&self) -> &BTreeMap<GroupId, Record> {
        &self.records
    }

    /// Takes in what another instance or an earlier life remembers of a partition: whoever tried last knows what it found; of each age the
    /// latest counts.
    pub fn recall(&mut self, partition: GroupId, other: &Record) {
        let own = self.records.entry(partition).or_default();
        let clean_ms = own.clean_ms.max(other.clean_ms);
        let archive_clean_ms = own.archive_clean_ms.max(other.archive_clean_ms);
        let compared_ms = own.compared_ms.max(other.compared_ms);
        if other.tried_ms > own.tried_ms {
            *own = Record {
                heard_ms: own.heard_ms,
                ..other.clone()
            };
        }
        (own.clean_ms, own.archive_clean_ms) = (clean_ms, archive_clean_ms);
        own.compared_ms = compared_ms;
    }

    /// Whether a scrub of it is under way.
    pub fn is_running(&self, partition: GroupId) -> bool {
        self.running.contains_key(&partition)
    }

    /// Scrubs under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Wanted before all others, as soon as possible.
    pub fn wish(&mut self, partition: GroupId) {
        self.wishes.insert(partition);
    }

    /// Takes note of the partitions that there are; forgets those that have not been for long.
    pub fn hear(&mut self, now_ms: u64, known: &[Known]) {
        for partition in known {
            self.records
                .entry(partition.partition)
                .or_default()
                .heard_ms = now_ms;
        }
        let (running, records) = (&self.running, &mut self.records);
        records.retain(|partition, record| {
            running.contains_key(partition) || now_ms.saturating_sub(record.heard_ms) < FORGET_MS
        });
        let records = &self.records;
        self.wishes
            .retain(|partition| records.contains_key(partition));
    }

    fn due_ms(&self, record: &Record) -> u64 {
        let pause = match record.failures {
            0 => self.limits.again_after_ms,
            failures => (AGAIN_MS << (failures - 1).min(20)).min(AGAIN_MS_MAX),
        };
        record.tried_ms.saturating_add(pause)
    }

    /// The partition to scrub now, if there is one; it counts as running from here on.
    pub fn next(&mut self, now_ms: u64, known: &[Known]) -> Option<Known> {
        if self.running.len() >= self.limits.scrubs_max {
            return None;
        }
        let busy: BTreeSet<NodeId> = self.running.values().flatten().copied().collect();
        let fits = |known: &&Known| {
            let free = !known.nodes.iter().any(|node| busy.contains(node));
            free && known.leader.is_some() && !self.running.contains_key(&known.partition)
        };
        let nothing = Record::default();
        let order = |known: &&Known| {
            let record = self.records.get(&known.partition).unwrap_or(&nothing);
            let wished = self.wishes.contains(&known.partition);
            let tried = record.tried_ms > 0;
            let due = !tried || now_ms >= self.due_ms(record);
            // A clock that was set back must not stop the scrubs.
            let due = due || record.tried_ms > now_ms;
            // One that was asked for is tried again like others when it came to nothing.
            let now = wished && (record.failures == 0 || due);
            (now || (due && known.whole)).then_some((
                !now,
                record.compared_ms,
                record.tried_ms,
                known.partition,
            ))
        };
        let chosen = known
            .iter()
            .filter(fits)
            .filter_map(|known| Some((order(&known)?, known)))
            .min_by(|(one, _), (other, _)| one.cmp(other))
            .map(|(_, known)| known.clone())?;
        self.running.insert(chosen.partition, chosen.nodes.clone());
        Some(chosen)
    }

    /// A scrub ended. `at_ms`: when its marker was made, or when it was given up.
    pub fn ended(&mut self, now_ms: u64, at_ms: u64, partition: GroupId, ended: &Ended) {
        self.running.remove(&partition);
        let record = self.records.entry(partition).or_default();
        record.tried_ms = now_ms;
        if !matches!(ended, Ended::Void(_)) {
            record.compared_ms = now_ms;
        }
        match ended {
            Ended::Clean { replicas, all } => {
                record.failures = 0;
                record.replicas = *replicas;
                record.state = match all {
                    true => "clean".to_owned(),
                    false => format!("{replicas} replicas are equal; others are missing"),
                };
                if *all {
                    record.clean_ms = Some(at_ms);
                    record.finding.clear();
                }
                self.wishes.remove(&partition);
            }
            Ended::Differs { replicas, finding } => {
                record.failures = 0;
                record.replicas = *replicas;
                record.state = "differs".to_owned();
                record.finding.clone_from(finding);
                self.wishes.remove(&partition);
            }
            Ended::Void(why) => {
                record.failures = record.failures.saturating_add(1);
                record.state = format!("came to nothing: {why}");
            }
        }
    }

    /// A partition was compared with the archive as of `at_ms`: it is the same, or what was found, in words.
    pub fn archived(&mut self, at_ms: u64, partition: GroupId, found: Option<String>) {
        let record = self.records.entry(partition).or_default();
        record.archive_void.clear();
        match found {
            None => {
                record.archive_clean_ms = Some(at_ms);
                record.archive_finding.clear();
            }
            Some(finding) => record.archive_finding = finding,
        }
    }

    /// A comparison with the archive came to nothing.
    pub fn archive_void(&mut self, partition: GroupId, why: String) {
        self.records.entry(partition).or_default().archive_void = why;
    }

    /// The oldest time at which a known partition was clean; none where one never was.
    pub fn oldest_clean_ms(&self, known: &[Known]) -> Option<u64> {
        let of = |known: &Known| self.records.get(&known.partition)?.clean_ms;
        known
            .iter()
            .map(of)
            .collect::<Option<Vec<u64>>>()?
            .into_iter()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        scrubs_max: 2,
        again_after_ms: 10_000,
    };

    fn known(partition: u64, nodes: [u64; 3]) -> Known {
        Known {
            partition: GroupId(partition),
            table: "t".to_owned(),
            table_uuid: "u".to_owned(),
            bytes: 1,
            leader: Some(NodeId(nodes[0])),
            nodes: nodes.map(NodeId).to_vec(),
            whole: true,
        }
    }

    fn clean() -> Ended {
        Ended::Clean {
            replicas: 3,
            all: true,
        }
    }

    fn next(cycle: &mut Cycle, now_ms: u64, all: &[Known]) -> Option<u64> {
        cycle.next(now_ms, all).map(|known| known.partition.0)
    }

    #[test]
    fn the_oldest_clean_one_is_next_and_none_too_often() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        let all = [known(1, [1, 2, 3]), known(2, [1, 2, 3])];
        cycle.hear(1, &all);
        assert_eq!(next(&mut cycle, 1, &all), Some(1));
        assert_eq!(next(&mut cycle, 1, &all), None, "its nodes are busy");
        cycle.ended(100, 90, GroupId(1), &clean());
        assert_eq!(next(&mut cycle, 100, &all), Some(2));
        cycle.ended(200, 190, GroupId(2), &clean());
        assert_eq!(next(&mut cycle, 10_099, &all), None);
        assert_eq!(next(&mut cycle, 10_100, &all), Some(1));
        assert_eq!(cycle.oldest_clean_ms(&all), Some(90));
    }

    #[test]
    fn scrubs_of_other_nodes_run_beside_each_other() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        let all = [
            known(1, [1, 2, 3]),
            known(2, [3, 4, 5]),
            known(3, [4, 5, 6]),
            known(4, [7, 8, 9]),
        ];
        assert_eq!(next(&mut cycle, 1, &all), Some(1));
        assert_eq!(next(&mut cycle, 1, &all), Some(3));
        assert_eq!(next(&mut cycle, 1, &all), None, "two at a time");
        assert_eq!(cycle.running(), 2);
    }

    #[test]
    fn what_came_to_nothing_is_tried_again_ever_more_rarely() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        let all = [known(1, [1, 2, 3])];
        let mut now_ms = 1;
        for pause_ms in [1_000, 2_000, 4_000, 8_000] {
            assert_eq!(next(&mut cycle, now_ms, &all), Some(1));
            cycle.ended(now_ms, now_ms, GroupId(1), &Ended::Void("x".into()));
            assert_eq!(next(&mut cycle, now_ms + pause_ms - 1, &all), None);
            now_ms += pause_ms;
        }
        assert_eq!(next(&mut cycle, now_ms, &all), Some(1));
        cycle.ended(now_ms, now_ms, GroupId(1), &clean());
        assert_eq!(cycle.records()[&GroupId(1)].failures, 0);
    }

    #[test]
    fn a_wish_comes_first_and_needs_no_whole_partition() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        let mut all = [known(1, [1, 2, 3]), known(2, [1, 2, 3])];
        all[1].whole = false;
        cycle.hear(1, &all);
        cycle.ended(5, 5, GroupId(2), &clean());
        cycle.wish(GroupId(2));
        assert_eq!(next(&mut cycle, 6, &all), Some(2));
        cycle.ended(7, 7, GroupId(2), &clean());
        assert_eq!(next(&mut cycle, 8, &all), Some(1));
    }

    #[test]
    fn a_finding_stays_until_a_scrub_of_all_is_clean() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        let id = GroupId(1);
        let differs = Ended::Differs {
            replicas: 3,
            finding: "node 2".into(),
        };
        cycle.ended(5, 5, id, &differs);
        let two = Ended::Clean {
            replicas: 2,
            all: false,
        };
        cycle.ended(6, 6, id, &two);
        assert_eq!(cycle.records()[&id].finding, "node 2");
        assert_eq!(cycle.records()[&id].clean_ms, None);
        cycle.ended(7, 7, id, &clean());
        assert_eq!(cycle.records()[&id].finding, "");
    }

    #[test]
    fn what_the_archive_says_has_an_age_and_a_finding_of_its_own() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        let id = GroupId(1);
        cycle.archived(5, id, Some("a segment is damaged".into()));
        cycle.ended(6, 6, id, &clean());
        assert_eq!(cycle.records()[&id].archive_finding, "a segment is damaged");
        assert_eq!(cycle.records()[&id].archive_clean_ms, None);
        cycle.archive_void(id, "the store is down".into());
        cycle.archived(7, id, None);
        let record = &cycle.records()[&id];
        assert_eq!(record.archive_clean_ms, Some(7));
        assert_eq!(
            (&record.archive_finding[..], &record.archive_void[..]),
            ("", "")
        );
    }

    #[test]
    fn what_another_instance_remembers_counts_where_it_is_newer() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        let id = GroupId(1);
        cycle.hear(3, &[known(1, [1, 2, 3])]);
        cycle.ended(50, 40, id, &clean());
        let older = Record {
            clean_ms: Some(10),
            archive_clean_ms: Some(9),
            tried_ms: 12,
            finding: "old".into(),
            ..Record::default()
        };
        cycle.recall(id, &older);
        let record = &cycle.records()[&id];
        assert_eq!(
            (record.clean_ms, record.archive_clean_ms),
            (Some(40), Some(9))
        );
        assert_eq!((&record.finding[..], record.tried_ms), ("", 50));
        let newer = Record {
            clean_ms: Some(30),
            tried_ms: 60,
            compared_ms: 60,
            finding: "new".into(),
            ..Record::default()
        };
        cycle.recall(id, &newer);
        let record = &cycle.records()[&id];
        assert_eq!((record.clean_ms, record.compared_ms), (Some(40), 60));
        assert_eq!((&record.finding[..], record.heard_ms), ("new", 3));
    }

    #[test]
    fn partitions_that_are_gone_are_forgotten() {
        let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
        cycle.hear(1, &[known(1, [1, 2, 3])]);
        cycle.wish(GroupId(1));
        cycle.hear(FORGET_MS, &[]);
        assert_eq!(cycle.records().len(), 1);
        cycle.hear(FORGET_MS + 1, &[]);
        assert!(cycle.records().is_empty());
    }

    proptest! {
        /// Whatever ends how, each partition gets its turn: none is clean longer ago than a round of all of them takes.
        #[test]
        fn nobody_starves(ends in prop::collection::vec(0..3_u8, 400)) {
            let mut cycle = Cycle::new(LIMITS, BTreeMap::new());
            let all: Vec<Known> = (1..=5).map(|p| known(p, [1, 2, 3])).collect();
            let mut turns: BTreeMap<GroupId, usize> = BTreeMap::new();
            let mut now_ms = 1;
            for (turn, end) in ends.iter().enumerate() {
                now_ms += 20_000;
                cycle.hear(now_ms, &all);
                let Some(chosen) = cycle.next(now_ms, &all) else { continue };
                let ended = match end {
                    0 => Ended::Void("x".into()),
                    1 => Ended::Differs { replicas: 3, finding: "y".into() },
                    _ => clean(),
                };
                cycle.ended(now_ms, now_ms, chosen.partition, &ended);
                turns.insert(chosen.partition, turn);
            }
            for partition in &all {
                let last = turns.get(&partition.partition).copied();
                prop_assert!(last.is_some_and(|last| last + 100 > ends.len()), "{partition:?}: {last:?}");
            }
        }
    }
}
