"""Streams: switching them on and off, their shards, iterators and records, over a split too."""

import datetime
import json

import pytest
from botocore.exceptions import ClientError

import harness
from shards import Reader, described, iterator

BOTH = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
HAPPENED = ["eventID", "eventName", "eventVersion", "eventSource", "awsRegion", "dynamodb"]


@pytest.fixture(scope="session")
def streams(endpoint):
    return harness.client(endpoint.url, service="dynamodbstreams")


def arn_of(ddb, table):
    return ddb.describe_table(TableName=table)["Table"]["LatestStreamArn"]


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def put(ddb, table, key, **attributes):
    ddb.put_item(TableName=table, Item={"pk": {"S": key}, **attributes})


def read_all(streams, arn, count):
    reader = Reader(streams, arn)
    harness.wait_until(f"{count} records", lambda: reader.round() is not None and len(reader.records) >= count)
    return reader


def active(ddb, table):
    harness.wait_until("it is active", lambda: ddb.describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE")


def test_a_table_tells_of_its_stream(ddb, streams, table_of):
    table = table_of(StreamSpecification=BOTH)
    described_table = ddb.describe_table(TableName=table)["Table"]
    assert described_table["StreamSpecification"] == BOTH
    arn, label = described_table["LatestStreamArn"], described_table["LatestStreamLabel"]
    assert arn == f"{described_table['TableArn']}/stream/{label}"
    datetime.datetime.fromisoformat(label)
    found = described(streams, arn)
    assert (found["StreamStatus"], found["StreamViewType"], found["TableName"]) == ("ENABLED", "NEW_AND_OLD_IMAGES", table)
    assert (found["StreamLabel"], found["StreamArn"]) == (label, arn)
    assert found["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    assert found["Shards"]
    for shard in found["Shards"]:
        assert len(shard["ShardId"]) >= 28 and shard["ShardId"].startswith("shardId-")
        assert len(shard["SequenceNumberRange"]["StartingSequenceNumber"]) >= 21
        assert "EndingSequenceNumber" not in shard["SequenceNumberRange"] and "ParentShardId" not in shard
    listed = streams.list_streams(TableName=table)["Streams"]
    assert listed == [{"StreamArn": arn, "TableName": table, "StreamLabel": label}]
    plain = table_of()
    assert "LatestStreamArn" not in ddb.describe_table(TableName=plain)["Table"]
    assert streams.list_streams(TableName=plain)["Streams"] == []


def test_each_change_is_a_record_once_and_in_order(ddb, streams, table_of):
    table = table_of(StreamSpecification=BOTH)
    put(ddb, table, "a", n={"N": "1"})
    put(ddb, table, "a", n={"N": "1"})
    ddb.update_item(
        TableName=table, Key={"pk": {"S": "a"}}, UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": {"N": "1"}}
    )
    ddb.delete_item(TableName=table, Key={"pk": {"S": "a"}})
    ddb.delete_item(TableName=table, Key={"pk": {"S": "a"}})
    reader = read_all(streams, arn_of(ddb, table), 3)
    reader.round()
    records = reader.records
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    one, two = ({"pk": {"S": "a"}, "n": {"N": number}} for number in "12")
    images = [(record["dynamodb"].get("OldImage"), record["dynamodb"].get("NewImage")) for record in records]
    assert images == [(None, one), (one, two), (two, None)]
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    assert numbers == sorted(numbers) and all(21 <= len(number) <= 40 for number in numbers)
    assert len({record["eventID"] for record in records}) == 3
    for record in records:
        assert sorted(record) == sorted(HAPPENED)
        assert (record["eventVersion"], record["eventSource"]) == ("1.1", "aws:dynamodb")
        assert record["dynamodb"]["Keys"] == {"pk": {"S": "a"}}
        assert record["dynamodb"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"
        created = record["dynamodb"]["ApproximateCreationDateTime"]
        assert abs((datetime.datetime.now(datetime.timezone.utc) - created).total_seconds()) < 600
    # Keys and images, as items are counted: "pk" and "a" are three bytes, "n" and a digit are three more.
    assert [record["dynamodb"]["SizeBytes"] for record in records] == [3 + 6, 3 + 6 + 6, 3 + 6]


@pytest.mark.parametrize("view,shown", [("KEYS_ONLY", []), ("NEW_IMAGE", ["NewImage"]), ("OLD_IMAGE", ["OldImage"])])
def test_views_show_what_they_are_named_for(ddb, streams, table_of, view, shown):
    table = table_of(StreamSpecification={"StreamEnabled": True, "StreamViewType": view})
    put(ddb, table, "a", n={"N": "1"})
    put(ddb, table, "a", n={"N": "2"})
    ddb.delete_item(TableName=table, Key={"pk": {"S": "a"}})
    records = read_all(streams, arn_of(ddb, table), 3).records
    modified = records[1]["dynamodb"]
    assert [name for name in ("NewImage", "OldImage") if name in modified] == shown
    assert all(record["dynamodb"]["Keys"] == {"pk": {"S": "a"}} for record in records)
    assert ("OldImage" in records[2]["dynamodb"]) == (view == "OLD_IMAGE")


def test_iterators_stand_where_they_were_asked_to(ddb, streams, table_of):
    table = table_of(StreamSpecification=BOTH)
    arn = arn_of(ddb, table)
    for number in range(5):
        put(ddb, table, "a", n={"N": str(number)})
    reader = read_all(streams, arn, 5)
    numbers = [record["dynamodb"]["SequenceNumber"] for record in reader.records]
    shards = [shard["ShardId"] for shard in described(streams, arn)["Shards"]]
    home = next(s for s in shards if streams.get_records(ShardIterator=iterator(streams, arn, s))["Records"])

    def read(kind, limit=1000, **options):
        at = iterator(streams, arn, home, kind, **options)
        answer = streams.get_records(ShardIterator=at, Limit=limit)
        return [record["dynamodb"]["SequenceNumber"] for record in answer["Records"]], answer["NextShardIterator"]

    assert read("AT_SEQUENCE_NUMBER", SequenceNumber=numbers[2])[0] == numbers[2:]
    assert read("AFTER_SEQUENCE_NUMBER", SequenceNumber=numbers[2])[0] == numbers[3:]
    found, following = read("TRIM_HORIZON", limit=2)
    assert found == numbers[:2]
    answer = streams.get_records(ShardIterator=following, Limit=2)
    assert [record["dynamodb"]["SequenceNumber"] for record in answer["Records"]] == numbers[2:4]
    latest = iterator(streams, arn, home, "LATEST")
    assert streams.get_records(ShardIterator=latest)["Records"] == []
    put(ddb, table, "a", n={"N": "9"})
    [record] = harness.wait_until("its record is there", lambda: streams.get_records(ShardIterator=latest)["Records"])
    assert record["dynamodb"]["NewImage"]["n"] == {"N": "9"}


def test_wrong_requests_are_refused(ddb, streams, table_of):
    table = table_of(StreamSpecification=BOTH)
    arn = arn_of(ddb, table)
    shard = described(streams, arn)["Shards"][0]["ShardId"]
    loose = harness.client(streams.meta.endpoint_url, service="dynamodbstreams", parameter_validation=False)
    missing = arn[:-3] + "000"
    if missing == arn:
        missing = arn[:-3] + "001"
    code, message = refused(streams.describe_stream, StreamArn=missing)
    assert (code, message) == ("ResourceNotFoundException", f"Requested resource not found: Stream: {missing} not found")
    assert refused(streams.describe_stream, StreamArn="arn:aws:dynamodb:us-east-1:000000000000:nothing")[0] == "ValidationException"
    assert "length greater than or equal to 37" in refused(loose.describe_stream, StreamArn="arn")[1]
    assert "less than or equal to 100" in refused(loose.describe_stream, StreamArn=arn, Limit=101)[1]
    ask = {"StreamArn": arn, "ShardId": shard}
    other = "shardId-00000000000000000000-00000000"
    code, _ = refused(streams.get_shard_iterator, **{**ask, "ShardId": other}, ShardIteratorType="LATEST")
    assert code == "ResourceNotFoundException"
    assert "enum value set" in refused(loose.get_shard_iterator, **ask, ShardIteratorType="NOW")[1]
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        assert refused(streams.get_shard_iterator, **ask, ShardIteratorType=kind)[0] == "ValidationException"
        wrong = {"ShardIteratorType": kind, "SequenceNumber": "9" * 30}
        assert refused(streams.get_shard_iterator, **ask, **wrong)[0] == "ValidationException"
    good = iterator(streams, arn, shard)
    for wrong in ("garbage", good[:-1], good.replace("|1|", "|2|"), good[:-1] + ("0" if good[-1] != "0" else "1")):
        assert refused(streams.get_records, ShardIterator=wrong) == ("ValidationException", "Invalid ShardIterator.")
    assert "less than or equal to 1000" in refused(loose.get_records, ShardIterator=good, Limit=1001)[1]


def test_specifications_are_checked(ddb, table_of):
    loose = harness.client(ddb.meta.endpoint_url, parameter_validation=False)
    table = table_of(StreamSpecification=BOTH)

    def update(**specification):
        return refused(loose.update_table, TableName=table, StreamSpecification=specification)

    assert update(**BOTH) == ("ValidationException", f"Table already has an enabled stream: TableName: {table}")
    for wrong in ({}, {"StreamEnabled": True}, {"StreamEnabled": False, "StreamViewType": "KEYS_ONLY"}):
        assert update(**wrong)[0] == "ValidationException"
    assert "enum value set" in update(StreamEnabled=True, StreamViewType="ALL")[1]
    plain = table_of()
    off = {"StreamEnabled": False}
    assert refused(loose.update_table, TableName=plain, StreamSpecification=off)[0] == "ValidationException"


def test_a_stream_that_is_enabled_again_is_another_one(ddb, streams, table_of):
    table = table_of()
    put(ddb, table, "before")
    ddb.update_table(TableName=table, StreamSpecification=BOTH)
    active(ddb, table)
    put(ddb, table, "first")
    first = arn_of(ddb, table)
    assert read_all(streams, first, 1).keys() == ["first"]
    ddb.update_table(TableName=table, StreamSpecification={"StreamEnabled": False})
    active(ddb, table)
    assert "StreamSpecification" not in ddb.describe_table(TableName=table)["Table"]
    put(ddb, table, "between")
    harness.wait_until("it is disabled", lambda: described(streams, first)["StreamStatus"] == "DISABLED")
    reader = Reader(streams, first)
    harness.wait_until("its shards end", lambda: reader.round() is not None and None in reader.iterators.values())
    assert all("EndingSequenceNumber" in s["SequenceNumberRange"] for s in described(streams, first)["Shards"])
    ddb.update_table(TableName=table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"})
    active(ddb, table)
    second = arn_of(ddb, table)
    assert second != first
    put(ddb, table, "second")
    assert read_all(streams, second, 1).keys() == ["second"]
    assert read_all(streams, first, 1).keys() == ["first"]
    listed = [stream["StreamArn"] for stream in streams.list_streams(TableName=table)["Streams"]]
    assert listed == sorted([first, second])
    page = streams.list_streams(TableName=table, Limit=1)
    assert page["LastEvaluatedStreamArn"] == listed[0]
    rest = streams.list_streams(TableName=table, ExclusiveStartStreamArn=listed[0])
    assert [stream["StreamArn"] for stream in rest["Streams"]] == listed[1:]


def test_a_reader_gets_each_change_once_over_splits_and_a_new_leader(endpoint, ddb, streams):
    if endpoint.kind != "mesh":
        pytest.skip("dev has no bus that ctl could reach")
    table = "streamed"
    ddb.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        ProvisionedThroughput={"ReadCapacityUnits": 3000, "WriteCapacityUnits": 1000},
        StreamSpecification=BOTH,
    )
    active(ddb, table)
    arn = arn_of(ddb, table)
    reader, written = Reader(streams, arn, limit=7), {}
    # While a leader is replaced a write may be refused; it is tried again then. (What is written twice alike is one change.)
    patient = harness.client(endpoint.url, retries=5)

    def write(value):
        for number in range(10):
            put(patient, table, f"k{number}", n={"N": str(value)})
            written.setdefault(f"k{number}", []).append(str(value))

    write(1)
    reader.round()
    [whole] = harness.wait_until("its leader is heard", lambda: [p for p in endpoint.partitions(table) if p["leader"]])
    parent = whole["partition"]
    inside = json.dumps({"pk": {"S": "k4"}})
    endpoint.split(f"{table}/{parent}", "--at", inside)
    write(2)

    def counted():
        """Both halves, once what they hold has been heard."""
        halves = endpoint.partitions(table)
        return sum(partition["items"] for partition in halves) == 10 and halves

    halves = harness.wait_until("the items of both halves are counted", counted)
    half = max(halves, key=lambda partition: partition["items"])["partition"]
    endpoint.split(f"{table}/{half}")
    write(3)
    leaf = endpoint.partitions(table)[0]
    other = next(replica["node"] for replica in leaf["replicas"] if replica["node"] != leaf["leader"])
    endpoint.ctl("transfer-leader", str(leaf["partition"]), str(other), exit_codes=(0, 1))
    reader.round()
    reader.restart()
    write(4)

    def lineage():
        shards = described(streams, arn)["Shards"]
        closed = [shard for shard in shards if "EndingSequenceNumber" in shard["SequenceNumberRange"]]
        return (len(shards), len(closed)) == (5, 2) and shards

    shards = harness.wait_until("five shards, two of them closed", lineage)
    names = [shard["ShardId"] for shard in shards]
    for shard in shards[1:]:
        assert names.index(shard["ParentShardId"]) < names.index(shard["ShardId"])
    children = streams.describe_stream(StreamArn=arn, ShardFilter={"Type": "CHILD_SHARDS", "ShardId": names[0]})
    assert len(children["StreamDescription"]["Shards"]) == 2


    def read_on():
        reader.round()
        reader.restart()
        return len(reader.records) >= 40 and len(reader.finished) == 2

    harness.wait_until("all is read, by a reader that starts anew each time", read_on, timeout_s=90)
    reader.round()
    found, last = {}, {}
    for record in reader.records:
        key, number = record["dynamodb"]["Keys"]["pk"]["S"], record["dynamodb"]["SequenceNumber"]
        assert number > last.get(key, "")
        last[key] = number
        found.setdefault(key, []).append(record["dynamodb"]["NewImage"]["n"]["N"])
    assert found == written
    assert len({record["eventID"] for record in reader.records}) == 40
    ddb.delete_table(TableName=table)
