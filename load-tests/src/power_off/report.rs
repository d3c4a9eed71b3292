//! What a run found out: a second at a time, a fault at a time, and whether all held. Pure arithmetic over what was recorded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::checks::Check;
use super::page;
use super::plan::Fault;
use super::record::{Call, Class};
use super::samples::Sample;

/// A call that took longer counts as unavailability, even if it succeeded.
pub const GOOD_US: u64 = 1_000_000;
/// Failed and slowest calls that the data keep.
const CALLS_KEPT: usize = 50;
/// Calls belong to a fault from its begin until so long after all was ready again, milliseconds.
const AFTER_MS: u64 = 1_000;
/// A call may have begun so long before a total loss of power and suffer from it, milliseconds: the time of a call.
const CALL_MS_MAX: u64 = 12_000;

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Seed of the plan.
    pub seed: u64,
    /// Total losses of power were among the faults.
    pub beyond: bool,
    /// Long absences and empty disks were among them.
    pub healing: bool,
    /// The short form.
    pub quick: bool,
    /// Calls a second.
    pub rate: u64,
    /// When, seconds since 1970.
    pub started: u64,
    /// Length of the traffic, milliseconds.
    pub lasted_ms: u64,
    /// Partitions of the table.
    pub partitions: u32,
    /// Names of the processes.
    pub processes: Vec<String>,
    /// Names of the zones.
    pub zones: Vec<String>,
    /// Why zones were not network namespaces; empty if they were.
    pub no_namespaces: String,
    /// How links were made slow.
    pub slow_link: Option<String>,
    /// Acknowledged writes.
    pub acknowledged_writes: u64,
}

/// A fault that was carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Struck {
    /// Number of its strike in the plan.
    pub number: usize,
    /// What.
    pub fault: Fault,
    /// For people.
    pub label: String,
    /// Zones it stands in; none: between zones.
    pub zones: Vec<String>,
    /// No availability is demanded.
    pub takes_all: bool,
    /// Begin, milliseconds since the start.
    pub from_ms: u64,
    /// Mended.
    pub to_ms: u64,
    /// Everything ready again.
    pub ready_ms: u64,
}

/// Calls of one class within one second, or one fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Calls.
    pub calls: u64,
    /// Answered without error within one second, retries included.
    pub good: u64,
    /// Failed for good.
    pub failed: u64,
    /// Latencies of those that succeeded, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// One second of the timeline, by the time of the call.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Second {
    /// Strong reads.
    pub strong: Tally,
    /// Eventual reads.
    pub eventual: Tally,
    /// Writes.
    pub write: Tally,
}

/// What a fault did to the calls.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// The fault.
    #[serde(flatten)]
    pub struck: Struck,
    /// Calls from its begin until all was ready.
    pub strong: Tally,
    /// Eventual reads.
    pub eventual: Tally,
    /// Writes.
    pub write: Tally,
    /// Leaderships that a node gained meanwhile, seen once a second.
    pub leaders_moved: u64,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All checks passed.
    pub passed: bool,
    /// What was run.
    pub run: Run,
    /// The whole run, a class.
    pub total: Second,
    /// While nothing was broken.
    pub calm: Second,
    /// Seconds from the start.
    pub seconds: Vec<Second>,
    /// Faults in the order of their begin.
    pub faults: Vec<Effect>,
    /// The checks.
    pub checks: Vec<Check>,
    /// Leaders, a second.
    pub samples: Vec<Sample>,
    /// Some of the calls that failed.
    pub failed: Vec<Call>,
    /// The slowest that succeeded.
    pub slowest: Vec<Call>,
    /// How often what was in the way of a call (all tries, also of those that succeeded in the end).
    pub errors: BTreeMap<String, u64>,
}

fn tally<'a>(calls: impl Iterator<Item = &'a Call>) -> Tally {
    let mut tally = Tally::default();
    let mut took = Vec::new();
    for call in calls {
        tally.calls += 1;
        if call.done {
            tally.good += u64::from(call.took_us <= GOOD_US);
            took.push(call.took_us);
        } else {
            tally.failed += 1;
        }
    }
    took.sort_unstable();
    let at = |permille: usize| {
        let rank = (took.len() * permille).div_ceil(1_000).max(1) - 1;
        took.get(rank).map_or(0.0, |us| *us as f64 / 1_000.0)
    };
    (tally.p50_ms, tally.p99_ms, tally.max_ms) = (at(500), at(990), at(1_000));
    tally
}

