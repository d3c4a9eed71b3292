//! The operator's console: a page and its JSON, beside the health endpoints of every admin. Shows what the active admin, the scrubber, GAC and the
//! canaries say; changes nothing unless somebody signs in with the operator's token. Nothing is asked while nobody looks. The API: docs/console.md.

mod alarms;
mod roster;
mod session;
mod state;
mod trace_link;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use parking_lot::Mutex;
use paxos::{GroupId, NodeId};
use protocol::health::Heartbeat;
use protocol::operate::{Answer, Command};
use protocol::scrub::Question;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use crate::driver::Admin;
use roster::Roster;
use session::{Doorman, Refusal};
use state::Cached;
use trace_link::{NoLink, trace_link};

/// What browsers may do with the page: load its own files, ask its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Bytes of a request's body at most.
const BODY_MAX: usize = 4_096;

/// The console's settings (section `admin.console`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleSettings {
    /// Whether it is served at all; it needs `admin.http`.
    pub enabled: bool,
    /// Who knows it may give orders from the console; empty = nobody may.
    pub operator_token: Token,
    /// Where a request's trace is shown; `{trace_id}` stands for the trace's id, `{request_id}` for the request's. Empty = no link.
    pub trace_url: String,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            operator_token: Token::default(),
            trace_url: String::new(),
        }
    }
}

/// A secret that no log shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// The console of one admin. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct Console {
    shared: Arc<Shared>,
}

struct Shared {
    admin: Arc<Admin>,
    roster: Mutex<Roster>,
    cached: AsyncMutex<Cached>,
    doorman: Mutex<Doorman>,
    /// Where the admin's own work runs.
    runtime: tokio::runtime::Handle,
}

