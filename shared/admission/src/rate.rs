//! Rates that forget.

use model::Units;

/// A second's share in the mean: a rate follows a change by two thirds within so many seconds.
const SECONDS: u64 = 8;
/// After so many seconds without anything the rest is nothing.
const IDLE_SECONDS_MAX: u64 = 512;

/// Units a second, decayed: an exponential mean over whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecayedRate {
    mean: Units,
    /// Counted in the current second.
    current: Units,
    second: u64,
}

impl DecayedRate {
    /// Counts `units`.
    pub fn add(&mut self, now_ms: u64, units: Units) {
        self.turn(now_ms);
        self.current = self.current.saturating_add(units);
    }

    /// The rate as of the last full second.
    pub fn per_second(&self, now_ms: u64) -> Units {
        let mut now = self.clone();
        now.turn(now_ms);
        now.mean
    }

    fn turn(&mut self, now_ms: u64) {
        let second = now_ms / 1000;
        let passed = second.saturating_sub(self.second);
        if passed == 0 {
            return;
        }
        self.second = second;
        if passed > IDLE_SECONDS_MAX {
            self.mean = Units::ZERO;
        }
        for _ in 0..passed.min(IDLE_SECONDS_MAX) {
            let counted = std::mem::take(&mut self.current);
            self.mean = self
                .mean
                .share(SECONDS - 1, SECONDS)
                .saturating_add(counted.share(1, SECONDS));
        }
        self.current = Units::ZERO;
    }
}
