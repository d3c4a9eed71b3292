"""Query."""

import pytest

import harness
from faults import invalid


@pytest.fixture(scope="module")
def books(ddb, numbered):
    for start in range(0, 100, 25):
        items = [{"pk": {"S": "books"}, "sk": {"N": str(i - 50)}, "even": {"BOOL": i % 2 == 0}} for i in range(start, start + 25)]
        harness.write_all(ddb, numbered, [{"PutRequest": {"Item": item}} for item in items])
    return numbered


def sort_keys(answer):
    return [int(item["sk"]["N"]) for item in answer["Items"]]


def query(ddb, table, condition="pk = :p", values=None, **more):
    return ddb.query(
        TableName=table,
        KeyConditionExpression=condition,
        ExpressionAttributeValues={":p": {"S": "books"}, **(values or {})},
        ConsistentRead=True,
        **more,
    )


def test_all_in_order(ddb, books):
    answer = query(ddb, books)
    assert sort_keys(answer) == list(range(-50, 50))
    assert (answer["Count"], answer["ScannedCount"]) == (100, 100)
    assert "LastEvaluatedKey" not in answer
    assert sort_keys(query(ddb, books, ScanIndexForward=False)) == list(range(49, -51, -1))


@pytest.mark.parametrize(
    "condition,values,expected",
    [
        ("pk = :p AND sk = :a", {":a": {"N": "-3.0"}}, [-3]),
        ("pk = :p AND sk < :a", {":a": {"N": "-47"}}, [-50, -49, -48]),
        ("pk = :p AND sk <= :a", {":a": {"N": "-48"}}, [-50, -49, -48]),
        ("sk > :a AND pk = :p", {":a": {"N": "46"}}, [47, 48, 49]),
        ("pk = :p AND sk >= :a", {":a": {"N": "47.5"}}, [48, 49]),
        ("pk = :p AND sk BETWEEN :a AND :b", {":a": {"N": "-1"}, ":b": {"N": "2"}}, [-1, 0, 1, 2]),
        (":p = pk AND (sk BETWEEN :a AND :b)", {":a": {"N": "-1"}, ":b": {"N": "2"}}, [-1, 0, 1, 2]),
    ],
)
def test_key_conditions(ddb, books, condition, values, expected):
    assert sort_keys(query(ddb, books, condition, values)) == expected
    assert sort_keys(query(ddb, books, condition, values, ScanIndexForward=False)) == expected[::-1]


def test_begins_with(ddb, ranged, key):
    for sk in ("a", "ab", "abc", "ac", "b", "ab\u00ff", "ab\U0001f600"):
        ddb.put_item(TableName=ranged, Item={"pk": {"S": key}, "sk": {"S": sk}})
    answer = ddb.query(
        TableName=ranged,
        KeyConditionExpression="pk = :p AND begins_with(sk, :s)",
        ExpressionAttributeValues={":p": {"S": key}, ":s": {"S": "ab"}},
        ConsistentRead=True,
    )
    assert [i["sk"]["S"] for i in answer["Items"]] == ["ab", "abc", "ab\u00ff", "ab\U0001f600"]


def test_filter_counts_what_it_read(ddb, books):
    answer = query(ddb, books, values={":yes": {"BOOL": True}}, FilterExpression="even = :yes")
    assert (answer["Count"], answer["ScannedCount"]) == (50, 100)
    answer = query(ddb, books, values={":yes": {"BOOL": True}}, FilterExpression="even = :yes", Select="COUNT")
    assert (answer["Count"], answer["ScannedCount"]) == (50, 100)
    assert "Items" not in answer


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_by_limit(ddb, books, forward, limit):
    seen, start, pages = [], {}, 0
    while True:
        answer = query(ddb, books, Limit=limit, ScanIndexForward=forward, **start)
        seen += sort_keys(answer)
        pages += 1
        assert pages < 200
        if "LastEvaluatedKey" not in answer:
            break
        assert set(answer["LastEvaluatedKey"]) == {"pk", "sk"}
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
    assert seen == (list(range(-50, 50)) if forward else list(range(49, -51, -1)))


def test_pages_by_one_megabyte(ddb, numbered, key):
    for i in range(15):
        ddb.put_item(TableName=numbered, Item={"pk": {"S": key}, "sk": {"N": str(i)}, "v": {"S": "x" * 200_000}})
    answer = ddb.query(
        TableName=numbered,
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": {"S": key}},
        ConsistentRead=True,
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer["Count"] in (5, 6) and "LastEvaluatedKey" in answer
    assert answer["ConsumedCapacity"]["CapacityUnits"] == pytest.approx(answer["Count"] * 200_010 / 4096, abs=1.0)
    total = sum(
        page["Count"]
        for page in ddb.get_paginator("query").paginate(
            TableName=numbered,
            KeyConditionExpression="pk = :p",
            ExpressionAttributeValues={":p": {"S": key}},
            ProjectionExpression="sk",
            ConsistentRead=True,
        )
    )
    assert total == 15


def test_errors(ddb, ranged, simple):
    def arguments(condition, table=ranged, **more):
        return {"TableName": table, "KeyConditionExpression": condition, **more}

    p = {":p": {"S": "a"}}
    ps = {":p": {"S": "a"}, ":s": {"S": "b"}}
    invalid("Query condition missed key schema element: pk", ddb.query, **arguments("sk = :p", ExpressionAttributeValues=p))
    invalid("Query key condition not supported", ddb.query, **arguments("pk > :p", ExpressionAttributeValues=p))
    invalid(None, ddb.query, **arguments("pk = :p AND sk <> :s", ExpressionAttributeValues=ps))
    invalid(
        "One or more parameter values were invalid: Condition parameter type does not match schema type",
        ddb.query,
        **arguments("pk = :p", ExpressionAttributeValues={":p": {"N": "1"}}),
    )
    invalid(None, ddb.query, **arguments("pk = :p OR sk = :s", ExpressionAttributeValues=ps))
    invalid(None, ddb.query, **arguments("pk = :p AND other = :s", ExpressionAttributeValues=ps))
    invalid(
        "Filter Expression can only contain non-primary key attributes: Primary key attribute: pk",
        ddb.query,
        **arguments("pk = :p", ExpressionAttributeValues=p, FilterExpression="pk = :p"),
    )
    invalid("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.", ddb.query, TableName=ranged)
    invalid(
        "The provided starting key is invalid…",
        ddb.query,
        **arguments("pk = :p", ExpressionAttributeValues=p, ExclusiveStartKey={"pk": {"S": "a"}}),
    )
    invalid(
        None,
        ddb.query,
        **arguments("pk = :p", ExpressionAttributeValues=p, Select="SPECIFIC_ATTRIBUTES"),
    )
    invalid(None, ddb.query, **arguments("pk = :p AND sk BETWEEN :s AND :p", ExpressionAttributeValues=ps))
