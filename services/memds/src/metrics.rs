//! Metrics of memds nodes. A process can have several nodes (tests, `dev`): one label tells them apart.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    GaugeVec, IntCounterVec, IntGaugeVec, register_gauge_vec, register_int_counter_vec,
    register_int_gauge_vec,
};
use protocol::directory::LookupAnswer;

use crate::RouteMap;
use crate::repair::Round;

/// What a lookup is answered, as a label.
const ANSWERS: [&str; 4] = ["unchanged", "found", "no_table", "not_ready"];
/// How a comparison ends, as a label.
const RESULTS: [&str; 3] = ["same", "repaired", "failed"];

#[derive(Clone)]
struct Families {
    lookups: IntCounterVec,
    pushes: IntCounterVec,
    partitions: IntGaugeVec,
    covered: IntGaugeVec,
    tables: IntGaugeVec,
    entries: IntGaugeVec,
    bytes: IntGaugeVec,
    root: IntGaugeVec,
    comparisons: IntCounterVec,
    messages: IntCounterVec,
    repaired: IntCounterVec,
    in_step: GaugeVec,
    hydration: GaugeVec,
}

/// Made once, whoever comes first.
static FAMILIES: LazyLock<Result<Families, String>> =
    LazyLock::new(|| register().map_err(|error| error.to_string()));

fn register() -> Result<Families, prometheus::Error> {
    let counter = |name, help| register_int_counter_vec!(name, help, &["instance"]);
    let gauge = |name, help| register_int_gauge_vec!(name, help, &["instance"]);
    let real = |name, help| register_gauge_vec!(name, help, &["instance"]);
    Ok(Families {
        lookups: register_int_counter_vec!(
            "evenkeel_memds_lookups_total",
            "Route lookups answered, by answer.",
            &["instance", "answer"]
        )?,
        pushes: counter("evenkeel_memds_pushes_total", "Membership pushes taken in.")?,
        partitions: gauge(
            "evenkeel_memds_partitions",
            "Partitions in the map, covered ones included.",
        )?,
        covered: gauge(
            "evenkeel_memds_covered_partitions",
            "Partitions in the map that a later one overlaps: split, and not dropped yet.",
        )?,
        tables: gauge("evenkeel_memds_tables", "Tables in the map.")?,
        entries: gauge(
            "evenkeel_memds_entries",
            "Entries of the tree: partitions, tables and remembered drops.",
        )?,
        bytes: gauge(
            "evenkeel_memds_bytes",
            "Bytes that the tree and its index take.",
        )?,
        root: gauge(
            "evenkeel_memds_root_hash",
            "53 bits of the hash of the map: equal on all nodes that hold the same.",
        )?,
        comparisons: register_int_counter_vec!(
            "evenkeel_memds_comparisons_total",
            "Comparisons with a peer, by result: same, repaired, failed (or not finished yet).",
            &["instance", "result"]
        )?,
        messages: counter(
            "evenkeel_memds_comparison_messages_total",
            "Messages to peers for comparisons and repairs.",
        )?,
        repaired: counter(
            "evenkeel_memds_repaired_total",
            "Entries that were missing or old and came from a peer.",
        )?,
        in_step: real(
            "evenkeel_memds_in_step_timestamp_seconds",
            "When a peer last had the same map, seconds since the epoch.",
        )?,
        hydration: real(
            "evenkeel_memds_hydration_seconds",
            "Time from the start until the map was ready.",
        )?,
    })
}

/// The metrics of one node.
#[derive(Clone)]
pub(crate) struct Metrics {
    families: Families,
    instance: String,
}

impl Metrics {
    pub(crate) fn new(instance: u64) -> anyhow::Result<Self> {
        let families = FAMILIES
            .clone()
            .map_err(|error| anyhow::anyhow!("memds metrics can't be registered: {error}"))?;
        let metrics = Self {
            families,
            instance: instance.to_string(),
        };
        metrics.begin();
        Ok(metrics)
    }

    /// All counters are there from the start: an alert rule on what is absent never fires.
    fn begin(&self) {
        let families = &self.families;
        for counter in [&families.pushes, &families.messages, &families.repaired] {
            self.add(counter, 0);
        }
        for (counter, values) in [
            (&families.lookups, &ANSWERS[..]),
            (&families.comparisons, &RESULTS),
        ] {
            for value in values {
                counter.with_label_values(&[self.instance.as_str(), value]);
            }
        }
    }

    pub(crate) fn answered(&self, answers: &[LookupAnswer]) {
        let mut counts = [0u64; 4];
        for answer in answers {
            counts[match answer {
                LookupAnswer::Unchanged => 0,
                LookupAnswer::Found { .. } => 1,
                LookupAnswer::NoTable => 2,
                LookupAnswer::NotReady => 3,
            }] += 1;
        }
        for (count, answer) in counts.iter().zip(ANSWERS) {
            if *count > 0 {
                self.families
                    .lookups
                    .with_label_values(&[self.instance.as_str(), answer])
                    .inc_by(*count);
            }
        }
    }

    pub(crate) fn pushed(&self) {
        self.add(&self.families.pushes, 1);
    }

    /// Entries that a peer gave on its own.
    pub(crate) fn repaired(&self, entries: usize) {
        self.add(&self.families.repaired, entries as u64);
    }

    pub(crate) fn compared(&self, round: &Round) {
        let result = RESULTS[match (round.in_step, round.repaired + round.offered) {
            (true, 0) => 0,
            (true, _) => 1,
            (false, _) => 2,
        }];
        self.families
            .comparisons
            .with_label_values(&[self.instance.as_str(), result])
            .inc();
        self.add(&self.families.messages, round.messages);
        self.add(&self.families.repaired, round.repaired);
        if round.in_step {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            self.families
                .in_step
                .with_label_values(&[self.instance.as_str()])
                .set(now.unwrap_or_default().as_secs_f64());
        }
    }

    pub(crate) fn hydrated(&self, took: Duration) {
        self.families
            .hydration
            .with_label_values(&[self.instance.as_str()])
            .set(took.as_secs_f64());
    }

    pub(crate) fn observe(&self, map: &RouteMap) {
        let root = map.root();
        for (gauge, value) in [
            (&self.families.partitions, map.partitions() as u64),
            (&self.families.covered, map.covered() as u64),
            (&self.families.tables, map.tables() as u64),
            (&self.families.entries, root.entries),
            (&self.families.bytes, map.memory() as u64),
            (&self.families.root, root.hash.short()),
        ] {
            gauge
                .with_label_values(&[self.instance.as_str()])
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    fn add(&self, counter: &IntCounterVec, by: u64) {
        counter
            .with_label_values(&[self.instance.as_str()])
            .inc_by(by);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn nodes_of_one_process_that_start_at_once_share_their_metrics() {
        const NODES: u64 = 16;
        let together = Barrier::new(NODES as usize);
        std::thread::scope(|scope| {
            let nodes: Vec<_> = (1..=NODES)
                .map(|instance| {
                    let together = &together;
                    scope.spawn(move || {
                        together.wait();
                        Metrics::new(instance)
                    })
                })
                .collect();
            for node in nodes {
                node.join().unwrap().unwrap();
            }
        });
    }
}
