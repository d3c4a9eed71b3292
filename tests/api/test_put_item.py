"""PutItem."""

import pytest

from faults import fails, invalid


def test_round_trip_of_every_type(ddb, simple, key):
    item = {
        "pk": {"S": key},
        "s": {"S": "é🙂"},
        "empty": {"S": ""},
        "n": {"N": "-12.50"},
        "b": {"B": b"\x00\xff"},
        "emptyb": {"B": b""},
        "yes": {"BOOL": True},
        "no": {"BOOL": False},
        "null": {"NULL": True},
        "ss": {"SS": ["b", "a"]},
        "ns": {"NS": ["2", "1.0"]},
        "bs": {"BS": [b"2", b"1"]},
        "l": {"L": [{"S": "x"}, {"L": []}, {"M": {}}]},
        "m": {"M": {"deep": {"M": {"er": {"N": "1"}}}}},
    }
    assert "Attributes" not in ddb.put_item(TableName=simple, Item=item)
    got = ddb.get_item(TableName=simple, Key={"pk": {"S": key}}, ConsistentRead=True)["Item"]
    assert sorted(got) == sorted(item)
    assert got["n"] == {"N": "-12.5"}
    assert sorted(got["ss"]["SS"]) == ["a", "b"]
    assert sorted(got["ns"]["NS"]) == ["1", "2"]
    assert sorted(got["bs"]["BS"]) == [b"1", b"2"]
    for name in ("s", "empty", "b", "emptyb", "yes", "no", "null", "l", "m"):
        assert got[name] == item[name], name


@pytest.mark.parametrize(
    "text,normal",
    [
        ("0", "0"),
        ("-0", "0"),
        ("1e2", "100"),
        ("0.00010", "0.0001"),
        ("1234567890123456789012345678901234567.8", "1234567890123456789012345678901234567.8"),
        ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
        ("+5", "5"),
        ("  7  ", None),
        ("1e126", None),
        ("1e-131", None),
        ("1e999999999999", None),
        ("123456789012345678901234567890123456789", None),
        ("abc", None),
        ("", None),
        ("NaN", None),
        ("0x10", None),
    ],
)
def test_numbers(ddb, simple, key, text, normal):
    item = {"pk": {"S": key}, "n": {"N": text}}
    if normal is None:
        invalid(None, ddb.put_item, TableName=simple, Item=item)
    else:
        ddb.put_item(TableName=simple, Item=item)
        assert ddb.get_item(TableName=simple, Key={"pk": {"S": key}}, ConsistentRead=True)["Item"]["n"] == {"N": normal}


def test_number_error_texts(ddb, simple, key):
    def put(text):
        return {"TableName": simple, "Item": {"pk": {"S": key}, "n": {"N": text}}}

    invalid("The parameter cannot be converted to a numeric value: abc", ddb.put_item, **put("abc"))
    invalid("The parameter cannot be converted to a numeric value", ddb.put_item, **put(""))
    invalid("Attempting to store more than 38 significant digits in a Number", ddb.put_item, **put("1" * 39))
    invalid(
        "Number overflow. Attempting to store a number with magnitude larger than supported range",
        ddb.put_item,
        **put("1e126"),
    )
    invalid(
        "Number underflow. Attempting to store a number with magnitude smaller than supported range",
        ddb.put_item,
        **put("1e-131"),
    )


def test_missing_table(ddb):
    response = fails(
        "ResourceNotFoundException",
        "Requested resource not found",
        ddb.put_item,
        TableName="no-such-table",
        Item={"pk": {"S": "a"}},
    )
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_key_errors(ddb, ranged):
    invalid(
        "One or more parameter values were invalid: Missing the key sk in the item",
        ddb.put_item,
        TableName=ranged,
        Item={"pk": {"S": "a"}},
    )
    invalid(
        "One or more parameter values were invalid: Type mismatch for key sk expected: S actual: N",
        ddb.put_item,
        TableName=ranged,
        Item={"pk": {"S": "a"}, "sk": {"N": "1"}},
    )
    invalid(
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an "
        "empty string value. Key: pk",
        ddb.put_item,
        TableName=ranged,
        Item={"pk": {"S": ""}, "sk": {"S": "a"}},
    )


def test_key_size_limits(ddb, ranged):
    ddb.put_item(TableName=ranged, Item={"pk": {"S": "p" * 2048}, "sk": {"S": "s" * 1024}})
    got = ddb.get_item(TableName=ranged, Key={"pk": {"S": "p" * 2048}, "sk": {"S": "s" * 1024}}, ConsistentRead=True)
    assert got["Item"]["sk"]["S"] == "s" * 1024
    invalid(
        "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes",
        ddb.put_item,
        TableName=ranged,
        Item={"pk": {"S": "p" * 2049}, "sk": {"S": "s"}},
    )
    invalid(
        "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit "
        "of 1024 bytes",
        ddb.put_item,
        TableName=ranged,
        Item={"pk": {"S": "p"}, "sk": {"S": "s" * 1025}},
    )


