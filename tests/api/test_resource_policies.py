"""PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy, and what a table's policy forbids."""

import json

import pytest

from faults import fails, invalid
from harness import wait_until

pytestmark = pytest.mark.one_kind


def statement(effect="Deny", **more):
    return {"Effect": effect, "Principal": "*", "Action": "dynamodb:PutItem", "Resource": "*", **more}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def guarded(ddb, table_of):
    table = table_of()

    class Guarded:
        name = table
        arn = ddb.describe_table(TableName=table)["Table"]["TableArn"]

        def active(self):
            wait_until("it is active", lambda: ddb.describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE")

        def put(self, text, **more):
            got = ddb.put_resource_policy(ResourceArn=self.arn, Policy=text, **more)["RevisionId"]
            self.active()
            return got

    return Guarded()


def test_a_policy_is_kept_and_obeyed(ddb, guarded):
    item = {"pk": {"S": "a"}}
    absent = f"Resource-based policy not found for the provided ResourceArn: {guarded.arn}"
    fails("PolicyNotFoundException", absent, ddb.get_resource_policy, ResourceArn=guarded.arn)
    ddb.put_item(TableName=guarded.name, Item=item)
    text = document(statement())
    revision = guarded.put(text, ExpectedRevisionId="NO_POLICY")
    assert guarded.put(text) == revision
    got = ddb.get_resource_policy(ResourceArn=guarded.arn)
    assert (got["Policy"], got["RevisionId"]) == (text, revision)

    def denied():
        try:
            ddb.put_item(TableName=guarded.name, Item=item)
            return False
        except ddb.exceptions.ClientError as error:
            return error.response["Error"]

    error = wait_until("routers know the policy", denied)
    assert error["Code"] == "AccessDeniedException"
    assert error["Message"].startswith("User: arn:aws:iam::000000000000:user/")
    assert error["Message"].endswith(
        f" is not authorized to perform: dynamodb:PutItem on resource: {guarded.arn} with an explicit deny in a resource-based policy"
    )
    assert ddb.get_item(TableName=guarded.name, Key=item, ConsistentRead=True)["Item"] == item
    fails("PolicyNotFoundException", absent, ddb.delete_resource_policy, ResourceArn=guarded.arn, ExpectedRevisionId="1")
    assert ddb.delete_resource_policy(ResourceArn=guarded.arn)["RevisionId"] == revision
    guarded.active()
    assert ddb.delete_resource_policy(ResourceArn=guarded.arn)["RevisionId"] == ""
    wait_until("routers know that it is gone", lambda: not denied())


def test_control_plane_calls_are_checked(ddb, guarded):
    guarded.put(document(statement(Action="dynamodb:TagResource")))
    fails(
        "AccessDeniedException",
        None,
        ddb.tag_resource,
        ResourceArn=guarded.arn,
        Tags=[{"Key": "a", "Value": "b"}],
    )
    assert ddb.list_tags_of_resource(ResourceArn=guarded.arn)["Tags"] == []


def test_nobody_locks_himself_out_unconfirmed(ddb, guarded):
    text = document(statement(Action="dynamodb:*ResourcePolicy"))
    invalid(
        "The policy denies dynamodb:PutResourcePolicy to you, who attach it: set ConfirmRemoveSelfResourceAccess if that is meant",
        ddb.put_resource_policy,
        ResourceArn=guarded.arn,
        Policy=text,
    )
    guarded.put(text, ConfirmRemoveSelfResourceAccess=True)
    fails("AccessDeniedException", None, ddb.get_resource_policy, ResourceArn=guarded.arn)


@pytest.mark.parametrize(
    "text,why",
    [
        ("nonsense", "it is not JSON: …"),
        (document(), "Statement is missing"),
        (document(statement(Effect="Maybe")), "Effect must be Allow or Deny"),
        (document(statement(Condition={"Bool": {"aws:SecureTransport": "true"}})), "Condition is not supported by Evenkeel"),
        (document(statement(Action="s3:GetObject")), "Action s3:GetObject is not one of DynamoDB"),
        (document(statement(Sid="x" * 20480)), "it is larger than 20480 bytes: …"),
    ],
)
def test_bad_documents(ddb, simple, text, why):
    arn = ddb.describe_table(TableName=simple)["Table"]["TableArn"]
    invalid(f"Invalid policy document: {why}", ddb.put_resource_policy, ResourceArn=arn, Policy=text)


def test_no_such_table(ddb):
    arn = "arn:aws:dynamodb:us-east-1:000000000000:table/nothing-here"
    fails(
        "ResourceNotFoundException",
        "Requested resource not found: Table: nothing-here not found",
        ddb.put_resource_policy,
        ResourceArn=arn,
        Policy=document(statement()),
    )
