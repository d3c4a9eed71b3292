"""Scrubs with real processes: what is changed behind a replica's back is found, named, fenced and healed; and what is all right raises no alarm, whatever
else goes on."""

import re
import secrets
import subprocess

import pytest

import harness
from conftest import make_table
from jaeger import fetch, flow, links
from traffic import Traffic

SETTINGS = {
    **harness.UNTHROTTLED,
    # As often as possible.
    "EVENKEEL_SCRUBBER__AGAIN_AFTER_MS": "500",
    "EVENKEEL_SCRUBBER__LOOK_EVERY_MS": "500",
    "EVENKEEL_ADMIN__HEALING__REPLACE_AFTER_MS": "5000",
    # Soon enough for comparisons with the archive.
    "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": "1000",
    "EVENKEEL_ARCHIVER__POLL_MS": "200",
}
TEXT = "this-is-what-was-written"


# Background flows only: requests must not push them out of the pages' memory.
TRACED = {
    "EVENKEEL_TRACES": "1",
    "EVENKEEL_TELEMETRY__TRACES__SAMPLE_RATIO": "0",
    # What is archived is not kept: a replica that is built anew needs a copy.
    "EVENKEEL_STORAGE__TIMING__LIMITS__FLOOR_STEP_ENTRIES": "1",
}


@pytest.fixture
def mesh(request):
    mesh = harness.Mesh({**SETTINGS, **getattr(request, "param", {})})
    try:
        yield mesh.start()
    finally:
        mesh.close()


def table_of_one_partition(ddb, **options):
    return make_table(ddb, **options, BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 3000, "WriteCapacityUnits": 1000})


def scrub(mesh, table, exit_codes=(0, 1)):
    """All partitions of the table, each compared after this call."""
    return mesh.ctl("scrub", "--table", table, "--now", "--wait", exit_codes=exit_codes)["partitions"]


def whole(mesh, table):
    """The table's partition, once it has three healthy copies and nothing of it is fenced."""
    [partition] = mesh.partitions(table)
    health = mesh.ctl("health", exit_codes=(0, 1))
    fenced = any(f["partition"] == partition["partition"] for f in health["fenced"])
    return partition if partition["healthy_copies"] == 3 and partition["leader"] and not fenced else None


def scrubber_metric(mesh, name):
    port = next(p["health_port"] for p in mesh.status()["processes"] if p["name"] == "scrubber-1")
    return harness.metric(harness.http_get(f"http://127.0.0.1:{port}/metrics"), f"evenkeel_scrubber_{name}")


def scrubber_is_gone(mesh):
    return not mesh.alive("scrubber-1")


class AnotherScrubber:
    """A second scrubber beside the mesh's own."""

    def __init__(self, mesh):
        self.port = mesh.port + 29
        settings = (mesh.state / "scrubber-1.conf").read_text()
        for own, other in [
            ("instance = 1", "instance = 2"), ("/scrubber-1", "/scrubber-2"), (f":{mesh.port + 28}", f":{self.port}"),
        ]:
            assert own in settings, settings
            settings = settings.replace(own, other)
        self.config = mesh.state / "scrubber-2.conf"
        self.config.write_text(settings)
        self.environment, self.log = mesh.environment, mesh.state / "logs" / "scrubber-2.log"

    def number(self, name):
        return harness.metric(harness.http_get(f"http://127.0.0.1:{self.port}/metrics"), f"evenkeel_scrubber_{name}")

    def __enter__(self):
        with self.log.open("ab") as log:
            command = [harness.BIN_DIR / "evenkeel-scrubber", "--config", self.config]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        harness.wait_until("it is up", lambda: self.number("clean_total") == 0, timeout_s=30)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def flip(mesh, node, partition, text, *options):
    file = mesh.state / "data" / f"storage-{node}" / "replicas" / str(partition) / "data.mdb"
    done = subprocess.run([harness.ROOT / "infra/drills/flip-value", *options, file, text], capture_output=True, text=True)
    return done.returncode == 0


