//! Layered settings: defaults, then a TOML file, then the environment.

use std::path::Path;

use serde::de::DeserializeOwned;

/// Settings could not be read.
#[derive(Debug, thiserror::Error)]
#[error("settings of {service}: {reason}")]
pub struct SettingsError {
    service: String,
    reason: String,
}

/// Load the settings of `service`: serde defaults < TOML file < `EVENKEEL_<SECTION>__<KEY>`.
pub fn load<T: DeserializeOwned>(service: &str, file: Option<&Path>) -> Result<T, SettingsError> {
    let _ = (service, file);
    todo!()
}
