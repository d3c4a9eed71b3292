"""PartiQL: ExecuteTransaction."""

import json
import uuid

import pytest
from botocore.exceptions import ClientError

import harness
from faults import fails, invalid

pytestmark = [pytest.mark.one_kind, pytest.mark.usefixtures("ledger")]

NONE = {"Code": "None"}
FAILED = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
DUPLICATE = {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}


def statements(*texts):
    """Of texts, or of (text, parameter, …)."""
    made = []
    for text in texts:
        text, *parameters = (text,) if isinstance(text, str) else text
        made.append({"Statement": text, **({"Parameters": [{"S": p} for p in parameters]} if parameters else {})})
    return made


def run(ddb, *texts, **more):
    return ddb.execute_transaction(TransactStatements=statements(*texts), **more)


def read(ddb, table, pk):
    return ddb.get_item(TableName=table, Key={"pk": {"S": pk}}, ConsistentRead=True).get("Item")


def cancelled(reasons, ddb, *texts, **more):
    """The transaction is cancelled for these reasons, and the message tells them."""
    with pytest.raises(ClientError) as caught:
        run(ddb, *texts, **more)
    response = caught.value.response
    codes = ", ".join(reason["Code"] for reason in reasons)
    assert response["Error"] == {
        "Code": "TransactionCanceledException",
        "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
    }
    assert response["CancellationReasons"] == reasons


def test_writes_of_all_kinds_at_once(ddb, simple, ranged, key):
    for name in ("old", "gone", "there"):
        ddb.put_item(TableName=simple, Item={"pk": {"S": f"{key}-{name}"}, "n": {"N": "1"}})
    answer = run(
        ddb,
        (f"INSERT INTO \"{simple}\" VALUE {{'pk': ?, 'n': 7}}", f"{key}-new"),
        (f'UPDATE "{simple}" SET n = n + 4 WHERE pk = ? AND n = 1', f"{key}-old"),
        (f'DELETE FROM "{simple}" WHERE pk = ?', f"{key}-gone"),
        (f'EXISTS(SELECT * FROM "{simple}" WHERE pk = ? AND n = 1)', f"{key}-there"),
        (f"INSERT INTO \"{ranged}\" VALUE {{'pk': ?, 'sk': 'a'}}", key),
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer["Responses"] == []
    assert answer["ConsumedCapacity"] == [
        {"TableName": simple, "CapacityUnits": 8.0, "WriteCapacityUnits": 8.0},
        {"TableName": ranged, "CapacityUnits": 2.0, "WriteCapacityUnits": 2.0},
    ]
    assert read(ddb, simple, f"{key}-new")["n"] == {"N": "7"}
    assert read(ddb, simple, f"{key}-old")["n"] == {"N": "5"}
    assert read(ddb, simple, f"{key}-gone") is None
    assert read(ddb, simple, f"{key}-there")["n"] == {"N": "1"}


def test_one_that_fails_cancels_all(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "n": {"N": "1"}})
    insert = f"INSERT INTO \"{simple}\" VALUE {{'pk': ?}}"
    exists = f'EXISTS(SELECT * FROM "{simple}" WHERE pk = ? AND n = 2)'
    update = f'UPDATE "{simple}" SET n = 9 WHERE pk = ?'
    cancelled([NONE, DUPLICATE], ddb, (insert, f"{key}-new"), (insert, key))
    cancelled([FAILED, NONE], ddb, (exists, key), (insert, f"{key}-new"))
    # An UPDATE makes no item.
    cancelled([NONE, FAILED], ddb, (insert, f"{key}-new"), (update, f"{key}-nobody"))
    wrong = {"Code": "ValidationError", "Message": "The provided key element does not match the schema"}
    cancelled([NONE, wrong], ddb, (insert, f"{key}-new"), f'UPDATE "{simple}" SET n = 9 WHERE pk = 5')
    assert read(ddb, simple, f"{key}-new") is None and read(ddb, simple, key)["n"] == {"N": "1"}
    # What shows before a transaction begins is no reason of it.
    empty = (
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string "
        "value. Key: pk"
    )
    for statement in (insert, update, f'DELETE FROM "{simple}" WHERE pk = ?', exists):
        fails(
            "ValidationException", empty, ddb.execute_transaction,
            TransactStatements=statements((insert, f"{key}-new"), (statement, "")),
        )

    checks = statements((exists, key))
    checks[0]["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    response = fails("TransactionCanceledException", None, ddb.execute_transaction, TransactStatements=checks)
    assert response["CancellationReasons"] == [{**FAILED, "Item": {"pk": {"S": key}, "n": {"N": "1"}}}]


def test_reads_answer_in_order(ddb, simple, ranged, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "a": {"N": "1"}, "b": {"N": "2"}})
    ddb.put_item(TableName=ranged, Item={"pk": {"S": key}, "sk": {"S": "x"}})
    answer = run(
        ddb,
        (f'SELECT b FROM "{simple}" WHERE pk = ?', key),
        (f'SELECT * FROM "{simple}" WHERE pk = ?', f"{key}-nobody"),
        (f"SELECT * FROM \"{ranged}\" WHERE pk = ? AND sk = 'x'", key),
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer["Responses"] == [{"Item": {"b": {"N": "2"}}}, {}, {"Item": {"pk": {"S": key}, "sk": {"S": "x"}}}]
    assert answer["ConsumedCapacity"] == [
        {"TableName": simple, "CapacityUnits": 4.0, "ReadCapacityUnits": 4.0},
        {"TableName": ranged, "CapacityUnits": 2.0, "ReadCapacityUnits": 2.0},
    ]


def test_a_token_makes_it_once(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "n": {"N": "1"}})
    token = str(uuid.uuid4())
    add = (f'UPDATE "{simple}" SET n = n + 1 WHERE pk = ?', key)
    insert = (f"INSERT INTO \"{simple}\" VALUE {{'pk': ?}}", f"{key}-new")

    def again():
        """Until the first one is noted as done, it is "in progress"."""
        try:
            return run(ddb, add, insert, ClientRequestToken=token)
        except ddb.exceptions.TransactionInProgressException:
            return None

    for _ in range(3):
        harness.wait_until("it is noted as done", again)
    assert read(ddb, simple, key)["n"] == {"N": "2"}
    fails(
        "IdempotentParameterMismatchException",
        None,
        ddb.execute_transaction,
        TransactStatements=statements(add),
        ClientRequestToken=token,
    )


