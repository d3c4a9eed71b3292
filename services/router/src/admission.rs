//! Bounds on what the router holds at once: requests and bytes of request bodies. What does not fit is shed at once, not queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The bounds and what is used of them. Cheap to clone; clones share the counts.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    requests: AtomicUsize,
    requests_max: usize,
    bytes: AtomicUsize,
    bytes_max: usize,
    draining: AtomicBool,
}

/// A request that was let in; counted until dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Admission {
    /// With these bounds.
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        let shared = Shared {
            requests: AtomicUsize::new(0),
            requests_max,
            bytes: AtomicUsize::new(0),
            bytes_max,
            draining: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Lets a request in, if there is room.
    pub(crate) fn enter(&self) -> Option<Admitted> {
        take(&self.shared.requests, 1, self.shared.requests_max).then(|| Admitted {
            shared: self.shared.clone(),
            bytes: 0,
        })
    }

    /// Requests being worked on.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Relaxed)
    }

    /// The router is going away: tell clients to close their connections.
    pub(crate) fn start_draining(&self) {
        self.shared.draining.store(true, Relaxed);
    }

    /// Whether the router is going away.
    pub(crate) fn draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }
}

impl Admitted {
    /// Accounts for more bytes of the request; false = there is no room for them.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let fits = take(&self.shared.bytes, bytes, self.shared.bytes_max);
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.requests.fetch_sub(1, Relaxed);
        self.shared.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// Adds to a count, unless that exceeds the bound.
fn take(count: &AtomicUsize, amount: usize, max: usize) -> bool {
    let before = count.fetch_add(amount, Relaxed);
    if before.saturating_add(amount) > max {
        count.fetch_sub(amount, Relaxed);
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::Admission;

    #[test]
    fn requests_and_bytes_are_bounded_and_given_back() {
        let admission = Admission::new(2, 100);
        let mut one = admission.enter().unwrap();
        let mut two = admission.enter().unwrap();
        assert!(admission.enter().is_none());
        assert!(one.hold(60));
        assert!(!two.hold(60));
        assert!(two.hold(40));
        assert!(!two.hold(usize::MAX));
        drop(one);
        assert!(two.hold(60));
        assert_eq!(admission.requests(), 1);
        assert!(admission.enter().is_some());
    }
}
