"""What whoever runs a mesh is told: every metric that dashboards, alert rules and docs/metrics.md name exists; canaries raise the right alarm when a
table is throttled, when a node is slow and when a zone is lost, and none for a planned drain; and a process says more in its log when it is asked to.

EVENKEEL_UPDATE_DOCS=1 writes docs/metrics.md anew.
"""

import functools
import http.server
import json
import os
import subprocess
import threading

import pytest

import harness
from conftest import make_table
from observability import PAGE, RARELY, documented, named, page, queries, served
from slowness import Slow

LOST = ("storage-2", "router-2", "memds-2", "gac-2", "archiver-2", "admin-2")


class Alertmanager(http.server.BaseHTTPRequestHandler):
    """Takes alerts as an Alertmanager does."""

    def do_POST(self):
        alerts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/v2/alerts":
            self.server.alerts += alerts
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def alertmanager():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Alertmanager)
    server.alerts = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def mesh(alertmanager):
    """A mesh with a canary whose word comes within seconds. That of a busy machine is not what it tells: only what nobody answers for long
    has failed."""
    settings = {
        "EVENKEEL_CANARIES": "1",
        "EVENKEEL_CANARY__PROBE_EVERY_MS": "200",
        "EVENKEEL_CANARY__REQUEST_MS_MAX": "20000",
        "EVENKEEL_CANARY__CONNECT_MS_MAX": "20000",
        "EVENKEEL_CANARY__EVALUATE_EVERY_MS": "500",
        "EVENKEEL_CANARY__RULES__UNREACHABLE_MS": "10000",
        "EVENKEEL_CANARY__RULES__SLOW_READ_MS": "60000",
        "EVENKEEL_CANARY__RULES__SLOW_WRITE_MS": "60000",
        "EVENKEEL_CANARY__RULES__REQUESTS_MIN": "5",
        "EVENKEEL_CANARY__RULES__FAILURES_MIN": "20",
        "EVENKEEL_CANARY__WEBHOOK": f"http://127.0.0.1:{alertmanager.server_port}",
    }
    mesh = harness.Mesh(settings)
    try:
        yield mesh.start()
    finally:
        mesh.close()


@pytest.fixture(scope="module")
def ddb(mesh):
    return harness.client(mesh.url)


@functools.cache
def health(mesh, name):
    """Where a process serves what it shows of itself."""
    port = {p["name"]: p["health_port"] for p in mesh.status()["processes"]}[name]
    return f"http://127.0.0.1:{port}"


def availability(mesh):
    """What the canaries say, as the console has it."""
    return json.loads(harness.http_get(f"{health(mesh, 'admin')}/console/api/state"))["availability"]


def standing(mesh):
    return {(alarm["kind"], alarm["subject"]) for alarm in availability(mesh)["standing"]}


def told(alertmanager, kind, subject):
    """The first alert of that kind and subject, once there is one."""
    labels = lambda alert: (alert["labels"]["alertname"], alert["labels"]["subject"])
    return next((alert for alert in alertmanager.alerts if labels(alert) == (f"evenkeel_{kind}", subject)), None)


def probes(mesh, canary):
    """Requests that a canary has made."""
    return harness.metric(harness.http_get(f"{health(mesh, canary)}/metrics"), "evenkeel_canary_probes_total")


def test_every_metric_that_is_named_exists(mesh, ddb):
    table = make_table(ddb)
    ddb.put_item(TableName=table, Item={"pk": {"S": "a"}})
    ddb.get_item(TableName=table, Key={"pk": {"S": "a"}}, ConsistentRead=True)

    def of_everybody():
        scopes = [strip["scope"] for strip in availability(mesh)["strips"]]
        everything = ("service", {"table": table}, {"canary": "evenkeel-canary"})
        return all(scope in scopes for scope in everything) and scopes

    scopes = harness.wait_until("the console shows everybody's availability", of_everybody, timeout_s=90, every_s=0.5)
    # The canary is no customer.
    assert {"table": "evenkeel-canary"} not in scopes

    def all_there():
        found = served(mesh)
        for where, query in queries():
            assert named(query) <= found.keys() | RARELY, f"{where} names {named(query) - found.keys()}"
        if not os.environ.get("EVENKEEL_UPDATE_DOCS"):
            known = {name for _, name in documented()}
            assert known - RARELY <= found.keys(), f"in docs/metrics.md only: {known - found.keys()}"
        return found

    # Some are there once a service has heard of another one.
    found = harness.wait_until("all metrics are there", all_there, timeout_s=60, every_s=0.5)
    if os.environ.get("EVENKEEL_UPDATE_DOCS"):
        PAGE.write_text(page(found))
    known = {name for _, name in documented()}
    assert found.keys() <= known, f"not in docs/metrics.md: {found.keys() - known}"
    for name, metric in found.items():
        assert (metric.kind == "counter") == name.endswith("_total"), name
        assert len(metric.labels) <= 3, name
        assert metric.words, name