fn second<'a>(calls: impl Iterator<Item = &'a Call> + Clone) -> Second {
    let of = |class| tally(calls.clone().filter(move |call| call.class == class));
    Second {
        strong: of(Class::Strong),
        eventual: of(Class::Eventual),
        write: of(Class::Write),
    }
}

/// Leaderships gained by any node from the last sample before `from_ms` to the first after `to_ms`.
fn leaders_moved(samples: &[Sample], from_ms: u64, to_ms: u64) -> u64 {
    let begin = samples
        .partition_point(|sample| sample.at_ms < from_ms)
        .saturating_sub(1);
    let end = (samples.partition_point(|sample| sample.at_ms <= to_ms) + 1).min(samples.len());
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    let mut moved = 0;
    for (at, sample) in samples[begin.min(end)..end].iter().enumerate() {
        for (node, leading) in &sample.nodes {
            // A node that was silent leads nothing when it comes back, or what it led before.
            let before = known.insert(node, *leading);
            if at > 0 {
                moved += leading.saturating_sub(before.unwrap_or(0));
            }
        }
    }
    moved
}

impl Report {
    /// Sums up.
    pub fn new(
        run: Run,
        mut calls: Vec<Call>,
        samples: Vec<Sample>,
        struck: Vec<Struck>,
        mut checks: Vec<Check>,
    ) -> Self {
        calls.sort_by_key(|call| call.at_us);
        let within = |from_ms: u64, to_ms: u64| {
            let begin = calls.partition_point(|call| call.at_us < from_ms * 1_000);
            let end = calls.partition_point(|call| call.at_us < to_ms * 1_000);
            &calls[begin..end.max(begin)]
        };
        let seconds = (0..run.lasted_ms.div_ceil(1_000))
            .map(|at| second(within(at * 1_000, (at + 1) * 1_000).iter()));
        let seconds = seconds.collect();
        let faults = struck.iter().map(|struck| {
            let Second {
                strong,
                eventual,
                write,
            } = second(within(struck.from_ms, struck.ready_ms + AFTER_MS).iter());
            Effect {
                struck: struck.clone(),
                strong,
                eventual,
                write,
                leaders_moved: leaders_moved(&samples, struck.from_ms, struck.ready_ms),
            }
        });
        let faults = faults.collect();
        let calm = |call: &&Call| {
            let at_ms = call.at_us / 1_000;
            !struck
                .iter()
                .any(|struck| (struck.from_ms..struck.ready_ms + AFTER_MS).contains(&at_ms))
        };
        let blacked_out = |call: &Call| {
            let at_ms = call.at_us / 1_000;
            let all = struck.iter().filter(|struck| struck.takes_all);
            all.clone().any(|struck| {
                (struck.from_ms.saturating_sub(CALL_MS_MAX)..struck.ready_ms + CALL_MS_MAX)
                    .contains(&at_ms)
            })
        };
        let unexplained = calls.iter().filter(|call| !call.done && !blacked_out(call));
        let unexplained = unexplained.map(|call| {
            let why = call.errors.join("; ");
            format!(
                "{:.1} s: {:?} from zone {} failed after {:.1} s and {} tries: {why}",
                call.at_us as f64 / 1e6,
                call.class,
                call.zone + 1,
                call.took_us as f64 / 1e6,
                call.tries
            )
        });
        let detail = format!(
            "{} calls of clients that retry for 10 s; one zone or link was broken at a time",
            calls.len()
        );
        checks.insert(
            0,
            Check::new("No client saw an error", detail, unexplained.collect()),
        );
        let mut errors = BTreeMap::new();
        for error in calls.iter().flat_map(|call| &call.errors) {
            *errors.entry(error.clone()).or_default() += 1;
        }
        let failed = calls
            .iter()
            .filter(|call| !call.done)
            .take(CALLS_KEPT)
            .cloned()
            .collect();
        let mut slowest: Vec<Call> = calls
            .iter()
            .filter(|call| call.done && call.took_us > GOOD_US)
            .cloned()
            .collect();
        slowest.sort_by_key(|call| std::cmp::Reverse(call.took_us));
        slowest.truncate(CALLS_KEPT);
        Self {
            passed: checks.iter().all(|check| check.passed),
            total: second(calls.iter()),
            calm: second(calls.iter().filter(calm).collect::<Vec<_>>().into_iter()),
            run,
            seconds,
            faults,
            checks,
            samples,
            failed,
            slowest,
            errors,
        }
    }

