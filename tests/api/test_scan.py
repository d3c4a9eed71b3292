"""Scan."""

import pytest

import harness
from faults import invalid


@pytest.fixture(scope="module")
def stock(ddb):
    from conftest import make_table

    name = make_table(ddb, range_type="N")
    for start in range(0, 300, 25):
        items = [{"pk": {"S": f"p{i % 40}"}, "sk": {"N": str(i)}, "v": {"N": str(i)}} for i in range(start, start + 25)]
        harness.write_all(ddb, name, [{"PutRequest": {"Item": item}} for item in items])
    yield name
    ddb.delete_table(TableName=name)


def scan_all(ddb, table, **more):
    seen, start, pages = [], {}, 0
    while True:
        answer = ddb.scan(TableName=table, ConsistentRead=True, **more, **start)
        seen += [int(i["sk"]["N"]) for i in answer["Items"]]
        pages += 1
        assert pages < 1000
        if "LastEvaluatedKey" not in answer:
            return seen
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


@pytest.mark.parametrize("limit", [None, 1, 13, 300, 1000])
def test_every_item_once(ddb, stock, limit):
    more = {} if limit is None else {"Limit": limit}
    assert sorted(scan_all(ddb, stock, **more)) == list(range(300))


@pytest.mark.parametrize("segments", [1, 2, 3, 7, 64])
def test_segments_are_disjoint_and_whole(ddb, stock, segments):
    seen = []
    for segment in range(segments):
        seen += scan_all(ddb, stock, Segment=segment, TotalSegments=segments, Limit=50)
    assert sorted(seen) == list(range(300))


def test_filter_projection_count(ddb, stock):
    answer = ddb.scan(
        TableName=stock,
        ConsistentRead=True,
        FilterExpression="v >= :v",
        ProjectionExpression="v",
        ExpressionAttributeValues={":v": {"N": "290"}},
    )
    assert sorted(int(i["v"]["N"]) for i in answer["Items"]) == list(range(290, 300))
    assert all(set(i) == {"v"} for i in answer["Items"])
    assert (answer["Count"], answer["ScannedCount"]) == (10, 300)
    assert ddb.scan(TableName=stock, ConsistentRead=True, Select="COUNT")["Count"] == 300


def test_empty_table(ddb, table_of):
    answer = ddb.scan(TableName=table_of(), ConsistentRead=True, ReturnConsumedCapacity="TOTAL")
    assert (answer["Items"], answer["Count"], answer["ScannedCount"]) == ([], 0, 0)
    assert "LastEvaluatedKey" not in answer


def test_errors(ddb, stock):
    invalid(
        "The TotalSegments parameter is required but was not present in the request when Segment parameter is present",
        ddb.scan, TableName=stock, Segment=0,
    )
    invalid(
        "The Segment parameter is required but was not present in the request when parameter TotalSegments is present",
        ddb.scan, TableName=stock, TotalSegments=2,
    )
    invalid(
        "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 2 is not less than "
        "TotalSegments: 2",
        ddb.scan, TableName=stock, Segment=2, TotalSegments=2,
    )
    invalid(None, ddb.scan, TableName=stock, ExclusiveStartKey={"pk": {"S": "a"}})
    invalid("Invalid FilterExpression: The expression can not be empty;", ddb.scan, TableName=stock, FilterExpression="")
