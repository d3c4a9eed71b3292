"""The parameters from before expressions: Expected, AttributeUpdates, KeyConditions, QueryFilter, ScanFilter, AttributesToGet."""

import pytest

import harness
from faults import fails

pytestmark = pytest.mark.one_kind

INVALID = "One or more parameter values were invalid: "


@pytest.fixture(autouse=True)
def strong_reads(ddb):
    with harness.strong_reads(ddb):
        yield


@pytest.fixture
def item(ddb, simple, key):
    """An item under a key of its own."""

    class Item:
        k = {"pk": {"S": key}}

        def put(self, **attributes):
            self.ddb.put_item(TableName=self.table, Item={**self.k, **attributes})

        def read(self):
            got = self.ddb.get_item(TableName=self.table, Key=self.k, ConsistentRead=True)["Item"]
            del got["pk"]
            return got

    Item.ddb, Item.table = ddb, simple
    return Item()


def expect(item, **expected):
    """Whether a PutItem that changes nothing passes `Expected`."""
    operator = expected.pop("operator", None)
    more = {"ConditionalOperator": operator} if operator else {}
    try:
        item.ddb.update_item(
            TableName=item.table,
            Key=item.k,
            AttributeUpdates={"touched": {"Value": {"N": "1"}, "Action": "ADD"}},
            Expected=expected,
            **more,
        )
        return True
    except item.ddb.exceptions.ConditionalCheckFailedException:
        return False


def cond(operator, *values):
    return {"ComparisonOperator": operator, "AttributeValueList": list(values)}


ITEM = {
    "n": {"N": "5"},
    "s": {"S": "hello"},
    "b": {"B": b"hello"},
    "ss": {"SS": ["a", "b"]},
    "l": {"L": [{"N": "5"}, {"S": "x"}]},
    "null": {"NULL": True},
}


@pytest.mark.parametrize(
    "name,condition,holds",
    [
        ("n", {"Value": {"N": "5.0"}}, True),
        ("n", {"Value": {"N": "6"}, "Exists": True}, False),
        ("n", {"Exists": False}, False),
        ("absent", {"Exists": False}, True),
        ("n", cond("EQ", {"N": "5"}), True),
        ("l", cond("EQ", {"L": [{"N": "5"}, {"S": "x"}]}), True),
        ("n", cond("NE", {"N": "5"}), False),
        ("n", cond("NE", {"S": "5"}), True),
        ("absent", cond("NE", {"S": "5"}), True),
        ("absent", cond("EQ", {"S": "5"}), False),
        ("n", cond("LT", {"N": "6"}), True),
        ("n", cond("LE", {"N": "5"}), True),
        ("n", cond("GT", {"N": "5"}), False),
        ("n", cond("GE", {"S": "5"}), False),
        ("n", cond("BETWEEN", {"N": "5"}, {"N": "7"}), True),
        ("s", cond("BETWEEN", {"S": "i"}, {"S": "z"}), False),
        ("n", cond("IN", {"N": "1"}, {"N": "5"}, {"N": "9"}), True),
        ("n", cond("IN", {"N": "1"}), False),
        ("null", cond("NOT_NULL"), True),
        ("null", cond("NULL"), False),
        ("absent", {"ComparisonOperator": "NULL"}, True),
        ("s", cond("CONTAINS", {"S": "ell"}), True),
        ("ss", cond("CONTAINS", {"S": "a"}), True),
        ("l", cond("CONTAINS", {"S": "x"}), True),
        ("s", cond("CONTAINS", {"N": "1"}), False),
        ("s", cond("NOT_CONTAINS", {"S": "ell"}), False),
        ("s", cond("NOT_CONTAINS", {"N": "1"}), True),
        ("absent", cond("NOT_CONTAINS", {"S": "a"}), False),
        ("b", cond("BEGINS_WITH", {"B": b"he"}), True),
        ("s", cond("BEGINS_WITH", {"S": "lo"}), False),
        ("s", {"ComparisonOperator": "BEGINS_WITH", "Value": {"S": "he"}}, True),
    ],
)
def test_expected(item, name, condition, holds):
    item.put(**ITEM)
    assert expect(item, **{name: condition}) == holds


def test_conditional_operator(item):
    item.put(**ITEM)
    right, wrong = cond("EQ", {"N": "5"}), cond("EQ", {"S": "wrong"})
    missing = cond("NOT_CONTAINS", {"S": "a"})
    assert not expect(item, n=right, s=wrong)
    assert not expect(item, n=right, s=wrong, operator="AND")
    assert expect(item, n=right, s=wrong, operator="OR")
    assert expect(item, absent=missing, n=right, operator="OR")
    assert not expect(item, absent=missing, n=right)
    assert not expect(item, absent=missing, n=wrong, s=wrong, operator="OR")


