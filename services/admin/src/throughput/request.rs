//! Throughput as requests give it: shapes, constraints, and what can be said without knowing the table.

use model::ApiError;
use model::table::BillingMode;
use model::throughput::{OnDemandThroughput, UnitRates};
use serde::Deserialize;

use crate::constraints::Constraints;
use crate::texts;

/// Most capacity units that can be asked for at all.
const UNITS_MAX: i64 = 1_000_000_000_000;

/// `ProvisionedThroughput`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Throughput {
    read_capacity_units: Option<i64>,
    write_capacity_units: Option<i64>,
}

/// `OnDemandThroughput`; -1 takes a maximum away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct OnDemand {
    pub(super) max_read_request_units: Option<i64>,
    pub(super) max_write_request_units: Option<i64>,
}

impl OnDemand {
    /// Its members with their names, in the order in which they are complained about.
    pub(super) fn members(&self) -> [(&'static str, Option<i64>); 2] {
        [
            ("MaxReadRequestUnits", self.max_read_request_units),
            ("MaxWriteRequestUnits", self.max_write_request_units),
        ]
    }

    /// The first member that is there.
    pub(crate) fn first(&self) -> Option<&'static str> {
        let given = self.members().into_iter();
        given
            .filter(|(_, value)| value.is_some())
            .map(|m| m.0)
            .next()
    }
}

/// `WarmThroughput`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Warm {
    read_units_per_second: Option<i64>,
    write_units_per_second: Option<i64>,
}

impl Warm {
    /// Whether it says anything.
    pub(super) fn says_something(&self) -> bool {
        *self != Self::default()
    }

    /// What was asked for, if that is not below `least`; what was left out is 0. `refuse` words the refusal of a member.
    pub(super) fn at_least(
        &self,
        least: UnitRates,
        refuse: impl Fn(&'static str, &'static str) -> ApiError,
    ) -> Result<UnitRates, ApiError> {
        let member = |value: Option<i64>, least: u64, name, provisioned| match value {
            None => Ok(0),
            Some(value) => u64::try_from(value)
                .ok()
                .filter(|value| *value >= least)
                .ok_or_else(|| refuse(name, provisioned)),
        };
        Ok(UnitRates {
            read_units: member(
                self.read_units_per_second,
                least.read_units,
                "ReadUnitsPerSecond",
                "ReadCapacityUnits",
            )?,
            write_units: member(
                self.write_units_per_second,
                least.write_units,
                "WriteUnitsPerSecond",
                "WriteCapacityUnits",
            )?,
        })
    }
}

/// Constraints of the API model.
pub(crate) fn constrain(constraints: &mut Constraints, throughput: Option<&Throughput>) {
    constrain_as("provisionedThroughput", constraints, throughput);
}

/// Same, of a member with another name.
pub(crate) fn constrain_as(
    member: &str,
    constraints: &mut Constraints,
    throughput: Option<&Throughput>,
) {
    let Some(throughput) = throughput else { return };
    for (field, value) in [
        ("writeCapacityUnits", throughput.write_capacity_units),
        ("readCapacityUnits", throughput.read_capacity_units),
    ] {
        let field = format!("{member}.{field}");
        constraints.present(&field, value.is_some());
        constraints.between(&field, value, 1, i64::MAX);
    }
}

/// Billing of a new table.
pub(crate) fn billing(
    mode: Option<&str>,
    throughput: Option<&Throughput>,
) -> Result<BillingMode, ApiError> {
    match (mode, throughput) {
        (Some("PAY_PER_REQUEST"), Some(_)) => Err(texts::throughput_with_on_demand()),
        (Some("PAY_PER_REQUEST"), None) => Ok(BillingMode::PayPerRequest),
        (_, None) => Err(texts::provisioned_without_throughput()),
        (_, Some(throughput)) => {
            let (read_units, write_units) = units(throughput)?;
            Ok(BillingMode::Provisioned {
                read_units,
                write_units,
            })
        }
    }
}

/// Read and write units.
pub(crate) fn units(throughput: &Throughput) -> Result<(u64, u64), ApiError> {
    let bounded = |value: Option<i64>, what| {
        let value = value.unwrap_or(0);
        u64::try_from(value)
            .ok()
            .filter(|_| value <= UNITS_MAX)
            .ok_or_else(|| texts::units_out_of_bounds(value, what))
    };
    Ok((
        bounded(throughput.read_capacity_units, "ReadCapacityUnits")?,
        bounded(throughput.write_capacity_units, "WriteCapacityUnits")?,
    ))
}

/// Maximum of a new table.
pub(crate) fn maximum(
    billing: BillingMode,
    asked: Option<&OnDemand>,
) -> Result<OnDemandThroughput, ApiError> {
    let Some(asked) = asked else {
        return Ok(OnDemandThroughput::default());
    };
    if let (BillingMode::Provisioned { .. }, Some(member)) = (billing, asked.first()) {
        return Err(texts::maximum_of_new_provisioned(member));
    }
    for (member, value) in asked.members() {
        if value.is_some_and(|value| value < 1) {
            return Err(texts::maximum_out_of_range(member));
        }
    }
    let units = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    Ok(OnDemandThroughput {
        max_read_units: units(asked.max_read_request_units),
        max_write_units: units(asked.max_write_request_units),
    })
}

/// Whether a table's maximum can be changed so: to at least 1, or to -1 for none.
pub(crate) fn maximum_in_range(asked: &OnDemand) -> Result<(), ApiError> {
    for (member, value) in asked.members() {
        if value.is_some_and(|value| value < 1 && value != -1) {
            return Err(texts::maximum_out_of_range(member));
        }
    }
    Ok(())
}

/// Warm throughput of a new table.
pub(crate) fn warm(billing: BillingMode, asked: Option<&Warm>) -> Result<UnitRates, ApiError> {
    let Some(asked) = asked else {
        return Ok(UnitRates::default());
    };
    asked.at_least(billing.base_rates(), |member, provisioned| match billing {
        BillingMode::PayPerRequest => texts::warm_below_initial(member),
        BillingMode::Provisioned { .. } => texts::warm_below_provisioned(member, provisioned),
    })
}