    /// Writes the page, and its data beside it.
    pub fn write(&self, page: &Path) -> anyhow::Result<()> {
        std::fs::write(page, page::render(self)).with_context(|| format!("{}", page.display()))?;
        let data = page.with_extension("json");
        std::fs::write(&data, serde_json::to_vec(self)?)
            .with_context(|| format!("{}", data.display()))?;
        eprintln!("report: {} and {}", page.display(), data.display());
        Ok(())
    }
}

impl Tally {
    /// Per cent of the calls that were answered within a second; none without calls.
    pub fn percent(&self) -> Option<f64> {
        (self.calls > 0).then(|| 100.0 * self.good as f64 / self.calls as f64)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = &self.run;
        writeln!(
            f,
            "\nseed {}, {:.1} min, {} processes, {} faults, {} acknowledged writes",
            run.seed,
            run.lasted_ms as f64 / 60_000.0,
            run.processes.len(),
            self.faults.len(),
            run.acknowledged_writes
        )?;
        if !run.no_namespaces.is_empty() {
            writeln!(
                f,
                "WITHOUT FAULTS OF THE NETWORK: zones are no namespaces ({})",
                run.no_namespaces
            )?;
        }
        writeln!(
            f,
            "\n{:<15} {:>8} {:>12} {:>8} {:>9} {:>9} {:>9}",
            "", "calls", "within 1 s", "failed", "p50 ms", "p99 ms", "max ms"
        )?;
        for (name, tally) in [
            ("strong reads", &self.total.strong),
            ("eventual reads", &self.total.eventual),
            ("writes", &self.total.write),
        ] {
            let percent = tally.percent().unwrap_or(100.0);
            writeln!(
                f,
                "{name:<15} {:>8} {percent:>10.3} % {:>8} {:>9.1} {:>9.1} {:>9.0}",
                tally.calls, tally.failed, tally.p50_ms, tally.p99_ms, tally.max_ms
            )?;
        }
        writeln!(
            f,
            "\n{:<34} {:>7} {:>7} {:>13} {:>13} {:>14}",
            "fault", "at s", "for s", "write max s", "read max s", "leaders moved"
        )?;
        for fault in &self.faults {
            let struck = &fault.struck;
            writeln!(
                f,
                "{:<34} {:>7.1} {:>7.1} {:>13.2} {:>13.2} {:>14}",
                struck.label,
                struck.from_ms as f64 / 1e3,
                (struck.to_ms - struck.from_ms) as f64 / 1e3,
                fault.write.max_ms / 1e3,
                fault.strong.max_ms / 1e3,
                fault.leaders_moved
            )?;
        }
        writeln!(f)?;
        for check in &self.checks {
            writeln!(
                f,
                "{}  {}: {}",
                if check.passed { "held  " } else { "FAILED" },
                check.name,
                check.detail
            )?;
            check
                .evidence
                .iter()
                .try_for_each(|evidence| writeln!(f, "          {evidence}"))?;
        }
        writeln!(f, "\n{}", if self.passed { "PASSED" } else { "FAILED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at_ms: u64, took_ms: u64, done: bool) -> Call {
        Call {
            class: Class::Write,
            at_us: at_ms * 1_000,
            took_us: took_ms * 1_000,
            zone: 0,
            tries: 1,
            errors: Vec::new(),
            done,
        }
    }

    #[test]
    fn a_slow_call_is_not_good_and_a_failed_one_has_no_latency() {
        let calls = [
            call(0, 10, true),
            call(1, 1_500, true),
            call(2, 9_000, false),
        ];
        let tally = tally(calls.iter());
        assert_eq!((tally.calls, tally.good, tally.failed), (3, 1, 1));
        assert_eq!((tally.p50_ms, tally.max_ms), (10.0, 1_500.0));
    }

    #[test]
    fn leaders_are_counted_where_they_arrive() {
        let sample = |at_ms, nodes: &[(&str, u64)]| Sample {
            at_ms,
            nodes: nodes
                .iter()
                .map(|(node, led)| ((*node).to_owned(), *led))
                .collect(),
            ..Sample::default()
        };
        let samples = [
            sample(1_000, &[("a", 4), ("b", 1)]),
            sample(2_000, &[("b", 1)]),
            sample(3_000, &[("a", 0), ("b", 5)]),
            sample(9_000, &[("a", 5), ("b", 0)]),
        ];
        assert_eq!(leaders_moved(&samples, 1_500, 2_500), 4);
    }
}