@pytest.fixture
def loose(endpoint):
    return harness.client(endpoint.url, parameter_validation=False)


def test_refused(loose, simple, ranged, key):
    def refused(message, *texts, **more):
        invalid(message, loose.execute_transaction, TransactStatements=statements(*texts), **more)

    select, delete = f"SELECT * FROM \"{simple}\" WHERE pk = '{key}'", f"DELETE FROM \"{simple}\" WHERE pk = '{key}'"
    exists = f"EXISTS(SELECT * FROM \"{simple}\" WHERE pk = '{key}' AND n = 1)"
    broken = "1 validation error detected: Value at 'transactStatements' failed to satisfy constraint: Member must "
    several = "Transaction request cannot include multiple operations on one item"
    refused("A transaction must consist of either all reads or all writes", select, delete)
    refused("A transaction must consist of either all reads or all writes", select, exists)
    refused(several, delete, exists)
    refused(several, select, select)
    failed = "Validation failed in TransactStatements[1]: "
    refused(f"{failed}RETURNING clause is not supported in ExecuteTransaction.", delete, f"{delete} RETURNING ALL OLD *")
    refused(f"{failed}Reads on indices are not supported within transactions.", select, f'SELECT * FROM "{simple}"."any"')
    refused("Statement wasn't well formed, can't be processed: Expected data manipulation", "nonsense", delete)
    refused(f"{broken}have length greater than or equal to 1")
    refused(f"{broken}have length less than or equal to 100", *[delete] * 101)
    invalid(broken.replace("Value", "Value null") + "not be null", loose.execute_transaction)
    refused(
        "1 validation error detected: Value '' at 'transactStatements.2.member.statement' failed to satisfy constraint: "
        "Member must have length greater than or equal to 1",
        select,
        "",
    )
    token = "x" * 37
    refused(
        f"1 validation error detected: Value '{token}' at 'clientRequestToken' failed to satisfy constraint: "
        "Member must have length less than or equal to 36",
        delete,
        ClientRequestToken=token,
    )
    fails(
        "ResourceNotFoundException",
        "Requested resource not found",
        loose.execute_transaction,
        TransactStatements=statements(delete, "DELETE FROM nothing WHERE pk = 'a'"),
    )


def test_exists_wants_a_condition_beside_the_key(ddb, simple, key):
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "n": {"N": "1"}})
    exists = f"EXISTS(SELECT * FROM \"{simple}\" WHERE pk = '{key}'%s)"
    needs = {
        "Code": "ValidationError",
        "Message": "The SELECT statement within EXISTS must specify the primary key and one other condition in the where clause.",
    }
    insert = f"INSERT INTO \"{simple}\" VALUE {{'pk': '{key}-new'}}"
    cancelled([NONE, needs], ddb, insert, exists % "")
    cancelled([NONE, FAILED], ddb, insert, exists % " AND n = 2")
    assert read(ddb, simple, f"{key}-new") is None
    run(ddb, insert, exists % " AND n = 1")


def test_a_select_names_one_item(ddb, simple, ranged, key):
    needs = {
        "Code": "ValidationError",
        "Message": "Select statements within ExecuteTransaction must specify the primary key in the where clause.",
    }
    whole = f'SELECT * FROM "{simple}" WHERE pk = ?'
    for text in (f'SELECT * FROM "{simple}"', f"SELECT * FROM \"{ranged}\" WHERE pk = '{key}'", f"{whole} AND n = 1".replace("?", f"'{key}'")):
        cancelled([NONE, needs], ddb, (whole, f"{key}-other"), text)


def test_a_hundred_statements(ddb, simple, key):
    insert = f"INSERT INTO \"{simple}\" VALUE {{'pk': ?}}"
    run(ddb, *[(insert, f"{key}-{n}") for n in range(100)])
    answer = run(ddb, *[(f'SELECT pk FROM "{simple}" WHERE pk = ?', f"{key}-{n}") for n in range(100)])
    assert [r["Item"]["pk"]["S"] for r in answer["Responses"]] == [f"{key}-{n}" for n in range(100)]


def test_every_table_must_be_allowed(ddb, simple, table_of, key):
    """That a caller may write the first table is no permission for the second one."""
    secret = table_of()
    arn = ddb.describe_table(TableName=secret)["Table"]["TableArn"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": ["dynamodb:PartiQLInsert", "dynamodb:PartiQLSelect"], "Resource": "*"}
    ddb.put_resource_policy(ResourceArn=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    insert, select = "INSERT INTO \"%s\" VALUE {'pk': ?}", 'SELECT * FROM "%s" WHERE pk = ?'
    exists = f"EXISTS({select} AND n = 1)"

    def denied(first, second):
        try:
            run(ddb, (first % simple, str(uuid.uuid4())), (second % secret, str(uuid.uuid4())))
        except ClientError as error:
            return error.response["Error"]["Code"] == "AccessDeniedException"
        return False

    for first, second in [(insert, insert), (select, select), (insert, exists)]:
        harness.wait_until("routers know the policy", lambda: denied(first, second))
