"""`kill -9` of any single process under traffic: nothing acknowledged is lost, strong reads never go back, service resumes by itself; and random
operations have the outcomes that they have in memory, or doubtful ones.
"""

import pytest

import harness
from conftest import make_table
from sequence import DoubtfulRun, Sequence
from traffic import Traffic


@pytest.fixture(scope="module")
def mesh():
    mesh = harness.Mesh()
    try:
        yield mesh.start()
    except BaseException:
        raise
    finally:
        mesh.close()


@pytest.fixture(scope="module")
def table(mesh):
    return make_table(harness.client(mesh.url, retries=4))


@pytest.fixture(scope="module")
def run(mesh):
    """One random sequence, which goes on while one process after another dies."""
    return DoubtfulRun(urls(mesh), make_table(harness.client(mesh.url, retries=4), range_type="N"))


def urls(mesh):
    return [mesh.url, mesh.second_url]


@pytest.mark.parametrize(
    "victim", ["storage-1", "storage-2", "storage-3", "router-1", "memds-1", "memds-2", "gac-1", "admin", "admin-2"]
)
def test_kill_and_return(mesh, table, run, victim, record_property):
    with Sequence(run) as sequence, Traffic(urls(mesh), table) as traffic:
        traffic.wait_for_writes(200)
        mesh.kill(victim)
        traffic.every_key_moves()
        traffic.wait_for_writes(200)
        sequence.goes_on()
        mesh.start_one(victim)
        traffic.every_key_moves()
        traffic.wait_for_writes(200)
        sequence.goes_on()
    gap = traffic.longest_gap_s()
    record_property("longest_gap_s", round(gap, 3))
    print(f"\n{victim}: killed under {len(traffic.acknowledged_at)} writes, longest gap {gap:.2f} s, {len(traffic.errors)} errors")
    print(f"{run.steps} random operations so far, {run.left} of them in doubt")
    harness.wait_until("both routers answer", lambda: harness.answers(mesh.url) and harness.answers(mesh.second_url))
    traffic.check(mesh.url)


def test_both_memds_down_leaves_warm_routers_serving(mesh, table):
    with Traffic(urls(mesh), table) as traffic:
        traffic.wait_for_writes(100)
        mesh.kill("memds-1")
        mesh.kill("memds-2")
        traffic.every_key_moves()
        traffic.wait_for_writes(300)
        mesh.start_one("memds-1")
        mesh.start_one("memds-2")
        traffic.wait_for_writes(100)
    traffic.check(mesh.url)


def test_nats_down_for_ten_seconds(mesh, table):
    import threading

    with Traffic(urls(mesh), table) as traffic:
        traffic.wait_for_writes(100)
        mesh.kill("nats")
        threading.Event().wait(10)  # the fault itself lasts ten seconds
        mesh.start_one("nats")
        traffic.every_key_moves(timeout_s=60)
        traffic.wait_for_writes(200, timeout_s=60)
    print(f"\nnats: longest gap {traffic.longest_gap_s():.2f} s, {len(traffic.errors)} errors")
    traffic.check(mesh.url)


def test_a_follower_catches_up_and_serves_alone_with_another(mesh, table):
    """Kill one node, write, bring it back, then kill another: what was written meanwhile is there."""
    with Traffic(urls(mesh), table) as traffic:
        traffic.wait_for_writes(100)
        mesh.kill("storage-3")
        traffic.every_key_moves()
        traffic.wait_for_writes(500)
        mesh.start_one("storage-3")
        traffic.every_key_moves()
        mesh.kill("storage-1")
        traffic.every_key_moves()
        mesh.start_one("storage-1")
        traffic.every_key_moves()
    traffic.check(mesh.url)


def test_all_at_once(mesh, table):
    """The whole mesh loses power: everything acknowledged is there when it comes back."""
    with Traffic(urls(mesh), table) as traffic:
        traffic.wait_for_writes(300)
        for name in ("storage-1", "storage-2", "storage-3"):
            mesh.kill(name)
        for name in ("storage-1", "storage-2", "storage-3"):
            mesh.start_one(name)
        traffic.every_key_moves(timeout_s=60)
    traffic.check(mesh.url)
