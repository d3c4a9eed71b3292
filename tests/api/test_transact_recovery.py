"""A router dies in the middle of transactions: each of them is there wholly or not at all, and nothing stays pending."""

import threading

import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

import harness

ROUTER = "router-2"


def test_a_router_that_dies_leaves_all_or_nothing_and_no_stuck_item(endpoint, ddb, simple, key, ledger):
    if not isinstance(endpoint, harness.Mesh):
        pytest.skip("dev is one process")
    pairs = [(f"{key}-{n}-a", f"{key}-{n}-b") for n in range(6)]
    dying = [harness.client(endpoint.second_url) for _ in pairs]
    # Those whose outcome is not known may have been done, too.
    acknowledged, doubtful, stop = [0] * len(pairs), [0] * len(pairs), threading.Event()

    def work(number):
        def add(name):
            return {
                "Update": {
                    "TableName": simple,
                    "Key": {"pk": {"S": name}},
                    "UpdateExpression": "ADD n :one",
                    "ExpressionAttributeValues": {":one": {"N": "1"}},
                }
            }

        while not stop.is_set():
            try:
                dying[number].transact_write_items(TransactItems=[add(name) for name in pairs[number]])
                acknowledged[number] += 1
            except EndpointConnectionError:
                pass
            except ClientError as error:
                doubtful[number] += error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
            except BotoCoreError:
                doubtful[number] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(pairs))]
    for thread in threads:
        thread.start()
    # The first transaction of a mesh has the ledger made.
    try:
        harness.wait_until("transactions are under way", lambda: min(acknowledged) >= 3, timeout_s=60)
        endpoint.kill(ROUTER)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        endpoint.start_one(ROUTER)

    def free(name):
        """Whether a single write goes through; it changes no count."""
        try:
            ddb.update_item(
                TableName=simple,
                Key={"pk": {"S": name}},
                UpdateExpression="SET seen = :t",
                ExpressionAttributeValues={":t": {"BOOL": True}},
            )
            return True
        except ddb.exceptions.TransactionConflictException:
            return False

    def count(name):
        item = ddb.get_item(TableName=simple, Key={"pk": {"S": name}}, ConsistentRead=True)["Item"]
        return int(item["n"]["N"])

    for number, pair in enumerate(pairs):
        for name in pair:
            harness.wait_until(f"{name} is free", lambda name=name: free(name), timeout_s=60)
        one, other = map(count, pair)
        assert one == other
        assert acknowledged[number] <= one <= acknowledged[number] + doubtful[number]
