//! The log: its tail in memory, its ballot history and the configurations in it. Owns where entries stand and which are
//! kept in memory; decides nothing about ballots, commitment or durability.

use std::collections::VecDeque;

use crate::{Ballot, Configuration, Entry, Index, Outline, Position};

/// Accounting of bytes above the floor is as coarse as this.
const MARK_BYTES: u64 = 64 << 10;

/// A contiguous log. Entries up to `floor` are truncated, entries below `memory_start` are in the WAL only.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Log {
    floor: Position,
    last: Position,
    /// First position of each ballot's run above the floor. The first run begins at `floor.index + 1`.
    history: Vec<Position>,
    /// Configuration at the floor.
    base: Configuration,
    /// Configurations above the floor, by index.
    configurations: Vec<(Index, Configuration)>,
    /// The tail; `tail[0]` has index `memory_start`.
    tail: VecDeque<Entry>,
    memory_start: Index,
    memory_bytes: u64,
    /// Bytes ever appended (less those cut off), and that sum at some indices: gives the bytes above the floor.
    appended_bytes: u64,
    marks: VecDeque<(Index, u64)>,
    floor_bytes: u64,
}

impl Log {
    /// An empty log behind `floor`.
    pub fn new(floor: Position, base: Configuration) -> Log {
        Log {
            floor,
            last: floor,
            history: Vec::new(),
            base,
            configurations: Vec::new(),
            tail: VecDeque::new(),
            memory_start: floor.index + 1,
            memory_bytes: 0,
            appended_bytes: 0,
            marks: VecDeque::new(),
            floor_bytes: 0,
        }
    }

    pub fn floor(&self) -> Position {
        self.floor
    }

    pub fn last(&self) -> Position {
        self.last
    }

    pub fn history(&self) -> &[Position] {
        &self.history
    }

    pub fn memory_start(&self) -> Index {
        self.memory_start
    }

    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Bytes above the floor, within two `MARK_BYTES` or one entry.
    pub fn bytes(&self) -> u64 {
        self.appended_bytes - self.floor_bytes
    }

    /// Bytes above `index`, within `MARK_BYTES` or one entry; none above the end.
    pub fn bytes_above(&self, index: Index) -> u64 {
        if index >= self.last.index {
            return 0;
        }
        let passed = self.marks.partition_point(|(at, _)| *at <= index);
        let below = match passed {
            0 => self.floor_bytes,
            _ => self.marks[passed - 1].1,
        };
        self.appended_bytes - below
    }

    /// The configuration in force: the last one in the log, committed or not.
    pub fn configuration(&self) -> &Configuration {
        self.configurations
            .last()
            .map_or(&self.base, |(_, configuration)| configuration)
    }

    /// Index of the entry that put the configuration in force; at or below the floor, the floor's.
    pub fn configured_at(&self) -> Index {
        self.configurations
            .last()
            .map_or(self.floor.index, |(index, _)| *index)
    }

    /// The configuration as of `index`, which is not below the floor.
    pub fn configuration_at(&self, index: Index) -> &Configuration {
        let at = self.configurations.partition_point(|(i, _)| *i <= index);
        if at == 0 {
            &self.base
        } else {
            &self.configurations[at - 1].1
        }
    }

    /// Whether any configuration that this log still knows has this very member.
    pub fn knows_member(&self, node: crate::NodeId, incarnation: u64) -> bool {
        self.base.contains(node, incarnation)
            || self
                .configurations
                .iter()
                .any(|(_, c)| c.contains(node, incarnation))
    }

    /// Ballot of the entry at `index`; none outside of floor..=last.
    pub fn ballot_at(&self, index: Index) -> Option<Ballot> {
        if index > self.last.index || index < self.floor.index {
            return None;
        }
        let run = self.history.partition_point(|first| first.index <= index);
        Some(if run == 0 {
            self.floor.ballot
        } else {
            self.history[run - 1].ballot
        })
    }

    /// Position at `index`; none outside of floor..=last.
    pub fn position_at(&self, index: Index) -> Option<Position> {
        self.ballot_at(index)
            .map(|ballot| Position { ballot, index })
    }

    /// Whether the log has exactly this position.
    pub fn has(&self, position: Position) -> bool {
        self.ballot_at(position.index) == Some(position.ballot)
    }

    /// Whether this entry may follow the last one.
    pub fn fits(&self, entry: &Entry) -> bool {
        self.may_follow(entry.index, entry.ballot)
    }

    fn may_follow(&self, index: Index, ballot: Ballot) -> bool {
        index == self.last.index + 1 && ballot >= self.last.ballot
    }

