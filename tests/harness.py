"""Starts and stops the real thing for the tests: `evenkeel dev`, or the mesh of processes through `infra/local`.

Owns processes, ports and folders; never asserts anything about the API.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent
BIN_DIR = Path(os.environ.get("EVENKEEL_BIN_DIR", ROOT / "target" / "release"))


# Tests are about other things than throughput, unless they ask for limits: no partition and no table has one.
UNTHROTTLED = {
    "EVENKEEL_ROUTER__TOKENS__ENFORCED": "false",
    "EVENKEEL_STORAGE__ADMISSION__PARTITION_READ_UNITS_MAX": "0",
    "EVENKEEL_STORAGE__ADMISSION__PARTITION_WRITE_UNITS_MAX": "0",
    # Expired items go within a second, not within minutes.
    "EVENKEEL_STORAGE__TTL__ROUND_EVERY_MS": "200",
    # So do the counts of local indexes.
    "EVENKEEL_STORAGE__INDEX_COUNTS__ROUND_EVERY_MS": "200",
}


# No wait is shorter: a busy machine takes its time for a step, and whoever waits for what comes anyway loses nothing by it.
WAIT_S_MIN = 180.0


def wait_until(what, condition, timeout_s=WAIT_S_MIN, every_s=0.05):
    """Polls `condition` until it is true; fails with `what` and the last exception after `timeout_s` (at least WAIT_S_MIN)."""
    timeout_s = max(timeout_s, WAIT_S_MIN)
    end = time.monotonic() + timeout_s
    last = None
    while time.monotonic() < end:
        try:
            result = condition()
            if result:
                return result
        except Exception as error:  # the condition is tried again; the last error is shown
            last = error
        time.sleep(every_s)
    raise AssertionError(f"not within {timeout_s} s: {what} (last error: {last!r})")


# Ports that were given away less than so long ago may be about to be listened on.
_GIVEN_S = 120
_given = {}


def free_port(count=1):
    """First of `count` neighbouring ports that nobody listens on, nor was told to just now. Below the range that outgoing connections draw
    from, and within EVENKEEL_TEST_PORTS: two runs at a time with ranges of their own can't take what the other is about to use."""
    low, high = (int(end) for end in os.environ.get("EVENKEEL_TEST_PORTS", "20000-32000").split("-"))
    for _ in range(2_000):
        port = random.randrange(low, high - count)
        now = time.monotonic()
        if any(now - _given.get(number, -_GIVEN_S) < _GIVEN_S for number in range(port, port + count)):
            continue
        probes = []
        try:
            for number in range(port, port + count):
                probes.append(socket.socket())
                probes[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probes[-1].bind(("127.0.0.1", number))
            _given.update(dict.fromkeys(range(port, port + count), now))
            return port
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise RuntimeError("no free port range")


# Requests that a steady client repeated, as (operation, status): told at the end of a run.
repeated = []


def _again(response=None, operation=None, attempts=1, **_):
    """For botocore: how long to wait before a request is sent again; none: it is not."""
    if response is None or attempts > 5:
        return None
    status, error = response[0].status_code, response[1].get("Error", {})
    # What was sent before may still be at work: its token says so.
    in_progress = attempts > 1 and error.get("Code") == "TransactionInProgressException"
    if status < 500 and not in_progress:
        return None
    repeated.append((operation.name, status))
    return 0.2 * attempts


def client(url, retries=0, read_timeout_s=60, service="dynamodb", steady=True, **kwargs):
    """A boto3 DynamoDB client; without retries unless asked, so that tests see every answer. A `steady` one sends again what a server's
    error (5xx) answers, as every SDK does: a machine that stands still for a second costs a leader its lease, and is no test's business."""
    made = boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="evenkeel",
        aws_secret_access_key="evenkeel",
        config=Config(
            retries={"total_max_attempts": retries + 1, "mode": "standard"},
            read_timeout=read_timeout_s,
            connect_timeout=10,
            max_pool_connections=64,
            **kwargs,
        ),
    )
    if steady:
        made.meta.events.register(f"needs-retry.{made.meta.service_model.service_id.hyphenize()}", _again)
    return made


