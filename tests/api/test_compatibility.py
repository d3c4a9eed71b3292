"""docs/compatibility.md says what is true: every operation of the SDK's model has a row, and the endpoint answers as the row says."""

import re
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from harness import client

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "compatibility.md"
ROWS = dict(re.findall(r"^\| (\w+) \| (works|not yet) \|", PAGE.read_text(), re.MULTILINE))
MODEL = boto3.client("dynamodb", region_name="us-east-1").meta.service_model


def test_every_operation_has_a_row():
    assert sorted(ROWS) == sorted(MODEL.operation_names)


@pytest.mark.parametrize("operation", sorted(ROWS))
def test_the_endpoint_answers_as_the_row_says(endpoint, operation):
    """An empty request: whoever knows the operation complains about its parameters, or answers."""
    loose = client(endpoint.url, parameter_validation=False)
    method = getattr(loose, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())
    try:
        # The SDK itself looks into a batch's RequestItems.
        method(**({"RequestItems": {}} if operation.startswith("Batch") and "Item" in operation else {}))
        known = True
    except ClientError as error:
        known = error.response["Error"]["Code"] != "UnknownOperationException"
    assert known == (ROWS[operation] == "works")
