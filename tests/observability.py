"""What a mesh shows of itself: names of metrics in queries, in docs/metrics.md and on the services' /metrics.

Owns how they are read and how that page is written; what must agree, the tests say.
"""

import json
import re

import harness

PAGE = harness.ROOT / "docs" / "metrics.md"


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
    """Names of all metrics in docs/metrics.md."""
    return set(re.findall(r"^\| `(evenkeel_\w+)` \|", PAGE.read_text(), re.M))


class Metric:
    """One metric, as all services together show it."""

    def __init__(self, kind, words):
        self.kind, self.words, self.labels, self.services = kind, words, set(), set()


def served(mesh):
    """Every metric that the processes of a mesh show, by name."""
    found = {}
    for process in mesh.status()["processes"]:
        if process["name"] in ("nats", "traces") or process["state"] != "ready":
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
    """docs/metrics.md, of what a mesh serves."""
    lines = [
        "# Metrics", "",
        "What `/metrics` of each service shows, in Prometheus' text format; written by `EVENKEEL_UPDATE_DOCS=1 pytest tests/failure/test_alarms.py`, which checks",
        "it, too. A table's name as a label is bounded: 256 tables a router, the others are `(others)`. Where a mesh does not trace, it has no `evenkeel_traces_*`.", "",
    ]
    services = {service for metric in found.values() for service in metric.services}
    shared = {name for name, metric in found.items() if metric.services == services}
    parts = [("every service", shared)]
    parts += [(service, {name for name, m in found.items() if service in m.services} - shared) for service in sorted(services)]
    for title, names in parts:
        lines += [f"## {title}", "", "| metric | type | labels | what |", "|---|---|---|---|"]
        for name in sorted(names):
            metric = found[name]
            lines.append(f"| `{name}` | {metric.kind} | {', '.join(sorted(metric.labels)) or '–'} | {metric.words} |")
        lines.append("")
    return "\n".join(lines)
