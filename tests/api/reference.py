"""DynamoDB in memory, as far as random tests need it: items, conditions, updates, queries and scans of one table with `pk` (S) and `sk` (N).

Written from Amazon's developer guide. Owns what the right answer is; never talks to an endpoint. Values are DynamoDB JSON; numbers are kept in
canonical form ("5", "-0.5"), sets sorted.
"""

import copy
from decimal import Decimal


class Failed(Exception):
    """The condition did not hold."""


class Wrong(Exception):
    """The request is refused: a ValidationException."""


class Cancelled(Exception):
    """The transaction is cancelled, for these reasons: a code for each of its writes."""

    def __init__(self, reasons):
        super().__init__(reasons)
        self.reasons = reasons


def number(value):
    text = format(Decimal(value).normalize(), "f")
    return {"N": "0" if text == "-0" else text}


def kind(value):
    return next(iter(value))


def order(left, right):
    """-1, 0 or 1; None if the two are not comparable."""
    if kind(left) != kind(right) or kind(left) not in ("S", "N"):
        return None
    a, b = (Decimal(v["N"]) if kind(v) == "N" else v["S"].encode() for v in (left, right))
    return (a > b) - (a < b)


def compare(operator, left, right):
    if left is None or right is None:
        return operator == "<>"
    if operator in ("=", "<>"):
        return (left == right) == (operator == "=")
    got = order(left, right)
    if got is None:
        return False
    return {"<": got < 0, "<=": got <= 0, ">": got > 0, ">=": got >= 0}[operator]


def contains(value, element):
    if value is None:
        return False
    match kind(value):
        case "S":
            return kind(element) == "S" and element["S"] in value["S"]
        case "SS":
            return kind(element) == "S" and element["S"] in value["SS"]
        case "L":
            return element in value["L"]
    return False


def size(value):
    if value is None or kind(value) in ("N", "BOOL", "NULL"):
        return None
    return number(len(value[kind(value)]))


def holds(condition, item):
    """Conditions are tuples: ("and", c, c) · ("or", c, c) · ("not", c) · (operator, name, value) · (function, name[, value]) · …"""
    item = item or {}
    match condition:
        case None:
            return True
        case ("and", one, other):
            return holds(one, item) and holds(other, item)
        case ("or", one, other):
            return holds(one, item) or holds(other, item)
        case ("not", one):
            return not holds(one, item)
        case ("exists", name):
            return name in item
        case ("not_exists", name):
            return name not in item
        case ("contains", name, value):
            return contains(item.get(name), value)
        case ("begins_with", name, value):
            got = item.get(name)
            return got is not None and kind(got) == kind(value) == "S" and got["S"].startswith(value["S"])
        case ("type", name, value):
            return name in item and kind(item[name]) == value["S"]
        case ("between", name, low, high):
            got = item.get(name)
            return compare(">=", got, low) and compare("<=", got, high)
        case ("in", name, *values):
            return item.get(name) in values
        case ("size", operator, name, value):
            return compare(operator, size(item.get(name)), value)
        case (operator, name, value):
            return compare(operator, item.get(name), value)
    raise AssertionError(condition)


