//! The requests about exports and imports: shapes, and validation in DynamoDB's order. Pure. What Evenkeel cannot do yet is refused by name, never
//! ignored.

use std::collections::{BTreeMap, BTreeSet};

use model::ApiError;
use protocol::jobs::Format;
use serde::Deserialize;
use serde_json::{Value, json};

use super::arn::{self, Kind};
use super::request::{Named, Seconds, constrain_arn, named};
use super::texts;
use crate::constraints::Constraints;
use crate::requests::{CreateTable, NewTable, refuse_unsupported};
use crate::texts::unsupported;

/// Bytes of a page's token for imports at least (API model: 112 hexadecimal digits).
const TOKEN_BYTES_MIN: usize = 56;
/// Columns of a CSV file at most.
const COLUMNS_MAX: usize = 255;

const BUCKET_PATTERN: &str = r"^[a-z0-9A-Z]+[\.\-\w]*[a-z0-9A-Z]+$";

fn constrain_bucket(constraints: &mut Constraints, member: &str, bucket: &str) {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let right = bucket.len() >= 2
        && edge(bucket.chars().next())
        && edge(bucket.chars().next_back())
        && bucket.chars().all(inside);
    constraints.matches(member, bucket, BUCKET_PATTERN, right);
    constraints.length(member, bucket, 0, 255);
}

fn constrain_owner(constraints: &mut Constraints, member: &str, owner: &str) {
    let right = owner.len() == 12 && owner.bytes().all(|b| b.is_ascii_digit());
    constraints.matches(member, owner, "[0-9]{12}", right);
}

fn constrain_token(constraints: &mut Constraints, token: Option<&str>) {
    if let Some(token) = token {
        let right = !token.is_empty() && !token.contains('$');
        constraints.matches("clientToken", token, r"^[^\$]+$", right);
    }
}

/// Body of ExportTableToPointInTime.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ExportTable {
    table_arn: Option<String>,
    export_time: Option<Seconds>,
    client_token: Option<String>,
    #[serde(rename = "S3Bucket")]
    bucket: Option<String>,
    #[serde(rename = "S3BucketOwner")]
    owner: Option<String>,
    #[serde(rename = "S3Prefix")]
    prefix: Option<String>,
    export_format: Option<String>,
    export_type: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// A valid ExportTableToPointInTime.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewExport {
    pub(crate) table: String,
    /// None: the latest possible one. Milliseconds since the epoch.
    pub(crate) at_ms: Option<u64>,
    pub(crate) token: Option<String>,
    pub(crate) bucket: String,
    /// Without a slash at its end.
    pub(crate) prefix: String,
    /// As descriptions repeat it.
    pub(crate) asked: Value,
}

impl ExportTable {
    pub(crate) fn validate(self) -> Result<NewExport, ApiError> {
        let mut constraints = Constraints::default();
        match &self.table_arn {
            None => constraints.present("tableArn", false),
            Some(arn) => constraints.length("tableArn", arn, 1, 1024),
        }
        constrain_token(&mut constraints, self.client_token.as_deref());
        match &self.bucket {
            None => constraints.present("s3Bucket", false),
            Some(bucket) => constrain_bucket(&mut constraints, "s3Bucket", bucket),
        }
        if let Some(owner) = &self.owner {
            constrain_owner(&mut constraints, "s3BucketOwner", owner);
        }
        if let Some(prefix) = &self.prefix {
            constraints.length("s3Prefix", prefix, 0, 1024);
        }
        let formats = &["DYNAMODB_JSON", "ION"];
        constraints.one_of("exportFormat", self.export_format.as_deref(), formats);
        let types = &["FULL_EXPORT", "INCREMENTAL_EXPORT"];
        constraints.one_of("exportType", self.export_type.as_deref(), types);
        constraints.check()?;
        let arn = self.table_arn.unwrap_or_default();
        let table = arn::table_of_arn(&arn).ok_or_else(|| texts::bad_table_arn(&arn))?;
        if self.export_format.as_deref() == Some("ION") {
            return Err(unsupported("ExportFormat ION"));
        }
        if self.export_type.as_deref() == Some("INCREMENTAL_EXPORT") {
            return Err(unsupported("ExportType INCREMENTAL_EXPORT"));
        }
        refuse_unsupported(
            &self.rest,
            &[
                "IncrementalExportSpecification",
                "FilterSpecification",
                "S3SseAlgorithm",
                "S3SseKmsKeyId",
            ],
        )?;
        let bucket = self.bucket.unwrap_or_default();
        let prefix = self.prefix.unwrap_or_default();
        let mut asked = json!({
            "S3Bucket": bucket,
            "ExportFormat": "DYNAMODB_JSON",
            "ExportType": "FULL_EXPORT",
        });
        if !prefix.is_empty() {
            asked["S3Prefix"] = json!(prefix);
        }
        if let Some(owner) = self.owner {
            asked["S3BucketOwner"] = json!(owner);
        }
        Ok(NewExport {
            table: table.to_owned(),
            at_ms: self.export_time.map(Seconds::ms),
            token: self.client_token,
            bucket,
            prefix: prefix.trim_end_matches('/').to_owned(),
            asked,
        })
    }
}