@pytest.mark.parametrize("mesh,options", [(TRACED, ()), ({}, ("--rot",))], ids=["valid_checksum", "rot"], indirect=["mesh"])
def test_a_changed_value_is_found_named_fenced_and_healed(mesh, options):
    ddb = harness.client(mesh.url, retries=4)
    table = table_of_one_partition(ddb, range_type="S")
    for number in range(100):
        ddb.put_item(TableName=table, Item={"pk": {"S": "all"}, "sk": {"S": f"item-{number}"}, "text": {"S": f"{TEXT}-{number:03}"}})
    partition = harness.wait_until("three copies", lambda: whole(mesh, table))

    def scrubbed():
        """One that could not be is asked for again; a finding stays one."""
        [scrubbed] = scrub(mesh, table)
        return (scrubbed["finding"] or scrubbed["state"].startswith(("clean", "replicas are equal"))) and scrubbed

    clean = harness.wait_until("a scrub has a result", scrubbed)
    assert clean["finding"] == "", clean
    victim = next(r["node"] for r in partition["replicas"] if r["node"] != partition["leader"])
    if not options:
        mesh.wait_until_archived()

    # The scrub has flushed all of it at every replica.
    mesh.kill(f"storage-{victim}")
    assert flip(mesh, victim, partition["partition"], f"{TEXT}-042", *options), "the item is not in the B-tree"
    mesh.start_one(f"storage-{victim}")

    def healed(line):
        return "a replica was replaced" in line and "replica fenced" in line and re.search(rf"\bfrom\W+{victim}\b", line)

    def found():
        # Heartbeats tell it until all are equal again: who looks too late finds what the admin did about it.
        told = any(f"node {victim}" in t for t in mesh.ctl("health", exit_codes=(0, 1))["troubles"])
        told = told or any(map(healed, (mesh.log("admin") + mesh.log("admin-2")).splitlines()))
        evidence = list((mesh.state / "data" / "scrubber-1" / "evidence").glob(f"*-{partition['partition']}-{victim}.json"))
        return told and evidence

    evidence = min(harness.wait_until("a cycle finds it, and it is told", found))
    text = evidence.read_text()
    assert f"node {victim}" in text and TEXT not in text, text
    if not options:
        assert "item-42" in text, text
    harness.wait_until("it is counted", lambda: scrubber_metric(mesh, "differences_total") >= 1)
    reason = "scrub_mismatch" if not options else "tree_damaged"
    harness.wait_until("the node says so", lambda: reason in mesh.log(f"storage-{victim}"))
    logs = mesh.logs()
    assert not any(TEXT in log for log in logs.values()), "logs hold keys, not values"

    harness.wait_until("three copies again", lambda: whole(mesh, table), timeout_s=90)
    harness.wait_until("a clean scrub", lambda: scrub(mesh, table)[0]["finding"] == "", timeout_s=60)
    for number in range(100):
        item = ddb.get_item(TableName=table, Key={"pk": {"S": "all"}, "sk": {"S": f"item-{number}"}}, ConsistentRead=True)["Item"]
        assert item["text"]["S"] == f"{TEXT}-{number:03}"
    if not options:
        # What follows from what.
        pages = next(f"http://127.0.0.1:{p['health_port']}" for p in mesh.status()["processes"] if p["name"] == "traces")
        of_it = {"evenkeel_partition": partition["partition"]}
        heal = harness.wait_until("the replacement is traced", lambda: flow(pages, "admin", "replace replica", **of_it), timeout_s=60)
        root = heal.one("replace replica")
        assert heal.tags(root)["evenkeel.replacement.reason"] == "replica fenced" and heal.tags(root)["evenkeel.replacement.from_node"] == victim
        [cause] = links(root)
        scrub_trace = harness.wait_until("its scrub is traced", lambda: fetch(pages, cause), timeout_s=60)
        assert scrub_trace.tags(scrub_trace.one("scrub"))["evenkeel.partition"] == partition["partition"]
        copied = lambda: flow(pages, "storage", "copy replica", cause=root["traceID"], **of_it)
        copy = harness.wait_until("the copy is linked to the replacement", copied, timeout_s=60)
        assert copy.service(copy.one("copy replica")) == f"storage-{victim}"
        splits_are_linked(mesh, pages, table)
    stored = mesh.state / "data" / "archive" / "evidence" / evidence.name
    harness.wait_until("the evidence is in the object store, too", lambda: stored.read_text() == text, timeout_s=60)


