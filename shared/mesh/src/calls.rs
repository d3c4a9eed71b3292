//! Calls that wait for an answer. Owns correlation numbers and time-outs; never sends anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::CallError;
use crate::stats::Stats;

/// Calls in flight, at most; beyond it callers are told `Overloaded`.
const IN_FLIGHT_MAX: u64 = 65_536;
/// How often time-outs are looked for: a call ends at most so much after its deadline.
const SWEEP_EVERY: Duration = Duration::from_millis(10);
/// Locks, so that callers on several threads rarely meet.
const SHARDS: usize = 16;

/// Which bus message carried a call: number of the outgoing queue, number of the message in it.
pub(crate) type Route = (u64, u64);
/// Encoded answer.
pub(crate) type Answer = Result<Bytes, CallError>;

struct Pending {
    answer: oneshot::Sender<Answer>,
    expires: Instant,
    route: Route,
}

/// All calls in flight of one process (or in-process bus).
pub(crate) struct Calls {
    shards: [Mutex<HashMap<u64, Pending>>; SHARDS],
    next: AtomicU64,
    stats: Arc<Stats>,
    closed: AtomicBool,
    sweeper: OnceLock<Thread>,
}

impl Calls {
    /// Empty; starts the thread that ends calls at their deadlines (it sleeps while there are none).
    pub(crate) fn start(stats: Arc<Stats>) -> Arc<Self> {
        let calls = Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            // not from 1: answers to an earlier life of the process must not match
            next: AtomicU64::new(u64::from(rand::random::<u32>()) << 24),
            stats,
            closed: AtomicBool::new(false),
            sweeper: OnceLock::new(),
        });
        let weak = Arc::downgrade(&calls);
        let spawned = thread::Builder::new()
            .name("mesh-deadlines".to_owned())
            .spawn(move || sweep_until_gone(&weak));
        match spawned {
            Ok(handle) => {
                let _ = calls.sweeper.set(handle.thread().clone());
            }
            // without it calls would wait forever: refuse them all instead
            Err(error) => {
                tracing::error!(%error, "cannot start the thread for deadlines");
                calls.closed.store(true, Ordering::Release);
            }
        }
        calls
    }

    /// Number for a new call and the guard that forgets it when the caller goes away. `insert` makes it known.
    pub(crate) fn open(self: &Arc<Self>) -> Result<OpenCall, CallError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CallError::Closed);
        }
        if !self.stats.calls_in_flight.try_add(1, IN_FLIGHT_MAX) {
            self.stats.overloaded.one();
            return Err(CallError::Overloaded);
        }
        let correlation = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(OpenCall {
            calls: self.clone(),
            correlation,
        })
    }

    /// Expect the answer to an open call.
    pub(crate) fn insert(
        &self,
        correlation: u64,
        expires: Instant,
        route: Route,
    ) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        self.shard(correlation).lock().insert(
            correlation,
            Pending {
                answer,
                expires,
                route,
            },
        );
        if let Some(sweeper) = self.sweeper.get() {
            // only costs a system call when it sleeps without any call in flight
            sweeper.unpark();
        }
        receiver
    }

    /// An answer came.
    pub(crate) fn complete(&self, correlation: u64, answer: Answer) {
        let pending = self.shard(correlation).lock().remove(&correlation);
        let delivered = pending.is_some_and(|pending| pending.answer.send(answer).is_ok());
        if !delivered {
            self.stats.replies_late.one();
        }
    }

    /// The bus says that nobody got the message `route`: its calls were certainly not executed.
    pub(crate) fn refuse_route(&self, route: Route) {
        for shard in &self.shards {
            for (_, pending) in shard.lock().extract_if(|_, pending| pending.route == route) {
                self.stats.calls_without_responder.one();
                let _ = pending.answer.send(Err(CallError::NoResponders));
            }
        }
    }

    /// End all calls, and refuse new ones.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            for (_, pending) in shard.lock().drain() {
                let _ = pending.answer.send(Err(CallError::Closed));
            }
        }
    }

    fn shard(&self, correlation: u64) -> &Mutex<HashMap<u64, Pending>> {
        &self.shards[(correlation % SHARDS as u64) as usize]
    }

    /// End the calls whose time has come.
    fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            let mut map = shard.lock();
            if map.is_empty() {
                // one burst of calls must not cost memory and sweeping time forever
                if map.capacity() > 1024 {
                    map.shrink_to_fit();
                }
                continue;
            }
            for (_, pending) in map.extract_if(|_, pending| pending.expires <= now) {
                self.stats.calls_timed_out.one();
                let _ = pending.answer.send(Err(CallError::TimedOut));
            }
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.unpark();
        }
    }
}

