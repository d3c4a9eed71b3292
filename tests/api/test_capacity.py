"""Capacity units: what operations report to have cost, and what a client hears when a partition has none left."""

import pytest
from botocore.exceptions import ClientError

import harness
from conftest import KINDS, make_table


def of_size(key, size, **more):
    """An item of exactly `size` bytes as DynamoDB counts."""
    item = {"pk": {"S": key}, **more, "x": {"S": ""}}
    used = sum(len(name) + len(next(iter(value.values()))) for name, value in item.items())
    item["x"] = {"S": "x" * (size - used)}
    return item


def cost(answer):
    return answer["ConsumedCapacity"]["CapacityUnits"]


ASKED = {"ReturnConsumedCapacity": "TOTAL"}


@pytest.mark.parametrize("size,units", [(20, 1), (1023, 1), (1024, 1), (1025, 2), (2048, 2), (2049, 3), (400 * 1024, 400)])
def test_writes_cost_a_unit_a_kilobyte(ddb, simple, key, size, units):
    where = {"TableName": simple, "Key": {"pk": {"S": key}}}
    small = {"pk": {"S": key}}
    put = lambda item: cost(ddb.put_item(TableName=simple, Item=item, **ASKED))
    assert put(of_size(key, size)) == units
    assert put(small) == units, "the larger of before and after"
    assert put(of_size(key, size)) == units
    with pytest.raises(ClientError):
        # a failed condition says nothing of its cost
        ddb.put_item(TableName=simple, Item=small, ConditionExpression="attribute_not_exists(pk)", **ASKED)
    change = {"UpdateExpression": "REMOVE x", **ASKED}
    assert cost(ddb.update_item(**where, **change)) == units, "the larger of before and after"
    assert cost(ddb.update_item(**where, **change)) == 1
    x = of_size(key, size)["x"]
    assert cost(ddb.update_item(**where, UpdateExpression="SET x = :x", ExpressionAttributeValues={":x": x}, **ASKED)) == units
    assert cost(ddb.delete_item(**where, **ASKED)) == units
    assert cost(ddb.delete_item(**where, **ASKED)) == 1, "of nothing"
    assert cost(ddb.update_item(**where, **change)) == 1, "of nothing"


@pytest.mark.parametrize("size,units", [(20, 1), (4095, 1), (4096, 1), (4097, 2), (8192, 2), (8193, 3), (400 * 1024, 100)])
def test_reads_cost_a_unit_for_four_kilobytes_and_eventual_ones_half(ddb, simple, key, size, units):
    where = {"TableName": simple, "Key": {"pk": {"S": key}}}
    ddb.put_item(TableName=simple, Item=of_size(key, size))
    read = lambda **more: cost(ddb.get_item(**where, **more, **ASKED))
    assert read(ConsistentRead=True) == units
    assert read(ConsistentRead=True, ProjectionExpression="pk") == units, "the whole item is read"
    # an eventual read may not see the item yet
    seen = lambda: "Item" in (answer := ddb.get_item(**where, **ASKED)) and answer
    assert cost(harness.wait_until("a replica serves it", seen)) == units / 2
    absent = {"TableName": simple, "Key": {"pk": {"S": key + "-absent"}}}
    assert cost(ddb.get_item(**absent, ConsistentRead=True, **ASKED)) == 1
    assert cost(ddb.get_item(**absent, **ASKED)) == 0.5


def test_pages_are_rounded_once_before_the_filter(ddb, ranged, key):
    # 5 items of 1,000 bytes: 5,000 bytes are two units, not five
    for number in range(5):
        ddb.put_item(TableName=ranged, Item=of_size(key, 1000, sk={"S": str(number)}))
    query = {
        "TableName": ranged,
        "KeyConditionExpression": "pk = :p",
        "ConsistentRead": True,
        **ASKED,
    }
    values = {":p": {"S": key}}
    read = lambda more={}, **options: cost(ddb.query(**query, ExpressionAttributeValues={**values, **more}, **options))
    assert read() == 2
    assert read({":n": {"S": "none"}}, FilterExpression="x = :n") == 2, "what the filter drops was read"
    assert read(ProjectionExpression="pk") == 2
    assert read(Select="COUNT") == 2
    assert read(Limit=4) == 1
    assert cost(ddb.query(**query, ExpressionAttributeValues={":p": {"S": key + "-absent"}})) == 1


def test_scans_cost_what_they_read(ddb, table_of):
    table = table_of()
    scan = lambda **more: cost(ddb.scan(TableName=table, ConsistentRead=True, **more, **ASKED))
    assert scan() == 1
    for number in range(9):
        ddb.put_item(TableName=table, Item=of_size(f"k{number}", 1000))
    assert scan() == 3
    assert scan(Limit=4) == 1
    assert scan(Limit=5) == 2
    assert scan(FilterExpression="attribute_not_exists(pk)") == 3


