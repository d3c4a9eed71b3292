"""PynamoDB, unmodified: models with indexes, expressions, batches and transactions."""

import os

import pytest
from pynamodb.attributes import (
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    TTLAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
    UTCDateTimeAttribute,
    VersionAttribute,
)
from pynamodb.connection import Connection
from pynamodb.exceptions import DoesNotExist, PutError, TransactWriteError, UpdateError
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex, KeysOnlyProjection, LocalSecondaryIndex
from pynamodb.models import Model
from pynamodb.transactions import TransactGet, TransactWrite

import harness

pytestmark = pytest.mark.one_kind


class ByViews(LocalSecondaryIndex):
    class Meta:
        index_name = "by-views"
        projection = KeysOnlyProjection()

    forum = UnicodeAttribute(hash_key=True)
    views = NumberAttribute(range_key=True)


class ByAuthor(GlobalSecondaryIndex):
    class Meta:
        index_name = "by-author"
        projection = AllProjection()

    author = UnicodeAttribute(hash_key=True)
    views = NumberAttribute(range_key=True)


class Author(MapAttribute):
    name = UnicodeAttribute()
    mail = UnicodeAttribute(null=True)


class Thread(Model):
    class Meta:
        table_name = f"pynamo-{os.getpid()}"
        region = "us-east-1"
        billing_mode = "PAY_PER_REQUEST"
        aws_access_key_id = "evenkeel"
        aws_secret_access_key = "evenkeel"

    forum = UnicodeAttribute(hash_key=True)
    subject = UnicodeAttribute(range_key=True)
    views = NumberAttribute(default=0)
    author = UnicodeAttribute(null=True)
    starter = Author(null=True)
    tags = UnicodeSetAttribute(null=True)
    answers = ListAttribute(null=True)
    at = UTCDateTimeAttribute(null=True)
    expires = TTLAttribute(null=True)
    version = VersionAttribute()
    by_views = ByViews()
    by_author = ByAuthor()


@pytest.fixture(scope="module")
def thread(endpoint):
    Thread.Meta.host = endpoint.url
    Thread.create_table(wait=True)
    yield Thread
    Thread.delete_table()


def subjects(found):
    return [thread.subject for thread in found]


def test_items_and_conditions(thread):
    made = thread("items", "one", author="ann", tags={"x", "y"}, answers=["yes", 2], starter=Author(name="Ann"))
    made.save()
    got = thread.get("items", "one", consistent_read=True)
    assert (got.tags, got.answers, got.starter.name, got.version) == ({"x", "y"}, ["yes", 2], "Ann", 1)
    got.update(actions=[thread.views.set(thread.views + 5), thread.tags.add({"z"}), thread.answers.set(thread.answers.append(["no"]))])
    assert (got.views, got.tags, got.answers, got.version) == (5, {"x", "y", "z"}, ["yes", 2, "no"], 2)
    with pytest.raises(UpdateError) as caught:
        got.update(actions=[thread.views.set(0)], condition=(thread.views > 10) | thread.author.startswith("bob"))
    assert caught.value.cause_response_code == "ConditionalCheckFailedException"
    # Somebody else's version is older.
    with pytest.raises(PutError):
        made.save()
    got.delete(condition=thread.starter.name == "Ann")
    with pytest.raises(DoesNotExist):
        thread.get("items", "one", consistent_read=True)


def test_queries_batches_and_indexes(thread):
    with thread.batch_write() as batch:
        for n in range(40):
            batch.save(thread("many", f"s{n:02}", views=100 - n, author="bob" if n % 2 else "eve"))
    found = thread.query("many", thread.subject.between("s05", "s09"), consistent_read=True)
    assert subjects(found) == [f"s{n:02}" for n in range(5, 10)]
    found = thread.query("many", filter_condition=thread.author.is_in("bob"), page_size=7, scan_index_forward=False, consistent_read=True)
    assert subjects(found) == [f"s{n:02}" for n in range(39, 0, -2)]
    assert thread.count("many", thread.subject.startswith("s1"), consistent_read=True) == 10
    page = thread.query("many", limit=3, consistent_read=True)
    assert len(list(page)) == 3
    rest = thread.query("many", last_evaluated_key=page.last_evaluated_key, consistent_read=True)
    assert len(list(rest)) == 37
    got = thread.batch_get([("many", f"s{n:02}") for n in range(0, 50, 5)], consistent_read=True)
    assert sorted(subjects(got)) == [f"s{n:02}" for n in range(0, 40, 5)]
    assert subjects(thread.by_views.query("many", thread.views < 64, consistent_read=True)) == ["s39", "s38", "s37"]
    # Reads of it are eventual, each for itself: one that finds all says nothing about the next.
    harness.wait_until("the global index has them", lambda: thread.by_author.count("bob") == 20, timeout_s=60)
    most_read = lambda: subjects(thread.by_author.query("bob", thread.views >= 97)) == ["s03", "s01"]
    harness.wait_until("the global index has the most read", most_read, timeout_s=60)
    assert len(list(thread.scan(thread.forum == "many", consistent_read=True))) == 40
    with thread.batch_write() as batch:
        for n in range(40):
            batch.delete(thread("many", f"s{n:02}"))
    assert thread.count("many", consistent_read=True) == 0


def test_transactions(thread, ledger, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "evenkeel")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "evenkeel")
    connection = Connection(host=thread.Meta.host, region="us-east-1")

    def write(*threads):
        with TransactWrite(connection=connection) as transaction:
            for one in threads:
                transaction.save(one, condition=thread.forum.does_not_exist())

    write(thread("all", "a"), thread("all", "b"))
    with pytest.raises(TransactWriteError) as caught:
        write(thread("all", "c"), thread("all", "a"))
    reasons = caught.value.cancellation_reasons
    assert [reason and reason.code for reason in reasons] == [None, "ConditionalCheckFailed"]
    with TransactGet(connection=connection) as transaction:
        got = [transaction.get(thread, "all", subject) for subject in ("b", "c")]
    assert got[0].get().version == 1
    with pytest.raises(DoesNotExist):
        got[1].get()
