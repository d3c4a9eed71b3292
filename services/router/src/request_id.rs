//! Request ids: 52 characters, as DynamoDB's. Each names the trace of its request.

use actix_web::http::header::HeaderValue;
use mesh::TraceContext;
use telemetry::traces;

/// The id of the request that is this span.
pub(crate) fn of(context: TraceContext) -> HeaderValue {
    let id = traces::request_id(context);
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
