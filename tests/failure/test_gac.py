"""Global admission control dies and returns: tables keep their rate, and no request fails for it."""

import pytest

import harness
from conftest import make_table
from overload import Overload

RATE = 40


@pytest.fixture
def mesh():
    target = harness.Mesh(settings={})
    try:
        yield target.start()
    finally:
        target.close()


def test_without_gac_a_table_keeps_its_rate(mesh):
    ddb = harness.client(mesh.url)
    units = {"ReadCapacityUnits": 5, "WriteCapacityUnits": RATE}
    name = make_table(ddb, BillingMode="PROVISIONED", ProvisionedThroughput=units)
    with Overload([mesh.url, mesh.second_url], name) as load:
        load.rate_over(6)
        got, wanting = load.rate_over(15)
        # Three of a hundred, and what a change of shares moves within a second.
        assert got <= 1.03 * RATE + RATE / 15, got
        assert not wanting or got >= 0.97 * RATE - RATE / 15, got
        mesh.kill("gac-1")
        mesh.kill("gac-2")
        load.rate_over(5)
        got, wanting = load.rate_over(15)
        assert got <= 1.10 * RATE, got
        assert not wanting or got >= 0.90 * RATE, got
        mesh.start_one("gac-1")
        mesh.start_one("gac-2")
        load.rate_over(5)
        got, wanting = load.rate_over(15)
        assert got <= 1.03 * RATE + RATE / 15, got
        assert not wanting or got >= 0.97 * RATE - RATE / 15, got
    assert not load.failed, load.failed[:3]


def test_a_mesh_that_never_had_gac_serves(mesh):
    mesh.kill("gac-1")
    mesh.kill("gac-2")
    ddb = harness.client(mesh.url)
    name = make_table(ddb)
    for number in range(50):
        ddb.put_item(TableName=name, Item={"pk": {"S": str(number)}})
    assert ddb.scan(TableName=name, ConsistentRead=True)["Count"] == 50
