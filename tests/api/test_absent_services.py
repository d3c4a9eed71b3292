"""Operations on what there is none of: reads show nothing, what would make something is refused."""

import pytest

from faults import fails, invalid

pytestmark = pytest.mark.one_kind
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/x"


def test_reads_show_nothing(ddb, simple):
    assert ddb.list_global_tables()["GlobalTables"] == []
    assert ddb.list_contributor_insights()["ContributorInsightsSummaries"] == []
    shown = ddb.describe_contributor_insights(TableName=simple)
    assert (shown["TableName"], shown["ContributorInsightsStatus"]) == (simple, "DISABLED")
    assert ddb.describe_kinesis_streaming_destination(TableName=simple)["KinesisDataStreamDestinations"] == []
    shown = ddb.describe_table_replica_auto_scaling(TableName=simple)["TableAutoScalingDescription"]
    assert (shown["TableName"], shown["TableStatus"], shown["Replicas"]) == (simple, "ACTIVE", [])


def test_there_is_no_such_thing(ddb, simple):
    fails(
        "GlobalTableNotFoundException",
        "Global table not found: Global table with name: 'nowhere' does not exist.",
        ddb.describe_global_table,
        GlobalTableName="nowhere",
    )
    fails(
        "ResourceNotFoundException",
        "Requested resource not found: Table: nowhere not found",
        ddb.describe_contributor_insights,
        TableName="nowhere",
    )
    invalid(
        "Table is not in a valid state to DISABLE Kinesis Streaming Destination: KinesisStreamingDestination must be ACTIVE to "
        "perform DISABLE operation.",
        ddb.disable_kinesis_streaming_destination,
        TableName=simple,
        StreamArn=STREAM,
    )


def test_nothing_is_made(ddb, simple):
    invalid(
        "One or more parameter values were invalid: EnableKinesisStreamingDestination is not supported yet by Evenkeel",
        ddb.enable_kinesis_streaming_destination,
        TableName=simple,
        StreamArn=STREAM,
    )
    invalid(
        "One or more parameter values were invalid: CreateGlobalTable is not supported yet by Evenkeel",
        ddb.create_global_table,
        GlobalTableName="somewhere",
        ReplicationGroup=[{"RegionName": "us-east-1"}],
    )
    done = ddb.update_contributor_insights(TableName=simple, ContributorInsightsAction="DISABLE")
    assert done["ContributorInsightsStatus"] == "DISABLED"