def test_batches_cost_an_item_at_a_time(ddb, simple, ranged, key):
    writes = {
        simple: [{"PutRequest": {"Item": of_size(f"{key}-{n}", size)}} for n, size in enumerate([1024, 1025])]
        + [{"DeleteRequest": {"Key": {"pk": {"S": f"{key}-absent"}}}}],
        ranged: [{"PutRequest": {"Item": of_size(key, 2049, sk={"S": "a"})}}],
    }
    answer = ddb.batch_write_item(RequestItems=writes, **ASKED)
    by_table = lambda answer: {used["TableName"]: used["CapacityUnits"] for used in answer["ConsumedCapacity"]}
    assert by_table(answer) == {simple: 4, ranged: 3}
    reads = {
        simple: {"Keys": [{"pk": {"S": f"{key}-{n}"}} for n in (0, 1, "absent")], "ConsistentRead": True},
        ranged: {"Keys": [{"pk": {"S": key}, "sk": {"S": "b"}}]},
    }
    assert by_table(ddb.batch_get_item(RequestItems=reads, **ASKED)) == {simple: 3, ranged: 0.5}


def test_the_detail_is_what_was_asked_for(ddb, simple, key):
    item = {"pk": {"S": key}}
    put = lambda **more: ddb.put_item(TableName=simple, Item=item, **more)
    assert "ConsumedCapacity" not in put()
    assert "ConsumedCapacity" not in put(ReturnConsumedCapacity="NONE")
    assert put(ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"] == {"TableName": simple, "CapacityUnits": 1}
    assert put(ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"] == {
        "TableName": simple,
        "CapacityUnits": 1,
        "Table": {"CapacityUnits": 1},
    }
    batch = ddb.batch_get_item(RequestItems={simple: {"Keys": [item]}}, ReturnConsumedCapacity="INDEXES")
    [used] = batch["ConsumedCapacity"]
    assert used["Table"] == {"CapacityUnits": used["CapacityUnits"]}


# What follows has an endpoint of its own whose partitions have one unit a second: a full bucket admits a large item, and then owes for
# minutes. So nothing here depends on how fast the machine is.

LARGE = 300 * 1024


@pytest.fixture(scope="module", params=KINDS)
def small(request):
    """A client of a deployment with small partitions."""
    kind = {"dev": harness.Dev, "mesh": harness.Mesh}[request.param]
    caps = {"PARTITION_READ_UNITS_MAX": "1", "PARTITION_WRITE_UNITS_MAX": "1", "BURST_S": "0"}
    settings = {f"EVENKEEL_STORAGE__ADMISSION__{name}": value for name, value in caps.items()}
    target = kind({**harness.UNTHROTTLED, **settings})
    try:
        target.start()
        yield harness.client(target.url)
    finally:
        target.close()


PROVISIONED = {
    "BillingMode": "PROVISIONED",
    "ProvisionedThroughput": {"ReadCapacityUnits": 1000, "WriteCapacityUnits": 1000},
}


def throttled(kind, field, reason, table, call, /, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    assert response["Error"]["Code"] == kind, response
    assert response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response[field] == [{"reason": reason, "resource": f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}"}]


@pytest.mark.parametrize(
    "options,kind,field",
    [
        (PROVISIONED, "ProvisionedThroughputExceededException", "ThrottlingReasons"),
        ({}, "ThrottlingException", "throttlingReasons"),
    ],
)
def test_a_partition_without_units_says_so(small, options, kind, field):
    table = make_table(small, **options)
    hot = {"pk": {"S": "hot"}}
    small.put_item(TableName=table, Item=of_size("hot", LARGE))
    write = "TableWriteKeyRangeThroughputExceeded"
    item = {**hot, "late": {"BOOL": True}}
    throttled(kind, field, write, table, small.put_item, TableName=table, Item=item)
    throttled(kind, field, write, table, small.delete_item, TableName=table, Key=hot)
    update = {"UpdateExpression": "REMOVE x"}
    throttled(kind, field, write, table, small.update_item, TableName=table, Key=hot, **update)
    read = {"TableName": table, "ConsistentRead": True}
    found = small.get_item(Key=hot, **read)["Item"]
    assert len(found["x"]["S"]) > LARGE - 100 and "late" not in found, "what was refused has no effect"
    reason = "TableReadKeyRangeThroughputExceeded"
    throttled(kind, field, reason, table, small.get_item, Key=hot, **read)
    query = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": hot["pk"]}}
    throttled(kind, field, reason, table, small.query, **query, **read)


def test_a_batch_leaves_unprocessed_what_is_throttled(small):
    hot, cold = make_table(small, **PROVISIONED), make_table(small, **PROVISIONED)
    small.put_item(TableName=hot, Item=of_size("hot", LARGE))
    small.get_item(TableName=hot, Key={"pk": {"S": "hot"}}, ConsistentRead=True)
    put = [{"PutRequest": {"Item": {"pk": {"S": "hot"}}}}]
    answer = small.batch_write_item(RequestItems={hot: put, cold: put}, **ASKED)
    assert answer["UnprocessedItems"] == {hot: put}
    assert {"TableName": cold, "CapacityUnits": 1} in answer["ConsumedCapacity"]
    keys = {"Keys": [{"pk": {"S": "hot"}}], "ConsistentRead": True}
    answer = small.batch_get_item(RequestItems={hot: keys, cold: keys})
    assert answer["UnprocessedKeys"] == {hot: keys}
    assert answer["Responses"] == {hot: [], cold: [{"pk": {"S": "hot"}}]}
    # nothing of it could be done
    kind, field = "ProvisionedThroughputExceededException", "ThrottlingReasons"
    reason = "TableWriteKeyRangeThroughputExceeded"
    throttled(kind, field, reason, hot, small.batch_write_item, RequestItems={hot: put})
    reason = "TableReadKeyRangeThroughputExceeded"
    throttled(kind, field, reason, hot, small.batch_get_item, RequestItems={hot: keys})
