//! Traces of what runs in the background: an election, a split, a rebuilt replica, a scrub … One root span each, linked to what caused it.

use std::borrow::Cow;

use mesh::TraceContext;

use super::recorder::Recorder;
use super::span::{Span, SpanKind};
use super::{new_trace_id, now_ns};

/// Something that runs in the background. Exported when it ends; forgotten if it is dropped before.
#[derive(Clone, Debug)]
pub struct Flow {
    span: Span,
}

impl Flow {
    /// Begins now. `cause`: the span that led to it, linked if there is one.
    pub fn begin(name: impl Into<Cow<'static, str>>, cause: TraceContext) -> Self {
        let context = TraceContext {
            trace_id: new_trace_id(),
            span_id: 0,
            sampled: true,
        };
        let mut span = Span::new(context, name, SpanKind::Internal, (now_ns(), 0));
        span.links.extend(cause.is_some().then_some(cause));
        Self { span }
    }

    /// It began earlier.
    pub fn since(mut self, start_ns: u64) -> Self {
        self.span.start_ns = start_ns;
        self
    }

    /// With an attribute.
    pub fn with(mut self, key: &'static str, value: impl Into<opentelemetry::Value>) -> Self {
        self.span = self.span.with(key, value);
        self
    }

    /// The context of what it causes: to be sent along.
    pub fn context(&self) -> TraceContext {
        self.span.context()
    }

    /// A step of it, from then until now.
    pub fn step(&self, recorder: &Recorder, name: &'static str, start_ns: u64) {
        let times = (start_ns, now_ns());
        recorder.export(Span::new(self.context(), name, SpanKind::Internal, times));
    }

    /// It ended, well or for this reason.
    pub fn end(mut self, recorder: &Recorder, error: Option<String>) {
        self.span.end_ns = now_ns();
        self.span.error = error.map(Cow::Owned);
        recorder.export(self.span);
    }
}
