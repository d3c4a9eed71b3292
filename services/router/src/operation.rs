//! The operations of the API, as `X-Amz-Target` names them. Never does anything itself.

/// Version prefix of every target.
const PREFIX: &[u8] = b"DynamoDB_20120810.";

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
    TransactGetItems,
    TransactWriteItems,
    DescribeEndpoints,
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
}

impl Operation {
    /// Number of different operations (`index` is below it).
    #[cfg(test)]
    pub(crate) const COUNT: usize = 35;

    /// From the `X-Amz-Target` header.
    pub(crate) fn from_target(target: &[u8]) -> Option<Self> {
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
            Self::DescribeEndpoints => "DescribeEndpoints",
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
            Self::TransactGetItems => 8,
            Self::TransactWriteItems => 9,
            Self::DescribeEndpoints => 10,
            Self::Control(control) => 11 + control as usize,
        }
    }

    /// All of them, by index.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        const CONTROL: [Control; 24] = [
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
            Self::TransactGetItems,
            Self::TransactWriteItems,
            Self::DescribeEndpoints,
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
            let target = format!("DynamoDB_20120810.{}", operation.name());
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
        ] {
            assert_eq!(Operation::from_target(target.as_bytes()), None, "{target}");
        }
    }
}
