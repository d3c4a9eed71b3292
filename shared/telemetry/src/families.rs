//! Exports labelled numbers and histograms that something else counts in plain atomics: what `counters` is for single numbers.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// Only ever grows.
    Counter(f64),
    /// Comes and goes.
    Gauge(f64),
    /// Observations by upper bound: one count more than bounds, the last one is what was above all of them. Counts are not cumulative.
    Histogram {
        /// Upper bounds, ascending.
        bounds: Vec<f64>,
        /// Observations of each bucket.
        counts: Vec<u64>,
        /// Sum of all observations.
        sum: f64,
    },
}

/// Values of one metric by their labels.
pub type Samples = Vec<(Vec<(&'static str, String)>, Sample)>;

/// What a metric is called and what it tells.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// The full name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// Labelled metrics that are read when they are asked for. Cheap to clone.
#[derive(Clone)]
pub struct Families {
    names: Vec<Name>,
    descriptions: Vec<Desc>,
    read: Arc<dyn Fn() -> Vec<Samples> + Send + Sync>,
}

impl Families {
    /// What `read` gives: for each of `names`, in their order, its samples, all of one kind. `fixed` are labels that all samples have: they tell
    /// several of the same name in one process apart.
    pub fn new(
        names: &[Name],
        fixed: &[(&str, String)],
        read: impl Fn() -> Vec<Samples> + Send + Sync + 'static,
    ) -> Self {
        let fixed: HashMap<String, String> = fixed
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let descriptions = names.iter().filter_map(|name| {
            let (full, help) = (name.name.to_owned(), name.help.to_owned());
            Desc::new(full, help, Vec::new(), fixed.clone()).ok()
        });
        Self {
            descriptions: descriptions.collect(),
            names: names.to_vec(),
            read: Arc::new(read),
        }
    }
}

/// Exports what `read` gives (see `Families`). Gives `false`, and changes nothing, if there are such metrics already.
pub fn export_families(
    names: &[Name],
    read: impl Fn() -> Vec<Samples> + Send + Sync + 'static,
) -> bool {
    prometheus::register(Box::new(Families::new(names, &[], read))).is_ok()
}

fn metric(labels: &[(&'static str, String)], sample: &Sample) -> (MetricType, Metric) {
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    });
    let mut metric = Metric::from_label(labels.collect());
    let kind = match sample {
        Sample::Counter(value) => {
            let mut counter = Counter::default();
            counter.set_value(*value);
            metric.set_counter(counter);
            MetricType::COUNTER
        }
        Sample::Gauge(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            metric.set_gauge(gauge);
            MetricType::GAUGE
        }
        Sample::Histogram {
            bounds,
            counts,
            sum,
        } => {
            let mut cumulative = 0;
            let buckets = bounds.iter().zip(counts).map(|(bound, count)| {
                cumulative += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(cumulative);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(counts.iter().sum());
            histogram.set_sample_sum(*sum);
            metric.set_histogram(histogram);
            MetricType::HISTOGRAM
        }
    };
    (kind, metric)
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        for (name, samples) in self.names.iter().zip((self.read)()) {
            let mut family = MetricFamily::default();
            family.set_name(name.name.to_owned());
            family.set_help(name.help.to_owned());
            let mut metrics = Vec::with_capacity(samples.len());
            for (labels, sample) in &samples {
                let (kind, metric) = metric(labels, sample);
                family.set_field_type(kind);
                metrics.push(metric);
            }
            family.set_metric(metrics);
            // The encoder takes an empty family for an error.
            if !samples.is_empty() {
                families.push(family);
            }
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn all_kinds_are_written_as_prometheus_wants_them() {
        const NAMES: [Name; 3] = [
            Name {
                name: "evenkeel_families_seen_total",
                help: "Seen.",
            },
            Name {
                name: "evenkeel_families_seconds",
                help: "Time.",
            },
            Name {
                name: "evenkeel_families_none",
                help: "None.",
            },
        ];
        let read = || {
            let seen = vec![(vec![("table", "a".to_owned())], Sample::Counter(3.0))];
            let seconds = Sample::Histogram {
                bounds: vec![0.001, 0.01],
                counts: vec![2, 1, 1],
                sum: 0.5,
            };
            vec![seen, vec![(Vec::new(), seconds)], Vec::new()]
        };
        assert!(export_families(&NAMES, read));
        assert!(!export_families(&NAMES, read));
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&prometheus::gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "# TYPE evenkeel_families_seen_total counter",
            "evenkeel_families_seen_total{table=\"a\"} 3",
            "# TYPE evenkeel_families_seconds histogram",
            "evenkeel_families_seconds_bucket{le=\"0.001\"} 2",
            "evenkeel_families_seconds_bucket{le=\"0.01\"} 3",
            "evenkeel_families_seconds_bucket{le=\"+Inf\"} 4",
            "evenkeel_families_seconds_sum 0.5",
            "evenkeel_families_seconds_count 4",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("evenkeel_families_none"));
    }
}
