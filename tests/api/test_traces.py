"""Traces of a running `evenkeel dev`: who took part in a request and in which order, what is kept, and what an exporter that is down does."""

import json
import re
import secrets
import subprocess
import urllib.error
import urllib.request

import pytest

import harness
from conftest import make_table
from jaeger import fetch, flow, flows, links, trace_of

# Nothing is sampled, so that what is kept has another reason. Tables have the throughput that they are given.
SETTINGS = {
    "EVENKEEL_TELEMETRY__TRACES__SAMPLE_RATIO": "0",
    "EVENKEEL_TELEMETRY__TRACES__SLOW_MS": "60000",
    "EVENKEEL_TELEMETRY__TRACES__SAMPLED_PER_SECOND_MAX": "1000",
    "EVENKEEL_TELEMETRY__TRACES__KEPT_PER_SECOND_MAX": "1000",
    "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": "1000",
}


@pytest.fixture(scope="module")
def dev():
    dev = harness.Dev(SETTINGS, "--traces", "127.0.0.1:0")
    try:
        yield dev.start()
    finally:
        dev.close()


@pytest.fixture(scope="module")
def pages(dev):
    """Where the tracing pages are."""
    return re.search(r"traces +(http://\S+)", dev.output())[1]


@pytest.fixture(scope="module")
def ddb(dev):
    return harness.client(dev.url)


@pytest.fixture(scope="module")
def table(ddb):
    return make_table(ddb)


def put(ddb, table, key, **headers):
    """Puts an item with these headers; the request id."""
    client = harness.client(ddb.meta.endpoint_url)

    def add(request, **_):
        for name, value in headers.items():
            request.headers[name.replace("_", "-")] = value

    client.meta.events.register("before-sign.dynamodb.PutItem", add)
    return client.put_item(TableName=table, Item={"pk": {"S": key}})["ResponseMetadata"]["RequestId"]


def whole(trace):
    """What the services know comes one by one: all three replicas applied, and both lookups were answered."""
    return trace and len(trace.named("apply")) == 3 and len(trace.named("process memds.lookup")) >= 2


def test_a_put_is_one_trace_from_the_client_to_all_replicas(ddb, table, pages):
    put(ddb, table, "warm")
    trace_id, client = secrets.token_hex(16), secrets.token_hex(8)
    put(ddb, table, "a", traceparent=f"00-{trace_id}-{client}-01")

    harness.wait_until("the trace is whole", lambda: whole(fetch(pages, trace_id)))
    trace = fetch(pages, trace_id)
    root = trace.one("DynamoDB.PutItem")
    assert trace.parent(root) == client and trace.service(root) == "router-1"
    tags = trace.tags(root)
    assert tags["db.system"] == "dynamodb" and tags["db.system.name"] == "aws.dynamodb"
    assert tags["db.operation.name"] == "PutItem" and tags["db.collection.name"] == table
    assert tags["http.response.status_code"] == 200 and tags["evenkeel.kept"] == "sampled"
    assert tags["server.address"] == "127.0.0.1" and tags["client.address"] == "127.0.0.1" and "Boto3" in tags["user_agent.original"]
    for step in ("receive", "authenticate", "admission"):
        assert trace.service(trace.one(step, within=root)) == "router-1"
    # Lookups share messages; each has its part in this trace.
    lookups = trace.named("send memds.1.lookup", within=root)
    assert sorted(trace.tags(span)["evenkeel.lookup"] for span in lookups) == ["partition", "table"]
    for span in lookups:
        answered = trace.one("process memds.lookup", within=span)
        assert trace.service(answered) == "memds-1"
    send = trace.one(r"send node\.\d\.item", within=root)
    assert trace.tags(send)["messaging.system"] == "nats"
    process = trace.one(r"process node\.\d\.item", within=send)
    leader = trace.service(process)
    assert leader == f"storage-{trace.tags(send)['evenkeel.node']}"
    trace.one("queue", within=process)
    trace.one("answer", within=process)
    replicate = trace.one("replicate", within=process)
    nodes = ["storage-1", "storage-2", "storage-3"]
    appends = trace.named("append", within=replicate)
    assert sorted(trace.service(span) for span in appends) == nodes
    for span in appends:
        sync = trace.one("wal sync", within=span)
        assert trace.service(sync) == trace.service(span)
        assert span["startTime"] <= sync["startTime"]
    assert sorted(trace.service(span) for span in trace.named("apply", within=replicate)) == nodes
    # Answered after two of three are durable, within the caller's spans.
    ends = sorted(span["startTime"] + span["duration"] for span in appends)
    assert ends[1] <= root["startTime"] + root["duration"]


