//! The points in time that a table can be restored to, and what must be kept in the archive for them. Pure.

use serde::{Deserialize, Serialize};

/// Length of a day, milliseconds.
const DAY_MS: u64 = model::table::DAY_MS;
/// Longest and usual recovery period, days (API reference).
pub(crate) const DAYS_MAX: u32 = 35;

/// Point-in-time recovery of a table, while it is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PointInTime {
    /// Since when, milliseconds since the epoch.
    pub(crate) since_ms: u64,
    /// Recovery period, days.
    pub(crate) days: u32,
}

/// Points in time, both inclusive, milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) earliest_ms: u64,
    pub(crate) latest_ms: u64,
}

impl Window {
    pub(crate) fn contains(&self, at_ms: u64) -> bool {
        (self.earliest_ms..=self.latest_ms).contains(&at_ms)
    }
}

impl PointInTime {
    /// The first point in time.
    pub(crate) fn earliest_ms(&self, now_ms: u64) -> u64 {
        let period_ms = u64::from(self.days) * DAY_MS;
        self.since_ms.max(now_ms.saturating_sub(period_ms))
    }

    /// The points in time; `archived_ms`: everything that was written up to then is in the archive. What is shown as the latest one
    /// is a whole second, since that is what the SDKs can ask for. A table whose archive has not come as far as the beginning has one point: a restore
    /// to it waits for the archive.
    pub(crate) fn window(&self, archived_ms: Option<u64>, now_ms: u64) -> Window {
        let earliest_ms = self.earliest_ms(now_ms).next_multiple_of(1000);
        let archived_ms = archived_ms.unwrap_or(0).min(now_ms);
        Window {
            earliest_ms,
            latest_ms: (archived_ms - archived_ms % 1000).max(earliest_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_when_it_was_switched_on_and_slides_after_the_period() {
        let since_ms = 100 * DAY_MS + 1;
        let recovery = PointInTime { since_ms, days: 2 };
        assert_eq!(recovery.earliest_ms(101 * DAY_MS), since_ms);
        assert_eq!(recovery.earliest_ms(110 * DAY_MS), 108 * DAY_MS);
        let all = PointInTime {
            since_ms,
            days: DAYS_MAX,
        };
        assert_eq!(all.earliest_ms(130 * DAY_MS), since_ms);
    }

    #[test]
    fn it_ends_where_the_archive_ends() {
        let recovery = PointInTime {
            since_ms: 10_500,
            days: 1,
        };
        let window = |archived, now| recovery.window(archived, now);
        let seen = window(Some(20_999), 25_000);
        assert_eq!((seen.earliest_ms, seen.latest_ms), (11_000, 20_000));
        assert!(seen.contains(11_000) && seen.contains(20_000));
        assert!(!seen.contains(10_999) && !seen.contains(20_001));
        // An archiver whose clock is ahead promises nothing that has not happened yet.
        assert_eq!(window(Some(90_000), 25_400).latest_ms, 25_000);
        // Nothing is archived yet.
        assert_eq!(window(None, 11_000).latest_ms, 11_000);
        assert_eq!(window(Some(3_000), 25_000).latest_ms, 11_000);
    }
}
