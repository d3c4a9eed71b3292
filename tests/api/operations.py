"""Random sequences of operations on one table, each compared with what DynamoDB in memory (`reference.py`) answers.

Owns what is asked and how answers are compared; never starts or stops anything.
"""

import random

from botocore.exceptions import ClientError

import reference
from reference import Expressions, Failed, Wrong, number

NAMES = ["a", "b", "c", "size", "d"]


class Random(random.Random):
    """What random requests are made of: few keys and names, so that they meet."""

    def key(self):
        return {"pk": {"S": self.choice(self.collections)}, "sk": number(self.randrange(-2, 4))}

    def scalar(self):
        return self.choice([number(self.randrange(-3, 4)), number("0.5"), {"S": self.choice(["", "x", "xy", "é"])}])

    def some_set(self):
        return {"SS": sorted(self.sample(["x", "y", "z"], self.randrange(1, 4)))}

    def value(self):
        return self.choice(
            [
                self.scalar,
                self.scalar,
                self.some_set,
                lambda: {"BOOL": self.random() < 0.5},
                lambda: {"NULL": True},
                lambda: {"L": [self.scalar() for _ in range(self.randrange(3))]},
                lambda: {"M": {"k": self.scalar()}},
            ]
        )()

    def item(self):
        return self.key() | {name: self.value() for name in self.sample(NAMES, self.randrange(4))}

    def condition(self, depth=2, names=("pk", "sk", *NAMES)):
        if depth and self.random() < 0.4:
            word = self.choice(["and", "or", "not"])
            return (word, *(self.condition(depth - 1, names) for _ in range(1 if word == "not" else 2)))
        name = self.choice(names)
        return self.choice(
            [
                lambda: (self.choice(["=", "<>"]), name, self.value()),
                lambda: (self.choice(["<", "<=", ">", ">="]), name, self.scalar()),
                lambda: ("exists", name),
                lambda: ("not_exists", name),
                lambda: ("contains", name, self.scalar()),
                lambda: ("begins_with", name, {"S": self.choice(["x", "r", ""])}),
                lambda: ("type", name, {"S": self.choice(["S", "N", "SS", "L"])}),
                lambda: ("between", name, *sorted([number(self.randrange(4)) for _ in "12"], key=lambda n: int(n["N"]))),
                lambda: ("in", name, self.value(), self.value()),
                lambda: ("size", self.choice(["=", "<", ">="]), name, number(self.randrange(3))),
            ]
        )()

    def maybe_condition(self, **more):
        return self.condition(**more) if self.random() < 0.5 else None

    def actions(self):
        def action(name):
            return self.choice(
                [
                    lambda: ("set", name, self.value()),
                    lambda: ("plus", name, number(self.randrange(-2, 3))),
                    lambda: ("append", name, {"L": [self.scalar()]}),
                    lambda: ("default", name, self.value()),
                    lambda: ("remove", name),
                    lambda: ("add", name, self.choice([number(self.randrange(3)), self.some_set()])),
                    lambda: ("delete", name, self.some_set()),
                ]
            )()

        return [action(name) for name in self.sample(NAMES, self.randrange(1, 4))]


def tidy(value):
    """Sets come in any order."""
    if isinstance(value, dict):
        return {name: sorted(inner) if name in ("SS", "NS") else tidy(inner) for name, inner in value.items()}
    return [tidy(inner) for inner in value] if isinstance(value, list) else value


