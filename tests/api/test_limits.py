"""Documented limits, at both sides of their edges: of expressions, keys of all operations, statements, batches, definitions and tags."""

import pytest

import harness
from faults import invalid

pytestmark = pytest.mark.one_kind

PAGED = ("scan", "query")


@pytest.fixture
def loose(endpoint):
    return harness.client(endpoint.url, parameter_validation=False)


def filtered(ddb, table, expression, **more):
    return ddb.scan(TableName=table, FilterExpression=expression, **more)


@pytest.fixture(scope="module")
def bare(ddb):
    """A table without items: an expression is checked all the same."""
    from conftest import make_table

    return make_table(ddb, range_type="S")


def test_expressions(ddb, bare):
    text = "attribute_exists(a)"
    filtered(ddb, bare, text + " " * (4096 - len(text)))
    invalid(
        "Invalid FilterExpression: Expression size has exceeded the maximum allowed size; expression size: 4097",
        filtered,
        ddb=ddb,
        table=bare,
        expression=text + " " * (4097 - len(text)),
    )
    # Each comparison and each AND is an operator.
    value = {"ExpressionAttributeValues": {":a": {"N": "1"}}}
    filtered(ddb, bare, " AND ".join(["NOT a=:a"] + ["a=:a"] * 149), **value)
    invalid(
        "Invalid FilterExpression: The expression contains too many operators; operator count: 301",
        filtered,
        ddb=ddb,
        table=bare,
        expression=" AND ".join(["a=:a"] * 151),
        **value,
    )
    filtered(ddb, bare, f"a IN ({', '.join([':a'] * 100)})", **value)
    invalid(
        "Invalid FilterExpression: The IN operator is provided with too many operands; number of operands: 101",
        filtered,
        ddb=ddb,
        table=bare,
        expression=f"a IN ({', '.join([':a'] * 101)})",
        **value,
    )
    filtered(ddb, bare, f"attribute_exists({'.'.join(['a'] * 32)})")
    invalid(None, filtered, ddb=ddb, table=bare, expression=f"attribute_exists({'.'.join(['a'] * 33)})")
    name = "#" + "n" * 254
    filtered(ddb, bare, f"attribute_exists({name})", ExpressionAttributeNames={name: "a"})
    name += "n"
    invalid(None, filtered, ddb=ddb, table=bare, expression=f"attribute_exists({name})", ExpressionAttributeNames={name: "a"})


def test_keys_of_every_operation(ddb, bare):
    """A key that is too long for an item is none that can be asked for, either."""
    pk, sk = "p" * 2048, "s" * 1024
    good = {"pk": {"S": pk}, "sk": {"S": sk}}
    long_pk = "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes"
    long_sk = "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of 1024 bytes"
    wrong = [({**good, "pk": {"S": pk + "p"}}, long_pk), ({**good, "sk": {"S": sk + "s"}}, long_sk)]
    calls = [
        lambda key: ddb.update_item(TableName=bare, Key=key),
        lambda key: ddb.get_item(TableName=bare, Key=key),
        lambda key: ddb.delete_item(TableName=bare, Key=key),
        lambda key: ddb.batch_get_item(RequestItems={bare: {"Keys": [key]}}),
        lambda key: ddb.batch_write_item(RequestItems={bare: [{"DeleteRequest": {"Key": key}}]}),
    ]
    for call in calls:
        call(good)
        for key, message in wrong:
            invalid(message, call, key=key)


def test_pages(ddb, loose, bare):
    for name in PAGED:
        more = {"TableName": bare}
        if name == "query":
            more |= {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "a"}}}
        getattr(ddb, name)(**more, Limit=1)
        invalid(
            "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1",
            getattr(loose, name),
            **more,
            Limit=0,
        )
    assert ddb.scan(TableName=bare, Segment=999_999, TotalSegments=1_000_000)["Count"] == 0
    invalid(
        "1 validation error detected: Value '1000001' at 'totalSegments' failed to satisfy constraint: "
        "Member must have value less than or equal to 1000000",
        loose.scan,
        TableName=bare,
        Segment=0,
        TotalSegments=1_000_001,
    )


def test_statements(ddb, bare):
    text = f"SELECT * FROM \"{bare}\" WHERE pk = 'a'"
    ddb.execute_statement(Statement=text + " " * (8192 - len(text)))
    invalid(
        "1 validation error detected: Value at 'statement' failed to satisfy constraint: "
        "Member must have length less than or equal to 8192",
        ddb.execute_statement,
        Statement=text + " " * (8193 - len(text)),
    )
    values = ", ".join(f"'{n}'" for n in range(50))
    ddb.execute_statement(Statement=f'SELECT * FROM "{bare}" WHERE pk IN [{values}]')
    invalid(
        "The IN operator is provided with too many operands; at most 50 are allowed",
        ddb.execute_statement,
        Statement=f"SELECT * FROM \"{bare}\" WHERE pk IN [{values}, 'x']",
    )


