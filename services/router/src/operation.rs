//! The operations of the API, as `X-Amz-Target` names them. Never does anything itself.

use crate::streams::StreamOperation;

/// Version prefix of every target.
const PREFIX: &[u8] = b"DynamoDB_20120810.";
/// Same, of the targets of DynamoDB Streams.
const STREAMS_PREFIX: &[u8] = b"DynamoDBStreams_20120810.";

/// An operation that this endpoint knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    GetItem,
    PutItem,
    UpdateItem,
    DeleteItem,
    BatchGetItem,
    BatchWriteItem,
    Query,
    Scan,
    ExecuteStatement,
    BatchExecuteStatement,
    ExecuteTransaction,
    TransactGetItems,
    TransactWriteItems,
    DescribeEndpoints,
    /// Reads of streams.
    Streams(StreamOperation),
    /// Answered by the admin.
    Control(Control),
}

/// Control-plane operations, which the admin answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    CreateTable,
    DescribeTable,
    ListTables,
    UpdateTable,
    DeleteTable,
    DescribeLimits,
    TagResource,
    UntagResource,
    ListTagsOfResource,
    DescribeTimeToLive,
    UpdateTimeToLive,
    ListStreams,
    DescribeContinuousBackups,
    UpdateContinuousBackups,
    CreateBackup,
    DescribeBackup,
    ListBackups,
    DeleteBackup,
    RestoreTableFromBackup,
    RestoreTableToPointInTime,
    ExportTableToPointInTime,
    DescribeExport,
    ListExports,
    ImportTable,
    DescribeImport,
    ListImports,
    PutResourcePolicy,
    GetResourcePolicy,
    DeleteResourcePolicy,
    CancelBulkOperation,
    CreateGlobalTable,
    DescribeBulkOperation,
    DescribeContributorInsights,
    DescribeGlobalTable,
    DescribeGlobalTableSettings,
    DescribeKinesisStreamingDestination,
    DescribeTableReplicaAutoScaling,
    DisableKinesisStreamingDestination,
    EnableKinesisStreamingDestination,
    ListBulkOperations,
    ListContributorInsights,
    ListGlobalTables,
    SearchVectors,
    StartBulkPutItems,
    UpdateContributorInsights,
    UpdateGlobalTable,
    UpdateGlobalTableSettings,
    UpdateKinesisStreamingDestination,
    UpdateTableReplicaAutoScaling,
}

impl Operation {
    /// Number of different operations (`index` is below it).
    #[cfg(test)]
    pub(crate) const COUNT: usize = 66;

