//! How the limit of an on-demand table follows its traffic: twice the previous peak at once, more only once a new peak was seen through (developer
//! guide, "On-demand capacity mode"). A peak is the greatest mean over a slot; it counts once its window has ended.

use model::Units;

/// Slots of a window: with half an hour, a minute each.
const SLOTS: u64 = 30;

/// Peaks of one direction of a table.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    window_ms: u64,
    window_start_ms: u64,
    slot_start_ms: u64,
    slot: Units,
    window_peak: Units,
    peak: Units,
}

impl Growth {
    /// Without history; windows are `window_ms` long.
    pub(crate) fn new(window_ms: u64, now_ms: u64) -> Self {
        Self {
            window_ms: window_ms.max(SLOTS),
            window_start_ms: now_ms,
            slot_start_ms: now_ms,
            slot: Units::ZERO,
            window_peak: Units::ZERO,
            peak: Units::ZERO,
        }
    }

    /// Counts what was consumed.
    pub(crate) fn consumed(&mut self, now_ms: u64, units: Units) {
        self.advance(now_ms);
        self.slot = self.slot.saturating_add(units);
    }

    /// Twice the greatest peak of the windows that have ended, units a second.
    pub(crate) fn limit(&mut self, now_ms: u64) -> Units {
        self.advance(now_ms);
        self.peak.saturating_mul(2)
    }

    fn advance(&mut self, now_ms: u64) {
        let slot_ms = self.window_ms / SLOTS;
        if now_ms.saturating_sub(self.slot_start_ms) >= slot_ms {
            let length_ms = now_ms - self.slot_start_ms;
            let mean = self.slot.share(1000, length_ms);
            self.window_peak = self.window_peak.max(mean);
            self.slot = Units::ZERO;
            self.slot_start_ms = now_ms;
        }
        if now_ms.saturating_sub(self.window_start_ms) >= self.window_ms {
            self.peak = self.peak.max(self.window_peak);
            self.window_peak = Units::ZERO;
            self.window_start_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_peak_once_its_window_has_ended() {
        let mut growth = Growth::new(1_800_000, 0);
        let mut now_ms = 0;
        let mut limit = Units::ZERO;
        while now_ms < 1_790_000 {
            now_ms += 1_000;
            growth.consumed(now_ms, Units::new(9_000));
            limit = growth.limit(now_ms);
            assert!(limit.is_zero(), "not before the window has ended");
        }
        now_ms = 1_800_000;
        limit = limit.max(growth.limit(now_ms));
        assert!(
            (17_990..=18_310).contains(&(limit.thousandths() / 1000)),
            "{limit}"
        );
        // A quieter window takes nothing away, one long silence neither.
        now_ms += 100_000_000;
        assert_eq!(growth.limit(now_ms), limit);
    }

    #[test]
    fn a_short_spike_is_no_peak() {
        let mut growth = Growth::new(1_800_000, 0);
        growth.consumed(30_000, Units::new(60_000));
        for second in 31..=1_800 {
            growth.consumed(second * 1_000, Units::ZERO);
        }
        let limit = growth.limit(1_800_000);
        assert!(limit <= Units::new(2_000), "{limit}");
    }
}
