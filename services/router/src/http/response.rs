//! Answers on the wire: status, headers, checksum, compression.

use std::io::Write;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
};
use actix_web::{HttpResponse, HttpResponseBuilder};
use flate2::{Compression, write::GzEncoder};
use mesh::TraceContext;
use model::ApiError;

use crate::request_id;

const JSON_1_0: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const CRC32: HeaderName = HeaderName::from_static("x-amz-crc32");

/// How the answers to one request look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Compress bodies of at least so many bytes; none = the client does not take gzip.
    pub(super) gzip_bytes_min: Option<usize>,
    /// Tell the client to close the connection.
    pub(super) close: bool,
    /// The request's span.
    pub(super) context: TraceContext,
}

/// The answer to an API call.
pub(super) fn api(result: Result<Vec<u8>, &ApiError>, style: Style) -> HttpResponse {
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (
            StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            error.to_json(),
        ),
    };
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, JSON_1_0));
    finish(response, body, style)
}

/// An answer of the HTTP layer itself.
pub(super) fn plain(status: StatusCode, body: String, style: Style) -> HttpResponse {
    finish(HttpResponse::build(status), body.into_bytes(), style)
}

fn finish(mut response: HttpResponseBuilder, mut body: Vec<u8>, style: Style) -> HttpResponse {
    if style.gzip_bytes_min.is_some_and(|min| body.len() >= min)
        && let Some(compressed) = gzip(&body)
    {
        body = compressed;
        response.insert_header((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    if style.close {
        response.insert_header((CONNECTION, HeaderValue::from_static("close")));
    }
    response.insert_header((REQUEST_ID, request_id::of(style.context)));
    // of the bytes as sent: clients check it before they inflate
    response.insert_header((CRC32, HeaderValue::from(crc32fast::hash(&body))));
    response.body(body)
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
