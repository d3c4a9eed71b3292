"""PartiQL: ExecuteStatement and BatchExecuteStatement."""

import pytest

import harness
from faults import fails, invalid

pytestmark = pytest.mark.one_kind


@pytest.fixture(autouse=True)
def strong_reads(ddb):
    with harness.strong_reads(ddb):
        yield


@pytest.fixture(scope="module")
def music(ddb, numbered):
    """Six items of one collection, two of another."""
    for pk, count in [("acme", 6), ("other", 2)]:
        for sk in range(1, count + 1):
            ddb.put_item(
                TableName=numbered,
                Item={
                    "pk": {"S": f"ql-{pk}"},
                    "sk": {"N": str(sk)},
                    "odd": {"BOOL": sk % 2 == 1},
                    "m": {"M": {"k": {"L": [{"N": str(sk)}, {"S": "x"}]}}},
                },
            )
    return numbered


def run(ddb, statement, *parameters, **more):
    if parameters:
        more["Parameters"] = list(parameters)
    return ddb.execute_statement(Statement=statement, **more)


def sks(answer):
    return [int(item["sk"]["N"]) for item in answer["Items"]]


@pytest.mark.parametrize(
    "where,found",
    [
        ("pk = 'ql-acme'", [1, 2, 3, 4, 5, 6]),
        ("pk = 'ql-acme' AND sk = 3", [3]),
        ("pk = 'ql-acme' AND sk > 2 AND odd = TRUE", [3, 5]),
        ("pk = 'ql-acme' AND sk BETWEEN 2 AND 4", [2, 3, 4]),
        ("pk = 'ql-acme' AND sk IN [2, 4, 9]", [2, 4]),
        ("pk = 'ql-acme' AND (sk = 1 OR m.k[0] = 6)", [1, 6]),
        ("pk IN ['ql-other', 'ql-acme'] AND sk < 2", [1, 1]),
        ("pk IN ('ql-other') ORDER BY sk DESC", [2, 1]),
        ("pk = 'ql-acme' AND sk <= 3 ORDER BY pk, sk DESC", [3, 2, 1]),
        ("pk = 'ql-acme' AND nothing IS MISSING AND sk = 1", [1]),
        ("pk = 'ql-acme' AND odd IS MISSING", []),
        ("pk = 'ql-acme' AND contains(m.k, 5)", [5]),
        ("pk = 'ql-acme' AND attribute_type(odd, 'S')", []),
        ("begins_with(pk, 'ql-oth')", [1, 2]),
        ("size(pk) = 8 AND begins_with(pk, 'ql-')", [1, 2]),
    ],
)
def test_select(ddb, music, where, found):
    answer = run(ddb, f'SELECT * FROM "{music}" WHERE {where}', ConsistentRead=True)
    got = sks(answer)
    assert (got if "pk" in where.split("(")[0] else sorted(got)) == found


def test_projection_and_parameters(ddb, music):
    answer = run(
        ddb,
        f'SELECT sk, m.k[1] FROM "{music}" WHERE pk = ? AND sk = ?',
        {"S": "ql-acme"},
        {"N": "2"},
        ReturnConsumedCapacity="TOTAL",
    )
    # A path is called by its last name.
    assert answer["Items"] == [{"sk": {"N": "2"}, "k": {"L": [{"S": "x"}]}}]
    assert answer["ConsumedCapacity"] == {"TableName": music, "CapacityUnits": 1.0}


@pytest.mark.parametrize("where", ["pk = 'ql-acme'", "pk IN ['ql-other', 'ql-acme']", "begins_with(pk, 'ql-')"])
def test_pages(ddb, music, where):
    statement = f'SELECT * FROM "{music}" WHERE {where}'
    everything = run(ddb, statement)
    assert "NextToken" not in everything
    got, token, pages = [], {}, 0
    while True:
        answer = run(ddb, statement, Limit=1, **token)
        assert len(answer["Items"]) <= 1
        got += answer["Items"]
        pages += 1
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert got == everything["Items"] and pages >= len(got)


def test_a_token_is_good_for_its_statement_only(ddb, music):
    statement = f'SELECT * FROM "{music}" WHERE pk = ?'
    token = run(ddb, statement, {"S": "ql-acme"}, Limit=1)["NextToken"]
    for value, wrong in [("ql-other", token), ("ql-acme", token[:-1]), ("ql-acme", "nonsense")]:
        invalid(
            "The provided NextToken is invalid: it belongs to another statement or to other parameters",
            ddb.execute_statement,
            Statement=statement,
            Parameters=[{"S": value}],
            NextToken=wrong,
        )


