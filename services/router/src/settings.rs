//! Settings of a router: every limit and timing in one place, each with its unit and its reason.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokens::ShareSettings;

/// Settings of a router.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterSettings {
    /// Address of the DynamoDB endpoint, `host:port`; port 0 draws one.
    pub listen: String,
    /// Address of `/healthz`, `/readyz` and `/metrics`, `host:port`; empty = none (another part of the process serves them).
    pub http: String,
    /// Instance number, unique among routers.
    pub instance: u64,
    /// Availability zone: eventual reads go to this zone's replicas.
    pub zone: String,
    /// The callers' access keys.
    pub access_keys: Vec<AccessKey>,
    /// File with more access keys: one `ID SECRET` a line, `#` starts a comment. Empty = none.
    pub access_keys_file: String,
    /// JSON file with the callers' policies (docs/operations.md has the form). Empty = every caller may do what no table's policy forbids;
    /// otherwise a caller that it does not name may do only what a table's policy allows.
    pub access_policies_file: String,
    /// Take any access key and signature (development). An Authorization header is still demanded.
    pub accept_any_key: bool,
    /// The only region that a signature may be scoped to; empty = any.
    pub region: String,
    /// HTTP worker threads; 0 = one a core.
    pub workers: usize,
    /// Open connections over all workers. Each costs about 20 KB once it was used.
    pub connections_max: usize,
    /// Requests being worked on at once; above it they are shed with a ThrottlingException.
    pub requests_in_flight_max: usize,
    /// Bytes of request bodies held at once, as sent and inflated; above it requests are shed.
    pub body_bytes_in_flight_max: usize,
    /// Largest request body, as sent and inflated (DynamoDB: 16 MB).
    pub body_bytes_max: usize,
    /// Time for a request from its first body byte to its answer, milliseconds. SDKs give up after 60 s or less.
    pub request_ms_max: u64,
    /// Time for a control-plane request, milliseconds: the admin may have to wait for storage nodes.
    pub control_ms_max: u64,
    /// Time for a client to send a request's head, milliseconds (slow clients hold a connection).
    pub head_ms_max: u64,
    /// Time for a client to send a request's body, milliseconds.
    pub body_ms_max: u64,
    /// Idle connections are closed after this, seconds.
    pub keep_alive_s: u64,
    /// Storage calls of one batch under way at once.
    pub fan_out_max: usize,
    /// Storage calls of this router under way at once.
    pub calls_in_flight_max: usize,
    /// Answers of at least this many bytes are compressed for clients that accept gzip.
    pub gzip_bytes_min: usize,
    /// Time that requests under way get to finish when the router stops, milliseconds.
    pub drain_ms_max: u64,
    /// Tables' throughput.
    pub tokens: TokenSettings,
}

/// How tables' throughput is shared with the other routers (section `router.tokens`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenSettings {
    /// Whether tables are held to their throughput at all; switched off where the mesh itself is measured.
    pub enforced: bool,
    /// Time between two requests to the same GAC instance, milliseconds.
    pub refill_ms: u64,
    /// Among how many routers a table's rate is taken to be shared by a router that has heard nothing of GAC: each works with that part of it.
    pub routers_expected: u64,
    /// A table that was not used for so long is no longer reported, milliseconds; at most as long as `gac.silent_ms`.
    pub idle_ms: u64,
    /// Tables whose shares are kept at once.
    pub tables_max: usize,
}

impl Default for TokenSettings {
    fn default() -> Self {
        let defaults = ShareSettings::default();
        Self {
            enforced: true,
            refill_ms: defaults.refill_ms,
            routers_expected: defaults.routers_expected,
            idle_ms: defaults.idle_ms,
            tables_max: defaults.tables_max,
        }
    }
}

impl TokenSettings {
    /// Those of the core.
    pub(crate) fn core(self) -> ShareSettings {
        ShareSettings {
            refill_ms: self.refill_ms,
            routers_expected: self.routers_expected,
            idle_ms: self.idle_ms,
            tables_max: self.tables_max,
            ..ShareSettings::default()
        }
    }
}

impl Default for RouterSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".to_owned(),
            http: String::new(),
            instance: 1,
            zone: "az1".to_owned(),
            access_keys: Vec::new(),
            access_keys_file: String::new(),
            access_policies_file: String::new(),
            accept_any_key: false,
            region: String::new(),
            workers: 0,
            connections_max: 20_000,
            requests_in_flight_max: 4_096,
            body_bytes_in_flight_max: 256 * 1024 * 1024,
            body_bytes_max: 16 * 1024 * 1024,
            request_ms_max: 10_000,
            control_ms_max: 15_000,
            head_ms_max: 10_000,
            body_ms_max: 20_000,
            keep_alive_s: 75,
            fan_out_max: 32,
            calls_in_flight_max: 8_192,
            gzip_bytes_min: 8 * 1024,
            drain_ms_max: 10_000,
            tokens: TokenSettings::default(),
        }
    }
}

impl RouterSettings {
    /// The region that ARNs in answers name.
    pub fn arn_region(&self) -> &str {
        match self.region.as_str() {
            "" => "us-east-1",
            region => region,
        }
    }
}

/// An access key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: Secret,
}

/// A text that is never logged.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
