"""A canary on the running mesh, and what all services show: every metric that a dashboard, an alert rule or the documentation names exists.

EVENKEEL_UPDATE_DOCS=1 writes docs/metrics.md anew.
"""

import http.server
import json
import os
import re
import subprocess
import sys
import threading

import pytest

import harness

PAGE = harness.ROOT / "docs" / "metrics.md"
# Shown only while there is something to show.
RARELY = {"evenkeel_storage_fenced_replica", "evenkeel_memds_in_step_timestamp_seconds", "evenkeel_memds_comparisons_total"}


@pytest.fixture(scope="module")
def mesh(endpoint):
    if endpoint.kind != "mesh":
        pytest.skip("dev's canary only listens")
    return endpoint


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
def canary(mesh, alertmanager):
    """Name of a running canary; its table is dropped at the end."""
    settings = {
        "EVENKEEL_CANARIES": "1",
        "EVENKEEL_CANARY__PROBE_EVERY_MS": "200",
        "EVENKEEL_CANARY__EVALUATE_EVERY_MS": "500",
        "EVENKEEL_CANARY__RULES__UNREACHABLE_MS": "10000",
        "EVENKEEL_CANARY__RULES__QUIET_MS": "1000",
        "EVENKEEL_CANARY__WEBHOOK": f"http://127.0.0.1:{alertmanager.server_port}",
    }
    before, mesh.environment = mesh.environment, {**mesh.environment, **settings}
    try:
        mesh.run("start", "canary-1")
        yield "canary-1"
        mesh.kill("canary-1")
    finally:
        mesh.environment = before
        harness.client(mesh.url, retries=3).delete_table(TableName="evenkeel-canary")


def console(mesh):
    port = next(p["health_port"] for p in mesh.status()["processes"] if p["name"] == "admin")
    return json.loads(harness.http_get(f"http://127.0.0.1:{port}/console/api/state"))


def families(mesh):
    """Type, labels and help of every metric, by name, with the services that show it."""
    found = {}
    for process in mesh.status()["processes"]:
        if process["name"] == "nats":
            continue
        service = re.sub(r"-\d+$", "", process["name"])
        text = harness.http_get(f"http://127.0.0.1:{process['health_port']}/metrics")
        for name, words in re.findall(r"^# HELP (evenkeel_\w+) (.*)$", text, re.M):
            kind = re.search(rf"^# TYPE {name} (\w+)$", text, re.M)[1]
            labels = set(re.findall(r'[{,](\w+)="', "".join(re.findall(rf"^{name}(?:_bucket)?(\{{.*\}}) ", text, re.M)))) - {"le"}
            entry = found.setdefault(name, (kind, labels, words, set()))
            entry[1].update(labels)
            entry[3].add(service)
    return found


def named(text):
    """Metrics that a query or rule names, without what Prometheus makes of histograms, and without recorded series (which have a colon)."""
    names = re.findall(r"(?<![\w:])evenkeel_\w+(?![\w:]*:)", text)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def queries():
    for file in (harness.ROOT / "observability" / "grafana").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield file.name, target["expr"]
    rules = (harness.ROOT / "observability" / "prometheus" / "rules.yaml").read_text()
    for expression in re.findall(r"expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*))", rules):
        yield "rules.yaml", "".join(expression)


def page(found):
    lines = [
        "# Metrics", "",
        "What `/metrics` of each service shows, in Prometheus' text format; written by `EVENKEEL_UPDATE_DOCS=1 pytest tests/api/test_observability.py`, which also checks it.",
        "A table's name as a label is bounded: 256 tables a router, the others are `(others)`. The router's route cache, admission and bus counters are prefixed by whose they are.", "",
    ]
    services = sorted({service for entry in found.values() for service in entry[3]})
    shared = {name for name, entry in found.items() if entry[3] >= set(services)}
    for title, names in [("every service", shared)] + [
        (service, {n for n, e in found.items() if service in e[3]} - shared) for service in services
    ]:
        lines += [f"## {title}", "", "| metric | type | labels | what |", "|---|---|---|---|"]
        for name in sorted(names):
            kind, labels, words, _ = found[name]
            lines.append(f"| `{name}` | {kind} | {', '.join(sorted(labels)) or '–'} | {words} |")
        lines.append("")
    return "\n".join(lines)


