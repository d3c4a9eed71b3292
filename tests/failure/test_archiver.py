"""The archive of a mesh of processes: everything committed gets there, whatever is killed; and nothing leaves a log before."""

import hashlib
import json
import re

import pytest

import harness
from conftest import make_table
from traffic import Traffic

# Segments every second; storage nodes truncate whatever they may at once.
SETTINGS = {
    **harness.UNTHROTTLED,
    "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": "1000",
    "EVENKEEL_ARCHIVER__POLL_MS": "200",
    "EVENKEEL_ARCHIVER__RETRY_MS_MAX": "1000",
    "EVENKEEL_STORAGE__TIMING__LIMITS__FLOOR_STEP_ENTRIES": "1",
    "EVENKEEL_STORAGE__LIMITS__FLUSH_AGE_MS": "200",
}
ARCHIVERS = ["archiver-1", "archiver-2"]
STORAGE = ["storage-1", "storage-2", "storage-3"]
MANIFEST = re.compile(r"(\d{20})-(\d{20})-([0-9a-f]{16})\.json")


@pytest.fixture(scope="module")
def mesh():
    mesh = harness.Mesh(settings=SETTINGS)
    try:
        yield mesh.start()
    finally:
        mesh.close()


@pytest.fixture(scope="module")
def table(mesh):
    return make_table(harness.client(mesh.url, retries=4))


def uuid_of(mesh, table):
    return harness.client(mesh.url, retries=4).describe_table(TableName=table)["Table"]["TableId"]


def chain(mesh, uuid, partition):
    """How far the archive of a partition goes without a hole; every segment that is named is verified."""
    folder = mesh.state / "data" / "archive" / "tables" / uuid / f"{partition:020}" / "segments"
    if not folder.exists():
        return 0
    segments = []
    for manifest in folder.glob("*.json"):
        first, last, short = MANIFEST.fullmatch(manifest.name).groups()
        said = json.loads(manifest.read_text().splitlines()[1])
        content = manifest.with_suffix(".seg").read_bytes()
        assert hashlib.sha256(content).hexdigest() == said["sha256"], manifest
        assert said["sha256"].startswith(short) and said["bytes"] == len(content), manifest
        segments.append((int(first), int(last)))
    reach = 0
    for first, last in sorted(segments):
        assert first <= reach + 1, f"entries {reach + 1} to {first - 1} of partition {partition} are missing"
        reach = max(reach, last)
    return reach


def health_ports(mesh, names):
    return [p["health_port"] for p in mesh.status()["processes"] if p["name"] in names]


def number(port, name):
    return harness.metric(harness.http_get(f"http://127.0.0.1:{port}/metrics"), name)


def archived_ends(mesh, table):
    uuid = uuid_of(mesh, table)
    return {p["partition"]: chain(mesh, uuid, p["partition"]) for p in mesh.partitions(table)}


def urls(mesh):
    return [mesh.url, mesh.second_url]


def test_archivers_killed_under_traffic_leave_a_chain_without_holes(mesh, table):
    with Traffic(urls(mesh), table) as traffic:
        traffic.wait_for_writes(200)
        for victim in ARCHIVERS:
            mesh.kill(victim)
            traffic.wait_for_writes(200)
            mesh.start_one(victim)
            traffic.wait_for_writes(200)
    traffic.check(mesh.url)
    mesh.wait_until_archived()
    written = len(traffic.acknowledged_at)
    # Each write is an entry; others come on top. (Of leaders that moved while they were asked, nobody may have told.)
    harness.wait_until("all writes are archived", lambda: sum(archived_ends(mesh, table).values()) >= written)
    # The system table's partition is archived like any other.
    tables = mesh.state / "data" / "archive" / "tables"
    assert any(chain(mesh, folder.name, 1) > 0 for folder in tables.iterdir() if (folder / f"{1:020}").exists())


