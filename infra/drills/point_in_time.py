"""The work of `infra/drills/point-in-time`: see there."""

import json
import os
import sys
import time
from datetime import datetime, timedelta, timezone

import boto3

WAIT_S = 600
ENDPOINT, SECONDS, OUTPUT = sys.argv[1], int(sys.argv[2]), sys.argv[3]
NAME = f"drill-{os.getpid()}-{int(time.time())}"


def connect():
    own = "AWS_ACCESS_KEY_ID" in os.environ or "AWS_PROFILE" in os.environ
    keys = {} if own else {"aws_access_key_id": "evenkeel", "aws_secret_access_key": "evenkeel"}
    return boto3.client("dynamodb", endpoint_url=ENDPOINT, region_name=os.environ.get("AWS_REGION", "us-east-1"), **keys)


def wait(what, condition):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.5)
    raise SystemExit(f"not within {WAIT_S} s: {what}")


def active(ddb, table):
    wait(f"{table} is active", lambda: ddb.describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE")


def content(ddb, table):
    pages = ddb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {item["pk"]["S"]: item["n"]["N"] for page in pages for item in page["Items"]}


def second():
    return datetime.now(timezone.utc).replace(microsecond=0)


def write(ddb):
    """Writes within the first 0.7 s of each second; gives what was there at the end of each."""
    items, at, count = {}, {}, 0
    for _ in range(SECONDS):
        now = second()
        while datetime.now(timezone.utc) - now < timedelta(seconds=0.7):
            count += 1
            items[f"k{count % 500}"] = str(count)
            ddb.put_item(TableName=NAME, Item={"pk": {"S": f"k{count % 500}"}, "n": {"N": str(count)}})
        if second() == now:
            at[now + timedelta(seconds=1)] = dict(items)
        # Not in the first millisecond of the next one, which belongs to this moment.
        while datetime.now(timezone.utc) < now + timedelta(seconds=1, milliseconds=5):
            time.sleep(0.005)
    return at


def main():
    ddb, made, report = connect(), [NAME], {"table": NAME, "restores": []}
    ddb.create_table(
        TableName=NAME,
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    try:
        active(ddb, NAME)
        ddb.update_continuous_backups(
            TableName=NAME, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
        at = write(ddb)

        def window():
            told = ddb.describe_continuous_backups(TableName=NAME)["ContinuousBackupsDescription"]
            return told["PointInTimeRecoveryDescription"]

        times = sorted(t for t in at if t >= window()["EarliestRestorableDateTime"])
        if not times:
            raise SystemExit("too slow to write within a second")
        started = time.monotonic()
        wait("the archive has all of it", lambda: window()["LatestRestorableDateTime"] >= times[-1])
        report["archived_after_s"] = round(time.monotonic() - started, 1)
        for number, moment in enumerate(sorted({times[0], times[len(times) // 2], times[-1]})):
            copy, started = f"{NAME}-{number}", time.monotonic()
            ddb.restore_table_to_point_in_time(SourceTableName=NAME, TargetTableName=copy, RestoreDateTime=moment)
            made.append(copy)
            active(ddb, copy)
            equal = content(ddb, copy) == at[moment]
            took = round(time.monotonic() - started, 1)
            report["restores"].append({"time": moment.isoformat(), "items": len(at[moment]), "equal": equal, "seconds": took})
        last = content(ddb, NAME)
        ddb.delete_table(TableName=NAME)
        wait("it is deleted", lambda: NAME not in ddb.list_tables()["TableNames"])
        (backup,) = ddb.list_backups(TableName=NAME, BackupType="SYSTEM")["BackupSummaries"]
        copy = f"{NAME}-last"
        ddb.restore_table_from_backup(TargetTableName=copy, BackupArn=backup["BackupArn"])
        made.append(copy)
        active(ddb, copy)
        report["last_backup_equal"] = content(ddb, copy) == last
        ddb.delete_backup(BackupArn=backup["BackupArn"])
    finally:
        for table in made:
            try:
                ddb.delete_table(TableName=table)
            except (ddb.exceptions.ResourceNotFoundException, ddb.exceptions.ResourceInUseException):
                pass
    good = report["last_backup_equal"] and all(restore["equal"] for restore in report["restores"])
    if OUTPUT == "json":
        print(json.dumps({**report, "good": good}))
    else:
        print(f"archived after {report['archived_after_s']} s")
        for restore in report["restores"]:
            word = "equal" if restore["equal"] else "DIFFERENT"
            print(f"{restore['time']}: {restore['items']} items, restored in {restore['seconds']} s: {word}")
        print(f"last backup of the deleted table: {'equal' if report['last_backup_equal'] else 'DIFFERENT'}")
    sys.exit(0 if good else 1)


main()
