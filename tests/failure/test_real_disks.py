"""Real file systems that are full or fail, each in a mount namespace of the mesh: a node refuses clearly or stops, the others serve, nothing
acknowledged is lost, and it heals when there is space again or another disk.
"""

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
    reason = harness.Mounts.why_not("losetup", "mkfs.ext4", "umount")
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
    # The node writes meanwhile, and a file needs more than its bytes: whatever does not fit is left out.
    mesh.mounts.run("sh", "-c", f"dd if=/dev/zero of={path}/ballast bs=64k 2>/dev/null; truncate -s -{free} {path}/ballast")


def put(ddb, table, key, size=100):
    ddb.put_item(TableName=table, Item={"pk": {"S": key}, "pad": {"S": "x" * size}})


def low(mesh, node):
    return harness.metric(mesh.metrics(node), "evenkeel_storage_disk_low") == 1


def test_full_disks_refuse_clearly_and_take_writes_again(mesh):
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

        # All are full: writes are refused in words, reads are served.
        put(ddb, table, "kept")
        for node in NODES[1:]:
            fill(mesh, folder(mesh, node), 6 * MB)
        harness.wait_until("all say so", lambda: all(low(mesh, node) for node in NODES))
        once = harness.client(mesh.url)

        def refused():
            try:
                put(once, table, "refused")
            except once.exceptions.ClientError as error:
                return error.response["Error"]["Code"] == "ThrottlingException" and error.response["Error"]["Message"]
            return None

        assert "partition's leader has no space left" in harness.wait_until("writes are refused", refused)
        assert "Item" in ddb.get_item(TableName=table, Key={"pk": {"S": "kept"}}, ConsistentRead=True)
        for node in NODES:
            assert mesh.alive(node), mesh.log(node)[-2_000:]

        # Space again, by itself.
        for node in NODES:
            mesh.mounts.run("rm", folder(mesh, node) / "ballast")
        harness.wait_until("none says so any more", lambda: not any(low(mesh, node) for node in NODES))
        traffic.every_key_moves()

        # A node that keeps no reserve meets the end of its disk: it stops, and the others go on.
        mesh.kill("storage-3")
        mesh.start_one("storage-3", EVENKEEL_STORAGE__LIMITS__DISK_RESERVE_BYTES="0")
        traffic.every_key_moves()
        fill(mesh, folder(mesh, "storage-3"), 0)
        number = 0

        def stopped():
            nonlocal number
            number += 1
            put(ddb, table, f"large-{number}", 300_000)
            return not mesh.alive("storage-3")

        harness.wait_until("it stops", stopped, timeout_s=60, every_s=0)
        assert "is full" in mesh.log("storage-3")
        traffic.every_key_moves()
        mesh.mounts.run("mount", "-o", f"remount,size={256 * MB}", folder(mesh, "storage-3"))
        mesh.start_one("storage-3")
        healthy = lambda: all(p["healthy_copies"] == 3 for p in mesh.partitions(table))
        harness.wait_until("all three copies are in step", healthy, timeout_s=60)
        # Now every write needs it.
        mesh.kill("storage-2")
        traffic.every_key_moves(timeout_s=60)
    traffic.check(mesh.url)
    for n in range(1, number + 1):
        assert "Item" in ddb.get_item(TableName=table, Key={"pk": {"S": f"large-{n}"}}, ConsistentRead=True), n


def test_a_disk_whose_syncs_fail_stops_its_node_at_once_and_is_replaced(mesh, mounts):
    """ext4 on a loop device whose backing store takes no more blocks: the kernel itself fails write-back and fsync with EIO."""
    backing = mesh.state / "backing"
    backing.mkdir()
    mounts.run("mount", "-t", "tmpfs", "-o", "size=256m", "backing", backing)
    image = backing / "disk"

    def new_disk():
        mounts.run("truncate", "-s", 200 * MB, image)
        mounts.run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0", image)
        folder(mesh, "storage-2").mkdir(parents=True, exist_ok=True)
        mounts.run("mount", "-o", "loop,errors=continue", image, folder(mesh, "storage-2"))

    new_disk()
    mesh.start()
    ddb = harness.client(mesh.url, retries=4)
    table = make_table(ddb)
    with Traffic([mesh.url, mesh.second_url], table) as traffic:
        traffic.wait_for_writes(100)
        fill(mesh, backing, 0)
        number = 0

        def stopped():
            nonlocal number
            number += 1
            put(ddb, table, f"large-{number}", 300_000)
            return not mesh.alive("storage-2")

        harness.wait_until("its log meets the fault", stopped, timeout_s=90, every_s=0)
        last = mesh.log("storage-2")
        assert "the write-ahead log failed, stopping the process" in last, last[-3_000:]
        led = lambda: [p["leader"] for p in mesh.partitions(table)]
        harness.wait_until("others lead", lambda: 2 not in led() and None not in led())
        traffic.every_key_moves()

        # Another disk, the same node: all of it is built anew.
        mounts.run("umount", folder(mesh, "storage-2"))
        mounts.run("rm", image, backing / "ballast")
        new_disk()
        mesh.start_one("storage-2")
        healthy = lambda: all(p["healthy_copies"] == 3 for p in mesh.partitions(table))
        harness.wait_until("its replicas are built anew", healthy, timeout_s=120)
        # Now every write needs it.
        mesh.kill("storage-3")
        traffic.every_key_moves(timeout_s=60)
    traffic.check(mesh.url)
    for n in range(1, number + 1):
        assert "Item" in ddb.get_item(TableName=table, Key={"pk": {"S": f"large-{n}"}}, ConsistentRead=True), n
