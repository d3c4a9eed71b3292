"""What transactions and global indexes cost: latencies of TransactGetItems over GetItem, of TransactWriteItems over PutItem, and of PutItem
into a table with two global secondary indexes over one without; one client, one request at a time. Kinds of requests take turns, so that a slow
moment of the machine is everybody's.

Published for DynamoDB (USENIX ATC'23): just under 2 for reads, about 4 for writes; nothing for indexes. Needs boto3. Credentials are those that the endpoint's
router knows, from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; those of `evenkeel dev` if these are not set. Tables of its own are made and deleted.
"""

import argparse
import json
import os
import statistics
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# For how long the first transaction of a mesh is repeated: it has the ledger made.
LEDGER_S = 60
# Requests of one kind in a turn.
TURN = 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the endpoint, like http://127.0.0.1:8000")
    parser.add_argument("requests", nargs="?", type=int, default=500, help="requests of each kind (500)")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="a table for people, or one line of JSON")
    return parser.parse_args()


def main(url, requests, output):
    ddb = boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "evenkeel"),
        aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "evenkeel"),
        config=Config(retries={"max_attempts": 0}),
    )
    table = f"transactions-{int(time.time())}"
    indexed = f"{table}-indexed"

    def create(name, *indexes):
        keys = [*indexes, "pk"]
        options = {}
        if indexes:
            options["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": f"by-{index}",
                    "KeySchema": [{"AttributeName": index, "KeyType": "HASH"}, {"AttributeName": "pk", "KeyType": "RANGE"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index in indexes
            ]
        ddb.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            **options,
        )
        ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})

    def item(number):
        return {"pk": {"S": f"item-{number % 1000}"}, "text": {"S": "x" * 880}}

    def key(number):
        return {"pk": item(number)["pk"]}

    def put(number):
        ddb.put_item(TableName=table, Item=item(number))

    def put_indexed(number):
        keys = {"one": {"S": f"one-{number % 10}"}, "two": {"S": f"two-{number % 7}"}}
        ddb.put_item(TableName=indexed, Item={**item(number), **keys})

    def get(number):
        ddb.get_item(TableName=table, Key=key(number), ConsistentRead=True)

    def write(count):
        def call(number):
            puts = [{"Put": {"TableName": table, "Item": item(number * count + n)}} for n in range(count)]
            ddb.transact_write_items(TransactItems=puts)

        return call

    def read(count):
        def call(number):
            gets = [{"Get": {"TableName": table, "Key": key(number * count + n)}} for n in range(count)]
            ddb.transact_get_items(TransactItems=gets)

        return call

    def make_ledger():
        end = time.monotonic() + LEDGER_S
        while True:
            try:
                return write(1)(0)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500 or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    kinds = {
        "PutItem": put,
        "PutItem, two global indexes": put_indexed,
        "GetItem, strong": get,
        "TransactWriteItems, 1 item": write(1),
        "TransactWriteItems, 3 items": write(3),
        "TransactGetItems, 1 item": read(1),
        "TransactGetItems, 3 items": read(3),
    }
    times = {name: [] for name in kinds}

    def turn(count, first):
        for name, call in kinds.items():
            for number in range(first, first + count):
                began = time.perf_counter()
                call(number)
                times[name].append((time.perf_counter() - began) * 1000)

    create(table)
    create(indexed, "one", "two")
    try:
        make_ledger()
        # Connections, caches and leaders are warm after this.
        turn(TURN, 0)
        for of_kind in times.values():
            of_kind.clear()
        for first in range(0, requests, TURN):
            turn(min(TURN, requests - first), first)
    finally:
        for name in (table, indexed):
            ddb.delete_table(TableName=name)
    results = {}
    for name, of_kind in times.items():
        p50, p99 = statistics.median(of_kind), sorted(of_kind)[int(len(of_kind) * 0.99)]
        single = statistics.median(times["PutItem" if "Put" in name or "Write" in name else "GetItem, strong"])
        results[name] = {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "p50_over_single": round(p50 / single, 2)}
    if output == "json":
        print(json.dumps(results))
        return
    print("| request | p50 ms | p99 ms | p50 over the single one |\n|---|---|---|---|")
    for name, result in results.items():
        print(f"| {name} | {result['p50_ms']:.2f} | {result['p99_ms']:.2f} | {result['p50_over_single']:.2f} |")


if __name__ == "__main__":
    options = arguments()
    if options.requests < 1:
        sys.exit("requests must be at least 1")
    main(options.url, options.requests, options.output)
