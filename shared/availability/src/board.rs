//! All series and alarms of one observer. Owns what is kept of whom; the rules are `alarms`'.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alarms::{Alarm, Alarms, Change, Kind, Rules, Severity};
use crate::counts::{Class, Counts};
use crate::series::{Bar, SLOT_MS, Series, WINDOW_MS, WINDOWS_KEPT};

/// Series kept at most, some 15 KB each at the very most: 300 tables of customers, and what canaries send.
const SERIES_MAX: usize = 1_024;

/// Of what availability is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All customers' tables together, as the routers count.
    Service,
    /// A customer's table, as the routers count.
    Table(String),
    /// The canary's table, as the canary sees it from outside.
    Canary(String),
    /// An endpoint in a zone, as the canary sees it: whether anybody is there at all.
    Endpoint {
        /// Its zone.
        zone: String,
        /// Where it is.
        url: String,
    },
}

impl Scope {
    /// The alarms' subject.
    pub fn subject(&self) -> String {
        match self {
            Self::Service => "*".to_owned(),
            Self::Table(name) | Self::Canary(name) => name.clone(),
            Self::Endpoint { zone, url } => format!("{zone} {url}"),
        }
    }
}

/// Availability of one thing over the last windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strip {
    /// Of what.
    pub scope: Scope,
    /// For which requests.
    pub class: Class,
    /// Oldest first; windows without requests are left out.
    pub bars: Vec<Bar>,
    /// The median of the last five minutes, milliseconds; 0 without answers.
    pub p50_ms: u64,
    /// The 99th percentile of the last five minutes, milliseconds; 0 without answers.
    pub p99_ms: u64,
}

/// What one observer knows.
#[derive(Debug, Default)]
pub struct Board {
    rules: Rules,
    series: BTreeMap<(Scope, Class), Series>,
    alarms: Alarms,
    left_out: u64,
}

impl Board {
    /// An empty one.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes in what happened just now (milliseconds since the epoch).
    pub fn add(&mut self, now_ms: u64, scope: Scope, class: Class, counts: &Counts) {
        if counts.is_empty() {
            return;
        }
        let key = (scope, class);
        if let Some(series) = self.series.get_mut(&key) {
            return series.add(now_ms, counts);
        }
        // What canaries send is as much as there are zones and endpoints: customers' tables must not take its place.
        if self.series.len() >= SERIES_MAX && matches!(key.0, Scope::Table(_)) {
            self.left_out += counts.total();
            return;
        }
        let mut series = Series::default();
        series.add(now_ms, counts);
        self.series.insert(key, series);
    }

    /// Looks at everything, and says which alarms begin and end.
    pub fn evaluate(&mut self, now_ms: u64) -> Vec<Change> {
        let kept = WINDOWS_KEPT * WINDOW_MS;
        self.series.retain(|_, series| {
            let last = series.last_ms().unwrap_or(0);
            now_ms.saturating_sub(last) < kept
        });
        let mut holds = self.unreachable(now_ms);
        for ((scope, class), series) in &self.series {
            let of = |kind, found: Option<(Severity, String)>| {
                found.map(|(severity, summary)| Alarm {
                    kind,
                    subject: scope.subject(),
                    class: Some(*class),
                    severity,
                    summary,
                    since_ms: now_ms,
                    ended_ms: None,
                })
            };
            let availability = || of(Kind::Availability, self.rules.availability(series, now_ms));
            let slow = || of(Kind::Slow, self.rules.slow(series, *class, now_ms));
            let throttled = || of(Kind::Throttled, self.rules.throttled(series, now_ms));
            match scope {
                Scope::Endpoint { .. } => {}
                // Whose table it is, is said by the table's own.
                Scope::Service => holds.extend(availability()),
                // Customers' own items and requests decide how long those take.
                Scope::Table(_) => holds.extend(availability().into_iter().chain(throttled())),
                Scope::Canary(_) => {
                    holds.extend(availability().into_iter().chain(slow()).chain(throttled()));
                }
            }
        }
        self.alarms.update(now_ms, holds, self.rules.quiet_ms)
    }

