//! Every message text of the control plane, in one place: Amazon changes wording region by region.

use model::{ApiError, ErrorKind};

const INVALID: &str = "One or more parameter values were invalid: ";

fn invalid(text: impl AsRef<str>) -> ApiError {
    ApiError::validation(format!("{INVALID}{}", text.as_ref()))
}

// ---- tables ----

pub(crate) fn table_not_found(name: &str) -> ApiError {
    let text = format!("Requested resource not found: Table: {name} not found");
    ApiError::new(ErrorKind::ResourceNotFound, text)
}
pub(crate) fn arn_not_found(arn: &str) -> ApiError {
    let text = format!("Requested resource not found: ResourcArn: {arn} not found");
    ApiError::new(ErrorKind::ResourceNotFound, text)
}
pub(crate) fn table_exists(name: &str) -> ApiError {
    ApiError::new(
        ErrorKind::ResourceInUse,
        format!("Table already exists: {name}"),
    )
}
/// `doing` is `created`, `updated` or `deleted`.
pub(crate) fn table_busy(name: &str, doing: &str) -> ApiError {
    let text = format!(
        "Attempt to change a resource which is still in use: Table is being {doing}: {name}"
    );
    ApiError::new(ErrorKind::ResourceInUse, text)
}
pub(crate) fn deletion_protected() -> ApiError {
    ApiError::validation(
        "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.",
    )
}
/// Ours.
pub(crate) fn reserved_name() -> ApiError {
    invalid("table names that start with 'evenkeel.' are reserved for the mesh's own tables")
}
/// Ours: nothing of the parameter is ignored in silence.
pub(crate) fn unsupported(parameter: &str) -> ApiError {
    invalid(format!("{parameter} is not supported yet by Evenkeel"))
}

// ---- keys ----

pub(crate) fn undefined_keys(keys: &[&str], definitions: &[&str]) -> ApiError {
    invalid(format!(
        "Some index key attributes are not defined in AttributeDefinitions. Keys: [{}], AttributeDefinitions: [{}]",
        keys.join(", "),
        definitions.join(", ")
    ))
}
pub(crate) fn first_not_hash() -> ApiError {
    ApiError::validation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
}
pub(crate) fn second_not_range() -> ApiError {
    ApiError::validation("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type")
}
pub(crate) fn same_key_names() -> ApiError {
    ApiError::validation(
        "Both the Hash Key and the Range Key element in the KeySchema have the same name",
    )
}
pub(crate) fn key_count() -> ApiError {
    invalid(
        "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions",
    )
}

// ---- throughput ----

pub(crate) fn throughput_with_on_demand() -> ApiError {
    invalid(
        "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
    )
}
pub(crate) fn no_throughput() -> ApiError {
    ApiError::validation("No provisioned throughput specified for the table")
}
pub(crate) fn provisioned_without_throughput() -> ApiError {
    invalid(
        "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
    )
}
pub(crate) fn units_out_of_bounds(value: i64, what: &str) -> ApiError {
    ApiError::validation(format!("Given value {value} for {what} is out of bounds"))
}
pub(crate) fn same_throughput(reads: u64, writes: u64) -> ApiError {
    ApiError::validation(format!(
        "The provisioned throughput for the table will not change. The requested value equals the current value. \
         Current ReadCapacityUnits provisioned for the table: {reads}. Requested ReadCapacityUnits: {reads}. \
         Current WriteCapacityUnits provisioned for the table: {writes}. Requested WriteCapacityUnits: {writes}. \
         Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits."
    ))
}
pub(crate) fn nothing_to_update() -> ApiError {
    ApiError::validation(
        "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or \
         SSESpecification or ReplicaUpdates is required",
    )
}

// ---- tags ----

pub(crate) fn bad_arn(arn: &str) -> ApiError {
    ApiError::validation(format!(
        "Invalid TableArn: Invalid ResourceArn provided as input {arn}"
    ))
}
pub(crate) fn no_tags() -> ApiError {
    ApiError::validation("Atleast one Tag needs to be provided as Input.")
}
pub(crate) fn no_tag_keys() -> ApiError {
    ApiError::validation("Atleast one Tag Key needs to be provided as Input.")
}
pub(crate) fn too_many_tags() -> ApiError {
    ApiError::validation("Number of tags exceeds the current limit of 50 tags per resource")
}
pub(crate) fn duplicate_tags() -> ApiError {
    invalid("Duplicate tag keys are not allowed")
}
pub(crate) fn reserved_tag() -> ApiError {
    invalid("Tag keys that start with 'aws:' are reserved for system use")
}

// ---- the mesh ----

pub(crate) fn unknown_operation() -> ApiError {
    ApiError::new(ErrorKind::UnknownOperation, "")
}
pub(crate) fn too_many_calls() -> ApiError {
    let text = "The request was not executed: too many control-plane requests are under way.";
    ApiError::new(ErrorKind::Throttling, text)
}
pub(crate) fn raced() -> ApiError {
    let text = "The request was not executed: other requests kept changing the same table. Please try again.";
    ApiError::new(ErrorKind::ServiceUnavailable, text)
}