class Run:
    """One sequence against one table. What is asked follows from the random numbers alone, whatever is answered."""

    def __init__(self, ddb, table, rng):
        self.ddb, self.table, self.rng, self.model = ddb, table, rng, reference.Table()
        # Items of which it is not known whether their last write was done (none, where all calls are answered): what each may be.
        self.doubts = {}

    def step(self):
        once = [self.delete, self.get, self.query, self.scan, self.batch, self.transact]
        self.rng.choice([self.put, self.put, self.update, self.update, *once])()

    def same(self, expected, call, **request):
        """The call ends as the model says: `expected` gives the answer's part that is compared, or raises."""
        try:
            want = expected()
        except Failed:
            want = "ConditionalCheckFailedException"
        except Wrong:
            want = "ValidationException"
        except reference.Cancelled as cancelled:
            want = ["TransactionCanceledException", *cancelled.reasons]
        if request.setdefault("TableName", self.table) is None:
            del request["TableName"]
        try:
            got = call(**request)
        except ClientError as error:
            got = error.response["Error"]["Code"]
            if "CancellationReasons" in error.response:
                got = [got, *(reason["Code"] for reason in error.response["CancellationReasons"])]
            assert got == want, (error.response, request)
            return
        assert isinstance(want, dict), (want, got, request)
        for name, value in want.items():
            assert tidy(got.get(name)) == tidy(value), (name, request)

    def conditional(self, condition, expressions=None):
        expressions = expressions or Expressions()
        more = {"ConditionExpression": expressions.text(condition)} if condition else {}
        return more | expressions.parameters()

    def put(self):
        item, condition = self.rng.item(), self.rng.maybe_condition()
        more = self.conditional(condition)
        self.same(
            lambda: {"Attributes": self.model.put(item, condition)}, self.ddb.put_item, Item=item, ReturnValues="ALL_OLD", **more
        )

    def delete(self):
        key, condition = self.rng.key(), self.rng.maybe_condition()
        more = self.conditional(condition)
        self.same(
            lambda: {"Attributes": self.model.delete(key, condition)}, self.ddb.delete_item, Key=key, ReturnValues="ALL_OLD", **more
        )

    def update(self):
        key, actions, condition = self.rng.key(), self.rng.actions(), self.rng.maybe_condition()
        expressions = Expressions()
        text = expressions.update(actions)
        more = self.conditional(condition, expressions)
        values = self.rng.choice(["ALL_OLD", "ALL_NEW"])

        def expected():
            old, new = self.model.update(key, actions, condition)
            return {"Attributes": old if values == "ALL_OLD" else new}

        self.same(expected, self.ddb.update_item, Key=key, UpdateExpression=text, ReturnValues=values, **more)

    def get(self):
        key = self.rng.key()
        self.same(lambda: {"Item": self.model.get(key)}, self.ddb.get_item, Key=key, ConsistentRead=True)

    def query(self):
        pk, bound = self.rng.choice(self.rng.collections), number(self.rng.randrange(-2, 4))
        sort = self.rng.choice(
            [None, ("=", "sk", bound), ("<", "sk", bound), (">=", "sk", bound), ("between", "sk", number(-1), number(2))]
        )
        condition = self.rng.maybe_condition(names=NAMES)
        reverse = self.rng.random() < 0.5
        expressions = Expressions()
        keys = expressions.text(("=", "pk", {"S": pk}))
        if sort:
            keys += f" AND {expressions.text(sort)}"
        more = {"FilterExpression": expressions.text(condition)} if condition else {}
        more |= {"KeyConditionExpression": keys, "ScanIndexForward": not reverse, "ConsistentRead": True}
        limit = self.rng.choice([None, 1, 2])
        if limit:
            more["Limit"] = limit
        self.pages(self.ddb.query, more | expressions.parameters(), *self.model.query(pk, sort, reverse, condition))

    def scan(self):
        condition = self.rng.maybe_condition()
        expressions = Expressions()
        more = {"FilterExpression": expressions.text(condition)} if condition else {}
        self.pages(
            self.ddb.scan, more | {"ConsistentRead": True} | expressions.parameters(), *self.model.scan(condition), ordered=False
        )

    def pages(self, call, request, items, scanned, ordered=True):
        got, looked_at, start = [], 0, {}
        scanned_max = scanned + len(self.doubts)
        while True:
            answer = call(TableName=self.table, **request, **start)
            got += answer["Items"]
            looked_at += answer["ScannedCount"]
            assert answer["Count"] == len(answer["Items"]) and looked_at <= scanned_max, request
            if "LastEvaluatedKey" not in answer:
                break
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        if not ordered:
            got, items = (sorted(list_, key=reference.Table.key) for list_ in (got, items))
        doubted = [item for item in got if reference.Table.key(item) in self.doubts]
        for item in doubted:
            assert tidy(item) in tidy(self.doubts[reference.Table.key(item)]), (item, request)
        got = [item for item in got if item not in doubted]
        assert tidy(got) == tidy(items) and scanned <= looked_at <= scanned_max, request

    def transact(self):
        """Writes to different items, all of them or none; then a read of them all at once."""
        keys = list({reference.Table.key(key): key for key in (self.rng.key() for _ in range(self.rng.randrange(1, 4)))}.values())
        writes = []
        for key in keys:
            kind = self.rng.choice(["Put", "Update", "Delete", "ConditionCheck"])
            condition = self.rng.condition() if kind == "ConditionCheck" else self.rng.maybe_condition()
            what = {"Put": lambda: self.rng.item() | key, "Update": self.rng.actions}.get(kind, lambda: None)()
            writes.append((kind, key, what, condition))

        def written():
            before = dict(self.model.items)
            reasons = [self.outcome_of(*write) for write in writes]
            if any(reason != "None" for reason in reasons):
                self.model.items = before
                raise reference.Cancelled(reasons)
            return {}

        requests = [self.transact_request(*write) for write in writes]
        self.same(written, self.ddb.transact_write_items, TableName=None, TransactItems=requests)
        gets = [{"Get": {"TableName": self.table, "Key": key}} for key in keys]
        wanted = [{"Item": item} if item else {} for item in (self.model.get(key) for key in keys)]
        self.same(lambda: {"Responses": wanted}, self.ddb.transact_get_items, TableName=None, TransactItems=gets)

    def outcome_of(self, kind, key, what, condition):
        """Does one write of a transaction, or says why not, as a cancellation reason's code."""
        try:
            match kind:
                case "Put":
                    self.model.put(what, condition)
                case "Update":
                    self.model.update(key, what, condition)
                case "Delete":
                    self.model.delete(key, condition)
                case "ConditionCheck" if not reference.holds(condition, self.model.get(key)):
                    raise Failed
        except Failed:
            return "ConditionalCheckFailed"
        except Wrong:
            return "ValidationError"
        return "None"

    def transact_request(self, kind, key, what, condition):
        expressions = Expressions()
        request = {"TableName": self.table} | ({"Item": what} if kind == "Put" else {"Key": key})
        if kind == "Update":
            request["UpdateExpression"] = expressions.update(what)
        return {kind: request | self.conditional(condition, expressions)}

    def batch(self):
        """A batch of writes to different items, then a batch of reads of them."""
        writes = {reference.Table.key(item): item for item in (self.rng.item() for _ in range(4))}
        requests = []
        for item in writes.values():
            if self.rng.random() < 0.7:
                self.model.put(item)
                requests.append({"PutRequest": {"Item": item}})
            else:
                key = {name: item[name] for name in ("pk", "sk")}
                self.model.delete(key)
                requests.append({"DeleteRequest": {"Key": key}})
        self.write_batch(requests)
        keys = [{name: item[name] for name in ("pk", "sk")} for item in writes.values()]
        got = sorted(self.read_batch(keys), key=reference.Table.key)
        want = [item for item in (self.model.get(key) for key in keys) if item]
        assert tidy(got) == tidy(sorted(want, key=reference.Table.key))

    def write_batch(self, requests):
        assert self.ddb.batch_write_item(RequestItems={self.table: requests})["UnprocessedItems"] == {}

    def read_batch(self, keys):
        answer = self.ddb.batch_get_item(RequestItems={self.table: {"Keys": keys, "ConsistentRead": True}})
        assert answer["UnprocessedKeys"] == {}
        return answer["Responses"][self.table]
