"""Traffic that can tell afterwards whether an acknowledged write was lost or a strong read went back in time.

Each key has one writer, which writes 1, 2, 3 …; whatever a write's outcome, the next one uses the next number. A strong read that
starts after number n was acknowledged must see at least n, never less than an earlier strong read of that key saw, and never
a number that was not written yet.
"""

import itertools
import threading
import time

from botocore.exceptions import ClientError

import harness


_numbers = itertools.count(1)


class Key:
    def __init__(self, name):
        self.name = name
        self.attempted = 0
        self.acknowledged = 0
        self.seen = 0
        self.lock = threading.Lock()
        self.acknowledged_at = []


class Traffic:
    """Writers and strong readers over several endpoints; use as a context manager."""

    def __init__(self, urls, table, writers=6, readers=3, steady=False):
        """`steady`: with clients that send again what a server's error answers."""
        self.steady = steady
        self.table = table
        # Keys of its own: another run's numbers would look like writes from the future.
        run = next(_numbers)
        self.keys = [Key(f"run-{run}-key-{i}") for i in range(writers)]
        self.urls = urls
        self.readers = readers
        self.stopping = threading.Event()
        self.violations = []
        self.acknowledged_at = []
        self.errors = []
        self.threads = []

    def __enter__(self):
        for number, key in enumerate(self.keys):
            self.threads.append(threading.Thread(target=self.write, args=(key, number)))
        for number in range(self.readers):
            self.threads.append(threading.Thread(target=self.read, args=(number,)))
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=120)
            assert not thread.is_alive(), "a client thread hangs"

    def clients(self):
        return [harness.client(url, read_timeout_s=10, steady=self.steady) for url in self.urls]

    def write(self, key, number):
        clients = self.clients()
        while not self.stopping.is_set():
            with key.lock:
                key.attempted += 1
                value = key.attempted
            try:
                clients[number % len(clients)].put_item(
                    TableName=self.table, Item={"pk": {"S": key.name}, "n": {"N": str(value)}, "pad": {"S": "x" * 900}}
                )
            except Exception as error:  # ambiguous or refused: either is allowed; the next number follows
                self.errors.append((time.monotonic(), "write", repr(error)[:200]))
                number += 1  # the other router
                # Without an answer the write may still be on its way: the next one must not overtake it.
                self.stopping.wait(0.02 if isinstance(error, ClientError) else 1)
                continue
            with key.lock:
                key.acknowledged = value
            now = time.monotonic()
            key.acknowledged_at.append(now)
            self.acknowledged_at.append(now)

    def read(self, number):
        clients = self.clients()
        while not self.stopping.is_set():
            key = self.keys[number % len(self.keys)]
            with key.lock:
                least = max(key.acknowledged, key.seen)
            try:
                item = clients[number % len(clients)].get_item(
                    TableName=self.table, Key={"pk": {"S": key.name}}, ConsistentRead=True
                ).get("Item")
            except Exception as error:
                self.errors.append((time.monotonic(), "read", repr(error)[:200]))
                number += 1
                self.stopping.wait(0.02)
                continue
            value = int(item["n"]["N"]) if item else 0
            with key.lock:
                if value < least:
                    self.violations.append(f"{key.name}: read {value} after {least}")
                if value > key.attempted:
                    self.violations.append(f"{key.name}: read {value}, only {key.attempted} were written")
                key.seen = max(key.seen, value)
            number += 1

    def wait_for_writes(self, count, timeout_s=120):
        """Returns once `count` more writes were acknowledged."""
        goal = len(self.acknowledged_at) + count
        harness.wait_until(f"{count} more writes", lambda: len(self.acknowledged_at) >= goal, timeout_s)

    def every_key_moves(self, timeout_s=120):
        """Returns once each key has a newly acknowledged write: every partition serves."""
        before = [key.acknowledged for key in self.keys]
        harness.wait_until(
            "every key is written again",
            lambda: all(key.acknowledged > old for key, old in zip(self.keys, before)),
            timeout_s,
        )

    def longest_gap_s(self):
        """Longest time that any one key waited for its next acknowledged write."""
        return max(
            (b - a for key in self.keys for a, b in zip(key.acknowledged_at, key.acknowledged_at[1:])), default=0.0
        )

    def check(self, url):
        """After the traffic stopped: everything acknowledged is there."""
        ddb = harness.client(url, retries=8)
        for key in self.keys:
            item = ddb.get_item(TableName=self.table, Key={"pk": {"S": key.name}}, ConsistentRead=True).get("Item")
            value = int(item["n"]["N"]) if item else 0
            if not max(key.acknowledged, key.seen) <= value <= key.attempted:
                self.violations.append(f"{key.name}: {value} at the end, acknowledged {key.acknowledged}, seen {key.seen}")
        assert not self.violations, "\n".join(self.violations[:20])
        assert sum(key.acknowledged for key in self.keys) > 0
