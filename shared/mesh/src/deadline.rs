//! Deadlines: they travel with a request through all services.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time by which an answer is of use; wall clock, since it crosses machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deadline(u64);

impl Deadline {
    /// So long from now.
    pub fn after(duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(now_unix_ms().saturating_add(ms))
    }
    /// At this time, milliseconds since the Unix epoch.
    pub fn at_unix_ms(unix_ms: u64) -> Self {
        Self(unix_ms)
    }
    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        self.0
    }
    /// What is left of it; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now_unix_ms()))
    }
    /// Whether it has passed.
    pub fn expired(&self) -> bool {
        now_unix_ms() >= self.0
    }
}

/// Wall clock, milliseconds since the Unix epoch.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
