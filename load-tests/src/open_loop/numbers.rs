//! The numbers that promises are made of: which functions there are, and their values in the results of a run. Pure.

use super::metrics::Samples;
use super::outcome::Kind;
use super::promise::Numbers;
use super::record::{Class, Record, Row, Tally};
use super::scenario::Scenario;

/// The functions, for `--help` and errors.
pub const FUNCTIONS: &str = "p50 p90 p99 p999 max (milliseconds of successful requests), sent ok throttled conflicts timeouts failed refused wrong \
errors (numbers of requests; errors = timeouts + failed + refused + wrong), seconds, ok_rate (ok a second), min_ok max_ok (ok in the worst and best second), \
gap (longest time without any ok, seconds), rate(METRIC, …) (increase a second), mean(METRIC, …) last(METRIC, …) (of a gauge)";

/// What the arguments of a function select.
struct Selection {
    phases: Vec<usize>,
    streams: Vec<usize>,
    classes: Vec<Class>,
    metric: Option<usize>,
}

const PLAIN: [&str; 18] = [
    "p50",
    "p90",
    "p99",
    "p999",
    "max",
    "sent",
    "ok",
    "throttled",
    "conflicts",
    "timeouts",
    "failed",
    "refused",
    "wrong",
    "errors",
    "seconds",
    "ok_rate",
    "min_ok",
    "max_ok",
];

fn select(scenario: &Scenario, function: &str, arguments: &[String]) -> Result<Selection, String> {
    let of_metric = ["rate", "mean", "last"].contains(&function);
    if !of_metric && !PLAIN.contains(&function) && function != "gap" {
        return Err(format!(
            "there is no function {function}; there are: {FUNCTIONS}"
        ));
    }
    let mut selection = Selection {
        phases: Vec::new(),
        streams: Vec::new(),
        classes: Vec::new(),
        metric: None,
    };
    for name in arguments {
        let phase = scenario.phases.iter().position(|phase| phase.name == *name);
        let stream = scenario
            .streams
            .iter()
            .position(|stream| stream.name == *name);
        let class = Class::ALL.into_iter().find(|class| class.name() == name);
        let metric = scenario
            .metrics
            .iter()
            .position(|metric| metric.name == *name);
        match (phase, stream, class, metric) {
            (Some(phase), ..) => selection.phases.push(phase),
            (_, Some(stream), ..) if !of_metric => selection.streams.push(stream),
            (_, _, Some(class), _) if !of_metric => selection.classes.push(class),
            (.., Some(metric)) if of_metric => selection.metric = Some(metric),
            _ => {
                return Err(format!(
                    "{function}: \"{name}\" is no phase, stream, class or metric that fits here"
                ));
            }
        }
    }
    if of_metric && selection.metric.is_none() {
        return Err(format!("{function} needs the name of a metric"));
    }
    let all = |chosen: &mut Vec<usize>, count: usize| {
        if chosen.is_empty() {
            chosen.extend(0..count);
        }
    };
    all(&mut selection.phases, scenario.phases.len());
    all(&mut selection.streams, scenario.streams.len());
    if selection.classes.is_empty() {
        selection.classes.extend(Class::ALL);
    }
    Ok(selection)
}

/// Checks names only: every value is missing.
pub struct NamesOnly<'a>(pub &'a Scenario);

impl Numbers for NamesOnly<'_> {
    fn value(&self, function: &str, arguments: &[String]) -> Result<f64, String> {
        select(self.0, function, arguments).map(|_| f64::NAN)
    }
}

/// The results of a run.
pub struct Results<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// A record a stream.
    pub records: &'a [Record],
    /// A series a metric.
    pub metrics: &'a [Samples],
}

impl Results<'_> {
    /// When a phase starts and ends, seconds.
    pub fn span(&self, phase: usize) -> (f64, f64) {
        let from: f64 = self.scenario.phases[..phase]
            .iter()
            .map(|phase| phase.seconds)
            .sum();
        (from, from + self.scenario.phases[phase].seconds)
    }

    fn tally(&self, selection: &Selection) -> Tally {
        let mut sum = Tally::default();
        for &stream in &selection.streams {
            for &phase in &selection.phases {
                for &class in &selection.classes {
                    if let Some(tally) = self.records[stream].phase(phase, class) {
                        sum.merge(tally);
                    }
                }
            }
        }
        sum
    }

    /// The whole seconds within the selected phases: ok and sent, over the selected streams and classes.
    fn seconds(&self, selection: &Selection) -> Vec<(u64, u64)> {
        let mut seconds = Vec::new();
        for &phase in &selection.phases {
            let (from, to) = self.span(phase);
            for second in (from - 1e-9).ceil() as usize..(to + 1e-9).floor() as usize {
                let rows = selection
                    .streams
                    .iter()
                    .filter_map(|stream| self.records[*stream].second(second));
                let picked: Vec<Row> = rows
                    .flat_map(|rows| {
                        selection
                            .classes
                            .iter()
                            .map(move |class| rows[*class as usize])
                    })
                    .collect();
                seconds.push((
                    picked.iter().map(|row| row.count(Kind::Ok)).sum(),
                    picked.iter().map(Row::sent).sum(),
                ));
            }
        }
        seconds
    }

    fn length(&self, selection: &Selection) -> f64 {
        selection
            .phases
            .iter()
            .map(|phase| self.scenario.phases[*phase].seconds)
            .sum()
    }

    fn metric(&self, function: &str, metric: usize, selection: &Selection) -> f64 {
        let samples = &self.metrics[metric];
        let mut spans = selection.phases.iter().map(|phase| self.span(*phase));
        match function {
            "rate" => {
                let increase: Option<f64> =
                    spans.map(|(from, to)| samples.increase(from, to)).sum();
                increase.map_or(f64::NAN, |increase| increase / self.length(selection))
            }
            "last" => spans
                .next_back()
                .and_then(|(_, to)| samples.value(to))
                .unwrap_or(f64::NAN),
            _ => {
                let values: Vec<f64> = spans
                    .flat_map(|(from, to)| samples.values(from, to))
                    .collect();
                values.iter().sum::<f64>() / values.len() as f64
            }
        }
    }
}

