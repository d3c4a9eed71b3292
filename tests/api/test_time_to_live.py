"""Time to live: switching it on, what is refused, and what is deleted."""

import time

import pytest
from botocore.exceptions import ClientError

import harness
from shards import Reader


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def enable(ddb, table, attribute="ttl"):
    specification = {"AttributeName": attribute, "Enabled": True}
    assert ddb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)["TimeToLiveSpecification"] == specification
    harness.wait_until("it is enabled", lambda: status(ddb, table)["TimeToLiveStatus"] == "ENABLED")


def status(ddb, table):
    return ddb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]


def test_expired_items_go_and_their_records_name_the_service(endpoint, ddb, table_of):
    table = table_of(StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"})
    now = int(time.time())
    values = {
        "expired": {"N": str(now - 10)},
        "later": {"N": str(now + 3600)},
        "ancient": {"N": str(now - 6 * 365 * 86400)},
        "text": {"S": str(now - 10)},
        "zero": {"N": "0"},
    }
    for key, value in values.items():
        ddb.put_item(TableName=table, Item={"pk": {"S": key}, "ttl": value})
    ddb.put_item(TableName=table, Item={"pk": {"S": "none"}})
    enable(ddb, table)
    assert status(ddb, table) == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}

    def left():
        return {item["pk"]["S"] for item in ddb.scan(TableName=table, ConsistentRead=True)["Items"]}

    harness.wait_until("the expired item is gone", lambda: "expired" not in left())
    assert left() == {"later", "ancient", "text", "zero", "none"}
    streams = harness.client(endpoint.url, service="dynamodbstreams")
    reader = Reader(streams, ddb.describe_table(TableName=table)["Table"]["LatestStreamArn"])
    harness.wait_until("its record is there", lambda: reader.round() is not None and len(reader.records) >= 7)
    [removed] = [record for record in reader.records if record["eventName"] == "REMOVE"]
    assert removed["userIdentity"] == {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    assert removed["dynamodb"]["OldImage"]["pk"] == {"S": "expired"}
    assert all("userIdentity" not in record for record in reader.records if record is not removed)


def test_changes_are_checked(ddb, table_of):
    table = table_of()
    assert status(ddb, table) == {"TimeToLiveStatus": "DISABLED"}

    def change(attribute, enabled):
        specification = {"AttributeName": attribute, "Enabled": enabled}
        return refused(ddb.update_time_to_live, TableName=table, TimeToLiveSpecification=specification)

    assert change("ttl", False) == ("ValidationException", "TimeToLive is already disabled")
    enable(ddb, table)
    assert change("ttl", True) == ("ValidationException", "TimeToLive is already enabled")
    other = "TimeToLive is active on a different AttributeName: current AttributeName is ttl"
    assert change("other", True) == ("ValidationException", other)
    assert change("other", False) == ("ValidationException", other)
    lately = "Time to live has been modified multiple times within a fixed interval"
    assert change("ttl", False) == ("ValidationException", lately)
    loose = harness.client(ddb.meta.endpoint_url, parameter_validation=False)
    code, message = refused(loose.update_time_to_live, TableName=table)
    assert code == "ValidationException" and "timeToLiveSpecification" in message
    nothing = {"AttributeName": "a", "Enabled": True}
    code, message = refused(ddb.update_time_to_live, TableName="no-such-table", TimeToLiveSpecification=nothing)
    assert code == "ResourceNotFoundException"