/// Body of DescribeExport.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct NamedExport {
    export_arn: Option<String>,
}

impl NamedExport {
    pub(crate) fn validate(self) -> Result<Named, ApiError> {
        let mut constraints = Constraints::default();
        constrain_arn(&mut constraints, "exportArn", self.export_arn.as_deref());
        constraints.check()?;
        let arn = self.export_arn.unwrap_or_default();
        named(arn, Kind::Export, || texts::bad_arn("ExportArn"))
    }
}

/// Body of DescribeImport.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct NamedImport {
    import_arn: Option<String>,
}

impl NamedImport {
    pub(crate) fn validate(self) -> Result<Named, ApiError> {
        let mut constraints = Constraints::default();
        constrain_arn(&mut constraints, "importArn", self.import_arn.as_deref());
        constraints.check()?;
        let arn = self.import_arn.unwrap_or_default();
        named(arn, Kind::Import, || texts::bad_arn("ImportArn"))
    }
}

/// Body of ListExports and ListImports.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ListTransfers {
    table_arn: Option<String>,
    /// Of ListExports.
    max_results: Option<i64>,
    /// Of ListImports.
    page_size: Option<i64>,
    next_token: Option<String>,
}

/// A page of exports or imports, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransferQuery {
    pub(crate) table: Option<String>,
    pub(crate) limit: usize,
    /// Only those with a smaller number.
    pub(crate) before: Option<String>,
}

impl ListTransfers {
    pub(crate) fn validate(self) -> Result<TransferQuery, ApiError> {
        let mut constraints = Constraints::default();
        if let Some(arn) = &self.table_arn {
            constraints.length("tableArn", arn, 1, 1024);
        }
        constraints.between("maxResults", self.max_results, 1, 25);
        constraints.between("pageSize", self.page_size, 1, 25);
        constraints.check()?;
        let table = match &self.table_arn {
            None => None,
            Some(arn) => {
                let table = arn::table_of_arn(arn).ok_or_else(|| texts::bad_table_arn(arn))?;
                Some(table.to_owned())
            }
        };
        let limit = self.max_results.or(self.page_size).unwrap_or(25);
        let before = self
            .next_token
            .map(|token| number_of(&token).ok_or_else(texts::bad_token));
        Ok(TransferQuery {
            table,
            limit: usize::try_from(limit).unwrap_or(25),
            before: before.transpose()?,
        })
    }
}

/// The token of the page behind the export or import with this number.
pub(crate) fn token_of(number: &str) -> String {
    let length = number.len().max(TOKEN_BYTES_MIN).next_multiple_of(8);
    let padding = std::iter::repeat_n(0, length - number.len());
    let bytes = number.bytes().chain(padding);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn number_of(token: &str) -> Option<String> {
    let digits: Vec<u32> = token
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) || digits.len() < 2 * TOKEN_BYTES_MIN {
        return None;
    }
    let bytes = digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8);
    let text: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    let right = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let number = String::from_utf8(text).ok()?;
    (!number.is_empty() && number.bytes().all(|byte| right(&byte))).then_some(number)
}

/// Body of ImportTable.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImportTable {
    client_token: Option<String>,
    #[serde(rename = "S3BucketSource")]
    source: Option<BucketSource>,
    input_format: Option<String>,
    input_format_options: Option<FormatOptions>,
    input_compression_type: Option<String>,
    table_creation_parameters: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BucketSource {
    #[serde(rename = "S3BucketOwner")]
    owner: Option<String>,
    #[serde(rename = "S3Bucket")]
    bucket: Option<String>,
    #[serde(rename = "S3KeyPrefix")]
    prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct FormatOptions {
    csv: Option<Csv>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Csv {
    delimiter: Option<String>,
    header_list: Option<Vec<String>>,
}

/// A valid ImportTable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewImport {
    pub(crate) table: NewTable,
    pub(crate) token: Option<String>,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) format: Format,
    pub(crate) gzip: bool,
    /// As descriptions repeat it.
    pub(crate) asked: Value,
}

