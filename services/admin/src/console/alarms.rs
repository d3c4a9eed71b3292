//! What several canaries say, put together: one strip of each thing, and each alarm once. Pure.

use std::collections::BTreeMap;

use availability::{Alarm, Class, Kind, Scope, Severity, Strip};
use protocol::canary::View;
use serde::Serialize;

/// Alarms that ended, shown at most.
const ENDED_MAX: usize = 50;

/// An alarm, and the zones from which it is seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Seen {
    #[serde(flatten)]
    pub(super) alarm: Alarm,
    pub(super) zones: Vec<String>,
}

/// Availability of one thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    /// Who says so: every canary hears the same of customers, but each probes from its own zone.
    pub(super) from_zone: String,
    #[serde(flatten)]
    pub(super) strip: Strip,
}

/// What all canaries say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Together {
    pub(super) canaries: usize,
    pub(super) probing: usize,
    pub(super) strips: Vec<Shown>,
    pub(super) standing: Vec<Seen>,
    pub(super) ended: Vec<Seen>,
}

type Id = (Kind, String, Option<Class>, u64);

fn merge<'a>(all: impl Iterator<Item = (&'a str, &'a Alarm)>, apart: bool) -> Vec<Seen> {
    let mut seen: BTreeMap<Id, Seen> = BTreeMap::new();
    for (zone, alarm) in all {
        // Two that ended within the same minute are the same, seen from two places.
        let minute = if apart { alarm.since_ms / 60_000 } else { 0 };
        let id = (alarm.kind, alarm.subject.clone(), alarm.class, minute);
        let one = seen.entry(id).or_insert_with(|| Seen {
            alarm: alarm.clone(),
            zones: Vec::new(),
        });
        one.alarm.severity = one.alarm.severity.max(alarm.severity);
        one.alarm.since_ms = one.alarm.since_ms.min(alarm.since_ms);
        if !one.zones.iter().any(|known| known == zone) {
            one.zones.push(zone.to_owned());
        }
    }
    seen.into_values().collect()
}

/// Puts the canaries' views together.
pub(super) fn together(views: &[View]) -> Together {
    let mut strips: BTreeMap<(Scope, Class, String), Shown> = BTreeMap::new();
    for view in views {
        for strip in &view.strips {
            let customers = matches!(strip.scope, Scope::Service | Scope::Table(_));
            // Whoever has heard of the most windows has listened for longest.
            let from = if customers { "" } else { view.zone.as_str() };
            let id = (strip.scope.clone(), strip.class, from.to_owned());
            let longer = strips
                .get(&id)
                .is_none_or(|known| known.strip.bars.len() < strip.bars.len());
            if longer {
                let shown = Shown {
                    from_zone: from.to_owned(),
                    strip: strip.clone(),
                };
                strips.insert(id, shown);
            }
        }
    }
    let standing = views.iter().flat_map(|view| {
        view.standing
            .iter()
            .map(|alarm| (view.zone.as_str(), alarm))
    });
    let ended = views
        .iter()
        .flat_map(|view| view.ended.iter().map(|alarm| (view.zone.as_str(), alarm)));
    let mut standing = merge(standing, false);
    let rank = |severity: Severity| std::cmp::Reverse(severity);
    standing.sort_by_key(|seen| (rank(seen.alarm.severity), seen.alarm.since_ms));
    let mut ended = merge(ended, true);
    ended.sort_by_key(|seen| std::cmp::Reverse(seen.alarm.ended_ms));
    ended.truncate(ENDED_MAX);
    Together {
        canaries: views.len(),
        probing: views.iter().filter(|view| view.probes).count(),
        strips: strips.into_values().collect(),
        standing,
        ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(since_ms: u64, severity: Severity) -> Alarm {
        Alarm {
            kind: Kind::ZoneUnreachable,
            subject: "az2".into(),
            class: None,
            severity,
            summary: "no endpoint of zone az2 answers".into(),
            since_ms,
            ended_ms: None,
        }
    }

    fn strip(scope: Scope, bars: usize) -> Strip {
        let bar = availability::Bar {
            at_ms: 0,
            good: 1,
            bad: 0,
            throttled: 0,
            p99_ms: 1,
        };
        Strip {
            scope,
            class: Class::Write,
            bars: vec![bar; bars],
            p50_ms: 1,
            p99_ms: 1,
        }
    }

    #[test]
    fn what_two_canaries_see_is_told_once() {
        let view = |zone: &str, since_ms, severity, bars| View {
            zone: zone.into(),
            standing: vec![alarm(since_ms, severity)],
            strips: vec![
                strip(Scope::Table("music".into()), bars),
                strip(Scope::Canary("canary".into()), bars),
            ],
            ..View::default()
        };
        let views = [
            view("az1", 9_000, Severity::Warning, 2),
            view("az3", 7_000, Severity::Critical, 5),
        ];
        let together = together(&views);
        let [seen] = &together.standing[..] else {
            panic!("{together:?}");
        };
        assert_eq!(seen.zones, ["az1", "az3"]);
        assert_eq!(
            (seen.alarm.since_ms, seen.alarm.severity),
            (7_000, Severity::Critical)
        );
        let bars = together
            .strips
            .iter()
            .map(|shown| (shown.from_zone.as_str(), shown.strip.bars.len()));
        assert_eq!(bars.collect::<Vec<_>>(), [("", 5), ("az1", 2), ("az3", 5)]);
    }
}
