use model::throughput::UnitRates;
use serde_json::{Value, json};

use super::*;
use crate::records::system_table;

const NOON_MS: u64 = 20_000 * DAY_MS + DAY_MS / 2;

fn provisioned(read_units: u64, write_units: u64) -> BillingMode {
    BillingMode::Provisioned {
        read_units,
        write_units,
    }
}

fn table(billing: BillingMode) -> TableDefinition {
    TableDefinition {
        billing,
        ..system_table()
    }
}

fn units(read_units: u64, write_units: u64) -> ThroughputChange {
    ThroughputChange {
        units: Some((read_units, write_units)),
        alone: true,
        ..ThroughputChange::default()
    }
}

fn mode(mode: &str) -> ThroughputChange {
    ThroughputChange {
        mode: Some(mode.to_owned()),
        ..ThroughputChange::default()
    }
}

fn maximum(body: Value) -> ThroughputChange {
    ThroughputChange {
        on_demand: Some(serde_json::from_value(body).unwrap()),
        ..ThroughputChange::default()
    }
}

fn warm(body: Value) -> ThroughputChange {
    ThroughputChange {
        warm: Some(serde_json::from_value(body).unwrap()),
        ..ThroughputChange::default()
    }
}

#[test]
fn four_decreases_a_day_and_then_one_an_hour() {
    let mut table = table(provisioned(10, 10));
    for (n, read_units) in [9, 8, 7, 6].into_iter().enumerate() {
        units(read_units, 10)
            .apply(&mut table, NOON_MS + n as u64 * 1000)
            .unwrap();
    }
    let history = table.throughput_changes.clone();
    assert_eq!(history.decreases_today, 4);
    assert_eq!(history.decreased_ms, NOON_MS + 3000);
    let error = units(5, 10)
        .apply(&mut table, NOON_MS + 3_600_000)
        .unwrap_err();
    assert_eq!(error.kind, model::ErrorKind::LimitExceeded);
    assert_eq!(
        error.message,
        "Subscriber limit exceeded: Provisioned throughput decreases are limited within a given UTC day. After the first 4 \
         decreases, each subsequent decrease in the same UTC day can be performed at most once every 3600 seconds. Number \
         of decreases today: 4. Last decrease at Friday, October 4, 2024 at 12:00:03 PM Coordinated Universal Time. Next \
         decrease can be made at Friday, October 4, 2024 at 1:00:03 PM Coordinated Universal Time"
    );
    assert_eq!(table.throughput_changes, history, "a refusal moves nothing");
    assert_eq!(table.billing, provisioned(6, 10));
    let later = NOON_MS + 3000 + 3_600_000;
    units(5, 10).apply(&mut table, later).unwrap();
    assert!(units(4, 10).apply(&mut table, later + 1).is_err());
    // Increases are free at any time.
    units(5, 20).apply(&mut table, later + 1).unwrap();
    assert_eq!(table.throughput_changes.increased_ms, later + 1);
    // A new day, a new budget.
    let midnight = 20_001 * DAY_MS;
    units(4, 20).apply(&mut table, midnight).unwrap();
    assert_eq!(table.throughput_changes.decreases_today, 1);
}

#[test]
fn a_wait_ends_at_midnight_at_the_latest() {
    let mut table = table(provisioned(10, 10));
    let late = 20_001 * DAY_MS - 1000;
    for read_units in [9, 8, 7, 6] {
        units(read_units, 10).apply(&mut table, late).unwrap();
    }
    let error = units(5, 10).apply(&mut table, late + 1).unwrap_err();
    assert!(
        error.message.ends_with(
            "made at Saturday, October 5, 2024 at 12:00:00 AM Coordinated Universal Time"
        ),
        "{}",
        error.message
    );
    units(5, 10).apply(&mut table, late + 1000).unwrap();
}

#[test]
fn a_decrease_and_an_increase_in_one_change_are_both_noted() {
    let mut table = table(provisioned(5, 5));
    units(6, 4).apply(&mut table, NOON_MS).unwrap();
    let changes = &table.throughput_changes;
    assert_eq!(
        (changes.increased_ms, changes.decreased_ms),
        (NOON_MS, NOON_MS)
    );
}

#[test]
fn on_demand_four_times_a_day() {
    let mut table = table(provisioned(5, 5));
    let back = ThroughputChange {
        units: Some((5, 5)),
        ..mode("PROVISIONED")
    };
    for n in 0..4 {
        mode("PAY_PER_REQUEST")
            .apply(&mut table, NOON_MS + n)
            .unwrap();
        back.apply(&mut table, NOON_MS + n).unwrap();
    }
    let error = mode("PAY_PER_REQUEST")
        .apply(&mut table, NOON_MS + DAY_MS - 1)
        .unwrap_err();
    assert_eq!(error.kind, model::ErrorKind::LimitExceeded);
    assert!(error.message.contains("limited to 4 times in 1 day(s)"));
    mode("PAY_PER_REQUEST")
        .apply(&mut table, NOON_MS + DAY_MS)
        .unwrap();
    assert_eq!(table.throughput_changes.on_demand_ms, NOON_MS + DAY_MS);
    assert!(table.throughput_changes.on_demand_switches_ms.len() <= 4);
}

