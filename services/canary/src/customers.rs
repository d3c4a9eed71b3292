//! What routers report of their customers, as what happened since their last report. Pure: time is an input.

use std::collections::BTreeMap;

use availability::{Class, Counts};
use protocol::canary::{OutcomeReport, TABLES_MAX};

/// A router that was silent for so long is forgotten, milliseconds.
const SILENT_MS: u64 = 600_000;
/// Routers kept at most.
const ROUTERS_MAX: usize = 1_000;
/// A router that has counted for less than this is heard from its beginning; of one that was there before the canary nothing is known of what
/// happened earlier, milliseconds.
const YOUNG_MS: u64 = 15_000;

#[derive(Debug)]
struct Router {
    incarnation: u64,
    heard_ms: u64,
    /// Counted from its start: a table that was not told of before is new.
    tables: BTreeMap<String, Told>,
}

/// What a router said of a table last, and when.
#[derive(Debug, Default)]
struct Told {
    heard_ms: u64,
    counts: [Counts; 3],
}

/// The routers' last reports.
#[derive(Debug, Default)]
pub(crate) struct Customers {
    routers: BTreeMap<u64, Router>,
}

impl Customers {
    /// What is new in a report, by table and class.
    pub(crate) fn take(
        &mut self,
        now_ms: u64,
        report: OutcomeReport,
    ) -> Vec<(String, Class, Counts)> {
        self.routers
            .retain(|_, router| now_ms.saturating_sub(router.heard_ms) < SILENT_MS);
        let known = self.routers.get(&report.router);
        let known = known.is_some_and(|router| router.incarnation == report.incarnation);
        if !known {
            if self.routers.len() >= ROUTERS_MAX && !self.routers.contains_key(&report.router) {
                return Vec::new();
            }
            let router = Router {
                incarnation: report.incarnation,
                heard_ms: now_ms,
                tables: BTreeMap::new(),
            };
            self.routers.insert(report.router, router);
        }
        let Some(router) = self.routers.get_mut(&report.router) else {
            return Vec::new();
        };
        router.heard_ms = now_ms;
        let counts_all = known || report.counting_ms < YOUNG_MS;
        let mut new = Vec::new();
        for table in report.tables.into_iter().take(TABLES_MAX + 1) {
            // The router forgets tables that are idle, so over the weeks there may be many more than it has places.
            if router.tables.len() > 4 * TABLES_MAX && !router.tables.contains_key(&table.table) {
                let oldest = router.tables.iter().min_by_key(|(_, told)| told.heard_ms);
                if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                    router.tables.remove(&oldest);
                }
            }
            let told = Told {
                heard_ms: now_ms,
                counts: table.classes,
            };
            let before = router.tables.insert(table.table.clone(), told);
            let before = before.unwrap_or_default().counts;
            if !counts_all {
                continue;
            }
            for class in Class::ALL {
                let since = table.classes[class.index()].since(&before[class.index()]);
                if !since.is_empty() {
                    new.push((table.table.clone(), class, since));
                }
            }
        }
        new
    }

    /// Routers heard of lately.
    pub(crate) fn routers(&self) -> usize {
        self.routers.len()
    }
}

#[cfg(test)]
mod tests {
    use availability::Outcome;
    use protocol::canary::TableOutcomes;

    use super::*;

    fn report(incarnation: u64, counting_ms: u64, written: u64, failed: u64) -> OutcomeReport {
        let mut write = Counts::default();
        for _ in 0..written {
            write.add(&Counts::one(Outcome::Good, 4));
        }
        write.failed = failed;
        OutcomeReport {
            router: 1,
            incarnation,
            counting_ms,
            tables: vec![TableOutcomes {
                table: "music".to_owned(),
                classes: [Counts::default(), Counts::default(), write],
            }],
            ..OutcomeReport::default()
        }
    }

    fn told(new: &[(String, Class, Counts)]) -> Vec<(Class, u64, u64)> {
        let of =
            |(_, class, counts): &(String, Class, Counts)| (*class, counts.good, counts.failed);
        new.iter().map(of).collect()
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut customers = Customers::default();
        let first = customers.take(0, report(7, 5_000, 10, 0));
        assert_eq!(told(&first), [(Class::Write, 10, 0)], "a young router");
        assert_eq!(customers.take(5_000, report(7, 10_000, 10, 0)), []);
        // Two reports were lost.
        let later = customers.take(20_000, report(7, 25_000, 25, 2));
        assert_eq!(told(&later), [(Class::Write, 15, 2)]);
        // It started anew.
        let anew = customers.take(30_000, report(8, 5_000, 3, 0));
        assert_eq!(told(&anew), [(Class::Write, 3, 0)]);
        assert_eq!(customers.routers(), 1);
    }

    #[test]
    fn what_was_before_the_canary_is_not_told() {
        let mut customers = Customers::default();
        assert_eq!(customers.take(0, report(7, 3_600_000, 1_000, 50)), []);
        let new = customers.take(5_000, report(7, 3_605_000, 1_001, 50));
        assert_eq!(told(&new), [(Class::Write, 1, 0)]);
        assert_eq!(
            customers.take(5_000 + SILENT_MS, OutcomeReport::default()),
            []
        );
        assert_eq!(customers.routers(), 1, "the silent one is forgotten");
    }
}
