"""Backups, points in time, exports and imports, as an SDK sees them: on `evenkeel dev` with an archive in a folder."""

import base64
import gzip
import hashlib
import itertools
import json
import signal
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

import harness
from conftest import make_table
from faults import fails, invalid

SETTINGS = {
    **harness.UNTHROTTLED,
    "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": "200",
    "EVENKEEL_ARCHIVER__POLL_MS": "100",
    # Small tables have snapshots, too, and what nothing needs goes soon.
    "EVENKEEL_ARCHIVER__SNAPSHOT_BYTES": "20000",
    "EVENKEEL_ARCHIVER__RETENTION_EVERY_MS": "500",
    "EVENKEEL_ARCHIVER__JOBS__REPORT_MS": "100",
}
numbers = itertools.count(1)
# Refused for lack of room: not done for certain.
SHED = {"ThrottlingException", "ProvisionedThroughputExceededException"}


@pytest.fixture(scope="module")
def dev():
    dev = harness.Dev(settings=SETTINGS)
    try:
        yield dev.start()
    finally:
        dev.close()


@pytest.fixture(scope="module")
def ddb(dev):
    ddb = harness.client(dev.url, retries=2)
    # The archiver reports every few seconds.
    table = make_table(ddb)
    wait("an archiver is at work", lambda: continuous(ddb, table)["ContinuousBackupsStatus"] == "ENABLED")
    return ddb


def wait(what, condition):
    return harness.wait_until(what, condition, every_s=0.1)


def continuous(ddb, table):
    return ddb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]


def recovery(ddb, table):
    return continuous(ddb, table)["PointInTimeRecoveryDescription"]


def switch_on(ddb, table, **more):
    specification = {"PointInTimeRecoveryEnabled": True, **more}
    return ddb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=specification)


def description(ddb, table):
    return ddb.describe_table(TableName=table)["Table"]


def active(ddb, table):
    wait(f"{table} is active", lambda: description(ddb, table)["TableStatus"] == "ACTIVE")
    return table


def content(ddb, table):
    pages = ddb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {item["pk"]["S"]: item for page in pages for item in page["Items"]}


def digest(items):
    text = json.dumps(sorted(items.items()), sort_keys=True, default=lambda value: value.hex())
    return hashlib.sha256(text.encode()).hexdigest()


def fill(ddb, table, count, **more):
    for number in range(count):
        ddb.put_item(TableName=table, Item={"pk": {"S": f"k{number}"}, "n": {"N": str(number)}, **more})


def new_name():
    return f"copy-{next(numbers)}"


def archived(ddb, table, at):
    wait(f"archived until {at}", lambda: recovery(ddb, table)["LatestRestorableDateTime"] >= at)


def now_s():
    return datetime.now(timezone.utc).replace(microsecond=0)


def pass_second(second):
    """Waits until the next second has begun: what is written from then on is later than its first millisecond."""
    while datetime.now(timezone.utc) < second + timedelta(seconds=1, milliseconds=5):
        time.sleep(0.005)


def available(ddb, arn):
    def status():
        return ddb.describe_backup(BackupArn=arn)["BackupDescription"]["BackupDetails"]["BackupStatus"]

    wait("the backup is available", lambda: status() == "AVAILABLE")