def test_item_size_limit(ddb, simple, key):
    room = 400 * 1024 - len("pk") - len(key) - len("v")
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "v": {"S": "x" * room}})
    got = ddb.get_item(TableName=simple, Key={"pk": {"S": key}}, ConsistentRead=True)
    assert len(got["Item"]["v"]["S"]) == room
    invalid(
        "Item size has exceeded the maximum allowed size",
        ddb.put_item,
        TableName=simple,
        Item={"pk": {"S": key}, "v": {"S": "x" * (room + 1)}},
    )


def nested(levels):
    value = {"S": "x"}
    for _ in range(levels):
        value = {"L": [value]}
    return value


def test_nesting_limit(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "v": nested(31)})
    invalid(
        "Nesting Levels have exceeded supported limits…",
        ddb.put_item,
        TableName=simple,
        Item={"pk": {"S": key}, "v": nested(33)},
    )


def test_sets(ddb, simple, key):
    invalid(
        "One or more parameter values were invalid: Input collection [a, a] contains duplicates.",
        ddb.put_item,
        TableName=simple,
        Item={"pk": {"S": key}, "v": {"SS": ["a", "a"]}},
    )
    invalid(
        "One or more parameter values were invalid: An string set  may not be empty",
        ddb.put_item,
        TableName=simple,
        Item={"pk": {"S": key}, "v": {"SS": []}},
    )
    invalid(None, ddb.put_item, TableName=simple, Item={"pk": {"S": key}, "v": {"NS": ["1", "1.0"]}})


def test_condition_and_return_values(ddb, simple, key):
    first = {"pk": {"S": key}, "v": {"N": "1"}}
    ddb.put_item(TableName=simple, Item=first, ConditionExpression="attribute_not_exists(pk)")
    response = fails(
        "ConditionalCheckFailedException",
        "The conditional request failed",
        ddb.put_item,
        TableName=simple,
        Item=first,
        ConditionExpression="attribute_not_exists(pk)",
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )
    assert response["Item"] == first
    old = ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "v": {"N": "2"}}, ReturnValues="ALL_OLD")
    assert old["Attributes"] == first
    invalid("ReturnValues can only be ALL_OLD or NONE", ddb.put_item, TableName=simple, Item=first, ReturnValues="ALL_NEW")


def test_consumed_capacity(ddb, simple, key):
    def units(size):
        used = ddb.put_item(
            TableName=simple,
            Item={"pk": {"S": key}, "v": {"S": "x" * (size - 3 - len(key))}},
            ReturnConsumedCapacity="TOTAL",
        )["ConsumedCapacity"]
        assert used["TableName"] == simple
        return used["CapacityUnits"]

    assert units(1024) == 1.0
    assert units(1025) == 2.0
    assert units(100) == 2.0  # the larger of old and new
    assert units(100) == 1.0
    detailed = ddb.put_item(TableName=simple, Item={"pk": {"S": key}}, ReturnConsumedCapacity="INDEXES")
    assert detailed["ConsumedCapacity"]["Table"] == {"CapacityUnits": 1.0}


def test_unused_and_undefined_placeholders(ddb, simple, key):
    item = {"pk": {"S": key}}
    invalid(
        "Value provided in ExpressionAttributeValues unused in expressions: keys: {:x}",
        ddb.put_item,
        TableName=simple,
        Item=item,
        ConditionExpression="attribute_not_exists(a)",
        ExpressionAttributeValues={":x": {"S": "1"}},
    )
    invalid(
        "Value provided in ExpressionAttributeNames unused in expressions: keys: {#x}",
        ddb.put_item,
        TableName=simple,
        Item=item,
        ConditionExpression="attribute_not_exists(a)",
        ExpressionAttributeNames={"#x": "1"},
    )
    invalid(
        "Invalid ConditionExpression: An expression attribute value used in expression is not defined; "
        "attribute value: :v",
        ddb.put_item,
        TableName=simple,
        Item=item,
        ConditionExpression="a = :v",
    )
    invalid(
        "ExpressionAttributeValues can only be specified when using expressions: ConditionExpression is null",
        ddb.put_item,
        TableName=simple,
        Item=item,
        ExpressionAttributeValues={":x": {"S": "1"}},
    )
