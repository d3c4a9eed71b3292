//! The result of a run: what is written as JSON, and what the page shows. Sums up; measures nothing. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metrics::Samples;
use super::numbers::Results;
use super::outcome::Kind;
use super::record::{Class, Record, Row, Tally};
use super::scenario::{MetricSpec, Scenario};

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// What it shows.
    pub about: String,
    /// Seconds since 1970.
    pub started: u64,
    /// How long it took, seconds; less than the phases if it was stopped.
    pub lasted_s: f64,
    /// Stopped before its end.
    pub interrupted: bool,
    /// Every promise held, every fault was carried out, and the run came to its end.
    pub passed: bool,
    /// The phases.
    pub phases: Vec<PhaseReport>,
    /// What was promised.
    pub promises: Vec<PromiseReport>,
    /// The streams.
    pub streams: Vec<StreamReport>,
    /// What was done to the mesh.
    pub faults: Vec<Strike>,
    /// What the services said.
    pub metrics: Vec<MetricReport>,
}

/// A phase.
#[derive(Debug, Serialize)]
pub struct PhaseReport {
    /// Name.
    pub name: String,
    /// Start, seconds.
    pub from_s: f64,
    /// End, seconds.
    pub to_s: f64,
}

/// A promise.
#[derive(Debug, Serialize)]
pub struct PromiseReport {
    /// In words.
    pub text: String,
    /// In numbers.
    pub holds: String,
    /// With the run's values.
    pub numbers: String,
    /// Whether it held.
    pub held: bool,
}

/// A stream.
#[derive(Debug, Serialize)]
pub struct StreamReport {
    /// Name.
    pub name: String,
    /// Table.
    pub table: String,
    /// Key choice.
    pub keys: String,
    /// Connections.
    pub connections: u64,
    /// Endpoints.
    pub endpoints: Vec<String>,
    /// Counts and latencies by phase and class.
    pub phases: Vec<Summary>,
    /// By second of the intended time, reads and writes together.
    pub seconds: Vec<Second>,
    /// The first wrong answers, in words.
    pub wrong: Vec<String>,
}

/// Counts and latencies of one phase and class.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Phase.
    pub phase: String,
    /// `reads`, `writes` or `all`.
    pub class: String,
    /// Requests whose time was in it.
    pub sent: u64,
    /// Counts by kind of end.
    pub ends: BTreeMap<&'static str, u64>,
    /// Successful requests a second.
    pub ok_rate: f64,
    /// Milliseconds from the intended time to the answer, of what succeeded; none without any success.
    pub p50_ms: Option<f64>,
    /// Milliseconds.
    pub p90_ms: Option<f64>,
    /// Milliseconds.
    pub p99_ms: Option<f64>,
    /// Milliseconds.
    pub p999_ms: Option<f64>,
    /// Milliseconds.
    pub max_ms: Option<f64>,
    /// What was in the way, and how often (with class `all` only).
    pub reasons: BTreeMap<String, u64>,
}

/// One second.
#[derive(Debug, Serialize)]
pub struct Second {
    /// Requests a second that the schedule wants in its middle.
    pub target: f64,
    /// Ends.
    #[serde(flatten)]
    pub row: Row,
}

/// A fault as it was carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Strike {
    /// What.
    pub name: String,
    /// When, seconds.
    pub from_s: f64,
    /// When its command was done, or its effect was meant to end, seconds.
    pub to_s: f64,
    /// Why it failed; empty = done.
    pub error: String,
}

/// A metric over time.
#[derive(Debug, Serialize)]
pub struct MetricReport {
    /// What.
    #[serde(flatten)]
    pub spec: MetricSpec,
    /// Seconds and value (gauge) or increase a second since the sample before (counter).
    pub points: Vec<(f64, f64)>,
}

/// What a run leaves behind.
pub struct Ran<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// A record a stream.
    pub records: &'a [Record],
    /// A series a metric.
    pub metrics: &'a [Samples],
    /// The endpoints of each stream.
    pub endpoints: &'a [Vec<String>],
    /// What was done to the mesh.
    pub strikes: Vec<Strike>,
    /// Seconds since 1970.
    pub started: u64,
    /// Seconds.
    pub lasted_s: f64,
    /// Stopped before its end.
    pub interrupted: bool,
}