def test_point_in_time_recovery_is_switched_on_and_off(ddb):
    table = make_table(ddb)
    assert recovery(ddb, table) == {"PointInTimeRecoveryStatus": "DISABLED"}
    before = now_s()
    told = switch_on(ddb, table, RecoveryPeriodInDays=7)["ContinuousBackupsDescription"]
    assert told["ContinuousBackupsStatus"] == "ENABLED"
    told = told["PointInTimeRecoveryDescription"]
    assert (told["PointInTimeRecoveryStatus"], told["RecoveryPeriodInDays"]) == ("ENABLED", 7)
    assert before <= told["EarliestRestorableDateTime"] <= told["LatestRestorableDateTime"]
    archived(ddb, table, told["EarliestRestorableDateTime"] + timedelta(seconds=1))
    # What is on stays on since then.
    again = switch_on(ddb, table)["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert again["EarliestRestorableDateTime"] == told["EarliestRestorableDateTime"]
    off = ddb.update_continuous_backups(
        TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
    )
    assert off["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "DISABLED"
    fails(
        "PointInTimeRecoveryUnavailableException", None,
        ddb.restore_table_to_point_in_time, SourceTableName=table, TargetTableName=new_name(), UseLatestRestorableTime=True,
    )
    fails("TableNotFoundException", "Table not found: none-such", ddb.describe_continuous_backups, TableName="none-such")


def test_a_backup_outlives_its_table(ddb):
    table = make_table(ddb)
    fill(ddb, table, 30)
    saved = content(ddb, table)

    def refused_while_it_is_made():
        """A backup that was not yet available when it was asked for: whether this one is, is a matter of milliseconds."""
        made = ddb.create_backup(TableName=table, BackupName="before")["BackupDetails"]
        assert (made["BackupStatus"], made["BackupType"], made["BackupName"]) == ("CREATING", "USER", "before")
        try:
            ddb.restore_table_from_backup(TargetTableName=new_name(), BackupArn=made["BackupArn"])
        except ClientError as error:
            return error.response["Error"]["Code"] == "BackupInUseException" and made["BackupArn"]

    arn = wait("a backup is asked for too early", refused_while_it_is_made)
    ddb.put_item(TableName=table, Item={"pk": {"S": "later"}})
    available(ddb, arn)
    source = description(ddb, table)
    told = ddb.describe_backup(BackupArn=arn)["BackupDescription"]
    assert told["SourceTableDetails"]["TableId"] == source["TableId"]
    assert told["SourceTableDetails"]["KeySchema"] == source["KeySchema"]
    fails("TableAlreadyExistsException", f"Table already exists: {table}",
          ddb.restore_table_from_backup, TargetTableName=table, BackupArn=arn)

    ddb.delete_table(TableName=table)
    ddb.get_waiter("table_not_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 180})
    copy = new_name()
    begun = ddb.restore_table_from_backup(
        TargetTableName=copy, BackupArn=arn, BillingModeOverride="PROVISIONED",
        ProvisionedThroughputOverride={"ReadCapacityUnits": 7, "WriteCapacityUnits": 8},
    )["TableDescription"]
    assert begun["TableStatus"] == "CREATING"
    summary = begun["RestoreSummary"]
    assert (summary["SourceBackupArn"], summary["SourceTableArn"], summary["RestoreInProgress"]) == (arn, source["TableArn"], True)
    active(ddb, copy)
    restored = description(ddb, copy)
    assert restored["RestoreSummary"]["RestoreInProgress"] is False
    assert restored["ProvisionedThroughput"]["ReadCapacityUnits"] == 7
    assert content(ddb, copy) == saved
    wait("its items are counted", lambda: description(ddb, copy)["ItemCount"] == 30)
    sizes = sum(len("pk") + len(f"k{n}") + len("n") + 1 + (len(str(n)) + 1) // 2 for n in range(30))
    assert description(ddb, copy)["TableSizeBytes"] == pytest.approx(sizes, rel=0.2)
    # It is a table as any other.
    ddb.put_item(TableName=copy, Item={"pk": {"S": "new"}})
    deleted = ddb.delete_backup(BackupArn=arn)["BackupDescription"]["BackupDetails"]
    assert deleted["BackupStatus"] == "DELETED"
    fails("BackupNotFoundException", f"Backup not found: {arn}", ddb.describe_backup, BackupArn=arn)
    fails("BackupNotFoundException", None, ddb.restore_table_from_backup, TargetTableName=new_name(), BackupArn=arn)


def test_backups_are_listed(ddb):
    table, other = make_table(ddb), make_table(ddb)
    arns = [ddb.create_backup(TableName=table, BackupName=f"backup-{n}")["BackupDetails"]["BackupArn"] for n in range(3)]
    ddb.create_backup(TableName=other, BackupName="other")
    pages = ddb.get_paginator("list_backups").paginate(TableName=table, PaginationConfig={"PageSize": 2})
    summaries = [summary for page in pages for summary in page["BackupSummaries"]]
    assert [summary["BackupArn"] for summary in summaries] == arns
    times = [summary["BackupCreationDateTime"] for summary in summaries]
    assert len(ddb.list_backups(TableName=table, TimeRangeUpperBound=times[0] - timedelta(seconds=5))["BackupSummaries"]) == 0
    assert len(ddb.list_backups(TableName=table, TimeRangeLowerBound=times[0] - timedelta(seconds=5))["BackupSummaries"]) == 3
    assert ddb.list_backups(TableName=table, BackupType="SYSTEM")["BackupSummaries"] == []
    assert len(ddb.list_backups(BackupType="ALL")["BackupSummaries"]) >= 4
    fails("TableNotFoundException", "Table not found: none-such", ddb.create_backup, TableName="none-such", BackupName="abc")
    loose = harness.client(ddb.meta.endpoint_url, parameter_validation=False)
    invalid(None, loose.create_backup, TableName=table, BackupName="a!")
    invalid(None, loose.list_backups, Limit=101)
    invalid(None, loose.describe_backup, BackupArn="x" * 40)


class Seconds(threading.Thread):
    """Writes all the time, and notes what the table contained at the end of each second."""

    def __init__(self, ddb, table):
        super().__init__()
        self.ddb, self.table = ddb, table
        self.items, self.at = {}, {}
        self.rest = threading.Event()

    def run(self):
        count = 0
        while not self.rest.is_set():
            second = now_s()
            # The last write of a second ends before the clock shows the next one: else the second is not noted.
            while now_s() == second:
                count += 1
                key = f"k{count % 97}"
                if count % 11 == 0:
                    self.ddb.delete_item(TableName=self.table, Key={"pk": {"S": key}})
                    self.items.pop(key, None)
                else:
                    item = {"pk": {"S": key}, "n": {"N": str(count)}, "s": {"S": second.isoformat()}}
                    self.ddb.put_item(TableName=self.table, Item=item)
                    self.items[key] = item
                if datetime.now(timezone.utc) - second > timedelta(milliseconds=800):
                    break
            if now_s() == second:
                self.at[second + timedelta(seconds=1)] = dict(self.items)
                pass_second(second)


def test_a_table_comes_back_as_it_was_at_any_second(ddb):
    table = make_table(ddb)
    switch_on(ddb, table)
    writer = Seconds(ddb, table)
    writer.start()
    earliest = recovery(ddb, table)["EarliestRestorableDateTime"]
    noted = lambda: sorted(second for second in list(writer.at) if second >= earliest)
    try:
        # A second is noted if the machine was fast enough to write, and to look at the clock, within it.
        wait("five seconds are noted", lambda: len(noted()) >= 5 or not writer.is_alive())
    finally:
        writer.rest.set()
        writer.join()
    window = recovery(ddb, table)
    seconds = noted()
    archived(ddb, table, seconds[-1])
    chosen = [seconds[0], seconds[len(seconds) // 2], seconds[-1]]
    copies = {second: new_name() for second in chosen}
    for second, copy in copies.items():
        ddb.restore_table_to_point_in_time(SourceTableName=table, TargetTableName=copy, RestoreDateTime=second)
    for second, copy in copies.items():
        active(ddb, copy)
        assert digest(content(ddb, copy)) == digest(writer.at[second]), second
    for wrong in [window["EarliestRestorableDateTime"] - timedelta(seconds=2), now_s() + timedelta(hours=1)]:
        fails("InvalidRestoreTimeException", None, ddb.restore_table_to_point_in_time,
              SourceTableName=table, TargetTableName=new_name(), RestoreDateTime=wrong)
    fails("TableNotFoundException", None, ddb.restore_table_to_point_in_time,
          SourceTableName="none-such", TargetTableName=new_name(), UseLatestRestorableTime=True)
    invalid(None, ddb.restore_table_to_point_in_time, SourceTableName=table, TargetTableName=new_name())


def test_a_deleted_table_with_recovery_leaves_a_system_backup(ddb):
    table = make_table(ddb)
    switch_on(ddb, table)
    fill(ddb, table, 10)
    saved = content(ddb, table)
    ddb.delete_table(TableName=table)
    wait("it is gone", lambda: table not in ddb.list_tables()["TableNames"])
    (summary,) = ddb.list_backups(TableName=table, BackupType="SYSTEM")["BackupSummaries"]
    assert summary["BackupName"] == f"{table}$DeletedTableBackup"
    assert timedelta(days=34) < summary["BackupExpiryDateTime"] - now_s() <= timedelta(days=35, minutes=1)
    available(ddb, summary["BackupArn"])
    copy = new_name()
    ddb.restore_table_from_backup(TargetTableName=copy, BackupArn=summary["BackupArn"])
    assert content(ddb, active(ddb, copy)) == saved


class Writer:
    """Writes into a table until it is gone, single items or pairs in transactions, and notes what was acknowledged and what is in doubt."""

    def __init__(self, url, table, number):
        self.client, self.table, self.number = harness.client(url, steady=False), table, number
        self.pairs = number % 2 == 1
        # By key, the one of a pair's two without its place.
        self.known, self.doubts = {}, defaultdict(set)

    def keys(self, key):
        return [f"{key}-{place}" for place in range(2)] if self.pairs else [key]

    def put(self, key, n):
        puts = [{"TableName": self.table, "Item": {"pk": {"S": one}, "n": {"N": str(n)}}} for one in self.keys(key)]
        if self.pairs:
            self.client.transact_write_items(TransactItems=[{"Put": put} for put in puts])
        else:
            self.client.put_item(**puts[0])

    def run(self):
        begun = time.monotonic()
        for n in itertools.count():
            assert time.monotonic() - begun < 300, "it is never deleted"
            key = f"{self.number}-{n % 40}"
            try:
                self.put(key, n)
                self.known[key] = n
            except self.client.exceptions.ResourceNotFoundException:
                return
            except self.client.exceptions.TransactionCanceledException:
                # By the deletion, or in the way of one that is in doubt.
                assert self.pairs
            except (ConnectionError, HTTPClientError):
                self.doubts[key].add(n)
            except ClientError as error:
                if error.response["Error"]["Code"] in SHED:
                    continue
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500, error
                self.doubts[key].add(n)


def test_a_last_backup_has_all_that_was_acknowledged_before_the_deletion(dev, ddb):
    table = make_table(ddb)
    switch_on(ddb, table)
    writers = [Writer(dev.url, table, number) for number in range(4)]
    with ThreadPoolExecutor(len(writers)) as pool:
        ends = [pool.submit(writer.run) for writer in writers]
        wait("all are at work", lambda: all(len(writer.known) > 5 for writer in writers) or any(end.done() for end in ends))
        ddb.delete_table(TableName=table)
        for end in ends:
            end.result()
    wait("it is gone", lambda: table not in ddb.list_tables()["TableNames"])
    (summary,) = ddb.list_backups(TableName=table, BackupType="SYSTEM")["BackupSummaries"]
    available(ddb, summary["BackupArn"])
    copy = new_name()
    ddb.restore_table_from_backup(TargetTableName=copy, BackupArn=summary["BackupArn"])
    found = {key: int(item["n"]["N"]) for key, item in content(ddb, active(ddb, copy)).items()}
    for writer in writers:
        for key in writer.known.keys() | writer.doubts.keys():
            values = {found.pop(one, None) for one in writer.keys(key)}
            assert len(values) == 1, f"a transaction is there in part: {key} {values}"
            assert values <= {writer.known.get(key)} | writer.doubts[key], (key, values, writer.known.get(key))
    assert found == {}


def test_what_nothing_needs_goes_and_restores_begin_with_snapshots(dev, ddb):
    throughput = {"ReadCapacityUnits": 100, "WriteCapacityUnits": 100}
    table = make_table(ddb, BillingMode="PROVISIONED", ProvisionedThroughput=throughput)
    folder = dev.data / "archive" / "tables" / description(ddb, table)["TableId"]
    rounds = itertools.count(1)

    def positions(kind):
        return sorted(int(path.name[:20]) for path in folder.glob(f"*/{kind}/*.json"))

    def churn():
        fill(ddb, table, 20, round={"N": str(next(rounds))}, pad={"S": "x" * 900})

    def beginning_is_gone():
        churn()
        return positions("segments") and positions("segments")[0] > 1

    wait("a snapshot stands in for the log's beginning", beginning_is_gone)
    saved = content(ddb, table)
    backup = ddb.create_backup(TableName=table, BackupName="pin")["BackupDetails"]["BackupArn"]
    available(ddb, backup)
    # From here on every second can be restored, whatever is written, snapshotted and deleted.
    switch_on(ddb, table)
    churn()
    at = content(ddb, table)
    second = now_s() + timedelta(seconds=1)
    pass_second(second)
    newest = positions("snapshots")[-1]

    def newer_snapshot():
        churn()
        return positions("snapshots")[-1] > newest

    wait("a newer snapshot", newer_snapshot)
    archived(ddb, table, second)
    assert recovery(ddb, table)["EarliestRestorableDateTime"] <= second
    copy, pinned = new_name(), new_name()
    ddb.restore_table_to_point_in_time(SourceTableName=table, TargetTableName=copy, RestoreDateTime=second)
    ddb.restore_table_from_backup(TargetTableName=pinned, BackupArn=backup)
    assert content(ddb, active(ddb, copy)) == at
    assert content(ddb, active(ddb, pinned)) == saved
    assert at != saved and content(ddb, table) != at


def bucket(dev, name):
    folder = dev.data / "archive" / "buckets" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_an_export_is_read_back_by_an_import(dev, ddb):
    table = make_table(ddb)
    switch_on(ddb, table)
    fill(ddb, table, 25, blob={"B": b"\x00\xff"}, all={"L": [{"M": {"a": {"NULL": True}}}, {"SS": ["x", "y"]}]})
    saved = content(ddb, table)
    second = now_s() + timedelta(seconds=1)
    pass_second(second)
    archived(ddb, table, second)
    lake = bucket(dev, "lake")
    arn = description(ddb, table)["TableArn"]
    asked = dict(TableArn=arn, S3Bucket="lake", S3Prefix="out", ExportTime=second, ClientToken="once")
    begun = ddb.export_table_to_point_in_time(**asked)["ExportDescription"]
    assert (begun["ExportStatus"], begun["ExportFormat"], begun["ExportType"]) == ("IN_PROGRESS", "DYNAMODB_JSON", "FULL_EXPORT")
    assert ddb.export_table_to_point_in_time(**asked)["ExportDescription"]["ExportArn"] == begun["ExportArn"]
    fails("ExportConflictException", None, ddb.export_table_to_point_in_time, **{**asked, "S3Prefix": "other"})

    def export(arn=begun["ExportArn"]):
        return ddb.describe_export(ExportArn=arn)["ExportDescription"]

    wait("the export has ended", lambda: export()["ExportStatus"] != "IN_PROGRESS")
    told = export()
    assert (told["ExportStatus"], told["ItemCount"]) == ("COMPLETED", 25), told
    summary = json.loads((lake / told["ExportManifest"]).read_text())
    assert (summary["itemCount"], summary["tableArn"], summary["outputFormat"]) == (25, arn, "DYNAMODB_JSON")
    manifest = lake / summary["manifestFilesS3Key"]
    checksum = base64.b64encode(hashlib.md5(manifest.read_bytes()).digest()).decode()
    assert manifest.with_name("manifest-files.checksum").read_text() == checksum
    lines = []
    for line in manifest.read_text().splitlines():
        file = json.loads(line)
        data = (lake / file["dataFileS3Key"]).read_bytes()
        assert base64.b64encode(hashlib.md5(data).digest()).decode() == file["md5Checksum"]
        found = gzip.decompress(data).decode().splitlines()
        assert len(found) == file["itemCount"]
        lines += found
    assert {json.loads(line)["Item"]["pk"]["S"] for line in lines} == set(saved)
    assert begun["ExportArn"] in [e["ExportArn"] for e in ddb.list_exports(TableArn=arn)["ExportSummaries"]]

    copy = new_name()
    begun = ddb.import_table(
        S3BucketSource={"S3Bucket": "lake", "S3KeyPrefix": f"{told['ExportManifest'].rsplit('/', 1)[0]}/data/"},
        InputFormat="DYNAMODB_JSON",
        InputCompressionType="GZIP",
        TableCreationParameters={
            "TableName": copy,
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        },
    )["ImportTableDescription"]
    active(ddb, copy)
    told = imported_by(ddb, begun)
    assert (told["ImportStatus"], told["ImportedItemCount"], told["ErrorCount"]) == ("COMPLETED", 25, 0)
    assert content(ddb, copy) == saved
    assert begun["ImportArn"] in [i["ImportArn"] for i in ddb.list_imports()["ImportSummaryList"]]
    # A bucket that is not there.
    lost = ddb.export_table_to_point_in_time(TableArn=arn, S3Bucket="nowhere")["ExportDescription"]["ExportArn"]
    wait("it has failed", lambda: export(lost)["ExportStatus"] == "FAILED")
    assert export(lost)["FailureCode"] == "S3NoSuchBucket"
    fails("InvalidExportTimeException", None, ddb.export_table_to_point_in_time, **{**asked, "ClientToken": "t", "ExportTime": 1})
    fails("ExportNotFoundException", None, ddb.describe_export, ExportArn=lost[:-8] + "00000000")
    fails("ImportNotFoundException", None, ddb.describe_import, ImportArn=begun["ImportArn"][:-8] + "00000000")


def imported_by(ddb, begun):
    """What is told of an import once it has ended."""

    def ended():
        told = ddb.describe_import(ImportArn=begun["ImportArn"])["ImportTableDescription"]
        return told["ImportStatus"] != "IN_PROGRESS" and told

    return wait("the import has ended", ended)


def index(name, partition, sort, kind="ALL", **more):
    keys = [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
    return {"IndexName": name, "KeySchema": keys, "Projection": {"ProjectionType": kind, **more}}


def test_indexes_come_back_with_their_table(dev, ddb):
    """From a backup with the table, and from an export that an import reads."""
    local = [index("by-score", "pk", "score", "KEYS_ONLY")]
    of_kind = [index("by-kind", "kind", "score", "INCLUDE", NonKeyAttributes=["note"]), index("by-note", "note", "sk")]
    types = {"pk": "S", "sk": "N", "score": "N", "kind": "S", "note": "S"}
    definition = {
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": t} for n, t in types.items()],
        "KeySchema": index("table", "pk", "sk")["KeySchema"],
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": of_kind,
    }
    table = new_name()
    ddb.create_table(TableName=table, LocalSecondaryIndexes=local, **definition)
    active(ddb, table)
    switch_on(ddb, table)

    def put(pk, sk, **attributes):
        item = {"pk": {"S": pk}, "sk": {"N": str(sk)}}
        for name, value in attributes.items():
            item[name] = {types.get(name, "S"): str(value)}
        ddb.put_item(TableName=table, Item=item)

    for n in range(8):
        put("a" if n % 2 else "b", n, score=50 - n, kind=f"k{n % 3}", note=f"n{n % 2}", more="x")
    # Entries that have moved and gone, and an item without any.
    put("a", 1, score=7, kind="k0", note="n9")
    put("b", 0, kind="k1")
    put("b", 100)
    ddb.delete_item(TableName=table, Key={"pk": {"S": "a"}, "sk": {"N": "3"}})

    def asked(name, index_name, key, value):
        return ddb.query(
            TableName=name,
            IndexName=index_name,
            KeyConditionExpression="#k = :v",
            ExpressionAttributeNames={"#k": key},
            ExpressionAttributeValues={":v": {"S": value}},
        )["Items"]

    def answers(name, locals_too=True):
        got = {("kind", v): asked(name, "by-kind", "kind", v) for v in ("k0", "k1", "k2")}
        got |= {("note", v): asked(name, "by-note", "note", v) for v in ("n0", "n1", "n9")}
        if locals_too:
            got |= {("score", v): asked(name, "by-score", "pk", v) for v in ("a", "b")}
        items = ddb.scan(TableName=name, ConsistentRead=True)["Items"]
        return got, sorted(items, key=lambda item: int(item["sk"]["N"]))

    def sks(got):
        return {asked_for: [int(item["sk"]["N"]) for item in found] for asked_for, found in got[0].items()}

    # 0 and 100 have no score and no note.
    indexed = {("kind", "k0"): [1, 6], ("kind", "k1"): [7, 4], ("kind", "k2"): [5, 2]}
    indexed |= {("note", "n0"): [2, 4, 6], ("note", "n1"): [5, 7], ("note", "n9"): [1]}
    indexed |= {("score", "a"): [1, 7, 5], ("score", "b"): [6, 4, 2]}

    def complete():
        got = answers(table)
        return sks(got) == indexed and got

    want = wait("the indexes have everything", complete)
    assert len(want[1]) == 8
    arn = ddb.create_backup(TableName=table, BackupName="with-indexes")["BackupDetails"]["BackupArn"]
    second = now_s() + timedelta(seconds=1)
    pass_second(second)
    put("b", 200, score=1, kind="k0", note="n0")
    available(ddb, arn)
    archived(ddb, table, second)
    bucket(dev, "indexed")
    source = description(ddb, table)
    export = ddb.export_table_to_point_in_time(TableArn=source["TableArn"], S3Bucket="indexed", ExportTime=second)
    export = export["ExportDescription"]["ExportArn"]
    from_backup, from_time, imported, chosen = (new_name() for _ in range(4))
    ddb.restore_table_from_backup(TargetTableName=from_backup, BackupArn=arn)
    at_second = dict(SourceTableName=table, RestoreDateTime=second)
    ddb.restore_table_to_point_in_time(TargetTableName=from_time, **at_second)
    ddb.restore_table_to_point_in_time(
        TargetTableName=chosen, LocalSecondaryIndexOverride=[], GlobalSecondaryIndexOverride=of_kind[:1], **at_second
    )
    invalid(
        "One or more parameter values were invalid: Index override does not match an index of the source table: by-kind",
        ddb.restore_table_to_point_in_time,
        TargetTableName=new_name(),
        GlobalSecondaryIndexOverride=[index("by-kind", "kind", "score")],
        **at_second,
    )

    def exported():
        told = ddb.describe_export(ExportArn=export)["ExportDescription"]
        return told["ExportStatus"] != "IN_PROGRESS" and told

    told = wait("the export has ended", exported)
    assert (told["ExportStatus"], told["ItemCount"]) == ("COMPLETED", 8), told
    ddb.import_table(
        S3BucketSource={"S3Bucket": "indexed", "S3KeyPrefix": f"{told['ExportManifest'].rsplit('/', 1)[0]}/data/"},
        InputFormat="DYNAMODB_JSON",
        InputCompressionType="GZIP",
        TableCreationParameters={"TableName": imported, **definition},
    )
    for name in (from_backup, from_time, imported):
        active(ddb, name)
        restored = description(ddb, name)
        assert [i["IndexStatus"] for i in restored["GlobalSecondaryIndexes"]] == ["ACTIVE"] * 2
        locals_too = name != imported
        wait(f"{name} answers as its source", lambda: answers(name, locals_too)[0] == {
            asked_for: found for asked_for, found in want[0].items() if locals_too or asked_for[0] != "score"
        })
        assert answers(name, locals_too)[1] == want[1]
        if locals_too:
            shapes = [{k: i[k] for k in ("IndexName", "KeySchema", "Projection")} for i in restored["LocalSecondaryIndexes"]]
            assert shapes == local
    active(ddb, chosen)
    assert [i["IndexName"] for i in description(ddb, chosen)["GlobalSecondaryIndexes"]] == ["by-kind"]
    assert "LocalSecondaryIndexes" not in description(ddb, chosen)
    wait("the index has everything", lambda: asked(chosen, "by-kind", "kind", "k1") == want[0]["kind", "k1"])
    # They follow their items from now on.
    ddb.delete_item(TableName=from_backup, Key={"pk": {"S": "a"}, "sk": {"N": "1"}})
    indexed |= {("kind", "k0"): [6], ("note", "n9"): [], ("score", "a"): [7, 5]}
    wait("the entries are gone", lambda: sks(answers(from_backup)) == indexed)


def test_csv_is_imported_and_what_is_no_item_is_counted(dev, ddb):
    folder = bucket(dev, "in") / "csv"
    folder.mkdir(exist_ok=True)
    (folder / "a.csv").write_text('pk;sk;title\na;1;"x; ""y"""\na;2;\na;no number;z\n;3;z\n')
    copy = new_name()
    begun = ddb.import_table(
        S3BucketSource={"S3Bucket": "in", "S3KeyPrefix": "csv/"},
        InputFormat="CSV",
        InputFormatOptions={"Csv": {"Delimiter": ";"}},
        TableCreationParameters={
            "TableName": copy,
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "N"},
            ],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            "BillingMode": "PAY_PER_REQUEST",
        },
    )["ImportTableDescription"]
    active(ddb, copy)
    told = imported_by(ddb, begun)
    assert (told["ProcessedItemCount"], told["ImportedItemCount"], told["ErrorCount"]) == (4, 2, 2)
    items = ddb.scan(TableName=copy, ConsistentRead=True)["Items"]
    assert sorted(items, key=lambda item: item["sk"]["N"]) == [
        {"pk": {"S": "a"}, "sk": {"N": "1"}, "title": {"S": 'x; "y"'}},
        {"pk": {"S": "a"}, "sk": {"N": "2"}},
    ]


def test_a_restore_goes_on_after_everything_was_killed(tmp_path):
    """kill -9 of the whole process in the middle of a restore, whose writes are slowed down; then it starts again."""
    slowly = {"EVENKEEL_ARCHIVER__JOBS__WRITE_BYTES_PER_SECOND": "50000"}
    dev = harness.Dev(settings={**SETTINGS, **slowly})
    try:
        dev.start()
        ddb = harness.client(dev.url, retries=2)
        table = make_table(ddb)
        wait("an archiver is at work", lambda: continuous(ddb, table)["ContinuousBackupsStatus"] == "ENABLED")
        fill(ddb, table, 150, more={"S": "x" * 20_000})
        saved = content(ddb, table)
        arn = ddb.create_backup(TableName=table, BackupName="before")["BackupDetails"]["BackupArn"]
        available(ddb, arn)
        copy = new_name()
        ddb.restore_table_from_backup(TargetTableName=copy, BackupArn=arn)
        wait("it has begun", lambda: description(ddb, copy)["ItemCount"] > 0)
        assert description(ddb, copy)["TableStatus"] == "CREATING"
        fails("ResourceNotFoundException", None, ddb.get_item, TableName=copy, Key={"pk": {"S": "k0"}})
        dev.kill()
        # What is left need not take a minute.
        for name in slowly:
            del dev.environment[name]
        dev.start()
        wait("it is served", lambda: description(ddb, copy))
        active(ddb, copy)
        assert content(ddb, copy) == saved
        wait("its items are counted", lambda: description(ddb, copy)["ItemCount"] == 150)
        assert dev.stop(signal.SIGTERM) == 0
    finally:
        dev.close()
