//! Settings of a canary, each with its unit and its reason.

use std::fmt;
use std::net::SocketAddr;

use availability::Rules;
use serde::{Deserialize, Serialize};

/// Settings of a canary.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanarySettings {
    /// Instance number, unique among canaries: one in each zone.
    pub instance: u64,
    /// Availability zone.
    pub zone: String,
    /// Address of `/healthz`, `/readyz` and `/metrics`; none = no server.
    pub http: Option<SocketAddr>,
    /// Whether it sends requests of its own; without, it only hears what the routers count.
    pub probes: bool,
    /// What customers use: every public endpoint of every zone.
    pub endpoints: Vec<Endpoint>,
    /// Its table, made on demand and used by all canaries: a customer's table like any other, hence in ListTables. Whoever wants that name gives the
    /// canary's another one.
    pub table: String,
    /// Its access key.
    pub access_key: String,
    /// The secret of that.
    pub secret: Secret,
    /// Region that signatures are for.
    pub region: String,
    /// Time between two probes (a write, a strong and an eventual read) through the same endpoint, milliseconds.
    pub probe_every_ms: u64,
    /// Time for one request, milliseconds; what takes longer has failed, as it has for most clients.
    pub request_ms_max: u64,
    /// Time for a connection, milliseconds; each request makes one of its own, since kept ones hide what new clients meet.
    pub connect_ms_max: u64,
    /// Time between looks at the alarms, milliseconds.
    pub evaluate_every_ms: u64,
    /// An Alertmanager (`http://host:9093`) or what understands its `/api/v2/alerts`; empty = none.
    pub webhook: String,
    /// Standing alarms are told again so often, milliseconds: Alertmanager forgets what is not repeated.
    pub webhook_every_ms: u64,
    /// Tries for one message.
    pub webhook_tries: u32,
    /// Where the run-books are: alarms link to `<runbooks>#<kind>`.
    pub runbooks: String,
    /// When alarms begin and end.
    pub rules: Rules,
}

/// A public endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The zone it is in.
    pub zone: String,
    /// `http://host:port` or `https://…`.
    pub url: String,
}

/// A secret that no log shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Default for CanarySettings {
    fn default() -> Self {
        Self {
            instance: 1,
            zone: "az1".to_owned(),
            http: None,
            probes: true,
            endpoints: Vec::new(),
            table: "evenkeel-canary".to_owned(),
            access_key: String::new(),
            secret: Secret::default(),
            region: "us-east-1".to_owned(),
            probe_every_ms: 1_000,
            request_ms_max: 5_000,
            connect_ms_max: 1_000,
            evaluate_every_ms: 5_000,
            webhook: String::new(),
            webhook_every_ms: 60_000,
            webhook_tries: 5,
            runbooks: "docs/runbooks.md".to_owned(),
            rules: Rules::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_not_shown() {
        let settings = CanarySettings {
            secret: Secret("hunter2".to_owned()),
            ..CanarySettings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
