"""Tenants of one node that together ask for more than it is rated for: leadership of one goes elsewhere, while both are served."""

import collections
import re
import threading
import time

import pytest

import harness
from conftest import make_table

# Two tables at this rate are more than a node is rated for, one is not.
RATED_UNITS_S = 200
TABLE_UNITS_S = 130
# A strong read of the item is ten units.
ITEM_BYTES, ITEM_UNITS = 40_000, 10
SETTINGS = {
    "EVENKEEL_STORAGE__ADMISSION__NODE_READ_UNITS": str(RATED_UNITS_S),
    "EVENKEEL_ADMIN__HEALING__PRESSED_AFTER_MS": "2000",
}


@pytest.fixture
def mesh():
    mesh = harness.Mesh(SETTINGS)
    try:
        yield mesh.start()
    finally:
        mesh.close()


class Reader(threading.Thread):
    """Strong reads of one table at a steady rate."""

    def __init__(self, url, table):
        super().__init__()
        self.ddb, self.table = harness.client(url, retries=8), table
        self.stopping = threading.Event()
        self.reads = 0
        self.errors = []

    def run(self):
        every_s = ITEM_UNITS / TABLE_UNITS_S
        due = time.monotonic()
        while not self.stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + every_s, time.monotonic() - 1)
            try:
                assert self.ddb.get_item(TableName=self.table, Key={"pk": {"S": "k"}}, ConsistentRead=True)["Item"]
                self.reads += 1
            except Exception as error:
                self.errors.append(repr(error)[:200])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(timeout=60)


def leader(mesh, table):
    (partition,) = mesh.partitions(table)
    return partition["leader"]


def spread(mesh):
    """Leaders are spread evenly: nobody moves any for that."""
    led = [harness.metric(mesh.metrics(node), "evenkeel_storage_leading") for node in ("storage-1", "storage-2", "storage-3")]
    return max(led) - min(led) <= 1


def test_tenants_of_a_node_under_pressure_part(mesh):
    ddb = harness.client(mesh.url, retries=4)
    # One partition each: that is enough for their throughput.
    throughput = {"ReadCapacityUnits": 500, "WriteCapacityUnits": 50}
    tables = [make_table(ddb, BillingMode="PROVISIONED", ProvisionedThroughput=throughput) for _ in range(4)]
    for table in tables:
        ddb.put_item(TableName=table, Item={"pk": {"S": "k"}, "pad": {"S": "x" * ITEM_BYTES}})
        harness.wait_until(f"{table} is led", lambda: leader(mesh, table))
    harness.wait_until("leaders are spread", lambda: spread(mesh), timeout_s=60)
    # Of four tables two are led by the same node of the three.

    def shared():
        led_by = collections.defaultdict(list)
        for table in tables:
            led_by[leader(mesh, table)].append(table)
        return next(((node, tables[:2]) for node, tables in led_by.items() if node and len(tables) > 1), None)

    node, tenants = harness.wait_until("two are led by one node", shared)
    with Reader(mesh.url, tenants[0]) as first, Reader(mesh.second_url, tenants[1]) as second:
        harness.wait_until("one tenant is led elsewhere", lambda: len({leader(mesh, t) for t in tenants} - {None}) == 2, timeout_s=60)
        before = [reader.reads for reader in (first, second)]
        harness.wait_until(
            "both go on", lambda: all(r.reads > n + 20 for r, n in zip((first, second), before))
        )
    assert first.errors + second.errors == []
    admins = mesh.log("admin") + mesh.log("admin-2")
    handed_over = [line for line in admins.splitlines() if "a node under pressure hands a partition over" in line]
    assert any(re.search(rf'\bfrom\W+{node}\b', line) for line in handed_over), (node, handed_over)
