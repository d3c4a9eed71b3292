"""The archive over S3 under everything that can go wrong with the store and the archivers; then all storage nodes are lost, and a fresh mesh is
filled from the object store alone. Whatever was acknowledged is there."""

import os
import signal
import time

import pytest

import harness
from conftest import make_table
from store_faults import Faults
from traffic import Traffic

SETTINGS = {
    **harness.UNTHROTTLED,
    # Segments every second, a snapshot every few of them; stores that fail are asked again soon.
    "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": "1000",
    "EVENKEEL_ARCHIVER__POLL_MS": "200",
    "EVENKEEL_ARCHIVER__RETRY_MS_MAX": "1000",
    "EVENKEEL_ARCHIVER__SNAPSHOT_BYTES": "300000",
    "EVENKEEL_ARCHIVE__TIMEOUT_MS": "1500",
    "EVENKEEL_ARCHIVE__PAUSE_MS": "50",
    "EVENKEEL_ARCHIVE__PAUSE_MS_MAX": "200",
    # Logs are cut as soon as they may: what the archive lacks is gone.
    "EVENKEEL_STORAGE__TIMING__LIMITS__FLOOR_STEP_ENTRIES": "1",
    "EVENKEEL_STORAGE__LIMITS__FLUSH_AGE_MS": "200",
}
ARCHIVERS = ["archiver-1", "archiver-2"]


def ports(mesh, names):
    return [p["health_port"] for p in mesh.status()["processes"] if p["name"] in names]


def number(port, name):
    return harness.metric(harness.http_get(f"http://127.0.0.1:{port}/metrics"), name)


def items_of(url, table):
    pages = harness.client(url, retries=8).get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return sorted((item for page in pages for item in page["Items"]), key=repr)


def described(url, table):
    ddb = harness.client(url, retries=8)
    table = ddb.describe_table(TableName=table)["Table"]
    tags = ddb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"]
    kept = ["AttributeDefinitions", "KeySchema", "TableStatus", "DeletionProtectionEnabled"]
    throughput = {k: table["ProvisionedThroughput"][k] for k in ("ReadCapacityUnits", "WriteCapacityUnits")}
    billing = table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    return {k: table[k] for k in kept} | {"throughput": throughput, "billing": billing, "tags": tags}


def pids(mesh, names):
    return [p["pid"] for p in mesh.status()["processes"] if p["name"] in names]


@pytest.fixture
def faults(s3):
    proxy = Faults(s3.endpoint)
    try:
        yield proxy
    finally:
        proxy.close()


def survive_everything(mesh, s3, faults, table):
    """Traffic, while the store and the archivers fail in every way; returns it, checked."""
    urls = [mesh.url, mesh.second_url]
    with Traffic(urls, table) as traffic:
        traffic.wait_for_writes(100)
        for fault in ["error", "lost", "truncate", "lie", "down", "hang"]:
            if fault == "lie":
                # A conditional write is refused where an archiver repeats what another has done.
                faults.set(fault)
                for archiver in ARCHIVERS:
                    mesh.kill(archiver)
                    mesh.start_one(archiver)
                traffic.wait_for_writes(100)
                faults.set(None)
            elif fault == "truncate":
                # Objects are read back when they are written.
                faults.wait_for(fault, 3)
            else:
                faults.wait_for(fault, 3)
            traffic.wait_for_writes(50)
        # One archiver sleeps over what the other does in its place, and wakes up with what it meant to do.
        for pid in pids(mesh, ["archiver-1"]):
            os.kill(pid, signal.SIGSTOP)
            try:
                harness.wait_until(
                    "the other one looks after all partitions",
                    lambda: number(ports(mesh, ["archiver-2"])[0], "evenkeel_archiver_partitions") >= 2,
                )
                traffic.wait_for_writes(150)
            finally:
                os.kill(pid, signal.SIGCONT)
        # The store goes away for good, and comes back.
        s3.stop()
        traffic.wait_for_writes(100)
        s3.start()
        for archiver in ARCHIVERS:
            mesh.kill(archiver)
            traffic.wait_for_writes(50)
            mesh.start_one(archiver)
        traffic.wait_for_writes(100)
    traffic.check(mesh.url)
    return traffic


