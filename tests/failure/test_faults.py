"""Failing disks under a mesh of processes: a damaged replica is fenced and named, all others serve, clients see nothing, and it is
built anew from its peers.
"""

import os
import shutil

import pytest

import harness
from conftest import make_table
from traffic import Traffic

NODE = "storage-3"


@pytest.fixture(scope="module")
def mesh():
    mesh = harness.Mesh()
    try:
        yield mesh.start()
    finally:
        mesh.close()


def data(mesh, node=NODE):
    return mesh.state / "data" / node


def metrics(mesh, node=NODE):
    return harness.http_get(f"http://127.0.0.1:{mesh.port + 10 + int(node[-1])}/metrics")


def fenced(mesh):
    """Group → reason of the node's fenced replicas, as an operator reads them from /metrics."""
    found = {}
    for line in metrics(mesh).splitlines():
        if line.startswith("evenkeel_storage_fenced_replica{") and line.endswith(" 1"):
            labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].split(","))
            found[labels["group"].strip('"')] = labels["reason"].strip('"')
    return found


def until_fenced(mesh, group, reason):
    harness.wait_until(f"replica {group} is fenced: {reason}", lambda: fenced(mesh).get(group) == reason, timeout_s=60)
    log = (mesh.state / "logs" / f"{NODE}.log").read_text(errors="replace")
    assert any("replica fenced" in line and reason in line for line in log.splitlines()), "the log does not say so"


def groups(mesh):
    return sorted((p.name for p in (data(mesh) / "replicas").iterdir() if p.name.isdigit()), key=int)


def healthy(mesh):
    """The admin knows three healthy copies of every partition."""
    text = harness.http_get(f"http://127.0.0.1:{mesh.port + 30}/metrics")
    return harness.metric(text, "evenkeel_admin_partitions_endangered") == 0


def new_table(mesh):
    """A table, and the groups of its partitions on the node."""
    before = set(groups(mesh))
    name = make_table(harness.client(mesh.url, retries=4))
    return name, harness.wait_until("its replicas are made", lambda: set(groups(mesh)) - before)


def size(mesh, group):
    return (data(mesh) / "replicas" / group / "data.mdb").stat().st_size


def test_a_replaced_disk_is_filled_again(mesh):
    """A node comes back with an empty disk, and there is no other one in its zone: all that it held is copied to it."""
    harness.wait_until("all is well", lambda: healthy(mesh), timeout_s=300)
    table, _ = new_table(mesh)
    with Traffic([mesh.url, mesh.second_url], table) as traffic:
        traffic.wait_for_writes(100)
        before = groups(mesh)
        mesh.kill(NODE)
        traffic.every_key_moves()
        shutil.rmtree(data(mesh))
        mesh.start_one(NODE)

        def is_filled():
            return (data(mesh) / "replicas").exists() and groups(mesh) == before and healthy(mesh)

        harness.wait_until("it has all of them again", is_filled, timeout_s=300, every_s=0.5)
        # And they count: with another node gone, nothing can be written without them.
        mesh.kill("storage-1")
        traffic.every_key_moves()
        mesh.start_one("storage-1")
        traffic.every_key_moves()
    traffic.check(mesh.url)


