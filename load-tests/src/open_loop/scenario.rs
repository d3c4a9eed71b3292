//! Scenarios as files say them, checked wholly before anything is sent: an error names what is wrong. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

use super::items::{ITEM_BYTES_MAX, ITEM_BYTES_MIN};
use super::keys::{Choice, ITEMS_MAX};
use super::numbers;
use super::promise::Promise;
use super::schedule::{Rate, Schedule};

/// A run's length at most, seconds: a day.
const SECONDS_MAX: f64 = 86_400.0;
/// Tables, phases, streams, faults, metrics or promises of a scenario at most.
const PARTS_MAX: usize = 64;
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

/// Shares of the kinds of requests, percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    /// GetItem.
    pub read: f64,
    /// PutItem of an item that is there.
    pub update: f64,
    /// PutItem of a new item.
    pub insert: f64,
    /// GetItem, then PutItem on condition that nothing changed.
    pub modify: f64,
    /// How YCSB chooses keys in it.
    pub keys: Choice,
}

impl Default for Workload {
    fn default() -> Self {
        Self::named("c").unwrap_or(Self {
            read: 100.0,
            update: 0.0,
            insert: 0.0,
            modify: 0.0,
            keys: Choice::Uniform,
        })
    }
}

/// One request's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// GetItem.
    Read,
    /// PutItem of an item that is there.
    Update,
    /// PutItem of a new item.
    Insert,
    /// GetItem, then a conditional PutItem.
    Modify,
}

impl Workload {
    /// YCSB's A, B, C, D and F, and `write`. Keys are uniform, as in Amazon's published measurements, but for D.
    pub fn named(name: &str) -> Option<Self> {
        let [read, update, insert, modify] = match name.to_ascii_lowercase().as_str() {
            "a" => [50.0, 50.0, 0.0, 0.0],
            "b" => [95.0, 5.0, 0.0, 0.0],
            "c" | "read" => [100.0, 0.0, 0.0, 0.0],
            "d" => [95.0, 0.0, 5.0, 0.0],
            "f" => [50.0, 0.0, 0.0, 50.0],
            "write" => [0.0, 100.0, 0.0, 0.0],
            "insert" => [0.0, 0.0, 100.0, 0.0],
            _ => return None,
        };
        let keys = match name {
            "d" | "D" => Choice::Latest,
            _ => Choice::Uniform,
        };
        Some(Self {
            read,
            update,
            insert,
            modify,
            keys,
        })
    }

