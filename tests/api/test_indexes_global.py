"""Global secondary indexes: with a new table, on a table that has items, and their throughput."""

import pytest

import harness

TYPES = [("pk", "S"), ("kind", "S"), ("rank", "N")]
INDEX = {
    "IndexName": "by-kind",
    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "rank", "KeyType": "RANGE"}],
    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["note"]},
}


def definitions(types):
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types]


def refused(call, code="ValidationException", **arguments):
    with pytest.raises(Exception) as error:
        call(**arguments)
    answer = error.value.response["Error"]
    assert answer["Code"] == code
    return answer["Message"]


def described(ddb, table):
    return ddb.describe_table(TableName=table)["Table"]


def make(ddb, name, **options):
    options.setdefault("BillingMode", "PAY_PER_REQUEST")
    options.setdefault("AttributeDefinitions", definitions(TYPES))
    ddb.create_table(TableName=name, KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}], **options)
    harness.wait_until(f"{name} is active", lambda: described(ddb, name)["TableStatus"] == "ACTIVE")
    return name


@pytest.fixture(scope="module")
def table(ddb):
    name = make(ddb, "with-global-index", GlobalSecondaryIndexes=[INDEX])
    yield name
    ddb.delete_table(TableName=name)


def item_of(pk, **attributes):
    item = {"pk": {"S": pk}}
    for key, value in attributes.items():
        item[key] = {"N": str(value)} if isinstance(value, int) else {"S": value}
    return item


def put(ddb, table, pk, **attributes):
    return ddb.put_item(TableName=table, Item=item_of(pk, **attributes), ReturnConsumedCapacity="INDEXES")


def query(ddb, table, kind, more="", index="by-kind", **options):
    values = {":k": {"S": kind}} | options.pop("values", {})
    return ddb.query(
        TableName=table,
        IndexName=index,
        KeyConditionExpression="kind = :k" + more,
        ExpressionAttributeValues=values,
        **options,
    )


def eventually(read, wanted):
    """Waits until a read of an index gives this. Each read is eventual, for itself: that one was complete says nothing about the next."""
    last = None

    def there():
        nonlocal last
        last = read()
        return last == wanted

    try:
        harness.wait_until(f"an index gives {wanted}", there)
    except AssertionError as error:
        raise AssertionError(f"{error}; it gives {last}") from error


def comes_to(ddb, table, kind, pks, **options):
    """Waits until an index has exactly these items, in this order."""
    eventually(lambda: [item["pk"]["S"] for item in query(ddb, table, kind, **options)["Items"]], pks)


def test_a_table_describes_its_global_indexes(ddb, table):
    shown = described(ddb, table)
    (index,) = shown["GlobalSecondaryIndexes"]
    assert index["IndexStatus"] == "ACTIVE"
    assert index["KeySchema"] == INDEX["KeySchema"]
    assert index["Projection"] == INDEX["Projection"]
    assert index["IndexArn"] == shown["TableArn"] + "/index/by-kind"
    assert not any("/" in name for name in ddb.list_tables()["TableNames"])


def test_entries_follow_their_items(ddb, table):
    put(ddb, table, "a", kind="fruit", rank=3, note="sweet", extra="x")
    put(ddb, table, "b", kind="fruit", rank=1)
    put(ddb, table, "c", kind="stone", rank=1)
    put(ddb, table, "d", kind="fruit")
    comes_to(ddb, table, "fruit", ["b", "a"])
    above = lambda: query(ddb, table, "fruit", " AND #r > :r", values={":r": {"N": "2"}}, ExpressionAttributeNames={"#r": "rank"})["Items"]
    eventually(above, [{"pk": {"S": "a"}, "kind": {"S": "fruit"}, "rank": {"N": "3"}, "note": {"S": "sweet"}}])
    ddb.update_item(
        TableName=table,
        Key={"pk": {"S": "b"}},
        UpdateExpression="SET #r = :r",
        ExpressionAttributeNames={"#r": "rank"},
        ExpressionAttributeValues={":r": {"N": "9"}},
    )
    comes_to(ddb, table, "fruit", ["a", "b"])
    ddb.update_item(TableName=table, Key={"pk": {"S": "a"}}, UpdateExpression="REMOVE kind")
    ddb.delete_item(TableName=table, Key={"pk": {"S": "c"}})
    comes_to(ddb, table, "fruit", ["b"])
    comes_to(ddb, table, "stone", [])
    scanned = lambda: ddb.scan(TableName=table, IndexName="by-kind")["Items"]
    eventually(lambda: [item["pk"]["S"] for item in scanned() if item["kind"]["S"] == "fruit"], ["b"])


