//! Exports numbers that something else counts in plain atomics (the mesh), so that it need not know Prometheus.

use std::collections::BTreeMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge};

/// Names without prefix and their values. Always the same names; those that end in `_total` only ever grow.
pub type Values = Vec<(&'static str, u64)>;

/// What each of them is, in a sentence, by the same names.
pub type Words = &'static [(&'static str, &'static str)];

struct Exported<F> {
    prefix: String,
    words: Words,
    read: F,
    descriptions: BTreeMap<String, Desc>,
}

/// Exports what `read` gives as `<prefix>_<name>`: counters if the name ends in `_total`, gauges otherwise. Gives `false`, and
/// changes nothing, if there are such metrics already (several participants in one process count together).
pub fn export(
    prefix: &str,
    words: Words,
    read: impl Fn() -> Values + Send + Sync + 'static,
) -> bool {
    let mut exported = Exported {
        prefix: prefix.to_owned(),
        words,
        read,
        descriptions: BTreeMap::new(),
    };
    for family in exported.metrics() {
        for desc in family.desc() {
            exported
                .descriptions
                .insert(desc.fq_name.clone(), desc.clone());
        }
    }
    prometheus::register(Box::new(exported)).is_ok()
}

impl<F: Fn() -> Values> Exported<F> {
    fn metrics(&self) -> Vec<Box<dyn Collector>> {
        let mut metrics: Vec<Box<dyn Collector>> = Vec::new();
        for (name, value) in (self.read)() {
            let full = format!("{}_{name}", self.prefix);
            let known = self.words.iter().find(|(known, _)| *known == name);
            let help = known.map_or("", |(_, words)| words);
            if name.ends_with("_total") {
                if let Ok(counter) = IntCounter::new(full, help) {
                    counter.inc_by(value);
                    metrics.push(Box::new(counter));
                }
            } else if let Ok(gauge) = IntGauge::new(full, help) {
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                metrics.push(Box::new(gauge));
            }
        }
        metrics
    }
}

impl<F: Fn() -> Values + Send + Sync> Collector for Exported<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.values().collect()
    }
    fn collect(&self) -> Vec<MetricFamily> {
        self.metrics()
            .iter()
            .flat_map(|metric| metric.collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn numbers_are_read_at_every_scrape_and_exported_once() {
        let number = Arc::new(AtomicU64::new(3));
        let read = {
            let number = number.clone();
            move || {
                let value = number.load(Ordering::Relaxed);
                vec![("sent_total", value), ("queued", value + 1)]
            }
        };
        let words: Words = &[("sent_total", "What was sent."), ("queued", "What waits.")];
        assert!(export("evenkeel_sample", words, read.clone()));
        assert!(!export("evenkeel_sample", words, read));
        number.store(7, Ordering::Relaxed);
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&prometheus::gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "# HELP evenkeel_sample_sent_total What was sent.",
            "# HELP evenkeel_sample_queued What waits.",
            "# TYPE evenkeel_sample_sent_total counter",
            "evenkeel_sample_sent_total 7",
            "# TYPE evenkeel_sample_queued gauge",
            "evenkeel_sample_queued 8",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