def splits_are_linked(mesh, pages, table):
    """A split to the order for it, that to what the operator's tool was a part of, and the elections of its children, whoever wins them, to the split."""
    cause, span = secrets.token_hex(16), secrets.token_hex(8)
    ready = lambda: [p for p in mesh.partitions(table) if p["leader"] and p["healthy_copies"] == 3]
    number = harness.wait_until("the partition is whole", ready, timeout_s=60)[0]["partition"]
    mesh.ctl("--traceparent", f"00-{cause}-{span}-01", "split", f"{table}/{number}")
    order = harness.wait_until("the order is traced", lambda: flow(pages, "admin", "order split", cause=cause), timeout_s=60)
    found = lambda: flow(pages, "admin", "split", evenkeel_partition=number)
    split = harness.wait_until("the split is traced", found, timeout_s=90)
    root = split.one("split")
    assert links(root) == [order.one("order split")["traceID"]]
    tags = split.tags(root)
    assert tags["evenkeel.split.cause"] == "ordered by the operator"
    for child in (tags["evenkeel.split.left"], tags["evenkeel.split.right"]):
        election = lambda: flow(pages, "storage", "election", cause=root["traceID"], evenkeel_partition=child)
        harness.wait_until("the election of a child is linked to the split", election, timeout_s=60)


def test_a_healthy_mesh_raises_no_alarm_under_writes_splits_moves_and_restarts(mesh):
    ddb = harness.client(mesh.url, retries=4)
    table = table_of_one_partition(ddb)
    [partition] = harness.wait_until("its leader is heard", lambda: [p for p in mesh.partitions(table) if p["leader"]])
    number = partition["partition"]
    # Nobody waits for what there is not.
    nowhere = mesh.ctl("scrub", "--table", "nowhere", "--now", "--wait", exit_codes=(1,))
    assert "there is no table" in nowhere["message"]
    with Traffic([mesh.url, mesh.second_url], table) as traffic:
        traffic.wait_for_writes(100)
        # It begins with what the archive says of earlier scrubs, which may take it some seconds.
        harness.wait_until("a first scrub is clean", lambda: scrubber_metric(mesh, "clean_total") > 0, timeout_s=60)
        for _ in range(3):
            [partition] = mesh.partitions(table)
            follower = next(r["node"] for r in partition["replicas"] if r["node"] != partition["leader"])
            mesh.ctl("transfer-leader", str(number), str(follower), exit_codes=(0, 1))
            scrub(mesh, table)
        mesh.split(f"{table}/{number}")

        def split():
            now = mesh.partitions(table)
            return len(now) == 2 and all(p["parent"] == number and p["leader"] and p["healthy_copies"] == 3 for p in now)

        harness.wait_until("it is split", split, timeout_s=60)
        scrub(mesh, table)
        mesh.kill("storage-3")
        traffic.wait_for_writes(100)
        mesh.start_one("storage-3")
        harness.wait_until("three copies", lambda: all(p["healthy_copies"] == 3 for p in mesh.partitions(table)), timeout_s=60)
        # Another one waits, takes over when the first is gone, and hands back when it returns.
        with AnotherScrubber(mesh) as other:
            waits = other.number("digested_bytes_total") == 0
            mesh.kill("scrubber-1")
            harness.wait_until("the other one scrubs", lambda: other.number("clean_total") > 0, timeout_s=60)
            assert waits and scrubber_is_gone(mesh)
            clean = harness.wait_until("the other one answers", lambda: scrub(mesh, table))
            mesh.start_one("scrubber-1")
            harness.wait_until("the first one scrubs again", lambda: scrubber_metric(mesh, "clean_total") > 0, timeout_s=60)
            assert other.number("differences_total") == other.number("unconfirmed_total") == 0
        assert len(clean) == 2 and all(p["finding"] == "" for p in clean), clean
        # While one hands back to the other, nobody may answer.
        clean = harness.wait_until("a scrub is clean", lambda: scrub(mesh, table, exit_codes=(0,)))
        traffic.wait_for_writes(100)
    traffic.check(mesh.url)
    assert len(clean) == 2 and all(p["finding"] == "" for p in clean), clean
    # Of all scrubs of all partitions, the system's, too; both lives of the scrubber log what they find.
    assert scrubber_metric(mesh, "differences_total") == 0
    assert scrubber_metric(mesh, "unconfirmed_total") == 0
    # The archive alone says the same.
    harness.wait_until("compared with the archive", lambda: scrubber_metric(mesh, "archive_clean_total") >= 3, timeout_s=60)
    assert scrubber_metric(mesh, "archive_differences_total") == 0
    assert not (mesh.state / "data" / "scrubber-1" / "evidence").exists()