impl Report {
    /// Sums up.
    pub fn new(ran: Ran) -> Self {
        let scenario = ran.scenario;
        let results = Results {
            scenario,
            records: ran.records,
            metrics: ran.metrics,
        };
        let promises: Vec<PromiseReport> = (scenario.promises.iter())
            .map(|promise| {
                let verdict = promise.holds.judge(&results);
                let (held, numbers) =
                    verdict.map_or_else(|error| (false, error), |v| (v.held, v.numbers));
                PromiseReport {
                    text: promise.text.clone(),
                    holds: promise.holds.to_string(),
                    numbers,
                    held,
                }
            })
            .collect();
        let phases: Vec<PhaseReport> = (0..scenario.phases.len())
            .map(|phase| {
                let (from_s, to_s) = results.span(phase);
                let name = scenario.phases[phase].name.clone();
                PhaseReport { name, from_s, to_s }
            })
            .collect();
        let passed = !ran.interrupted
            && promises.iter().all(|promise| promise.held)
            && ran.strikes.iter().all(|strike| strike.error.is_empty());
        let streams = (0..scenario.streams.len())
            .map(|stream| stream_report(&ran, stream))
            .collect();
        let metrics = scenario
            .metrics
            .iter()
            .zip(ran.metrics)
            .map(metric_report)
            .collect();
        Self {
            scenario: scenario.name.clone(),
            about: scenario.about.trim().to_owned(),
            started: ran.started,
            lasted_s: ran.lasted_s,
            interrupted: ran.interrupted,
            passed,
            phases,
            promises,
            streams,
            faults: ran.strikes,
            metrics,
        }
    }
}

fn stream_report(ran: &Ran, number: usize) -> StreamReport {
    let (spec, record) = (&ran.scenario.streams[number], &ran.records[number]);
    let schedule = spec.schedule(&ran.scenario.phases);
    let mut phases = Vec::new();
    for (place, phase) in ran.scenario.phases.iter().enumerate() {
        let mut all = Tally::default();
        let mut parts = 0;
        for class in Class::ALL {
            let Some(tally) = record.phase(place, class) else {
                continue;
            };
            all.merge(tally);
            parts += 1;
            phases.push(summary(&phase.name, class.name(), tally, phase.seconds));
        }
        if parts > 0 {
            let mut summary = summary(&phase.name, "all", &all, phase.seconds);
            summary.reasons = record.reasons(place).clone();
            phases.push(summary);
        }
    }
    let seconds = record
        .seconds()
        .iter()
        .enumerate()
        .map(|(at, rows)| Second {
            target: schedule.rate(std::time::Duration::from_secs_f64(at as f64 + 0.5)),
            row: rows[2],
        });
    StreamReport {
        name: spec.name.clone(),
        table: spec.table.clone(),
        keys: spec.choice().to_string(),
        connections: spec.connections,
        endpoints: ran.endpoints[number].clone(),
        phases,
        seconds: seconds.collect(),
        wrong: record.wrong().to_vec(),
    }
}

fn summary(phase: &str, class: &str, tally: &Tally, seconds: f64) -> Summary {
    let ms = |quantile| tally.quantile_ms(quantile);
    Summary {
        phase: phase.to_owned(),
        class: class.to_owned(),
        sent: tally.sent(),
        ends: Kind::ALL
            .into_iter()
            .map(|kind| (kind.name(), tally.count(kind)))
            .collect(),
        ok_rate: tally.count(Kind::Ok) as f64 / seconds,
        p50_ms: ms(0.5),
        p90_ms: ms(0.9),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: ms(1.0),
        reasons: BTreeMap::new(),
    }
}

fn metric_report((spec, samples): (&MetricSpec, &Samples)) -> MetricReport {
    let times: Vec<f64> = samples.times().collect();
    let points = if spec.gauge {
        times
            .iter()
            .filter_map(|at| Some((*at, samples.value(*at)?)))
            .collect()
    } else {
        let between = times.windows(2).map(|pair| (pair[0], pair[1]));
        between
            .filter_map(|(from, to)| {
                Some(((from + to) / 2.0, samples.increase(from, to)? / (to - from)))
            })
            .collect()
    };
    MetricReport {
        spec: spec.clone(),
        points,
    }
}
