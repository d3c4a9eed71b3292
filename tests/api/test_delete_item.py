"""DeleteItem."""

from faults import fails, invalid


def test_delete_returns_the_old_item(ddb, simple, key):
    item = {"pk": {"S": key}, "v": {"S": "x"}}
    ddb.put_item(TableName=simple, Item=item)
    assert ddb.delete_item(TableName=simple, Key={"pk": {"S": key}}, ReturnValues="ALL_OLD")["Attributes"] == item
    assert "Item" not in ddb.get_item(TableName=simple, Key={"pk": {"S": key}}, ConsistentRead=True)
    again = ddb.delete_item(TableName=simple, Key={"pk": {"S": key}}, ReturnValues="ALL_OLD")
    assert "Attributes" not in again


def test_condition(ddb, simple, key):
    fails(
        "ConditionalCheckFailedException",
        "The conditional request failed",
        ddb.delete_item,
        TableName=simple,
        Key={"pk": {"S": key}},
        ConditionExpression="attribute_exists(pk)",
    )


def test_errors(ddb, simple, key):
    invalid("The provided key element does not match the schema", ddb.delete_item, TableName=simple, Key={"x": {"S": "a"}})
    invalid("ReturnValues can only be ALL_OLD or NONE", ddb.delete_item, TableName=simple, Key={"pk": {"S": key}}, ReturnValues="ALL_NEW")


def test_capacity_follows_the_deleted_item(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "v": {"S": "x" * 3000}})
    used = ddb.delete_item(TableName=simple, Key={"pk": {"S": key}}, ReturnConsumedCapacity="TOTAL")
    assert used["ConsumedCapacity"]["CapacityUnits"] == 3.0
    used = ddb.delete_item(TableName=simple, Key={"pk": {"S": key}}, ReturnConsumedCapacity="TOTAL")
    assert used["ConsumedCapacity"]["CapacityUnits"] == 1.0
