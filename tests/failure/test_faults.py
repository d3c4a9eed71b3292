"""Failing disks under a mesh of processes: a damaged replica is fenced and named, all others serve, clients see nothing."""

import os
import subprocess
from pathlib import Path

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


def alive(mesh, name=NODE):
    return Path(f"/proc/{(mesh.state / f'{name}.pid').read_text().strip()}").exists()


def new_table(mesh):
    """A table, and the group of its partition on the node."""
    before = set(groups(mesh))
    name = make_table(harness.client(mesh.url, retries=4))
    (group,) = harness.wait_until("its replica is made", lambda: set(groups(mesh)) - before)
    return name, group


def test_damage_is_fenced_replica_by_replica(mesh):
    tables = {group: table for table, group in (new_table(mesh) for _ in range(4))}
    cut, running, flipped, whole = tables
    urls = [mesh.url, mesh.second_url]
    with Traffic(urls, tables[cut]) as one, Traffic(urls, tables[flipped]) as two:
        one.wait_for_writes(100)
        two.wait_for_writes(100)
        ddb = harness.client(mesh.url, retries=4)
        ddb.put_item(TableName=tables[flipped], Item={"pk": {"S": "needle-in-the-log"}})
        ddb.put_item(TableName=tables[running], Item={"pk": {"S": "x"}, "filler": {"S": "x" * 200_000}})
        two.wait_for_writes(100)

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
        until_fenced(mesh, flipped, "log_damaged")
        assert set(fenced(mesh)) == {cut, flipped}, "all others are whole"
        one.every_key_moves()
        two.every_key_moves()

        # A file that is cut under the running node: it dies once, and knows why when it is back.
        os.truncate(data(mesh) / "replicas" / running / "data.mdb", 8_192)
        number = 0

        def dead():
            nonlocal number
            number += 1
            ddb.put_item(TableName=tables[running], Item={"pk": {"S": "x"}, "n": {"N": str(number)}})
            return not alive(mesh)

        harness.wait_until("the node meets the missing pages", dead, timeout_s=60)
        mesh.start_one(NODE)
        until_fenced(mesh, running, "crashed")
        assert set(fenced(mesh)) == {cut, flipped, running}, "all others are whole"
        one.every_key_moves()

        # The newest segment of the log is gone: nothing on this node can be trusted.
        mesh.kill(NODE)
        newest = max((data(mesh) / "wal").glob("*.wal"))
        newest.unlink()
        mesh.start_one(NODE)
        until_fenced(mesh, whole, "log_damaged")
        assert set(fenced(mesh)) == set(groups(mesh))
        one.every_key_moves()
        two.every_key_moves()
    one.check(mesh.url)
    two.check(mesh.url)
    health = harness.http_get(f"http://127.0.0.1:{mesh.port + 13}/readyz")
    assert health is not None, "a node with fenced replicas is ready"