def test_damage_is_fenced_replica_by_replica(mesh):
    (cut_table, of_cut), (running_table, of_running), (flipped_table, of_flipped) = (new_table(mesh) for _ in range(3))
    cut = max(of_cut)
    # Without it nothing is healed: what is fenced can be looked at in peace.
    mesh.kill("admin")
    mesh.kill("admin-2")
    urls = [mesh.url, mesh.second_url]
    with Traffic(urls, cut_table) as one, Traffic(urls, flipped_table) as two:
        one.wait_for_writes(100)
        two.wait_for_writes(100)
        ddb = harness.client(mesh.url, retries=4)
        ddb.put_item(TableName=flipped_table, Item={"pk": {"S": "needle-in-the-log"}})
        ddb.put_item(TableName=running_table, Item={"pk": {"S": "x"}, "filler": {"S": "x" * 200_000}})
        (running,) = harness.wait_until("it is flushed", lambda: [g for g in of_running if size(mesh, g) > 200_000])
        two.wait_for_writes(100)
        segments = lambda: [s for s in (data(mesh) / "wal").glob("*.wal") if b"needle-in-the-log" in s.read_bytes()]
        harness.wait_until("the node has it in its log", segments)

        # A data file that was cut, and a flipped bit in a record of the log.
        mesh.kill(NODE)
        file = data(mesh) / "replicas" / cut / "data.mdb"
        os.truncate(file, 20_000)
        hits = 0
        for segment in (data(mesh) / "wal").glob("*.wal"):
            content = bytearray(segment.read_bytes())
            at = content.find(b"needle-in-the-log")
            if at >= 0:
                content[at] ^= 1
                segment.write_bytes(content)
                hits += 1
        assert hits > 0
        mesh.start_one(NODE)
        until_fenced(mesh, cut, "tree_damaged")
        flipped = harness.wait_until("another one is fenced", lambda: set(fenced(mesh)) - {cut})
        assert len(flipped) == 1 and flipped < of_flipped, "all others are whole"
        until_fenced(mesh, *flipped, "log_damaged")
        one.every_key_moves()
        two.every_key_moves()

        # A file that is cut under the running node: it dies once, and knows why when it is back.
        os.truncate(data(mesh) / "replicas" / running / "data.mdb", 8_192)
        number = 0

        def dead():
            nonlocal number
            number += 1
            ddb.put_item(TableName=running_table, Item={"pk": {"S": "x"}, "n": {"N": str(number)}})
            return not mesh.alive(NODE)

        harness.wait_until("the node meets the missing pages", dead, timeout_s=60)
        mesh.start_one(NODE)
        until_fenced(mesh, running, "crashed")
        harness.wait_until("these three are fenced, all others are whole", lambda: set(fenced(mesh)) == {cut, running} | flipped)
        one.every_key_moves()

        # The newest segment of the log is gone: nothing on this node can be trusted.
        mesh.kill(NODE)
        newest = max((data(mesh) / "wal").glob("*.wal"))
        newest.unlink()
        mesh.start_one(NODE)
        harness.wait_until("all are fenced", lambda: set(fenced(mesh)) == set(groups(mesh)), timeout_s=60)
        until_fenced(mesh, min(of_cut), "log_damaged")
        one.every_key_moves()
        two.every_key_moves()
        # It answers 200: a node with fenced replicas serves the others.
        readyz = f"http://127.0.0.1:{mesh.port + 13}/readyz"
        harness.wait_until("the node is ready", lambda: harness.http_get(readyz) is not None)

        # An admin has all of them built anew, on the same node: there is no other in its zone.
        damaged = set(groups(mesh))
        mesh.start_one("admin")
        harness.wait_until("all are healed", lambda: not fenced(mesh) and set(groups(mesh)) == damaged, timeout_s=300)
        assert not list((data(mesh) / "replicas").glob("*/fenced")) + list((data(mesh) / "replicas").glob("*/crashed"))
        one.every_key_moves(timeout_s=60)

        # They hold everything: with one of the other nodes dead, every write needs them.
        harness.wait_until("they have a vote and are in step", lambda: healthy(mesh), timeout_s=300)
        mesh.kill("storage-1")
        one.every_key_moves(timeout_s=60)
        two.every_key_moves(timeout_s=60)
    one.check(mesh.url)
    two.check(mesh.url)
    found = harness.client(mesh.url, retries=4).get_item(
        TableName=flipped_table, Key={"pk": {"S": "needle-in-the-log"}}, ConsistentRead=True
    )
    assert "Item" in found, "what rotted on one disk is had from the others"
