"""The load driver: short runs against a real endpoint; its numbers add up, its report is whole, its exit codes say what happened."""

import json
import os
import subprocess

import pytest

import harness

LOAD = harness.BIN_DIR / "evenkeel-load"

SCENARIO = """
name = "smoke"
about = "Two streams on two tables, and the caches emptied meanwhile."
[[table]]
name = "calm"
items = 300
[[table]]
name = "sorted"
items = 300
collection_items = 50
[[phase]]
name = "before"
seconds = 2
[[phase]]
name = "flushed"
seconds = 3
[[stream]]
name = "mixed"
table = "calm"
workload = "f"
keys = "zipfian"
timeout_ms = 20000
rate = { before = 100, flushed = "100..200" }
[[stream]]
name = "growing"
table = "sorted"
workload = "d"
timeout_ms = 20000
rate = { before = 40, flushed = "20^80:2:1" }
[[fault]]
name = "done"
phase = "flushed"
at_s = 0.5
run = "RUN"
[[metric]]
name = "lookups"
metric = "evenkeel_memds_lookups_total"
[[promise]]
text = "nothing fails and every read is right"
holds = "errors() + throttled() == 0"
[[promise]]
text = "all that was to be sent was sent"
holds = "ok() + conflicts() == 2 * 100 + 3 * 150 + 2 * 40 + 20 + 80 + 20"
"""


def load(*arguments, timeout_s=600, **environment):
    done = subprocess.run(
        [LOAD, *map(str, arguments)], env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout_s
    )
    print(done.stdout, done.stderr)
    return done


def test_a_scenario_against_what_runs(endpoint, tmp_path):
    file, page = tmp_path / "smoke.toml", tmp_path / "smoke.html"
    file.write_text(SCENARIO.replace("RUN", "true"))
    done = load("run", file, "--endpoint", endpoint.url, "--report", page, "--output", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] and all(promise["held"] for promise in report["promises"])
    assert report == json.loads(page.with_suffix(".json").read_text())
    for stream in report["streams"]:
        seconds = sum(sum(second["counts"]) for second in stream["seconds"])
        whole = sum(phase["sent"] for phase in stream["phases"] if phase["class"] == "all")
        assert seconds == whole > 0, "each request is in its second and in its phase"
        assert not stream["wrong"]
    assert [fault["error"] for fault in report["faults"]] == [""]
    text = page.read_text()
    assert "<svg" in text and "every promise held" in text
    assert "://" not in text, "the page needs nothing from elsewhere"
    tables = harness.client(endpoint.url).list_tables()["TableNames"]
    assert not [name for name in tables if name.startswith("load.")], "tables are dropped at the end"


def test_a_broken_promise_is_exit_code_1(endpoint, tmp_path):
    done = load("run", "--endpoint", endpoint.url, "--rate", 50, "--seconds", 1, "--items", 50, "--promise", "ok() > 1_000", "--quiet")
    assert done.returncode == 1 and "BROKEN" in done.stdout, done.stdout


def test_a_fault_that_cannot_be_carried_out_is_no_success(endpoint, tmp_path):
    file = tmp_path / "smoke.toml"
    file.write_text(SCENARIO.replace("RUN", "echo no such node; exit 3"))
    done = load("run", file, "--endpoint", endpoint.url, "--quiet")
    assert done.returncode == 1 and "no such node" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "--rate", "fast"], "not a number"),
        (["run", "--promise", "p99()"], "comparison"),
        (["run", "--endpoint", "127.0.0.1:1", "--seconds", "1"], "no connection"),
        (["run", "/nowhere.toml"], "/nowhere.toml"),
        (["sweep", "--workload", "z"], "none of a, b"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, why):
    done = load(*arguments)
    assert done.returncode == 2 and why in done.stderr, done.stderr


def test_all_scenarios_can_be_read():
    scenarios = sorted((harness.ROOT / "load-tests" / "scenarios").glob("*.toml"))
    assert len(scenarios) >= 9
    for file in scenarios:
        done = load("run", file, "--check")
        assert done.returncode == 0, f"{file}: {done.stderr}"
        script = file.with_suffix("")
        assert os.access(script, os.X_OK) and script.name in script.read_text()


def test_a_sweep_draws_its_plot(endpoint, tmp_path):
    picture = tmp_path / "sweep.svg"
    done = load(
        "sweep", "--endpoint", endpoint.url, "--saturation", 200, "--shares", "25,50", "--seconds", 1, "--items", 100,
        "--svg", picture, "--output", "json", "--quiet",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [share["percent"] for share in result["shares"]] == [25, 50]
    assert all(share["not_ok"] == 0 for share in result["shares"])
    for share in result["shares"]:
        assert [latency["class"] for latency in share["classes"]] == ["reads", "writes"]
        assert all(latency["p99_ms"] >= latency["p50_ms"] > 0 for latency in share["classes"])
    assert picture.read_text().startswith("<svg")


def test_the_mesh_is_started_for_a_scenario_and_its_caches_are_emptied(tmp_path):
    file, page = tmp_path / "smoke.toml", tmp_path / "smoke.html"
    file.write_text(SCENARIO.replace("RUN", "evenkeel ctl flush-routes"))
    done = load(
        "run", file, "--mesh", harness.ROOT / "infra" / "local", "--report", page,
        EVENKEEL_PORT=str(harness.free_port(count=40)),
        EVENKEEL_STATE_DIR=str(tmp_path / "state"),
        EVENKEEL_BIN_DIR=str(harness.BIN_DIR),
        EVENKEEL_READY_SECONDS="240",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(page.with_suffix(".json").read_text())
    assert len(report["metrics"][0]["points"]) >= 3 and max(rate for _, rate in report["metrics"][0]["points"]) > 100
    assert not list((tmp_path / "state").glob("*.pid")), "the mesh is taken away"
