"""TransactWriteItems."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, HTTPClientError

import harness
from faults import fails, invalid

pytestmark = pytest.mark.usefixtures("ledger")

NONE = {"Code": "None"}
FAILED = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}


def key_of(value):
    return {"pk": {"S": value}}


def put(table, pk, **rest):
    item = {**key_of(pk), **{name: {"N": str(value)} for name, value in rest.pop("attributes", {}).items()}}
    return {"Put": {"TableName": table, "Item": item, **rest}}


def add(table, pk, amount, **rest):
    return {
        "Update": {
            "TableName": table,
            "Key": key_of(pk),
            "UpdateExpression": "ADD n :n",
            "ExpressionAttributeValues": {":n": {"N": str(amount)}, **rest.pop("values", {})},
            **rest,
        }
    }


def check(table, pk, condition, **rest):
    return {"ConditionCheck": {"TableName": table, "Key": key_of(pk), "ConditionExpression": condition, **rest}}


def delete(table, pk, **rest):
    return {"Delete": {"TableName": table, "Key": key_of(pk), **rest}}


def read(ddb, table, pk):
    return ddb.get_item(TableName=table, Key=key_of(pk), ConsistentRead=True).get("Item")


def cancelled(reasons, call, **arguments):
    """The call fails with these CancellationReasons, and the message that goes with them."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    codes = ", ".join(reason["Code"] for reason in reasons)
    assert response["Error"]["Code"] == "TransactionCanceledException", response
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    assert response["Error"]["Message"] == message
    assert response["CancellationReasons"] == reasons
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_all_four_operations_at_once(ddb, simple, ranged, key):
    ddb.put_item(TableName=simple, Item={**key_of(f"{key}-gone"), "n": {"N": "1"}})
    ddb.put_item(TableName=simple, Item={**key_of(f"{key}-there"), "n": {"N": "1"}})
    answer = ddb.transact_write_items(
        TransactItems=[
            put(simple, f"{key}-new", attributes={"n": 7}),
            add(simple, f"{key}-counted", 5),
            delete(simple, f"{key}-gone"),
            check(simple, f"{key}-there", "attribute_exists(pk)"),
            {"Put": {"TableName": ranged, "Item": {"pk": {"S": key}, "sk": {"S": "a"}}}},
        ],
        ReturnConsumedCapacity="TOTAL",
        ReturnItemCollectionMetrics="SIZE",
    )
    assert answer["ConsumedCapacity"] == [
        {"TableName": simple, "CapacityUnits": 8.0, "WriteCapacityUnits": 8.0},
        {"TableName": ranged, "CapacityUnits": 2.0, "WriteCapacityUnits": 2.0},
    ]
    assert read(ddb, simple, f"{key}-new")["n"] == {"N": "7"}
    assert read(ddb, simple, f"{key}-counted")["n"] == {"N": "5"}
    assert read(ddb, simple, f"{key}-gone") is None
    assert read(ddb, simple, f"{key}-there")["n"] == {"N": "1"}
    # Nothing is left behind: single writes go on.
    for name in ("new", "counted", "gone", "there"):
        ddb.put_item(TableName=simple, Item=key_of(f"{key}-{name}"))


def test_one_failed_condition_cancels_everything(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={**key_of(f"{key}-b"), "n": {"N": "3"}})
    exists = "attribute_not_exists(pk)"
    items = [
        put(simple, f"{key}-a"),
        put(simple, f"{key}-b", ConditionExpression=exists, ReturnValuesOnConditionCheckFailure="ALL_OLD"),
        check(simple, f"{key}-c", "attribute_exists(pk)"),
    ]
    old = {**FAILED, "Item": {**key_of(f"{key}-b"), "n": {"N": "3"}}}
    cancelled([NONE, old, FAILED], ddb.transact_write_items, TransactItems=items)
    assert read(ddb, simple, f"{key}-a") is None
    assert read(ddb, simple, f"{key}-b")["n"] == {"N": "3"}
    ddb.put_item(TableName=simple, Item=key_of(f"{key}-a"))


def test_what_is_wrong_with_an_item_is_told_at_its_place(ddb, simple, key):
    wrong = {"Put": {"TableName": simple, "Item": {"pk": {"N": "1"}}}}
    with pytest.raises(ClientError) as caught:
        ddb.transact_write_items(TransactItems=[put(simple, key), wrong])
    assert [r["Code"] for r in caught.value.response["CancellationReasons"]] == ["None", "ValidationError"]
    # Only the item itself shows that a number cannot be added to it.
    ddb.put_item(TableName=simple, Item={**key_of(f"{key}-s"), "n": {"S": "text"}})
    with pytest.raises(ClientError) as caught:
        ddb.transact_write_items(TransactItems=[add(simple, f"{key}-s", 1), put(simple, key)])
    reasons = caught.value.response["CancellationReasons"]
    assert [r["Code"] for r in reasons] == ["ValidationError", "None"]
    assert "An operand in the update expression has an incorrect data type" in reasons[0]["Message"]
    assert read(ddb, simple, key) is None


