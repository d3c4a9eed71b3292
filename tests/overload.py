"""Asks for more of a table than it may give, and counts what it gives.

Owns the load and the counts; what they must be, the tests say.
"""

import threading
import time

from botocore.exceptions import ClientError

import harness


class Overload:
    """Threads that write (or read) one item of one unit over and over, through several endpoints. Counts are read while it runs."""

    def __init__(self, urls, table, threads_each=3, read=False, item_of=lambda number: "hot"):
        self.admitted = 0
        self.refused = 0
        self.failed = []
        self.reasons = set()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(url, table, read, item_of(number)), daemon=True)
            for number, url in enumerate(url for url in urls for _ in range(threads_each))
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, url, table, read, key):
        client = harness.client(url)
        while not self._end.is_set():
            try:
                if read:
                    client.get_item(TableName=table, Key={"pk": {"S": key}}, ConsistentRead=True)
                else:
                    client.put_item(TableName=table, Item={"pk": {"S": key}})
                with self._lock:
                    self.admitted += 1
            except ClientError as error:
                self._note(error)
                # A client that is told to slow down does, a little.
                time.sleep(0.005)

    def _note(self, error):
        code = error.response["Error"]["Code"]
        with self._lock:
            if code in ("ProvisionedThroughputExceededException", "ThrottlingException"):
                self.refused += 1
                self.reasons.update(reason["reason"] for reason in throttling_reasons(error.response))
            else:
                self.failed.append(error.response["Error"])

    def settles(self, seconds, least, most):
        """Returns once, over so many seconds, no more than `most` units a second were admitted, and no less than `least` if more was asked for
        all the time. Not every window is like that: after a moment in which nobody got any time, what was saved meanwhile is spent."""
        seen = []
        for _ in range(3):
            got, wanting = self.rate_over(seconds)
            seen.append((round(got, 2), wanting))
            if got <= most and (got >= least or not wanting):
                return
        raise AssertionError(f"between {least} and {most} units a second are wanted: {seen}")

    def rate_over(self, seconds):
        """Units a second that were admitted over at least `seconds`, and whether more was asked for in each of them."""
        started, before, wanting = time.monotonic(), self.admitted, True
        for _ in range(seconds):
            refused = self.refused
            time.sleep(1)
            wanting = wanting and self.refused > refused
        return (self.admitted - before) / (time.monotonic() - started), wanting


def throttling_reasons(response):
    """The reasons of a throttling error; their member begins with a small letter in the answer of the framework in front."""
    return response.get("ThrottlingReasons") or response.get("throttlingReasons") or []