def test_insert(ddb, simple, key):
    statement = f"INSERT INTO \"{simple}\" VALUE {{'pk': ?, 'n': -1.5, 's': 'it''s', 'l': [1, TRUE, NULL], 'set': <<1, 2>>}}"
    assert run(ddb, statement, {"S": key})["Items"] == []
    got = ddb.get_item(TableName=simple, Key={"pk": {"S": key}})["Item"]
    assert got == {
        "pk": {"S": key},
        "n": {"N": "-1.5"},
        "s": {"S": "it's"},
        "l": {"L": [{"N": "1"}, {"BOOL": True}, {"NULL": True}]},
        "set": {"NS": ["1", "2"]},
    }
    fails(
        "DuplicateItemException",
        "Duplicate primary key exists in table",
        run,
        ddb=ddb,
        statement=f"INSERT INTO \"{simple}\" VALUE {{'pk': '{key}'}}",
    )
    invalid(
        "One or more parameter values were invalid: Missing the key pk in the item",
        run,
        ddb=ddb,
        statement=f"INSERT INTO \"{simple}\" VALUE {{'x': 1}}",
    )


def test_update(ddb, simple, key):
    where = f"WHERE pk = '{key}'"
    failed = "ConditionalCheckFailedException"
    text = "The conditional request failed"
    fails(failed, text, run, ddb=ddb, statement=f'UPDATE "{simple}" SET n = 1 {where}')
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "n": {"N": "1"}, "l": {"L": []}, "m": {"M": {"a": {"N": "1"}}}})
    answer = run(
        ddb,
        f'UPDATE "{simple}" SET n = n + 2 SET l = list_append(l, ?) SET m.b = [1] REMOVE m.a {where} AND n = 1 RETURNING MODIFIED NEW *',
        {"L": [{"S": "x"}]},
    )
    assert answer["Items"] == [{"n": {"N": "3"}, "l": {"L": [{"S": "x"}]}, "m": {"M": {"b": {"L": [{"N": "1"}]}}}}]
    answer = run(ddb, f'UPDATE "{simple}" SET s = set_add(s, <<\'b\', \'a\'>>) {where} RETURNING ALL OLD *')
    assert answer["Items"][0]["n"] == {"N": "3"} and "s" not in answer["Items"][0]
    answer = run(ddb, f'UPDATE "{simple}" SET s = set_delete(s, <<\'b\'>>) {where} RETURNING ALL NEW *')
    assert answer["Items"][0]["s"] == {"SS": ["a"]}
    response = fails(
        failed,
        text,
        run,
        ddb=ddb,
        statement=f'UPDATE "{simple}" SET n = 0 {where} AND n > 10',
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )
    assert response["Item"]["n"] == {"N": "3"}
    invalid(
        "One or more parameter values were invalid: Cannot update attribute pk. This attribute is part of the key",
        run,
        ddb=ddb,
        statement=f"UPDATE \"{simple}\" SET pk = 'x' {where}",
    )


def test_update_the_other_way_round(ddb, simple, key):
    """FROM table WHERE … SET …; and comments anywhere."""
    ddb.put_item(TableName=simple, Item={"pk": {"S": key}, "a": {"N": "1"}})
    answer = run(
        ddb,
        f'-- first\nFROM "{simple}" /* of all */ WHERE pk = ? AND a = 1 -- \'\nSET b = ? REMOVE a RETURNING ALL NEW * -- last',
        {"S": key},
        {"N": "2"},
    )
    assert answer["Items"] == [{"pk": {"S": key}, "b": {"N": "2"}}]
    fails(
        "ConditionalCheckFailedException",
        "The conditional request failed",
        run,
        ddb=ddb,
        statement=f"FROM \"{simple}\" WHERE pk = '{key}-nobody' SET b = 1",
    )


def test_delete(ddb, ranged, key):
    where = f"WHERE pk = '{key}' AND sk = 'a'"
    ddb.put_item(TableName=ranged, Item={"pk": {"S": key}, "sk": {"S": "a"}, "n": {"N": "1"}})
    fails(
        "ConditionalCheckFailedException",
        "The conditional request failed",
        run,
        ddb=ddb,
        statement=f'DELETE FROM "{ranged}" {where} AND n = 2',
    )
    invalid(
        "Where clause does not contain a mandatory equality on all key attributes",
        run,
        ddb=ddb,
        statement=f"DELETE FROM \"{ranged}\" WHERE pk = '{key}'",
    )
    assert run(ddb, f'DELETE FROM "{ranged}" {where} RETURNING ALL OLD *')["Items"][0]["n"] == {"N": "1"}
    assert run(ddb, f'DELETE FROM "{ranged}" {where} AND n = 2')["Items"] == []