def test_the_levels_of_a_process_are_changed_while_it_runs(mesh):
    levels = lambda name: harness.http_get(f"{health(mesh, name)}/log").strip()
    before, wanted = levels("storage-1"), "info,storage=debug"
    # Whoever is busy for seconds is not heard.
    [changed] = harness.wait_until("it is heard", lambda: mesh.ctl("log-level", "storage-2", wanted))
    assert (changed["service"], changed["instance"], changed["levels"], changed["error"]) == ("storage", 2, wanted, None)
    assert (levels("storage-1"), levels("storage-2")) == (before, wanted)


def test_a_throttled_table_is_told_and_a_planned_drain_is_not(mesh, ddb, alertmanager):
    units = {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
    table = make_table(ddb, BillingMode="PROVISIONED", ProvisionedThroughput=units)

    def throttled():
        for number in range(2):
            try:
                ddb.put_item(TableName=table, Item={"pk": {"S": str(number)}, "v": {"S": "x" * 30_000}})
            except ddb.exceptions.ProvisionedThroughputExceededException:
                pass
        return told(alertmanager, "throttled", table)

    alert = harness.wait_until("the throttled table is told", throttled, timeout_s=90, every_s=0.2)
    assert alert["labels"] == {"alertname": "evenkeel_throttled", "severity": "warning", "subject": table, "class": "write"}
    assert "throttled in the last 5 minutes" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook_url"].endswith("#throttled")
    # Beside it a node is taken out of service, as planned.
    node = lambda: next(node for node in mesh.ctl("nodes") if node["node"] == 3)
    with subprocess.Popen(mesh.ctl_command("drain", "3", "--wait"), env=mesh.environment, stdout=subprocess.PIPE, text=True) as drain:
        harness.wait_until("the node leads nothing", lambda: node()["draining"] and node()["leading"] == 0, timeout_s=120, every_s=0.5)
        seen = probes(mesh, "canary-1")
        harness.wait_until("the canary has used it", lambda: probes(mesh, "canary-1") > seen + 60, timeout_s=60, every_s=0.5)
        # Whoever else writes the node's record at this moment comes first.
        harness.wait_until("the drain is cancelled", lambda: mesh.ctl("cancel-drain", "3"))
        # Who waited for the drain is told, in one document.
        said = json.loads(drain.communicate(timeout=300)[0])
    assert drain.returncode == 1 and "cancelled" in said["message"], said
    assert standing(mesh) <= {("throttled", table)}
    assert {alert["labels"]["alertname"] for alert in alertmanager.alerts} == {"evenkeel_throttled"}


@pytest.fixture
def strict_canary(mesh):
    """One for which half a second is long."""
    limits = {f"EVENKEEL_CANARY__RULES__SLOW_{kind}_MS": "500" for kind in ("READ", "WRITE")}
    before, mesh.environment = mesh.environment, {**mesh.environment, "EVENKEEL_CANARIES": "3", **limits}
    try:
        mesh.run("start", "canary-3")
        harness.wait_until("it probes", lambda: probes(mesh, "canary-3") > 0, timeout_s=60)
        yield "canary-3"
        mesh.kill("canary-3")
    finally:
        mesh.environment = before


def test_a_slow_node_is_told(mesh, strict_canary, alertmanager):
    """Whoever leads the canary's table gets a hundredth of its time, until that is told: once leaders have moved there is nothing to tell."""
    found = lambda: told(alertmanager, "slow", "evenkeel-canary")

    def slow():
        leader = next(p["leader"] for p in mesh.partitions("evenkeel-canary") if p["leader"])
        seen = probes(mesh, strict_canary)
        with Slow(mesh.pid(f"storage-{leader}")):
            harness.wait_until("it was used", lambda: found() or probes(mesh, strict_canary) > seen + 60, timeout_s=60, every_s=0.2)
        return found()

    alert = harness.wait_until("the slow node is told", slow, timeout_s=120, every_s=0.5)
    assert alert["labels"]["severity"] == "warning" and alert["annotations"]["runbook_url"].endswith("#slow")
    assert "took longer than 500 ms" in alert["annotations"]["summary"]


def test_the_loss_of_a_zone_is_told(mesh, alertmanager):
    for name in LOST:
        mesh.kill(name)
    alert = lambda: told(alertmanager, "zone_unreachable", "az2")
    alert = harness.wait_until("the loss of the zone is told", alert, timeout_s=90, every_s=0.2)
    assert alert["labels"]["severity"] == "critical" and alert["annotations"]["runbook_url"].endswith("#zone-unreachable")
    assert '"a customer-facing alarm begins"' in mesh.log("canary-1")
    harness.wait_until("it stands in the console", lambda: ("zone_unreachable", "az2") in standing(mesh), timeout_s=60, every_s=0.5)
    # Requests may have failed until leaders were elsewhere; nothing else may be said to be lost.
    lost = {(kind, subject) for kind, subject in standing(mesh) if kind.endswith("unreachable")}
    assert lost == {("zone_unreachable", "az2")}
    troubles = lambda: str(mesh.ctl("health", exit_codes=(0, 1))["troubles"])
    harness.wait_until("it is a trouble of the mesh", lambda: "zone az2" in troubles(), timeout_s=60, every_s=0.5)