impl Console {
    /// Must be called in the admin's runtime.
    pub(crate) fn new(admin: Arc<Admin>) -> Self {
        let token = &admin.settings.console.operator_token.0;
        let shared = Shared {
            doorman: Mutex::new(Doorman::new(token)),
            roster: Mutex::default(),
            cached: AsyncMutex::default(),
            runtime: tokio::runtime::Handle::current(),
            admin,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes in a heartbeat of anybody's.
    pub(crate) fn heard(&self, beat: &Heartbeat) {
        let now_ms = self.shared.admin.now_ms();
        self.shared.roster.lock().heard(beat, now_ms);
    }

    /// Its routes.
    pub(crate) fn routes(&self, config: &mut web::ServiceConfig) {
        let json = web::JsonConfig::default().limit(BODY_MAX);
        let scope = web::scope("/console")
            .app_data(web::Data::new(self.clone()))
            .app_data(json)
            .route("", web::get().to(page))
            .route("/", web::get().to(page))
            .route("/console.css", web::get().to(style))
            .route("/console.js", web::get().to(script))
            .route("/api/state", web::get().to(whole_state))
            .route("/api/partitions", web::get().to(partitions))
            .route("/api/trace", web::get().to(trace))
            .route("/api/session", web::post().to(sign_in))
            .route("/api/drain", web::post().to(drain))
            .route("/api/transfer-leader", web::post().to(transfer_leader))
            .route("/api/scrub", web::post().to(scrub));
        config.service(scope);
    }

    /// The active admin's answer: one's own, or over the bus.
    async fn ask(&self, command: Command) -> Result<Answer, String> {
        let console = self.clone();
        let work = async move { state::ask(&console.shared.admin, command).await };
        let asked = self.shared.runtime.spawn(work).await;
        asked.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Lets an operator in.
    fn admit(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let given = request.headers().get(AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| value.strip_prefix("Bearer "));
        let now_ms = self.shared.admin.now_ms();
        self.shared.doorman.lock().admit(token, now_ms)
    }
}

fn answer(status: StatusCode) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header(("Content-Security-Policy", POLICY))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .insert_header((HeaderName::from_static("cache-control"), "no-store"));
    answer
}

fn said(status: StatusCode, message: &str) -> HttpResponse {
    let body = serde_json::json!({ "message": message });
    answer(status)
        .content_type("application/json")
        .body(body.to_string())
}

async fn page() -> HttpResponse {
    answer(StatusCode::OK)
        .content_type("text/html; charset=utf-8")
        .body(include_str!("console/page/console.html"))
}

async fn style() -> HttpResponse {
    answer(StatusCode::OK)
        .content_type("text/css; charset=utf-8")
        .body(include_str!("console/page/console.css"))
}

async fn script() -> HttpResponse {
    answer(StatusCode::OK)
        .content_type("text/javascript; charset=utf-8")
        .body(include_str!("console/page/console.js"))
}

async fn whole_state(console: web::Data<Console>) -> HttpResponse {
    let shared = console.shared.clone();
    let work = async move {
        let mut cached = shared.cached.lock().await;
        cached.body(&shared.admin, &shared.roster).await
    };
    match console.shared.runtime.spawn(work).await {
        Ok(body) => answer(StatusCode::OK)
            .content_type("application/json")
            .body(body),
        Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Which partitions.
#[derive(Deserialize)]
struct Wanted {
    table: Option<String>,
    #[serde(default)]
    after: u64,
}

async fn partitions(console: web::Data<Console>, wanted: web::Query<Wanted>) -> HttpResponse {
    let Wanted { table, after } = wanted.into_inner();
    let after = GroupId(after);
    match console.ask(Command::Partitions { table, after }).await {
        Ok(Answer::Partitions { partitions, next }) => {
            let body = serde_json::json!({"partitions": partitions, "next": next});
            answer(StatusCode::OK)
                .content_type("application/json")
                .body(body.to_string())
        }
        Ok(Answer::Refused(why)) => said(StatusCode::NOT_FOUND, &why),
        Ok(_) => said(StatusCode::BAD_GATEWAY, "the admin answered something else"),
        Err(why) => said(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

/// A request whose trace is wanted.
#[derive(Deserialize)]
struct Traced {
    request_id: String,
}

async fn trace(console: web::Data<Console>, traced: web::Query<Traced>) -> HttpResponse {
    let template = &console.shared.admin.settings.console.trace_url;
    match trace_link(template, &traced.request_id) {
        Ok(url) => answer(StatusCode::OK)
            .content_type("application/json")
            .body(serde_json::json!({ "url": url }).to_string()),
        Err(NoLink::NoId) => said(StatusCode::BAD_REQUEST, "that is no request id"),
        Err(NoLink::NotSet) => said(
            StatusCode::NOT_FOUND,
            "admin.console.trace_url is not set: it is not known where traces are shown",
        ),
    }
}

fn refused(refusal: Refusal) -> HttpResponse {
    match refusal {
        Refusal::ReadOnly => said(
            StatusCode::FORBIDDEN,
            "this console is read-only: admin.console.operator_token is not set",
        ),
        Refusal::Wrong => said(StatusCode::UNAUTHORIZED, "that is not the operator's token"),
        Refusal::TooMany => said(
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong tokens: try again in a while",
        ),
    }
}

async fn sign_in(request: HttpRequest, console: web::Data<Console>) -> HttpResponse {
    match console.admit(&request) {
        Ok(()) => answer(StatusCode::NO_CONTENT).finish(),
        Err(refusal) => refused(refusal),
    }
}

async fn order(request: &HttpRequest, console: &Console, command: Command) -> HttpResponse {
    if let Err(refusal) = console.admit(request) {
        return refused(refusal);
    }
    tracing::info!(?command, "an order from the console");
    match console.ask(command).await {
        Ok(Answer::Done(message)) => said(StatusCode::OK, &message),
        Ok(Answer::Refused(why)) => said(StatusCode::CONFLICT, &why),
        Ok(_) => said(StatusCode::BAD_GATEWAY, "the admin answered something else"),
        Err(why) => said(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

/// A drain, or its end.
#[derive(Deserialize)]
struct Drain {
    node: u64,
    #[serde(default)]
    cancel: bool,
}

async fn drain(
    request: HttpRequest,
    console: web::Data<Console>,
    body: web::Json<Drain>,
) -> HttpResponse {
    let node = NodeId(body.node);
    let command = match body.cancel {
        true => Command::CancelDrain { node },
        false => Command::Drain { node },
    };
    order(&request, &console, command).await
}

/// Leadership of a partition for a node.
#[derive(Deserialize)]
struct Transfer {
    partition: u64,
    node: u64,
}

async fn transfer_leader(
    request: HttpRequest,
    console: web::Data<Console>,
    body: web::Json<Transfer>,
) -> HttpResponse {
    let (partition, to) = (GroupId(body.partition), NodeId(body.node));
    order(
        &request,
        &console,
        Command::TransferLeader { partition, to },
    )
    .await
}

/// What to scrub before all else; no table: everything.
#[derive(Deserialize)]
struct Scrub {
    #[serde(default)]
    table: Option<String>,
}

async fn scrub(
    request: HttpRequest,
    console: web::Data<Console>,
    body: web::Json<Scrub>,
) -> HttpResponse {
    if let Err(refusal) = console.admit(&request) {
        return refused(refusal);
    }
    let question = Question {
        table: body.into_inner().table,
        now: true,
        ..Question::default()
    };
    tracing::info!(table = ?question.table, "a scrub from the console");
    let admin = console.shared.admin.clone();
    let work = async move { state::scrubs(&admin, &question).await };
    match console.shared.runtime.spawn(work).await {
        Ok(Ok(overview)) => {
            let count = overview.partitions.len();
            said(
                StatusCode::OK,
                &format!("{count} partitions are scrubbed before all others"),
            )
        }
        Ok(Err(why)) => said(StatusCode::SERVICE_UNAVAILABLE, &why),
        Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Time for one answer of another service.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);
