//! One request from head to answer: admission, body, authentication, dispatch, answer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use mesh::Deadline;
use model::{ApiError, json};
use protocol::control::{ApiCall, ApiReply};
use telemetry::traces::{self, Recorder};

use super::body::{self, BodyError, BodyLimits};
use super::response::{self, Style};
use super::traced::Traced;
use crate::access::Policies;
use crate::admission::{Admission, Admitted};
use crate::answer::Answer;
use crate::auth::{self, Keys, Signed};
use crate::backend::{Backend, Caller, Context};
use crate::metrics::Metrics;
use crate::operation::Operation;
use crate::operations::{self, Limits};
use crate::settings::RouterSettings;
use crate::streams;
use crate::texts;

/// What all requests share.
pub(crate) struct App<B> {
    backend: B,
    keys: Keys,
    policies: Arc<Policies>,
    admission: Admission,
    metrics: &'static Metrics,
    body: BodyLimits,
    limits: Limits,
    gzip_bytes_min: usize,
    request_max: Duration,
    control_max: Duration,
    recorder: Recorder,
}

impl<B: Backend> App<B> {
    /// From the settings.
    pub(crate) fn new(
        settings: &RouterSettings,
        keys: Keys,
        policies: Policies,
        admission: Admission,
        backend: B,
        recorder: Recorder,
    ) -> Self {
        Self {
            backend,
            keys,
            policies: Arc::new(policies),
            admission,
            metrics: Metrics::get(),
            body: BodyLimits {
                bytes_max: settings.body_bytes_max,
                time_max: Duration::from_millis(settings.body_ms_max),
            },
            limits: Limits {
                fan_out_max: settings.fan_out_max.max(1),
            },
            gzip_bytes_min: settings.gzip_bytes_min,
            request_max: Duration::from_millis(settings.request_ms_max),
            control_max: Duration::from_millis(settings.control_ms_max),
            recorder,
        }
    }
}

/// How a request ended before it became an API call.
enum Refusal {
    /// An API error.
    Api(ApiError),
    /// Something that DynamoDB's front end answers without JSON.
    Http(StatusCode, &'static str),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::Http(StatusCode::PAYLOAD_TOO_LARGE, ""),
            BodyError::TooSlow => Self::Http(StatusCode::REQUEST_TIMEOUT, ""),
            BodyError::Broken => Self::Http(StatusCode::BAD_REQUEST, ""),
            BodyError::NoRoom => Self::Api(texts::router_busy("request bytes")),
            BodyError::NotGzip => Self::Api(texts::not_json()),
        }
    }
}

/// Serves every request, whatever its path (DynamoDB does not look at it).
pub(crate) async fn handle<B: Backend>(
    request: HttpRequest,
    payload: web::Payload,
    app: web::Data<App<B>>,
) -> HttpResponse {
    let draining = app.admission.draining();
    let traced = Traced::begin(&app.recorder, &request);
    let style = Style {
        gzip_bytes_min: accepts_gzip(&request).then_some(app.gzip_bytes_min),
        close: draining,
        context: traced.context,
    };
    if request.method() == Method::GET {
        let host = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let text = texts::healthy(host.unwrap_or_default());
        return response::plain(StatusCode::OK, text, style);
    }
    let start = Instant::now();
    let operation = request
        .headers()
        .get("x-amz-target")
        .and_then(|target| Operation::from_target(target.as_bytes()));
    let result = match app.admission.enter() {
        None => Err(Refusal::Api(texts::router_busy("requests in flight"))),
        Some(admitted) => {
            let _counted = app.metrics.begin();
            let served = serve(&request, payload, &app, operation, admitted, &traced);
            traces::within(traced.context, std::pin::pin!(served)).await
        }
    };
    let _line = traces::enter(traced.context);
    match result {
        Ok(body) => {
            app.metrics.count(operation, None, start.elapsed());
            traced.end(&request, operation, 200, None);
            response::api(Ok(body), style)
        }
        Err(Refusal::Api(error)) => {
            app.metrics.count(operation, Some(&error), start.elapsed());
            traced.end(&request, operation, error.http_status(), Some(&error));
            if error.http_status() >= 500 {
                let operation = operation.map_or("unknown", Operation::name);
                tracing::warn!(operation, kind = ?error.kind, message = %error.message, "request failed");
            }
            // if the body was not read to its end, actix closes the connection
            response::api(Err(&error), style)
        }
        Err(Refusal::Http(status, text)) => {
            traced.end(&request, operation, status.as_u16(), None);
            let close = status != StatusCode::NOT_FOUND;
            response::plain(
                status,
                text.to_owned(),
                Style {
                    close: style.close || close,
                    ..style
                },
            )
        }
    }
}

