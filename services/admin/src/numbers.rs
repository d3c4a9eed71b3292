//! Numbers of the control plane for the metrics, and what each one is, in words. Decides nothing.

use crate::driver::Admin;
use crate::healing::voting_copies;
use crate::placement::REPLICAS;
use crate::vitality::NodeView;

/// What the numbers for the metrics are, by name.
pub(crate) const WORDS: telemetry::Words = &[
    (
        "active",
        "1 if this admin holds the lease and gives the orders.",
    ),
    (
        "epoch",
        "The newest epoch of the lease that this admin knows.",
    ),
    (
        "nodes_dead",
        "Storage nodes that are dead: silent here, and for most of their peers.",
    ),
    (
        "nodes_slow",
        "Storage nodes that acknowledge far slower than the others.",
    ),
    ("nodes_draining", "Storage nodes that are being drained."),
    (
        "nodes_pressed",
        "Storage nodes that say that they work near their limits.",
    ),
    (
        "partitions_endangered",
        "Partitions with fewer than three healthy storage copies that vote.",
    ),
    (
        "replacements_wanted",
        "Replicas that are to be built anew, those under way included.",
    ),
    (
        "replacements_running",
        "Replicas that are being built anew.",
    ),
    (
        "splits_running",
        "Splits that are recorded and not at their end.",
    ),
    (
        "splits_waiting",
        "Partitions that should be split and are not.",
    ),
    (
        "splits_done_total",
        "Splits that this admin brought to their end.",
    ),
    ("splits_abandoned_total", "Splits that this admin gave up."),
];

impl Admin {
    /// Numbers for the metrics.
    pub(crate) fn numbers(&self) -> telemetry::Values {
        let (epoch, known) = {
            let lease = self.lease.lock();
            (lease.epoch(self.now_ms()), lease.known_epoch())
        };
        let mut numbers = vec![("active", u64::from(epoch.is_some())), ("epoch", known)];
        let (progress, dead, slow, draining, endangered) = self.with_plan(|plan, view| {
            let of = |test: fn(&NodeView) -> bool| {
                view.nodes.values().filter(|n| test(n)).count() as u64
            };
            let endangered = view.partitions.iter();
            let endangered = endangered
                .filter(|(_, seen)| !seen.ended() && voting_copies(seen, view) < REPLICAS);
            (
                plan.repairs.progress(),
                of(|n| n.dead()),
                of(|n| n.slow),
                of(|n| n.draining),
                endangered.count() as u64,
            )
        });
        numbers.extend([
            ("nodes_dead", dead),
            ("nodes_slow", slow),
            ("nodes_draining", draining),
            ("partitions_endangered", endangered),
            (
                "replacements_wanted",
                progress.total.saturating_sub(progress.done),
            ),
            ("replacements_running", progress.running),
        ]);
        let pressed = self.plan.lock().pressure.pressed() as u64;
        numbers.push(("nodes_pressed", pressed));
        numbers.extend(self.split_numbers());
        numbers
    }
}
