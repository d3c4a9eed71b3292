//! Customer-facing alarms: what they are called, when they hold, when they begin and end. Burn rates and their windows are those of Google's
//! "Site Reliability Workbook", chapter 5 (multiwindow, multi-burn-rate alerts).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::counts::Class;
use crate::series::{SLOT_MS, Series, WINDOW_MS};

/// Alarms that ended, kept for the console.
const HISTORY_MAX: usize = 100;

/// What is wrong, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No endpoint of any zone answers.
    MeshUnreachable,
    /// No endpoint of this zone answers, those of others do.
    ZoneUnreachable,
    /// This endpoint does not answer, others of its zone do.
    EndpointUnreachable,
    /// The error budget is used up too fast.
    Availability,
    /// Answers come late.
    Slow,
    /// A table's requests are refused for lack of throughput.
    Throttled,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::MeshUnreachable,
        Self::ZoneUnreachable,
        Self::EndpointUnreachable,
        Self::Availability,
        Self::Slow,
        Self::Throttled,
    ];

    /// As a label, and the anchor in the run-books.
    pub fn name(self) -> &'static str {
        match self {
            Self::MeshUnreachable => "mesh_unreachable",
            Self::ZoneUnreachable => "zone_unreachable",
            Self::EndpointUnreachable => "endpoint_unreachable",
            Self::Availability => "availability",
            Self::Slow => "slow",
            Self::Throttled => "throttled",
        }
    }
}

/// Whom it concerns, and how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody looks at it within the day.
    Warning,
    /// Somebody looks at it now.
    Critical,
}

impl Severity {
    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An alarm. Two canaries that see the same have equal `kind`, `subject` and `class`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// What is wrong …
    pub kind: Kind,
    /// … with what: a zone, an endpoint, a table; or `*`, all customers' tables together.
    pub subject: String,
    /// For which requests; none: for all.
    #[serde(default)]
    pub class: Option<Class>,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen when it began, in words.
    pub summary: String,
    /// When it began, milliseconds since the epoch.
    pub since_ms: u64,
    /// When it ended; none: it has not.
    #[serde(default)]
    pub ended_ms: Option<u64>,
}

/// What makes alarms of one kind different from each other.
pub(crate) type Id = (Kind, String, Option<Class>);

impl Alarm {
    pub(crate) fn id(&self) -> Id {
        (self.kind, self.subject.clone(), self.class)
    }
}

/// An alarm that begins, gets worse, or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It begins, or is critical from now on.
    Began(Alarm),
    /// It ended.
    Ended(Alarm),
}

/// When alarms begin and end (section `canary.rules`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// The share of requests that may fail, of a million: 100 = 99.99 % (the published goal of one region).
    pub budget_per_million: u64,
    /// Fewer failures in five minutes are no alarm: a single one says little where requests are rare.
    pub failures_min: u64,
    /// A strong or eventual read is slow above this, milliseconds.
    pub slow_read_ms: u64,
    /// A write is slow above this, milliseconds.
    pub slow_write_ms: u64,
    /// Slow answers of a hundred, over five minutes and over the last one, that are an alarm.
    pub slow_percent: u64,
    /// Throttled requests of a hundred, over five minutes and over the last one, that are an alarm.
    pub throttled_percent: u64,
    /// Fewer slow or throttled requests in five minutes are none.
    pub requests_min: u64,
    /// An endpoint that answered nothing for so long is unreachable, milliseconds; told up to two slots later, and after five minutes in any case.
    pub unreachable_ms: u64,
    /// An alarm ends when what it is about has been right for so long, milliseconds.
    pub quiet_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            budget_per_million: 100,
            failures_min: 5,
            slow_read_ms: 250,
            slow_write_ms: 500,
            slow_percent: 5,
            throttled_percent: 5,
            requests_min: 20,
            unreachable_ms: 20_000,
            quiet_ms: 60_000,
        }
    }
}

/// The fast pair of windows: 2 % of a month's budget within an hour.
const FAST_BURN: f64 = 14.4;
/// The slow pair: 5 % of it within six hours.
const SLOW_BURN: f64 = 6.0;
const HOUR: u64 = 3_600_000 / WINDOW_MS;
const MINUTE_SLOTS: u64 = 60_000 / SLOT_MS;
const FIVE_MINUTES_SLOTS: u64 = WINDOW_MS / SLOT_MS;

impl Rules {
    fn burn(&self, failed_share: Option<f64>) -> f64 {
        let budget = self.budget_per_million.max(1) as f64 / 1_000_000.0;
        failed_share.unwrap_or(0.0) / budget
    }

