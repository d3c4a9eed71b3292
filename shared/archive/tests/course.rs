//! The course of an archiver, driven against a made-up log, replicas that fall silent, truncate or lie, and a store that fails.

use std::collections::BTreeMap;

use archive::course::{Alarm, Course, Loaded, Log, Settings, Step, Word};
use paxos::{Index, NodeId};
use proptest::prelude::*;

const LEADER: NodeId = NodeId(1);
const OTHERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

fn settings() -> Settings {
    Settings {
        segment_bytes: 1_000,
        segment_age_ms: 10_000,
        compare_wait_ms: 2_000,
        retry_ms: 100,
        retry_ms_max: 1_600,
        snapshot_bytes: 5_000,
    }
}

fn log(committed: Index, archived: Index) -> Log {
    Log {
        leader: LEADER,
        voters: vec![LEADER, OTHERS[0], OTHERS[1]],
        storage: vec![LEADER, OTHERS[0], OTHERS[1]],
        committed,
        archived,
        version: 1,
        ..Log::default()
    }
}

/// A course that knows the archive to end at `end`.
fn begun(end: Index) -> Course {
    let mut course = Course::new(settings());
    course.loaded(Loaded {
        end,
        ..Loaded::default()
    });
    course
}

fn is_wait(step: &Step) -> bool {
    matches!(step, Step::Wait { .. })
}

#[test]
fn it_begins_with_what_the_store_has() {
    let course = Course::new(settings());
    assert_eq!(course.next(&log(10, 0), 0), Step::Load);
    // Whoever began before it archived up to 7: the leader, a new one, must hear of it.
    let course = begun(7);
    let tell = Step::Tell {
        leader: LEADER,
        index: 7,
    };
    assert_eq!(course.next(&log(10, 0), 0), tell);
    // Only what is committed there.
    assert!(is_wait(&course.next(&log(6, 0), 0)));
}

#[test]
fn a_leader_is_told_once_for_each_description() {
    let mut course = begun(7);
    course.told(1, 7);
    assert!(is_wait(&course.next(&log(7, 0), 0)));
    let again = Log {
        version: 2,
        ..log(7, 0)
    };
    assert!(matches!(
        course.next(&again, 0),
        Step::Tell { index: 7, .. }
    ));
    assert!(is_wait(&course.next(&log(7, 7), 0)));
}

#[test]
fn a_segment_is_cut_by_size_by_age_and_at_the_end() {
    let course = begun(5);
    let of = |bytes, age_ms, ended| Log {
        bytes,
        age_ms,
        ended,
        ..log(9, 5)
    };
    assert!(is_wait(&course.next(&of(999, 9_999, false), 0)));
    for ripe in [of(1_000, 0, false), of(1, 10_000, false), of(1, 0, true)] {
        let store = Step::Store {
            first: 6,
            last: 9,
            sources: vec![LEADER, OTHERS[0], OTHERS[1]],
        };
        assert_eq!(course.next(&ripe, 0), store);
    }
    // Nothing is there to be cut.
    let nothing = Log {
        committed: 5,
        ..of(5_000, 99_999, true)
    };
    assert!(is_wait(&course.next(&nothing, 0)));
}

/// Stores and compares one segment; what the replicas say is given.
fn judged(words: &[(NodeId, Word)], now_ms: u64) -> (Course, (bool, Vec<Alarm>)) {
    let mut course = begun(5);
    course.stored(6, 9, 100, LEADER, 0);
    for (node, word) in words {
        course.compared(*node, *word, 0);
    }
    assert_eq!(course.next(&log(9, 5), now_ms), Step::Seal, "{words:?}");
    let judgement = course.may_seal(now_ms);
    (course, judgement)
}

#[test]
fn nothing_counts_before_the_others_agree() {
    let mut course = begun(5);
    course.stored(6, 9, 100, LEADER, 0);
    let ask = |nodes: &[NodeId]| Step::Compare {
        first: 6,
        last: 9,
        nodes: nodes.to_vec(),
    };
    assert_eq!(course.next(&log(9, 5), 0), ask(&OTHERS));
    course.compared(OTHERS[0], Word::Equal, 0);
    course.compared(OTHERS[1], Word::Silent, 0);
    assert!(is_wait(&course.next(&log(9, 5), 49)), "not at once again");
    assert_eq!(course.next(&log(9, 5), 50), ask(&OTHERS[1..]));
    // It is waited for, for a bounded time.
    assert_eq!(course.next(&log(9, 5), 2_000), Step::Seal);
    assert_eq!(course.may_seal(2_000), (true, Vec::new()));
    course.sealed();
    assert_eq!(course.end(), Some(9));
    assert!(matches!(
        course.next(&log(9, 5), 2_000),
        Step::Tell { index: 9, .. }
    ));
}

