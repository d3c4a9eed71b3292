//! Settings of traces (section `[telemetry.traces]` of every service), each with its unit and its reason.

use serde::{Deserialize, Serialize};

/// How spans are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP over gRPC; the endpoint is the collector's address, usually with port 4317.
    #[default]
    Grpc,
    /// OTLP over HTTP (protobuf); the endpoint is the whole URL, usually with port 4318 and the path `/v1/traces`.
    Http,
}

/// Part of all requests that are sampled unless it is said.
const SAMPLE_RATIO: f64 = 0.01;

/// Settings of traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// Where spans go, e.g. `http://127.0.0.1:4317`; empty = no traces, at no cost.
    pub endpoint: String,
    /// How they go there.
    pub protocol: Protocol,
    /// Part of all requests whose traces are kept, 0 to 1; none = 0.01. Decided by the trace id, so that all routers (and a client that does
    /// likewise) agree.
    pub sample_ratio: Option<f64>,
    /// Requests that take longer are kept whatever the ratio, milliseconds; as failed and throttled ones are.
    pub slow_ms: u64,
    /// Traces that a router keeps a second because they were sampled …
    pub sampled_per_second_max: u32,
    /// … and in all: a storm of throttled requests must not become a storm of spans. What is above is counted as dropped.
    pub kept_per_second_max: u32,
    /// Background flows (elections, splits, scrubs …) that a service keeps a minute, of each name; all, unless there are more.
    pub flows_per_minute_max: u32,
    /// Records of what was done lately that a service holds, about 120 bytes each: some seconds' worth.
    pub records_max: usize,
    /// Spans that wait to be sent; above it they are dropped and counted.
    pub spans_queued_max: usize,
    /// Spans in one message.
    pub batch_spans_max: usize,
    /// How long spans gather for a message, milliseconds.
    pub batch_ms: u64,
    /// Time for one message, milliseconds; its spans are dropped then.
    pub export_ms_max: u64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            protocol: Protocol::default(),
            sample_ratio: None,
            slow_ms: 500,
            sampled_per_second_max: 200,
            kept_per_second_max: 400,
            flows_per_minute_max: 60,
            records_max: 16_384,
            spans_queued_max: 8_192,
            batch_spans_max: 512,
            batch_ms: 500,
            export_ms_max: 5_000,
        }
    }
}

impl TraceSettings {
    /// The part of all requests that is sampled.
    pub(crate) fn ratio(&self) -> f64 {
        self.sample_ratio.unwrap_or(SAMPLE_RATIO).clamp(0.0, 1.0)
    }
}
