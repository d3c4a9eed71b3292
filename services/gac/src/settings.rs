//! Settings of a GAC instance, each with its unit and its reason.

use std::net::SocketAddr;

use model::Units;
use serde::{Deserialize, Serialize};
use tokens::InstanceSettings;

/// Settings of a GAC instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GacSettings {
    /// Instance number, unique among GAC instances.
    pub instance: u64,
    /// Availability zone.
    pub zone: String,
    /// Address of `/healthz`, `/readyz` and `/metrics`; none = no server.
    pub http: Option<SocketAddr>,
    /// How long a grant is fresh, milliseconds; three refills, so that one or two lost messages change nothing.
    pub fresh_ms: u64,
    /// A router that was silent for so long has its share given to others, milliseconds.
    pub silent_ms: u64,
    /// For so long after a start, and after other instances came or went, no share grows, milliseconds: all routers must be heard first.
    pub settle_ms: u64,
    /// Seconds of a provisioned table's rate that are kept for bursts.
    pub burst_s: u64,
    /// Length of the windows in which peaks of on-demand tables are looked for, milliseconds: within one, traffic at most doubles.
    pub peak_window_ms: u64,
    /// The account's quota for one table, read units a second; as `admin.quotas.table_read_units`. On-demand tables stop growing there.
    pub table_read_units: u64,
    /// Likewise of write units.
    pub table_write_units: u64,
    /// Tables kept at most, about a kilobyte each; those that were silent for longest lose what they saved.
    pub tables_max: usize,
    /// Time between reports of what on-demand tables can serve by now, milliseconds.
    pub report_every_ms: u64,
}

impl Default for GacSettings {
    fn default() -> Self {
        let defaults = InstanceSettings::default();
        Self {
            instance: 1,
            zone: "az1".to_owned(),
            http: None,
            fresh_ms: defaults.fresh_ms,
            silent_ms: defaults.silent_ms,
            settle_ms: defaults.settle_ms,
            burst_s: defaults.burst_s,
            peak_window_ms: defaults.peak_window_ms,
            table_read_units: 40_000,
            table_write_units: 40_000,
            tables_max: defaults.tables_max,
            report_every_ms: 10_000,
        }
    }
}

impl GacSettings {
    /// Those of the core.
    pub(crate) fn core(&self) -> InstanceSettings {
        InstanceSettings {
            fresh_ms: self.fresh_ms,
            silent_ms: self.silent_ms,
            settle_ms: self.settle_ms,
            burst_s: self.burst_s,
            peak_window_ms: self.peak_window_ms,
            table_quota: (
                Units::new(self.table_read_units),
                Units::new(self.table_write_units),
            ),
            tables_max: self.tables_max,
            ..InstanceSettings::default()
        }
    }
}