/// Longest run of seconds in which something was sent and nothing succeeded.
fn gap(seconds: &[(u64, u64)]) -> usize {
    let (mut longest, mut current) = (0, 0);
    for (ok, sent) in seconds {
        current = if *ok == 0 && *sent > 0 {
            current + 1
        } else {
            0
        };
        longest = longest.max(current);
    }
    longest
}

impl Numbers for Results<'_> {
    fn value(&self, function: &str, arguments: &[String]) -> Result<f64, String> {
        let selection = select(self.scenario, function, arguments)?;
        if let Some(metric) = selection.metric {
            return Ok(self.metric(function, metric, &selection));
        }
        let quantile = |quantile| {
            self.tally(&selection)
                .quantile_ms(quantile)
                .unwrap_or(f64::NAN)
        };
        let ok = || self.seconds(&selection).into_iter().map(|(ok, _)| ok);
        Ok(match function {
            "p50" => quantile(0.5),
            "p90" => quantile(0.9),
            "p99" => quantile(0.99),
            "p999" => quantile(0.999),
            "max" => quantile(1.0),
            "seconds" => self.length(&selection),
            "ok_rate" => self.tally(&selection).count(Kind::Ok) as f64 / self.length(&selection),
            "min_ok" => ok().min().map_or(f64::NAN, |ok| ok as f64),
            "max_ok" => ok().max().map_or(f64::NAN, |ok| ok as f64),
            "gap" => gap(&self.seconds(&selection)) as f64,
            "sent" => self.tally(&selection).sent() as f64,
            "errors" => {
                let tally = self.tally(&selection);
                let errors = Kind::ALL.into_iter().filter(|kind| kind.is_error());
                errors.map(|kind| tally.count(kind)).sum::<u64>() as f64
            }
            name => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                kind.map_or(f64::NAN, |kind| self.tally(&selection).count(kind) as f64)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::open_loop::outcome::Outcome;

    #[test]
    fn functions_count_what_their_arguments_select() {
        let text = r#"
            name = "n"
            [[table]]
            name = "t"
            [[phase]]
            name = "one"
            seconds = 2
            [[phase]]
            name = "two"
            seconds = 4
            [[stream]]
            name = "left"
            table = "t"
            rate = { one = 1 }
            [[stream]]
            name = "right"
            table = "t"
            rate = { two = 1 }
            [[metric]]
            name = "lookups"
            metric = "m"
        "#;
        let scenario = Scenario::parse(text).unwrap();
        let lengths = || {
            scenario
                .phases
                .iter()
                .map(|phase| Duration::from_secs_f64(phase.seconds))
        };
        let mut records = [Record::new(lengths()), Record::new(lengths())];
        let at = Duration::from_secs_f64;
        let throttled = Outcome::new(Kind::Throttled, "r");
        records[0].add(at(0.5), Class::Read, &Outcome::OK, at(0.010));
        records[0].add(at(1.5), Class::Write, &Outcome::OK, at(0.020));
        records[1].add(at(2.5), Class::Read, &Outcome::OK, at(0.040));
        records[1].add(at(3.5), Class::Read, &throttled, at(0.001));
        records[1].add(
            at(4.5),
            Class::Read,
            &Outcome::new(Kind::TimedOut, "t"),
            at(0.001),
        );
        records[1].add(at(5.5), Class::Read, &Outcome::OK, at(0.080));
        for record in &mut records {
            record.close(6);
        }
        let mut lookups = Samples::default();
        for (second, value) in [(0.0, 100.0), (2.0, 120.0), (6.0, 200.0)] {
            lookups.push("memds-1", second, value);
        }
        let metrics = [lookups];
        let results = Results {
            scenario: &scenario,
            records: &records,
            metrics: &metrics,
        };
        for (promise, expected) in [
            ("ok() == 4", true),
            ("sent(two) == 4", true),
            ("throttled(two, right) == 1", true),
            ("throttled(left) == 0", true),
            ("errors() == 1", true),
            ("timeouts(two) == 1", true),
            ("ok(writes) == 1", true),
            ("seconds() == 6", true),
            ("ok_rate(two) == 0.5", true),
            ("min_ok(one) == 1", true),
            ("gap(two) == 2", true),
            ("gap(one, left) == 0", true),
            ("79 < max(right) < 81", true),
            ("p99(right, writes) < 1e", false),
            ("rate(lookups, one) == 10", true),
            ("rate(lookups, two) == 20", true),
            ("last(lookups, one) == 120", true),
        ] {
            let Ok(promise) = promise.parse::<super::super::promise::Promise>() else {
                assert!(!expected);
                continue;
            };
            let verdict = promise.judge(&results).unwrap();
            assert_eq!(verdict.held, expected, "{promise}: {}", verdict.numbers);
        }
        let no_data = results
            .value("p50", &["one".into(), "right".into()])
            .unwrap();
        assert!(no_data.is_nan());
    }
}