class Expressions:
    """Conditions and updates as texts with placeholders."""

    def __init__(self):
        self.values, self.names = {}, {}

    def value(self, value):
        name = f":v{len(self.values)}"
        self.values[name] = value
        return name

    def name(self, name):
        self.names[f"#{name}"] = name
        return f"#{name}"

    def text(self, condition):
        match condition:
            case ("and" | "or" as word, one, other):
                return f"({self.text(one)}) {word} ({self.text(other)})"
            case ("not", one):
                return f"not ({self.text(one)})"
            case ("exists", name):
                return f"attribute_exists({self.name(name)})"
            case ("not_exists", name):
                return f"attribute_not_exists({self.name(name)})"
            case ("contains" | "begins_with" as function, name, value):
                return f"{function}({self.name(name)}, {self.value(value)})"
            case ("type", name, value):
                return f"attribute_type({self.name(name)}, {self.value(value)})"
            case ("between", name, low, high):
                return f"{self.name(name)} BETWEEN {self.value(low)} AND {self.value(high)}"
            case ("in", name, *values):
                return f"{self.name(name)} IN ({', '.join(self.value(value) for value in values)})"
            case ("size", operator, name, value):
                return f"size({self.name(name)}) {operator} {self.value(value)}"
            case (operator, name, value):
                return f"{self.name(name)} {operator} {self.value(value)}"
        raise AssertionError(condition)

    def update(self, actions):
        """Actions: ("set", name, value) · ("plus", name, value) · ("append", name, value) · ("default", name, value) · ("remove", name) ·
        ("add", name, value) · ("delete", name, value)"""
        sections = {"SET": [], "REMOVE": [], "ADD": [], "DELETE": []}
        for action in actions:
            name = self.name(action[1])
            value = self.value(action[2]) if len(action) > 2 else None
            match action[0]:
                case "set":
                    sections["SET"].append(f"{name} = {value}")
                case "plus":
                    sections["SET"].append(f"{name} = {name} + {value}")
                case "append":
                    sections["SET"].append(f"{name} = list_append({name}, {value})")
                case "default":
                    sections["SET"].append(f"{name} = if_not_exists({name}, {value})")
                case "remove":
                    sections["REMOVE"].append(name)
                case "add":
                    sections["ADD"].append(f"{name} {value}")
                case "delete":
                    sections["DELETE"].append(f"{name} {value}")
        return " ".join(f"{section} {', '.join(texts)}" for section, texts in sections.items() if texts)

    def parameters(self):
        more = {}
        if self.values:
            more["ExpressionAttributeValues"] = self.values
        if self.names:
            more["ExpressionAttributeNames"] = self.names
        return more


class Table:
    """The items of one table."""

    def __init__(self):
        self.items = {}

    @staticmethod
    def key(item):
        return item["pk"]["S"], Decimal(item["sk"]["N"])

    def get(self, key):
        return copy.deepcopy(self.items.get(self.key(key)))

    def put(self, item, condition=None):
        old = self.get(item)
        if not holds(condition, old):
            raise Failed
        self.items[self.key(item)] = copy.deepcopy(item)
        return old

    def delete(self, key, condition=None):
        old = self.get(key)
        if not holds(condition, old):
            raise Failed
        self.items.pop(self.key(key), None)
        return old

    def update(self, key, actions, condition=None):
        """The item before and after."""
        old = self.get(key)
        if not holds(condition, old):
            raise Failed
        if old is None and all(action[0] in ("remove", "delete") for action in actions):
            return None, None
        before = old or copy.deepcopy(key)
        new = copy.deepcopy(before)
        for action in actions:
            apply(action, before, new)
        self.items[self.key(key)] = new
        return old, copy.deepcopy(new)

    def query(self, pk, sort=None, reverse=False, condition=None):
        """Items of a collection in order; those that pass the filter, and how many were looked at."""
        keys = sorted(k for k in self.items if k[0] == pk)
        found = [self.items[k] for k in (reversed(keys) if reverse else keys)]
        found = [item for item in found if holds(sort, item)]
        return copy.deepcopy([item for item in found if holds(condition, item)]), len(found)

    def scan(self, condition=None):
        return copy.deepcopy([item for item in self.items.values() if holds(condition, item)]), len(self.items)


def apply(action, before, new):
    operation, name, *rest = action
    value = rest[0] if rest else None
    had = before.get(name)
    match operation:
        case "set":
            new[name] = value
        case "default":
            new[name] = had if had is not None else value
        case "remove":
            new.pop(name, None)
        case "plus":
            if had is None or kind(had) != "N":
                raise Wrong
            new[name] = number(Decimal(had["N"]) + Decimal(value["N"]))
        case "append":
            if had is None or kind(had) != "L":
                raise Wrong
            new[name] = {"L": had["L"] + value["L"]}
        case "add" | "delete" if had is not None and kind(had) != kind(value):
            raise Wrong
        case "add" if had is None:
            new[name] = value
        case "add" if kind(value) == "N":
            new[name] = number(Decimal(had["N"]) + Decimal(value["N"]))
        case "add":
            new[name] = {"SS": sorted(set(had["SS"]) | set(value["SS"]))}
        case "delete":
            left = sorted(set(had["SS"] if had else []) - set(value["SS"]))
            if left:
                new[name] = {"SS": left}
            else:
                new.pop(name, None)