def test_without_archivers_nothing_leaves_the_logs_and_later_all_is_archived(mesh, table):
    mesh.wait_until_archived()
    for archiver in ARCHIVERS:
        mesh.kill(archiver)
    before = archived_ends(mesh, table)
    with Traffic(urls(mesh), table) as traffic:
        traffic.wait_for_writes(300)
    # Leaders move, nodes restart: the new leaders know of nothing that is archived.
    partition = mesh.partitions(table)[0]
    other = next(r["node"] for r in partition["replicas"] if r["node"] != partition["leader"])
    mesh.ctl("transfer-leader", str(partition["partition"]), str(other), exit_codes=(0, 1))
    for node in STORAGE:
        mesh.kill(node)
        mesh.start_one(node)
        harness.wait_until("it answers", lambda: harness.answers(mesh.url), timeout_s=60)
    with Traffic(urls(mesh), table) as more:
        more.wait_for_writes(300)
    traffic.check(mesh.url)
    assert archived_ends(mesh, table) == before, "nobody archives"
    unheard = lambda: mesh.ctl("health", exit_codes=(0, 1))["archive"] is None
    harness.wait_until("no archiver is heard", unheard)
    for archiver in ARCHIVERS:
        mesh.start_one(archiver)
    mesh.wait_until_archived()
    written = len(traffic.acknowledged_at) + len(more.acknowledged_at)
    all_of_it = sum(before.values()) + written
    harness.wait_until("all writes are archived", lambda: sum(archived_ends(mesh, table).values()) >= all_of_it)


def test_the_operator_sees_how_far_the_archive_is(mesh, table):
    mesh.wait_until_archived()

    def seen():
        archive = mesh.ctl("health", exit_codes=(0, 1))["archive"]
        return archive and archive["partitions"] > 0 and archive["store_up"]

    harness.wait_until("ctl health shows the archive", seen)
    for port in health_ports(mesh, ARCHIVERS):
        # Tried when it starts.
        harness.wait_until("the store is probed", lambda: number(port, "evenkeel_archiver_store_conditional_put") == 1)
        assert number(port, "evenkeel_archiver_errors_contradiction_total") == 0
        assert number(port, "evenkeel_archiver_alarms") == 0


def test_without_the_store_writes_go_on_up_to_the_limit_of_the_log(mesh, table):
    limit, item_bytes = 3 << 20, 40 << 10
    limits = {"WAL_SEGMENT_BYTES": 128 << 10, "WAL_BYTES_MAX": 256 << 10, "WAL_FULL_BYTES": limit}
    mesh.wait_until_archived()
    for node in STORAGE:
        mesh.kill(node)
        mesh.start_one(node, **{f"EVENKEEL_STORAGE__LIMITS__{name}": str(value) for name, value in limits.items()})
        harness.wait_until("it answers", lambda: harness.answers(mesh.url), timeout_s=60)
    ddb = harness.client(mesh.url)
    known = []

    def put():
        name = f"large-{len(known)}"
        ddb.put_item(TableName=table, Item={"pk": {"S": name}, "text": {"S": "x" * item_bytes}})
        known.append(name)
        return True

    def read(name):
        return ddb.get_item(TableName=table, Key={"pk": {"S": name}}, ConsistentRead=True).get("Item")

    def is_refused():
        try:
            put()
        except ddb.exceptions.ClientError as error:
            # A node that is full hands its leadership away: what was under way then may be answered otherwise.
            told = error.response["Error"]
            return told["Code"] == "ThrottlingException" and "no space left" in told["Message"]

    harness.wait_until("writes are taken", put, timeout_s=60)
    archive, away = mesh.state / "data" / "archive", mesh.state / "data" / "archive-away"
    # A file in its place: whatever is done there fails.
    archive.rename(away)
    archive.write_text("not a folder")
    try:
        before = len(known)
        harness.wait_until("a write is refused", is_refused, timeout_s=120, every_s=0)
        # Up to about the limit all went into the log, of which every node has a copy.
        assert (len(known) - before) * item_bytes > limit // 2, len(known)
        harness.wait_until("reads go on", lambda: read(known[-1]), timeout_s=60)
        full = lambda: any(number(port, "evenkeel_storage_wal_full") == 1 for port in health_ports(mesh, STORAGE))
        harness.wait_until("a node shows that its log is full", full, timeout_s=60)
    finally:
        archive.unlink()
        away.rename(archive)
    harness.wait_until("writes are taken again", put, timeout_s=120)
    assert all(read(name) for name in known), "nothing acknowledged is lost"
    mesh.wait_until_archived()
