//! What became of requests, counted. Owns the buckets of latencies; everything that counts requests for availability uses these.

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets of latencies, milliseconds; the last bucket has none.
pub const BOUNDS_MS: [u64; BUCKETS - 1] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000];
/// Number of buckets.
pub const BUCKETS: usize = 13;

/// What a request wanted: a write needs a leader and two of three copies, a strong read a leader, an eventual read any copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A strongly consistent read.
    StrongRead,
    /// An eventually consistent read.
    EventualRead,
    /// A write.
    Write,
}

impl Class {
    /// All, in the order of `index`.
    pub const ALL: [Self; 3] = [Self::StrongRead, Self::EventualRead, Self::Write];

    /// Its place in arrays of three.
    pub fn index(self) -> usize {
        self as usize
    }

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::StrongRead => "strong_read",
            Self::EventualRead => "eventual_read",
            Self::Write => "write",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, be it with an error of the client's.
    Good,
    /// Refused for lack of throughput: the customer's choice, or a limit that is too low.
    Throttled,
    /// Not answered in time, or with a fault of the service.
    Failed,
    /// There was nobody to send it to.
    Unreachable,
}

/// Requests by outcome, and the latencies of those that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Answered.
    pub good: u64,
    /// Refused for lack of throughput.
    pub throttled: u64,
    /// Not answered in time, or with a fault of the service.
    pub failed: u64,
    /// Nobody to send them to.
    pub unreachable: u64,
    /// Answered ones by latency, see `BOUNDS_MS`.
    pub latency: [u64; BUCKETS],
}

impl Counts {
    /// One request that took so long.
    pub fn one(outcome: Outcome, took_ms: u64) -> Self {
        let mut counts = Self::default();
        match outcome {
            Outcome::Good => {
                counts.good = 1;
                let bucket = BOUNDS_MS.iter().position(|&bound| took_ms <= bound);
                counts.latency[bucket.unwrap_or(BUCKETS - 1)] = 1;
            }
            Outcome::Throttled => counts.throttled = 1,
            Outcome::Failed => counts.failed = 1,
            Outcome::Unreachable => counts.unreachable = 1,
        }
        counts
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.good = self.good.saturating_add(other.good);
        self.throttled = self.throttled.saturating_add(other.throttled);
        self.failed = self.failed.saturating_add(other.failed);
        self.unreachable = self.unreachable.saturating_add(other.unreachable);
        for (bucket, more) in self.latency.iter_mut().zip(other.latency) {
            *bucket = bucket.saturating_add(more);
        }
    }

    /// What came since `earlier`, of counts that only ever grow; of counts that began anew, all of them.
    pub fn since(&self, earlier: &Self) -> Self {
        let began_anew = self.good < earlier.good
            || self.throttled < earlier.throttled
            || self.failed < earlier.failed
            || self.unreachable < earlier.unreachable;
        if began_anew {
            return *self;
        }
        let mut since = Self {
            good: self.good - earlier.good,
            throttled: self.throttled - earlier.throttled,
            failed: self.failed - earlier.failed,
            unreachable: self.unreachable - earlier.unreachable,
            latency: [0; BUCKETS],
        };
        for (place, (now, before)) in since
            .latency
            .iter_mut()
            .zip(self.latency.iter().zip(earlier.latency))
        {
            *place = now.saturating_sub(before);
        }
        since
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.good
            .saturating_add(self.throttled)
            .saturating_add(self.failed)
            .saturating_add(self.unreachable)
    }

    /// Nothing happened.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// The share of requests that the service owed an answer and did not give, 0 to 1. What never reached it is not counted: that is the
    /// endpoint's alarm. None without requests.
    pub fn failed_share(&self) -> Option<f64> {
        let owed = self.good + self.throttled + self.failed;
        (owed > 0).then(|| self.failed as f64 / owed as f64)
    }

    /// The share of requests that were refused for lack of throughput.
    pub fn throttled_share(&self) -> Option<f64> {
        let owed = self.good + self.throttled + self.failed;
        (owed > 0).then(|| self.throttled as f64 / owed as f64)
    }

    /// The share of answers that took longer than `limit_ms` (rounded up to the next bound).
    pub fn slow_share(&self, limit_ms: u64) -> Option<f64> {
        let first = BOUNDS_MS.iter().position(|&bound| bound >= limit_ms);
        let slow: u64 = self.latency[first.map_or(BUCKETS - 1, |place| place + 1)..]
            .iter()
            .sum();
        let all: u64 = self.latency.iter().sum();
        (all > 0).then(|| slow as f64 / all as f64)
    }

    /// The latency that this share (0 to 1) of answers did not exceed, milliseconds, as the upper bound of its bucket; beyond the last bound, that
    /// bound. None without answers.
    pub fn percentile_ms(&self, share: f64) -> Option<u64> {
        let all: u64 = self.latency.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = ((all as f64 * share).ceil() as u64).clamp(1, all);
        let mut seen = 0;
        for (count, bound) in self.latency.iter().zip(BOUNDS_MS) {
            seen += count;
            if seen >= wanted {
                return Some(bound);
            }
        }
        BOUNDS_MS.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_buckets() {
        let mut counts = Counts::default();
        for took_ms in [0, 1, 2, 3, 9, 10, 90, 6_000, 7_000, 8_000] {
            counts.add(&Counts::one(Outcome::Good, took_ms));
        }
        assert_eq!(counts.good, 10);
        assert_eq!(counts.percentile_ms(0.5), Some(10));
        assert_eq!(counts.percentile_ms(0.1), Some(1));
        assert_eq!(counts.percentile_ms(0.99), Some(5_000));
        assert_eq!(counts.slow_share(100), Some(0.3));
        assert_eq!(counts.slow_share(1), Some(0.8));
        assert_eq!(counts.slow_share(60_000), Some(0.3));
        assert_eq!(Counts::default().percentile_ms(0.5), None);
    }

    #[test]
    fn counters_that_began_anew_count_from_their_beginning() {
        let mut before = Counts::default();
        for _ in 0..5 {
            before.add(&Counts::one(Outcome::Good, 3));
        }
        let mut now = before;
        now.add(&Counts::one(Outcome::Failed, 0));
        assert_eq!(now.since(&before), Counts::one(Outcome::Failed, 0));
        let anew = Counts::one(Outcome::Good, 700);
        assert_eq!(anew.since(&before), anew);
    }

    #[test]
    fn what_never_reached_the_service_is_not_its_failure() {
        let mut counts = Counts::one(Outcome::Unreachable, 0);
        assert_eq!(counts.failed_share(), None);
        counts.add(&Counts::one(Outcome::Good, 1));
        assert_eq!(counts.failed_share(), Some(0.0));
        counts.add(&Counts::one(Outcome::Failed, 1));
        counts.add(&Counts::one(Outcome::Throttled, 1));
        counts.add(&Counts::one(Outcome::Throttled, 1));
        assert_eq!(counts.failed_share(), Some(0.25));
        assert_eq!(counts.throttled_share(), Some(0.5));
        assert_eq!(counts.total(), 5);
    }
}