@contextlib.contextmanager
def strong_reads(ddb):
    """Meanwhile the client's reads are strong unless they say otherwise: tests that read what they have just written, and want to know something
    else than how far the nearest replica is."""

    def strong(params, **_):
        params.setdefault("ConsistentRead", True)

    def strong_tables(params, **_):
        for keys in params["RequestItems"].values():
            keys.setdefault("ConsistentRead", True)

    def strong_statements(params, **_):
        for statement in params["Statements"]:
            if statement["Statement"].lstrip().upper().startswith("SELECT"):
                statement.setdefault("ConsistentRead", True)

    def strong_statement(params, **_):
        if params["Statement"].lstrip().upper().startswith("SELECT"):
            strong(params)

    hooks = {
        "GetItem": strong,
        "Query": strong,
        "Scan": strong,
        "BatchGetItem": strong_tables,
        "ExecuteStatement": strong_statement,
        "BatchExecuteStatement": strong_statements,
    }
    events = [(f"provide-client-params.dynamodb.{name}", hook) for name, hook in hooks.items()]
    for event, hook in events:
        ddb.meta.events.register(event, hook)
    try:
        yield ddb
    finally:
        for event, hook in events:
            ddb.meta.events.unregister(event, hook)


def write_all(ddb, table, requests):
    """Writes these requests of BatchWriteItem, at most 25, to the last one: what was left unprocessed is sent again."""
    left = requests

    def written():
        nonlocal left
        left = ddb.batch_write_item(RequestItems={table: left})["UnprocessedItems"].get(table)
        return not left

    wait_until("the batch is written", written)


def answers(url):
    """Whether the endpoint serves an API call."""
    client(url, read_timeout_s=5, steady=False).list_tables()
    return True


