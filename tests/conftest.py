"""Fixtures: a running endpoint (dev and mesh in turn), clients, and tables that clean up after themselves."""

import itertools
import os
from collections import Counter

import pytest

import harness

KINDS = os.environ.get("EVENKEEL_TEST_KINDS", "dev,mesh").split(",")
_numbers = itertools.count(1)


def pytest_collection_modifyitems(config, items):
    """Tests marked `one_kind` are about what routers do alone: they run on the first kind of deployment only."""

    def elsewhere(item):
        kind = getattr(item, "callspec", None) and item.callspec.params.get("endpoint")
        return item.get_closest_marker("one_kind") and kind not in (None, KINDS[0])

    config.hook.pytest_deselected(items=[item for item in items if elsewhere(item)])
    items[:] = [item for item in items if not elsewhere(item)]


# Requests of a whole run that may be answered with a server's error: some moments in which nothing ran. More are the product's.
REPEATED_MAX = 50


def pytest_sessionfinish(session):
    if len(harness.repeated) > REPEATED_MAX:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Says which requests were sent again because a server's error answered them (`harness.client`); with more than REPEATED_MAX the run has failed."""
    if harness.repeated:
        terminalreporter.write_line(f"{len(harness.repeated)} requests were repeated: {Counter(harness.repeated).most_common(10)}")


@pytest.fixture(scope="session", params=KINDS)
def endpoint(request):
    """A running deployment of each kind, shared by all API tests."""
    target = {"dev": harness.Dev, "mesh": harness.Mesh}[request.param]()
    try:
        target.start()
        yield target
    finally:
        target.close()


@pytest.fixture(scope="session")
def ddb(endpoint):
    return harness.client(endpoint.url)


def make_table(ddb, hash_type="S", range_type=None, **options):
    name = f"t{next(_numbers)}-{os.getpid()}"
    attributes = [{"AttributeName": "pk", "AttributeType": hash_type}]
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}]
    if range_type:
        attributes.append({"AttributeName": "sk", "AttributeType": range_type})
        keys.append({"AttributeName": "sk", "KeyType": "RANGE"})
    options.setdefault("BillingMode", "PAY_PER_REQUEST")
    ddb.create_table(TableName=name, AttributeDefinitions=attributes, KeySchema=keys, **options)
    harness.wait_until(
        f"{name} is active", lambda: ddb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE"
    )
    return name


@pytest.fixture
def table_of(ddb):
    """Makes tables on demand; drops them after the test."""
    made = []

    def make(*arguments, **options):
        made.append(make_table(ddb, *arguments, **options))
        return made[-1]

    yield make
    for name in made:
        try:
            ddb.delete_table(TableName=name)
        except ddb.exceptions.ResourceNotFoundException:
            pass


@pytest.fixture(scope="session")
def simple(ddb):
    """A table with a string partition key `pk` that many tests share; use keys of your own."""
    return make_table(ddb)


@pytest.fixture(scope="session")
def ranged(ddb):
    """A table with string `pk` and string `sk`; use partition keys of your own."""
    return make_table(ddb, range_type="S")


@pytest.fixture(scope="session")
def numbered(ddb):
    """A table with string `pk` and number `sk`."""
    return make_table(ddb, range_type="N")


@pytest.fixture(scope="session")
def ledger(ddb, simple):
    """Transactions work: the first one of a mesh has the ledger made, which may take longer than a request."""

    def works():
        try:
            ddb.transact_write_items(TransactItems=[{"Put": {"TableName": simple, "Item": {"pk": {"S": "ledger"}}}}])
            return True
        except ddb.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500, error
            return False

    harness.wait_until("transactions work", works, timeout_s=60)


@pytest.fixture
def key():
    """A partition key that no other test uses."""
    return f"key-{next(_numbers)}"


@pytest.fixture
def s3():
    """A real S3-compatible store of the test's own."""
    store = harness.S3()
    try:
        yield store.start()
    finally:
        store.close()
