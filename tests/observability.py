"""What a mesh shows of itself: names of metrics in queries, in docs/metrics.md and on the services' /metrics.

Owns how they are read and how that page is written; what must agree, the tests say.
"""

import json
import re

import harness

PAGE = harness.ROOT / "docs" / "metrics.md"
# Shown only while there is something to show: a replica that is damaged.
RARELY = {"evenkeel_storage_fenced_replica"}


def named(text):
    """Metrics that a query or rule names, without what Prometheus makes of histograms, and without recorded series (which have a colon)."""
    names = re.findall(r"(?<![\w:])evenkeel_\w+(?![\w:]*:)", text)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def queries():
    """All queries of dashboards and alert rules, each with its file."""
    for file in (harness.ROOT / "observability" / "grafana").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield file.name, target["expr"]
    rules = (harness.ROOT / "observability" / "prometheus" / "rules.yaml").read_text()
    for expression in re.findall(r"expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*))", rules):
        yield "rules.yaml", "".join(expression)


def documented():
    """The lines of docs/metrics.md, by section and metric."""
    lines = {}
    for part in PAGE.read_text().split("\n## ")[1:]:
        title = part.split("\n", 1)[0]
        lines.update({(title, name): line for line, name in re.findall(r"^(\| `(evenkeel_\w+)` \|.*)$", part, re.M)})
    return lines


class Metric:
    """One metric, as all services together show it."""

    def __init__(self, kind, words):
        self.kind, self.words, self.labels, self.services = kind, words, set(), set()

    def line(self, name):
        return f"| `{name}` | {self.kind} | {', '.join(sorted(self.labels)) or '–'} | {self.words} |"


def served(mesh):
    """Every metric that the processes of a mesh show, by name."""
    found = {}
    for process in mesh.status()["processes"]:
        if process["name"] in ("nats", "traces"):
            continue
        text = harness.http_get(f"http://127.0.0.1:{process['health_port']}/metrics")
        words = dict(re.findall(r"^# HELP (evenkeel_\w+) (.*)$", text, re.M))
        for name, kind in re.findall(r"^# TYPE (evenkeel_\w+) (\w+)$", text, re.M):
            metric = found.setdefault(name, Metric(kind, words[name]))
            metric.services.add(re.sub(r"-\d+$", "", process["name"]))
            for labels in re.findall(rf"^{name}(?:_bucket)?\{{(.*)\}} ", text, re.M):
                metric.labels.update(set(re.findall(r'(?:^|,)(\w+)="', labels)) - {"le"})
    return found


def page(found):
    """docs/metrics.md, of what a mesh serves; what it says of rare ones stays if they are not among that."""
    services = {service for metric in found.values() for service in metric.services}
    every = "every service"
    lines = {key: line for key, line in documented().items() if key[1] in RARELY}
    for name, metric in found.items():
        for title in [every] if metric.services == services else metric.services:
            lines[title, name] = metric.line(name)
    text = [
        "# Metrics", "",
        "What `/metrics` of each service shows, in Prometheus' text format; written by `EVENKEEL_UPDATE_DOCS=1 pytest tests/failure/test_alarms.py`, which checks it, too.",
        "A table's name as a label is bounded: 256 tables a router, the others are `(others)`. All are there from the start, counters with 0, except",
        "`evenkeel_storage_fenced_replica`: its series are the replicas that are damaged.", "",
    ]
    for title in [every, *sorted(services)]:
        text += [f"## {title}", "", "| metric | type | labels | what |", "|---|---|---|---|"]
        text += [lines[key] for key in sorted(lines) if key[0] == title] + [""]
    return "\n".join(text)
