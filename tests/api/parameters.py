"""docs/parameters.md: every parameter of every operation with its state, made of docs/parameters.toml and the SDK's service model.

Run as a script it writes the page; the tests check that the page is the one that would be written.
"""

import re
import tomllib
from pathlib import Path

import boto3

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "parameters.md"
MODEL = boto3.client("dynamodb", region_name="us-east-1").meta.service_model
STATES = dict(
    re.findall(r"^\| (\w+) \| (works|not yet|refused) \|", (DOCS / "compatibility.md").read_text(), re.MULTILINE)
)
EXCEPTIONS = tomllib.loads((DOCS / "parameters.toml").read_text())

HEAD = """# API parameters

Every parameter of every operation of the DynamoDB API, as the AWS SDK's service model lists them. Made by `tests/api/parameters.py` of
`docs/parameters.toml`, where the exceptions stand; the tests ask a running endpoint whether it is true. *Refused* means a ValidationException
that names the parameter. [compatibility.md](compatibility.md) tells of whole operations.

| operation | parameter | state |
|---|---|---|
"""


def parameters(operation):
    shape = MODEL.operation_model(operation).input_shape
    return sorted(shape.members) if shape else []


def refused(operation):
    return EXCEPTIONS.get(operation, {}).get("refused", [])


def state(operation, parameter):
    if STATES[operation] != "works":
        return STATES[operation]
    word = "refused" if parameter in refused(operation) else "works"
    note = EXCEPTIONS.get(operation, {}).get("notes", {}).get(parameter)
    if note and note.startswith("refused"):
        return note
    return f"{word}: {note}" if note else word


def page():
    rows = []
    for operation in sorted(MODEL.operation_names):
        rows += [f"| {operation} | {name} | {state(operation, name)} |\n" for name in parameters(operation)]
    return HEAD + "".join(rows)


def sample(shape, depth=0):
    """A value of a shape, as full as the API model allows."""
    match shape.type_name:
        case "string":
            return (shape.enum or ["arn:aws:dynamodb:us-east-1:000000000000:table/sample"])[0]
        case "boolean":
            return True
        case "integer" | "long" | "double" | "float":
            return 5
        case "blob":
            return b"x"
        case "timestamp":
            return 1700000000
        case "list":
            return [sample(shape.member, depth + 1)]
        case "map":
            return {"sample": sample(shape.value, depth + 1)} if depth < 4 else {}
    if shape.name == "AttributeValue":
        return {"S": "x"}
    return {name: sample(member, depth + 1) for name, member in shape.members.items()} if depth < 4 else {}


def required(operation):
    """A request with the members that must be there."""
    shape = MODEL.operation_model(operation).input_shape
    request = {name: sample(shape.members[name]) for name in (shape.required_members if shape else [])}
    if "TableName" in request:
        request["TableName"] = "sample-table"
    return request


if __name__ == "__main__":
    PAGE.write_text(page())