def test_pages_of_entries_with_the_same_key(ddb, table):
    for number in range(12):
        put(ddb, table, f"page-{number}", kind="page", rank=number % 3)
    eventually(lambda: query(ddb, table, "page", Select="COUNT")["Count"], 12)

    def paged(forward):
        found, start, keys = [], {}, set()
        while True:
            page = query(ddb, table, "page", Limit=5, ScanIndexForward=forward, **start)
            found += [(int(item["rank"]["N"]), item["pk"]["S"]) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                break
            keys |= set(page["LastEvaluatedKey"])
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        assert keys == {"pk", "kind", "rank"}
        return len(found) == 12 and found

    for forward in (True, False):
        found = harness.wait_until("all are there, page by page", lambda: paged(forward))
        assert len(set(found)) == 12
        assert [rank for rank, _ in found] == sorted((n % 3 for n in range(12)), reverse=not forward)


def test_what_global_indexes_do_not_do(ddb, table):
    assert refused(query, ddb=ddb, table=table, kind="x", ConsistentRead=True) == (
        "Consistent reads are not supported on global secondary indexes"
    )
    assert refused(query, ddb=ddb, table=table, kind="x", Select="ALL_ATTRIBUTES") == (
        "One or more parameter values were invalid: Select type ALL_ATTRIBUTES is not supported for global secondary "
        "index by-kind because its projection type is not ALL"
    )
    assert refused(query, ddb=ddb, table=table, kind="x", ProjectionExpression="extra") == (
        "One or more parameter values were invalid: Global secondary index by-kind does not project [extra]"
    )
    assert refused(put, ddb=ddb, table=table, pk="wrong", kind=1) == (
        "One or more parameter values were invalid: Type mismatch for Index Key kind Expected: S Actual: N IndexName: by-kind"
    )


def test_writes_tell_what_they_cost_in_indexes(ddb, table):
    cost = put(ddb, table, "cost", kind="cost", rank=1)["ConsumedCapacity"]
    assert cost["GlobalSecondaryIndexes"] == {"by-kind": {"CapacityUnits": 1.0}}
    assert (cost["Table"], cost["CapacityUnits"]) == ({"CapacityUnits": 1.0}, 2.0)
    moved = put(ddb, table, "cost", kind="cost", rank=2)["ConsumedCapacity"]
    assert moved["GlobalSecondaryIndexes"] == {"by-kind": {"CapacityUnits": 2.0}}
    comes_to(ddb, table, "cost", ["cost"])
    read = lambda: query(ddb, table, "cost", ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    eventually(lambda: read()["GlobalSecondaryIndexes"], {"by-kind": {"CapacityUnits": 0.5}})


def test_an_index_is_added_filled_and_dropped(ddb):
    name = make(ddb, "index-later", AttributeDefinitions=definitions(TYPES[:1]))
    for number in range(60):
        # The index is not there yet: any type will do.
        kind = {"kind": f"k{number % 2}"} if number % 3 else {"kind": 7}
        put(ddb, name, f"p{number:02}", rank=number, **kind)
    ddb.update_table(
        TableName=name,
        AttributeDefinitions=definitions(TYPES),
        GlobalSecondaryIndexUpdates=[{"Create": INDEX}],
    )
    again = [{"Create": INDEX | {"IndexName": "another"}}]
    busy = ("LimitExceededException", "ResourceInUseException")
    try:
        ddb.update_table(
            TableName=name, AttributeDefinitions=definitions(TYPES), GlobalSecondaryIndexUpdates=again
        )
        # Between two requests the first one may have become active, where this test was made to wait.
        first, _ = sorted(described(ddb, name)["GlobalSecondaryIndexes"], key=lambda index: index["IndexName"] == "another")
        assert first["IndexStatus"] == "ACTIVE"
        harness.wait_until("the table is settled", lambda: described(ddb, name)["TableStatus"] == "ACTIVE")
        ddb.update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "another"}}])
        harness.wait_until("it is gone again", lambda: len(described(ddb, name)["GlobalSecondaryIndexes"]) == 1)
    except ddb.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] in busy
    put(ddb, name, "p01", kind="k0", rank=1)

    def is_active():
        (index,) = described(ddb, name)["GlobalSecondaryIndexes"]
        return index["IndexStatus"] == "ACTIVE"

    harness.wait_until("the index is active", is_active)
    wanted = ["p01"] + [f"p{n:02}" for n in range(60) if n % 3 and n % 2 == 0]
    comes_to(ddb, name, "k0", wanted)
    harness.wait_until(
        "the items are counted",
        lambda: described(ddb, name)["GlobalSecondaryIndexes"][0]["ItemCount"] == 40,
    )
    harness.wait_until("the table is settled", lambda: described(ddb, name)["TableStatus"] == "ACTIVE")
    ddb.update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-kind"}}])
    harness.wait_until("the index is gone", lambda: "GlobalSecondaryIndexes" not in described(ddb, name))
    harness.wait_until("the table is settled", lambda: described(ddb, name)["TableStatus"] == "ACTIVE")
    assert refused(query, ddb=ddb, table=name, kind="k0") == (
        "The table does not have the specified index: by-kind"
    )
    ddb.delete_table(TableName=name)


