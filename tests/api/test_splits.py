"""Partitions that the operator splits while clients use them, on the mesh."""

import json
import threading

import pytest

import harness


def make(ddb, name):
    ddb.create_table(
        TableName=name,
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        ProvisionedThroughput={"ReadCapacityUnits": 3000, "WriteCapacityUnits": 1000},
    )
    harness.wait_until(
        f"{name} is active", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE"
    )


def scan_all(ddb, name, **options):
    items = []
    for page in ddb.get_paginator("scan").paginate(TableName=name, **options):
        items += page["Items"]
    return items


class Clients:
    """Writers, readers, scanners and batches that run until they are told to rest, and note every failure."""

    def __init__(self, url, name):
        self.url, self.name = url, name
        self.stop, self.problems = threading.Event(), []
        self.acknowledged = {}
        self.threads = [threading.Thread(target=self.run, args=(work,)) for work in (self.write, self.batch, self.scan, self.query)]
        for thread in self.threads:
            thread.start()

    def run(self, work):
        ddb = harness.client(self.url)
        number = 0
        while not self.stop.is_set():
            try:
                work(ddb, number)
            except Exception as error:  # whatever it is, a client has seen it
                self.problems.append(f"{work.__name__} {number}: {error!r}")
            number += 1
            # Below the table's throughput, which this is not about.
            self.stop.wait(0.02)

    def write(self, ddb, number):
        key = (f"w{number % 40}", number % 7)
        item = {"pk": {"S": key[0]}, "sk": {"N": str(key[1])}, "value": {"N": str(number)}}
        ddb.put_item(TableName=self.name, Item=item)
        self.acknowledged[key] = number
        read = ddb.get_item(TableName=self.name, Key={"pk": item["pk"], "sk": item["sk"]}, ConsistentRead=True)
        if read.get("Item") != item:
            self.problems.append(f"read {read.get('Item')} behind {item}")

    def batch(self, ddb, number):
        items = [
            {"pk": {"S": f"b{n}"}, "sk": {"N": "1"}, "value": {"N": str(number)}, "rest": {"S": "x" * 200}} for n in range(25)
        ]
        left = ddb.batch_write_item(RequestItems={self.name: [{"PutRequest": {"Item": i}} for i in items]})
        keys = [{"pk": i["pk"], "sk": i["sk"]} for i in items]
        found = ddb.batch_get_item(RequestItems={self.name: {"Keys": keys, "ConsistentRead": True}})
        if left["UnprocessedItems"] or found["UnprocessedKeys"]:
            return
        got = sorted(found["Responses"][self.name], key=lambda i: i["pk"]["S"])
        if got != sorted(items, key=lambda i: i["pk"]["S"]):
            self.problems.append(f"batch {number}: {len(got)} items, or other ones")

    def scan(self, ddb, number):
        before = set(self.acknowledged)
        segments = 1 + number % 3
        found = []
        for segment in range(segments):
            options = {"Segment": segment, "TotalSegments": segments} if segments > 1 else {}
            found += scan_all(ddb, self.name, ConsistentRead=True, Limit=37, **options)
        keys = [(i["pk"]["S"], int(i["sk"]["N"])) for i in found]
        if len(keys) != len(set(keys)):
            self.problems.append(f"scan {number} repeats items")
        if before - set(keys):
            self.problems.append(f"scan {number} lost {len(before - set(keys))} items")

    def query(self, ddb, number):
        forward = number % 2 == 0
        pages = ddb.get_paginator("query").paginate(
            TableName=self.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "long"}},
            ScanIndexForward=forward,
            ConsistentRead=True,
            Limit=23,
        )
        numbers = [int(item["sk"]["N"]) for page in pages for item in page["Items"]]
        if numbers != sorted(range(300), reverse=not forward):
            self.problems.append(f"query {number}: {len(numbers)} items, or in another order")

    def rest(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.problems == [], f"{len(self.problems)}, e.g. {self.problems[:3]}"
        assert self.acknowledged


def check(ddb, name, acknowledged):
    found = {(i["pk"]["S"], int(i["sk"]["N"])): i for i in scan_all(ddb, name, ConsistentRead=True)}
    for key, number in acknowledged.items():
        assert found[key]["value"]["N"] == str(number)
    assert sum(1 for key in found if key[0] == "long") == 300


def test_one_partition_becomes_four_by_the_operators_word(endpoint, ddb):
    if endpoint.kind != "mesh":
        pytest.skip("dev has no bus that ctl could reach")
    make(ddb, "ordered")
    for start in range(0, 300, 25):
        items = [{"pk": {"S": "long"}, "sk": {"N": str(n)}} for n in range(start, start + 25)]
        harness.write_all(ddb, "ordered", [{"PutRequest": {"Item": i}} for i in items])
    clients = Clients(endpoint.url, "ordered")
    [whole] = harness.wait_until("its leader is heard", lambda: [p for p in endpoint.partitions("ordered") if p["leader"]])
    parent = whole["partition"]
    inside = json.dumps({"pk": {"S": "long"}, "sk": {"N": "150"}})
    endpoint.split(f"ordered/{parent}", "--at", inside)
    for half in endpoint.partitions("ordered"):
        assert half["parent"] == parent
        endpoint.split(f"ordered/{half['partition']}")
    clients.rest()
    assert len(endpoint.partitions("ordered")) == 4
    check(ddb, "ordered", clients.acknowledged)
    ddb.delete_table(TableName="ordered")