#[test]
fn a_replica_that_truncated_is_not_waited_for() {
    let (_, (may, alarms)) = judged(&[(OTHERS[0], Word::Equal), (OTHERS[1], Word::Gone)], 0);
    assert!(may && alarms.is_empty());
}

#[test]
fn one_that_differs_is_named_and_does_not_stop_the_archive() {
    let (_, (may, alarms)) = judged(&[(OTHERS[0], Word::Equal), (OTHERS[1], Word::Differs)], 0);
    let diverges = Alarm::Diverges {
        node: OTHERS[1],
        first: 6,
        last: 9,
        equal: 2,
    };
    assert_eq!((may, alarms), (true, vec![diverges]));
}

#[test]
fn one_word_against_another_archives_nothing() {
    let words = [(OTHERS[0], Word::Differs), (OTHERS[1], Word::Silent)];
    let (course, (may, alarms)) = judged(&words, 2_000);
    assert_eq!(
        (may, alarms),
        (false, vec![Alarm::Undecided { first: 6, last: 9 }])
    );
    assert_eq!(course.end(), Some(5));
}

#[test]
fn a_source_that_both_others_contradict_is_replaced_by_one_of_them() {
    let words = [(OTHERS[0], Word::Differs), (OTHERS[1], Word::Differs)];
    let (mut course, (may, _)) = judged(&words, 0);
    assert!(!may);
    assert!(is_wait(&course.next(&log(9, 5), 0)), "after a pause");
    let old = Log {
        age_ms: 99_999,
        ..log(9, 5)
    };
    let Step::Store { sources, .. } = course.next(&old, 100) else {
        panic!("it is tried again")
    };
    assert_eq!(sources, [OTHERS[0], OTHERS[1], LEADER]);
    course.stored(6, 9, 100, OTHERS[0], 100);
    course.compared(OTHERS[1], Word::Equal, 100);
    course.compared(LEADER, Word::Differs, 100);
    let (may, alarms) = course.may_seal(100);
    let leader = Alarm::Diverges {
        node: LEADER,
        first: 6,
        last: 9,
        equal: 2,
    };
    assert_eq!((may, alarms), (true, vec![leader]));
}

#[test]
fn what_nobody_has_any_more_is_a_hole_that_a_snapshot_closes() {
    let mut course = begun(5);
    assert_eq!(course.gone(5), None, "the next entry is there");
    assert_eq!(course.gone(20), Some(Alarm::Hole { first: 6, last: 20 }));
    assert_eq!(course.end(), Some(20));
    let step = course.next(&log(20, 20), 0);
    let sources = vec![OTHERS[0], OTHERS[1], LEADER];
    assert_eq!(step, Step::Snapshot { sources }, "a follower first");
    course.no_snapshot(0);
    assert!(is_wait(&course.next(&log(20, 20), 1_599)));
    assert!(matches!(
        course.next(&log(20, 20), 1_600),
        Step::Snapshot { .. }
    ));
    course.snapshotted();
    assert!(is_wait(&course.next(&log(20, 20), 1_600)));
}

#[test]
fn snapshots_come_with_enough_log_and_not_before_the_partition_weighs_less() {
    let mut course = begun(0);
    course.stored(1, 9, 5_001, LEADER, 0);
    course.compared(OTHERS[0], Word::Equal, 0);
    course.compared(OTHERS[1], Word::Equal, 0);
    assert!(course.may_seal(0).0);
    course.sealed();
    let large = Log {
        partition_bytes: 5_001,
        ..log(9, 9)
    };
    assert!(is_wait(&course.next(&large, 0)));
    assert!(matches!(course.next(&log(9, 9), 0), Step::Snapshot { .. }));
    let ended = Log {
        ended: true,
        ..log(9, 9)
    };
    assert!(is_wait(&course.next(&ended, 0)));
}

#[test]
fn failures_are_paused_for_longer_and_longer_up_to_a_bound() {
    let mut course = Course::new(settings());
    let mut now_ms = 0;
    let mut pauses = Vec::new();
    for _ in 0..7 {
        course.failed(now_ms);
        let Step::Wait { until_ms } = course.next(&log(1, 0), now_ms) else {
            panic!("it pauses")
        };
        pauses.push(until_ms - now_ms);
        now_ms = until_ms;
        assert_eq!(course.next(&log(1, 0), now_ms), Step::Load);
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 1_600, 1_600]);
}

/// A world in which everything goes wrong for a while.
struct World {
    now_ms: u64,
    course: Course,
    log: Log,
    /// Sealed in the store up to here.
    sealed: Index,
    stored: Option<(Index, Index)>,
    told: Index,
    floors: BTreeMap<NodeId, Index>,
}