def empty(kind, name):
    return (
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty "
        f"{kind} value. Key: {name}"
    )


def test_what_shows_before_a_transaction_begins_is_no_reason_of_it(ddb, simple, ranged, key):
    call = ddb.transact_write_items
    # Wherever it stands, and whatever else is wrong: here a key of a wrong type.
    first = {"Put": {"TableName": simple, "Item": {"pk": {"N": "1"}}}}
    for operation in (put(simple, ""), add(simple, "", 1), delete(simple, ""), check(simple, "", "attribute_exists(pk)")):
        invalid(empty("string", "pk"), call, TransactItems=[first, operation])
    unsorted = {"Put": {"TableName": ranged, "Item": {**key_of(key), "sk": {"S": ""}}}}
    invalid(empty("string", "sk"), call, TransactItems=[put(simple, key), unsorted])

    def sized(data_bytes):
        return {"Put": {"TableName": simple, "Item": {**key_of(key), "b": {"B": bytes(data_bytes)}}}}

    most = 400 * 1024 - len("pk") - len(key) - len("b")
    invalid("Item size has exceeded the maximum allowed size", call, TransactItems=[sized(most + 1)])
    call(TransactItems=[sized(most)])
    # How large an update makes an item shows only where the item is.
    grow = add(simple, key, 1)
    cancelled(
        [NONE, {"Code": "ValidationError", "Message": "Item size to update has exceeded the maximum allowed size"}],
        call, TransactItems=[put(simple, f"{key}-2"), grow],
    )
    assert read(ddb, simple, f"{key}-2") is None


def test_validation(ddb, simple, key):
    call = ddb.transact_write_items
    several = "Transaction request cannot include multiple operations on one item"
    invalid(several, call, TransactItems=[put(simple, key), delete(simple, key)])
    one = "TransactItems can only contain one of Check, Put, Update or Delete"
    invalid(one, call, TransactItems=[{}])
    invalid(one, call, TransactItems=[{**put(simple, key), **delete(simple, f"{key}-2")}])
    invalid(
        "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: "
        "Member must have length less than or equal to 100",
        call,
        TransactItems=[put(simple, f"{key}-{i}") for i in range(101)],
    )
    invalid(
        f"1 validation error detected: Value '{'x' * 37}' at 'clientRequestToken' failed to satisfy constraint: "
        "Member must have length less than or equal to 36",
        call,
        TransactItems=[put(simple, key)],
        ClientRequestToken="x" * 37,
    )
    invalid(
        "The aggregate size of the items in the transaction cannot exceed 4 MB",
        call,
        TransactItems=[
            {"Put": {"TableName": simple, "Item": {**key_of(f"{key}-{i}"), "b": {"B": bytes(390_000)}}}}
            for i in range(11)
        ],
    )
    bad = 'Invalid UpdateExpression: Syntax error; token: "<EOF>", near: "SET"'
    wrong = add(simple, key, 1)
    wrong["Update"].update(UpdateExpression="SET")
    del wrong["Update"]["ExpressionAttributeValues"]
    invalid(bad, call, TransactItems=[wrong])
    fails("ResourceNotFoundException", None, call, TransactItems=[put("no-such-table", key)])
    fails("ResourceNotFoundException", None, call, TransactItems=[put("evenkeel.transactions", key)])
    assert read(ddb, simple, key) is None


def test_a_hundred_operations(ddb, simple, key):
    ddb.transact_write_items(TransactItems=[put(simple, f"{key}-{i}") for i in range(100)])
    assert all(read(ddb, simple, f"{key}-{i}") for i in (0, 50, 99))


def test_a_token_stands_for_its_transaction(ddb, simple, key):
    items = [add(simple, key, 1), add(simple, f"{key}-2", 1)]

    def again(items=items, token=key):
        return ddb.transact_write_items(
            TransactItems=items, ClientRequestToken=token, ReturnConsumedCapacity="TOTAL"
        )

    assert again()["ConsumedCapacity"][0]["WriteCapacityUnits"] == 4.0
    # Until the first one is noted as done, it is "in progress".
    messages = set()

    def repeated():
        try:
            return again()
        except ddb.exceptions.TransactionInProgressException as error:
            messages.add(error.response["Error"]["Message"])

    second = harness.wait_until("it is noted as done", repeated)
    assert messages <= {"The transaction with the given request token is already in progress."}
    assert second["ConsumedCapacity"] == [{"TableName": simple, "CapacityUnits": 4.0, "ReadCapacityUnits": 4.0}]
    assert read(ddb, simple, key)["n"] == {"N": "1"}
    fails("IdempotentParameterMismatchException", None, again, items=items[:1])
    # A cancelled transaction leaves its token free.
    failing = [check(simple, key, "attribute_not_exists(pk)")]
    cancelled([FAILED], again, items=failing, token=f"{key}-x")
    again(items=[add(simple, key, 1)], token=f"{key}-x")
    assert read(ddb, simple, key)["n"] == {"N": "2"}