def test_expected_of_put_and_delete(ddb, item):
    item.put(v={"N": "1"})
    wrong = {"v": {"Value": {"N": "2"}}}
    failed = "ConditionalCheckFailedException"
    text = "The conditional request failed"
    fails(failed, text, ddb.put_item, TableName=item.table, Item=item.k, Expected=wrong)
    fails(failed, text, ddb.delete_item, TableName=item.table, Key=item.k, Expected=wrong)
    ddb.put_item(TableName=item.table, Item={**item.k, "w": {"N": "1"}}, Expected={"v": {"Value": {"N": "1"}}})
    assert item.read() == {"w": {"N": "1"}}
    ddb.delete_item(TableName=item.table, Key=item.k, Expected={"v": {"Exists": False}})
    assert "Item" not in ddb.get_item(TableName=item.table, Key=item.k)


@pytest.mark.parametrize(
    "expected,message",
    [
        ({"a": {}}, INVALID + "Value must be provided when Exists is null for Attribute: a"),
        ({"a": {"Exists": True}}, INVALID + "Value must be provided when Exists is true for Attribute: a"),
        (
            {"a": {"Exists": False, "Value": {"S": "x"}}},
            INVALID + "Value cannot be used when Exists is false for Attribute: a",
        ),
        (
            {"a": {"AttributeValueList": [{"S": "x"}]}},
            INVALID + "AttributeValueList can only be used with a ComparisonOperator for Attribute: a",
        ),
        (
            {"a": {"Value": {"S": "x"}, "AttributeValueList": [{"S": "x"}]}},
            INVALID + "Value and AttributeValueList cannot be used together for Attribute: a",
        ),
        (
            {"a": {"Exists": True, "ComparisonOperator": "LT"}},
            INVALID + "Exists and ComparisonOperator cannot be used together for Attribute: a",
        ),
        (
            {"a": {"ComparisonOperator": "LT"}},
            INVALID + "Value or AttributeValueList must be used with ComparisonOperator: LT for Attribute: a",
        ),
        ({"a": cond("EQ")}, INVALID + "Invalid number of argument(s) for the EQ ComparisonOperator"),
        ({"a": cond("IN")}, INVALID + "Invalid number of argument(s) for the IN ComparisonOperator"),
        ({"a": cond("NULL", {"S": "a"})}, INVALID + "Invalid number of argument(s) for the NULL ComparisonOperator"),
        ({"a": cond("BETWEEN", {"S": "a"})}, INVALID + "Invalid number of argument(s) for the BETWEEN ComparisonOperator"),
        ({"a": cond("LT", {"BOOL": True})}, INVALID + "ComparisonOperator LT is not valid for BOOL AttributeValue type"),
        (
            {"a": cond("CONTAINS", {"SS": ["x"]})},
            INVALID + "ComparisonOperator CONTAINS is not valid for SS AttributeValue type",
        ),
        (
            {"a": cond("BEGINS_WITH", {"N": "1"})},
            INVALID + "ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type",
        ),
        (
            {"a": cond("IN", {"N": "1"}, {"S": "1"})},
            INVALID + "AttributeValues inside AttributeValueList must be of same type",
        ),
        (
            {"a": cond("BETWEEN", {"N": "2"}, {"N": "1"})},
            "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound",
        ),
        (
            {"a": cond("LIKE", {"N": "2"})},
            "1 validation error detected: Value 'LIKE' at 'expected.a.member.comparisonOperator' failed to satisfy constraint: "
            "Member must satisfy enum value set: [IN, NULL, BETWEEN, LT, NOT_CONTAINS, EQ, GT, NOT_NULL, NE, LE, BEGINS_WITH, "
            "GE, CONTAINS]",
        ),
        ({"a": {"Value": {"N": "x"}}}, "The parameter cannot be converted to a numeric value: x"),
    ],
)
def test_refused_expectations(ddb, item, expected, message):
    fails("ValidationException", message, ddb.put_item, TableName=item.table, Item=item.k, Expected=expected)


def test_conditional_operator_needs_two(ddb, item):
    put = {"TableName": item.table, "Item": item.k, "ConditionalOperator": "OR"}
    none = INVALID + "ConditionalOperator cannot be used without Filter or Expected"
    one = INVALID + "ConditionalOperator can only be used when Filter or Expected has at least two elements"
    fails("ValidationException", none, ddb.put_item, **put)
    fails("ValidationException", one, ddb.put_item, Expected={"a": {"Exists": False}}, **put)
    fails("ValidationException", none, ddb.scan, TableName=item.table, ConditionalOperator="AND")


