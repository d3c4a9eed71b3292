"""UpdateItem: every clause, every return value, every way to get it wrong."""

import pytest

from faults import fails, invalid


@pytest.fixture
def item(ddb, simple, key):
    """Stores an item under a key of its own; gives helpers to change and read it."""

    class Item:
        k = {"pk": {"S": key}}

        def put(self, **attributes):
            ddb.put_item(TableName=simple, Item={**self.k, **attributes})

        def update(self, expression, values=None, names=None, **more):
            if values is not None:
                more["ExpressionAttributeValues"] = values
            if names is not None:
                more["ExpressionAttributeNames"] = names
            return ddb.update_item(TableName=simple, Key=self.k, UpdateExpression=expression, **more)

        def read(self):
            got = ddb.get_item(TableName=simple, Key=self.k, ConsistentRead=True).get("Item")
            if got:
                del got["pk"]
            return got

    return Item()


def test_creates_the_item(ddb, simple, item):
    assert "Attributes" not in item.update("SET a = :a", {":a": {"N": "1"}})
    assert item.read() == {"a": {"N": "1"}}


def test_without_expression_creates_a_bare_item(ddb, simple, item):
    ddb.update_item(TableName=simple, Key=item.k)
    assert item.read() == {}


def test_set_reads_the_old_item(item):
    item.put(a={"N": "1"}, b={"N": "2"})
    item.update("SET a = b, b = a")
    assert item.read() == {"a": {"N": "2"}, "b": {"N": "1"}}


def test_arithmetic(item):
    item.put(a={"N": "10"})
    item.update("SET a = a + :x, b = a - :x, c = if_not_exists(c, :zero) + :x", {":x": {"N": "0.5"}, ":zero": {"N": "0"}})
    assert item.read() == {"a": {"N": "10.5"}, "b": {"N": "9.5"}, "c": {"N": "0.5"}}


def test_list_append_and_index(item):
    item.put(l={"L": [{"N": "1"}]})
    item.update("SET l = list_append(l, :x), m = list_append(:x, l)", {":x": {"L": [{"N": "2"}]}})
    item.update("SET l[9] = :y", {":y": {"S": "end"}})
    assert item.read() == {
        "l": {"L": [{"N": "1"}, {"N": "2"}, {"S": "end"}]},
        "m": {"L": [{"N": "2"}, {"N": "1"}]},
    }


def test_remove(item):
    item.put(a={"N": "1"}, l={"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}, {"N": "3"}]}, m={"M": {"x": {"N": "1"}, "y": {"N": "2"}}})
    item.update("REMOVE a, l[0], l[2], m.x, nothing, l[77]")
    assert item.read() == {"l": {"L": [{"N": "1"}, {"N": "3"}]}, "m": {"M": {"y": {"N": "2"}}}}


def test_add_and_delete(item):
    item.put(s={"SS": ["a", "b"]}, n={"N": "5"})
    item.update(
        "ADD n :two, fresh :two, s :c DELETE s2 :c", {":two": {"N": "2"}, ":c": {"SS": ["c", "a"]}}
    )
    got = item.read()
    assert got["n"] == {"N": "7"} and got["fresh"] == {"N": "2"} and sorted(got["s"]["SS"]) == ["a", "b", "c"]
    item.update("DELETE s :all", {":all": {"SS": ["a", "b", "c", "d"]}})
    assert "s" not in item.read()


def test_return_values(item):
    item.put(a={"N": "1"}, keep={"S": "k"}, m={"M": {"x": {"N": "1"}, "y": {"N": "2"}}})

    def returned(values, **more):
        got = item.update("SET a = a + :one, m.x = :one", {":one": {"N": "1"}}, ReturnValues=values, **more)
        attributes = got.get("Attributes")
        if attributes:
            attributes.pop("pk", None)
        return attributes

    assert returned("NONE") is None
    assert returned("UPDATED_OLD") == {"a": {"N": "2"}, "m": {"M": {"x": {"N": "1"}}}}
    assert returned("UPDATED_NEW") == {"a": {"N": "4"}, "m": {"M": {"x": {"N": "1"}}}}
    assert returned("ALL_OLD")["a"] == {"N": "4"}
    assert returned("ALL_NEW") == {"a": {"N": "6"}, "keep": {"S": "k"}, "m": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}}}


def test_condition(ddb, item):
    item.put(v={"N": "1"})
    response = fails(
        "ConditionalCheckFailedException",
        "The conditional request failed",
        item.update,
        expression="SET v = :n",
        values={":n": {"N": "9"}, ":old": {"N": "2"}},
        ConditionExpression="v = :old",
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )
    assert response["Item"]["v"] == {"N": "1"}
    item.update("SET v = :n", {":n": {"N": "9"}, ":old": {"N": "1"}}, ConditionExpression="v = :old")
    assert item.read() == {"v": {"N": "9"}}


