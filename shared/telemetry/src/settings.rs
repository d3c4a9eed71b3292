//! Settings of telemetry (section `[telemetry]` of every service).

use serde::{Deserialize, Serialize};

use crate::traces::TraceSettings;

/// Settings of telemetry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Traces.
    pub traces: TraceSettings,
}
