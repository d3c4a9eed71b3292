//! Every message text that the router itself gives out, in one place: Amazon changes wording region by region. Texts that come
//! with the data model or with expressions live in those crates.

use std::fmt::Display;

use model::{ApiError, ErrorKind};

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::validation(text)
}

// ---- constraints on members ----

pub(crate) const NOT_NULL: &str = "Member must not be null";
pub(crate) const NAME_PATTERN: &str =
    "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";

pub(crate) fn length_at_least(min: usize) -> String {
    format!("Member must have length greater than or equal to {min}")
}
pub(crate) fn length_at_most(max: usize) -> String {
    format!("Member must have length less than or equal to {max}")
}
pub(crate) fn value_at_least(min: i64) -> String {
    format!("Member must have value greater than or equal to {min}")
}
pub(crate) fn value_at_most(max: i64) -> String {
    format!("Member must have value less than or equal to {max}")
}
pub(crate) fn one_of(set: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", set.join(", "))
}
pub(crate) fn map_keys() -> String {
    format!(
        "Map keys must satisfy constraint: [{}, {}, {NAME_PATTERN}]",
        length_at_most(255),
        length_at_least(3)
    )
}
/// One broken constraint; `value` as it is shown, `None` = null.
pub(crate) fn constraint(value: Option<&str>, member: &str, rule: &str) -> String {
    match value {
        Some(value) => {
            format!("Value '{value}' at '{member}' failed to satisfy constraint: {rule}")
        }
        None => format!("Value null at '{member}' failed to satisfy constraint: {rule}"),
    }
}
/// One broken constraint on a member whose value is not shown (it would be a whole request).
pub(crate) fn hidden_constraint(member: &str, rule: &str) -> String {
    format!("Value at '{member}' failed to satisfy constraint: {rule}")
}
pub(crate) fn constraints(count: usize, texts: &str) -> ApiError {
    let plural = if count == 1 { "" } else { "s" };
    invalid(format!(
        "{count} validation error{plural} detected: {texts}"
    ))
}

// ---- parameters ----

pub(crate) fn mixed_parameters(legacy: &[String], expressions: &[String]) -> ApiError {
    invalid(format!(
        "Can not use both expression and non-expression parameters in the same request: \
         Non-expression parameters: {{{}}} Expression parameters: {{{}}}",
        legacy.join(", "),
        expressions.join(", ")
    ))
}
pub(crate) fn duplicate_attribute(name: &str) -> ApiError {
    invalid(format!(
        "One or more parameter values were invalid: Duplicate value in attribute name: {name}"
    ))
}
pub(crate) fn return_values() -> ApiError {
    invalid("ReturnValues can only be ALL_OLD or NONE")
}
pub(crate) fn no_such_index(name: &str) -> ApiError {
    invalid(format!(
        "The table does not have the specified index: {name}"
    ))
}
/// In a statement.
pub(crate) fn no_index_of_statement() -> ApiError {
    invalid("The table does not have the specified index")
}

/// Of a global secondary index.
pub(crate) fn no_strong_global_reads() -> ApiError {
    invalid("Consistent reads are not supported on global secondary indexes")
}
/// In a statement.
pub(crate) fn no_strong_global_selects() -> ApiError {
    invalid("Strongly consistent read is not supported on Global Secondary Indexes")
}
/// The index is not ACTIVE yet, or not any more.
pub(crate) fn backfilling_index(name: &str) -> ApiError {
    invalid(format!(
        "Cannot read from backfilling global secondary index: {name}"
    ))
}
pub(crate) fn all_attributes_of_global(name: &str) -> ApiError {
    invalid(format!(
        "One or more parameter values were invalid: Select type ALL_ATTRIBUTES is not supported for global secondary \
         index {name} because its projection type is not ALL"
    ))
}
pub(crate) fn not_projected(name: &str, attributes: &[&str]) -> ApiError {
    invalid(format!(
        "One or more parameter values were invalid: Global secondary index {name} does not project [{}]",
        attributes.join(", ")
    ))
}
/// Of a statement that reads item collections of an index.
pub(crate) fn filter_not_projected(name: &str, attributes: &[&str]) -> ApiError {
    invalid(format!(
        "One or more parameter values were invalid: Secondary index {name} does not project one or more filter attributes: [{}]",
        attributes.join(", ")
    ))
}

