"""The web GUI dynamodb-admin, unmodified: what its pages and buttons ask of an endpoint."""

import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

import harness

FOLDER = Path(__file__).resolve().parent / "javascript"
TABLE = "dynamodb-admin"
KEYS = {"HashAttributeName": "pk", "HashAttributeType": "S", "RangeAttributeName": "sk", "RangeAttributeType": "N"}
UNITS = {"ReadCapacityUnits": 100, "WriteCapacityUnits": 100}
INDEX = {"IndexName": "by-kind", "IndexType": "global", "HashAttributeName": "kind", "HashAttributeType": "S", **UNITS}

pytestmark = pytest.mark.one_kind


@pytest.fixture
def gui(endpoint):
    """Calls the GUI as its pages do: status and text of the answer."""
    port = harness.free_port()
    environment = {
        **os.environ, "AWS_ACCESS_KEY_ID": "evenkeel", "AWS_SECRET_ACCESS_KEY": "evenkeel", "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [
        "node", "node_modules/dynamodb-admin/dist/dynamodb-admin.js", "--host", "127.0.0.1", "--port", str(port),
        "--dynamo-endpoint", endpoint.url, "--skip-default-credentials",
    ]

    def call(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=FOLDER, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            harness.wait_until("the GUI is up", lambda: call("GET", "/create-table")[0] == 200, timeout_s=120)
            yield call
        finally:
            process.kill()
            process.wait()


def items(gui, **query):
    """Items as the table's page shows them."""
    status, text = gui("GET", f"/tables/{TABLE}/items?{urllib.parse.urlencode(query)}")
    assert status == 200, text
    return sorted(json.loads(text)["Items"], key=lambda item: item["sk"])


def test_its_pages_and_buttons(gui, ddb):
    table = {"TableName": TABLE, **KEYS, **UNITS}
    assert gui("POST", "/create-table", {"TableDefinition": table, "SecondaryIndexes": [INDEX]}) == (204, "")
    harness.wait_until("it is active", lambda: ddb.describe_table(TableName=TABLE)["Table"]["TableStatus"] == "ACTIVE", timeout_s=90)
    status, text = gui("GET", "/api/tables")
    assert status == 200 and TABLE in [one["TableName"] for one in json.loads(text)]
    for page in ("/", *(f"/tables/{TABLE}{rest}" for rest in ("", "/get", "/meta", "/ttl", "/add-item"))):
        status, text = gui("GET", page)
        assert status == 200 and TABLE in text, page
    status, text = gui("POST", "/create-table", {"TableDefinition": table})
    assert (status, json.loads(text)) == (500, {"message": f"Table already exists: {TABLE}"})

    made = [{"pk": "a", "sk": n, "kind": "odd" if n % 2 else "even", "tags": ["x", n]} for n in range(5)]
    for item in made:
        # It reads what it wrote, but not consistently.
        assert gui("PUT", f"/tables/{TABLE}/add-item", item)[0] in (200, 404)
    shown = [{**item, "__key": {"pk": "a", "sk": item["sk"]}} for item in made]
    harness.wait_until("all are shown", lambda: items(gui) == shown, timeout_s=90)
    odd = json.dumps({"kind": {"type": "S", "operator": "=", "value": "odd"}})
    harness.wait_until("those of a filter are shown", lambda: items(gui, filters=odd) == shown[1::2], timeout_s=90)
    query = {"operationType": "query", "queryableSelection": "by-kind", "filters": odd}
    harness.wait_until("those of an index are shown", lambda: items(gui, **query) == shown[1::2], timeout_s=90)
    later = json.dumps({
        "pk": {"type": "S", "operator": "=", "value": "a"}, "sk": {"type": "N", "operator": ">=", "value": "3"},
    })
    harness.wait_until("those of a range are shown", lambda: items(gui, operationType="query", filters=later) == shown[3:], timeout_s=90)

    def read(sk):
        return ddb.get_item(TableName=TABLE, Key={"pk": {"S": "a"}, "sk": {"N": str(sk)}}, ConsistentRead=True).get("Item")

    place = f"/tables/{TABLE}/items/a,3"
    assert gui("PUT", place, {"pk": "a", "sk": 3, "note": "changed"})[0] == 200
    assert read(3) == {"pk": {"S": "a"}, "sk": {"N": "3"}, "note": {"S": "changed"}}
    harness.wait_until("the change is shown", lambda: "changed" in gui("GET", place)[1], timeout_s=90)
    assert gui("DELETE", place) == (204, "")
    assert read(3) is None
    harness.wait_until("it is not shown", lambda: gui("GET", place) == (404, "Not found"), timeout_s=90)
    assert gui("DELETE", f"/tables/{TABLE}") == (204, "")
    harness.wait_until("the table is gone", lambda: TABLE not in ddb.list_tables()["TableNames"], timeout_s=90)