def test_composite_keys(ddb):
    types = [("pk", "S"), ("country", "S"), ("city", "S"), ("year", "N"), ("month", "N")]
    keys = [
        {"AttributeName": "country", "KeyType": "HASH"},
        {"AttributeName": "city", "KeyType": "HASH"},
        {"AttributeName": "year", "KeyType": "RANGE"},
        {"AttributeName": "month", "KeyType": "RANGE"},
    ]
    index = {"IndexName": "by-place", "KeySchema": keys, "Projection": {"ProjectionType": "KEYS_ONLY"}}
    name = make(ddb, "composite", AttributeDefinitions=definitions(types), GlobalSecondaryIndexes=[index])
    for year in (2023, 2024):
        for month in (2, 11):
            put(ddb, name, f"{year}-{month}", country="NL", city="Delft", year=year, month=month)
    put(ddb, name, "other", country="NLD", city="elft", year=2024, month=1)

    def found(condition, **more):
        values = {":c": {"S": "NL"}, ":t": {"S": "Delft"}} | {":" + k: {"N": str(v)} for k, v in more.items()}
        names = {"#y": "year", "#m": "month"}
        used = {name: attribute for name, attribute in names.items() if name in condition}
        answer = ddb.query(
            TableName=name,
            IndexName="by-place",
            KeyConditionExpression="country = :c AND city = :t" + condition,
            ExpressionAttributeValues=values,
            **({"ExpressionAttributeNames": used} if used else {}),
        )
        return [item["pk"]["S"] for item in answer["Items"]]

    all_of_it = ["2023-2", "2023-11", "2024-2", "2024-11"]
    eventually(lambda: found(""), all_of_it)
    eventually(lambda: found(" AND #y = :y", y=2024), ["2024-2", "2024-11"])
    eventually(lambda: found(" AND #y = :y AND #m > :m", y=2024, m=5), ["2024-11"])
    eventually(lambda: found(" AND #y < :y", y=2024), ["2023-2", "2023-11"])
    for condition, values in [(" AND #m = :m", {"m": 2}), (" AND #y > :y AND #m = :m", {"y": 1, "m": 2})]:
        assert refused(found, condition=condition, **values) == (
            "RANGE key attributes year must have equality conditions specified in the query because a condition is present on key attribute month"
        )

    def selected(more):
        where = f"country = 'NL' AND city = 'Delft'{more}"
        answer = ddb.execute_statement(Statement=f'SELECT pk FROM "{name}"."by-place" WHERE {where}')
        return [item["pk"]["S"] for item in answer["Items"]]

    for more, expected in [
        ("", all_of_it),
        (' ORDER BY "year" DESC, "month" DESC', all_of_it[::-1]),
        (' AND "year" = 2024 ORDER BY "month" DESC', ["2024-11", "2024-2"]),
        (' AND "month" = 2', ["2023-2", "2024-2"]),
    ]:
        harness.wait_until(f"{more} is selected", lambda: selected(more) == expected)
    for more in (' ORDER BY "month"', ' ORDER BY "year", "month" DESC'):
        assert refused(selected, more=more) == (
            "ORDER BY clause must name the attributes of the sort key from the first one on, all in the same direction"
        )
    ddb.delete_table(TableName=name)