fn sweep_until_gone(calls: &Weak<Calls>) {
    loop {
        let Some(strong) = calls.upgrade() else {
            return;
        };
        strong.sweep(Instant::now());
        let idle = strong.stats.calls_in_flight.get() == 0;
        drop(strong);
        if idle {
            thread::park();
        } else {
            // not `park_timeout`: `insert` would have to wake this thread again and again
            thread::sleep(SWEEP_EVERY);
        }
    }
}

/// One call; forgets itself when dropped, so an abandoned caller leaves nothing behind.
pub(crate) struct OpenCall {
    calls: Arc<Calls>,
    pub(crate) correlation: u64,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.calls
            .shard(self.correlation)
            .lock()
            .remove(&self.correlation);
        self.calls.stats.calls_in_flight.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> (Arc<Calls>, Arc<Stats>) {
        let stats = Arc::new(Stats::default());
        (Calls::start(stats.clone()), stats)
    }

    #[tokio::test]
    async fn an_answer_reaches_its_caller_once() {
        let (calls, stats) = calls();
        let call = calls.open().expect("room");
        let expires = Instant::now() + Duration::from_secs(60);
        let answer = calls.insert(call.correlation, expires, (0, 0));
        calls.complete(call.correlation, Ok(Bytes::from_static(b"yes")));
        calls.complete(call.correlation, Ok(Bytes::from_static(b"again")));
        assert_eq!(
            answer.await.expect("answered"),
            Ok(Bytes::from_static(b"yes"))
        );
        assert_eq!(stats.replies_late.get(), 1);
        drop(call);
        assert_eq!(stats.calls_in_flight.get(), 0);
    }

    #[tokio::test]
    async fn a_call_ends_at_its_deadline_even_after_a_pause() {
        let (calls, stats) = calls();
        for _ in 0..2 {
            let call = calls.open().expect("room");
            let expires = Instant::now() + Duration::from_millis(5);
            let answer = calls.insert(call.correlation, expires, (0, 0));
            assert_eq!(answer.await.expect("answered"), Err(CallError::TimedOut));
            assert!(Instant::now() >= expires);
        }
        assert_eq!(stats.calls_timed_out.get(), 2);
    }

    #[tokio::test]
    async fn only_the_calls_of_the_refused_message_are_refused() {
        let (calls, _) = calls();
        let expires = Instant::now() + Duration::from_secs(60);
        let (first, second) = (calls.open().expect("room"), calls.open().expect("room"));
        let refused = calls.insert(first.correlation, expires, (3, 1));
        let mut kept = calls.insert(second.correlation, expires, (3, 2));
        calls.refuse_route((3, 1));
        assert_eq!(
            refused.await.expect("answered"),
            Err(CallError::NoResponders)
        );
        assert!(kept.try_recv().is_err());
    }

    #[test]
    fn calls_in_flight_are_bounded() {
        let (calls, stats) = calls();
        let open: Vec<_> = (0..IN_FLIGHT_MAX)
            .map(|_| calls.open().expect("room"))
            .collect();
        assert_eq!(calls.open().err(), Some(CallError::Overloaded));
        drop(open);
        assert!(calls.open().is_ok());
        assert_eq!(stats.overloaded.get(), 1);
    }

    #[tokio::test]
    async fn closing_ends_what_waits_and_refuses_the_rest() {
        let (calls, _) = calls();
        let call = calls.open().expect("room");
        let expires = Instant::now() + Duration::from_secs(60);
        let answer = calls.insert(call.correlation, expires, (0, 0));
        calls.close();
        assert_eq!(answer.await.expect("answered"), Err(CallError::Closed));
        assert_eq!(calls.open().err(), Some(CallError::Closed));
    }
}