@pytest.mark.parametrize(
    "statement,message",
    [
        ("SELECT * FROM", "Statement wasn't well formed, can't be processed: Unexpected end of the statement"),
        (
            "DELETE FROM x WHERE pk = 'a' RETURNING MODIFIED OLD *",
            "Invalid returning clause: RETURNING MODIFIED OLD *. Only RETURNING ALL OLD * is allowed in DELETE statements.",
        ),
        ("SELEC * FROM x", "Statement wasn't well formed, can't be processed: Expected data manipulation"),
        ("SELECT * FROM x WHERE pk = 1 foo", "Statement wasn't well formed, can't be processed: Unexpected token after expression"),
        ("DELETE FROM x WHERE pk = 1 ORDER BY pk", "Statement wasn't well formed, can't be processed: Unexpected token after expression"),
        ("SELECT * FROM x WHERE pk = 1 # note", "Statement wasn't well formed, can't be processed: "),
        ("SELECT * FROM x WHERE pk = 1 /* note", "Statement wasn't well formed, can't be processed: "),
        *(
            (statement, "Aliasing is not supported")
            for statement in [
                "SELECT * FROM x t WHERE pk = 'a'",
                "SELECT * FROM x AS t WHERE pk = 'a'",
                "UPDATE x t SET a = 3 WHERE pk = 'a'",
                "DELETE FROM x t WHERE pk = 'a'",
            ]
        ),
        (
            'SELECT * FROM "{t}" ORDER BY sk',
            "Must have WHERE clause in the statement when using ORDER BY clause.",
        ),
        (
            "SELECT * FROM \"{t}\" WHERE pk = 'a' ORDER BY odd",
            "Variable reference odd in ORDER BY clause must be part of the primary key",
        ),
        ('SELECT * FROM "{t}" WHERE pk = ?', "Number of parameters in request and statement don't match."),
        (
            'SELECT * FROM "{t}" WHERE pk = 1',
            "One or more parameter values were invalid: Condition parameter type does not match schema type",
        ),
        ('SELECT * FROM "{t}"."nope"', "The table does not have the specified index"),
        (
            "",
            "1 validation error detected: Value '' at 'statement' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
    ],
)
def test_refused(endpoint, music, statement, message):
    from harness import client

    loose = client(endpoint.url, parameter_validation=False)
    invalid(message, loose.execute_statement, Statement=statement.replace("{t}", music))


def test_no_such_table(ddb):
    fails("ResourceNotFoundException", "Requested resource not found", run, ddb=ddb, statement="SELECT * FROM nothing")


def test_batch_writes_and_reads(ddb, simple, key):
    insert = {"Statement": f"INSERT INTO \"{simple}\" VALUE {{'pk': ?, 'n': ?}}"}
    writes = [{**insert, "Parameters": [{"S": f"{key}-{n}"}, {"N": str(n)}]} for n in range(3)]
    answer = ddb.batch_execute_statement(Statements=writes, ReturnConsumedCapacity="TOTAL")
    assert answer["Responses"] == [{"TableName": simple}] * 3
    assert answer["ConsumedCapacity"] == [{"TableName": simple, "CapacityUnits": 3.0}]
    answer = ddb.batch_execute_statement(
        Statements=[
            writes[0],
            {"Statement": f"UPDATE \"{simple}\" SET n = 7 WHERE pk = '{key}-1' RETURNING ALL OLD *"},
            {
                "Statement": f"DELETE FROM \"{simple}\" WHERE pk = '{key}-2' AND n = 0",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
            {"Statement": "nonsense"},
            {"Statement": "DELETE FROM nothing WHERE pk = 'a'"},
        ]
    )["Responses"]
    assert answer[0]["Error"] == {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}
    assert answer[1] == {"TableName": simple, "Item": {"pk": {"S": f"{key}-1"}, "n": {"N": "1"}}}
    assert answer[2]["Error"]["Code"] == "ConditionalCheckFailed" and answer[2]["Error"]["Item"]["n"] == {"N": "2"}
    assert answer[3]["Error"]["Code"] == "ValidationError"
    assert answer[4]["Error"]["Code"] == "ResourceNotFound"
    select = f"SELECT n FROM \"{simple}\" WHERE pk = '{key}-%s'"
    answer = ddb.batch_execute_statement(
        Statements=[
            {"Statement": select % 1, "ConsistentRead": True},
            {"Statement": select % 9},
            {"Statement": f"SELECT * FROM \"{simple}\" WHERE n = 1"},
        ]
    )["Responses"]
    assert answer[0] == {"TableName": simple, "Item": {"n": {"N": "7"}}} and answer[1] == {"TableName": simple}
    assert answer[2]["Error"] == {
        "Code": "ValidationError",
        "Message": "Select statements within BatchExecuteStatement must specify the primary key in the where clause.",
    }


def test_refused_batches(ddb, simple):
    read, write = {"Statement": f"SELECT * FROM \"{simple}\" WHERE pk = 'a'"}, {"Statement": f"DELETE FROM \"{simple}\" WHERE pk = 'a'"}
    invalid("A batch must consist of either all reads or all writes", ddb.batch_execute_statement, Statements=[read, write])
    invalid(
        "1 validation error detected: Value at 'statements' failed to satisfy constraint: "
        "Member must have length less than or equal to 25",
        ddb.batch_execute_statement,
        Statements=[read] * 26,
    )
