"""Throughput as it is enforced: a table gets its rate and no more, wherever its traffic falls."""

import pytest

import harness
from conftest import KINDS
from overload import Overload

# Small enough for any machine to ask for more than it.
RATE = 10


@pytest.fixture(scope="module", params=KINDS)
def endpoint(request):
    """A deployment that holds tables to their throughput."""
    target = {"dev": harness.Dev, "mesh": harness.Mesh}[request.param](settings={})
    try:
        yield target.start()
    finally:
        target.close()


@pytest.fixture(scope="module")
def ddb(endpoint):
    return harness.client(endpoint.url)


def urls(endpoint):
    return [endpoint.url, getattr(endpoint, "second_url", endpoint.url)]


def held_to(rate, load, tolerance=0.03):
    # Over ten seconds: the tolerance, and what one second's change of shares can move, at least one unit.
    slack = tolerance * rate + max(rate, 10) / 10
    load.settles(10, least=rate - slack, most=rate + slack)


def test_a_provisioned_table_gets_its_rate_on_one_hot_key(endpoint, ddb, table_of):
    # Two partitions, since it reads so much; all the writes go to one of them.
    units = {"ReadCapacityUnits": 3_001, "WriteCapacityUnits": RATE}
    name = table_of(BillingMode="PROVISIONED", ProvisionedThroughput=units)
    with Overload(urls(endpoint), name) as load:
        load.rate_over(5)  # what was saved is spent
        held_to(RATE, load)
    assert load.refused > 0 and not load.failed, load.failed[:3]
    assert load.reasons <= {"TableWriteProvisionedThroughputExceeded", "TableWriteKeyRangeThroughputExceeded"}
    assert "TableWriteProvisionedThroughputExceeded" in load.reasons


def test_a_change_of_throughput_counts(endpoint, ddb, table_of):
    units = {"ReadCapacityUnits": RATE, "WriteCapacityUnits": 5}
    name = table_of(BillingMode="PROVISIONED", ProvisionedThroughput=units)
    with Overload(urls(endpoint), name, read=True) as load:
        load.rate_over(5)
        held_to(RATE, load)
        ddb.update_table(TableName=name, ProvisionedThroughput={**units, "ReadCapacityUnits": RATE // 2})
        load.rate_over(5)
        held_to(RATE // 2, load)
    assert not load.failed, load.failed[:3]


def test_the_maximum_of_an_on_demand_table(endpoint, ddb, table_of):
    name = table_of(OnDemandThroughput={"MaxWriteRequestUnits": RATE})
    with Overload(urls(endpoint), name) as load:
        load.rate_over(5)
        held_to(RATE, load)
    assert load.reasons == {"TableWriteMaxOnDemandThroughputExceeded"}
    ddb.update_table(TableName=name, OnDemandThroughput={"MaxWriteRequestUnits": -1})
    with Overload(urls(endpoint), name) as load:

        def nobody_is_refused():
            before = load.refused
            load.rate_over(2)
            return load.refused == before

        harness.wait_until("nobody is refused any more", nobody_is_refused)
    assert not load.failed, load.failed[:3]
