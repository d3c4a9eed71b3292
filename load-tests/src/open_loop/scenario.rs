//! Scenarios as files say them, checked wholly before anything is sent: an error names what is wrong. Pure.

mod check;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::Choice;
use super::promise::Promise;
use super::schedule::{Rate, Schedule};
use super::workload::Workload;

/// Connections of a stream at most.
pub const CONNECTIONS_MAX: u64 = 10_000;
/// Strikes of one repeated fault at most.
const STRIKES_MAX: usize = 1_000;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name: letters, digits and dashes.
    pub name: String,
    /// What it shows, for people.
    #[serde(default)]
    pub about: String,
    /// What the mesh must be like, if the run starts one.
    #[serde(default)]
    pub mesh: MeshNeeds,
    /// Tables, made and filled before the first phase.
    #[serde(rename = "table")]
    pub tables: Vec<TableSpec>,
    /// Phases, one after the other.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// Streams of requests, all at once.
    #[serde(rename = "stream")]
    pub streams: Vec<StreamSpec>,
    /// What is done to the mesh, when.
    #[serde(default, rename = "fault")]
    pub faults: Vec<FaultSpec>,
    /// What is read from the services' metrics, once a second.
    #[serde(default, rename = "metric")]
    pub metrics: Vec<MetricSpec>,
    /// What must hold.
    #[serde(default, rename = "promise")]
    pub promises: Vec<PromiseSpec>,
}

/// What the mesh must be like.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeshNeeds {
    /// Routers.
    pub routers: u32,
    /// Settings for its services, as environment variables.
    pub environment: BTreeMap<String, String>,
}

impl Default for MeshNeeds {
    fn default() -> Self {
        Self {
            routers: 2,
            environment: BTreeMap::new(),
        }
    }
}

/// A table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// Name within the scenario.
    pub name: String,
    /// Items that it is filled with.
    #[serde(default = "items_default")]
    pub items: u64,
    /// Size of an item in bytes.
    #[serde(default = "item_bytes_default")]
    pub item_bytes: usize,
    /// Items that share a partition key, told apart by a sort key; 0 = every item has its own partition key.
    #[serde(default)]
    pub collection_items: u64,
    /// Provisioned read units a second; with `write_units`. Neither: on demand.
    pub read_units: Option<u64>,
    /// Provisioned write units a second.
    pub write_units: Option<u64>,
    /// Provisioned write units while it is being filled; lowered afterwards.
    pub load_write_units: Option<u64>,
    /// Greatest read throughput of an on-demand table, units a second.
    pub read_units_max: Option<u64>,
    /// Greatest write throughput of an on-demand table, units a second.
    pub write_units_max: Option<u64>,
}

fn items_default() -> u64 {
    10_000
}

fn item_bytes_default() -> usize {
    900
}

/// A phase.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name: letters, digits and underscores, so that promises can name it.
    pub name: String,
    /// Length.
    pub seconds: f64,
}

/// A stream of requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Name: letters, digits and underscores.
    pub name: String,
    /// Its table.
    pub table: String,
    /// Its requests.
    #[serde(default)]
    pub workload: Workload,
    /// Which items they are for; by default what the workload says.
    pub keys: Option<Choice>,
    /// Requests a second by phase; none in phases that are not named.
    pub rate: BTreeMap<String, Rate>,
    /// Reads are strongly consistent.
    #[serde(default = "yes")]
    pub strong: bool,
    /// Connections; a request waits for a free one, and the wait counts.
    #[serde(default = "connections_default")]
    pub connections: u64,
    /// Routers (`router-2`) or host:port; none = all of the mesh.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// The client's patience: a request without an answer so long after its intended time counts as timed out.
    #[serde(default = "patience_default")]
    pub timeout_ms: u64,
    /// Tries of a request; another one goes to the next endpoint, after silence or 5xx only. Latency counts them all.
    #[serde(default = "one")]
    pub tries: u32,
    /// Time for one try.
    pub try_timeout_ms: Option<u64>,
    /// Requests come at random places of their even grid, instead of in step.
    #[serde(default)]
    pub jitter: bool,
    /// Compare what is read with what was written.
    #[serde(default = "yes")]
    pub verify: bool,
    /// Not an open loop: each connection sends its next request at once, to the end of the phases. Only to find out what an endpoint does at most.
    #[serde(skip)]
    pub closed: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn connections_default() -> u64 {
    64
}

fn patience_default() -> u64 {
    5_000
}

/// A fault, or any other thing done to the mesh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// What it is, for people.
    pub name: String,
    /// In which phase.
    pub phase: String,
    /// How many seconds after the phase's start.
    #[serde(default)]
    pub at_s: f64,
    /// Again and again after so many seconds, to the end of the phase.
    pub every_s: Option<f64>,
    /// Until when it lasts, seconds: only for the report's picture.
    #[serde(default)]
    pub lasts_s: f64,
    /// A command for the shell, from the repository's top; EVENKEEL_PORT, EVENKEEL_STATE_DIR, EVENKEEL_BIN_DIR and EVENKEEL_NATS say where the
    /// mesh is, and PATH has its programs.
    pub run: String,
    /// How long it may take.
    #[serde(default = "fault_timeout_default")]
    pub timeout_s: f64,
}

fn fault_timeout_default() -> f64 {
    30.0
}