// ---- batches ----

pub(crate) fn no_request_items(operation: &str) -> ApiError {
    invalid(format!(
        "The requestItems parameter is required for {operation}"
    ))
}
pub(crate) fn too_many_items(operation: &str) -> ApiError {
    invalid(format!("Too many items requested for the {operation} call"))
}
pub(crate) fn duplicate_keys() -> ApiError {
    invalid("Provided list of item keys contains duplicates")
}
/// A write request with neither a put nor a delete (DynamoDB has the two texts the wrong way round).
pub(crate) fn empty_write_request() -> ApiError {
    invalid(
        "Supplied AttributeValue has more than one datatypes set, \
         must contain exactly one of the supported datatypes",
    )
}
/// A write request with both a put and a delete.
pub(crate) fn double_write_request() -> ApiError {
    invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
}

// ---- transactions ----

pub(crate) fn several_operations_on_one_item() -> ApiError {
    invalid("Transaction request cannot include multiple operations on one item")
}
pub(crate) fn not_one_operation(operations: &str) -> ApiError {
    invalid(format!(
        "TransactItems can only contain one of {operations}"
    ))
}
pub(crate) fn transaction_in_progress() -> ApiError {
    ApiError::new(
        ErrorKind::TransactionInProgress,
        "The transaction with the given request token is already in progress.",
    )
}
pub(crate) fn token_mismatch() -> ApiError {
    ApiError::new(
        ErrorKind::IdempotentParameterMismatch,
        "DynamoDB rejected the request because you retried a request with a different payload \
         but with an idempotent token that was already used.",
    )
}
/// Items of a transaction, together.
pub(crate) fn transaction_too_large() -> ApiError {
    invalid("The aggregate size of the items in the transaction cannot exceed 4 MB")
}

// ---- Query and Scan ----

pub(crate) fn no_key_condition() -> ApiError {
    invalid(
        "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
    )
}
pub(crate) fn select_needs_projection() -> ApiError {
    invalid(
        "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES",
    )
}
pub(crate) fn select_excludes_projection(parameter: &str, select: &str) -> ApiError {
    let what = if select == "COUNT" {
        "only the Count"
    } else {
        select
    };
    invalid(format!(
        "Cannot specify the {parameter} when choosing to get {what}"
    ))
}
pub(crate) fn select_needs_index() -> ApiError {
    invalid("ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName")
}
pub(crate) fn start_key_invalid() -> ApiError {
    invalid("The provided starting key is invalid")
}
pub(crate) fn start_key_invalid_because(cause: &str) -> ApiError {
    invalid(format!("The provided starting key is invalid: {cause}"))
}
pub(crate) fn start_key_outside() -> ApiError {
    invalid("The provided starting key is outside query boundaries based on provided conditions")
}
pub(crate) fn start_key_against_range() -> ApiError {
    invalid("The provided starting key does not match the range key predicate")
}
pub(crate) fn start_key_of_other_collection() -> ApiError {
    invalid("The query can return at most one row and cannot be restarted")
}
pub(crate) fn start_key_of_other_segment(segment: i64, total: i64) -> ApiError {
    start_key_invalid_because(&format!(
        "Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. \
         TotalSegments: {total} Segment: {segment}"
    ))
}
pub(crate) fn total_segments_missing() -> ApiError {
    invalid(
        "The TotalSegments parameter is required but was not present in the request when Segment parameter is present",
    )
}
pub(crate) fn segment_missing() -> ApiError {
    invalid(
        "The Segment parameter is required but was not present in the request when parameter TotalSegments is present",
    )
}
pub(crate) fn segment_too_large(segment: i64, total: i64) -> ApiError {
    invalid(format!(
        "The Segment parameter is zero-based and must be less than parameter TotalSegments: \
         Segment: {segment} is not less than TotalSegments: {total}"
    ))
}

// ---- PartiQL ----

