"""Secondary indexes: tables with them, what writes leave in them, Query and Scan on them."""

import pytest

import harness

LOCAL = [
    {
        "IndexName": "by-score",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "score", "KeyType": "RANGE"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    },
    {
        "IndexName": "by-name",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}],
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["note"]},
    },
]
TYPES = [("pk", "S"), ("sk", "S"), ("score", "N"), ("name", "S")]


def definitions(types):
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types]


def refused(call, **arguments):
    with pytest.raises(Exception) as error:
        call(**arguments)
    answer = error.value.response["Error"]
    assert answer["Code"] == "ValidationException"
    return answer["Message"]


def active(ddb, name):
    return ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE"


@pytest.fixture(autouse=True)
def strong_reads(ddb):
    with harness.strong_reads(ddb):
        yield


@pytest.fixture(scope="module")
def local(ddb):
    name = "with-local-indexes"
    ddb.create_table(
        TableName=name,
        AttributeDefinitions=definitions(TYPES),
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        LocalSecondaryIndexes=LOCAL,
        BillingMode="PAY_PER_REQUEST",
    )
    harness.wait_until("the table is active", lambda: active(ddb, name))
    yield name
    ddb.delete_table(TableName=name)


def put(ddb, table, pk, sk, **attributes):
    item = {"pk": {"S": pk}, "sk": {"S": sk}}
    for key, value in attributes.items():
        item[key] = {"N": str(value)} if isinstance(value, int) else {"S": value}
    return ddb.put_item(
        TableName=table, Item=item, ReturnConsumedCapacity="INDEXES", ReturnItemCollectionMetrics="SIZE"
    )


def query(ddb, table, index, pk, more="", **options):
    values = {":pk": {"S": pk}} | options.pop("values", {})
    return ddb.query(
        TableName=table,
        IndexName=index,
        KeyConditionExpression="pk = :pk" + more,
        ExpressionAttributeValues=values,
        **options,
    )


def sks(answer):
    return [item["sk"]["S"] for item in answer["Items"]]


def test_a_table_describes_its_local_indexes(ddb, local):
    table = ddb.describe_table(TableName=local)["Table"]
    assert table["AttributeDefinitions"] == sorted(definitions(TYPES), key=lambda d: d["AttributeName"])
    described = {index["IndexName"]: index for index in table["LocalSecondaryIndexes"]}
    assert set(described) == {"by-score", "by-name"}
    assert described["by-name"]["Projection"] == LOCAL[1]["Projection"]
    assert described["by-score"]["KeySchema"] == LOCAL[0]["KeySchema"]
    assert described["by-score"]["IndexArn"] == table["TableArn"] + "/index/by-score"


def test_entries_follow_their_items(ddb, local):
    put(ddb, local, "follow", "a", score=3)
    put(ddb, local, "follow", "b", score=-20)
    put(ddb, local, "follow", "c")
    put(ddb, local, "follow", "d", score=3, name="x")
    by_score = lambda **options: query(ddb, local, "by-score", "follow", ConsistentRead=True, **options)
    assert sks(by_score()) in (["b", "a", "d"], ["b", "d", "a"])
    ddb.update_item(
        TableName=local,
        Key={"pk": {"S": "follow"}, "sk": {"S": "b"}},
        UpdateExpression="SET score = score + :n",
        ExpressionAttributeValues={":n": {"N": "100"}},
    )
    assert sks(by_score())[-1] == "b"
    ddb.update_item(
        TableName=local, Key={"pk": {"S": "follow"}, "sk": {"S": "a"}}, UpdateExpression="REMOVE score"
    )
    ddb.delete_item(TableName=local, Key={"pk": {"S": "follow"}, "sk": {"S": "d"}})
    assert sks(by_score()) == ["b"]
    assert by_score()["Items"] == [{"pk": {"S": "follow"}, "sk": {"S": "b"}, "score": {"N": "80"}}]
    # Items are not mistaken for entries, nor entries for items.
    everything = ddb.query(
        TableName=local, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": "follow"}}
    )
    assert sks(everything) == ["a", "b", "c"]