def files_with(dev, text):
    """The partitions whose B-trees hold this text at all three nodes."""

    def at(node):
        files = (dev.data / f"storage-{node}" / "replicas").glob("*/data.mdb")
        return {file.parent.name for file in files if text.encode() in file.read_bytes()}

    return at(1) & at(2) & at(3)


def test_an_index_that_differs_from_its_table_is_found_and_named():
    """All replicas of the index are changed alike, so that they agree with each other."""
    port = harness.free_port()
    dev = harness.Dev(harness.UNTHROTTLED, "--http", f"127.0.0.1:{port}")
    number = lambda name: harness.metric(harness.http_get(f"http://127.0.0.1:{port}/metrics"), f"evenkeel_scrubber_{name}")
    evidence = lambda: list((dev.data / "scrubber" / "evidence").glob("*-index-*.json"))
    index = {"IndexName": "by-kind", "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}], "Projection": {"ProjectionType": "ALL"}}
    kinds = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "kind")]
    try:
        ddb = harness.client(dev.start().url, retries=4)
        table = "music"
        ddb.create_table(
            TableName=table, AttributeDefinitions=kinds, KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[index], BillingMode="PAY_PER_REQUEST",
        )
        harness.wait_until("it is active", lambda: ddb.describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE")
        item = lambda pk, text: {"pk": {"S": pk}, "kind": {"S": "all"}, "text": {"S": text}}
        for n in range(20):
            ddb.put_item(TableName=table, Item=item(f"item-{n}", f"{TEXT}-{n:03}"))
        entries = lambda: ddb.scan(TableName=table, IndexName="by-kind")["Count"]
        harness.wait_until("the index has them", lambda: entries() == 20, timeout_s=60)
        # Of table and index; which of them is changed makes no difference.
        wrong = f"{TEXT}-007"
        changed = min(harness.wait_until("it is in the B-trees", lambda: len(files_with(dev, wrong)) == 2 and files_with(dev, wrong), timeout_s=60))
        dev.stop()
        for node in (1, 2, 3):
            file = dev.data / f"storage-{node}" / "replicas" / changed / "data.mdb"
            subprocess.run([harness.ROOT / "infra/drills/flip-value", file, wrong], check=True, capture_output=True)
        assert not evidence()
        soon = {"FIRST_AFTER_MS": "0", "AGAIN_AFTER_MS": "500", "SETTLE_MS": "1000", "ITEMS_PER_SECOND": "1000"}
        dev.environment |= {f"EVENKEEL_SCRUBBER__INDEX_{name}": value for name, value in soon.items()}
        dev.start()
        harness.wait_until("it is found", evidence, timeout_s=60)
        found = evidence()[0].read_text()
        assert "music/index/by-kind" in found and "differs from its table in 1 items" in found and "item-7" in found, found
        assert TEXT not in found, "evidence holds keys, not values"
        harness.wait_until("it is counted", lambda: number("indexes_with_findings") == 1 and number("index_differences_total") >= 1)
        harness.wait_until("it is in the log", lambda: "SCRUB: an index differs from its table" in dev.output())
        # Written anew, it is entered anew.
        ddb.put_item(TableName=table, Item=item("item-7", "new"))
        harness.wait_until("they are equal again", lambda: number("indexes_with_findings") == 0, timeout_s=60)
    finally:
        dev.close()
