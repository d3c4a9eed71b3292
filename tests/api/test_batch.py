"""BatchWriteItem and BatchGetItem."""

import harness
from faults import fails, invalid


def puts(key, count, **attributes):
    return [{"PutRequest": {"Item": {"pk": {"S": f"{key}-{i}"}, **attributes}}} for i in range(count)]


def test_write_then_get(ddb, simple, key):
    # What a moment's trouble leaves unprocessed is asked for again.
    all_of = lambda call, left, **request: harness.wait_until(f"no {left}", lambda: not (answer := call(**request))[left] and answer)
    answer = all_of(ddb.batch_write_item, "UnprocessedItems", RequestItems={simple: puts(key, 25, v={"N": "1"})})
    assert answer["UnprocessedItems"] == {}
    answer = all_of(
        ddb.batch_get_item,
        "UnprocessedKeys",
        RequestItems={
            simple: {
                "Keys": [{"pk": {"S": f"{key}-{i}"}} for i in range(30)],
                "ConsistentRead": True,
                "ProjectionExpression": "pk",
            }
        },
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer["UnprocessedKeys"] == {}
    assert sorted(i["pk"]["S"] for i in answer["Responses"][simple]) == sorted(f"{key}-{i}" for i in range(25))
    assert answer["ConsumedCapacity"] == [{"TableName": simple, "CapacityUnits": 30.0}]
    harness.write_all(ddb, simple, [{"DeleteRequest": {"Key": {"pk": {"S": f"{key}-{i}"}}}} for i in range(25)])
    answer = ddb.batch_get_item(
        RequestItems={simple: {"Keys": [{"pk": {"S": f"{key}-0"}}], "ConsistentRead": True}}
    )
    assert answer["Responses"][simple] == []


def test_several_tables(ddb, simple, ranged, key):
    writes = {simple: puts(key, 1), ranged: [{"PutRequest": {"Item": {"pk": {"S": key}, "sk": {"S": "x"}}}}]}
    harness.wait_until("the batch is written", lambda: not ddb.batch_write_item(RequestItems=writes)["UnprocessedItems"])
    answer = ddb.batch_get_item(
        RequestItems={
            simple: {"Keys": [{"pk": {"S": f"{key}-0"}}], "ConsistentRead": True},
            ranged: {"Keys": [{"pk": {"S": key}, "sk": {"S": "x"}}], "ConsistentRead": True},
        }
    )
    assert {name: len(items) for name, items in answer["Responses"].items()} == {simple: 1, ranged: 1}


def test_limits(ddb, simple, key):
    invalid(None, ddb.batch_write_item, RequestItems={simple: puts(key, 26)})
    invalid(None, ddb.batch_write_item, RequestItems={})
    invalid(None, ddb.batch_get_item, RequestItems={simple: {"Keys": [{"pk": {"S": str(i)}} for i in range(101)]}})
    invalid("Provided list of item keys contains duplicates", ddb.batch_write_item, RequestItems={simple: puts(key, 1) * 2})
    invalid(
        "Provided list of item keys contains duplicates",
        ddb.batch_get_item,
        RequestItems={simple: {"Keys": [{"pk": {"S": "a"}}] * 2}},
    )
    fails("ResourceNotFoundException", None, ddb.batch_write_item, RequestItems={"no-table": puts(key, 1)})


def test_get_stops_at_16_megabytes(ddb, simple, key):
    for i in range(48):
        ddb.put_item(TableName=simple, Item={"pk": {"S": f"{key}-{i}"}, "v": {"S": "x" * 390_000}})
    wanted = [{"pk": {"S": f"{key}-{i}"}} for i in range(48)]
    answer = ddb.batch_get_item(RequestItems={simple: {"Keys": wanted, "ConsistentRead": True}})
    got = len(answer["Responses"][simple])
    left = answer["UnprocessedKeys"][simple]["Keys"]
    assert 0 < got <= 16 * 1024 * 1024 // 390_000 + 1
    assert got + len(left) == 48
    assert answer["UnprocessedKeys"][simple]["ConsistentRead"] is True
