"""Unmodified clients: the AWS CLI, the SDKs for Rust and JavaScript, ElectroDB and DynamoDB-Toolbox on top of it (boto3 is what all other tests use)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness

HERE = Path(__file__).resolve().parent


@pytest.fixture
def aws(endpoint):
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "evenkeel",
        "AWS_SECRET_ACCESS_KEY": "evenkeel",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def run(*arguments, service="dynamodb"):
        done = subprocess.run(
            [Path(sys.executable).parent / "aws", service, *arguments, "--endpoint-url", endpoint.url, "--output", "json"],
            env=environment, capture_output=True, text=True, timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def test_aws_cli(aws, ddb):
    name = f"cli-{os.getpid()}"
    aws("create-table", "--table-name", name, "--billing-mode", "PAY_PER_REQUEST",
        "--attribute-definitions", "AttributeName=pk,AttributeType=S", "--key-schema", "AttributeName=pk,KeyType=HASH")
    # The CLI would look again after twenty seconds.
    harness.wait_until("it is active", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    aws("wait", "table-exists", "--table-name", name)
    assert name in aws("list-tables")["TableNames"]
    item = {"pk": {"S": "a"}, "n": {"N": "42"}, "l": {"L": [{"NULL": True}]}}
    aws("put-item", "--table-name", name, "--item", json.dumps(item))
    got = aws("get-item", "--table-name", name, "--key", '{"pk":{"S":"a"}}', "--consistent-read")
    assert got["Item"] == item
    scanned = aws("scan", "--table-name", name, "--consistent-read")
    assert scanned["Count"] == 1
    aws("delete-table", "--table-name", name)


@pytest.mark.one_kind
def test_aws_cli_streams(aws, ddb, table_of):
    # With so little throughput it is one partition, and its stream one shard.
    name = table_of(BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 100, "WriteCapacityUnits": 100},
                    StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"})
    item = {"pk": {"S": "a"}, "n": {"N": "42"}}
    ddb.put_item(TableName=name, Item=item)
    [stream] = aws("list-streams", "--table-name", name, service="dynamodbstreams")["Streams"]
    where = ("--stream-arn", stream["StreamArn"])
    [shard] = aws("describe-stream", *where, service="dynamodbstreams")["StreamDescription"]["Shards"]
    start = aws("get-shard-iterator", *where, "--shard-id", shard["ShardId"], "--shard-iterator-type", "TRIM_HORIZON",
                service="dynamodbstreams")

    def read():
        return aws("get-records", "--shard-iterator", start["ShardIterator"], service="dynamodbstreams")["Records"]

    [record] = harness.wait_until("its record is there", read, timeout_s=90)
    assert (record["eventName"], record["dynamodb"]["NewImage"]) == ("INSERT", item)


@pytest.mark.one_kind
def test_aws_cli_statements(aws, simple, ledger):
    insert = {"Statement": f"INSERT INTO \"{simple}\" VALUE {{'pk': ?, 'n': 1}}"}
    statements = [{**insert, "Parameters": [{"S": f"cli-{n}"}]} for n in range(3)]
    answer = aws("execute-transaction", "--transact-statements", json.dumps(statements), "--client-request-token", "from-cli")
    assert answer["Responses"] == []
    update = f"UPDATE \"{simple}\" SET n = n + 1 WHERE pk = 'cli-1' RETURNING MODIFIED NEW *"
    assert aws("execute-statement", "--statement", update)["Items"] == [{"n": {"N": "2"}}]
    reads = [{"Statement": f"SELECT n FROM \"{simple}\" WHERE pk = 'cli-{n}'", "ConsistentRead": True} for n in range(2)]
    answer = aws("batch-execute-statement", "--statements", json.dumps(reads))
    assert [one["Item"]["n"]["N"] for one in answer["Responses"]] == ["1", "2"]


def node(script, endpoint):
    """What a script for Node says of the endpoint."""
    done = subprocess.run(
        ["node", script, endpoint.url], cwd=HERE / "javascript", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rust_sdk(endpoint):
    built = Path(os.environ.get("CARGO_TARGET_DIR", harness.ROOT / "target")) / "clients"
    # Built by now where `infra/test` runs.
    run = ["cargo", "run", "--quiet", "--locked", "--manifest-path", HERE / "rust" / "Cargo.toml", "--target-dir", built, "--", endpoint.url]
    done = subprocess.run(run, capture_output=True, text=True, timeout=1_200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "items": {
            "units": 2.0,
            "refused": True,
            "updated": ["1", ["b"]],
            "same": True,
            "none": True,
            "wrong": ["ValidationException", "The provided key element does not match the schema"],
            "nowhere": True,
        },
        "collections": {
            "batch": [1, 38],
            "paged": [21, 19, 17, 15, 13, 11],
            "pages": True,
            "scanned": 40,
            "by_rank": [31, 33, 35, 37, 39],
        },
        "transactions": {
            "put": True,
            "visits": "2",
            "deleted": True,
            "reasons": ["ConditionalCheckFailed", "None"],
            "nothing": True,
        },
    }


def test_javascript_sdk(endpoint):
    assert node("client.mjs", endpoint) == {
        "listed": True,
        "bytes": [0, 255],
        "tags": ["x", "y"],
        "visits": "1",
        "conditionError": "ConditionalCheckFailedException",
        "batchGot": 1,
        "query": list(range(11, 1, -1)),
        "scanned": 26,
        "statements": [["é21", "é22", "é23"], ["é24"]],
        "statementErrors": [None, "ValidationError"],
        "stream": ["KEYS_ONLY", True],
        "timeToLive": {"AttributeName": "expires", "Enabled": True},
    }


@pytest.mark.one_kind
def test_javascript_sdk_streams(endpoint):
    assert node("streams.mjs", endpoint) == {
        "stream": [1, "DISABLED", "NEW_AND_OLD_IMAGES", True],
        "records": [["INSERT", "a", None, "1"], ["MODIFY", "a", "1", "2"], ["REMOVE", "a", "2", None]],
        "after": ["MODIFY", "REMOVE"],
        "bytes": [0, 255],
        "dated": True,
        "refused": ["ResourceNotFoundException", "ResourceNotFoundException"],
    }


@pytest.mark.one_kind
def test_electrodb(endpoint, ledger):
    assert node("electro.mjs", endpoint) == {
        "unprocessed": 0,
        "created": "ConditionalCheckFailedException",
        "stale": "ConditionalCheckFailedException",
        "nobody": "ConditionalCheckFailedException",
        "patched": ["in-progress", 5, ["new"], [{"user": "janet", "body": "half-baked"}]],
        "range": ["t11", "t13", "t15", "t17", "t19"],
        "filtered": ["t10"],
        "pages": [4, 4, 4, 3],
        "all": 30,
        "batch": ["t10", "t12"],
        "board": [15, ["janet"]],
        "moved": ["t10"],
        "transactions": [False, True, ["None", "ConditionalCheckFailed"]],
        "read": [None, "closed", "open"],
    }


@pytest.mark.one_kind
def test_dynamodb_toolbox(endpoint, ledger):
    assert node("toolbox.mjs", endpoint) == {
        "unprocessed": 0,
        "again": "ConditionalCheckFailedException",
        "updated": [99, ["ember", "cut"], ["new", "rare"], {"attack": 5, "defence": 3}, "Fifi"],
        "got": [5, None, ["rare"]],
        "attributes": {"id": "p00", "stats": {"attack": 5}},
        "range": ["p03", "p04", "p05", "p06"],
        "filtered": ["p10", "p09", "p07"],
        "local": ["p10", "p11"],
        "pages": [5, 5, 3],
        "global": ["p03", "p06", "p09"],
        "scanned": [13, 1],
        "batch": ["grass", "water"],
        "cancelled": ["TransactionCanceledException", ["None", "ConditionalCheckFailed"]],
        "transaction": [1, None, "grass"],
        "deleted": "mew",
    }