    /// From the `X-Amz-Target` header.
    pub(crate) fn from_target(target: &[u8]) -> Option<Self> {
        if let Some(name) = target.strip_prefix(STREAMS_PREFIX) {
            return Some(match name {
                b"DescribeStream" => Self::Streams(StreamOperation::DescribeStream),
                b"GetShardIterator" => Self::Streams(StreamOperation::GetShardIterator),
                b"GetRecords" => Self::Streams(StreamOperation::GetRecords),
                b"ListStreams" => Self::Control(Control::ListStreams),
                _ => return None,
            });
        }
        let name = target.strip_prefix(PREFIX)?;
        Some(match name {
            b"GetItem" => Self::GetItem,
            b"PutItem" => Self::PutItem,
            b"UpdateItem" => Self::UpdateItem,
            b"DeleteItem" => Self::DeleteItem,
            b"BatchGetItem" => Self::BatchGetItem,
            b"BatchWriteItem" => Self::BatchWriteItem,
            b"Query" => Self::Query,
            b"Scan" => Self::Scan,
            b"TransactGetItems" => Self::TransactGetItems,
            b"TransactWriteItems" => Self::TransactWriteItems,
            b"ExecuteStatement" => Self::ExecuteStatement,
            b"BatchExecuteStatement" => Self::BatchExecuteStatement,
            b"ExecuteTransaction" => Self::ExecuteTransaction,
            b"DescribeEndpoints" => Self::DescribeEndpoints,
            b"CreateTable" => Self::Control(Control::CreateTable),
            b"DescribeTable" => Self::Control(Control::DescribeTable),
            b"ListTables" => Self::Control(Control::ListTables),
            b"UpdateTable" => Self::Control(Control::UpdateTable),
            b"DeleteTable" => Self::Control(Control::DeleteTable),
            b"DescribeLimits" => Self::Control(Control::DescribeLimits),
            b"TagResource" => Self::Control(Control::TagResource),
            b"UntagResource" => Self::Control(Control::UntagResource),
            b"ListTagsOfResource" => Self::Control(Control::ListTagsOfResource),
            b"DescribeTimeToLive" => Self::Control(Control::DescribeTimeToLive),
            b"UpdateTimeToLive" => Self::Control(Control::UpdateTimeToLive),
            b"DescribeContinuousBackups" => Self::Control(Control::DescribeContinuousBackups),
            b"UpdateContinuousBackups" => Self::Control(Control::UpdateContinuousBackups),
            b"CreateBackup" => Self::Control(Control::CreateBackup),
            b"DescribeBackup" => Self::Control(Control::DescribeBackup),
            b"ListBackups" => Self::Control(Control::ListBackups),
            b"DeleteBackup" => Self::Control(Control::DeleteBackup),
            b"RestoreTableFromBackup" => Self::Control(Control::RestoreTableFromBackup),
            b"RestoreTableToPointInTime" => Self::Control(Control::RestoreTableToPointInTime),
            b"ExportTableToPointInTime" => Self::Control(Control::ExportTableToPointInTime),
            b"DescribeExport" => Self::Control(Control::DescribeExport),
            b"ListExports" => Self::Control(Control::ListExports),
            b"ImportTable" => Self::Control(Control::ImportTable),
            b"DescribeImport" => Self::Control(Control::DescribeImport),
            b"ListImports" => Self::Control(Control::ListImports),
            b"PutResourcePolicy" => Self::Control(Control::PutResourcePolicy),
            b"GetResourcePolicy" => Self::Control(Control::GetResourcePolicy),
            b"DeleteResourcePolicy" => Self::Control(Control::DeleteResourcePolicy),
            b"CancelBulkOperation" => Self::Control(Control::CancelBulkOperation),
            b"CreateGlobalTable" => Self::Control(Control::CreateGlobalTable),
            b"DescribeBulkOperation" => Self::Control(Control::DescribeBulkOperation),
            b"DescribeContributorInsights" => Self::Control(Control::DescribeContributorInsights),
            b"DescribeGlobalTable" => Self::Control(Control::DescribeGlobalTable),
            b"DescribeGlobalTableSettings" => Self::Control(Control::DescribeGlobalTableSettings),
            b"DescribeKinesisStreamingDestination" => {
                Self::Control(Control::DescribeKinesisStreamingDestination)
            }
            b"DescribeTableReplicaAutoScaling" => {
                Self::Control(Control::DescribeTableReplicaAutoScaling)
            }
            b"DisableKinesisStreamingDestination" => {
                Self::Control(Control::DisableKinesisStreamingDestination)
            }
            b"EnableKinesisStreamingDestination" => {
                Self::Control(Control::EnableKinesisStreamingDestination)
            }
            b"ListBulkOperations" => Self::Control(Control::ListBulkOperations),
            b"ListContributorInsights" => Self::Control(Control::ListContributorInsights),
            b"ListGlobalTables" => Self::Control(Control::ListGlobalTables),
            b"SearchVectors" => Self::Control(Control::SearchVectors),
            b"StartBulkPutItems" => Self::Control(Control::StartBulkPutItems),
            b"UpdateContributorInsights" => Self::Control(Control::UpdateContributorInsights),
            b"UpdateGlobalTable" => Self::Control(Control::UpdateGlobalTable),
            b"UpdateGlobalTableSettings" => Self::Control(Control::UpdateGlobalTableSettings),
            b"UpdateKinesisStreamingDestination" => {
                Self::Control(Control::UpdateKinesisStreamingDestination)
            }
            b"UpdateTableReplicaAutoScaling" => {
                Self::Control(Control::UpdateTableReplicaAutoScaling)
            }
            _ => return None,
        })
    }

