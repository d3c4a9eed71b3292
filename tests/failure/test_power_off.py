"""The short form of the power-off test: zones, nodes, links and the bus fail under traffic; nothing acknowledged is lost."""

import json
import os
import subprocess

import harness


def test_power_off_quick(tmp_path):
    page = tmp_path / "power-off.html"
    environment = {
        **os.environ,
        "EVENKEEL_PORT": str(harness.free_port(count=40)),
        "EVENKEEL_STATE_DIR": str(tmp_path / "state"),
        "EVENKEEL_BIN_DIR": str(harness.BIN_DIR),
        "EVENKEEL_READY_SECONDS": "240",
    }
    done = subprocess.run(
        [harness.ROOT / "infra" / "power-off", "--quick", "--seed", "1", "--report", page],
        env=environment, capture_output=True, text=True, timeout=900,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["passed"] and all(check["passed"] for check in report["checks"])
    assert report["run"]["acknowledged_writes"] > 1_000
    assert len(report["faults"]) >= 4
    if not report["run"]["no_namespaces"]:
        assert {"cut", "zone-down"} <= {fault["fault"]["kind"] for fault in report["faults"]}
    text = page.read_text()
    assert "<svg" in text and "all held" in text
    assert "://" not in text.split("</style>", 1)[0], "the page needs nothing from elsewhere"
