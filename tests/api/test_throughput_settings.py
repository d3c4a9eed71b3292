"""Throughput as tables define it: billing modes, units, maximum, warm throughput, quotas. What is enforced is tested elsewhere."""

import json
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

import harness
from faults import fails, invalid

PK = [{"AttributeName": "pk", "AttributeType": "S"}]
HASH = [{"AttributeName": "pk", "KeyType": "HASH"}]
KEYS = dict(AttributeDefinitions=PK, KeySchema=HASH)


def units(reads, writes):
    return {"ReadCapacityUnits": reads, "WriteCapacityUnits": writes}


def settled(ddb, name):
    return harness.wait_until(
        f"{name} is active",
        lambda: (table := ddb.describe_table(TableName=name)["Table"])["TableStatus"] == "ACTIVE" and table,
    )


def raw(endpoint, operation, body):
    """Status and JSON answer of a signed call whose body boto3 would not send."""
    request = botocore.awsrequest.AWSRequest(
        "POST", endpoint.url + "/", data=body,
        headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"DynamoDB_20120810.{operation}"},
    )
    credentials = botocore.credentials.Credentials("evenkeel", "evenkeel")
    botocore.auth.SigV4Auth(credentials, "dynamodb", "us-east-1").add_auth(request)
    sent = urllib.request.Request(endpoint.url + "/", data=body.encode(), headers=dict(request.headers), method="POST")
    try:
        with urllib.request.urlopen(sent, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    "reads,text",
    [
        ("0", "1 validation error detected: Value '0' at 'provisionedThroughput.readCapacityUnits' failed to satisfy "
              "constraint: Member must have value greater than or equal to 1"),
        ("-1", "1 validation error detected: Value '-1' at 'provisionedThroughput.readCapacityUnits' failed to satisfy "
               "constraint: Member must have value greater than or equal to 1"),
        ("1.5", "DECIMAL_VALUE cannot be converted to Long"),
        ("1e30", "DECIMAL_VALUE cannot be converted to Long"),
        ("9223372036854775808", "NUMBER_VALUE cannot be converted to Long"),
        ("9223372036854775807", "Given value 9223372036854775807 for ReadCapacityUnits is out of bounds"),
        ('"7"', "STRING_VALUE cannot be converted to Long"),
        ("true", "TRUE_VALUE cannot be converted to Long"),
    ],
)
def test_units_that_are_none(endpoint, reads, text):
    body = (
        '{"TableName":"none","AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}],'
        '"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],'
        f'"ProvisionedThroughput":{{"ReadCapacityUnits":{reads},"WriteCapacityUnits":1}}}}'
    )
    status, answer = raw(endpoint, "CreateTable", body)
    assert status == 400 and answer.get("message", answer.get("Message")) == text, answer


def test_quotas_of_tables_and_account(ddb, table_of):
    limits = ddb.describe_limits()
    table_max, account_max = limits["TableMaxReadCapacityUnits"], limits["AccountMaxWriteCapacityUnits"]
    assert (table_max, account_max) == (40_000, 80_000)
    fails(
        "LimitExceededException",
        f"The requested ReadCapacityUnits, {table_max + 1}, is above the per table maximum for the account in us-east-1. "
        f"Per table maximum: {table_max}. Refer to the Amazon DynamoDB Developer Guide for current limits and how to request "
        "higher limits.",
        ddb.create_table, TableName="large", ProvisionedThroughput=units(table_max + 1, 1), **KEYS,
    )
    name = table_of(BillingMode="PROVISIONED", ProvisionedThroughput=units(1, 1))
    other = table_of(BillingMode="PROVISIONED", ProvisionedThroughput=units(1, 1))
    # One partition each, so no time goes by with making more: the table exists already.
    for grown in (name, other):
        ddb.update_table(TableName=grown, ProvisionedThroughput=units(1, 39_000))
        settled(ddb, grown)
    error = fails("LimitExceededException", None, ddb.create_table, TableName="more", ProvisionedThroughput=units(1, 5_000), **KEYS)
    message = error["Error"]["Message"]
    assert message.startswith(
        "This request would have caused the WriteCapacityUnits limit to be exceeded for the account in us-east-1. "
        "Current WriteCapacityUnits reserved by the account: "
    ), message
    assert "Limit: 80000. Requested: 5000." in message
    assert "more" not in ddb.list_tables()["TableNames"]