    /// Whether the budget is used up too fast.
    pub(crate) fn availability(&self, series: &Series, now_ms: u64) -> Option<(Severity, String)> {
        let recent = series.slots(now_ms, FIVE_MINUTES_SLOTS);
        let hour = series.windows(now_ms, HOUR);
        let percent = |share: Option<f64>| 100.0 * share.unwrap_or(0.0);
        if recent.failed >= self.failures_min
            && self.burn(recent.failed_share()) >= FAST_BURN
            && self.burn(hour.failed_share()) >= FAST_BURN
        {
            let words = format!(
                "{:.2} % of requests failed in the last 5 minutes ({} of {}), {:.2} % in the last hour",
                percent(recent.failed_share()),
                recent.failed,
                recent.total(),
                percent(hour.failed_share()),
            );
            return Some((Severity::Critical, words));
        }
        let (half_hour, six_hours) = (
            series.windows(now_ms, HOUR / 2),
            series.windows(now_ms, 6 * HOUR),
        );
        let slowly = half_hour.failed >= 2 * self.failures_min
            && self.burn(half_hour.failed_share()) >= SLOW_BURN
            && self.burn(six_hours.failed_share()) >= SLOW_BURN;
        slowly.then(|| {
            let words = format!(
                "{:.2} % of requests failed in the last 30 minutes, {:.2} % in the last 6 hours",
                percent(half_hour.failed_share()),
                percent(six_hours.failed_share()),
            );
            (Severity::Warning, words)
        })
    }

    /// Whether answers come late.
    pub(crate) fn slow(
        &self,
        series: &Series,
        class: Class,
        now_ms: u64,
    ) -> Option<(Severity, String)> {
        let limit_ms = match class {
            Class::Write => self.slow_write_ms,
            Class::StrongRead | Class::EventualRead => self.slow_read_ms,
        };
        let recent = series.slots(now_ms, FIVE_MINUTES_SLOTS);
        let minute = series.slots(now_ms, MINUTE_SLOTS);
        let most = self.slow_percent as f64 / 100.0;
        let share = recent.slow_share(limit_ms)?;
        let slow = recent.good >= self.requests_min
            && share >= most
            && minute.slow_share(limit_ms)? >= most;
        slow.then(|| {
            let words = format!(
                "{:.0} % of answers took longer than {limit_ms} ms in the last 5 minutes (99th percentile: {} ms)",
                100.0 * share,
                recent.percentile_ms(0.99).unwrap_or(0),
            );
            (Severity::Warning, words)
        })
    }

    /// Whether requests are refused for lack of throughput.
    pub(crate) fn throttled(&self, series: &Series, now_ms: u64) -> Option<(Severity, String)> {
        let recent = series.slots(now_ms, FIVE_MINUTES_SLOTS);
        let minute = series.slots(now_ms, MINUTE_SLOTS);
        let most = self.throttled_percent as f64 / 100.0;
        let share = recent.throttled_share()?;
        let throttled = recent.throttled >= self.requests_min
            && share >= most
            && minute.throttled_share()? >= most;
        throttled.then(|| {
            let words = format!(
                "{:.0} % of requests were throttled in the last 5 minutes ({} of {})",
                100.0 * share,
                recent.throttled,
                recent.total(),
            );
            (Severity::Warning, words)
        })
    }
}

/// Alarms that stand, and those that stood.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// With the time at which each was last seen to hold.
    standing: BTreeMap<Id, (Alarm, u64)>,
    ended: VecDeque<Alarm>,
}

impl Alarms {
    /// What holds now; what is not in it any more ends after `quiet_ms`.
    pub(crate) fn update(&mut self, now_ms: u64, holds: Vec<Alarm>, quiet_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for alarm in holds {
            let id = alarm.id();
            match self.standing.get_mut(&id) {
                None => {
                    changes.push(Change::Began(alarm.clone()));
                    self.standing.insert(id, (alarm, now_ms));
                }
                Some((standing, seen_ms)) => {
                    *seen_ms = now_ms;
                    if alarm.severity > standing.severity {
                        standing.severity = alarm.severity;
                        standing.summary = alarm.summary;
                        changes.push(Change::Began(standing.clone()));
                    }
                }
            }
        }
        let over: Vec<Id> = self
            .standing
            .iter()
            .filter(|(_, (_, seen_ms))| now_ms.saturating_sub(*seen_ms) >= quiet_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            if let Some((mut alarm, _)) = self.standing.remove(&id) {
                alarm.ended_ms = Some(now_ms);
                self.ended.push_back(alarm.clone());
                if self.ended.len() > HISTORY_MAX {
                    self.ended.pop_front();
                }
                changes.push(Change::Ended(alarm));
            }
        }
        changes
    }

    /// Those that stand, the worst first.
    pub(crate) fn standing(&self) -> Vec<Alarm> {
        let mut all: Vec<Alarm> = self.standing.values().map(|(a, _)| a.clone()).collect();
        all.sort_by_key(|alarm| (std::cmp::Reverse(alarm.severity), alarm.since_ms));
        all
    }

    /// Those that ended, the newest first.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &Alarm> {
        self.ended.iter().rev()
    }
}