    /// Puts entries behind the last one whose content stays on disk. Returns false, and does nothing, if they do not fit or
    /// if entries are in memory already.
    pub fn push_outline(&mut self, outline: Outline) -> bool {
        let fits = self.may_follow(outline.first, outline.position.ballot);
        if !fits || outline.position.index < outline.first || !self.tail.is_empty() {
            return false;
        }
        self.memory_start = outline.position.index + 1;
        self.note(outline);
        true
    }

    /// Puts an entry behind the last one; the caller has made sure that it `fits`.
    pub fn push(&mut self, entry: Entry) {
        debug_assert!(self.fits(&entry), "{entry:?} behind {:?}", self.last);
        self.memory_bytes += entry.bytes();
        self.note(entry.outline());
        self.tail.push_back(entry);
    }

    fn note(&mut self, outline: Outline) {
        let Outline {
            first,
            position,
            bytes,
            configuration,
        } = outline;
        if self.history.last().map(|first| first.ballot) != Some(position.ballot) {
            self.history.push(Position {
                index: first,
                ballot: position.ballot,
            });
        }
        if let Some(configuration) = configuration {
            self.configurations.push((position.index, configuration));
        }
        self.appended_bytes += bytes;
        let marked = self.marks.back().map_or(self.floor_bytes, |(_, sum)| *sum);
        if self.appended_bytes - marked >= MARK_BYTES {
            self.marks.push_back((position.index, self.appended_bytes));
        }
        self.last = position;
    }

    /// Cuts off all entries from `index` on, be their content in memory or not. Returns false, and does nothing, if the floor is not below.
    pub fn truncate_from(&mut self, index: Index) -> bool {
        if index > self.last.index {
            return true;
        }
        if index <= self.floor.index {
            return false;
        }
        while self.last.index >= index
            && let Some(entry) = self.tail.pop_back()
        {
            self.memory_bytes -= entry.bytes();
            self.appended_bytes -= entry.bytes();
            self.last.index -= 1;
        }
        let outlined = self.last.index >= index;
        self.last.index = index - 1;
        self.memory_start = self.memory_start.min(index);
        self.history.retain(|first| first.index < index);
        self.configurations.retain(|(i, _)| *i < index);
        while self.marks.back().is_some_and(|(i, _)| *i >= index) {
            self.marks.pop_back();
        }
        if outlined {
            // How large each was is not known: the bytes are as exact as their marks.
            self.appended_bytes = self.marks.back().map_or(self.floor_bytes, |(_, sum)| *sum);
        }
        self.last.ballot = self
            .history
            .last()
            .map_or(self.floor.ballot, |first| first.ballot);
        true
    }

    /// Forgets entries up to `index` for good.
    pub fn raise_floor(&mut self, index: Index) {
        let Some(position) = self.position_at(index) else {
            return;
        };
        if index == self.floor.index {
            return;
        }
        if index == self.last.index {
            self.history.clear();
        } else {
            let run = self
                .history
                .partition_point(|first| first.index <= index + 1);
            self.history.drain(..run.saturating_sub(1));
            if let Some(first) = self.history.first_mut() {
                first.index = index + 1;
            }
        }
        let known = self.configurations.partition_point(|(i, _)| *i <= index);
        if let Some((_, configuration)) = self.configurations.drain(..known).next_back() {
            self.base = configuration;
        }
        while let Some(&(_, sum)) = self.marks.front().filter(|(i, _)| *i <= index) {
            self.floor_bytes = sum;
            self.marks.pop_front();
        }
        self.floor = position;
        self.forget_memory(index, 0);
        self.memory_start = self.memory_start.max(index + 1);
    }

    /// Drops entries up to `index` from memory, oldest first, until at most `keep_bytes` are left.
    pub fn forget_memory(&mut self, index: Index, keep_bytes: u64) {
        while self.memory_bytes > keep_bytes && self.memory_start <= index {
            let Some(entry) = self.tail.pop_front() else {
                break;
            };
            self.memory_bytes -= entry.bytes();
            self.memory_start += 1;
        }
    }

    /// An entry in memory.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        index
            .checked_sub(self.memory_start)
            .and_then(|at| self.tail.get(at as usize))
    }

    /// Entries from `from` on, as many as `max_bytes` allow, at least one; none if they are not in memory or not there.
    pub fn slice(&self, from: Index, max_bytes: u64) -> Option<Vec<Entry>> {
        let start = from.checked_sub(self.memory_start)? as usize;
        let (mut end, mut bytes) = (start, 0);
        while let Some(entry) = self.tail.get(end) {
            bytes += entry.bytes();
            if end > start && bytes > max_bytes {
                break;
            }
            end += 1;
        }
        (end > start).then(|| self.tail.range(start..end).cloned().collect())
    }

    /// The last index at which this log and another one, given by floor, history and last position, agree. Two logs that
    /// hold the same ballot at an index agree up to there. None: no common index is left above both floors.
    pub fn common(&self, floor: Position, history: &[Position], last: Position) -> Option<Index> {
        let mut best = None;
        for (ballot, first, end) in runs(floor, history, last) {
            for (own_ballot, own_first, own_end) in runs(self.floor, &self.history, self.last) {
                let (from, to) = (first.max(own_first), end.min(own_end));
                if ballot == own_ballot && from <= to {
                    best = best.max(Some(to));
                }
            }
        }
        best
    }
}