def test_changes_of_provisioned_throughput(ddb, table_of):
    name = table_of(BillingMode="PROVISIONED", ProvisionedThroughput=units(10, 10))
    invalid(None, ddb.update_table, TableName=name, ProvisionedThroughput=units(10, 10))
    for reads in (9, 8, 7, 6):
        ddb.update_table(TableName=name, ProvisionedThroughput=units(reads, 10))
        settled(ddb, name)
    throughput = settled(ddb, name)["ProvisionedThroughput"]
    assert throughput["NumberOfDecreasesToday"] in (1, 2, 3, 4) and throughput["LastDecreaseDateTime"]
    if throughput["NumberOfDecreasesToday"] == 4:  # else it was midnight meanwhile
        error = fails("LimitExceededException", None, ddb.update_table, TableName=name, ProvisionedThroughput=units(5, 10))
        assert "Number of decreases today: 4. Last decrease at " in error["Error"]["Message"]
    ddb.update_table(TableName=name, ProvisionedThroughput=units(6, 20))
    table = settled(ddb, name)
    assert table["ProvisionedThroughput"]["LastIncreaseDateTime"]
    assert table["WarmThroughput"] == {"ReadUnitsPerSecond": 10, "WriteUnitsPerSecond": 20, "Status": "ACTIVE"}


def test_maximum_of_on_demand_tables(ddb, table_of):
    for value in (0, -1, -2):
        invalid(
            "One or more parameter values were invalid: Requested MaxReadRequestUnits for OnDemandThroughput for table is "
            "outside of valid range",
            ddb.create_table, TableName="nix", BillingMode="PAY_PER_REQUEST", OnDemandThroughput={"MaxReadRequestUnits": value},
            **KEYS,
        )
    invalid(
        "One or more parameter values were invalid: MaxReadRequestUnits for OnDemandThroughput cannot be specified when table "
        "BillingMode is PROVISIONED.",
        ddb.create_table, TableName="nix", ProvisionedThroughput=units(1, 1), OnDemandThroughput={"MaxReadRequestUnits": 5},
        **KEYS,
    )
    fails(
        "LimitExceededException",
        "Subscriber limit exceeded: Requested MaxWriteRequestUnits for OnDemandThroughput for table exceeds "
        "TableMaxWriteCapacityUnits of the account in region us-east-1",
        ddb.create_table, TableName="nix", BillingMode="PAY_PER_REQUEST", OnDemandThroughput={"MaxWriteRequestUnits": 40_001},
        **KEYS,
    )
    name = table_of(OnDemandThroughput={"MaxReadRequestUnits": 100})
    assert settled(ddb, name)["OnDemandThroughput"] == {"MaxReadRequestUnits": 100}
    shown = ddb.update_table(TableName=name, OnDemandThroughput={"MaxWriteRequestUnits": 50})["TableDescription"]
    assert shown["TableStatus"] == "ACTIVE"
    # The table need not be waited for.
    shown = ddb.update_table(TableName=name, OnDemandThroughput={"MaxWriteRequestUnits": 40})["TableDescription"]
    assert shown["OnDemandThroughput"] == {"MaxReadRequestUnits": 100, "MaxWriteRequestUnits": 40}
    ddb.update_table(TableName=name, OnDemandThroughput={"MaxWriteRequestUnits": 50})
    assert settled(ddb, name)["OnDemandThroughput"] == {"MaxReadRequestUnits": 100, "MaxWriteRequestUnits": 50}
    ddb.update_table(TableName=name, OnDemandThroughput={"MaxReadRequestUnits": -1, "MaxWriteRequestUnits": -1})
    assert "OnDemandThroughput" not in settled(ddb, name)


def test_warm_throughput_never_sinks(ddb, table_of):
    name = table_of(WarmThroughput={"ReadUnitsPerSecond": 12_001})
    assert settled(ddb, name)["WarmThroughput"] == {"ReadUnitsPerSecond": 12_001, "WriteUnitsPerSecond": 4_000, "Status": "ACTIVE"}
    shown = ddb.update_table(TableName=name, WarmThroughput={"WriteUnitsPerSecond": 5_000})["TableDescription"]
    assert (shown["TableStatus"], shown["WarmThroughput"]["Status"]) == ("ACTIVE", "UPDATING")
    warm = {"ReadUnitsPerSecond": 12_001, "WriteUnitsPerSecond": 5_000, "Status": "ACTIVE"}
    harness.wait_until("it is warm", lambda: ddb.describe_table(TableName=name)["Table"]["WarmThroughput"] == warm, timeout_s=90)
    invalid(
        "One or more parameter values were invalid: Requested ReadUnitsPerSecond for WarmThroughput for table is lower than "
        "current WarmThroughput, decreasing WarmThroughput is not supported",
        ddb.update_table, TableName=name, WarmThroughput={"ReadUnitsPerSecond": 12_000},
    )
    fails(
        "LimitExceededException",
        "Subscriber limit exceeded: Requested ReadUnitsPerSecond for WarmThroughput for table exceeds "
        "TableMaxReadCapacityUnits of the account in region us-east-1",
        ddb.update_table, TableName=name, WarmThroughput={"ReadUnitsPerSecond": 40_001},
    )
