"""What `evenkeel ctl` says to machines: one JSON document, whatever becomes of a command, and an exit code as its help has it."""

import json
import os
import subprocess

import pytest

import harness

DONE, REFUSED, USAGE, NO_ANSWER = 0, 1, 2, 3
REQUEST_ID = "0" * 25 + "1" + "0" * 26


@pytest.fixture(scope="module")
def nats(endpoint):
    if endpoint.kind != "mesh":
        pytest.skip("dev has no bus that ctl could reach")
    port = next(p["port"] for p in endpoint.status()["processes"] if p["name"] == "nats")
    return f"nats://127.0.0.1:{port}"


def ctl(*arguments):
    """Exit code, standard output, standard error."""
    patience = [] if "--timeout" in arguments else ["--timeout", "60"]
    command = [harness.BIN_DIR / "evenkeel", "ctl", "--output", "json", *patience, *map(str, arguments)]
    # Without what the tests' own environment says of buses and traces.
    environment = {name: value for name, value in os.environ.items() if name not in ("EVENKEEL_NATS", "EVENKEEL_TRACES_URL", "TRACEPARENT")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def names(*wanted):
    """Each of a list has these."""
    return lambda said: isinstance(said, list) and said and all(set(wanted) <= set(one) for one in said)


def has(*wanted):
    return lambda said: set(wanted) <= set(said)


def refused(words):
    return lambda said: said["done"] is False and words in said["message"]


def done(words):
    return lambda said: said["done"] is True and words in said["message"]


def test_every_command_answers_with_one_document(nats, ddb, simple):
    ddb.put_item(TableName=simple, Item={"pk": {"S": "for ctl"}})

    def led():
        code, out, _ = ctl("--nats", nats, "partitions", "--table", simple)
        return code == DONE and [p for p in json.loads(out) if p["leader"]]

    [partition, *_] = harness.wait_until("its leaders are heard", led, timeout_s=60)
    number, leader = partition["partition"], partition["leader"]
    unused = f"http://127.0.0.1:{harness.free_port()}"
    for arguments, codes, looks in [
        (("health",), (DONE, REFUSED), has("healthy", "nodes", "troubles", "partitions")),
        (("status",), (DONE, REFUSED), has("healthy")),
        (("nodes",), (DONE,), names("node", "zone", "vitality", "replicas", "leading")),
        (("tables",), (DONE,), names("name", "partitions", "items", "bytes")),
        (("top", "--once"), (DONE,), has("health", "tables", "partitions")),
        (("partitions",), (DONE,), names("partition", "table", "replicas", "leader")),
        (("partitions", "--table", "nowhere"), (REFUSED,), refused("there is no table 'nowhere'")),
        (("throughput",), (DONE,), lambda said: isinstance(said, list)),
        (("throughput", "nowhere"), (REFUSED,), refused("there is no table")),
        (("drain", 4711), (REFUSED,), refused("no storage node 4711")),
        (("drain", 4711, "--wait"), (REFUSED,), refused("no storage node 4711")),
        (("cancel-drain", 1), (DONE,), done("not being drained")),
        # Leaders may move meanwhile.
        (("transfer-leader", number, leader), (DONE, REFUSED), has("done", "message")),
        (("transfer-leader", number, 4711), (REFUSED,), refused("4711")),
        (("split", f"nowhere/{number}"), (REFUSED,), refused("there is no table 'nowhere'")),
        (("split", f"{simple}/4711", "--wait"), (REFUSED,), refused("no partition of")),
        (("split", f"{simple}/{number}", "--at", "{}"), (REFUSED,), refused("no key of this table")),
        (("heal", number, leader), (REFUSED,), refused("")),
        (("replace", number, leader, 4711), (REFUSED,), refused("4711")),
        (("scrub",), (DONE, REFUSED), has("partitions")),
        (("scrub", "--table", "nowhere", "--wait"), (REFUSED,), refused("there is no table 'nowhere'")),
        (("check-index", "nowhere", "none"), (REFUSED,), lambda said: said["done"] is False),
        # Whoever is busy for seconds is not heard.
        (("log-level", "admin"), (DONE, REFUSED), lambda said: isinstance(said, list) or said["done"] is False),
        (("log-level", "admin-4711"), (REFUSED,), refused("no such process")),
        (("flush-routes",), (DONE,), done("all routers")),
        (("trace", "ABC"), (USAGE,), refused("is not a request id")),
        (("--timeout", 1, "trace", REQUEST_ID, "--traces", unused), (NO_ANSWER,), refused("no answer")),
        (("--config", "/nowhere.conf", "health"), (USAGE,), lambda said: said["done"] is False),
    ]:
        to = () if "--config" in arguments else ("--nats", nats)
        code, out, err = ctl(*to, *arguments)
        said = f"{arguments}: {code}, {out!r}, {err!r}"
        assert code in codes, said
        assert looks(json.loads(out)), said


def test_a_bus_that_is_not_there_and_wrong_usage():
    code, out, _ = ctl("--nats", f"nats://127.0.0.1:{harness.free_port()}", "--timeout", 1, "health")
    assert code == NO_ANSWER and refused("no connection")(json.loads(out))
    for arguments in [("no-such-command",), ("drain", "four"), ("split", "music"), ("log-level", "Storage"), ("health", "--output", "xml")]:
        code, out, err = ctl(*arguments)
        assert (code, out) == (USAGE, "") and err, arguments


def test_top_prints_a_document_a_line(nats):
    command = [harness.BIN_DIR / "evenkeel", "ctl", "--output", "json", "--nats", nats, "top", "--every", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        try:
            for _ in range(2):
                assert has("health", "tables")(json.loads(top.stdout.readline()))
        finally:
            top.terminate()
