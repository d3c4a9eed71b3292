//! What happened, in numbers: outcomes and latencies by second and by phase of the *intended* time. Pure; memory is bounded by the length
//! of the run and the number of phases, whatever the number of requests.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::outcome::{Kind, Outcome};

/// Latencies are kept up to this many microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Different texts of errors and throttles kept a stream; further ones count as "other".
const LABELS_MAX: usize = 64;
/// Wrong answers kept in words.
const WRONG_MAX: usize = 20;

/// Reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// GetItem.
    Read,
    /// PutItem, also behind a read.
    Write,
}

impl Class {
    /// Both.
    pub const ALL: [Class; 2] = [Class::Read, Class::Write];

    /// Its name in promises and reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Read => "reads",
            Class::Write => "writes",
        }
    }
}

/// Counts by kind, and latencies of what succeeded.
#[derive(Clone)]
pub struct Tally {
    /// By `Kind`.
    pub counts: [u64; Kind::COUNT],
    /// Microseconds from the intended time to the answer.
    pub latencies_us: Histogram<u64>,
}

impl Tally {
    /// With so many significant digits.
    fn new(digits: u8) -> Self {
        Self {
            counts: [0; Kind::COUNT],
            // The bounds are constants: at least 1, at most 5 digits.
            latencies_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, digits)
                .expect("valid bounds"),
        }
    }

    fn add(&mut self, kind: Kind, latency: Duration) {
        self.counts[kind as usize] += 1;
        if kind == Kind::Ok {
            let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.latencies_us.saturating_record(us.max(1));
        }
    }

    /// Adds another one of the same digits.
    pub fn merge(&mut self, other: &Tally) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        // Bounds are equal, so nothing can be out of them.
        let _ = self.latencies_us.add(&other.latencies_us);
    }

    /// Requests of one kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// All requests.
    pub fn sent(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A quantile in milliseconds; none without any success.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (!self.latencies_us.is_empty())
            .then(|| self.latencies_us.value_at_quantile(quantile) as f64 / 1e3)
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new(3)
    }
}

/// One second of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// By `Kind`.
    pub counts: [u32; Kind::COUNT],
    /// Milliseconds; 0 without any success.
    pub p50_ms: f32,
    /// Milliseconds.
    pub p99_ms: f32,
    /// Milliseconds.
    pub max_ms: f32,
}

impl Row {
    fn new(tally: &Tally) -> Self {
        let ms = |quantile| tally.quantile_ms(quantile).unwrap_or(0.0) as f32;
        Self {
            counts: tally
                .counts
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            max_ms: ms(1.0),
        }
    }

    /// Requests of one kind.
    pub fn count(&self, kind: Kind) -> u64 {
        u64::from(self.counts[kind as usize])
    }

    /// All requests.
    pub fn sent(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }
}

/// A second whose requests may still be under way.
struct Open {
    classes: [Tally; 2],
}

/// What happened to one stream.
pub struct Record {
    /// Ends of the phases.
    ends: Vec<Duration>,
    closed: Vec<[Row; 3]>,
    open: VecDeque<Open>,
    phases: Vec<[Option<Box<Tally>>; 2]>,
    reasons: Vec<BTreeMap<String, u64>>,
    wrong: Vec<String>,
}

impl Record {
    /// Of phases of these lengths.
    pub fn new(phases: impl IntoIterator<Item = Duration>) -> Self {
        let mut end = Duration::ZERO;
        let ends: Vec<Duration> = phases
            .into_iter()
            .map(|length| {
                end += length;
                end
            })
            .collect();
        Self {
            closed: Vec::new(),
            open: VecDeque::new(),
            phases: ends.iter().map(|_| [None, None]).collect(),
            reasons: ends.iter().map(|_| BTreeMap::new()).collect(),
            wrong: Vec::new(),
            ends,
        }
    }

