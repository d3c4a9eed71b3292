"""The table operations."""

import pytest

import harness
from faults import fails, invalid

PK = [{"AttributeName": "pk", "AttributeType": "S"}]
HASH = [{"AttributeName": "pk", "KeyType": "HASH"}]


def test_life_of_a_table(ddb, key):
    name = f"life-{key}"
    made = ddb.create_table(
        TableName=name,
        AttributeDefinitions=PK,
        KeySchema=HASH,
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 6},
        Tags=[{"Key": "team", "Value": "sre"}],
    )["TableDescription"]
    assert made["TableStatus"] in ("CREATING", "ACTIVE")
    assert made["TableArn"].endswith(f":table/{name}")
    assert made["ProvisionedThroughput"]["ReadCapacityUnits"] == 5
    ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 180})
    table = ddb.describe_table(TableName=name)["Table"]
    assert table["KeySchema"] == HASH and table["AttributeDefinitions"] == PK
    assert table["TableStatus"] == "ACTIVE" and table["TableId"] == made["TableId"]
    fails(
        "ResourceInUseException", f"Table already exists: {name}",
        ddb.create_table, TableName=name, AttributeDefinitions=PK, KeySchema=HASH, BillingMode="PAY_PER_REQUEST",
    )
    assert name in ddb.list_tables()["TableNames"]
    assert ddb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"] == [{"Key": "team", "Value": "sre"}]
    ddb.tag_resource(ResourceArn=table["TableArn"], Tags=[{"Key": "team", "Value": "db"}, {"Key": "x", "Value": ""}])
    ddb.untag_resource(ResourceArn=table["TableArn"], TagKeys=["x"])
    assert ddb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"] == [{"Key": "team", "Value": "db"}]

    ddb.update_table(TableName=name, DeletionProtectionEnabled=True)
    harness.wait_until("update done", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    invalid("…", ddb.delete_table, TableName=name)
    ddb.update_table(TableName=name, DeletionProtectionEnabled=False)
    harness.wait_until("update done", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    ddb.update_table(TableName=name, BillingMode="PAY_PER_REQUEST")
    harness.wait_until("update done", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    assert ddb.describe_table(TableName=name)["Table"]["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"

    ddb.put_item(TableName=name, Item={"pk": {"S": "a"}})
    assert ddb.delete_table(TableName=name)["TableDescription"]["TableStatus"] == "DELETING"
    ddb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 180})
    fails("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found", ddb.describe_table, TableName=name)
    fails("ResourceNotFoundException", None, ddb.get_item, TableName=name, Key={"pk": {"S": "a"}})


def test_a_recreated_table_is_empty(ddb, key):
    name = f"again-{key}"
    for _ in range(2):
        ddb.create_table(TableName=name, AttributeDefinitions=PK, KeySchema=HASH, BillingMode="PAY_PER_REQUEST")
        harness.wait_until("active", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
        assert ddb.scan(TableName=name, ConsistentRead=True)["Count"] == 0
        ddb.put_item(TableName=name, Item={"pk": {"S": "a"}})
        assert ddb.scan(TableName=name, ConsistentRead=True)["Count"] == 1
        ddb.delete_table(TableName=name)
        ddb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 180})


def test_list_pages(ddb, table_of):
    made = {table_of() for _ in range(3)}
    seen, start = [], {}
    while True:
        answer = ddb.list_tables(Limit=2, **start)
        assert len(answer["TableNames"]) <= 2
        seen += answer["TableNames"]
        if "LastEvaluatedTableName" not in answer:
            break
        start = {"ExclusiveStartTableName": answer["LastEvaluatedTableName"]}
    assert made <= set(seen) and seen == sorted(seen) and len(seen) == len(set(seen))
    assert not [name for name in seen if name.startswith("evenkeel.")]


def test_what_tables_do_not_have_yet_is_said_to_be_disabled(ddb, table_of):
    name = table_of()
    assert ddb.describe_time_to_live(TableName=name)["TimeToLiveDescription"] == {"TimeToLiveStatus": "DISABLED"}
    backups = ddb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["ContinuousBackupsStatus"] in ("ENABLED", "DISABLED"), "as long as no archiver was heard of"
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "DISABLED"
    fails(
        "ResourceNotFoundException", "Requested resource not found: Table: none-such not found",
        ddb.describe_time_to_live, TableName="none-such",
    )
    fails("TableNotFoundException", "Table not found: none-such", ddb.describe_continuous_backups, TableName="none-such")


def test_limits_and_endpoints(ddb):
    limits = ddb.describe_limits()
    assert limits["TableMaxReadCapacityUnits"] > 0
    assert ddb.describe_endpoints()["Endpoints"][0]["Address"]


@pytest.mark.parametrize(
    "arguments,text",
    [
        (
            dict(TableName="abc", AttributeDefinitions=PK, KeySchema=HASH),
            None,
        ),
        (
            dict(TableName="abc", AttributeDefinitions=PK, KeySchema=HASH, BillingMode="PAY_PER_REQUEST",
                 ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}),
            "One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be specified "
            "when BillingMode is PAY_PER_REQUEST",
        ),
        (
            dict(TableName="abc", AttributeDefinitions=[], KeySchema=HASH, BillingMode="PAY_PER_REQUEST"),
            None,
        ),
        (
            dict(TableName="abc", AttributeDefinitions=PK, BillingMode="PAY_PER_REQUEST",
                 KeySchema=HASH + [{"AttributeName": "sk", "KeyType": "RANGE"}]),
            None,
        ),
        (
            dict(TableName="abc", AttributeDefinitions=PK + [{"AttributeName": "x", "AttributeType": "S"}], KeySchema=HASH,
                 BillingMode="PAY_PER_REQUEST"),
            "One or more parameter values were invalid: Number of attributes in KeySchema does not exactly match number of "
            "attributes defined in AttributeDefinitions",
        ),
        (
            dict(TableName="abc", AttributeDefinitions=PK, KeySchema=[{"AttributeName": "pk", "KeyType": "RANGE"}],
                 BillingMode="PAY_PER_REQUEST"),
            None,
        ),
        (
            dict(TableName="a b!", AttributeDefinitions=PK, KeySchema=HASH, BillingMode="PAY_PER_REQUEST"),
            None,
        ),
    ],
)
def test_create_errors(ddb, arguments, text):
    invalid(text, ddb.create_table, **arguments)
    assert "abc" not in ddb.list_tables()["TableNames"]


def test_missing_tables(ddb):
    fails("ResourceNotFoundException", "Requested resource not found: Table: nix not found", ddb.describe_table, TableName="nix")
    fails("ResourceNotFoundException", "Requested resource not found: Table: nix not found", ddb.delete_table, TableName="nix")
    fails("ResourceNotFoundException", None, ddb.update_table, TableName="nix", BillingMode="PAY_PER_REQUEST")