@pytest.mark.parametrize(
    "condition,holds",
    [
        ("n = :five", True),
        ("n <> :five", False),
        ("absent <> :five", True),
        ("absent = :five", False),
        ("n < :text", False),
        ("n BETWEEN :one AND :five", True),
        ("n IN (:one, :text, :five)", True),
        ("NOT n IN (:one)", True),
        ("attribute_exists(m.x) AND attribute_not_exists(m.z)", True),
        ("attribute_type(l, :L)", True),
        ("begins_with(s, :he)", True),
        ("contains(s, :ell)", True),
        ("contains(ss, :ell)", False),
        ("contains(l, :five)", True),
        ("size(s) = :five", True),
        ("size(l) = :two AND size(m) = :one", True),
        ("size(absent) = :one", False),
        ("l[1] = :five OR n = :one AND s = :text", True),
        ("(l[1] = :five OR n = :one) AND s = :he", False),
        ("m.x = :one", True),
        ("m = :m", True),
    ],
)
def test_condition_semantics(ddb, simple, key, condition, holds):
    ddb.put_item(
        TableName=simple,
        Item={
            "pk": {"S": key},
            "n": {"N": "5"},
            "s": {"S": "hello"},
            "ss": {"SS": ["x", "y"]},
            "l": {"L": [{"S": "a"}, {"N": "5.0"}]},
            "m": {"M": {"x": {"N": "1"}}},
        },
    )
    every = {
        ":five": {"N": "5"},
        ":one": {"N": "1"},
        ":two": {"N": "2"},
        ":text": {"S": "hello"},
        ":he": {"S": "he"},
        ":ell": {"S": "ell"},
        ":L": {"S": "L"},
        ":m": {"M": {"x": {"N": "1.0"}}},
    }
    import re

    values = {k: v for k, v in every.items() if re.search(re.escape(k) + r"\b", condition)}
    arguments = {"TableName": simple, "Key": {"pk": {"S": key}}, "ConditionExpression": condition}
    if values:
        arguments["ExpressionAttributeValues"] = values
    if holds:
        ddb.update_item(**arguments)
    else:
        fails("ConditionalCheckFailedException", "The conditional request failed", ddb.update_item, **arguments)


@pytest.mark.parametrize(
    "expression,values,text",
    [
        ("", None, "Invalid UpdateExpression: The expression can not be empty;"),
        ("SET", None, "Invalid UpdateExpression: Syntax error; token: …"),
        ("SET a = :a SET b = :a", {":a": {"N": "1"}}, 'Invalid UpdateExpression: The "SET" section can only be used once in an update expression;'),
        ("SET a = :a, a = :a", {":a": {"N": "1"}}, "Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a], path two: [a]"),
        ("SET a.b = :a, a = :a", {":a": {"N": "1"}}, "Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a, b], path two: [a]"),
        ("SET pk = :a", {":a": {"S": "1"}}, "One or more parameter values were invalid: Cannot update attribute pk. This attribute is part of the key"),
        ("SET #a = :a", {":a": {"S": "1"}}, "Invalid UpdateExpression: An expression attribute name used in the document path is not defined; attribute name: #a"),
        ("ADD a :a", {":a": {"S": "1"}}, "Invalid UpdateExpression: Incorrect operand type for operator or function; operator: ADD, operand type: STRING, typeSet: ALLOWED_FOR_ADD_OPERAND"),
        ("DELETE a :a", {":a": {"N": "1"}}, "Invalid UpdateExpression: Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND"),
        ("SET a = b", None, "The provided expression refers to an attribute that does not exist in the item"),
        ("SET a = s + :a", {":a": {"N": "1"}}, "An operand in the update expression has an incorrect data type"),
        ("ADD s :a", {":a": {"N": "1"}}, "An operand in the update expression has an incorrect data type"),
        ("SET s.x = :a", {":a": {"N": "1"}}, "The document path provided in the update expression is invalid for update"),
        ("SET absent.x = :a", {":a": {"N": "1"}}, "The document path provided in the update expression is invalid for update"),
        ("SET a = " + "(" * 3000 + ":a" + ")" * 1000, {":a": {"N": "1"}}, None),
        ("SET a = :a" + " " * 4090, {":a": {"N": "1"}}, "Invalid UpdateExpression: Expression size has exceeded the maximum allowed size; expression size: 4100"),
    ],
)
def test_errors(ddb, simple, key, expression, values, text):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "s": {"S": "text"}})
    arguments = {"TableName": simple, "Key": {"pk": {"S": key}}, "UpdateExpression": expression}
    if values is not None:
        arguments["ExpressionAttributeValues"] = values
    invalid(text, ddb.update_item, **arguments)
    got = ddb.get_item(TableName=simple, Key={"pk": {"S": key}}, ConsistentRead=True)["Item"]
    assert got == {"pk": {"S": key}, "s": {"S": "text"}}


def test_growth_beyond_400_kb(ddb, item):
    item.put(v={"S": "x" * 390_000})
    invalid("Item size to update has exceeded the maximum allowed size", item.update, expression="SET w = :w", values={":w": {"S": "y" * 30_000}})
    assert "w" not in item.read()


def test_concurrent_counters_lose_nothing(ddb, simple, key):
    """Conditions and updates see the writes that are still in flight."""
    from concurrent.futures import ThreadPoolExecutor

    def add(_):
        return int(
            ddb.update_item(
                TableName=simple,
                Key={"pk": {"S": key}},
                UpdateExpression="ADD n :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
                ReturnValues="UPDATED_NEW",
            )["Attributes"]["n"]["N"]
        )

    with ThreadPoolExecutor(16) as pool:
        seen = list(pool.map(add, range(400)))
    assert sorted(seen) == list(range(1, 401))
