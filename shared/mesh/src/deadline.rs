//! Deadlines and trace context: what travels with a request through all services.

use std::fmt;
use std::sync::Arc;
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

/// W3C trace context of the request that is being served.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The `traceparent` header, if there is one. At most 64 bytes travel.
    pub traceparent: Option<Arc<str>>,
}

impl TraceContext {
    /// Longest value that is passed on, bytes (version 00 has 55).
    pub const BYTES_MAX: usize = 64;

    /// From a `traceparent` header; values that cannot be one are dropped.
    pub fn new(traceparent: &str) -> Self {
        let fits = !traceparent.is_empty()
            && traceparent.len() <= Self::BYTES_MAX
            && traceparent.bytes().all(|byte| byte.is_ascii_graphic());
        Self {
            traceparent: fits.then(|| Arc::from(traceparent)),
        }
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traceparent.as_deref().unwrap_or("-"))
    }
}
