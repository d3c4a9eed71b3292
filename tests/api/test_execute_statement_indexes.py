"""PartiQL: SELECT on the indexes of a table; everything as Query and Scan answer it."""

import pytest

import harness
from faults import invalid

pytestmark = pytest.mark.one_kind

COUNT = 6


def keys(partition, sort):
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


@pytest.fixture(scope="module")
def music(ddb):
    """Items of two collections, of which all but one are in the indexes."""
    name = "select-on-indexes"
    ddb.create_table(
        TableName=name,
        AttributeDefinitions=[
            {"AttributeName": n, "AttributeType": t} for n, t in [("pk", "S"), ("sk", "N"), ("score", "N"), ("kind", "S")]
        ],
        KeySchema=keys("pk", "sk"),
        LocalSecondaryIndexes=[
            {"IndexName": "by-score", "KeySchema": keys("pk", "score"), "Projection": {"ProjectionType": "KEYS_ONLY"}}
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-kind",
                "KeySchema": keys("kind", "score"),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["note"]},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    harness.wait_until(
        "the table is active", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE"
    )
    for pk in ("acme", "other"):
        for n in range(COUNT):
            item = {"pk": {"S": pk}, "sk": {"N": str(n)}, "score": {"N": str(100 - n)}, "kind": {"S": f"k{n % 2}"}}
            ddb.put_item(TableName=name, Item={**item, "note": {"S": f"note {n}"}, "more": {"S": "x"}})
    ddb.put_item(TableName=name, Item={"pk": {"S": "acme"}, "sk": {"N": "99"}})
    # Nothing is written any more: a replica that has all of it keeps it.
    for index in ("by-kind", "by-score"):
        scanned = lambda: ddb.scan(TableName=name, IndexName=index)["Items"]
        harness.wait_until(f"an eventual read of {index} has them", lambda: len(scanned()) == 2 * COUNT)
    yield name
    ddb.delete_table(TableName=name)


def pages(ddb, statement, **more):
    """All items, and how many pages they came in."""
    items, count = [], 0
    while True:
        answer = ddb.execute_statement(Statement=statement, **more)
        items += answer["Items"]
        count += 1
        if "NextToken" not in answer:
            return items, count
        more["NextToken"] = answer["NextToken"]


def sks(items):
    return [int(item["sk"]["N"]) for item in items]


def same(items):
    return sorted(items, key=str)


def test_a_local_index(ddb, music):
    source = f'"{music}"."by-score"'
    items, _ = pages(ddb, f"SELECT * FROM {source} WHERE pk = 'acme'", ConsistentRead=True)
    want = ddb.query(
        TableName=music,
        IndexName="by-score",
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": {"S": "acme"}},
        ConsistentRead=True,
    )["Items"]
    assert items == want and sks(items) == [5, 4, 3, 2, 1, 0]
    one_by_one, count = pages(ddb, f"SELECT * FROM {source} WHERE pk = 'acme'", ConsistentRead=True, Limit=1)
    assert one_by_one == want and count >= COUNT
    where = "pk = 'acme' AND score BETWEEN 96 AND 98 ORDER BY score DESC"
    assert sks(pages(ddb, f"SELECT * FROM {source} WHERE {where}", ConsistentRead=True)[0]) == [2, 3, 4]
    everything, count = pages(ddb, f"SELECT * FROM {source}", ConsistentRead=True, Limit=5)
    assert len(everything) == 2 * COUNT and count >= 2
    # What the index does not have is fetched from the table, and costs.
    answer = ddb.execute_statement(
        Statement=f"SELECT note FROM {source} WHERE pk = 'acme' AND score = 99",
        ConsistentRead=True,
        ReturnConsumedCapacity="INDEXES",
    )
    assert answer["Items"] == [{"note": {"S": "note 1"}}]
    assert answer["ConsumedCapacity"] == {
        "TableName": music,
        "CapacityUnits": 2.0,
        "Table": {"CapacityUnits": 1.0},
        "LocalSecondaryIndexes": {"by-score": {"CapacityUnits": 1.0}},
    }


def test_a_global_index(ddb, music):
    source = f'"{music}"."by-kind"'
    items, _ = pages(ddb, f"SELECT * FROM {source} WHERE kind = 'k1'")
    want = ddb.query(
        TableName=music,
        IndexName="by-kind",
        KeyConditionExpression="kind = :k",
        ExpressionAttributeValues={":k": {"S": "k1"}},
    )["Items"]
    assert items == want and sks(items) == [5, 5, 3, 3, 1, 1]
    assert set(items[0]) == {"pk", "sk", "score", "kind", "note"}
    one_by_one, count = pages(ddb, f"SELECT * FROM {source} WHERE kind IN ['k1', 'k0'] AND pk = 'other'", Limit=1)
    assert sks(one_by_one) == [5, 3, 1, 4, 2, 0] and count >= 2 * COUNT
    everything, _ = pages(ddb, f"SELECT * FROM {source} WHERE score > 95")
    assert same(everything) == same(
        ddb.scan(
            TableName=music,
            IndexName="by-kind",
            FilterExpression="score > :s",
            ExpressionAttributeValues={":s": {"N": "95"}},
        )["Items"]
    )
    answer = ddb.execute_statement(
        Statement=f"SELECT note FROM {source} WHERE kind = 'k0' AND score = 100", ReturnConsumedCapacity="INDEXES"
    )
    assert answer["ConsumedCapacity"]["GlobalSecondaryIndexes"] == {"by-kind": {"CapacityUnits": 0.5}}
    assert answer["ConsumedCapacity"]["CapacityUnits"] == 0.5


def test_a_token_is_good_for_its_index_only(ddb, music):
    statement = f"SELECT * FROM \"{music}\".\"%s\" WHERE pk = 'acme'"
    token = ddb.execute_statement(Statement=statement % "by-score", Limit=1)["NextToken"]
    invalid(
        "The provided NextToken is invalid: it belongs to another statement or to other parameters",
        ddb.execute_statement,
        Statement=statement % "by-kind",
        NextToken=token,
    )


@pytest.mark.parametrize(
    "statement,more,message",
    [
        ('SELECT * FROM "{t}"."nope"', {}, "The table does not have the specified index"),
        ('SELECT * FROM "{t}"."{t}"', {}, "The table does not have the specified index"),
        ('SELECT * FROM "{t}"."by-kind"."more"', {}, "A path may contain at most 2 components in the FROM clause"),
        ('SELECT * FROM "{t}".""', {}, "Path component cannot be an empty string"),
        ("SELECT * FROM \"\" WHERE pk = 'acme'", {}, "Path component cannot be an empty string"),
        (
            'SELECT * FROM "{t}"."by-kind"',
            {"ConsistentRead": True},
            "Strongly consistent read is not supported on Global Secondary Indexes",
        ),
        (
            "SELECT more FROM \"{t}\".\"by-kind\" WHERE kind = 'k1'",
            {},
            "One or more parameter values were invalid: Global secondary index by-kind does not project [more]",
        ),
        *(
            (
                f'SELECT pk FROM "{{t}}"."{index}" WHERE {key} AND {condition}',
                {},
                f"One or more parameter values were invalid: Secondary index {index} does not project one or more filter attributes: [more]",
            )
            for index, key in [("by-kind", "kind = 'k1'"), ("by-kind", "kind IN ['k1', 'k2']"), ("by-score", "pk = 'acme' AND score > 1")]
            for condition in ["more = 'x'", "more IS NOT MISSING", "NOT more = 'x'"]
        ),
        (
            "SELECT * FROM \"{t}\".\"by-kind\" WHERE kind = 'k1' ORDER BY sk",
            {},
            "Variable reference sk in ORDER BY clause must be part of the primary key",
        ),
        (
            "SELECT * FROM \"{t}\".\"by-kind\" WHERE kind = 1",
            {},
            "One or more parameter values were invalid: Condition parameter type does not match schema type",
        ),
        ("DELETE FROM \"{t}\".\"by-kind\" WHERE pk = 'acme' AND sk = 1", {}, "Unsupported operation on index: by-kind"),
    ],
)
def test_refused(ddb, music, statement, more, message):
    invalid(message, ddb.execute_statement, Statement=statement.replace("{t}", music), **more)


@pytest.mark.parametrize("index,found", [("by-kind", 2 * COUNT), ("by-score", 2 * COUNT)])
def test_an_index_is_scanned_by_what_it_has(ddb, music, index, found):
    """What an index does not have, its items do not have, where no item collection is named."""
    source = f'"{music}"."{index}"'
    assert pages(ddb, f"SELECT pk, sk FROM {source} WHERE more = 'x'")[0] == []
    assert len(pages(ddb, f"SELECT pk, sk FROM {source} WHERE NOT more = 'x'")[0]) == found