    /// Draws one request's kind.
    pub fn draw(&self, random: &mut impl Rng) -> Action {
        let draw = random.random::<f64>() * 100.0;
        let mut until = self.read;
        if draw < until {
            return Action::Read;
        }
        until += self.update;
        if draw < until {
            return Action::Update;
        }
        until += self.insert;
        if draw < until {
            return Action::Insert;
        }
        if self.modify > 0.0 {
            Action::Modify
        } else {
            Action::Read
        }
    }
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[derive(Default)]
        struct Shares {
            read: f64,
            update: f64,
            insert: f64,
            modify: f64,
        }
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a workload is a, b, c, d, f, read, write, insert, or shares in percent: {read = 90, update = 10}"
        )]
        enum Written {
            Name(String),
            Shares(Shares),
        }
        match Written::deserialize(deserializer)? {
            Written::Name(name) => Self::named(&name).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "the workload \"{name}\" is none of a, b, c, d, f, read, write, insert"
                ))
            }),
            Written::Shares(shares) => {
                let all = [shares.read, shares.update, shares.insert, shares.modify];
                let sum: f64 = all.iter().sum();
                if all.iter().any(|share| !(0.0..=100.0).contains(share))
                    || (sum - 100.0).abs() > 1e-6
                {
                    return Err(serde::de::Error::custom(
                        "the shares of a workload must add up to 100",
                    ));
                }
                Ok(Self {
                    read: shares.read,
                    update: shares.update,
                    insert: shares.insert,
                    modify: shares.modify,
                    keys: Choice::Uniform,
                })
            }
        }
    }
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

    /// An error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.check_names()?;
        self.check_numbers()?;
        for fault in &self.faults {
            let Some(phase) = self.phases.iter().find(|phase| phase.name == fault.phase) else {
                return Err(format!(
                    "the fault \"{}\" names no phase: \"{}\"",
                    fault.name, fault.phase
                ));
            };
            if !(0.0..phase.seconds).contains(&fault.at_s) {
                return Err(format!(
                    "the fault \"{}\" is not within its phase",
                    fault.name
                ));
            }
            if fault
                .every_s
                .is_some_and(|every| !(0.1..=SECONDS_MAX).contains(&every))
                || !(0.0..=SECONDS_MAX).contains(&fault.lasts_s)
                || !(0.1..=SECONDS_MAX).contains(&fault.timeout_s)
            {
                return Err(format!(
                    "the fault \"{}\" has times out of range",
                    fault.name
                ));
            }
        }
        for promise in &self.promises {
            let known = promise.holds.judge(&numbers::NamesOnly(self));
            known.map_err(|error| format!("the promise \"{}\": {error}", promise.holds))?;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), String> {
        let plain = |name: &str| {
            !name.is_empty()
                && name.len() <= 40
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if self.name.is_empty()
            || !self
                .name
                .replace('-', "")
                .chars()
                .all(|c| c.is_ascii_alphanumeric())
        {
            return Err("the name of a scenario is made of letters, digits and dashes".into());
        }
        let mut taken: BTreeSet<&str> = ["reads", "writes"].into();
        let names = (self.phases.iter().map(|phase| &phase.name))
            .chain(self.streams.iter().map(|stream| &stream.name))
            .chain(self.metrics.iter().map(|metric| &metric.name));
        for name in names {
            if !plain(name) {
                return Err(format!(
                    "\"{name}\": names are made of letters, digits and underscores, at most 40"
                ));
            }
            if !taken.insert(name) {
                return Err(format!("the name \"{name}\" is taken already"));
            }
        }
        let mut tables = BTreeSet::new();
        for table in &self.tables {
            let valid = !table.name.is_empty()
                && table.name.len() <= 60
                && table
                    .name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
            if !valid || !tables.insert(&table.name) {
                return Err(format!(
                    "the table name \"{}\" is not valid or there twice",
                    table.name
                ));
            }
        }
        for stream in &self.streams {
            if !tables.contains(&stream.table) {
                return Err(format!(
                    "the stream \"{}\" names no table: \"{}\"",
                    stream.name, stream.table
                ));
            }
            for phase in stream.rate.keys() {
                if !self.phases.iter().any(|known| known.name == *phase) {
                    return Err(format!(
                        "the stream \"{}\" has a rate for no phase: \"{phase}\"",
                        stream.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), String> {
        for (what, count, least) in [
            ("table", self.tables.len(), 1),
            ("phase", self.phases.len(), 1),
            ("stream", self.streams.len(), 1),
            ("fault", self.faults.len(), 0),
            ("metric", self.metrics.len(), 0),
            ("promise", self.promises.len(), 0),
        ] {
            if !(least..=PARTS_MAX).contains(&count) {
                return Err(format!(
                    "{count} of [[{what}]]: there must be {least} to {PARTS_MAX}"
                ));
            }
        }
        if !(1..=4).contains(&self.mesh.routers) {
            return Err("a mesh has 1 to 4 routers".into());
        }
        for phase in &self.phases {
            if !(0.1..=SECONDS_MAX).contains(&phase.seconds) {
                return Err(format!(
                    "the phase \"{}\" must last 0.1 to {SECONDS_MAX} s",
                    phase.name
                ));
            }
        }
        if self.length().as_secs_f64() > SECONDS_MAX {
            return Err(format!("a run lasts at most {SECONDS_MAX} s"));
        }
        for table in &self.tables {
            let name = &table.name;
            if !(1..=ITEMS_MAX).contains(&table.items) {
                return Err(format!("table {name}: items must be 1 to {ITEMS_MAX}"));
            }
            if !(ITEM_BYTES_MIN..=ITEM_BYTES_MAX).contains(&table.item_bytes) {
                return Err(format!(
                    "table {name}: item_bytes must be {ITEM_BYTES_MIN} to {ITEM_BYTES_MAX}"
                ));
            }
            let provisioned = table.read_units.is_some();
            if provisioned != table.write_units.is_some() {
                return Err(format!(
                    "table {name}: read_units and write_units go together"
                ));
            }
            if table.load_write_units.is_some() && !provisioned {
                return Err(format!(
                    "table {name}: load_write_units is for provisioned tables"
                ));
            }
            if (table.read_units_max.is_some() || table.write_units_max.is_some()) && provisioned {
                return Err(format!(
                    "table {name}: read_units_max and write_units_max are for on-demand tables"
                ));
            }
        }
        for stream in &self.streams {
            let name = &stream.name;
            if !(1..=CONNECTIONS_MAX).contains(&stream.connections) {
                return Err(format!(
                    "stream {name}: connections must be 1 to {CONNECTIONS_MAX}"
                ));
            }
            if !(1..=60_000).contains(&stream.timeout_ms) || stream.try_timeout_ms == Some(0) {
                return Err(format!("stream {name}: timeout_ms must be 1 to 60,000"));
            }
            if !(1..=10).contains(&stream.tries) {
                return Err(format!("stream {name}: tries must be 1 to 10"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

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

    #[test]
    fn workloads_have_their_shares() {
        let mut random = SmallRng::seed_from_u64(3);
        for (name, expected) in [
            ("a", [50, 50, 0, 0]),
            ("d", [95, 0, 5, 0]),
            ("f", [50, 0, 0, 50]),
            ("c", [100, 0, 0, 0]),
        ] {
            let workload = Workload::named(name).unwrap();
            let mut counts = [0; 4];
            for _ in 0..100_000 {
                counts[workload.draw(&mut random) as usize] += 1;
            }
            for (count, percent) in counts.into_iter().zip(expected) {
                assert!(
                    (f64::from(count) / 1_000.0 - f64::from(percent)).abs() < 0.7,
                    "{name}: {counts:?}"
                );
                assert!(percent > 0 || count == 0);
            }
        }
    }
}