impl ImportTable {
    pub(crate) fn validate(self) -> Result<NewImport, ApiError> {
        let parameters = self.table_creation_parameters.clone();
        let table: Option<CreateTable> = match parameters {
            None | Some(Value::Null) => None,
            Some(parameters) => {
                let parsed = serde_json::from_value(parameters);
                Some(parsed.map_err(|error| model::json::serialization_error(&error))?)
            }
        };
        let mut constraints = Constraints::default();
        constrain_token(&mut constraints, self.client_token.as_deref());
        self.constrain_source(&mut constraints);
        constraints.present("inputFormat", self.input_format.is_some());
        let formats = &["DYNAMODB_JSON", "ION", "CSV"];
        constraints.one_of("inputFormat", self.input_format.as_deref(), formats);
        self.constrain_csv(&mut constraints);
        let compressions = &["GZIP", "ZSTD", "NONE"];
        let compression = self.input_compression_type.as_deref();
        constraints.one_of("inputCompressionType", compression, compressions);
        match &table {
            None => constraints.present("tableCreationParameters", false),
            Some(table) => constraints.within("tableCreationParameters", |c| table.constrain(c)),
        }
        constraints.check()?;
        let format = self.format()?;
        let gzip = match compression {
            Some("ZSTD") => return Err(unsupported("InputCompressionType ZSTD")),
            compression => compression == Some("GZIP"),
        };
        let table = table.unwrap_or_default().validate_rest()?;
        if let Format::Csv {
            header: Some(header),
            ..
        } = &format
        {
            let names: BTreeSet<&str> = header.iter().map(String::as_str).collect();
            let keys = std::iter::once(&table.keys.partition).chain(&table.keys.sort);
            let all = keys
                .map(|key| key.name.as_str())
                .all(|key| names.contains(key));
            if names.len() != header.len() || !all {
                return Err(texts::csv_header_lacks_keys());
            }
        }
        let asked = self.asked();
        let source = self.source.unwrap_or_default();
        Ok(NewImport {
            table,
            token: self.client_token,
            bucket: source.bucket.unwrap_or_default(),
            prefix: source.prefix.unwrap_or_default(),
            format,
            gzip,
            asked,
        })
    }

    fn constrain_source(&self, constraints: &mut Constraints) {
        let Some(source) = &self.source else {
            return constraints.present("s3BucketSource", false);
        };
        constraints.within("s3BucketSource", |constraints| {
            if let Some(owner) = &source.owner {
                constrain_owner(constraints, "s3BucketOwner", owner);
            }
            match &source.bucket {
                None => constraints.present("s3Bucket", false),
                Some(bucket) => constrain_bucket(constraints, "s3Bucket", bucket),
            }
            if let Some(prefix) = &source.prefix {
                constraints.length("s3KeyPrefix", prefix, 0, 1024);
            }
        });
    }

    fn constrain_csv(&self, constraints: &mut Constraints) {
        let csv = self
            .input_format_options
            .as_ref()
            .and_then(|o| o.csv.as_ref());
        let Some(csv) = csv else { return };
        constraints.within("inputFormatOptions.csv", |constraints| {
            if let Some(delimiter) = &csv.delimiter {
                let one = delimiter.chars().count() == 1;
                let right = !one || delimiter.contains([',', ';', ':', '|', '\t', ' ']);
                constraints.matches("delimiter", delimiter, "[,;:|\\t ]", right);
                constraints.length("delimiter", delimiter, 1, 1);
            }
            if let Some(header) = &csv.header_list {
                let shown = format!("[{}]", header.join(", "));
                constraints.size("headerList", header.len(), &shown, 1, COLUMNS_MAX);
                let right = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | ',');
                for name in header {
                    let pattern = r"[\x20-\x21\x23-\x2B\x2D-\x7E]*";
                    constraints.matches("headerList", name, pattern, name.chars().all(right));
                    constraints.length("headerList", name, 1, 65_536);
                }
            }
        });
    }

    fn format(&self) -> Result<Format, ApiError> {
        let csv = self
            .input_format_options
            .as_ref()
            .and_then(|o| o.csv.as_ref());
        match (self.input_format.as_deref(), csv) {
            (Some("ION"), _) => Err(unsupported("InputFormat ION")),
            (Some("CSV"), csv) => {
                let delimiter = csv.and_then(|csv| csv.delimiter.as_ref()?.chars().next());
                Ok(Format::Csv {
                    delimiter: delimiter.unwrap_or(','),
                    header: csv.and_then(|csv| csv.header_list.clone()),
                })
            }
            (_, Some(_)) => Err(texts::csv_options_of_other_format()),
            (_, None) => Ok(Format::DynamoDbJson),
        }
    }

    fn asked(&self) -> Value {
        let source = self.source.as_ref();
        let mut shown = json!({});
        for (field, value) in [
            ("S3BucketOwner", source.and_then(|s| s.owner.as_ref())),
            ("S3Bucket", source.and_then(|s| s.bucket.as_ref())),
            ("S3KeyPrefix", source.and_then(|s| s.prefix.as_ref())),
        ] {
            if let Some(value) = value {
                shown[field] = json!(value);
            }
        }
        let compression = self.input_compression_type.as_deref().unwrap_or("NONE");
        let mut asked = json!({
            "S3BucketSource": shown,
            "InputFormat": self.input_format,
            "InputCompressionType": compression,
            "TableCreationParameters": self.table_creation_parameters,
        });
        let csv = self
            .input_format_options
            .as_ref()
            .and_then(|o| o.csv.as_ref());
        if let Some(csv) = csv {
            let options = &mut asked["InputFormatOptions"]["Csv"];
            *options = json!({});
            if let Some(delimiter) = &csv.delimiter {
                options["Delimiter"] = json!(delimiter);
            }
            if let Some(header) = &csv.header_list {
                options["HeaderList"] = json!(header);
            }
        }
        asked
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
