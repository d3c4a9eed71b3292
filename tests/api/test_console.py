"""The console's page and its JSON, served by an admin of either kind of deployment."""

import json
import re
import urllib.error
import urllib.request

import pytest

import harness


@pytest.fixture(scope="module")
def console(endpoint):
    """Address of the console, and the operator's token."""
    if endpoint.kind == "dev":
        return re.search(r"console\s+(http://\S+)/console \(to sign in: (\w+)\)", endpoint.output()).groups()
    port = next(p["health_port"] for p in endpoint.status()["processes"] if p["name"] == "admin")
    return f"http://127.0.0.1:{port}", "evenkeel"


def state(console):
    return json.loads(harness.http_get(f"{console[0]}/console/api/state"))


def post(console, path, body=None, token=None):
    """Status and message."""
    request = urllib.request.Request(
        f"{console[0]}/console/api/{path}",
        data=json.dumps(body or {}).encode(),
        headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"{}").get("message", "")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["message"]


def test_the_page_needs_nothing_from_elsewhere(console):
    files = {}
    for path, kind in (("", "text/html"), ("/console.js", "text/javascript"), ("/console.css", "text/css")):
        with urllib.request.urlopen(f"{console[0]}/console{path}", timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith(kind)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
            files[path] = answer.read().decode()
    for text in files.values():
        urls = re.findall(r"https?://[\w.]+", text)
        assert set(urls) <= {"http://www.w3.org"}, urls
    # No script or style within the page: the policy would refuse it.
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", files[""])


def test_the_state_shows_zones_tables_and_partitions(console, ddb, simple, endpoint):
    ddb.put_item(TableName=simple, Item={"pk": {"S": "seen in the console"}})

    def shown():
        now = state(console)
        names = [table["name"] for table in now["tables"]]
        return simple in names and now["health"] and len(now["health"]["nodes"]) >= 3 and now

    now = harness.wait_until("the table is in the console", shown)
    assert {node["zone"] for node in now["health"]["nodes"]} == {"az1", "az2", "az3"}
    services = {service["service"] for service in now["services"] if service["state"] == "ready"}
    assert services >= {"router", "storage", "memds", "gac", "admin", "archiver", "scrubber"}, services
    assert now["read_only"] is False and f'"{console[1]}"' not in json.dumps(now)
    url = f"{console[0]}/console/api/partitions?table={simple}"
    partitions = json.loads(harness.http_get(url))["partitions"]
    ranges = sorted((p["start"], p["end"]) for p in partitions)
    assert ranges[0][0] == "" and [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]], ranges
    assert all(p["leader"] and len(p["replicas"]) == 3 for p in partitions)


def test_a_request_id_that_is_none_has_no_link(console):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{console[0]}/console/api/trace?request_id=ABC", timeout=5)
    # Nobody traces here.
    assert refused.value.code == 404 and "trace_url" in json.loads(refused.value.read())["message"]


def test_only_the_operator_gives_orders(console):
    assert post(console, "session")[0] == 401
    assert post(console, "session", token="guessed")[0] == 401
    assert post(console, "session", token=console[1]) == (204, "")
    assert post(console, "drain", {"node": 1})[0] == 401
    assert post(console, "scrub")[0] == 401
    status, message = post(console, "drain", {"node": 4711}, token=console[1])
    assert (status, message) == (409, "there is no storage node 4711")
    status, message = post(console, "transfer-leader", {"partition": 1, "node": 4711}, token=console[1])
    assert status == 409 and "4711" in message
    assert post(console, "scrub", {"table": "no-such-table"}, token=console[1])[0] == 200
    # What is no order at all.
    request = urllib.request.Request(f"{console[0]}/console/api/drain", data=b"x" * 5000, headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code in (400, 413)
