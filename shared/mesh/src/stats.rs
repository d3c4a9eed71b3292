//! Counters of one mesh handle: plain atomics that telemetry exports. Never decides anything.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since start, and a few levels.
#[derive(Debug, Default)]
pub struct Stats {
    /// Frames queued for sending.
    pub frames_sent: Counter,
    /// Bus messages sent; fewer than frames under load.
    pub messages_sent: Counter,
    /// Bytes of bus messages sent.
    pub bytes_sent: Counter,
    /// Frames received (before any is dropped).
    pub frames_received: Counter,
    /// Bus messages received.
    pub messages_received: Counter,
    /// Bytes of bus messages received.
    pub bytes_received: Counter,
    /// Calls that ended at their deadline.
    pub calls_timed_out: Counter,
    /// Calls refused because nobody serves the subject.
    pub calls_without_responder: Counter,
    /// Calls and casts refused at a bound.
    pub overloaded: Counter,
    /// Answers that came after their call had ended.
    pub replies_late: Counter,
    /// Answers that were not sent: deadline passed, or the queue to the asker is full.
    pub replies_dropped: Counter,
    /// Frames dropped unread because their deadline had passed.
    pub expired_dropped: Counter,
    /// Frames given up after having waited too long for a connection.
    pub stale_dropped: Counter,
    /// Frames or messages that could not be parsed.
    pub malformed_dropped: Counter,
    /// Frames or messages whose checksum does not hold.
    pub corrupt_dropped: Counter,
    /// Messages that arrived after their subscription had ended (calls are refused).
    pub unserved_dropped: Counter,
    /// Messages of an unknown protocol version.
    pub incompatible_refused: Counter,
    /// Messages that the client library dropped because a subscription's queue was full (at least so many).
    pub slow_consumer_dropped: Counter,
    /// Chunked frames that were given up: too late, too large, too many at once.
    pub reassembly_dropped: Counter,
    /// Panics caught in handlers.
    pub handler_panics: Counter,
    /// Connections lost.
    pub disconnects: Counter,
    /// Level: calls waiting for an answer.
    pub calls_in_flight: Counter,
    /// Level: bytes waiting to be sent.
    pub bytes_queued: Counter,
}

impl Stats {
    /// What each of the `values` is, by name.
    pub const WORDS: &[(&str, &str)] = &[
        (
            "frames_sent_total",
            "Frames (calls, answers, casts) handed over for sending.",
        ),
        (
            "messages_sent_total",
            "Messages sent on the bus; fewer than frames under load, which share them.",
        ),
        ("bytes_sent_total", "Bytes of messages sent on the bus."),
        (
            "frames_received_total",
            "Frames received, those that are dropped afterwards included.",
        ),
        ("messages_received_total", "Messages received from the bus."),
        (
            "bytes_received_total",
            "Bytes of messages received from the bus.",
        ),
        (
            "calls_timed_out_total",
            "Calls that ended at their deadline, without an answer.",
        ),
        (
            "calls_without_responder_total",
            "Calls refused because nobody serves their subject.",
        ),
        (
            "overloaded_total",
            "Calls and casts refused here because a queue was full.",
        ),
        (
            "replies_late_total",
            "Answers that came when their call had ended.",
        ),
        (
            "replies_dropped_total",
            "Answers that were not sent: out of time, or the way to the asker was full.",
        ),
        (
            "expired_dropped_total",
            "Frames dropped unread, because their deadline had passed.",
        ),
        (
            "stale_dropped_total",
            "Frames given up because they had waited too long for a connection.",
        ),
        (
            "malformed_dropped_total",
            "Frames or messages that could not be read.",
        ),
        (
            "corrupt_dropped_total",
            "Frames or messages dropped because they were changed on their way: their checksum does not hold.",
        ),
        (
            "unserved_dropped_total",
            "Messages that came when their subscription had ended.",
        ),
        (
            "incompatible_refused_total",
            "Messages of a protocol version that is not known here.",
        ),
        (
            "slow_consumer_dropped_total",
            "Messages that the bus's client dropped because this process was too slow to take them (at least so many).",
        ),
        (
            "reassembly_dropped_total",
            "Frames in several pieces that were given up: too late, too large, or too many at once.",
        ),
        (
            "handler_panics_total",
            "Panics of handlers that were caught.",
        ),
        (
            "disconnects_total",
            "Connections to the bus that were lost.",
        ),
        ("calls_in_flight", "Calls that wait for an answer."),
        ("bytes_queued", "Bytes that wait to be sent on the bus."),
    ];

    /// Names (without prefix) and values, for export. Levels have names without `_total`.
    pub fn values(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("frames_sent_total", self.frames_sent.get()),
            ("messages_sent_total", self.messages_sent.get()),
            ("bytes_sent_total", self.bytes_sent.get()),
            ("frames_received_total", self.frames_received.get()),
            ("messages_received_total", self.messages_received.get()),
            ("bytes_received_total", self.bytes_received.get()),
            ("calls_timed_out_total", self.calls_timed_out.get()),
            (
                "calls_without_responder_total",
                self.calls_without_responder.get(),
            ),
            ("overloaded_total", self.overloaded.get()),
            ("replies_late_total", self.replies_late.get()),
            ("replies_dropped_total", self.replies_dropped.get()),
            ("expired_dropped_total", self.expired_dropped.get()),
            ("stale_dropped_total", self.stale_dropped.get()),
            ("malformed_dropped_total", self.malformed_dropped.get()),
            ("corrupt_dropped_total", self.corrupt_dropped.get()),
            ("unserved_dropped_total", self.unserved_dropped.get()),
            (
                "incompatible_refused_total",
                self.incompatible_refused.get(),
            ),
            (
                "slow_consumer_dropped_total",
                self.slow_consumer_dropped.get(),
            ),
            ("reassembly_dropped_total", self.reassembly_dropped.get()),
            ("handler_panics_total", self.handler_panics.get()),
            ("disconnects_total", self.disconnects.get()),
            ("calls_in_flight", self.calls_in_flight.get()),
            ("bytes_queued", self.bytes_queued.get()),
        ]
    }
}

/// An atomic number. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
    pub(crate) fn one(&self) {
        self.add(1);
    }
    pub(crate) fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }
    /// Add unless that would exceed `max`.
    pub(crate) fn try_add(&self, amount: u64, max: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.checked_add(amount).filter(|sum| *sum <= max)
            })
            .is_ok()
    }
}
