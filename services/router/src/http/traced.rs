//! The trace of one request, from its head to its answer. Owns the router's own spans; what is sent on notes for itself.

use std::cell::{Cell, OnceCell};

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, USER_AGENT};
use mesh::TraceContext;
use model::ApiError;
use telemetry::traces::{self, Outcome, Recorder, Span, SpanKind};

use crate::marks::Marks;
use crate::operation::Operation;

/// A request under way.
#[derive(Debug)]
pub(super) struct Traced {
    recorder: Recorder,
    /// The router's span.
    pub(super) context: TraceContext,
    /// The client's span; 0 = none.
    parent: u64,
    /// Unix nanoseconds, as all of these; 0 = nothing is traced.
    start_ns: u64,
    received_ns: Cell<u64>,
    authenticated_ns: Cell<u64>,
    marks: OnceCell<Marks>,
}

impl Traced {
    /// At a request's head. A client's trace (`traceparent`, else `X-Amzn-Trace-Id`) is gone on with.
    pub(super) fn begin(recorder: &Recorder, request: &HttpRequest) -> Self {
        let header = |name: &str| {
            let value = request.headers().get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let client = header("traceparent")
            .map(TraceContext::new)
            .filter(TraceContext::is_some)
            .or_else(|| traces::amazon_trace(header("x-amzn-trace-id")?));
        let trace_id = client.map_or_else(traces::new_trace_id, |client| client.trace_id);
        Self {
            context: TraceContext {
                trace_id,
                span_id: traces::random_u64(),
                sampled: recorder.head(trace_id, client.map(|client| client.sampled)),
            },
            parent: client.map_or(0, |client| client.span_id),
            start_ns: recorder.now_ns(),
            received_ns: Cell::default(),
            authenticated_ns: Cell::default(),
            marks: OnceCell::new(),
            recorder: recorder.clone(),
        }
    }

    /// What other services are told: nothing, if nothing is traced.
    pub(super) fn sent_along(&self) -> TraceContext {
        match self.recorder.is_on() {
            true => self.context,
            false => TraceContext::default(),
        }
    }

    /// The body is there.
    pub(super) fn received(&self) {
        self.received_ns.set(self.recorder.now_ns());
    }

    /// The signature is checked. Gives what the request notes from here on.
    pub(super) fn authenticated(&self) -> Marks {
        self.authenticated_ns.set(self.recorder.now_ns());
        Marks::new(self.recorder.is_on())
    }

    /// What it noted.
    pub(super) fn noted(&self, marks: Marks) {
        // Once a request.
        let _ = self.marks.set(marks);
    }

    /// At its end: keeps the trace if it is worth it.
    pub(super) fn end(
        &self,
        request: &HttpRequest,
        operation: Option<Operation>,
        status: u16,
        error: Option<&ApiError>,
    ) {
        if !self.recorder.is_on() {
            return;
        }
        let end_ns = traces::now_ns();
        let took_ns = end_ns.saturating_sub(self.start_ns);
        let outcome = match error {
            Some(error) if error.is_throttling() => Outcome::Throttled,
            _ if status >= 500 => Outcome::Failed,
            _ => Outcome::Done,
        };
        let Some(reason) = (self.recorder).decide(self.context.sampled, took_ns, outcome) else {
            return;
        };
        let mut root = between(self.root(operation, end_ns), request)
            .with("http.response.status_code", i64::from(status))
            .with("evenkeel.kept", reason.name());
        if let Some(error) = error {
            // Its text may quote the client's data.
            root = root.with("error.type", error.kind.short_name());
            if outcome != Outcome::Done {
                root.error = Some(error.kind.short_name().into());
            }
        }
        let spans = self.steps(end_ns).into_iter().chain([root]);
        (self.recorder).keep(self.context.trace_id, self.start_ns, spans);
    }

    /// The server's span, by OpenTelemetry's conventions for HTTP, RPC and databases.
    fn root(&self, operation: Option<Operation>, end_ns: u64) -> Span {
        let name = operation.map_or("unknown", Operation::name);
        let parent = self.context.within(self.parent);
        let times = (self.start_ns, end_ns);
        let mut root = Span::new(parent, format!("DynamoDB.{name}"), SpanKind::Server, times)
            .with("http.request.method", "POST")
            .with("url.scheme", "http")
            .with("url.path", "/")
            .with("rpc.system", "aws-api")
            .with("rpc.service", "DynamoDB")
            .with("rpc.method", name)
            .with("db.system", "dynamodb")
            .with("db.system.name", "aws.dynamodb")
            .with("db.operation.name", name);
        root.span_id = self.context.span_id;
        let id = traces::request_id(self.context);
        root = root.with("aws.request_id", String::from_utf8_lossy(&id).into_owned());
        match self.marks.get().and_then(Marks::table_found) {
            Some(table) => root.with("db.collection.name", table.name.clone()),
            None => root,
        }
    }

    /// What the router did itself.
    fn steps(&self, end_ns: u64) -> Vec<Span> {
        let (received, authenticated) = (self.received_ns.get(), self.authenticated_ns.get());
        let (asked, admitted) = self.marks.get().map_or((0, 0), Marks::admission_ns);
        let passed = [
            ("receive", self.start_ns, received),
            ("authenticate", received, authenticated),
            ("admission", asked, admitted),
        ];
        let done = passed
            .into_iter()
            .filter(|(_, from, to)| *from > 0 && *to > 0);
        done.map(|(name, from, to)| {
            let times = (from, to.min(end_ns));
            Span::new(self.context, name, SpanKind::Internal, times)
        })
        .collect()
    }
}

/// Bytes of a client's name for itself that are kept.
const AGENT_BYTES_MAX: usize = 256;

/// With who asked whom, by OpenTelemetry's conventions for HTTP servers.
fn between(mut root: Span, request: &HttpRequest) -> Span {
    let header = |name| {
        let value = request.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    if let Some(host) = header(HOST) {
        let (address, port) = host.rsplit_once(':').unwrap_or((host, ""));
        root = match port.parse::<u16>() {
            Ok(port) => root
                .with("server.address", address.to_owned())
                .with("server.port", i64::from(port)),
            Err(_) => root.with("server.address", host.to_owned()),
        };
    }
    if let Some(client) = request.peer_addr() {
        root = root.with("client.address", client.ip().to_string());
    }
    if let Some(agent) = header(USER_AGENT) {
        let agent: String = agent.chars().take(AGENT_BYTES_MAX).collect();
        root = root.with("user_agent.original", agent);
    }
    root
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_request_says_who_asked_whom() {
        let of = |host: &str, agent: &str| {
            let request = TestRequest::post()
                .insert_header((HOST, host))
                .insert_header((USER_AGENT, agent))
                .peer_addr(([10, 0, 0, 7], 4_711).into())
                .to_http_request();
            let root = Span::new(TraceContext::default(), "a", SpanKind::Server, (1, 2));
            let root = between(root, &request);
            let told = root.attributes.iter();
            told.map(|told| format!("{}={}", told.key, told.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("db.example:8000", "Boto3/1.40"),
            [
                "server.address=db.example",
                "server.port=8000",
                "client.address=10.0.0.7",
                "user_agent.original=Boto3/1.40"
            ]
        );
        assert_eq!(of("db.example", "x")[0], "server.address=db.example");
        assert_eq!(of("[::1]", "x")[0], "server.address=[::1]");
        let longest = format!("user_agent.original={}", "x".repeat(AGENT_BYTES_MAX));
        assert_eq!(of("a:1", &"x".repeat(5_000))[3], longest);
    }
}