impl World {
    /// Does what the course says; `dice` decides how it goes.
    fn turn(&mut self, dice: u64, calm: bool) -> Result<(), TestCaseError> {
        let fails = !calm && dice.is_multiple_of(4);
        match self.course.next(&self.log, self.now_ms) {
            Step::Wait { until_ms } => {
                prop_assert!(until_ms > self.now_ms);
                self.now_ms = until_ms.min(self.now_ms + 500);
            }
            _ if fails => self.course.failed(self.now_ms),
            // It dies, and another instance begins.
            _ if !calm && dice.is_multiple_of(13) => {
                self.course = Course::new(settings());
                self.stored = None;
            }
            Step::Load => {
                self.stored = None;
                self.course.loaded(Loaded {
                    end: self.sealed,
                    since_snapshot_bytes: dice % 9_000,
                    needs_snapshot: false,
                });
            }
            Step::Store {
                first,
                last,
                sources,
            } => {
                prop_assert_eq!(first, self.sealed + 1);
                prop_assert!(last <= self.log.committed);
                let has = |node: &&NodeId| self.floors[*node] < first;
                match sources.iter().find(has) {
                    Some(&node) => {
                        let end = first + dice % (last - first + 1);
                        self.stored = Some((first, end));
                        self.course.stored(first, end, 700, node, self.now_ms);
                    }
                    None => {
                        let lowest = self.floors.values().min().copied().unwrap_or(0);
                        prop_assert!(self.course.gone(lowest).is_some());
                        self.sealed = lowest;
                    }
                }
            }
            Step::Compare { first, last, nodes } => {
                prop_assert_eq!(Some((first, last)), self.stored);
                for (n, node) in nodes.into_iter().enumerate() {
                    let word = match (dice >> n) % 4 {
                        0 if !calm => Word::Silent,
                        1 if !calm => Word::Differs,
                        2 if self.floors[&node] >= first => Word::Gone,
                        _ => Word::Equal,
                    };
                    self.course.compared(node, word, self.now_ms);
                }
            }
            Step::Seal => {
                let (may, _) = self.course.may_seal(self.now_ms);
                let stored = self.stored.take();
                if may {
                    let (first, last) = stored.expect("it is in the store");
                    prop_assert_eq!(first, self.sealed + 1);
                    self.sealed = last;
                    self.course.sealed();
                }
            }
            Step::Tell { leader, index } => {
                prop_assert_eq!(leader, self.log.leader);
                prop_assert!(index <= self.sealed, "{} of {}", index, self.sealed);
                self.told = index;
                self.course.told(self.log.version, index);
            }
            Step::Snapshot { sources } => {
                prop_assert!(!sources.is_empty());
                self.course.snapshotted();
            }
        }
        prop_assert!(self.course.end().unwrap_or(0) <= self.sealed);
        Ok(())
    }

    /// The leader describes its log anew; the log goes on, and is truncated as far as it may be.
    fn describe(&mut self, dice: u64, grows: bool) {
        self.log.version += 1;
        if grows {
            self.log.committed += dice % 50;
        }
        // Another leader knows of nothing.
        self.log.archived = if dice.is_multiple_of(7) {
            0
        } else {
            self.told.min(self.log.committed)
        };
        let open = self.log.committed - self.log.archived;
        self.log.bytes = open * 90;
        self.log.age_ms = if open > 0 { 12_000 } else { 0 };
        let node = self.log.voters[(dice % 3) as usize];
        let floor = self.floors.entry(node).or_default();
        *floor = (*floor).max(self.log.archived);
    }
}

proptest! {
    #[test]
    fn nothing_is_skipped_nothing_is_told_before_it_is_sealed_and_in_the_end_all_is(
        dice in prop::collection::vec(any::<u64>(), 50..400),
    ) {
        let floors = [LEADER, OTHERS[0], OTHERS[1]].map(|node| (node, 0)).into();
        let mut world = World {
            now_ms: 0,
            course: Course::new(settings()),
            log: log(0, 0),
            sealed: 0,
            stored: None,
            told: 0,
            floors,
        };
        for dice in dice {
            if dice % 3 == 0 {
                world.describe(dice / 3, true);
            }
            world.turn(dice / 9, false)?;
        }
        for round in 0..2_000 {
            if round % 5 == 0 {
                // The same leader for good.
                world.describe(1, false);
            }
            world.turn(3, true)?;
        }
        prop_assert_eq!(world.sealed, world.log.committed);
        prop_assert_eq!(world.told, world.log.committed);
    }
}

#[test]
fn a_snapshot_that_is_wanted_is_taken_at_once_and_once() {
    let mut course = begun(5);
    assert!(is_wait(&course.next(&log(5, 5), 0)));
    course.no_snapshot(0);
    course.wanted();
    assert!(matches!(course.next(&log(5, 5), 0), Step::Snapshot { .. }));
    course.snapshotted();
    assert!(is_wait(&course.next(&log(5, 5), 0)));
}
