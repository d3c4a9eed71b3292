"""GetItem."""

import harness
from faults import fails, invalid


def test_absent_item(ddb, simple, key):
    got = ddb.get_item(TableName=simple, Key={"pk": {"S": key}})
    assert "Item" not in got


def test_projection(ddb, simple, key):
    ddb.put_item(
        TableName=simple,
        Item={
            "pk": {"S": key},
            "a": {"M": {"b": {"L": [{"N": "0"}, {"N": "1"}, {"M": {"c": {"S": "x"}, "d": {"S": "y"}}}]}}},
            "size": {"N": "3"},
        },
    )
    got = ddb.get_item(
        TableName=simple,
        Key={"pk": {"S": key}},
        ConsistentRead=True,
        ProjectionExpression="a.b[1], a.b[2].c, #s, nothing.here",
        ExpressionAttributeNames={"#s": "size"},
    )["Item"]
    assert got == {"a": {"M": {"b": {"L": [{"N": "1"}, {"M": {"c": {"S": "x"}}}]}}}, "size": {"N": "3"}}


def test_key_must_match_schema(ddb, simple, ranged):
    text = "The provided key element does not match the schema"
    invalid(text, ddb.get_item, TableName=simple, Key={"other": {"S": "a"}})
    invalid(text, ddb.get_item, TableName=simple, Key={"pk": {"N": "1"}})
    invalid(text, ddb.get_item, TableName=ranged, Key={"pk": {"S": "a"}})
    invalid(text, ddb.get_item, TableName=simple, Key={"pk": {"S": "a"}, "sk": {"S": "b"}})


def test_projection_errors(ddb, simple, key):
    def get(expression, **more):
        return {"TableName": simple, "Key": {"pk": {"S": key}}, "ProjectionExpression": expression, **more}

    invalid("Invalid ProjectionExpression: The expression can not be empty;", ddb.get_item, **get(""))
    invalid(
        "Invalid ProjectionExpression: Attribute name is a reserved keyword; reserved keyword: size",
        ddb.get_item,
        **get("size"),
    )
    invalid(
        "Invalid ProjectionExpression: Two document paths overlap with each other; must remove or rewrite one of "
        "these paths; path one: [a], path two: [a, b]",
        ddb.get_item,
        **get("a, a.b"),
    )
    invalid(
        "Invalid ProjectionExpression: An expression attribute name used in the document path is not defined; "
        "attribute name: #n",
        ddb.get_item,
        **get("#n"),
    )
    invalid("Invalid ProjectionExpression: Syntax error; token: …", ddb.get_item, **get("a b"))
    invalid(None, ddb.get_item, **get("a" + "[0]" * 2000))


def test_capacity(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "v": {"S": "x" * 4100}})

    def units(**more):
        return ddb.get_item(TableName=simple, Key={"pk": {"S": key}}, ReturnConsumedCapacity="TOTAL", **more)[
            "ConsumedCapacity"
        ]["CapacityUnits"]

    assert units(ConsistentRead=True) == 2.0
    harness.wait_until("an eventual read sees the item", lambda: units() == 1.0, timeout_s=5)
    harness.wait_until("another one does, too", lambda: units(ProjectionExpression="pk") == 1.0)
    empty = ddb.get_item(TableName=simple, Key={"pk": {"S": key + "-absent"}}, ReturnConsumedCapacity="TOTAL")
    assert empty["ConsumedCapacity"]["CapacityUnits"] == 0.5


def test_table_name_constraints(ddb):
    invalid(
        "…",
        ddb.get_item,
        TableName="a!",
        Key={"pk": {"S": "a"}},
    )
    fails("ResourceNotFoundException", "Requested resource not found", ddb.get_item, TableName="nope", Key={"pk": {"S": "a"}})


def test_eventual_reads_catch_up(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "v": {"N": "7"}})
    harness.wait_until(
        "an eventual read sees the write",
        lambda: ddb.get_item(TableName=simple, Key={"pk": {"S": key}}).get("Item", {}).get("v") == {"N": "7"},
        timeout_s=5,
    )
