//! A span as services make it: what is exported, without what only the SDK needs.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh::TraceContext;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind as Kind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// On which side of a message the span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// One span.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace.
    pub trace_id: u128,
    /// Its id.
    pub span_id: u64,
    /// The span that it is part of; 0 = none.
    pub parent: u64,
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began, Unix nanoseconds.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// Other spans that have to do with it.
    pub links: Vec<TraceContext>,
    /// Why it failed, if it did.
    pub error: Option<Cow<'static, str>>,
}

impl Span {
    /// A span within `context`, with a new id.
    pub fn new(
        context: TraceContext,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        (start_ns, end_ns): (u64, u64),
    ) -> Self {
        Self {
            trace_id: context.trace_id,
            span_id: super::random_u64(),
            parent: context.span_id,
            name: name.into(),
            kind,
            start_ns,
            end_ns,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    /// With an attribute.
    pub fn with(mut self, key: &'static str, value: impl Into<opentelemetry::Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// The context of what it is the parent of.
    pub fn context(&self) -> TraceContext {
        TraceContext {
            trace_id: self.trace_id,
            span_id: self.span_id,
            sampled: true,
        }
    }

    /// As the SDK has it.
    pub(crate) fn into_data(self, scope: &InstrumentationScope) -> SpanData {
        let start = time(self.start_ns);
        let context = |trace: u128, span: u64, remote| {
            SpanContext::new(
                TraceId::from(trace),
                SpanId::from(span),
                TraceFlags::SAMPLED,
                remote,
                TraceState::NONE,
            )
        };
        let mut links = SpanLinks::default();
        links.links = (self.links.iter())
            .map(|link| Link::new(context(link.trace_id, link.span_id, true), Vec::new(), 0))
            .collect();
        SpanData {
            span_context: context(self.trace_id, self.span_id, false),
            parent_span_id: SpanId::from(self.parent),
            parent_span_is_remote: self.kind == SpanKind::Server || self.kind == SpanKind::Consumer,
            span_kind: match self.kind {
                SpanKind::Internal => Kind::Internal,
                SpanKind::Server => Kind::Server,
                SpanKind::Client => Kind::Client,
                SpanKind::Producer => Kind::Producer,
                SpanKind::Consumer => Kind::Consumer,
            },
            name: self.name,
            start_time: start,
            // Clocks may be put back in between.
            end_time: time(self.end_ns).max(start),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: match self.error {
                Some(error) => Status::error(error),
                None => Status::Unset,
            },
            instrumentation_scope: scope.clone(),
        }
    }
}

fn time(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns)
}
