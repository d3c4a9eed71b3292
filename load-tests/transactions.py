"""What transactions and global indexes cost: latencies of TransactGetItems over GetItem, of TransactWriteItems over PutItem, and of PutItem
into a table with two global secondary indexes over one without; one client, one request at a time.

    python3 load-tests/transactions.py URL [requests]

Published for DynamoDB (USENIX ATC'23): just under 2 for reads, about 4 for writes; nothing for indexes. Needs boto3; the endpoint takes any credentials that its
router knows (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
"""

import statistics
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# For how long the first transaction of a mesh is repeated: it has the ledger made.
LEDGER_S = 60


def main(url, requests=500):
    ddb = boto3.client(
        "dynamodb", endpoint_url=url, region_name="us-east-1", config=Config(retries={"max_attempts": 0})
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

    def measure(call):
        for number in range(20):
            call(number)
        times = []
        for number in range(requests):
            began = time.perf_counter()
            call(number)
            times.append(time.perf_counter() - began)
        times.sort()
        return statistics.median(times) * 1000, times[int(len(times) * 0.99)] * 1000

    create(table)
    create(indexed, "one", "two")
    try:
        make_ledger()
        results = {
            "PutItem": measure(put),
            "PutItem, two global indexes": measure(put_indexed),
            "GetItem, strong": measure(get),
            "TransactWriteItems, 1 item": measure(write(1)),
            "TransactWriteItems, 3 items": measure(write(3)),
            "TransactGetItems, 1 item": measure(read(1)),
            "TransactGetItems, 3 items": measure(read(3)),
        }
    finally:
        for name in (table, indexed):
            ddb.delete_table(TableName=name)
    print("| request | p50 ms | p99 ms | p50 over the single one |\n|---|---|---|---|")
    for name, (p50, p99) in results.items():
        single = results["PutItem" if "Put" in name or "Write" in name else "GetItem, strong"][0]
        print(f"| {name} | {p50:.2f} | {p99:.2f} | {p50 / single:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