def test_a_canary_tells_availability_and_every_metric_that_is_named_exists(mesh, canary, ddb, simple):
    ddb.put_item(TableName=simple, Item={"pk": {"S": "a"}})
    ddb.get_item(TableName=simple, Key={"pk": {"S": "a"}}, ConsistentRead=True)

    def told():
        scopes = [json.dumps(strip["scope"]) for strip in console(mesh)["availability"]["strips"]]
        everything = {'"service"', '{"canary": "evenkeel-canary"}', json.dumps({"table": simple})}
        return everything <= set(scopes) and sum("endpoint" in scope for scope in scopes) == 6 and scopes

    scopes = harness.wait_until("the console shows availability", told, timeout_s=60, every_s=0.5)
    # The canary is no customer.
    assert '{"table": "evenkeel-canary"}' not in scopes
    found = families(mesh)
    for where, query in queries():
        assert named(query), f"{where}: no metric in {query}"
        missing = named(query) - found.keys()
        assert not missing, f"{where} names {missing}"
    if os.environ.get("EVENKEEL_UPDATE_DOCS"):
        PAGE.write_text(page(found))
    documented = set(re.findall(r"^\| `(evenkeel_\w+)` \|", PAGE.read_text(), re.M))
    assert found.keys() - RARELY <= documented, found.keys() - documented
    assert documented - RARELY <= found.keys(), documented - found.keys()
    for name, (kind, labels, _, _) in found.items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert len(labels) <= 3, name


def test_the_loss_of_a_zones_endpoint_is_told_to_whoever_must_know(mesh, canary, alertmanager):
    def standing():
        return [(alarm["kind"], alarm["subject"]) for alarm in console(mesh)["availability"]["standing"]]

    harness.wait_until("all is quiet", lambda: standing() == [], timeout_s=30, every_s=0.5)
    mesh.kill("router-2")
    try:
        harness.wait_until("the alarm stands", lambda: ("zone_unreachable", "az2") in standing(), timeout_s=60, every_s=0.5)
        assert all(kind == "zone_unreachable" for kind, _ in standing())

        def alert():
            return [a for a in alertmanager.alerts if a["labels"] == {"alertname": "evenkeel_zone_unreachable", "severity": "critical", "subject": "az2"}]

        [first, *_] = harness.wait_until("the webhook is told", alert)
        assert first["annotations"]["runbook_url"].endswith("#zone-unreachable")
        assert '"a customer-facing alarm begins"' in mesh.log("canary-1")
        harness.wait_until("it is a trouble of the mesh", lambda: "az2" in str(mesh.ctl("health", exit_codes=(0, 1))["troubles"]))
    finally:
        mesh.start_one("router-2")
    harness.wait_until("the alarm ends", lambda: standing() == [], timeout_s=60, every_s=0.5)
    harness.wait_until("the router answers", lambda: harness.answers(mesh.second_url))
    assert any(a["endsAt"] and a["labels"]["subject"] == "az2" for a in alertmanager.alerts)


def test_links_and_dashboards_are_up_to_date(tmp_path):
    grafana = harness.ROOT / "observability" / "grafana"
    subprocess.run([sys.executable, grafana / "make.py", tmp_path], check=True)
    for file in tmp_path.glob("*.json"):
        assert (grafana / file.name).read_text() == file.read_text(), f"{file.name}: run observability/grafana/make.py"
    headings = re.findall(r"^## (.*)$", (harness.ROOT / "docs" / "runbooks.md").read_text(), re.M)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    rules = (harness.ROOT / "observability" / "prometheus" / "rules.yaml").read_text()
    linked = set(re.findall(r"runbooks\.md#([\w-]+)", rules))
    assert linked <= anchors, linked - anchors
    kinds = {"mesh-unreachable", "zone-unreachable", "endpoint-unreachable", "availability", "slow", "throttled"}
    assert kinds <= anchors