class Dev:
    """`evenkeel dev` on a free port and a fresh data folder; `settings` are environment variables, `arguments` further options."""

    kind = "dev"

    def __init__(self, settings=UNTHROTTLED, *arguments):
        self.arguments = arguments
        self.environment = {**os.environ, **settings}
        self.data = Path(tempfile.mkdtemp(prefix="evenkeel-dev-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        self.log = open(self.data.with_suffix(".log"), "ab")
        self.process = subprocess.Popen(
            [BIN_DIR / "evenkeel", "dev", "--port", str(self.port), "--data-dir", self.data, *self.arguments],
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

        def up():
            if self.process.poll() is not None:
                raise AssertionError(f"dev exited with {self.process.returncode}: {self.output()[-2000:]}")
            return answers(self.url)

        wait_until("dev answers", up, timeout_s=30)
        return self

    def output(self):
        return self.data.with_suffix(".log").read_text(errors="replace")

    def rss_mb(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1024

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, how=signal.SIGTERM, timeout_s=120):
        self.process.send_signal(how)
        return self.process.wait(timeout=timeout_s)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.with_suffix(".log").unlink(missing_ok=True)


class Mounts:
    """A mount namespace: file systems of one's own, which nobody else sees and which go when its last process ends. A context manager."""

    def __enter__(self):
        self.holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "infinity"])
        ours = os.readlink("/proc/self/ns/mnt")
        wait_until("the namespace is made", lambda: os.readlink(f"/proc/{self.holder.pid}/ns/mnt") != ours, timeout_s=10)
        self.enter = ["nsenter", "--mount", "--target", str(self.holder.pid), "--"]
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()

    def run(self, *command):
        """Runs a command among these file systems."""
        done = subprocess.run([*self.enter, *map(str, command)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    @staticmethod
    def why_not(*tools):
        """Why there can be none here, or None. `tools` must be there as well."""
        missing = [tool for tool in ("unshare", "nsenter", "mount", *tools) if not shutil.which(tool)]
        if missing:
            return f"{', '.join(missing)} missing"
        tried = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "-o", "size=1m", "probe", "/mnt"],
            capture_output=True, text=True,
        )
        return None if tried.returncode == 0 else f"no mount namespace with a file system of its own: {tried.stderr.strip()}"


class Mesh:
    """NATS, three storage nodes, two memds, two GAC instances, two routers and two admins as processes of their own, on free ports;
    `settings` are environment variables, `mounts` the file systems that they see."""

    kind = "mesh"

    def __init__(self, settings=UNTHROTTLED, mounts=None):
        self.mounts = mounts
        self.state = Path(tempfile.mkdtemp(prefix="evenkeel-mesh-"))
        self.port = free_port(count=40)
        self.url = f"http://127.0.0.1:{self.port}"
        self.second_url = f"http://127.0.0.1:{self.port + 1}"
        self.environment = {
            **os.environ,
            # Tests start a canary where they are about one.
            "EVENKEEL_CANARIES": "0",
            **settings,
            "EVENKEEL_PORT": str(self.port),
            "EVENKEEL_STATE_DIR": str(self.state),
            "EVENKEEL_BIN_DIR": str(BIN_DIR),
            "EVENKEEL_READY_SECONDS": "240",
        }

    def run(self, script, *arguments, timeout_s=300):
        done = subprocess.run(
            [*(self.mounts.enter if self.mounts else []), ROOT / "infra" / "local" / script, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise AssertionError(f"infra/local/{script} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start(self):
        self.run("up")
        wait_until("both routers answer", lambda: answers(self.url) and answers(self.second_url), timeout_s=60)
        return self

    def status(self):
        return json.loads(self.run("status", "--output", "json"))

    def ctl(self, *arguments, exit_codes=(0,)):
        """What the operator's tool says, as JSON."""
        done = subprocess.run(
            self.ctl_command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode in exit_codes, f"{arguments}: {done.returncode} {done.stdout} {done.stderr}"
        return json.loads(done.stdout)

    def ctl_command(self, *arguments):
        """What to run for that."""
        nats = next(p["port"] for p in self.status()["processes"] if p["name"] == "nats")
        return [BIN_DIR / "evenkeel", "ctl", "--nats", f"nats://127.0.0.1:{nats}", "--output", "json", "--timeout", "60", *arguments]

    def split(self, place, *options):
        """Splits a partition (`table/number`); returns once its two children have its place. A split that is refused is ordered again: what
        must be at rest for it comes to rest."""
        table, number = place.rsplit("/", 1)

        def is_split():
            now = self.partitions(table)
            return len([p for p in now if p["parent"] == int(number)]) == 2 and int(number) not in [p["partition"] for p in now]

        wait_until(f"{place} is split", lambda: is_split() or self.ctl("split", place, *options, "--wait", exit_codes=(0, 1))["done"])

    def partitions(self, table):
        return self.ctl("partitions", "--table", table)

    def wait_until_archived(self, timeout_s=60):
        """All that was committed before the call is archived. (Something newer never is: the system table is written all the time.)"""
        nodes = [p["health_port"] for p in self.status()["processes"] if p["name"].startswith("storage-")]
        started = time.monotonic()

        def archived():
            texts = [http_get(f"http://127.0.0.1:{port}/metrics") for port in nodes]
            led = sum(metric(text, "evenkeel_storage_leading") for text in texts)
            # The nodes look at their logs once a second.
            oldest_s = 2 + max(metric(text, "evenkeel_storage_unarchived_age_seconds") for text in texts)
            return led > 0 and time.monotonic() - started > oldest_s

        wait_until("all is archived", archived, timeout_s=timeout_s, every_s=0.3)

    def kill(self, name):
        """kill -9."""
        self.run("kill", name)

    def start_one(self, name, **settings):
        """Starts a process again, with these environment variables on top of the mesh's."""
        before = self.environment
        self.environment = {**before, **settings}
        try:
            self.run("start", name)
        finally:
            self.environment = before

    def pid(self, name):
        return int((self.state / f"{name}.pid").read_text())

    def alive(self, name):
        try:
            # A process that has ended, but whose end nobody asked for yet, is a zombie.
            return Path(f"/proc/{self.pid(name)}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def log(self, name):
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")

    def metrics(self, name):
        port = next(p["health_port"] for p in self.status()["processes"] if p["name"] == name)
        return http_get(f"http://127.0.0.1:{port}/metrics")

    def logs(self):
        return {p.name: p.read_text(errors="replace") for p in self.state.rglob("*.log")}

    def close(self):
        try:
            # A mounted folder cannot be deleted from within.
            self.run("down", *(() if self.mounts else ("--wipe",)))
        finally:
            shutil.rmtree(self.state, ignore_errors=True)


class S3:
    """SeaweedFS: a real S3-compatible store, with one bucket, on free ports and a fresh folder; `stop` and `start` keep what is in it."""

    KEY, SECRET, BUCKET = "evenkeel", "secret-of-tests", "archive"

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="evenkeel-s3-"))
        # Four for HTTP, four for gRPC. By itself it takes ports 10,000 above for those, and an outgoing connection may have one of them when it starts again.
        self.port = free_port(count=8)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.KEY, "secretKey": self.SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self.credentials = self.folder / "credentials"
        self.credentials.write_text(
            f"[default]\naws_access_key_id = {self.KEY}\naws_secret_access_key = {self.SECRET}\n"
        )
        self.process = None

    def start(self):
        binary = Path(sys.executable).with_name("weed")
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [
                os.environ.get("EVENKEEL_WEED", binary), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0",
                f"-dir={self.folder}", f"-s3.config={self.folder}/s3.json", "-master.volumeSizeLimitMB=64", "-volume.max=1000",
                f"-s3.port={self.port}", f"-master.port={self.port + 1}", f"-volume.port={self.port + 2}",
                f"-filer.port={self.port + 3}", f"-s3.port.grpc={self.port + 4}", f"-master.port.grpc={self.port + 5}",
                f"-volume.port.grpc={self.port + 6}", f"-filer.port.grpc={self.port + 7}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def up():
            if self.process.poll() is not None:
                raise AssertionError(f"weed exited: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")
            self.client().put_object(Bucket=self.BUCKET, Key="ready", Body=b"")
            return True

        try:
            self.client().create_bucket(Bucket=self.BUCKET)
        except Exception:  # it is not up yet, or the bucket is there from before
            pass
        wait_until("S3 takes an object", up, timeout_s=60, every_s=0.2)
        return self

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.KEY,
            aws_secret_access_key=self.SECRET,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=30, connect_timeout=10, s3={"addressing_style": "path"}),
        )

    def settings(self, prefix="mesh"):
        """Environment of a mesh whose archive is here."""
        return {
            "EVENKEEL_ARCHIVE__URL": f"s3://{self.BUCKET}/{prefix}",
            "EVENKEEL_ARCHIVE__ENDPOINT": self.endpoint,
            "EVENKEEL_ARCHIVE__CREDENTIALS_FILE": str(self.credentials),
        }

    def keys(self, prefix=""):
        """All keys below a prefix."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def get(self, key):
        return self.client().get_object(Bucket=self.BUCKET, Key=key)["Body"].read()

    def put(self, key, body):
        self.client().put_object(Bucket=self.BUCKET, Key=key, Body=body)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def metric(text, name):
    """Sum of a metric's samples in Prometheus text."""
    total, found = 0.0, False
    for line in text.splitlines():
        if re.match(rf"{re.escape(name)}(\{{|\s)", line):
            total += float(line.rsplit(" ", 1)[1])
            found = True
    if not found:
        raise KeyError(name)
    return total


def http_get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()