def test_no_mixture(ddb, item):
    text = (
        "Can not use both expression and non-expression parameters in the same request: "
        "Non-expression parameters: {%s} Expression parameters: {%s}"
    )
    fails(
        "ValidationException",
        text % ("AttributeUpdates, Expected", "ConditionExpression"),
        ddb.update_item,
        TableName=item.table,
        Key=item.k,
        AttributeUpdates={},
        Expected={},
        ConditionExpression="attribute_exists(a)",
    )
    fails(
        "ValidationException",
        text % ("KeyConditions", "FilterExpression"),
        ddb.query,
        TableName=item.table,
        KeyConditions={"pk": cond("EQ", {"S": "a"})},
        FilterExpression="attribute_exists(a)",
    )
    fails(
        "ValidationException",
        text % ("AttributesToGet", "ProjectionExpression"),
        ddb.get_item,
        TableName=item.table,
        Key=item.k,
        AttributesToGet=["a"],
        ProjectionExpression="a",
    )


def change(item, values="NONE", **updates):
    return item.ddb.update_item(
        TableName=item.table, Key=item.k, AttributeUpdates=updates, ReturnValues=values
    ).get("Attributes")


def test_attribute_updates(item):
    change(item, gone={"Action": "DELETE"})
    assert "Item" not in item.ddb.get_item(TableName=item.table, Key=item.k)
    change(item, n={"Value": {"N": "1"}, "Action": "ADD"}, s={"Value": {"S": "x"}})
    assert item.read() == {"n": {"N": "1"}, "s": {"S": "x"}}
    change(
        item,
        n={"Value": {"N": "-3"}, "Action": "ADD"},
        s={"Value": {"M": {}}, "Action": "PUT"},
        set={"Value": {"SS": ["a", "b"]}, "Action": "ADD"},
        list={"Value": {"L": [{"N": "1"}]}, "Action": "ADD"},
    )
    assert item.read() == {
        "n": {"N": "-2"},
        "s": {"M": {}},
        "set": {"SS": ["a", "b"]},
        "list": {"L": [{"N": "1"}]},
    }
    old = change(
        item,
        "UPDATED_OLD",
        s={"Action": "DELETE"},
        set={"Value": {"SS": ["a", "z"]}, "Action": "DELETE"},
        list={"Value": {"L": [{"N": "2"}]}, "Action": "ADD"},
    )
    assert old == {"s": {"M": {}}, "set": {"SS": ["a", "b"]}, "list": {"L": [{"N": "1"}]}}
    assert item.read() == {"n": {"N": "-2"}, "set": {"SS": ["b"]}, "list": {"L": [{"N": "1"}, {"N": "2"}]}}
    assert change(item, "UPDATED_NEW", n={"Value": {"N": "1"}, "Action": "ADD"}) == {"n": {"N": "-1"}}


def test_a_name_with_dots_is_one_attribute(item):
    change(item, **{"a.b[0]": {"Value": {"N": "1"}}})
    assert item.read() == {"a.b[0]": {"N": "1"}}
    got = item.ddb.get_item(TableName=item.table, Key=item.k, AttributesToGet=["a.b[0]", "absent"])
    assert got["Item"] == {"a.b[0]": {"N": "1"}}


@pytest.mark.parametrize(
    "update,message",
    [
        ({}, INVALID + "Only DELETE action is allowed when no attribute value is specified"),
        ({"Action": "ADD"}, INVALID + "Only DELETE action is allowed when no attribute value is specified"),
        (
            {"Action": "DELETE", "Value": {"S": "a"}},
            INVALID + "DELETE action with value is not supported for the type S",
        ),
        ({"Action": "ADD", "Value": {"BOOL": True}}, INVALID + "ADD action is not supported for the type BOOL"),
        ({"Action": "ADD", "Value": {"SS": ["a"]}}, "Type mismatch for attribute to update"),
        ({"Action": "ADD", "Value": {"L": []}}, "Type mismatch for attribute to update"),
        (
            {"Action": "add", "Value": {"N": "1"}},
            "1 validation error detected: Value 'add' at 'attributeUpdates.n.member.action' failed to satisfy constraint: "
            "Member must satisfy enum value set: [ADD, PUT, DELETE]",
        ),
    ],
)
def test_refused_updates(ddb, item, update, message):
    item.put(n={"N": "1"})
    fails("ValidationException", message, ddb.update_item, TableName=item.table, Key=item.k, AttributeUpdates={"n": update})
    assert item.read() == {"n": {"N": "1"}}


def test_the_key_is_not_updated(ddb, item):
    fails(
        "ValidationException",
        INVALID + "Cannot update attribute pk. This attribute is part of the key",
        ddb.update_item,
        TableName=item.table,
        Key=item.k,
        AttributeUpdates={"pk": {"Value": {"S": "other"}}},
    )


