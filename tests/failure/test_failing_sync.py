"""A disk that fails to sync, under a real process: the node stops at once and never asks the disk again, and nothing acknowledged is lost."""

import shutil
import subprocess
from pathlib import Path

import pytest

import harness
from conftest import make_table
from traffic import Traffic

VICTIM = "storage-1"


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that makes syncs fail."""
    assert shutil.which("cc"), "a C compiler is needed (the Rust toolchain links with it)"
    library = tmp_path_factory.mktemp("shim") / "failing_sync.so"
    source = Path(__file__).with_name("failing_sync.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def mesh():
    mesh = harness.Mesh()
    try:
        yield mesh.start()
    finally:
        mesh.close()


def test_a_failed_sync_of_the_log_stops_the_node_and_is_never_retried(mesh, shim, tmp_path):
    ddb = harness.client(mesh.url, retries=4)
    table = make_table(ddb)
    trigger = tmp_path / "fail-sync"
    noted = tmp_path / "fail-sync.log"
    healthy = lambda: mesh.ctl("health", exit_codes=(0, 1))["troubles"] == []
    mesh.kill(VICTIM)
    mesh.start_one(VICTIM, LD_PRELOAD=str(shim), EVENKEEL_FAIL_SYNC=str(trigger))
    harness.wait_until("the mesh is whole with the node on its new disk", healthy, timeout_s=90)
    with Traffic([mesh.url, mesh.second_url], table) as traffic:
        traffic.wait_for_writes(100)
        trigger.write_text(".wal")
        harness.wait_until("the node has stopped", lambda: not mesh.alive(VICTIM))
        assert noted.read_text().splitlines() == ["failed"], "one sync failed, and none was tried after it"
        assert "the write-ahead log failed, stopping the process" in mesh.log(VICTIM)
        traffic.every_key_moves()

        # A sound disk again: what the failed one dropped was never acknowledged by this node, and comes from its peers.
        mesh.start_one(VICTIM)
        harness.wait_until("the mesh is whole again", healthy, timeout_s=90)
        traffic.every_key_moves()
    traffic.check(mesh.url)