def flip(s3, key):
    body = bytearray(s3.get(key))
    body[len(body) // 2] ^= 0x04
    s3.put(key, bytes(body))


def test_all_that_was_acknowledged_survives_the_loss_of_every_node(s3, faults):
    settings = {**SETTINGS, **s3.settings(), "EVENKEEL_ARCHIVE__ENDPOINT": faults.endpoint}
    lost = harness.Mesh(settings=settings)
    try:
        lost.start()
        ddb = harness.client(lost.url, retries=4)
        table = make_table(ddb, Tags=[{"Key": "team", "Value": "films"}])
        ranged = make_table(
            ddb,
            range_type="N",
            BillingMode="PROVISIONED",
            ProvisionedThroughput={"ReadCapacityUnits": 7, "WriteCapacityUnits": 9},
            DeletionProtectionEnabled=True,
        )
        damaged = make_table(ddb)
        for n in range(60):
            ddb.put_item(TableName=ranged, Item={"pk": {"S": f"p{n % 7}"}, "sk": {"N": str(n)}, "v": {"L": [{"B": b"x"}]}})
        for n in range(0, 60, 3):
            ddb.delete_item(TableName=ranged, Key={"pk": {"S": f"p{n % 7}"}, "sk": {"N": str(n)}})
        ddb.put_item(TableName=damaged, Item={"pk": {"S": "x"}})
        partition = lost.partitions(ranged)[0]["partition"]
        lost.ctl("split", f"{ranged}/{partition}", "--at", '{"pk": {"S": "p3"}}', "--wait")
        earlier, moment = items_of(lost.url, ranged), int(time.time()) + 1
        harness.wait_until("the next second", lambda: time.time() > moment + 0.005)
        ddb.put_item(TableName=ranged, Item={"pk": {"S": "p1"}, "sk": {"N": "1000"}})
        traffic = survive_everything(lost, s3, faults, table)
        lost.wait_until_archived(90)
        expected = {name: items_of(lost.url, name) for name in (table, ranged)}
        descriptions = {name: described(lost.url, name) for name in (table, ranged)}
        uuid = ddb.describe_table(TableName=damaged)["Table"]["TableId"]
    finally:
        lost.close()
    # What rots in the store meanwhile is found and named, and hurts nothing else.
    rotten = [key for key in s3.keys(f"mesh/tables/{uuid}/") if key.endswith(".seg")]
    assert rotten
    for key in rotten:
        flip(s3, key)
    # Nothing hangs any more: who is slow is waited for.
    fresh = harness.Mesh(settings={**settings, "EVENKEEL_ARCHIVE__TIMEOUT_MS": "30000"})
    try:
        fresh.start()
        seen = fresh.ctl("recover", "--dry-run")
        assert {line["table"] for line in seen["tables"]} == {table, ranged, damaged}, seen
        report = fresh.ctl("recover", exit_codes=(1,))
        lines = {line["table"]: line for line in report["tables"]}
        assert [lines[name]["state"] for name in (table, ranged, damaged)] == ["recovered", "recovered", "failed"], report
        assert any(key.removeprefix("mesh/") in lines[damaged]["error"] for key in rotten), report
        for name in (table, ranged):
            assert items_of(fresh.url, name) == expected[name], lines[name]
            assert lines[name]["items"] == len(expected[name])
            assert described(fresh.url, name) == descriptions[name]
        traffic.check(fresh.url)
        # Once more: what is complete is left alone. Which mesh is meant has to be said now that the fresh one has tables of its own.
        again = fresh.ctl("recover", "--system", report["system"], "--table", table, "--table", ranged)
        assert {line["state"] for line in again["tables"]} == {"present"}, again
        # And as of a moment before the last write.
        ddb = harness.client(fresh.url, retries=4)
        ddb.update_table(TableName=ranged, DeletionProtectionEnabled=False)
        harness.wait_until("it may be deleted", lambda: ddb.delete_table(TableName=ranged), timeout_s=60)
        harness.wait_until("it is gone", lambda: ranged not in ddb.list_tables()["TableNames"], timeout_s=60)
        (line,) = fresh.ctl("recover", "--system", report["system"], "--table", ranged, "--at", str(moment))["tables"]
        assert (line["state"], line["settled"], line["undecided"]) == ("recovered", 0, 0), line
        assert items_of(fresh.url, ranged) == earlier
    finally:
        fresh.close()
