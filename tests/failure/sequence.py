"""Random operations (`operations.py`) while processes die: each answer is what DynamoDB in memory says, or the outcome is in doubt.

A write whose answer is lost, or a server's error, was done, is done later, or never: nothing that is read meanwhile settles that. So its items may be either from
then on (the writes of a transaction: all or none of them), and the sequence goes on with items of other partition keys, whose states are certain. What certain
items hold is compared to the end. Owns the doubt; what is asked is `operations.Run`'s.
"""

import functools
import os
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

import harness
import reference
from operations import Random, Run, tidy

# For how long a read, or a write that was certainly not done, is tried again.
AGAIN_S = 180
# The request was refused, and nothing was done: for want of room, or because a dead coordinator's transaction still has the item.
REFUSED = ("ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "TransactionConflictException")


class InDoubt(Exception):
    """Whether the write was done is not known."""


class Careful:
    """A client over several endpoints. Reads are repeated; a write only if it was certainly not done;
    `InDoubt`: that is not known."""

    READS = ("get_item", "query", "scan", "batch_get_item", "transact_get_items")

    def __init__(self, urls):
        self.clients = [harness.client(url, read_timeout_s=10, steady=False) for url in urls]
        self.turn = 0

    def __getattr__(self, operation):
        return functools.partial(self.call, operation)

    def call(self, operation, **request):
        end = time.monotonic() + AGAIN_S
        while True:
            client = self.clients[self.turn % len(self.clients)]
            try:
                return getattr(client, operation)(**request)
            except (ClientError, BotoCoreError) as error:
                if self.is_answer(error):
                    raise
                if operation not in self.READS and not self.is_undone(error):
                    raise InDoubt(repr(error)) from error
                if time.monotonic() > end:
                    raise AssertionError(f"{operation} does not come to an end in {AGAIN_S} s: {error!r}") from error
                self.turn += 1
                time.sleep(0.05)

    def is_answer(self, error):
        """Whether it is the operation's own outcome."""
        is_client = isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500
        return is_client and not self.is_undone(error)

    @staticmethod
    def is_undone(error):
        if not isinstance(error, ClientError):
            return isinstance(error, (EndpointConnectionError, ConnectTimeoutError))
        reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", [])]
        return error.response["Error"]["Code"] in REFUSED or "TransactionConflict" in reasons


class DoubtfulRun(Run):
    """A sequence over several endpoints, whose every step may come to nothing certain."""

    def __init__(self, urls, table):
        # The same operations every time, unless EVENKEEL_RANDOM_SEED says otherwise.
        self.seed = int(os.environ.get("EVENKEEL_RANDOM_SEED", "7"))
        rng = Random(self.seed)
        rng.collections = ["r-one", "r-two"]
        super().__init__(Careful(urls), table, rng)
        self.steps = 0
        # Writes of a transaction: key → what the item is if it was done, and if not.
        self.transactions = []
        self.collections = tuple(self.rng.collections)
        self.left = 0

    def step(self):
        before = dict(self.model.items)
        self.is_transaction = False
        try:
            super().step()
        except InDoubt:
            self.doubt(before)
        self.steps += 1

    def transact(self):
        self.is_transaction = True
        super().transact()

    def doubt(self, before):
        """What the last step would have changed may be as it was before, too."""
        after = self.model.items
        changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        states = {key: (before.get(key), after.pop(key, None)) for key in changed}
        self.doubts |= states
        if self.is_transaction and states:
            self.transactions.append(states)
        self.left += 1
        self.rng.collections = [f"{name}-{self.left}" for name in self.collections]

    def write_batch(self, requests):
        while requests:
            requests = self.ddb.batch_write_item(RequestItems={self.table: requests})["UnprocessedItems"].get(self.table)

    def read_batch(self, keys):
        found = []
        while keys:
            answer = self.ddb.batch_get_item(RequestItems={self.table: {"Keys": keys, "ConsistentRead": True}})
            found += answer["Responses"][self.table]
            keys = answer["UnprocessedKeys"].get(self.table, {}).get("Keys")
        return found

    def check(self):
        """At the end: every certain item is what it should be, every other one of the two that it may be, and transactions were done wholly or not at all."""
        items, scanned = self.model.scan()
        self.pages(self.ddb.scan, {"ConsistentRead": True}, items, scanned, ordered=False)
        for key, states in self.doubts.items():
            (got,) = self.read_at_once([key])
            assert tidy(got) in tidy(list(states)), (key, got, states)
        for states in self.transactions:
            got = self.read_at_once(states)
            wanted = [[pair[outcome] for pair in states.values()] for outcome in (0, 1)]
            assert tidy(got) in tidy(wanted), f"a transaction was done in part: {got} of {states}"

    def read_at_once(self, keys):
        keys = [{"pk": {"S": pk}, "sk": reference.number(sk)} for pk, sk in keys]
        gets = [{"Get": {"TableName": self.table, "Key": key}} for key in keys]
        return [answer.get("Item") for answer in self.ddb.transact_get_items(TransactItems=gets)["Responses"]]


class Sequence:
    """Takes a run further in a thread of its own; use as a context manager. A run is one sequence, however many of these it goes through."""

    def __init__(self, run):
        self.run = run
        self.failure = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        self.thread.join(timeout=2 * AGAIN_S)
        assert not self.thread.is_alive(), "the sequence hangs"
        if kind is None:
            self.raise_failure()
            try:
                self.run.check()
            except AssertionError as error:
                self.failure = error
                self.raise_failure()

    def work(self):
        while not self.stopping.is_set():
            try:
                self.run.step()
            except Exception as error:  # told by whoever waits
                self.failure = error
                return

    def raise_failure(self):
        if self.failure:
            again = f"again: EVENKEEL_RANDOM_SEED={self.run.seed} and the same tests; the faults come when they come"
            raise AssertionError(f"step {self.run.steps} of seed {self.run.seed}; {again}\n{self.failure!r}") from self.failure

    def goes_on(self, steps=10, timeout_s=2 * AGAIN_S):
        """Returns once so many more steps were done."""
        goal = self.run.steps + steps
        harness.wait_until(f"{steps} more steps", lambda: self.run.steps >= goal or self.failure, timeout_s)
        self.raise_failure()