/// The runs of a log as (ballot, first index, last index), the floor itself being one.
fn runs(
    floor: Position,
    history: &[Position],
    last: Position,
) -> impl Iterator<Item = (Ballot, Index, Index)> {
    let ends = history
        .iter()
        .skip(1)
        .map(|next| next.index.saturating_sub(1))
        .chain([last.index]);
    let above = history
        .iter()
        .zip(ends)
        .map(|(first, end)| (first.ballot, first.index, end));
    std::iter::once((floor.ballot, floor.index, floor.index)).chain(above)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{NodeId, Payload};

    fn ballot(round: u64) -> Ballot {
        Ballot {
            round,
            node: NodeId(1),
        }
    }

    fn entry(index: Index, round: u64) -> Entry {
        Entry {
            index,
            ballot: ballot(round),
            payload: Payload::Command(Bytes::from_static(b"x")),
        }
    }

    fn log(rounds: &[u64]) -> Log {
        let mut log = Log::new(Position::default(), Configuration::default());
        for (at, round) in rounds.iter().enumerate() {
            log.push(entry(at as u64 + 1, *round));
        }
        log
    }

    fn at(index: Index, round: u64) -> Position {
        Position {
            ballot: ballot(round),
            index,
        }
    }

    #[test]
    fn history_follows_entries() {
        let mut log = log(&[1, 1, 3, 3, 4]);
        assert_eq!(log.history(), [at(1, 1), at(3, 3), at(5, 4)]);
        assert_eq!(log.ballot_at(0), Some(Ballot::default()));
        assert_eq!(log.ballot_at(2), Some(ballot(1)));
        assert_eq!(log.ballot_at(4), Some(ballot(3)));
        assert_eq!(log.ballot_at(6), None);
        assert!(log.truncate_from(4));
        assert_eq!(log.last(), at(3, 3));
        assert_eq!(log.history(), [at(1, 1), at(3, 3)]);
        assert!(log.truncate_from(1));
        assert_eq!(log.last(), Position::default());
        assert_eq!(log.memory_bytes(), 0);
        assert_eq!(log.bytes(), 0);
    }

    #[test]
    fn raising_the_floor_keeps_ballots_right() {
        for to in 1..=6 {
            let rounds = [1, 1, 3, 3, 4, 4];
            let mut log = log(&rounds);
            log.raise_floor(to);
            assert_eq!(log.floor(), at(to, rounds[to as usize - 1]));
            assert_eq!(log.ballot_at(to - 1), None);
            for index in to..=6 {
                assert_eq!(
                    log.ballot_at(index),
                    Some(ballot(rounds[index as usize - 1])),
                    "{to}"
                );
            }
            assert_eq!(log.last(), at(6, 4));
            assert_eq!(
                log.history().first().map(|f| f.index),
                (to < 6).then_some(to + 1)
            );
            assert_eq!(log.get(to), None);
            assert_eq!(log.slice(to, 99), None);
            log.push(entry(7, 4));
            assert_eq!(log.ballot_at(7), Some(ballot(4)));
            assert_eq!(log.slice(7, 0).map(|entries| entries.len()), Some(1));
        }
    }

    #[test]
    fn what_left_memory_can_be_cut_off_like_the_rest() {
        for index in 1..=6 {
            let rounds = [1, 1, 2, 2, 3];
            let mut whole = log(&rounds);
            let mut other = log(&rounds);
            other.forget_memory(3, 0);
            assert_eq!(other.memory_start(), 4);
            assert!(whole.truncate_from(index) && other.truncate_from(index));
            assert_eq!(other.last(), whole.last(), "{index}");
            assert_eq!(other.history(), whole.history());
            assert_eq!(other.memory_start(), index.min(4));
            // One that is less than a mark.
            assert!(other.bytes() <= whole.bytes());
            let next = index.min(6);
            whole.push(entry(next, 4));
            other.push(entry(next, 4));
            assert_eq!(other.history(), whole.history());
            assert_eq!(other.get(next), whole.get(next));
            assert_eq!(other.slice(next, 1_000), whole.slice(next, 1_000));
        }
        let mut floored = log(&[1, 1, 1]);
        floored.raise_floor(2);
        assert!(!floored.truncate_from(2));
        assert_eq!(floored.last(), at(3, 1));
    }

    #[test]
    fn a_log_is_the_same_from_outlines_in_few_pieces() {
        let configuration = Configuration {
            generation: 2,
            ..Configuration::default()
        };
        let mut entries: Vec<Entry> = (1..=400)
            .map(|index| Entry {
                index,
                ballot: ballot(1 + index / 150),
                payload: Payload::Command(Bytes::from(vec![7; 1_000])),
            })
            .collect();
        entries[200].payload = Payload::Config(configuration);
        let mut whole = Log::new(Position::default(), Configuration::default());
        entries.iter().cloned().for_each(|entry| whole.push(entry));
        let outlines = Outline::of(&entries);
        assert!(outlines.len() < 14, "{}", outlines.len());
        let mut outlined = Log::new(Position::default(), Configuration::default());
        for outline in outlines {
            assert!(!outlined.push_outline(Outline {
                first: outline.first + 1,
                ..outline.clone()
            }));
            assert!(outlined.push_outline(outline));
        }
        assert_eq!(outlined.last(), whole.last());
        assert_eq!(outlined.history(), whole.history());
        assert_eq!(outlined.configuration(), whole.configuration());
        assert_eq!(outlined.configured_at(), 201);
        assert_eq!(outlined.bytes(), whole.bytes());
        assert_eq!((outlined.memory_bytes(), outlined.memory_start()), (0, 401));
        for floor in [100, 201, 399] {
            whole.raise_floor(floor);
            outlined.raise_floor(floor);
            assert_eq!(outlined.history(), whole.history());
            let coarse = outlined.bytes().abs_diff(whole.bytes());
            assert!(coarse <= 2 * MARK_BYTES, "{coarse}");
        }
    }

    #[test]
    fn bytes_above_a_position_are_known_roughly() {
        let mut log = Log::new(Position::default(), Configuration::default());
        let payload = Payload::Command(Bytes::from(vec![0; 10_000]));
        for index in 1..=100 {
            let (ballot, payload) = (ballot(1), payload.clone());
            log.push(Entry {
                index,
                ballot,
                payload,
            });
        }
        let one = log.bytes() / 100;
        log.raise_floor(20);
        for index in 20..100 {
            let exact = (100 - index) * one;
            let said = log.bytes_above(index);
            assert!(said >= exact, "{index}: {said} of {exact}");
            assert!(
                said < exact + MARK_BYTES + one,
                "{index}: {said} of {exact}"
            );
        }
        assert_eq!(log.bytes_above(100), 0);
        assert_eq!(log.bytes_above(0), log.bytes());
    }

    #[test]
    fn slices_are_bounded_but_never_empty() {
        let log = log(&[1, 1, 1, 1]);
        let one = entry(1, 1).bytes();
        assert_eq!(log.slice(2, 2 * one).map(|e| e.len()), Some(2));
        assert_eq!(log.slice(2, 0).map(|e| e.len()), Some(1));
        assert_eq!(log.slice(5, 100), None);
        assert_eq!(log.slice(0, 100), None);
    }

    fn common(own: &Log, other: &Log) -> Option<Index> {
        own.common(other.floor(), other.history(), other.last())
    }

    #[test]
    fn the_common_prefix_is_found() {
        assert_eq!(common(&log(&[1, 1, 2]), &log(&[1, 1, 3, 3])), Some(2));
        assert_eq!(common(&log(&[1, 1, 1]), &log(&[1, 1, 3, 3])), Some(2));
        assert_eq!(common(&log(&[]), &log(&[1, 1])), Some(0));
        assert_eq!(common(&log(&[2, 2]), &log(&[1, 1, 3])), Some(0));
        let mut truncated = log(&[1, 1, 3, 3]);
        truncated.raise_floor(2);
        assert_eq!(common(&log(&[1, 1, 2]), &truncated), Some(2));
        assert_eq!(common(&truncated, &log(&[1, 1, 2])), Some(2));
        assert_eq!(common(&log(&[1]), &truncated), None);
        truncated.raise_floor(4);
        assert_eq!(common(&log(&[1, 1, 3, 3, 3]), &truncated), Some(4));
        assert_eq!(common(&log(&[1, 1, 3]), &truncated), None);
    }

    #[test]
    fn configurations_come_and_go_with_their_entries() {
        let mut log = log(&[1]);
        let second = Configuration {
            generation: 2,
            ..Configuration::default()
        };
        log.push(Entry {
            index: 2,
            ballot: ballot(1),
            payload: Payload::Config(second.clone()),
        });
        log.push(entry(3, 1));
        assert_eq!(log.configuration().generation, 2);
        assert_eq!(log.configuration_at(1).generation, 0);
        assert!(log.truncate_from(2));
        assert_eq!(log.configuration().generation, 0);
        log.push(Entry {
            index: 2,
            ballot: ballot(2),
            payload: Payload::Config(second),
        });
        log.raise_floor(2);
        assert_eq!(log.configuration().generation, 2);
    }
}
