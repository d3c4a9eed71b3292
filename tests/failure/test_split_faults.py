"""Partitions are split under traffic, by themselves or while processes die: nothing acknowledged is lost, and every split comes to its end."""

import pytest

import harness
from conftest import make_table
from traffic import Traffic

SETTINGS = {
    **harness.UNTHROTTLED,
    # So slow that a split of two megabytes can't be over before the victim is dead, on a busy machine either.
    "EVENKEEL_STORAGE__LIMITS__SPLIT_BYTES_PER_SECOND_MAX": "200000",
    "EVENKEEL_ADMIN__SPLITS__SPLIT_BYTES": "3000000",
}


@pytest.fixture(scope="module")
def mesh():
    mesh = harness.Mesh(SETTINGS)
    try:
        yield mesh.start()
    finally:
        mesh.close()


def table_of_one_partition(ddb):
    return make_table(ddb, BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 3000, "WriteCapacityUnits": 1000})


def fill(ddb, table, count):
    for first in range(0, count, 25):
        items = [{"pk": {"S": f"filler-{n}"}, "rest": {"S": "x" * 20_000}} for n in range(first, first + 25)]
        harness.write_all(ddb, table, [{"PutRequest": {"Item": item}} for item in items])


def leader(mesh, parent):
    return f"storage-{parent['leader']}"


def follower(mesh, parent):
    return next(f"storage-{r['node']}" for r in parent["replicas"] if r["node"] != parent["leader"])


def active_admin(mesh, _parent):
    instance = mesh.ctl("health", exit_codes=(0, 1))["admin"]
    return instance and ("admin" if instance == 1 else f"admin-{instance}")


@pytest.mark.parametrize("choose", [leader, follower, active_admin])
def test_a_process_dies_during_a_split(mesh, choose):
    ddb = harness.client(mesh.url, retries=4)
    table = table_of_one_partition(ddb)
    fill(ddb, table, 100)
    [parent] = harness.wait_until("its leader is heard", lambda: [p for p in mesh.partitions(table) if p["leader"]])
    victim = harness.wait_until("the victim is chosen", lambda: choose(mesh, parent))
    with Traffic([mesh.url, mesh.second_url], table) as traffic:
        traffic.wait_for_writes(50)
        mesh.ctl("split", f"{table}/{parent['partition']}")
        assert [p["partition"] for p in mesh.partitions(table)] == [parent["partition"]], "it was over too early"
        mesh.kill(victim)
        traffic.every_key_moves(timeout_s=60)
        mesh.start_one(victim)
        children = harness.wait_until("the split is done", lambda: whole_children(mesh, table, parent), timeout_s=120)
        traffic.every_key_moves(timeout_s=60)
        traffic.wait_for_writes(100)
    assert len(children) == 2
    print(f"\n{victim}: longest gap {traffic.longest_gap_s():.2f} s, {len(traffic.errors)} errors")
    traffic.check(mesh.url)
    check_fillers(ddb, table, 100)
    ddb.delete_table(TableName=table)


def whole_children(mesh, table, parent):
    """The two that took the parent's place, once each has three healthy copies and the parent is gone."""
    now = mesh.partitions(table)
    done = all(p["parent"] == parent["partition"] and p["healthy_copies"] == 3 and p["leader"] for p in now)
    return now if done and len(now) == 2 else None


def test_a_partition_that_grows_too_large_is_split_by_itself(mesh):
    ddb = harness.client(mesh.url, retries=4)
    table = table_of_one_partition(ddb)
    with Traffic([mesh.url, mesh.second_url], table, steady=True) as traffic:
        traffic.wait_for_writes(50)
        fill(ddb, table, 200)
        harness.wait_until("it was split", lambda: len(mesh.partitions(table)) > 1, timeout_s=120)
        traffic.every_key_moves(timeout_s=60)
    assert not traffic.errors, traffic.errors[:3]
    traffic.check(mesh.url)
    check_fillers(ddb, table, 200)
    ddb.delete_table(TableName=table)


def check_fillers(ddb, table, count):
    pages = ddb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    found = [item["pk"]["S"] for page in pages for item in page["Items"]]
    assert len(found) == len(set(found)), "a scan repeats items"
    assert sum(name.startswith("filler-") for name in found) == count