def test_batches(ddb, loose, bare):
    def puts(count):
        return {bare: [{"PutRequest": {"Item": {"pk": {"S": "batch"}, "sk": {"S": str(n)}}}} for n in range(count)]}

    def gets(count):
        return {bare: {"Keys": [{"pk": {"S": "batch"}, "sk": {"S": str(n)}} for n in range(count)], "ConsistentRead": True}}

    harness.write_all(ddb, bare, puts(25)[bare])
    assert len(ddb.batch_get_item(RequestItems=gets(100))["Responses"][bare]) == 25
    invalid(None, loose.batch_write_item, RequestItems=puts(26))
    invalid(None, loose.batch_get_item, RequestItems=gets(101))
    ddb.batch_write_item(RequestItems={bare: [{"DeleteRequest": {"Key": item["PutRequest"]["Item"]}} for item in puts(25)[bare]]})


def definition(name, locals_=0, globals_=0, non_keys=0):
    """A table with so many indexes, each of which projects so many attributes."""
    projection = {"ProjectionType": "KEYS_ONLY"}
    if non_keys:
        projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": [f"a{n}" for n in range(non_keys)]}

    def keys(partition, sort):
        return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]

    def index(kind, number, partition, sort):
        return {"IndexName": f"{kind}-{number}", "KeySchema": keys(partition, sort), "Projection": projection}

    made = {
        "TableName": name,
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk", "at")],
        "KeySchema": keys("pk", "sk"),
        "BillingMode": "PAY_PER_REQUEST",
    }
    if locals_:
        made["LocalSecondaryIndexes"] = [index("local", n, "pk", "at") for n in range(locals_)]
    if globals_:
        made["GlobalSecondaryIndexes"] = [index("global", n, "at", "pk") for n in range(globals_)]
    return made


def test_definitions(ddb, loose):
    name = "n" * 255
    # 5 × 20 attributes: as many as all indexes together may project.
    ddb.create_table(**definition(name, locals_=5, non_keys=20))
    harness.wait_until("it is active", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    made = ddb.describe_table(TableName=name)["Table"]["LocalSecondaryIndexes"]
    assert [len(index["Projection"]["NonKeyAttributes"]) for index in made] == [20] * 5
    ddb.delete_table(TableName=name)
    prefix = "One or more parameter values were invalid: "
    for wrong, message in [
        (definition("over", locals_=6), f"{prefix}Number of LocalSecondaryIndexes exceeds per-table limit of 5"),
        (definition("over", globals_=21), f"{prefix}GlobalSecondaryIndex count exceeds the per-table limit of 20"),
        (definition("over", locals_=1, non_keys=21), None),
        (definition("over", locals_=5, globals_=1, non_keys=20), None),
        (definition("no", locals_=1), None),
        (definition(name + "n", locals_=1), None),
    ]:
        invalid(message, loose.create_table, **wrong)
    assert not {"over", "no"} & set(ddb.list_tables()["TableNames"])


def test_tags(ddb, loose, bare):
    arn = ddb.describe_table(TableName=bare)["Table"]["TableArn"]

    def tags(count):
        return [{"Key": f"k{n}", "Value": "v"} for n in range(count)]

    ddb.tag_resource(ResourceArn=arn, Tags=tags(49))
    long_tag = {"Key": "k" * 128, "Value": "v" * 256}
    ddb.tag_resource(ResourceArn=arn, Tags=[long_tag])
    pages, token = [], {}
    while True:
        page = ddb.list_tags_of_resource(ResourceArn=arn, **token)
        pages += page["Tags"]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert len(pages) == 50 and long_tag in pages
    over = "Number of tags exceeds the current limit of 50 tags per resource"
    invalid(over, ddb.tag_resource, ResourceArn=arn, Tags=[{"Key": "one more", "Value": "v"}])
    # One that is there already is replaced.
    ddb.tag_resource(ResourceArn=arn, Tags=[{"Key": "k0", "Value": "other"}])
    for wrong in ({"Key": "k" * 129, "Value": "v"}, {"Key": "k0", "Value": "v" * 257}, {"Key": "", "Value": "v"}):
        invalid(None, loose.tag_resource, ResourceArn=arn, Tags=[wrong])
    ddb.untag_resource(ResourceArn=arn, TagKeys=[f"k{n}" for n in range(49)])
    assert ddb.list_tags_of_resource(ResourceArn=arn)["Tags"] == [long_tag]


def test_list_tables(ddb, loose):
    assert ddb.list_tables(Limit=100)["TableNames"]
    for limit, rule in [(0, "greater than or equal to 1"), (101, "less than or equal to 100")]:
        invalid(
            f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value {rule}",
            loose.list_tables,
            Limit=limit,
        )
