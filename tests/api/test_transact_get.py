"""TransactGetItems."""

import pytest
from botocore.exceptions import ClientError

import harness
from faults import fails, invalid


def get(table, pk, **rest):
    return {"Get": {"TableName": table, "Key": {"pk": {"S": pk}}, **rest}}


def test_items_come_in_order_absent_ones_are_empty(ddb, simple, ranged, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "a": {"N": "1"}, "b": {"N": "2"}})
    ddb.put_item(TableName=ranged, Item={"pk": {"S": key}, "sk": {"S": "x"}, "t": {"S": "y" * 5000}})
    answer = ddb.transact_get_items(
        TransactItems=[
            get(simple, f"{key}-absent"),
            get(simple, key, ProjectionExpression="#b", ExpressionAttributeNames={"#b": "b"}),
            {
                "Get": {
                    "TableName": ranged,
                    "Key": {"pk": {"S": key}, "sk": {"S": "x"}},
                    "ProjectionExpression": "sk",
                }
            },
        ],
        ReturnConsumedCapacity="INDEXES",
    )
    assert answer["Responses"] == [{}, {"Item": {"b": {"N": "2"}}}, {"Item": {"sk": {"S": "x"}}}]

    def consumed(table, units):
        amount = {"CapacityUnits": units, "ReadCapacityUnits": units}
        return {"TableName": table, **amount, "Table": amount}

    assert answer["ConsumedCapacity"] == [consumed(simple, 4.0), consumed(ranged, 4.0)]


def test_validation(ddb, simple, key):
    call = ddb.transact_get_items
    invalid(
        "Transaction request cannot include multiple operations on one item",
        call,
        TransactItems=[get(simple, key), get(simple, key)],
    )
    invalid(
        "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: "
        "Member must have length less than or equal to 100",
        call,
        TransactItems=[get(simple, f"{key}-{i}") for i in range(101)],
    )
    fails("ResourceNotFoundException", None, call, TransactItems=[get("no-such-table", key)])
    with pytest.raises(ClientError) as caught:
        call(TransactItems=[get(simple, key), {"Get": {"TableName": simple, "Key": {"pk": {"N": "1"}}}}])
    error = caught.value.response
    assert error["Error"]["Code"] == "TransactionCanceledException"
    assert error["CancellationReasons"] == [
        {"Code": "None"},
        {"Code": "ValidationError", "Message": "The provided key element does not match the schema"},
    ]


def test_a_hundred_items(ddb, simple, key):
    for i in range(0, 100, 25):
        harness.write_all(ddb, simple, [{"PutRequest": {"Item": {"pk": {"S": f"{key}-{n}"}}}} for n in range(i, i + 25)])
    answer = ddb.transact_get_items(TransactItems=[get(simple, f"{key}-{i}") for i in range(100)])
    assert [r["Item"]["pk"]["S"] for r in answer["Responses"]] == [f"{key}-{i}" for i in range(100)]