/// A number from the services' metrics.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// Name in promises and in the report.
    pub name: String,
    /// Which processes: those whose names start so (`memds`); empty = all. Their values are added up.
    #[serde(default)]
    pub from: String,
    /// The metric's name in Prometheus text.
    pub metric: String,
    /// Only samples whose labels contain this text.
    #[serde(default)]
    pub labels: String,
    /// Not a counter: its value is shown, not its increase a second.
    #[serde(default)]
    pub gauge: bool,
}

/// A promise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromiseSpec {
    /// In words.
    pub text: String,
    /// In numbers.
    pub holds: Promise,
}

impl StreamSpec {
    /// When its requests are sent.
    pub fn schedule(&self, phases: &[Phase]) -> Schedule {
        let pause = Rate::Constant(0.0);
        Schedule::new(phases.iter().flat_map(|phase| {
            let rate = self.rate.get(&phase.name).unwrap_or(&pause);
            rate.segments(phase.seconds)
        }))
    }

    /// How it chooses keys.
    pub fn choice(&self) -> Choice {
        self.keys.unwrap_or(self.workload.keys)
    }
}

impl FaultSpec {
    /// When it strikes, since the start.
    pub fn times(&self, phases: &[Phase]) -> Vec<Duration> {
        let mut start_s = 0.0;
        for phase in phases {
            if phase.name == self.phase {
                let times = (0..STRIKES_MAX)
                    .map(|n| self.at_s + n as f64 * self.every_s.unwrap_or(f64::INFINITY).min(1e12))
                    .take_while(|at| *at < phase.seconds || *at == self.at_s)
                    .take(if self.every_s.is_some() {
                        STRIKES_MAX
                    } else {
                        1
                    });
                return times
                    .map(|at| Duration::from_secs_f64(start_s + at))
                    .collect();
            }
            start_s += phase.seconds;
        }
        Vec::new()
    }
}

impl Scenario {
    /// Reads and checks a scenario file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Length of all phases.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.phases.iter().map(|phase| phase.seconds).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TEXT: &str = r#"
        name = "two-tenants"
        about = "One is loud."
        [mesh]
        routers = 4
        environment = { EVENKEEL_STORAGE__SPLIT_BYTES = "1000000" }
        [[table]]
        name = "quiet"
        items = 100
        [[table]]
        name = "loud"
        read_units = 100
        write_units = 50
        [[phase]]
        name = "before"
        seconds = 10
        [[phase]]
        name = "storm"
        seconds = 20.5
        [[stream]]
        name = "quiet_reads"
        table = "quiet"
        workload = "b"
        rate = { before = 100, storm = "100..200" }
        [[stream]]
        name = "loud_writes"
        table = "loud"
        workload = { read = 10, update = 90 }
        keys = "zipfian"
        rate = { storm = "10^1000:5:1" }
        [[fault]]
        name = "a node dies"
        phase = "storm"
        at_s = 2
        every_s = 6
        run = "infra/local/kill storage-2"
        [[metric]]
        name = "lookups"
        from = "memds"
        metric = "evenkeel_memds_lookups_total"
        [[promise]]
        text = "the quiet one feels nothing"
        holds = "p99(storm, quiet_reads, reads) / p99(before, quiet_reads) <= 1.2"
        [[promise]]
        text = "constant work"
        holds = "0.98 <= rate(lookups, storm) / rate(lookups, before) <= 1.02"
    "#;

    #[test]
    fn a_scenario_is_read() {
        let scenario = Scenario::parse(TEXT).unwrap();
        assert_eq!(scenario.length(), Duration::from_secs_f64(30.5));
        let quiet = &scenario.streams[0];
        assert_eq!(quiet.schedule(&scenario.phases).arrivals(), 1_000 + 3_075);
        assert_eq!(quiet.choice(), Choice::Uniform);
        let times = scenario.faults[0].times(&scenario.phases);
        assert_eq!(times, [12, 18, 24, 30].map(Duration::from_secs));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, why) in [
            ("seconds = 10", "seconds = 0", "must last"),
            ("name = \"storm\"", "name = \"before\"", "taken already"),
            ("name = \"storm\"", "name = \"the storm\"", "letters"),
            ("table = \"quiet\"", "table = \"silent\"", "names no table"),
            ("before = 100,", "after = 100,", "no phase"),
            ("\"100..200\"", "\"100..x\"", "not a number"),
            ("workload = \"b\"", "workload = \"z\"", "none of a, b"),
            ("update = 90", "update = 91", "add up"),
            ("keys = \"zipfian\"", "keys = \"zipf\"", "none of uniform"),
            ("write_units = 50", "", "go together"),
            ("at_s = 2", "at_s = 200", "not within"),
            ("p99(storm", "p99(calm", "calm"),
            ("rate(lookups, storm)", "rate(storm)", "metric"),
            ("<= 1.2", "<= x", "can't be read"),
            ("routers = 4", "routers = 40", "routers"),
            ("routers = 4", "router = 4", "unknown field"),
            ("items = 100", "items = 0", "items must be"),
        ] {
            let text = TEXT.replacen(from, to, 1);
            assert_ne!(text, TEXT, "{from} is not there");
            let error = Scenario::parse(&text).unwrap_err();
            assert!(error.contains(why), "{from} → {to}: {error}");
        }
    }
}
