//! What the numbers about traces are, in words.

/// By name.
pub(super) const WORDS: crate::Words = &[
    (
        "kept_sampled_total",
        "Traces of requests that this router kept because they were sampled.",
    ),
    (
        "kept_slow_total",
        "Traces of requests that this router kept because they were slow.",
    ),
    (
        "kept_throttled_total",
        "Traces of requests that this router kept because they were throttled.",
    ),
    (
        "kept_failed_total",
        "Traces of requests that this router kept because they failed.",
    ),
    (
        "not_kept_total",
        "Traces of requests that were worth keeping and above what may be kept a second.",
    ),
    (
        "flows_kept_total",
        "Traces of background flows that were kept.",
    ),
    (
        "flows_not_kept_total",
        "Traces of background flows above what may be kept a minute of their name.",
    ),
    (
        "spans_exported_total",
        "Spans that the receiver of traces took.",
    ),
    (
        "spans_dropped_total",
        "Spans that were dropped: the queue was full, or the receiver did not take them in time.",
    ),
    (
        "exports_failed_total",
        "Batches of spans that the receiver did not take.",
    ),
];