async fn serve<B: Backend>(
    request: &HttpRequest,
    payload: web::Payload,
    app: &App<B>,
    operation: Option<Operation>,
    mut admitted: Admitted,
    traced: &Traced,
) -> Result<Vec<u8>, Refusal> {
    if request.method() != Method::POST || !has_json_type(request) {
        return Err(Refusal::Http(StatusCode::NOT_FOUND, texts::NOT_AN_API_CALL));
    }
    let operation = operation.ok_or_else(texts::unknown_operation)?;
    let sent = body::receive(payload, &mut admitted, app.body).await?;
    traced.received();
    let signed = Signed {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.query_string(),
        headers: request.headers(),
        body: &sent,
    };
    let principal = auth::authenticate(&app.keys, signed, now_unix_s())?;
    let body = if is_gzip(request) {
        body::inflate(&sent, &mut admitted, app.body.bytes_max)?
    } else {
        sent
    };
    let time = match operation {
        Operation::Control(_) => app.control_max,
        _ => app.request_max,
    };
    let context = Context {
        deadline: Deadline::after(time),
        trace: traced.sent_along(),
        marks: traced.authenticated(),
        caller: Caller {
            key_id: principal,
            action: operation.name(),
            policies: app.policies.clone(),
        },
    };
    let work = dispatch(operation, &body, request, app, &context);
    // the backend keeps the deadline itself; this is for what it may miss
    let answer = tokio::time::timeout(time + Duration::from_secs(1), work)
        .await
        .unwrap_or_else(|_| Err(texts::out_of_time()));
    traced.noted(context.marks);
    Ok(answer?)
}

async fn dispatch<B: Backend>(
    operation: Operation,
    body: &web::Bytes,
    request: &HttpRequest,
    app: &App<B>,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    match operation {
        Operation::DescribeEndpoints => {
            let host = request
                .headers()
                .get(HOST)
                .and_then(|host| host.to_str().ok());
            Ok(endpoints(host.unwrap_or_default()))
        }
        Operation::Control(_) => {
            let key_id = &context.caller.key_id;
            let call = ApiCall {
                operation: operation.name().to_owned(),
                body: body.clone(),
                principal: key_id.clone(),
                caller_arn: app.policies.caller_arn(key_id),
                identity: app.policies.control(key_id, operation.name(), body)?,
            };
            match app.backend.control(call, context).await? {
                ApiReply::Ok(json) => Ok(json.into()),
                ApiReply::Error(error) => Err(error),
            }
        }
        Operation::Streams(operation) => {
            streams::execute(operation, body, &app.backend, context).await
        }
        _ => operations::execute(operation, body, &app.backend, app.limits, context).await,
    }
}

/// The answer to DescribeEndpoints: this one, good for a day.
fn endpoints(host: &str) -> Vec<u8> {
    let mut endpoint = Answer::with_capacity(128);
    json::write_string(host, endpoint.member("Address"));
    endpoint.number("CachePeriodInMinutes", 1440);
    let mut answer = Answer::with_capacity(160);
    let list = answer.member("Endpoints");
    list.push(b'[');
    list.extend_from_slice(&endpoint.finish());
    list.push(b']');
    answer.finish()
}

fn now_unix_s() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn has_json_type(request: &HttpRequest) -> bool {
    let Some(value) = request.headers().get(CONTENT_TYPE) else {
        return false;
    };
    let kind = value
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let kind = kind.trim_ascii();
    kind.eq_ignore_ascii_case(b"application/x-amz-json-1.0")
        || kind.eq_ignore_ascii_case(b"application/json")
}

fn is_gzip(request: &HttpRequest) -> bool {
    let encoding = request.headers().get(CONTENT_ENCODING);
    encoding.is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"gzip"))
}

/// Whether `Accept-Encoding` names gzip with a quality above zero.
fn accepts_gzip(request: &HttpRequest) -> bool {
    request
        .headers()
        .get_all(ACCEPT_ENCODING)
        .filter_map(|value| value.to_str().ok())
        .any(|list| {
            list.split(',').any(|entry| {
                let mut parts = entry.split(';').map(str::trim);
                let named = parts
                    .next()
                    .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
                let refused = parts.any(|part| {
                    part.strip_prefix("q=")
                        .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
                });
                named && !refused
            })
        })
}
