//! The access keys, and the signing keys that were derived from them.

use std::collections::HashMap;

use anyhow::Context;
use parking_lot::RwLock;

use super::signature::{Scope, signing_key};
use crate::settings::{RouterSettings, Secret};

/// Most signing keys that are kept. One is needed for each access key, region and day.
const DERIVED_MAX: usize = 4096;

/// Access keys of the callers.
pub(crate) struct Keys {
    /// Any key and signature will do (development).
    pub(crate) accept_any: bool,
    /// The only region that scopes may name.
    pub(super) region: Option<String>,
    secrets: HashMap<String, Secret>,
    derived: RwLock<HashMap<String, [u8; 32]>>,
}

impl Keys {
    /// From the settings and the file that they name.
    pub(crate) fn load(settings: &RouterSettings) -> anyhow::Result<Self> {
        let mut secrets: HashMap<String, Secret> = settings
            .access_keys
            .iter()
            .map(|key| (key.id.clone(), key.secret.clone()))
            .collect();
        let file = &settings.access_keys_file;
        if !file.is_empty() {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read access_keys_file {file}"))?;
            for (index, line) in text.lines().enumerate() {
                let line = line.split('#').next().unwrap_or_default();
                let mut words = line.split_whitespace();
                match (words.next(), words.next(), words.next()) {
                    (None, ..) => {}
                    (Some(id), Some(secret), None) => {
                        secrets.insert(id.to_owned(), Secret(secret.to_owned()));
                    }
                    // never show the line: it may hold a secret
                    _ => anyhow::bail!("{file}, line {}: expected `ID SECRET`", index + 1),
                }
            }
        }
        if secrets.is_empty() && !settings.accept_any_key {
            tracing::warn!(
                "no access keys are configured: every request will be refused; set access_keys, \
                 access_keys_file or, for development, accept_any_key"
            );
        }
        Ok(Self {
            accept_any: settings.accept_any_key,
            region: Some(settings.region.clone()).filter(|region| !region.is_empty()),
            secrets,
            derived: RwLock::default(),
        })
    }

    /// The secret of an access key.
    pub(super) fn secret(&self, id: &str) -> Option<&Secret> {
        self.secrets.get(id)
    }

    /// The signing key of a scope.
    pub(super) fn signing_key(&self, secret: &Secret, scope: &Scope<'_>) -> [u8; 32] {
        match self.derived.read().get(&name(scope)) {
            Some(key) => *key,
            None => signing_key(&secret.0, scope),
        }
    }

    /// Keeps a signing key, once a signature was found right with it (so that only holders of a secret can fill the cache).
    pub(super) fn remember(&self, scope: &Scope<'_>, key: [u8; 32]) {
        let name = name(scope);
        if self.derived.read().contains_key(&name) {
            return;
        }
        let mut derived = self.derived.write();
        if derived.len() >= DERIVED_MAX {
            // yesterday's keys go; today's are derived again
            derived.clear();
        }
        derived.insert(name, key);
    }
}

fn name(scope: &Scope<'_>) -> String {
    let Scope {
        key_id,
        day,
        region,
        ..
    } = scope;
    [key_id, "/", day, "/", region].concat()
}