pub(crate) fn bad_next_token() -> ApiError {
    invalid(
        "The provided NextToken is invalid: it belongs to another statement or to other parameters",
    )
}
pub(crate) fn duplicate_item() -> ApiError {
    ApiError::new(
        ErrorKind::DuplicateItem,
        "Duplicate primary key exists in table",
    )
}
pub(crate) fn write_to_index(index: &str) -> ApiError {
    invalid(format!("Unsupported operation on index: {index}"))
}
pub(crate) fn batch_needs_key() -> ApiError {
    invalid(
        "Select statements within BatchExecuteStatement must specify the primary key in the where clause.",
    )
}
pub(crate) fn exists_outside() -> ApiError {
    invalid("EXISTS can only be used in a transaction")
}
pub(crate) fn mixed_batch() -> ApiError {
    invalid("A batch must consist of either all reads or all writes")
}
pub(crate) fn mixed_transaction() -> ApiError {
    invalid("A transaction must consist of either all reads or all writes")
}
pub(crate) fn transaction_needs_key() -> ApiError {
    invalid(
        "Select statements within ExecuteTransaction must specify the primary key in the where clause.",
    )
}
/// `at`: the statement's place.
pub(crate) fn returning_in_transaction(at: usize) -> ApiError {
    invalid(format!(
        "Validation failed in TransactStatements[{at}]: RETURNING clause is not supported in ExecuteTransaction."
    ))
}
pub(crate) fn index_in_transaction(at: usize) -> ApiError {
    invalid(format!(
        "Validation failed in TransactStatements[{at}]: Reads on indices are not supported within transactions."
    ))
}

// ---- authentication ----

pub(crate) fn missing_token() -> ApiError {
    ApiError::new(
        ErrorKind::MissingAuthenticationToken,
        "Request is missing Authentication Token",
    )
}
pub(crate) fn two_authentications() -> ApiError {
    ApiError::new(
        ErrorKind::InvalidSignature,
        "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
    )
}
pub(crate) fn incomplete(text: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::IncompleteSignature, text)
}
pub(crate) fn header_requires(parameter: &str) -> String {
    format!("Authorization header requires '{parameter}' parameter. ")
}
pub(crate) const HEADER_REQUIRES_DATE: &str =
    "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
pub(crate) fn query_requires(parameter: &str) -> String {
    format!("AWS query-string parameters must include '{parameter}'. ")
}
pub(crate) const QUERY_ADVICE: &str = "Re-examine the query-string parameters.";
pub(crate) fn not_key_value(part: &str, header: &str) -> ApiError {
    incomplete(format!(
        "'{part}' not a valid key=value pair (missing equal-sign) in Authorization header: '{header}'."
    ))
}
pub(crate) fn bad_date(date: &str) -> ApiError {
    incomplete(format!(
        "Date must be in ISO-8601 'basic format'. Got '{date}'. See http://en.wikipedia.org/wiki/ISO_8601"
    ))
}
pub(crate) fn signature_expired(date: &str, limit: &str, now: &str, window: &str) -> ApiError {
    ApiError::new(
        ErrorKind::InvalidSignature,
        format!("Signature expired: {date} is now earlier than {limit} ({now} - {window}.)"),
    )
}
pub(crate) fn signature_not_current(date: &str, limit: &str, now: &str, window: &str) -> ApiError {
    ApiError::new(
        ErrorKind::InvalidSignature,
        format!(
            "Signature not yet current: {date} is still later than {limit} ({now} + {window}.)"
        ),
    )
}
pub(crate) fn must_be_signed(header: &str) -> ApiError {
    ApiError::new(
        ErrorKind::InvalidSignature,
        format!("'{header}' must be a 'SignedHeader' in the AWS Authorization."),
    )
}
pub(crate) fn unsupported_algorithm(algorithm: &str) -> ApiError {
    incomplete(format!(
        "Unsupported AWS 'algorithm': '{algorithm}' (only AWS4-HMAC-SHA256 for now). "
    ))
}
pub(crate) fn bad_credential(credential: &str) -> ApiError {
    incomplete(format!(
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
    ))
}
pub(crate) fn scope_region(region: &str) -> String {
    format!("Credential should be scoped to a valid region, not '{region}'. ")
}
pub(crate) const SCOPE_SERVICE: &str =
    "Credential should be scoped to correct service: 'dynamodb'. ";
pub(crate) fn scope_terminator(terminator: &str) -> String {
    format!(
        "Credential should be scoped with a valid terminator: 'aws4_request', not '{terminator}'. "
    )
}
pub(crate) fn scope_date(date: &str, day: &str, time: &str) -> String {
    format!(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
         '{date}' != '{day}', from '{time}'. "
    )
}
pub(crate) fn bad_scope(text: &str) -> ApiError {
    ApiError::new(ErrorKind::InvalidSignature, text.trim_end())
}
pub(crate) fn unknown_client() -> ApiError {
    ApiError::new(
        ErrorKind::UnrecognizedClient,
        "The security token included in the request is invalid.",
    )
}
pub(crate) fn wrong_signature() -> ApiError {
    ApiError::new(
        ErrorKind::InvalidSignature,
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details.",
    )
}

