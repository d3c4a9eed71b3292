"""How tests ask for errors."""

import pytest
from botocore.exceptions import ClientError


def fails(code, text, call, /, **arguments):
    """Calls and expects the error `code` whose message is, or (ending in …) starts with, `text`."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    if text is not None:
        if text.endswith("…"):
            assert error["Message"].startswith(text[:-1]), error
        else:
            assert error["Message"] == text, error
    return caught.value.response


def invalid(text, call, /, **arguments):
    """Expects a ValidationException."""
    response = fails("ValidationException", text, call, **arguments)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return response
