"""Global admission control dies and returns: tables keep their rate, and no request fails for it. And what the account's quotas refuse."""

import pytest

import harness
from conftest import make_table
from faults import fails
from overload import Overload

RATE = 10


@pytest.fixture
def mesh():
    settings = {
        "EVENKEEL_ADMIN__QUOTAS__TABLES": "1",
        # Not what the admin goes by.
        "EVENKEEL_STORAGE__ADMISSION__PARTITION_WRITE_UNITS_MAX": "900",
        "EVENKEEL_GAC__TABLE_READ_UNITS": "39000",
    }
    target = harness.Mesh(settings)
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
        # Three of a hundred, and what a change of shares moves within a second.
        held = dict(least=0.97 * RATE - RATE / 15, most=1.03 * RATE + RATE / 15)
        load.settles(15, **held)

        def shared():
            [seen] = mesh.ctl("throughput", name)
            return (seen["table"], seen["routers"], seen["write"]["rate_s"]) == (name, 2, RATE) and seen

        seen = harness.wait_until("both routers have a share", shared)
        assert seen["write"]["shares_s"] <= 1.01 * RATE, seen
        mesh.kill("gac-1")
        mesh.kill("gac-2")
        load.rate_over(5)
        load.settles(15, least=0.90 * RATE, most=1.10 * RATE)

        def unheard():
            refused = mesh.ctl("throughput", name, exit_codes=(0, 1))
            return "no GAC instance is heard" in refused["message"]

        harness.wait_until("no instance is heard", unheard)
        mesh.start_one("gac-1")
        mesh.start_one("gac-2")
        load.rate_over(5)
        load.settles(15, **held)
    assert not load.failed, load.failed[:3]


def test_settings_that_must_agree_and_do_not_are_troubles(mesh):
    def troubles():
        said = mesh.ctl("health", exit_codes=(0, 1))["troubles"]
        nodes = [t for t in said if "storage.admission.partition_write_units_max is 900" in t]
        instances = [t for t in said if "gac.table_read_units is 39000" in t]
        return (len(nodes), len(instances)) == (3, 2) and len(said) == 5

    harness.wait_until("all that differs is named, and nothing else", troubles)
    assert "there is no table" in mesh.ctl("throughput", "nowhere", exit_codes=(1,))["message"]
    assert mesh.ctl("throughput") == []


def test_a_mesh_without_gac_serves_and_has_its_quota_of_tables(mesh):
    mesh.kill("gac-1")
    mesh.kill("gac-2")
    ddb = harness.client(mesh.url)
    name = make_table(ddb)
    for number in range(50):
        ddb.put_item(TableName=name, Item={"pk": {"S": str(number)}})
    assert ddb.scan(TableName=name, ConsistentRead=True)["Count"] == 50

    fails(
        "LimitExceededException", "Subscriber limit exceeded: There is a limit of 1 tables per subscriber",
        lambda: make_table(ddb),
    )
    ddb.delete_table(TableName=name)
    ddb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 180})
    make_table(ddb)