// ---- the front door ----

pub(crate) fn unknown_operation() -> ApiError {
    ApiError::new(ErrorKind::UnknownOperation, "")
}
pub(crate) fn not_json() -> ApiError {
    ApiError::new(ErrorKind::Serialization, "")
}
/// What DynamoDB's front end answers to anything that is not a JSON POST.
pub(crate) const NOT_AN_API_CALL: &str = "<UnknownOperationException/>\n";
pub(crate) fn healthy(host: &str) -> String {
    format!("healthy: {host} ")
}
/// Ours: this router is at one of its own bounds.
pub(crate) fn router_busy(what: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Throttling,
        format!("This endpoint is at its limit of {what}; slow down and retry with backoff"),
    )
}
/// Ours: certainly not done.
pub(crate) fn unavailable() -> ApiError {
    ApiError::new(
        ErrorKind::ServiceUnavailable,
        "The service cannot answer at the moment; nothing was done, retry with backoff",
    )
}
/// Ours: the deadline passed. Whether a write was done is not known.
pub(crate) fn out_of_time() -> ApiError {
    ApiError::new(
        ErrorKind::InternalServerError,
        "The request was not answered in time; a write may or may not have been done",
    )
}
/// Ours: no admin serves the control plane.
pub(crate) fn no_admin() -> ApiError {
    ApiError::new(
        ErrorKind::ServiceUnavailable,
        "No control-plane service (admin) is running; items of existing tables are still served",
    )
}
/// Ours: the admin did not answer before the deadline.
pub(crate) fn admin_late() -> ApiError {
    ApiError::new(
        ErrorKind::InternalServerError,
        "The control-plane service (admin) did not answer in time; the operation may or may not have been done",
    )
}
/// Ours: something that should never happen; details are in the log only.
pub(crate) fn internal(what: impl Display) -> ApiError {
    tracing::error!(%what, "internal error");
    ApiError::new(ErrorKind::InternalServerError, "Internal server error")
}

// ---- streams ----

pub(crate) fn invalid_stream_arn() -> ApiError {
    invalid("Invalid StreamArn")
}
pub(crate) fn stream_not_found(arn: &str) -> ApiError {
    let text = format!("Requested resource not found: Stream: {arn} not found");
    ApiError::new(ErrorKind::ResourceNotFound, text)
}
pub(crate) fn shard_not_found(shard: &str, arn: &str) -> ApiError {
    let text = format!("Requested resource not found: Shard: {shard} in Stream: {arn} not found");
    ApiError::new(ErrorKind::ResourceNotFound, text)
}
pub(crate) fn shard_filter() -> ApiError {
    invalid("ShardFilter: Type and ShardId must be specified together")
}
pub(crate) fn sequence_number_missing(kind: &str) -> ApiError {
    invalid(format!(
        "SequenceNumber must be specified for ShardIteratorType {kind}"
    ))
}
pub(crate) fn sequence_number_not_wanted(kind: &str) -> ApiError {
    invalid(format!(
        "SequenceNumber must not be specified for ShardIteratorType {kind}"
    ))
}
pub(crate) fn sequence_number_of_other_shard() -> ApiError {
    invalid("Invalid SequenceNumber: it is not one of the shard's")
}
pub(crate) fn trimmed() -> ApiError {
    ApiError::new(
        ErrorKind::TrimmedDataAccess,
        "The operation attempted to read past the oldest stream record in a shard.",
    )
}
pub(crate) fn invalid_iterator() -> ApiError {
    invalid("Invalid ShardIterator.")
}
pub(crate) fn expired_iterator(issued_ms: u64, now_ms: u64) -> ApiError {
    ApiError::new(
        ErrorKind::ExpiredIterator,
        format!(
            "Iterator expired. The iterator was created at time {} while right now it is {} which is further in the future than the tolerated delay of 900000 milliseconds.",
            model::stream::label_of(issued_ms),
            model::stream::label_of(now_ms)
        ),
    )
}
