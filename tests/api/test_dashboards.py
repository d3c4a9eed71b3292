"""Dashboards, alert rules, run-books and the list of metrics agree with each other. Needs no deployment."""

import re
import subprocess
import sys

import harness
from observability import documented, named, queries


def test_what_dashboards_and_rules_name_is_documented():
    known, count = {name for _, name in documented()}, 0
    for where, query in queries():
        count += 1
        assert named(query) or "evenkeel:" in query, f"{where}: no metric in {query}"
        assert named(query) <= known, f"{where} names {named(query) - known}"
    assert count > 100


def test_every_metric_says_what_it_is():
    said = {}
    for (_, name), line in documented().items():
        said.setdefault(line.split("|")[4].strip(), set()).add(name)
    # The same of several services, under names of their own, is the same.
    alike = {words: names for words, names in said.items() if len(words) < 10 or len(names) > 2}
    assert not alike, alike


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
