"""`evenkeel dev` as its user meets it: start, stop, crash, mistakes."""

import signal
import subprocess

import pytest

import harness
from conftest import make_table


@pytest.fixture
def dev():
    dev = harness.Dev()
    yield dev
    dev.close()


def test_data_survives_stop_and_kill(dev):
    ddb = harness.client(dev.start().url, retries=3)
    table = make_table(ddb)
    ddb.put_item(TableName=table, Item={"pk": {"S": "a"}, "v": {"N": "1"}})
    assert dev.stop(signal.SIGINT) == 0
    dev.start()
    ddb.put_item(TableName=table, Item={"pk": {"S": "b"}})
    dev.kill()
    dev.start()
    assert ddb.get_item(TableName=table, Key={"pk": {"S": "a"}}, ConsistentRead=True)["Item"]["v"] == {"N": "1"}
    assert "Item" in ddb.get_item(TableName=table, Key={"pk": {"S": "b"}}, ConsistentRead=True)


def test_says_where_it_is_and_stays_small(dev):
    dev.start()
    output = dev.output()
    assert dev.url in output
    assert "aws dynamodb" in output and "--endpoint-url" in output
    assert dev.rss_mb() < 150


def test_second_dev_on_the_same_folder_is_refused(dev):
    dev.start()
    second = subprocess.run(
        [harness.BIN_DIR / "evenkeel", "dev", "--port", str(harness.free_port()), "--data-dir", dev.data],
        capture_output=True, text=True, timeout=180,
    )
    assert second.returncode != 0
    assert str(dev.data) in second.stderr + second.stdout
    assert harness.answers(dev.url)


def test_port_in_use_is_refused(dev, tmp_path):
    dev.start()
    second = subprocess.run(
        [harness.BIN_DIR / "evenkeel", "dev", "--port", str(dev.port), "--data-dir", tmp_path / "other"],
        capture_output=True, text=True, timeout=180,
    )
    assert second.returncode != 0
    assert str(dev.port) in second.stderr + second.stdout


def test_help(dev):
    done = subprocess.run([harness.BIN_DIR / "evenkeel", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "dev" in done.stdout


def test_idle_connections_cost_little(dev):
    """Ten thousand idle connections: bounded memory, and the API still answers."""
    import resource
    import socket

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(10_000, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted + 200), hard))
    dev.start()
    held = []
    try:
        for _ in range(wanted):
            try:
                held.append(socket.create_connection(("127.0.0.1", dev.port), timeout=2))
            except OSError:
                break  # refused at the router's own bound: also an answer
        for s in held[: len(held) // 2]:
            s.close()
        harness.wait_until("the API answers", lambda: harness.answers(dev.url))
        assert dev.rss_mb() < 400
    finally:
        for s in held:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