def test_throughput_of_indexes(ddb):
    units = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    options = {"BillingMode": "PROVISIONED", "ProvisionedThroughput": units}
    assert refused(make, ddb=ddb, name="no-units", GlobalSecondaryIndexes=[INDEX], **options) == (
        "One or more parameter values were invalid: ProvisionedThroughput must be specified for index: by-kind"
    )
    assert refused(
        make, ddb=ddb, name="units", GlobalSecondaryIndexes=[INDEX | {"ProvisionedThroughput": units}]
    ) == (
        "One or more parameter values were invalid: ProvisionedThroughput should not be specified for index: by-kind when "
        "BillingMode is PAY_PER_REQUEST"
    )
    name = make(ddb, "units", GlobalSecondaryIndexes=[INDEX | {"ProvisionedThroughput": units}], **options)
    update = {"IndexName": "by-kind", "ProvisionedThroughput": {"ReadCapacityUnits": 7, "WriteCapacityUnits": 8}}
    ddb.update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Update": update}])

    def shown():
        (index,) = described(ddb, name)["GlobalSecondaryIndexes"]
        throughput = index["ProvisionedThroughput"]
        return index["IndexStatus"], throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]

    harness.wait_until("the index has its new throughput", lambda: shown() == ("ACTIVE", 7, 8))
    ddb.delete_table(TableName=name)


def test_maxima_and_warm_throughput_of_indexes(ddb):
    def throughput(reads, writes, warm):
        return {
            "OnDemandThroughput": {"MaxReadRequestUnits": reads, "MaxWriteRequestUnits": writes},
            "WarmThroughput": {"ReadUnitsPerSecond": warm, "WriteUnitsPerSecond": 4_000},
        }

    def shown(table, name):
        (index,) = [index for index in table["GlobalSecondaryIndexes"] if index["IndexName"] == name]
        return {member: index[member] for member in ("IndexStatus", "OnDemandThroughput", "WarmThroughput")}

    def settles(table, name, expected):
        settled = {"IndexStatus": "ACTIVE", **expected}
        settled["WarmThroughput"] = {**expected["WarmThroughput"], "Status": "ACTIVE"}
        harness.wait_until(f"{name} is as asked", lambda: shown(described(ddb, table), name) == settled, timeout_s=90)
        harness.wait_until("the table is settled", lambda: described(ddb, table)["TableStatus"] == "ACTIVE", timeout_s=90)

    made = throughput(9, 8, 12_001)
    name = make(ddb, "tuned", GlobalSecondaryIndexes=[INDEX | made])
    settles(name, "by-kind", made)
    later = INDEX | {"IndexName": "later"} | throughput(7, 6, 12_002)
    ddb.update_table(TableName=name, AttributeDefinitions=definitions(TYPES), GlobalSecondaryIndexUpdates=[{"Create": later}])
    settles(name, "later", throughput(7, 6, 12_002))

    def update(index, **options):
        updates = [{"Update": {"IndexName": index, **options}}]
        return ddb.update_table(TableName=name, GlobalSecondaryIndexUpdates=updates)["TableDescription"]

    table = update("later", **throughput(-1, 5, 13_000))
    assert table["TableStatus"] == "ACTIVE"
    at = shown(table, "later")
    assert (at["IndexStatus"], at["OnDemandThroughput"]) == ("ACTIVE", {"MaxWriteRequestUnits": 5})
    expected = throughput(0, 5, 13_000)
    del expected["OnDemandThroughput"]["MaxReadRequestUnits"]
    settles(name, "later", expected)
    assert refused(update, index="later", WarmThroughput={"ReadUnitsPerSecond": 12_999}) == (
        "One or more parameter values were invalid: Requested ReadUnitsPerSecond for WarmThroughput for table is lower than current "
        "WarmThroughput, decreasing WarmThroughput is not supported"
    )
    both = [{"Update": {"IndexName": "later", **throughput(1, 1, 13_000)}}, {"Delete": {"IndexName": "later"}}]
    assert refused(ddb.update_table, TableName=name, GlobalSecondaryIndexUpdates=both) == (
        "One or more parameter values were invalid: Only one global secondary index update per index is allowed simultaneously. "
        "Index: later"
    )
    other = {"Create": INDEX | {"IndexName": "other"}}
    types = [{**one, "AttributeType": "B"} if one["AttributeName"] == "kind" else one for one in definitions(TYPES)]
    assert refused(ddb.update_table, TableName=name, AttributeDefinitions=types, GlobalSecondaryIndexUpdates=[other]) == (
        "One or more parameter values were invalid: Attribute kind is a key of the table or of an index already, with another type"
    )
    ddb.delete_table(TableName=name)