    /// Endpoints by zone and address, and whether anybody answered there lately; one that was not asked lately is left out, and so is one that has
    /// not answered yet and was first asked lately: it may just be starting.
    pub fn endpoints(&self, now_ms: u64) -> BTreeMap<(&str, &str), bool> {
        // And the slot that has just begun; of the last five minutes, so that there is something before.
        let kept = WINDOW_MS / SLOT_MS;
        let slots = (self.rules.unreachable_ms.div_ceil(SLOT_MS).max(1) + 1).min(kept - 1);
        let mut asked: BTreeMap<(&str, &str), [Counts; 2]> = BTreeMap::new();
        for ((scope, _), series) in &self.series {
            if let Scope::Endpoint { zone, url } = scope {
                let endpoint = (zone.as_str(), url.as_str());
                let [lately, longer] = asked.entry(endpoint).or_default();
                lately.add(&series.slots(now_ms, slots));
                longer.add(&series.slots(now_ms, kept));
            }
        }
        let up = |counts: &Counts| counts.good + counts.throttled + counts.failed > 0;
        let told = |(endpoint, [lately, longer]): (_, [Counts; 2])| {
            let asked_before = longer.total() > lately.total();
            let known = lately.total() >= 3 && (up(&lately) || asked_before);
            known.then(|| (endpoint, up(&lately)))
        };
        asked.into_iter().filter_map(told).collect()
    }

    /// Endpoints that answer nothing: told of the mesh, else of zones, else of single ones.
    fn unreachable(&self, now_ms: u64) -> Vec<Alarm> {
        let endpoints = self.endpoints(now_ms);
        let mut zones: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
        for ((zone, url), up) in &endpoints {
            zones.entry(*zone).or_default().push((*url, !up));
        }
        let alarm = |kind, subject: String, summary: String| Alarm {
            kind,
            subject,
            class: None,
            severity: Severity::Critical,
            summary,
            since_ms: now_ms,
            ended_ms: None,
        };
        let whole = |endpoints: &Vec<(&str, bool)>| endpoints.iter().all(|(_, down)| *down);
        if zones.len() > 1 && zones.values().all(whole) {
            let what = "no endpoint of any zone answers".to_owned();
            return vec![alarm(Kind::MeshUnreachable, "*".to_owned(), what)];
        }
        let mut found = Vec::new();
        for (zone, endpoints) in &zones {
            if whole(endpoints) {
                let what = format!("no endpoint of zone {zone} answers");
                found.push(alarm(Kind::ZoneUnreachable, (*zone).to_owned(), what));
                continue;
            }
            for (url, _) in endpoints.iter().filter(|(_, down)| *down) {
                let what = format!("the endpoint {url} in zone {zone} does not answer");
                found.push(alarm(
                    Kind::EndpointUnreachable,
                    format!("{zone} {url}"),
                    what,
                ));
            }
        }
        found
    }

    /// Alarms that stand, the worst first.
    pub fn standing(&self) -> Vec<Alarm> {
        self.alarms.standing()
    }

    /// Alarms that ended, the newest first; the last hundred.
    pub fn ended(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.ended()
    }

    /// Availability of everything, at most `most` strips of `windows` windows.
    pub fn strips(&self, now_ms: u64, windows: u64, most: usize) -> Vec<Strip> {
        let strip = |((scope, class), series): (&(Scope, Class), &Series)| {
            let recent = series.slots(now_ms, WINDOW_MS / SLOT_MS);
            Strip {
                scope: scope.clone(),
                class: *class,
                bars: series.bars(now_ms, windows),
                p50_ms: recent.percentile_ms(0.5).unwrap_or(0),
                p99_ms: recent.percentile_ms(0.99).unwrap_or(0),
            }
        };
        let (tables, others): (Vec<_>, Vec<_>) =
            (self.series.iter()).partition(|((scope, _), _)| matches!(scope, Scope::Table(_)));
        let all = others.into_iter().chain(tables);
        all.take(most).map(strip).collect()
    }

    /// The counts of the last five minutes of everything.
    pub fn recent(&self, now_ms: u64) -> impl Iterator<Item = (&Scope, Class, Counts)> {
        let of = move |series: &Series| series.slots(now_ms, WINDOW_MS / SLOT_MS);
        self.series
            .iter()
            .map(move |((scope, class), series)| (scope, *class, of(series)))
    }

    /// Series kept.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Requests that were not counted, since there were too many series.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