def test_amazons_header_is_followed_and_a_request_id_finds_its_trace(dev, ddb, table, pages):
    root, parent = secrets.token_hex(16), secrets.token_hex(8)
    header = f"Root=1-{root[:8]}-{root[8:]};Parent={parent};Sampled=1"
    request_id = put(ddb, table, "b", X_Amzn_Trace_Id=header)
    harness.wait_until("the trace is whole", lambda: whole(fetch(pages, root)))
    shown = subprocess.run(
        [harness.BIN_DIR / "evenkeel", "ctl", "--output", "json", "trace", request_id, "--traces", pages],
        capture_output=True, text=True, timeout=180,
    )
    assert shown.returncode == 0, shown.stderr
    waterfall = json.loads(shown.stdout)
    assert waterfall["trace_id"] == root
    assert waterfall["spans"][0]["name"] == "DynamoDB.PutItem" and waterfall["spans"][0]["depth"] == 0
    assert {"router-1", "memds-1"} < {span["service"] for span in waterfall["spans"]}
    text = subprocess.run(
        [harness.BIN_DIR / "evenkeel", "ctl", "trace", request_id, "--traces", pages],
        capture_output=True, text=True, timeout=180,
    ).stdout
    assert "DynamoDB.PutItem" in text and "█" in text
    wrong = subprocess.run([harness.BIN_DIR / "evenkeel", "ctl", "trace", "ABC", "--traces", pages], capture_output=True, timeout=180)
    assert wrong.returncode == 2
    # The console has a link to it.
    console = re.search(r"console\s+(http://\S+)/console", dev.output())[1]
    link = json.loads(harness.http_get(f"{console}/console/api/trace?request_id={request_id}"))["url"]
    assert link == f"{pages.rstrip('/')}/trace/{root}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        harness.http_get(f"{console}/console/api/trace?request_id=ABC")
    assert refused.value.code == 400


def test_throttled_requests_are_kept_and_plain_ones_are_not(ddb, table, pages):
    plain = put(ddb, table, "c")
    small = make_table(ddb, BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1})

    def throttled():
        try:
            ddb.put_item(TableName=small, Item={"pk": {"S": "a"}, "v": {"S": "x" * 30_000}})
        except ddb.exceptions.ProvisionedThroughputExceededException as error:
            return error.response["ResponseMetadata"]["RequestId"]

    request_id = harness.wait_until("a request is throttled", throttled)
    trace = harness.wait_until("its trace is there", lambda: fetch(pages, trace_of(request_id)))
    root = trace.one("DynamoDB.PutItem")
    assert trace.tags(root)["evenkeel.kept"] == "throttled"
    assert trace.tags(root)["error.type"] == "ProvisionedThroughputExceededException"
    assert fetch(pages, trace_of(plain)) is None
    # It has no parent: its client has no trace.
    shown = subprocess.run(
        [harness.BIN_DIR / "evenkeel", "ctl", "--output", "json", "trace", request_id, "--traces", pages],
        capture_output=True, text=True, timeout=180,
    )
    assert shown.returncode == 0 and json.loads(shown.stdout)["spans"][0]["name"] == "DynamoDB.PutItem", shown.stderr


def test_what_goes_on_in_the_background_is_traced(dev, ddb, table, pages):
    """An election, a piece of a log on its way to the archive, a scrub: each a trace of its own."""
    ddb.put_item(TableName=table, Item={"pk": {"S": "archived"}})
    election = harness.wait_until("an election is traced", lambda: flow(pages, "storage", "election"))
    root = election.one("election")
    assert election.parent(root) is None and election.tags(root)["evenkeel.election.tries"] >= 1
    steps = [election.one(step, within=root) for step in ("stand", "wait for leases")]
    assert root["startTime"] == steps[0]["startTime"] <= steps[1]["startTime"]
    archived = harness.wait_until("a segment is traced", lambda: flow(pages, "archiver", "archive segment"), timeout_s=60)
    root = archived.one("archive segment")
    assert archived.service(root) == "archiver-1" and archived.tags(root)["evenkeel.segment.bytes"] > 0
    assert archived.named("compare replicas and seal", within=root)
    scrub = harness.wait_until("a scrub is traced", lambda: flow(pages, "scrubber", "scrub"), timeout_s=60)
    assert scrub.service(scrub.one("scrub")) == "scrubber-1"


