"""What transactions cost: latencies of TransactGetItems over GetItem, and of TransactWriteItems over PutItem, one client, one request at a time.

    python3 load-tests/transactions.py URL [requests]

Published for DynamoDB (USENIX ATC'23): just under 2 for reads, about 4 for writes. Needs boto3; the endpoint takes any credentials that its
router knows (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
"""

import statistics
import sys
import time

import boto3
from botocore.config import Config


def main(url, requests=500):
    ddb = boto3.client(
        "dynamodb", endpoint_url=url, region_name="us-east-1", config=Config(retries={"max_attempts": 0})
    )
    table = f"transactions-{int(time.time())}"
    ddb.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    ddb.get_waiter("table_exists").wait(TableName=table)

    def item(number):
        return {"pk": {"S": f"item-{number % 1000}"}, "text": {"S": "x" * 880}}

    def key(number):
        return {"pk": item(number)["pk"]}

    def put(number):
        ddb.put_item(TableName=table, Item=item(number))

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

    try:
        results = {
            "PutItem": measure(put),
            "GetItem, strong": measure(get),
            "TransactWriteItems, 1 item": measure(write(1)),
            "TransactWriteItems, 3 items": measure(write(3)),
            "TransactGetItems, 1 item": measure(read(1)),
            "TransactGetItems, 3 items": measure(read(3)),
        }
    finally:
        ddb.delete_table(TableName=table)
    print("| request | p50 ms | p99 ms | p50 over the single one |\n|---|---|---|---|")
    for name, (p50, p99) in results.items():
        single = results["PutItem" if "Put" in name or "Write" in name else "GetItem, strong"][0]
        print(f"| {name} | {p50:.2f} | {p99:.2f} | {p50 / single:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
