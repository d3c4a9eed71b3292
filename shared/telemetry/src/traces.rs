//! Traces: what happened to one request, over all services (ADR 0012).
//!
//! On the hot path a service only *notes* what it did, in small records of fixed size in a bounded ring (`record`). At the end of a request its
//! router decides whether the trace is worth keeping (`sampling`) and says so on the bus; every service turns its records of that trace into spans
//! (`keeping`) and exports them over OTLP (`export`). So a request that is not kept costs a few clock reads, and a slow or failed one is whole.
//!
//! What no request waits for (elections, splits, scrubs …) is rare: `flows` makes spans of it at once.
//!
//! Never blocks or fails a request: what does not fit into a queue is dropped and counted.

mod current;
mod export;
mod filter;
mod flows;
mod ids;
mod keeping;
mod record;
mod recorder;
mod sampling;
mod settings;
mod span;
mod words;

pub use current::{Entered, Within, current, enter, within};
pub use flows::{Flow, Flows, flows};
pub use ids::{
    amazon_trace, context_named, new_trace_id, random_u64, request_id, split_context,
    trace_of_request_id,
};
pub use record::{Answered, Appended, Applied, Call, Lookup, Record, Served};
pub use recorder::{Recorder, init, join, of, shut_down};
pub use sampling::{Outcome, Reason};
pub use settings::{Protocol, TraceSettings};
pub use span::{Span, SpanKind};

pub use opentelemetry::KeyValue;

/// Wall clock, nanoseconds since the Unix epoch: what spans of several machines are laid out by.
pub fn now_ns() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
