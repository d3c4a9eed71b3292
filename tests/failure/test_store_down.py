"""The object store is away for long: the log grows to its limit, then writes are refused with an error that says so, and all goes on by itself afterwards."""

import harness
from conftest import make_table

LIMIT = 3 << 20
SETTINGS = {
    **harness.UNTHROTTLED,
    "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": "200",
    "EVENKEEL_ARCHIVER__POLL_MS": "100",
    "EVENKEEL_ARCHIVER__RETRY_MS_MAX": "500",
    "EVENKEEL_STORAGE__LIMITS__WAL_SEGMENT_BYTES": str(128 << 10),
    "EVENKEEL_STORAGE__LIMITS__WAL_BYTES_MAX": str(256 << 10),
    "EVENKEEL_STORAGE__LIMITS__WAL_FULL_BYTES": str(LIMIT),
    "EVENKEEL_STORAGE__LIMITS__FLUSH_AGE_MS": "200",
    "EVENKEEL_STORAGE__TIMING__LIMITS__FLOOR_STEP_ENTRIES": "1",
}
ITEM_BYTES = 40 << 10


def test_writes_go_on_without_the_store_up_to_the_limit_of_the_log_and_afterwards():
    dev = harness.Dev(SETTINGS)
    archive, away = dev.data / "archive", dev.data / "archive-away"
    try:
        dev.start()
        ddb = harness.client(dev.url)
        table = make_table(ddb)
        known = []

        def put():
            name = f"item-{len(known)}"
            ddb.put_item(TableName=table, Item={"pk": {"S": name}, "text": {"S": "x" * ITEM_BYTES}})
            known.append(name)

        put()
        harness.wait_until("it is archived", lambda: list(archive.glob("tables/*/*/segments/*.seg")), timeout_s=60)
        # A file in its place: whatever is done there fails.
        archive.rename(away)
        archive.write_text("not a folder")
        before = len(known)

        def is_refused():
            try:
                put()
            except ddb.exceptions.ClientError as error:
                # A node that is full hands its leadership away: what was under way then may be answered otherwise.
                told = error.response["Error"]
                return told["Code"] == "ThrottlingException" and "no space left" in told["Message"]

        harness.wait_until("a write is refused", is_refused, timeout_s=120, every_s=0)
        # All of it went into the log, up to about the limit: every node has a copy.
        assert (len(known) - before) * ITEM_BYTES > LIMIT // 2, len(known)

        def read(name):
            return ddb.get_item(TableName=table, Key={"pk": {"S": name}}, ConsistentRead=True).get("Item")

        harness.wait_until("reads go on", lambda: read(known[-1]), timeout_s=60)
        archive.unlink()
        away.rename(archive)

        def taken():
            put()
            return True

        harness.wait_until("writes are taken again", taken, timeout_s=120)
        assert all(read(name) for name in known), "nothing acknowledged is lost"
    finally:
        dev.close()