def test_a_hand_over_is_linked_to_the_order_and_the_election_to_the_hand_over(dev, ddb, table, pages):
    console, token = re.search(r"console\s+(http://\S+)/console \(to sign in: (\w+)\)", dev.output()).groups()

    def order(path, body):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{console}/console/api/{path}", data=json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def linked():
        """Whoever follows may not be in step, or be elected before it hears of the hand-over: then there is another one."""
        partition = json.loads(harness.http_get(f"{console}/console/api/partitions?table={table}"))["partitions"][0]
        of_it = {"evenkeel_partition": partition["partition"]}
        for hand_over in flows(pages, "storage", "transfer leadership", evenkeel_transfer_reason="ordered", **of_it):
            # All that a leader tries in one ballot are one trace.
            root = hand_over.named("transfer leadership")[-1]
            ordered = [fetch(pages, cause) for cause in links(root)]
            if flow(pages, "storage", "election", cause=root["traceID"], **of_it) and all(ordered):
                return ordered
        other = next(r["node"] for r in partition["replicas"] if r["node"] != partition["leader"])
        order("transfer-leader", {"partition": partition["partition"], "node": other})

    [ordered, *_] = harness.wait_until("an election is linked to a hand-over, and that to something", linked, timeout_s=90, every_s=1)
    assert ordered.service(ordered.one("order transfer-leader")) == "admin-1"


def test_the_newest_traces_are_there_however_many_there_were(ddb, table, pages):
    ids = [secrets.token_hex(16) for _ in range(100)]
    client, parents = harness.client(ddb.meta.endpoint_url), iter(ids)
    add = lambda request, **_: request.headers.add_header("traceparent", f"00-{next(parents)}-{secrets.token_hex(8)}-01")
    client.meta.events.register("before-sign.dynamodb.PutItem", add)
    for _ in ids:
        client.put_item(TableName=table, Item={"pk": {"S": "many"}})
    for trace_id in (ids[-1], ids[50]):
        harness.wait_until("the trace is there", lambda: fetch(pages, trace_id))


def test_a_restore_is_linked_to_the_request_that_asked_for_it(ddb, table, pages):
    backup = ddb.create_backup(TableName=table, BackupName="for-a-trace")["BackupDetails"]["BackupArn"]
    status = lambda: ddb.describe_backup(BackupArn=backup)["BackupDescription"]["BackupDetails"]["BackupStatus"]
    harness.wait_until("the backup is there", lambda: status() == "AVAILABLE", timeout_s=60, every_s=0.2)
    asked = ddb.restore_table_from_backup(TargetTableName="restored", BackupArn=backup)["ResponseMetadata"]["RequestId"]
    restore = harness.wait_until("the restore is traced", lambda: flow(pages, "archiver", "restore"), timeout_s=90, every_s=0.2)
    root = restore.one("restore")
    assert restore.parent(root) is None and restore.tags(root)["evenkeel.job"]
    assert links(root) == [trace_of(asked)]


def test_an_exporter_that_is_down_disturbs_no_request():
    settings = {
        "EVENKEEL_TELEMETRY__TRACES__ENDPOINT": f"http://127.0.0.1:{harness.free_port()}",
        "EVENKEEL_TELEMETRY__TRACES__SAMPLE_RATIO": "1",
        "EVENKEEL_TELEMETRY__TRACES__BATCH_MS": "50",
        "EVENKEEL_TELEMETRY__TRACES__SPANS_QUEUED_MAX": "16",
    }
    dev = harness.Dev({**harness.UNTHROTTLED, **settings}, "--http", f"127.0.0.1:{harness.free_port()}")
    try:
        ddb = harness.client(dev.start().url)
        table = make_table(ddb)
        for number in range(100):
            put_id = ddb.put_item(TableName=table, Item={"pk": {"S": str(number)}})["ResponseMetadata"]["RequestId"]
            assert len(put_id) == 52
        count = lambda name: harness.metric(harness.http_get(f"http://{dev.arguments[1]}/metrics"), f"evenkeel_traces_{name}")

        def dropped():
            # However fast what is queued is given up: some requests have more spans than there is room.
            for number in range(20):
                ddb.put_item(TableName=table, Item={"pk": {"S": str(number)}})
            return count("spans_dropped_total") > 0 and count("exports_failed_total") > 0

        harness.wait_until("drops are counted", dropped)
        assert count("spans_exported_total") == 0
        assert count("kept_sampled_total") > 0
    finally:
        dev.close()