def test_conditions_pages_and_directions(ddb, local):
    for number in range(20):
        put(ddb, local, "pages", f"s{number}", score=number % 7, name=f"name-{number:02}")
    answer = query(
        ddb, local, "by-score", "pages", " AND score BETWEEN :a AND :b", values={":a": {"N": "2"}, ":b": {"N": "3"}}
    )
    assert [int(item["score"]["N"]) for item in answer["Items"]] == [2, 2, 2, 3, 3, 3]
    answer = query(ddb, local, "by-name", "pages", " AND begins_with(#n, :p)", values={":p": {"S": "name-1"}},
                   ExpressionAttributeNames={"#n": "name"})
    assert sks(answer) == [f"s{number}" for number in range(10, 20)]
    for forward in (True, False):
        found, start = [], {}
        while True:
            page = query(ddb, local, "by-score", "pages", Limit=3, ScanIndexForward=forward, **start)
            assert len(page["Items"]) <= 3
            found += [(int(item["score"]["N"]), item["sk"]["S"]) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                break
            assert set(page["LastEvaluatedKey"]) == {"pk", "sk", "score"}
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        assert len(set(found)) == 20
        assert [score for score, _ in found] == sorted((n % 7 for n in range(20)), reverse=not forward)
    wrong = {"pk": {"S": "pages"}, "sk": {"S": "s1"}}
    assert refused(query, ddb=ddb, table=local, index="by-score", pk="pages", ExclusiveStartKey=wrong) == (
        "The provided starting key is invalid"
    )


def test_projections_and_what_is_fetched(ddb, local):
    put(ddb, local, "shown", "a", score=1, name="n", note="hello", body="x" * 5000)
    by_score = query(ddb, local, "by-score", "shown", ReturnConsumedCapacity="INDEXES")
    assert set(by_score["Items"][0]) == {"pk", "sk", "score"}
    assert by_score["ConsumedCapacity"]["LocalSecondaryIndexes"] == {"by-score": {"CapacityUnits": 1.0}}
    assert by_score["ConsumedCapacity"]["CapacityUnits"] == 1.0
    by_name = query(ddb, local, "by-name", "shown")
    assert set(by_name["Items"][0]) == {"pk", "sk", "name", "note"}
    whole = query(
        ddb, local, "by-score", "shown", Select="ALL_ATTRIBUTES", ConsistentRead=True, ReturnConsumedCapacity="INDEXES"
    )
    assert set(whole["Items"][0]) == {"pk", "sk", "score", "name", "note", "body"}
    assert whole["ConsumedCapacity"]["Table"] == {"CapacityUnits": 2.0}
    assert whole["ConsumedCapacity"]["LocalSecondaryIndexes"] == {"by-score": {"CapacityUnits": 1.0}}
    note = query(ddb, local, "by-score", "shown", ProjectionExpression="note, sk")
    assert note["Items"] == [{"note": {"S": "hello"}, "sk": {"S": "a"}}]
    assert query(ddb, local, "by-score", "shown", Select="COUNT")["Count"] == 1
    scanned = ddb.scan(TableName=local, IndexName="by-name", FilterExpression="pk = :pk",
                       ExpressionAttributeValues={":pk": {"S": "shown"}})
    assert scanned["Items"] == by_name["Items"]


def test_writes_cost_what_they_change_in_indexes(ddb, local):
    first = put(ddb, local, "costs", "a", score=1)
    assert first["ConsumedCapacity"]["LocalSecondaryIndexes"] == {"by-score": {"CapacityUnits": 1.0}}
    assert first["ConsumedCapacity"]["Table"] == {"CapacityUnits": 1.0}
    assert first["ConsumedCapacity"]["CapacityUnits"] == 2.0
    metrics = first["ItemCollectionMetrics"]
    assert metrics == {"ItemCollectionKey": {"pk": {"S": "costs"}}, "SizeEstimateRangeGB": [0.0, 1.0]}
    same = put(ddb, local, "costs", "a", score=1, body="new")
    assert "LocalSecondaryIndexes" not in same["ConsumedCapacity"]
    moved = put(ddb, local, "costs", "a", score=2)
    assert moved["ConsumedCapacity"]["LocalSecondaryIndexes"] == {"by-score": {"CapacityUnits": 2.0}}


def test_transactions_tell_of_the_collections_that_they_change(ddb, local, ledger):
    def put_of(sk):
        return {"Put": {"TableName": local, "Item": {"pk": {"S": "together"}, "sk": {"S": sk}}}}

    key = {"pk": {"S": "nobody"}, "sk": {"S": "a"}}
    check = {"ConditionCheck": {"TableName": local, "Key": key, "ConditionExpression": "attribute_not_exists(pk)"}}
    answer = ddb.transact_write_items(TransactItems=[put_of("a"), check, put_of("b")], ReturnItemCollectionMetrics="SIZE")
    collection = {"ItemCollectionKey": {"pk": {"S": "together"}}, "SizeEstimateRangeGB": [0.0, 1.0]}
    assert answer["ItemCollectionMetrics"] == {local: [collection]}


def test_index_keys_have_their_types(ddb, local):
    mismatch = refused(put, ddb=ddb, table=local, pk="types", sk="a", score="high")
    assert mismatch == (
        "One or more parameter values were invalid: Type mismatch for Index Key score Expected: N Actual: S IndexName: by-score"
    )
    empty = refused(put, ddb=ddb, table=local, pk="types", sk="a", name="")
    assert empty == (
        "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The "
        "AttributeValue for a key attribute cannot contain an empty string value. IndexName: by-name, IndexKey: name"
    )
    update = refused(
        ddb.update_item,
        TableName=local,
        Key={"pk": {"S": "types"}, "sk": {"S": "a"}},
        UpdateExpression="SET score = :s",
        ExpressionAttributeValues={":s": {"S": "high"}},
    )
    assert update == "The update expression attempted to update the secondary index key to unsupported type"
    # Of several indexes the first by name.
    both = refused(put, ddb=ddb, table=local, pk="types", sk="a", score="high", name=1)
    assert both == (
        "One or more parameter values were invalid: Type mismatch for Index Key name Expected: S Actual: N IndexName: by-name"
    )


def test_index_keys_of_updates_and_transactions(ddb, local, ledger):
    def update(assignment, **value):
        return {
            "TableName": local,
            "Key": {"pk": {"S": "changed"}, "sk": {"S": "a"}},
            "UpdateExpression": assignment,
            "ExpressionAttributeValues": {":v": value},
        }

    empty = (
        "One or more parameter values are not valid. The update expression attempted to update a secondary index key to a value "
        "that is not supported. The AttributeValue for a key attribute cannot contain an empty string value."
    )
    long = "The update expression attempted to update the secondary index key beyond allowed size limits"
    for assignment, value, text in (("SET #n = :v", "", empty), ("SET #n = :v", "x" * 1025, long)):
        request = {**update(assignment, S=value), "ExpressionAttributeNames": {"#n": "name"}}
        assert refused(ddb.update_item, **request) == text
        if value == "":
            # It shows before the transaction begins, as an empty key of an item that is put does.
            assert refused(ddb.transact_write_items, TransactItems=[{"Update": request}]) == text
    item = {"pk": {"S": "changed"}, "sk": {"S": "a"}, "name": {"S": ""}, "score": {"S": "high"}}
    assert refused(ddb.transact_write_items, TransactItems=[{"Put": {"TableName": local, "Item": item}}]) == (
        "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The "
        "AttributeValue for a key attribute cannot contain an empty string value. IndexName: by-name, IndexKey: name"
    )
    # A wrong type cancels the transaction, in the words of an item that is put.
    with pytest.raises(ddb.exceptions.TransactionCanceledException) as cancelled:
        ddb.transact_write_items(TransactItems=[{"Update": update("SET score = :v", S="high")}])
    assert cancelled.value.response["CancellationReasons"] == [
        {
            "Code": "ValidationError",
            "Message": "One or more parameter values were invalid: Type mismatch for Index Key score Expected: N Actual: S "
            "IndexName: by-score",
        }
    ]


def test_an_index_that_is_not_there(ddb, local):
    assert refused(query, ddb=ddb, table=local, index="by-nothing", pk="x") == (
        "The table does not have the specified index: by-nothing"
    )
    assert refused(query, ddb=ddb, table=local, index="by-score", pk="x", more=" AND sk = :s",
                   values={":s": {"S": "a"}}) == "Query condition missed key schema element: score"


def test_items_and_bytes_are_counted(ddb, local):
    def counts():
        described = ddb.describe_table(TableName=table)["Table"]["LocalSecondaryIndexes"]
        return {index["IndexName"]: (index["ItemCount"], index["IndexSizeBytes"]) for index in described}

    table = "with-counted-indexes"
    source = ddb.describe_table(TableName=local)["Table"]
    ddb.create_table(
        TableName=table,
        AttributeDefinitions=source["AttributeDefinitions"],
        KeySchema=source["KeySchema"],
        LocalSecondaryIndexes=LOCAL,
        BillingMode="PAY_PER_REQUEST",
    )
    harness.wait_until("the table is active", lambda: active(ddb, table))
    put(ddb, table, "p", "a", score=7, name="xyz", note="1234", other="not in any index")
    put(ddb, table, "p", "b", score=-12)
    put(ddb, table, "p", "c")
    # pk, sk and score, then name and note: names and values; a number has a byte for two digits, one more, and one for its sign.
    keys = len("pk" + "p" + "sk" + "a")
    wanted = {"by-score": (2, 2 * (keys + len("score")) + 2 + 3), "by-name": (1, keys + len("name" + "xyz" + "note" + "1234"))}
    harness.wait_until(f"the counts are {wanted}", lambda: counts() == wanted, timeout_s=60)
    ddb.delete_item(TableName=table, Key={"pk": {"S": "p"}, "sk": {"S": "a"}})
    wanted = {"by-score": (1, keys + len("score") + 3), "by-name": (0, 0)}
    harness.wait_until(f"the counts are {wanted}", lambda: counts() == wanted, timeout_s=60)
    ddb.delete_table(TableName=table)
