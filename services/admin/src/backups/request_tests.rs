//! Requests about backups: constraints, their texts, and what a restored table gets.

use model::index::{FIRST_GLOBAL, IndexDefinition, IndexKeys, IndexProjection, IndexScope};
use model::json::from_slice;
use model::table::{KeyAttribute, ScalarType};
use model::{ErrorKind, IndexId};
use serde_json::{Value, json};

use super::*;
use crate::records::system_table;

const ARN: &str =
    "arn:aws:dynamodb:us-east-1:000000000000:table/music/backup/01489602797149-73d8d5bc";

fn parse<T: serde::de::DeserializeOwned>(body: Value) -> T {
    from_slice(body.to_string().as_bytes()).unwrap()
}

fn text<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Validation);
    error.message
}

fn update(body: Value) -> Result<RecoveryChange, ApiError> {
    parse::<UpdateContinuousBackups>(body).validate()
}

#[test]
fn recovery_is_switched_on_for_1_to_35_days() {
    let specification =
        |value: Value| json!({"TableName": "music", "PointInTimeRecoverySpecification": value});
    let on = update(specification(
        json!({"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 35}),
    ));
    assert_eq!(
        on.unwrap(),
        RecoveryChange {
            table: "music".into(),
            enabled: true,
            days: Some(35)
        }
    );
    let off = update(specification(json!({"PointInTimeRecoveryEnabled": false}))).unwrap();
    assert_eq!((off.enabled, off.days), (false, None));
    let long = update(specification(
        json!({"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 36}),
    ));
    assert_eq!(
        text(long),
        "1 validation error detected: Value '36' at 'pointInTimeRecoverySpecification.recoveryPeriodInDays' failed to satisfy \
         constraint: Member must have value less than or equal to 35"
    );
    assert_eq!(
        text(update(json!({}))),
        "2 validation errors detected: Value null at 'tableName' failed to satisfy constraint: Member must not be null; \
         Value null at 'pointInTimeRecoverySpecification' failed to satisfy constraint: Member must not be null"
    );
    let pointless =
        specification(json!({"PointInTimeRecoveryEnabled": false, "RecoveryPeriodInDays": 3}));
    assert!(text(update(pointless)).contains("RecoveryPeriodInDays"));
}

#[test]
fn backups_are_named_and_found_by_their_arn() {
    let create = |body: Value| parse::<CreateBackup>(body).validate();
    let named =
        create(json!({"TableName": "arn:aws:dynamodb:eu-1:1:table/music", "BackupName": "first"}));
    assert_eq!(named.unwrap(), ("music".into(), "first".into()));
    assert!(
        text(create(json!({"TableName": "music", "BackupName": "a!"}))).contains("'backupName'")
    );
    let find = |arn: &str| parse::<NamedBackup>(json!({ "BackupArn": arn })).validate();
    let found = find(ARN).unwrap();
    assert_eq!(
        (found.table.as_str(), found.number.as_str()),
        ("music", "01489602797149-73d8d5bc")
    );
    assert!(text(find("short")).contains("greater than or equal to 37"));
    assert!(text(find(&ARN.replace("backup", "export"))).contains("BackupArn"));
}

#[test]
fn lists_are_bounded() {
    let list = |body: Value| parse::<ListBackups>(body).validate();
    let all = list(json!({})).unwrap();
    assert_eq!(
        (all.limit, all.from_ms, all.until_ms, all.kind.as_str()),
        (100, 0, u64::MAX, "USER")
    );
    let some = list(json!({
        "TableName": "music", "Limit": 5, "TimeRangeLowerBound": 1.5, "TimeRangeUpperBound": 9, "BackupType": "ALL",
        "ExclusiveStartBackupArn": ARN,
    }));
    let some = some.unwrap();
    assert_eq!((some.limit, some.from_ms, some.until_ms), (5, 1_500, 9_000));
    assert_eq!(some.after.unwrap().table, "music");
    assert!(text(list(json!({"Limit": 101}))).contains("less than or equal to 100"));
    assert!(text(list(json!({"BackupType": "MINE"}))).contains("[USER, SYSTEM, AWS_BACKUP, ALL]"));
}

fn to_time(body: Value) -> Result<Restore<TableAt>, ApiError> {
    parse::<RestoreTableToPointInTime>(body).validate()
}

#[test]
fn a_restore_names_one_source_and_one_time() {
    let with = |mut more: Value| {
        more["TargetTableName"] = json!("copy");
        to_time(more)
    };
    let at = with(json!({"SourceTableName": "music", "RestoreDateTime": 1_700_000_000})).unwrap();
    assert_eq!(
        (at.target.as_str(), at.source),
        (
            "copy",
            TableAt {
                table: "music".into(),
                at_ms: Some(1_700_000_000_000)
            }
        )
    );
    let arn = "arn:aws:dynamodb:eu-1:1:table/music";
    let latest = with(json!({"SourceTableArn": arn, "UseLatestRestorableTime": true})).unwrap();
    assert_eq!(
        latest.source,
        TableAt {
            table: "music".into(),
            at_ms: None
        }
    );
    for wrong in [
        json!({"RestoreDateTime": 1}),
        json!({"SourceTableName": "music", "SourceTableArn": arn, "RestoreDateTime": 1}),
        json!({"SourceTableArn": "music", "RestoreDateTime": 1}),
        json!({"SourceTableName": "music"}),
        json!({"SourceTableName": "music", "UseLatestRestorableTime": false}),
        json!({"SourceTableName": "music", "UseLatestRestorableTime": true, "RestoreDateTime": 1}),
        json!({"SourceTableName": "music", "RestoreDateTime": 1, "GlobalSecondaryIndexOverride": [{"IndexName": "idx"}]}),
        json!({"SourceTableName": "music", "RestoreDateTime": 1, "LocalSecondaryIndexOverride": [{"IndexName": "idx"}]}),
        json!({"SourceTableName": "music", "RestoreDateTime": 1, "VectorIndexOverride": [{"IndexName": "idx"}]}),
        json!({"SourceTableName": "music", "RestoreDateTime": 1, "SSESpecificationOverride": {"Enabled": true}}),
    ] {
        text(with(wrong));
    }
    let harmless = json!({
        "SourceTableName": "music", "RestoreDateTime": 1, "GlobalSecondaryIndexOverride": [],
        "SSESpecificationOverride": {"Enabled": false},
    });
    with(harmless).unwrap();
}

#[test]
fn a_restored_table_is_billed_as_its_source_unless_it_is_overridden() {
    let mut source = system_table();
    source.on_demand_max.max_read_units = Some(7);
    let billing = |source: &TableDefinition, more: Value| {
        let mut body =
            json!({"SourceTableName": "music", "TargetTableName": "copy", "RestoreDateTime": 1});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        to_time(body).unwrap().billing(source)
    };
    let provisioned = BillingMode::Provisioned {
        read_units: 3,
        write_units: 4,
    };
    let same = billing(&source, json!({})).unwrap();
    assert_eq!(
        (same.mode, same.maximum.max_read_units),
        (BillingMode::PayPerRequest, Some(7))
    );
    let units = json!({"ReadCapacityUnits": 3, "WriteCapacityUnits": 4});
    let fixed =
        json!({"BillingModeOverride": "PROVISIONED", "ProvisionedThroughputOverride": units});
    let fixed = billing(&source, fixed).unwrap();
    assert_eq!(
        (fixed.mode, fixed.maximum.max_read_units),
        (provisioned, None)
    );
    let capped = json!({"OnDemandThroughputOverride": {"MaxReadRequestUnits": 5}});
    assert_eq!(
        billing(&source, capped).unwrap().maximum.max_read_units,
        Some(5)
    );
    for wrong in [
        json!({"BillingModeOverride": "PROVISIONED"}),
        json!({"ProvisionedThroughputOverride": units}),
        json!({"BillingModeOverride": "PAY_PER_REQUEST", "ProvisionedThroughputOverride": units}),
        json!({"OnDemandThroughputOverride": {}}),
    ] {
        text(billing(&source, wrong));
    }
    source.billing = provisioned;
    source.on_demand_max = Default::default();
    assert_eq!(billing(&source, json!({})).unwrap().mode, provisioned);
    assert_eq!(
        billing(&source, json!({"BillingModeOverride": "PROVISIONED"}))
            .unwrap()
            .mode,
        provisioned
    );
    let freed = billing(&source, json!({"BillingModeOverride": "PAY_PER_REQUEST"})).unwrap();
    assert_eq!(freed.mode, BillingMode::PayPerRequest);
}

#[test]
fn a_restored_table_has_the_indexes_of_its_source_that_are_named() {
    let key = |name: &str, kind| KeyAttribute {
        name: name.to_owned(),
        kind,
    };
    let mut source = system_table();
    let (pk, at) = (source.keys.partition.clone(), key("at", ScalarType::N));
    let index = |id: u16, name: &str, scope, partition: &KeyAttribute| IndexDefinition {
        id: IndexId(id),
        name: name.to_owned(),
        scope,
        keys: IndexKeys {
            partition: vec![partition.clone()],
            sort: vec![at.clone()],
        },
        projection: IndexProjection::KeysOnly,
    };
    source.indexes = vec![
        index(1, "local", IndexScope::Local, &pk),
        index(
            FIRST_GLOBAL,
            "one",
            IndexScope::Global(Default::default()),
            &key("a", ScalarType::S),
        ),
        index(
            FIRST_GLOBAL + 1,
            "two",
            IndexScope::Global(Default::default()),
            &key("b", ScalarType::S),
        ),
    ];
    let restored = |mode: BillingMode, more: Value| {
        let mut body =
            json!({"SourceTableName": "music", "TargetTableName": "copy", "RestoreDateTime": 1});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        to_time(body)?.indexes(&source, mode)
    };
    let names = |more: Value| -> Vec<String> {
        let indexes = restored(BillingMode::PayPerRequest, more).unwrap();
        indexes.into_iter().map(|index| index.name).collect()
    };
    let wanted = |name: &str, hash: &str, projection: &str| {
        json!({
            "IndexName": name,
            "KeySchema": [
                {"AttributeName": hash, "KeyType": "HASH"},
                {"AttributeName": "at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": projection},
        })
    };
    let two = wanted("two", "b", "KEYS_ONLY");
    assert_eq!(names(json!({})), ["local", "one", "two"]);
    assert_eq!(
        names(json!({"GlobalSecondaryIndexOverride": []})),
        ["local"]
    );
    let some = json!({"GlobalSecondaryIndexOverride": [two], "LocalSecondaryIndexOverride": []});
    assert_eq!(names(some), ["two"]);
    let local = wanted("local", &pk.name, "KEYS_ONLY");
    let same = json!({"LocalSecondaryIndexOverride": [local]});
    assert_eq!(names(same), ["local", "one", "two"]);

    let text_of = |more: Value| text(restored(BillingMode::PayPerRequest, more));
    for other in [
        wanted("three", "b", "KEYS_ONLY"),
        wanted("two", "a", "KEYS_ONLY"),
        wanted("two", "b", "ALL"),
        wanted("local", &pk.name, "KEYS_ONLY"),
    ] {
        let told = text_of(json!({"GlobalSecondaryIndexOverride": [other]}));
        assert!(
            told.contains("does not match an index of the source table"),
            "{told}"
        );
    }
    let told = text_of(json!({"GlobalSecondaryIndexOverride": [two, two]}));
    assert!(told.contains("Duplicate index name: two"), "{told}");

    let provisioned = BillingMode::Provisioned {
        read_units: 3,
        write_units: 4,
    };
    text(restored(
        provisioned,
        json!({"GlobalSecondaryIndexOverride": [two]}),
    ));
    let mut units = two.clone();
    units["ProvisionedThroughput"] = json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 6});
    let billed = restored(
        provisioned,
        json!({"GlobalSecondaryIndexOverride": [units]}),
    )
    .unwrap();
    let own = BillingMode::Provisioned {
        read_units: 5,
        write_units: 6,
    };
    assert_eq!(billed.last().map(|index| index.billing), Some(own));
}