@pytest.fixture(scope="module")
def collection(ddb, numbered):
    for sk in range(1, 7):
        ddb.put_item(
            TableName=numbered,
            Item={"pk": {"S": "legacy"}, "sk": {"N": str(sk)}, "odd": {"BOOL": sk % 2 == 1}, "t": {"S": "x" * sk}},
        )
    return numbered


def sks(answer):
    return [int(item["sk"]["N"]) for item in answer["Items"]]


@pytest.mark.parametrize(
    "condition,found",
    [
        (None, [1, 2, 3, 4, 5, 6]),
        (cond("EQ", {"N": "3"}), [3]),
        (cond("LT", {"N": "3"}), [1, 2]),
        (cond("LE", {"N": "3"}), [1, 2, 3]),
        (cond("GT", {"N": "4"}), [5, 6]),
        (cond("GE", {"N": "4"}), [4, 5, 6]),
        (cond("BETWEEN", {"N": "2"}, {"N": "4"}), [2, 3, 4]),
    ],
)
def test_key_conditions(ddb, collection, condition, found):
    conditions = {"pk": cond("EQ", {"S": "legacy"})}
    if condition:
        conditions["sk"] = condition
    assert sks(ddb.query(TableName=collection, KeyConditions=conditions)) == found


@pytest.mark.parametrize(
    "conditions,message",
    [
        ({}, "Conditions can be of length 1 or 2 only"),
        ({"sk": cond("EQ", {"N": "1"})}, "Query condition missed key schema element: pk"),
        ({"pk": cond("LT", {"S": "a"})}, "Query key condition not supported"),
        ({"pk": cond("NE", {"S": "a"})}, "Attempted conditional constraint is not an indexable operation"),
        ({"pk": cond("NOT_NULL")}, "Attempted conditional constraint is not an indexable operation"),
        ({"pk": cond("EQ", {"N": "1"})}, INVALID + "Condition parameter type does not match schema type"),
        (
            {"pk": {"AttributeValueList": [{"S": "a"}]}},
            "1 validation error detected: Value null at 'keyConditions.pk.member.comparisonOperator' failed to satisfy "
            "constraint: Member must not be null",
        ),
    ],
)
def test_refused_key_conditions(ddb, endpoint, collection, conditions, message):
    from harness import client

    loose = client(endpoint.url, parameter_validation=False)
    fails("ValidationException", message, loose.query, TableName=collection, KeyConditions=conditions)


def test_filters(ddb, collection):
    keys = {"pk": cond("EQ", {"S": "legacy"})}
    odd, long = cond("EQ", {"BOOL": True}), cond("GE", {"S": "xxxxx"})
    query = {"TableName": collection, "KeyConditions": keys}
    assert sks(ddb.query(QueryFilter={"odd": odd}, **query)) == [1, 3, 5]
    both = {"odd": odd, "t": long}
    assert sks(ddb.query(QueryFilter=both, **query)) == [5]
    answer = ddb.query(QueryFilter=both, ConditionalOperator="OR", AttributesToGet=["sk"], **query)
    assert sks(answer) == [1, 3, 5, 6] and answer["ScannedCount"] == 6 and set(answer["Items"][0]) == {"sk"}
    mine = {"pk": cond("EQ", {"S": "legacy"})}
    assert sorted(sks(ddb.scan(TableName=collection, ScanFilter={**mine, **both}))) == [5]
    fails(
        "ValidationException",
        "QueryFilter can only contain non-primary key attributes: Primary key attribute: sk",
        ddb.query,
        QueryFilter={"sk": cond("EQ", {"N": "1"})},
        **query,
    )
    fails(
        "ValidationException",
        "Cannot specify the AttributesToGet when choosing to get only the Count",
        ddb.query,
        Select="COUNT",
        AttributesToGet=["sk"],
        **query,
    )


def test_attributes_to_get(ddb, collection, endpoint):
    key = {"pk": {"S": "legacy"}, "sk": {"N": "2"}}
    got = ddb.get_item(TableName=collection, Key=key, AttributesToGet=["t", "absent"])
    assert got["Item"] == {"t": {"S": "xx"}}
    batch = ddb.batch_get_item(RequestItems={collection: {"Keys": [key], "AttributesToGet": ["sk"]}})
    assert batch["Responses"][collection] == [{"sk": {"N": "2"}}]
    fails(
        "ValidationException",
        INVALID + "Duplicate value in attribute name: t",
        ddb.get_item,
        TableName=collection,
        Key=key,
        AttributesToGet=["t", "t"],
    )
