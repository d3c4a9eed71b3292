"""The HTTP protocol itself, below the SDKs: headers, checksums, compression, and requests that no SDK would send."""

import gzip
import http.client
import json
import socket
import time
import zlib
from urllib.parse import urlparse

import pytest

import harness

AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=evenkeel/20260101/us-east-1/dynamodb/aws4_request, "
    "SignedHeaders=host;x-amz-date;x-amz-target, Signature=" + "0" * 64
)


@pytest.fixture
def post(endpoint):
    """Posts a raw body, unsigned bytes and all; `dev` takes any signature, so these run there."""
    if endpoint.kind != "dev":
        pytest.skip("the mesh verifies signatures; raw requests are tried on dev")

    def call(target, body, **headers):
        place = urlparse(endpoint.url)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=120)
        sent = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
            "Authorization": AUTHORIZATION,
            **headers,
        }
        if target is not None:
            sent["X-Amz-Target"] = target if "." in target else f"DynamoDB_20120810.{target}"
        connection.request("POST", "/", body if isinstance(body, bytes) else json.dumps(body), sent)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    return call


def test_headers_of_an_answer(post):
    answer, data = post("ListTables", {})
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "application/x-amz-json-1.0"
    assert int(answer.getheader("x-amz-crc32")) == zlib.crc32(data)
    request_id = answer.getheader("x-amzn-RequestId")
    assert len(request_id) == 52 and request_id.isalnum() and request_id == request_id.upper()


def test_get_says_healthy(endpoint):
    assert harness.http_get(endpoint.url).startswith("healthy: ")


def test_errors_have_a_namespaced_type(post):
    answer, data = post("GetItem", {"TableName": "no-such", "Key": {"pk": {"S": "a"}}})
    assert answer.status == 400
    error = json.loads(data)
    assert error["__type"] == "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"
    assert error["message"] == "Requested resource not found"
    assert int(answer.getheader("x-amz-crc32")) == zlib.crc32(data)


@pytest.mark.parametrize(
    "target,body,kind",
    [
        ("NoSuchOperation", {}, "com.amazon.coral.service#UnknownOperationException"),
        ("Other_20120810.GetItem", {}, "com.amazon.coral.service#UnknownOperationException"),
        (None, {}, "com.amazon.coral.service#UnknownOperationException"),
        ("GetItem", b"{", "com.amazon.coral.service#SerializationException"),
        ("GetItem", b"", "com.amazon.coral.service#SerializationException"),
        ("GetItem", b"[]", "com.amazon.coral.service#SerializationException"),
        ("GetItem", b'{"TableName": 7}', "com.amazon.coral.service#SerializationException"),
        ("GetItem", b'{"TableName": "\xff\xfe"}', "com.amazon.coral.service#SerializationException"),
        ("GetItem", b"{}", "com.amazon.coral.validate#ValidationException"),
    ],
)
def test_bad_requests(post, target, body, kind):
    answer, data = post(target, body)
    assert answer.status == 400
    assert json.loads(data)["__type"] == kind, data


def test_deep_nesting_is_an_error_not_a_crash(post, simple):
    deep = b'{"TableName":"' + simple.encode() + b'","Item":{"pk":{"S":"deep"},"v":' + b'{"L":[' * 100_000
    answer, data = post("PutItem", deep + b"]}" * 100_000 + b"}}")
    assert answer.status == 400, data
    raw = b"[" * 500_000
    answer, data = post("PutItem", raw)
    assert answer.status == 400
    expression = "(" * 2000 + "a = :a" + ")" * 2000
    answer, data = post(
        "Scan",
        {"TableName": simple, "FilterExpression": expression, "ExpressionAttributeValues": {":a": {"N": "1"}}},
    )
    assert answer.status == 400


def test_huge_exponent_takes_no_time(post, simple):
    start = time.monotonic()
    answer, _ = post("PutItem", {"TableName": simple, "Item": {"pk": {"S": "a"}, "n": {"N": "1e1000000000"}}})
    assert answer.status == 400
    # Worked out digit by digit it would take hours.
    assert time.monotonic() - start < 60


def test_thousands_of_attribute_names(post, simple):
    names = {f"#n{i}": f"a{i}" for i in range(5000)}
    answer, data = post(
        "GetItem",
        {"TableName": simple, "Key": {"pk": {"S": "a"}}, "ProjectionExpression": "#n0", "ExpressionAttributeNames": names},
    )
    assert answer.status == 400, data


def test_too_large_a_body(post, simple):
    try:
        answer, data = post("PutItem", b'{"TableName":"' + b"x" * (17 * 1024 * 1024) + b'"}')
    except (BrokenPipeError, ConnectionResetError):
        return  # closed while sending: also an answer
    assert answer.status in (400, 413), data


def test_gzip_answers_and_requests(post, simple):
    item = {"pk": {"S": "gzip"}, "v": {"S": "x" * 50_000}}
    body = gzip.compress(json.dumps({"TableName": simple, "Item": item}).encode())
    answer, data = post("PutItem", body, **{"Content-Encoding": "gzip"})
    assert answer.status == 200, data
    answer, data = post(
        "GetItem",
        {"TableName": simple, "Key": {"pk": {"S": "gzip"}}, "ConsistentRead": True},
        **{"Accept-Encoding": "gzip"},
    )
    assert answer.getheader("Content-Encoding") == "gzip"
    assert int(answer.getheader("x-amz-crc32")) == zlib.crc32(data)
    assert json.loads(gzip.decompress(data))["Item"] == item


def test_half_a_body_and_silence_do_not_stop_others(endpoint, ddb, simple):
    place = urlparse(endpoint.url)
    held = []
    try:
        for _ in range(200):
            s = socket.create_connection((place.hostname, place.port), timeout=60)
            s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: DynamoDB_20120810.PutItem\r\nContent-Length: 1000\r\n\r\n{")
            held.append(s)
        for _ in range(500):
            held.append(socket.create_connection((place.hostname, place.port), timeout=60))
        ddb.put_item(TableName=simple, Item={"pk": {"S": "alive"}})
        assert ddb.get_item(TableName=simple, Key={"pk": {"S": "alive"}}, ConsistentRead=True)["Item"]
    finally:
        for s in held:
            s.close()


def test_unsigned_requests_are_refused(endpoint):
    place = urlparse(endpoint.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.request(
        "POST", "/", b"{}", {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.ListTables"}
    )
    answer = connection.getresponse()
    assert answer.status == 400
    assert json.loads(answer.read())["__type"].endswith("#MissingAuthenticationTokenException")


def test_the_mesh_verifies_signatures(endpoint):
    if endpoint.kind != "mesh":
        pytest.skip("dev takes any key")
    import boto3
    from botocore.exceptions import ClientError

    def code(key, secret):
        client = boto3.client(
            "dynamodb", endpoint_url=endpoint.url, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret
        )
        with pytest.raises(ClientError) as caught:
            client.list_tables()
        return caught.value.response["Error"]["Code"]

    assert code("stranger", "evenkeel") == "UnrecognizedClientException"
    assert code("evenkeel", "wrong") == "InvalidSignatureException"
