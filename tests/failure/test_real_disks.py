"""A real file system that is full, in a mount namespace of the mesh: its node leads nothing, the others serve, and it comes back when there is space."""

import pytest

import harness
from conftest import make_table
from traffic import Traffic

MB = 1_000_000
NODES = ["storage-1", "storage-2", "storage-3"]
SETTINGS = {
    **harness.UNTHROTTLED,
    # The admin would put nothing on disks as small as these.
    "EVENKEEL_ADMIN__FREE_BYTES_MIN": str(1 * MB),
    "EVENKEEL_STORAGE__LIMITS__WAL_SEGMENT_BYTES": str(2 * MB),
    "EVENKEEL_STORAGE__LIMITS__DISK_RESERVE_BYTES": str(12 * MB),
}


@pytest.fixture
def mounts():
    """Skips where there can be none: no privilege, or no tools."""
    reason = harness.Mounts.why_not("fallocate")
    if reason:
        pytest.skip(reason)
    with harness.Mounts() as mounts:
        yield mounts


@pytest.fixture
def mesh(mounts):
    """Not started: its disks come first."""
    mesh = harness.Mesh(SETTINGS, mounts)
    try:
        yield mesh
    finally:
        mesh.close()


def folder(mesh, node):
    return mesh.state / "data" / node


def memory_disk(mesh, node, mb):
    """The node's data folder as a file system of so many megabytes."""
    folder(mesh, node).mkdir(parents=True, exist_ok=True)
    mesh.mounts.run("mount", "-t", "tmpfs", "-o", f"size={mb * MB}", f"disk-{node}", folder(mesh, node))


def fill(mesh, path, free):
    """Fills the file system of `path` with a file, all but `free` bytes."""
    left = int(mesh.mounts.run("stat", "--file-system", "--format", "%a", path)) * int(
        mesh.mounts.run("stat", "--file-system", "--format", "%S", path)
    )
    mesh.mounts.run("fallocate", "-l", left - free, path / "ballast")


def low(mesh, node):
    return harness.metric(mesh.metrics(node), "evenkeel_storage_disk_low") == 1


def test_a_node_with_a_full_disk_leads_nothing_until_there_is_space(mesh):
    for node in NODES:
        memory_disk(mesh, node, 64)
    mesh.start()
    ddb = harness.client(mesh.url, retries=4)
    table = make_table(ddb)
    urls = [mesh.url, mesh.second_url]
    with Traffic(urls, table) as traffic:
        traffic.wait_for_writes(100)

        # One disk is full: its node leads no more, and no key waits for it.
        fill(mesh, folder(mesh, "storage-1"), 6 * MB)
        harness.wait_until("the node says so", lambda: low(mesh, "storage-1"))
        led = lambda: [p["leader"] for p in mesh.partitions(table)]
        harness.wait_until("it leads nothing of the table", lambda: 1 not in led() and None not in led())
        traffic.every_key_moves()
        health = mesh.ctl("health", exit_codes=(0, 1))
        assert any("node 1" in t and "nearly full" in t for t in health["troubles"]), health["troubles"]

        # Space again, by itself.
        mesh.mounts.run("rm", folder(mesh, "storage-1") / "ballast")
        harness.wait_until("it says so no more", lambda: not low(mesh, "storage-1"))
        traffic.every_key_moves()
    traffic.check(mesh.url)
