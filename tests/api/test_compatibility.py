"""docs/compatibility.md and docs/parameters.md say what is true: every operation and parameter of the SDK's model has its row, and the
endpoint answers as the row says."""

import re

import pytest
from botocore.exceptions import ClientError

import parameters
from harness import client

ROWS, MODEL = parameters.STATES, parameters.MODEL


def test_every_operation_has_a_row():
    assert sorted(ROWS) == sorted(MODEL.operation_names)


def test_the_page_of_parameters_is_fresh():
    assert parameters.PAGE.read_text() == parameters.page(), "run tests/api/parameters.py"


def test_exceptions_are_of_the_model():
    for operation, exceptions in parameters.EXCEPTIONS.items():
        known = parameters.parameters(operation)
        named = exceptions.get("refused", []) + list(exceptions.get("notes", {}))
        assert ROWS[operation] == "works" and set(named) <= set(known), operation


def answer(endpoint, operation, request):
    """The error of a call, none if it is done."""
    loose = client(endpoint.url, parameter_validation=False)
    method = getattr(loose, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())
    try:
        method(**request)
        return None
    except ClientError as error:
        return error.response["Error"]


@pytest.mark.parametrize("operation", sorted(ROWS))
def test_the_endpoint_answers_as_the_row_says(endpoint, operation):
    """An empty request: whoever knows the operation complains about its parameters, or answers."""
    # The SDK itself looks into a batch's RequestItems.
    request = {"RequestItems": {}} if operation.startswith("Batch") and "Item" in operation else {}
    error = answer(endpoint, operation, request)
    known = error is None or error["Code"] != "UnknownOperationException"
    assert known == (ROWS[operation] != "not yet")


TABLE = {
    "TableName": "sample-table",
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}
BASES = {
    "CreateTable": TABLE,
    "UpdateTable": {"TableName": "sample-table"},
    "RestoreTableFromBackup": {
        "TargetTableName": "sample-restored",
        "BackupArn": "arn:aws:dynamodb:us-east-1:000000000000:table/sample-table/backup/01700000000000-00000000",
    },
    "RestoreTableToPointInTime": {
        "SourceTableName": "sample-table",
        "TargetTableName": "sample-restored",
        "UseLatestRestorableTime": True,
    },
}
REFUSED = [
    (operation, parameter)
    for operation in sorted(parameters.EXCEPTIONS)
    for parameter in parameters.refused(operation)
    if operation in BASES
]


@pytest.mark.one_kind
@pytest.mark.parametrize("operation,parameter", REFUSED)
def test_refused_parameters_are_refused_by_name(endpoint, operation, parameter):
    shape = MODEL.operation_model(operation).input_shape.members[parameter]
    error = answer(endpoint, operation, {**BASES[operation], parameter: parameters.sample(shape)})
    assert error and error["Code"] == "ValidationException" and parameter in error["Message"], error
    assert "not supported" in error["Message"]


@pytest.mark.one_kind
@pytest.mark.parametrize("operation", sorted(set(BASES)))
def test_no_other_parameter_is_refused(endpoint, operation):
    """What works may be wrong here, but is not called unsupported."""
    notes = parameters.EXCEPTIONS.get(operation, {}).get("notes", {})
    for parameter in parameters.parameters(operation):
        if parameter in parameters.refused(operation) or "refused" in notes.get(parameter, ""):
            continue
        shape = MODEL.operation_model(operation).input_shape.members[parameter]
        base = {**BASES[operation], "DeletionProtectionEnabled": "no boolean: so that nothing is done"}
        if operation.startswith("Restore"):
            base = BASES[operation]
        error = answer(endpoint, operation, {**base, parameter: parameters.sample(shape)})
        assert error is None or "not supported" not in error["Message"], (parameter, error)


@pytest.mark.one_kind
@pytest.mark.parametrize("operation", sorted(operation for operation, state in ROWS.items() if state == "refused"))
def test_what_is_refused_says_so(endpoint, simple, operation):
    request = parameters.required(operation)
    request |= {"TableName": simple} if "TableName" in request else {"GlobalTableName": "sample-table"}
    error = answer(endpoint, operation, request)
    assert error and error["Code"] == "ValidationException" and operation in error["Message"], error