    /// Its name in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GetItem => "GetItem",
            Self::PutItem => "PutItem",
            Self::UpdateItem => "UpdateItem",
            Self::DeleteItem => "DeleteItem",
            Self::BatchGetItem => "BatchGetItem",
            Self::BatchWriteItem => "BatchWriteItem",
            Self::Query => "Query",
            Self::Scan => "Scan",
            Self::TransactGetItems => "TransactGetItems",
            Self::TransactWriteItems => "TransactWriteItems",
            Self::ExecuteStatement => "ExecuteStatement",
            Self::BatchExecuteStatement => "BatchExecuteStatement",
            Self::ExecuteTransaction => "ExecuteTransaction",
            Self::DescribeEndpoints => "DescribeEndpoints",
            Self::Streams(StreamOperation::DescribeStream) => "DescribeStream",
            Self::Streams(StreamOperation::GetShardIterator) => "GetShardIterator",
            Self::Streams(StreamOperation::GetRecords) => "GetRecords",
            Self::Control(control) => match control {
                Control::CreateTable => "CreateTable",
                Control::DescribeTable => "DescribeTable",
                Control::ListTables => "ListTables",
                Control::UpdateTable => "UpdateTable",
                Control::DeleteTable => "DeleteTable",
                Control::DescribeLimits => "DescribeLimits",
                Control::TagResource => "TagResource",
                Control::UntagResource => "UntagResource",
                Control::ListTagsOfResource => "ListTagsOfResource",
                Control::DescribeTimeToLive => "DescribeTimeToLive",
                Control::UpdateTimeToLive => "UpdateTimeToLive",
                Control::ListStreams => "ListStreams",
                Control::DescribeContinuousBackups => "DescribeContinuousBackups",
                Control::UpdateContinuousBackups => "UpdateContinuousBackups",
                Control::CreateBackup => "CreateBackup",
                Control::DescribeBackup => "DescribeBackup",
                Control::ListBackups => "ListBackups",
                Control::DeleteBackup => "DeleteBackup",
                Control::RestoreTableFromBackup => "RestoreTableFromBackup",
                Control::RestoreTableToPointInTime => "RestoreTableToPointInTime",
                Control::ExportTableToPointInTime => "ExportTableToPointInTime",
                Control::DescribeExport => "DescribeExport",
                Control::ListExports => "ListExports",
                Control::ImportTable => "ImportTable",
                Control::DescribeImport => "DescribeImport",
                Control::ListImports => "ListImports",
                Control::PutResourcePolicy => "PutResourcePolicy",
                Control::GetResourcePolicy => "GetResourcePolicy",
                Control::DeleteResourcePolicy => "DeleteResourcePolicy",
                Control::CancelBulkOperation => "CancelBulkOperation",
                Control::CreateGlobalTable => "CreateGlobalTable",
                Control::DescribeBulkOperation => "DescribeBulkOperation",
                Control::DescribeContributorInsights => "DescribeContributorInsights",
                Control::DescribeGlobalTable => "DescribeGlobalTable",
                Control::DescribeGlobalTableSettings => "DescribeGlobalTableSettings",
                Control::DescribeKinesisStreamingDestination => {
                    "DescribeKinesisStreamingDestination"
                }
                Control::DescribeTableReplicaAutoScaling => "DescribeTableReplicaAutoScaling",
                Control::DisableKinesisStreamingDestination => "DisableKinesisStreamingDestination",
                Control::EnableKinesisStreamingDestination => "EnableKinesisStreamingDestination",
                Control::ListBulkOperations => "ListBulkOperations",
                Control::ListContributorInsights => "ListContributorInsights",
                Control::ListGlobalTables => "ListGlobalTables",
                Control::SearchVectors => "SearchVectors",
                Control::StartBulkPutItems => "StartBulkPutItems",
                Control::UpdateContributorInsights => "UpdateContributorInsights",
                Control::UpdateGlobalTable => "UpdateGlobalTable",
                Control::UpdateGlobalTableSettings => "UpdateGlobalTableSettings",
                Control::UpdateKinesisStreamingDestination => "UpdateKinesisStreamingDestination",
                Control::UpdateTableReplicaAutoScaling => "UpdateTableReplicaAutoScaling",
            },
        }
    }

    /// A small number, for arrays of counters.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::GetItem => 0,
            Self::PutItem => 1,
            Self::UpdateItem => 2,
            Self::DeleteItem => 3,
            Self::BatchGetItem => 4,
            Self::BatchWriteItem => 5,
            Self::Query => 6,
            Self::Scan => 7,
            Self::DescribeEndpoints => 8,
            Self::ExecuteStatement => 9,
            Self::BatchExecuteStatement => 10,
            Self::Streams(streams) => 11 + streams as usize,
            Self::TransactGetItems => 14,
            Self::TransactWriteItems => 15,
            Self::ExecuteTransaction => 16,
            Self::Control(control) => 17 + control as usize,
        }
    }

    /// All of them, by index.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        const CONTROL: [Control; 49] = [
            Control::CreateTable,
            Control::DescribeTable,
            Control::ListTables,
            Control::UpdateTable,
            Control::DeleteTable,
            Control::DescribeLimits,
            Control::TagResource,
            Control::UntagResource,
            Control::ListTagsOfResource,
            Control::DescribeTimeToLive,
            Control::UpdateTimeToLive,
            Control::ListStreams,
            Control::DescribeContinuousBackups,
            Control::UpdateContinuousBackups,
            Control::CreateBackup,
            Control::DescribeBackup,
            Control::ListBackups,
            Control::DeleteBackup,
            Control::RestoreTableFromBackup,
            Control::RestoreTableToPointInTime,
            Control::ExportTableToPointInTime,
            Control::DescribeExport,
            Control::ListExports,
            Control::ImportTable,
            Control::DescribeImport,
            Control::ListImports,
            Control::PutResourcePolicy,
            Control::GetResourcePolicy,
            Control::DeleteResourcePolicy,
            Control::CancelBulkOperation,
            Control::CreateGlobalTable,
            Control::DescribeBulkOperation,
            Control::DescribeContributorInsights,
            Control::DescribeGlobalTable,
            Control::DescribeGlobalTableSettings,
            Control::DescribeKinesisStreamingDestination,
            Control::DescribeTableReplicaAutoScaling,
            Control::DisableKinesisStreamingDestination,
            Control::EnableKinesisStreamingDestination,
            Control::ListBulkOperations,
            Control::ListContributorInsights,
            Control::ListGlobalTables,
            Control::SearchVectors,
            Control::StartBulkPutItems,
            Control::UpdateContributorInsights,
            Control::UpdateGlobalTable,
            Control::UpdateGlobalTableSettings,
            Control::UpdateKinesisStreamingDestination,
            Control::UpdateTableReplicaAutoScaling,
        ];
        [
            Self::GetItem,
            Self::PutItem,
            Self::UpdateItem,
            Self::DeleteItem,
            Self::BatchGetItem,
            Self::BatchWriteItem,
            Self::Query,
            Self::Scan,
            Self::DescribeEndpoints,
            Self::ExecuteStatement,
            Self::BatchExecuteStatement,
            Self::Streams(StreamOperation::DescribeStream),
            Self::Streams(StreamOperation::GetShardIterator),
            Self::Streams(StreamOperation::GetRecords),
            Self::TransactGetItems,
            Self::TransactWriteItems,
            Self::ExecuteTransaction,
        ]
        .into_iter()
        .chain(CONTROL.into_iter().map(Self::Control))
    }
}

#[cfg(test)]
mod tests {
    use super::Operation;

    #[test]
    fn every_operation_is_found_by_its_name_and_has_its_own_index() {
        let mut seen = 0;
        for (index, operation) in Operation::all().enumerate() {
            assert_eq!(operation.index(), index);
            let prefix = match operation {
                Operation::Streams(_) | Operation::Control(super::Control::ListStreams) => {
                    "DynamoDBStreams_20120810"
                }
                _ => "DynamoDB_20120810",
            };
            let target = format!("{prefix}.{}", operation.name());
            assert_eq!(Operation::from_target(target.as_bytes()), Some(operation));
            seen += 1;
        }
        assert_eq!(seen, Operation::COUNT);
    }

    #[test]
    fn other_versions_and_names_are_unknown() {
        for target in [
            "",
            "GetItem",
            "DynamoDB_20111205.GetItem",
            "DynamoDB_20120810.getItem",
            "DynamoDB_20120810.",
            "DynamoDB_20120810.GetRecords",
            "DynamoDBStreams_20120810.GetItem",
        ] {
            assert_eq!(Operation::from_target(target.as_bytes()), None, "{target}");
        }
    }
}