def test_transfers_conserve_the_sum_while_others_read(ddb, simple, key):
    accounts = [f"{key}-{i}" for i in range(4)]
    for account in accounts:
        ddb.put_item(TableName=simple, Item={**key_of(account), "n": {"N": "100"}})
    outcomes, sums, problems = [], [], []

    def transfer(number):
        for i in range(12):
            one, other = accounts[(number + i) % 4], accounts[(number + i + 1 + number % 3) % 4]
            if one == other:
                continue
            enough = {"ConditionExpression": "n >= :m", "values": {":m": {"N": "5"}}}
            try:
                ddb.transact_write_items(TransactItems=[add(simple, one, -5, **enough), add(simple, other, 5)])
                outcomes.append("done")
            except ddb.exceptions.TransactionCanceledException as error:
                codes = {r["Code"] for r in error.response["CancellationReasons"]}
                if not codes <= {"None", "TransactionConflict", "ConditionalCheckFailed"}:
                    problems.append(error.response)
                outcomes.append("cancelled")

    def look():
        for _ in range(12):
            gets = [{"Get": {"TableName": simple, "Key": key_of(a)}} for a in accounts]
            try:
                answer = ddb.transact_get_items(TransactItems=gets)
                sums.append(sum(int(r["Item"]["n"]["N"]) for r in answer["Responses"]))
            except ddb.exceptions.TransactionCanceledException:
                pass

    threads = [threading.Thread(target=transfer, args=(n,)) for n in range(4)] + [threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert "done" in outcomes
    assert set(sums) <= {400}
    assert sum(int(read(ddb, simple, a)["n"]["N"]) for a in accounts) == 400


def test_single_writes_meet_transactions_with_a_conflict_or_not_at_all(ddb, endpoint, simple, key):
    ddb.put_item(TableName=simple, Item={**key_of(key), "n": {"N": "0"}})
    # Nothing is sent twice: what was done is counted. Without an answer, or with a server's error, it may have been.
    once = harness.client(endpoint.url, steady=False)
    all_done, all_unknown = [], []

    def tried(name, call):
        try:
            call()
            all_done.append(name)
        except once.exceptions.TransactionConflictException as error:
            assert error.response["Error"]["Message"] == "Transaction is ongoing for the item"
        except once.exceptions.TransactionCanceledException as error:
            # The other transaction is done with one item, and not yet with the other.
            codes = {reason["Code"] for reason in error.response["CancellationReasons"]}
            assert codes in ({"TransactionConflict"}, {"None", "TransactionConflict"})
        except (once.exceptions.InternalServerError, HTTPClientError):
            all_unknown.append(name)

    def single():
        one = {"UpdateExpression": "ADD n :n", "ExpressionAttributeValues": {":n": {"N": "1"}}}
        for _ in range(60):
            tried("single", lambda: once.update_item(TableName=simple, Key=key_of(key), **one))

    def both():
        for _ in range(15):
            tried("both", lambda: once.transact_write_items(TransactItems=[add(simple, key, 1000), put(simple, f"{key}-2")]))

    with ThreadPoolExecutor(3) as threads:
        for work in [threads.submit(work) for work in (single, both, both)]:
            work.result()
    done, unknown = Counter(all_done), Counter(all_unknown)
    assert done["single"] and done["both"]
    thousands, ones = divmod(int(read(ddb, simple, key)["n"]["N"]), 1000)
    assert done["single"] <= ones <= done["single"] + unknown["single"]
    assert done["both"] <= thousands <= done["both"] + unknown["both"]


def test_the_ledger_is_not_to_be_seen(ddb, simple, key):
    ddb.transact_write_items(TransactItems=[put(simple, key)])
    assert "evenkeel.transactions" not in ddb.list_tables()["TableNames"]
    name = {"TableName": "evenkeel.transactions"}
    fails("ResourceNotFoundException", None, ddb.describe_table, **name)
    fails("ResourceNotFoundException", None, ddb.delete_table, **name)
    fails("ResourceNotFoundException", None, ddb.scan, **name)
