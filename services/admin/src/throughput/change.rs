//! What an UpdateTable does to a table's throughput, and how often that may be done. Pure.

use model::table::{BillingMode, DAY_MS, TableDefinition, ThroughputChanges};
use model::{ApiError, throughput::OnDemandThroughput};

use super::calendar::long_time;
use super::{OnDemand, Warm};
use crate::texts;

/// Decreases on one day (UTC) that may follow each other at once.
const FREE_DECREASES: u64 = 4;
/// Time between further ones, milliseconds.
const DECREASE_EVERY_MS: u64 = 3_600_000;
/// Switches to on-demand within 24 hours.
const SWITCHES_MAX: usize = 4;

/// The throughput part of an UpdateTable, validated as far as it can be without the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ThroughputChange {
    pub(crate) mode: Option<String>,
    pub(crate) units: Option<(u64, u64)>,
    pub(crate) on_demand: Option<OnDemand>,
    pub(crate) warm: Option<Warm>,
    /// The request asks for nothing else.
    pub(crate) alone: bool,
}

impl ThroughputChange {
    /// Changes the table at `now_ms` (milliseconds since the epoch), or says why not.
    pub(crate) fn apply(&self, table: &mut TableDefinition, now_ms: u64) -> Result<(), ApiError> {
        let before = table.billing;
        let billing = self.billing(before)?;
        let maximum = self.maximum(billing, table.on_demand_max)?;
        let current = table.warm_rates();
        let asked = match &self.warm {
            None => Default::default(),
            Some(warm) => warm.at_least(current, |member, _| texts::warm_lowered(member))?,
        };
        note(&mut table.throughput_changes, before, billing, now_ms)?;
        table.billing = billing;
        table.on_demand_max = maximum;
        // What the table could serve until now it can serve from now on, whatever its mode.
        table.warm = asked.max(current);
        Ok(())
    }

    /// The billing that a table with `current` billing has afterwards.
    fn billing(&self, current: BillingMode) -> Result<BillingMode, ApiError> {
        let provisioned = |(read_units, write_units)| BillingMode::Provisioned {
            read_units,
            write_units,
        };
        match (self.mode.as_deref(), self.units, current) {
            (Some("PAY_PER_REQUEST"), _, _) => Ok(BillingMode::PayPerRequest),
            (Some(_), None, BillingMode::PayPerRequest) => {
                Err(texts::provisioned_without_throughput())
            }
            (None, Some(_), BillingMode::PayPerRequest) => Err(texts::throughput_with_on_demand()),
            (mode, Some(units), BillingMode::Provisioned { .. }) => {
                if provisioned(units) == current && mode.is_none() && self.alone {
                    return Err(texts::same_throughput(units.0, units.1));
                }
                Ok(provisioned(units))
            }
            (Some(_), Some(units), BillingMode::PayPerRequest) => Ok(provisioned(units)),
            (_, None, current) => Ok(current),
        }
    }

    fn maximum(
        &self,
        billing: BillingMode,
        current: OnDemandThroughput,
    ) -> Result<OnDemandThroughput, ApiError> {
        let asked = self.on_demand.as_ref();
        if let BillingMode::Provisioned { .. } = billing {
            return match asked.and_then(OnDemand::first) {
                Some(member) => Err(texts::maximum_of_provisioned(member)),
                None => Ok(OnDemandThroughput::default()),
            };
        }
        // -1 is no number of units: it takes the maximum away.
        let merged = |asked: Option<i64>, current| match asked {
            Some(value) => u64::try_from(value).ok(),
            None => current,
        };
        let (reads, writes) = asked.map_or((None, None), |asked| {
            (asked.max_read_request_units, asked.max_write_request_units)
        });
        Ok(OnDemandThroughput {
            max_read_units: merged(reads, current.max_read_units),
            max_write_units: merged(writes, current.max_write_units),
        })
    }

    /// Whether only maxima or warm throughput change, if anything: "these requests will not interfere with any table operations".
    pub(crate) fn is_unnoticed(&self) -> bool {
        self.mode.is_none() && self.units.is_none()
    }

    /// Whether it asks for anything.
    pub(crate) fn says_something(&self) -> bool {
        let on_demand = self.on_demand.as_ref().is_some_and(|o| o.first().is_some());
        let warm = self.warm.as_ref().is_some_and(Warm::says_something);
        self.mode.is_some() || self.units.is_some() || on_demand || warm
    }
}

/// Notes a change of the billing in its history, or refuses it because there were too many.
fn note(
    changes: &mut ThroughputChanges,
    before: BillingMode,
    after: BillingMode,
    now_ms: u64,
) -> Result<(), ApiError> {
    use BillingMode::{PayPerRequest, Provisioned};
    match (before, after) {
        (Provisioned { .. }, PayPerRequest) => note_switch(changes, now_ms),
        (Provisioned { .. }, Provisioned { .. }) => {
            let (before, after) = (before.base_rates(), after.base_rates());
            if after.min(before) != before {
                note_decrease(changes, now_ms)?;
            }
            if after.max(before) != before {
                changes.increased_ms = now_ms;
            }
            Ok(())
        }
        (PayPerRequest, _) => Ok(()),
    }
}

fn note_decrease(changes: &mut ThroughputChanges, now_ms: u64) -> Result<(), ApiError> {
    let today = changes.decreases_on_day_of(now_ms);
    let next_ms = changes.decreased_ms.saturating_add(DECREASE_EVERY_MS);
    if today >= FREE_DECREASES && now_ms < next_ms {
        let midnight_ms = (now_ms / DAY_MS + 1) * DAY_MS;
        return Err(texts::too_many_decreases(
            today,
            &long_time(changes.decreased_ms),
            &long_time(next_ms.min(midnight_ms)),
        ));
    }
    changes.decreases_today = today + 1;
    changes.decreased_ms = now_ms;
    Ok(())
}

fn note_switch(changes: &mut ThroughputChanges, now_ms: u64) -> Result<(), ApiError> {
    let switches = &mut changes.on_demand_switches_ms;
    switches.retain(|&ms| ms.saturating_add(DAY_MS) > now_ms);
    if let (true, Some(&first), Some(&last)) = (
        switches.len() >= SWITCHES_MAX,
        switches.first(),
        switches.last(),
    ) {
        return Err(texts::too_many_switches(
            SWITCHES_MAX,
            &long_time(last),
            &long_time(first + DAY_MS),
        ));
    }
    switches.push(now_ms);
    changes.on_demand_ms = now_ms;
    Ok(())
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