#[test]
fn the_same_throughput_again_is_refused() {
    let mut table = table(provisioned(5, 6));
    let error = units(5, 6).apply(&mut table, NOON_MS).unwrap_err();
    assert!(
        error
            .message
            .starts_with("The provisioned throughput for the table will not change.")
    );
    let with_more = ThroughputChange {
        alone: false,
        ..units(5, 6)
    };
    with_more.apply(&mut table, NOON_MS).unwrap();
    assert_eq!(table.throughput_changes, Default::default());
}

#[test]
fn modes_and_units_must_fit() {
    let on_demand = BillingMode::PayPerRequest;
    let message = |change: ThroughputChange, billing| {
        let error = change.apply(&mut table(billing), NOON_MS).unwrap_err();
        error.message
    };
    assert!(message(units(1, 1), on_demand).contains("Neither ReadCapacityUnits"));
    assert!(message(mode("PROVISIONED"), on_demand).contains("must both be specified"));
    let mut same = table(provisioned(5, 6));
    mode("PROVISIONED").apply(&mut same, NOON_MS).unwrap();
    assert_eq!(same.billing, provisioned(5, 6));
    let body = json!({"MaxWriteRequestUnits": 5});
    assert_eq!(
        message(maximum(body), provisioned(1, 1)),
        "One or more parameter values were invalid: MaxWriteRequestUnits for OnDemandThroughput cannot be specified when the \
         table BillingMode is PROVISIONED"
    );
}

#[test]
fn a_maximum_is_merged_and_taken_away_member_by_member() {
    let mut table = table(BillingMode::PayPerRequest);
    let apply = |table: &mut TableDefinition, body| {
        maximum(body).apply(table, NOON_MS).unwrap();
        let max = table.on_demand_max;
        (max.max_read_units, max.max_write_units)
    };
    let both = json!({"MaxReadRequestUnits": 1000, "MaxWriteRequestUnits": 500});
    assert_eq!(apply(&mut table, both), (Some(1000), Some(500)));
    let one = json!({"MaxReadRequestUnits": 2000});
    assert_eq!(apply(&mut table, one), (Some(2000), Some(500)));
    let none = json!({"MaxWriteRequestUnits": -1});
    assert_eq!(apply(&mut table, none), (Some(2000), None));
    assert_eq!(apply(&mut table, json!({})), (Some(2000), None));
    let provisioned = ThroughputChange {
        units: Some((5, 5)),
        ..mode("PROVISIONED")
    };
    provisioned.apply(&mut table, NOON_MS).unwrap();
    assert_eq!(table.on_demand_max, OnDemandThroughput::default());
}

#[test]
fn warm_throughput_only_grows() {
    let mut table = table(provisioned(3, 3));
    let rates = |read_units, write_units| UnitRates {
        read_units,
        write_units,
    };
    units(1, 1).apply(&mut table, NOON_MS).unwrap();
    assert_eq!(table.warm_rates(), rates(3, 3), "what it once had it keeps");
    let lower = warm(json!({"ReadUnitsPerSecond": 2}));
    assert_eq!(
        lower.apply(&mut table, NOON_MS).unwrap_err().message,
        "One or more parameter values were invalid: Requested ReadUnitsPerSecond for WarmThroughput for table is lower than \
         current WarmThroughput, decreasing WarmThroughput is not supported"
    );
    for bad in [
        json!({"WriteUnitsPerSecond": 0}),
        json!({"WriteUnitsPerSecond": -7}),
    ] {
        let error = warm(bad).apply(&mut table, NOON_MS).unwrap_err();
        assert!(
            error
                .message
                .contains("WriteUnitsPerSecond for WarmThroughput")
        );
    }
    warm(json!({"ReadUnitsPerSecond": 50}))
        .apply(&mut table, NOON_MS)
        .unwrap();
    assert_eq!(table.warm_rates(), rates(50, 3));
    assert_eq!(table.billing, provisioned(1, 1));
    mode("PAY_PER_REQUEST").apply(&mut table, NOON_MS).unwrap();
    assert_eq!(table.warm_rates(), rates(12_000, 4_000));
    let back = ThroughputChange {
        units: Some((1, 1)),
        ..mode("PROVISIONED")
    };
    back.apply(&mut table, NOON_MS).unwrap();
    assert_eq!(table.warm_rates(), rates(12_000, 4_000));
    assert!(!warm(json!({})).says_something());
}
