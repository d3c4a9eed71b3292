//! How to reach the bus, and who we are on it.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `router`, `storage`, …
    pub service: String,
    /// Node id or instance number.
    pub instance: u64,
    /// Changes whenever the instance lost its memory (or, for storage, its disk).
    pub incarnation: u64,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SenderId {
    /// Node id or instance number.
    pub instance: u64,
    /// Its incarnation.
    pub incarnation: u64,
}

/// Where the NATS servers are and how to log in.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusSettings {
    /// Servers, e.g. `nats://127.0.0.1:4222`; `tls://…` demands TLS. Tried in this order: the own zone's server first.
    pub urls: Vec<String>,
    /// User name, together with `password`.
    pub user: Option<String>,
    /// Password, together with `user`.
    pub password: Option<String>,
    /// PEM file of the certificate authority that signs the servers' certificates.
    pub tls_ca_file: Option<String>,
    /// PEM file of our own certificate (mutual TLS), together with `tls_key_file`.
    pub tls_certificate_file: Option<String>,
    /// PEM file of our own key.
    pub tls_key_file: Option<String>,
    /// How long to try for the first connection before giving up, milliseconds.
    pub connect_ms_max: u64,
}

impl Default for BusSettings {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".to_owned()],
            user: None,
            password: None,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            connect_ms_max: 10_000,
        }
    }
}

impl std::fmt::Debug for BusSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // never the password
        f.debug_struct("BusSettings")
            .field("urls", &self.urls)
            .field("user", &self.user)
            .field("tls_ca_file", &self.tls_ca_file)
            .finish_non_exhaustive()
    }
}
