//! The services' metrics over time: who is asked, what is kept, and how counters become rates. `Samples` is pure.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::scenario::MetricSpec;
use crate::health;

/// An answer must be here within this time; otherwise the process has no sample then.
const ANSWER_MAX: Duration = Duration::from_millis(800);

/// A process with metrics.
#[derive(Clone, Debug)]
pub struct Source {
    /// `memds-1`.
    pub name: String,
    /// host:port of its health endpoint.
    pub address: String,
}

/// One metric over time, by process.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Seconds since the start, value.
    series: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Samples {
    /// Adds a process's sample; times of a process ascend.
    pub fn push(&mut self, process: &str, at_s: f64, value: f64) {
        match self.series.get_mut(process) {
            Some(series) => series.push((at_s, value)),
            None => {
                self.series.insert(process.to_owned(), vec![(at_s, value)]);
            }
        }
    }

    /// By how much a counter grew, over all processes; none if nobody was sampled. A counter that fell was started anew.
    pub fn increase(&self, from_s: f64, to_s: f64) -> Option<f64> {
        let mut increase = None;
        for series in self.series.values() {
            let mut before = None;
            let mut grown = 0.0;
            let points = series.windows(2).map(|pair| (pair[0], pair[1]));
            for ((start, was), (end, is)) in points {
                let step = if is >= was { is - was } else { is };
                // The part of this interval that lies in the span.
                let overlap = (end.min(to_s) - start.max(from_s)).max(0.0);
                if overlap > 0.0 {
                    grown += step * overlap / (end - start);
                    before = Some(());
                }
            }
            if before.is_some() {
                *increase.get_or_insert(0.0) += grown;
            }
        }
        increase
    }

    /// The last value at or before a time, over all processes.
    pub fn value(&self, at_s: f64) -> Option<f64> {
        let last = |series: &Vec<(f64, f64)>| {
            let behind = series.partition_point(|(at, _)| *at <= at_s + 1e-9);
            series[..behind].last().map(|(_, value)| *value)
        };
        self.series.values().filter_map(last).reduce(|a, b| a + b)
    }

    /// The values within a span, at the times of the process that was sampled most.
    pub fn values(&self, from_s: f64, to_s: f64) -> Vec<f64> {
        let times = self.times().filter(|at| (from_s..to_s).contains(at));
        times.filter_map(|at| self.value(at)).collect()
    }

    /// Times at which there is a sample, of the process that was sampled most.
    pub fn times(&self) -> impl Iterator<Item = f64> {
        let longest = self.series.values().max_by_key(|series| series.len());
        longest.into_iter().flatten().map(|(at, _)| *at)
    }
}

/// Asks all processes for all metrics; what came of it.
pub async fn sample(sources: &[Source], specs: &[MetricSpec]) -> Vec<(usize, String, f64)> {
    let wanted = sources
        .iter()
        .filter(|source| specs.iter().any(|spec| source.name.starts_with(&spec.from)));
    let answers = join_all(wanted.map(async |source| {
        let answer = health::get(&source.address, "/metrics", ANSWER_MAX).await;
        (source, answer)
    }));
    let mut samples = Vec::new();
    for (source, answer) in answers.await {
        let Some((200, text)) = answer else { continue };
        for (number, spec) in specs.iter().enumerate() {
            if source.name.starts_with(&spec.from)
                && let Some(value) = health::metric(&text, &spec.metric, &spec.labels)
            {
                samples.push((number, source.name.clone(), value));
            }
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_over_restarts_and_between_samples() {
        let mut samples = Samples::default();
        for (at, value) in [
            (0.0, 100.0),
            (1.0, 200.0),
            (2.0, 300.0),
            (3.0, 30.0),
            (4.0, 130.0),
        ] {
            samples.push("memds-1", at, value);
        }
        samples.push("memds-2", 0.5, 1_000.0);
        samples.push("memds-2", 4.5, 1_040.0);
        assert_eq!(samples.increase(0.0, 2.0), Some(200.0 + 15.0));
        assert_eq!(samples.increase(0.5, 1.5), Some(100.0 + 10.0));
        assert_eq!(samples.increase(2.0, 4.0), Some(130.0 + 20.0));
        assert_eq!(samples.increase(10.0, 12.0), None);
        assert_eq!(samples.value(2.2), Some(1_300.0));
        assert_eq!(samples.values(1.0, 3.0), [1_200.0, 1_300.0]);
        assert_eq!(Samples::default().increase(0.0, 1.0), None);
    }
}