    /// A request that was intended at `at` ended, `latency` after that.
    pub fn add(&mut self, at: Duration, class: Class, outcome: &Outcome, latency: Duration) {
        let phase = self.ends.partition_point(|end| *end <= at);
        let phase = phase.min(self.ends.len().saturating_sub(1));
        if let Some(tallies) = self.phases.get_mut(phase) {
            tallies[class as usize]
                .get_or_insert_default()
                .add(outcome.kind, latency);
            if outcome.kind == Kind::Wrong && self.wrong.len() < WRONG_MAX {
                self.wrong
                    .push(format!("{:.3} s: {}", at.as_secs_f64(), outcome.label));
            }
            if outcome.kind != Kind::Ok {
                let label = match outcome.kind {
                    Kind::Wrong => "wrong answer",
                    _ => &outcome.label,
                };
                let reasons = &mut self.reasons[phase];
                let label = match reasons.len() >= LABELS_MAX && !reasons.contains_key(label) {
                    true => "other",
                    false => label,
                };
                *reasons
                    .entry(format!("{}: {label}", outcome.kind.name()))
                    .or_default() += 1;
            }
        }
        let second = at.as_secs() as usize;
        // A straggler behind the client's patience is in its phase only.
        let Some(place) = second.checked_sub(self.closed.len()) else {
            return;
        };
        while self.open.len() <= place {
            self.open.push_back(Open {
                classes: [Tally::new(2), Tally::new(2)],
            });
        }
        self.open[place].classes[class as usize].add(outcome.kind, latency);
    }

    /// Nothing intended before this second is under way any more.
    pub fn close(&mut self, before_second: usize) {
        while self.closed.len() < before_second {
            let row = match self.open.pop_front() {
                Some(open) => rows(&open),
                None => Default::default(),
            };
            self.closed.push(row);
        }
    }

    /// Reads, writes and both of a second; of one whose requests are still under way what is known so far.
    pub fn second(&self, second: usize) -> Option<[Row; 3]> {
        match second.checked_sub(self.closed.len()) {
            None => Some(self.closed[second]),
            Some(place) => self.open.get(place).map(rows),
        }
    }

    /// All seconds that are over: reads, writes, both.
    pub fn seconds(&self) -> &[[Row; 3]] {
        &self.closed
    }

    /// The tallies of a phase, if there is any.
    pub fn phase(&self, phase: usize, class: Class) -> Option<&Tally> {
        self.phases.get(phase)?[class as usize].as_deref()
    }

    /// What was in the way in a phase: `kind: reason` and how often.
    pub fn reasons(&self, phase: usize) -> &BTreeMap<String, u64> {
        &self.reasons[phase]
    }

    /// The first wrong answers, in words.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }
}

fn rows(open: &Open) -> [Row; 3] {
    let [reads, writes] = &open.classes;
    let mut both = reads.clone();
    both.merge(writes);
    [Row::new(reads), Row::new(writes), Row::new(&both)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn requests_count_where_they_were_intended() {
        let mut record = Record::new([seconds(2.0), seconds(3.0)]);
        record.add(seconds(0.5), Class::Read, &Outcome::OK, 3 * MS);
        // Intended in the first phase, answered in the second.
        record.add(seconds(1.9), Class::Write, &Outcome::OK, 700 * MS);
        let throttled = Outcome::new(Kind::Throttled, "TableRead");
        record.add(seconds(2.0), Class::Read, &throttled, MS);
        record.add(seconds(4.9), Class::Read, &Outcome::OK, 5 * MS);
        assert_eq!(record.second(1).unwrap()[1].count(Kind::Ok), 1);
        record.close(5);
        let rows = record.seconds();
        let ok: Vec<u64> = rows.iter().map(|row| row[2].count(Kind::Ok)).collect();
        assert_eq!(ok, [1, 1, 0, 0, 1]);
        assert_eq!(rows[2][2].count(Kind::Throttled), 1);
        assert!((rows[1][1].p99_ms - 700.0).abs() < 7.0);
        let first = record.phase(0, Class::Write).unwrap();
        assert!((first.quantile_ms(0.99).unwrap() - 700.0).abs() < 1.0);
        assert!(record.phase(1, Class::Write).is_none());
        assert_eq!(record.reasons(1)["throttled: TableRead"], 1);
        // Too late for its second, still in its phase.
        record.add(seconds(0.1), Class::Read, &Outcome::OK, MS);
        assert_eq!(record.seconds()[0][2].sent(), 1);
        assert_eq!(record.phase(0, Class::Read).unwrap().sent(), 2);
    }

    #[test]
    fn texts_are_bounded() {
        let mut record = Record::new([seconds(1.0)]);
        for n in 0..200 {
            let outcome = Outcome::new(Kind::Failed, format!("error {n}"));
            record.add(Duration::ZERO, Class::Read, &outcome, MS);
            record.add(
                Duration::ZERO,
                Class::Read,
                &Outcome::new(Kind::Wrong, format!("{n}")),
                MS,
            );
        }
        assert!(record.reasons(0).len() <= LABELS_MAX + 2);
        assert_eq!(record.wrong().len(), WRONG_MAX);
        assert_eq!(record.reasons(0).values().sum::<u64>(), 400);
    }
}
