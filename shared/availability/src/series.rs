//! Counts over time: ten-second slots of the last five minutes, and five-minute windows of the last hours. Both only where something happened.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;

/// Length of a slot.
pub const SLOT_MS: u64 = 10_000;
/// Length of a window, in which availability is told: five minutes, as Amazon does.
pub const WINDOW_MS: u64 = 300_000;
/// Windows kept: twelve hours.
pub const WINDOWS_KEPT: u64 = 144;
const SLOTS_KEPT: u64 = WINDOW_MS / SLOT_MS;

/// The counts of one thing over time.
#[derive(Clone, Debug, Default)]
pub struct Series {
    slots: VecDeque<(u64, Counts)>,
    windows: VecDeque<(u64, Counts)>,
}

/// Availability in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// When the window began, milliseconds since the epoch.
    pub at_ms: u64,
    /// Requests that were answered, throttled ones not counted.
    pub good: u64,
    /// Requests that failed, or that nobody could be found for.
    pub bad: u64,
    /// Requests that were throttled.
    pub throttled: u64,
    /// The latency that 99 of 100 answers did not exceed, milliseconds; 0 without answers.
    pub p99_ms: u64,
}

fn put(kept: &mut VecDeque<(u64, Counts)>, number: u64, most: u64, counts: &Counts) {
    match kept.back_mut() {
        // A clock that was set back: the newest takes it.
        Some((last, sum)) if *last >= number => sum.add(counts),
        _ => kept.push_back((number, *counts)),
    }
    let newest = kept.back().map_or(0, |(number, _)| *number);
    while kept
        .front()
        .is_some_and(|(first, _)| newest - first >= most)
    {
        kept.pop_front();
    }
}

fn sum(kept: &VecDeque<(u64, Counts)>, from: u64, to: u64) -> Counts {
    let mut sum = Counts::default();
    for (number, counts) in kept {
        if (from..=to).contains(number) {
            sum.add(counts);
        }
    }
    sum
}

impl Series {
    /// Takes counts in; `now_ms` since the epoch.
    pub fn add(&mut self, now_ms: u64, counts: &Counts) {
        put(&mut self.slots, now_ms / SLOT_MS, SLOTS_KEPT, counts);
        put(&mut self.windows, now_ms / WINDOW_MS, WINDOWS_KEPT, counts);
    }

    /// The last so many slots, the present one included; at most five minutes.
    pub fn slots(&self, now_ms: u64, slots: u64) -> Counts {
        let now = now_ms / SLOT_MS;
        sum(&self.slots, (now + 1).saturating_sub(slots), now)
    }

    /// The last so many windows, the present one included.
    pub fn windows(&self, now_ms: u64, windows: u64) -> Counts {
        let now = now_ms / WINDOW_MS;
        sum(&self.windows, (now + 1).saturating_sub(windows), now)
    }

    /// The windows in which something happened, of the last `windows`, oldest first.
    pub fn bars(&self, now_ms: u64, windows: u64) -> Vec<Bar> {
        let first = (now_ms / WINDOW_MS + 1).saturating_sub(windows);
        let kept = self.windows.iter().filter(|(number, _)| *number >= first);
        kept.map(|(number, counts)| Bar {
            at_ms: number * WINDOW_MS,
            good: counts.good,
            bad: counts.failed + counts.unreachable,
            throttled: counts.throttled,
            p99_ms: counts.percentile_ms(0.99).unwrap_or(0),
        })
        .collect()
    }

    /// When something happened last, to the slot; none: never.
    pub fn last_ms(&self) -> Option<u64> {
        self.slots.back().map(|(number, _)| number * SLOT_MS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::counts::Outcome;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn windows_are_aligned_and_old_ones_go() {
        let mut series = Series::default();
        let good = Counts::one(Outcome::Good, 2);
        series.add(HOUR_MS - 1, &good);
        series.add(HOUR_MS, &Counts::one(Outcome::Failed, 0));
        let bars = series.bars(HOUR_MS, 12);
        assert_eq!(bars.len(), 2);
        assert_eq!(
            (bars[0].at_ms, bars[0].good, bars[0].bad),
            (HOUR_MS - WINDOW_MS, 1, 0)
        );
        assert_eq!((bars[1].at_ms, bars[1].good, bars[1].bad), (HOUR_MS, 0, 1));
        assert_eq!(series.slots(HOUR_MS, 1).total(), 1);
        assert_eq!(series.slots(HOUR_MS, 2).total(), 2);
        assert_eq!(series.windows(HOUR_MS + WINDOW_MS, 2).total(), 1);
        let later = HOUR_MS + WINDOWS_KEPT * WINDOW_MS;
        series.add(later, &good);
        assert_eq!(series.bars(later, u64::MAX).len(), 1);
        assert_eq!(series.last_ms(), Some(later));
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing() {
        let mut series = Series::default();
        let good = Counts::one(Outcome::Good, 2);
        series.add(HOUR_MS, &good);
        series.add(1_000, &good);
        assert_eq!(series.windows(HOUR_MS, 1).good, 2);
    }

    proptest! {
        #[test]
        fn nothing_is_counted_twice_and_memory_is_bounded(
            steps in proptest::collection::vec(0u64..400_000, 1..200)
        ) {
            let mut series = Series::default();
            let mut now = 1_700_000_000_000u64;
            let mut all = Vec::new();
            for step in steps {
                now += step;
                series.add(now, &Counts::one(Outcome::Good, step % 100));
                all.push(now);
            }
            let within = |ms: u64, unit: u64| {
                all.iter().filter(|&&at| at / unit > (now - ms) / unit).count() as u64
            };
            prop_assert_eq!(series.slots(now, 30).good, within(30 * SLOT_MS, SLOT_MS));
            prop_assert_eq!(series.windows(now, 12).good, within(12 * WINDOW_MS, WINDOW_MS));
            prop_assert!(series.slots.len() <= 30 && series.windows.len() <= 144);
        }
    }
}
