//! Every message text of the control plane, in one place: Amazon changes wording region by region.

use model::capacity::Direction;
use model::{ApiError, ErrorKind};

const INVALID: &str = "One or more parameter values were invalid: ";
const HIGHER_LIMITS: &str = "Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits.";

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

// ---- streams and time to live ----

pub(crate) fn stream_without_view() -> ApiError {
    invalid("StreamSpecification: StreamViewType must be specified when StreamEnabled is true")
}
pub(crate) fn view_without_stream() -> ApiError {
    invalid("StreamSpecification: StreamViewType must not be specified when StreamEnabled is false")
}
pub(crate) fn stream_is_enabled(table: &str) -> ApiError {
    ApiError::validation(format!(
        "Table already has an enabled stream: TableName: {table}"
    ))
}
pub(crate) fn stream_is_disabled(table: &str) -> ApiError {
    ApiError::validation(format!(
        "Table has no stream to disable: TableName: {table}"
    ))
}
pub(crate) fn ttl_is_enabled() -> ApiError {
    ApiError::validation("TimeToLive is already enabled")
}
pub(crate) fn ttl_is_disabled() -> ApiError {
    ApiError::validation("TimeToLive is already disabled")
}
pub(crate) fn ttl_on_other_attribute(current: &str) -> ApiError {
    ApiError::validation(format!(
        "TimeToLive is active on a different AttributeName: current AttributeName is {current}"
    ))
}
pub(crate) fn ttl_changed_lately() -> ApiError {
    ApiError::validation("Time to live has been modified multiple times within a fixed interval")
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

// ---- indexes ----

pub(crate) fn no_indexes(parameter: &str) -> ApiError {
    invalid(format!("List of {parameter} is empty"))
}
pub(crate) fn local_without_table_range() -> ApiError {
    invalid(
        "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex",
    )
}
pub(crate) fn local_without_range(index: &str) -> ApiError {
    invalid(format!(
        "Index KeySchema does not have a range key for index: {index}"
    ))
}
pub(crate) fn other_hash_key(index: &str, hash: &str, table: &str) -> ApiError {
    invalid(format!(
        "Index KeySchema does not have the same leading hash key as table KeySchema for index: {index}. index hash key: \
         {hash}, table hash key: {table}"
    ))
}
pub(crate) fn duplicate_index(index: &str) -> ApiError {
    invalid(format!("Duplicate index name: {index}"))
}
pub(crate) fn too_many_local(max: usize) -> ApiError {
    invalid(format!(
        "Number of LocalSecondaryIndexes exceeds per-table limit of {max}"
    ))
}
pub(crate) fn too_many_global(max: usize) -> ApiError {
    invalid(format!(
        "GlobalSecondaryIndex count exceeds the per-table limit of {max}"
    ))
}
pub(crate) fn too_many_index_keys() -> ApiError {
    invalid("An index key can have at most 4 partition key attributes and 4 sort key attributes")
}
pub(crate) fn unknown_projection() -> ApiError {
    invalid("Unknown ProjectionType: null")
}
pub(crate) fn include_without_attributes() -> ApiError {
    invalid("ProjectionType is INCLUDE, but NonKeyAttributes is not specified")
}
pub(crate) fn needless_attributes(projection: &str) -> ApiError {
    invalid(format!(
        "ProjectionType is {projection}, but NonKeyAttributes is specified"
    ))
}
pub(crate) fn duplicate_non_keys() -> ApiError {
    invalid("Duplicate attribute name in NonKeyAttributes")
}
pub(crate) fn too_many_non_keys(max: usize) -> ApiError {
    invalid(format!(
        "Number of NonKeyAttributes of all indexes exceeds the per-table limit of {max}"
    ))
}
pub(crate) fn index_throughput_with_on_demand(index: &str) -> ApiError {
    invalid(format!(
        "ProvisionedThroughput should not be specified for index: {index} when BillingMode is PAY_PER_REQUEST"
    ))
}
pub(crate) fn index_without_throughput(index: &str) -> ApiError {
    invalid(format!(
        "ProvisionedThroughput must be specified for index: {index}"
    ))
}
pub(crate) fn index_update_not_one() -> ApiError {
    invalid(
        "One of GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Create or GlobalSecondaryIndexUpdate.Delete \
         must be specified",
    )
}
pub(crate) fn index_updated_twice(index: &str) -> ApiError {
    invalid(format!(
        "Only one global secondary index update per index is allowed simultaneously. Index: {index}"
    ))
}
pub(crate) fn attribute_of_other_type(name: &str) -> ApiError {
    invalid(format!(
        "Attribute {name} is a key of the table or of an index already, with another type"
    ))
}
pub(crate) fn one_online_index() -> ApiError {
    limit_exceeded(
        "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table".to_owned(),
    )
}
pub(crate) fn too_many_online(max: usize) -> ApiError {
    limit_exceeded(format!(
        "Subscriber limit exceeded: Number of GlobalSecondaryIndexes exceeds per-table limit of {max}"
    ))
}
pub(crate) fn index_exists(index: &str) -> ApiError {
    invalid(format!(
        "Attempting to create an index which already exists: {index}"
    ))
}
pub(crate) fn unused_definitions(definitions: &[&str], used: &[&str]) -> ApiError {
    invalid(format!(
        "Some AttributeDefinitions are not used. AttributeDefinitions: [{}], keys used: [{}]",
        definitions.join(", "),
        used.join(", ")
    ))
}

// ---- throughput ----

pub(crate) fn throughput_with_on_demand() -> ApiError {
    invalid(
        "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
    )
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
         {HIGHER_LIMITS}"
    ))
}
/// Of CreateTable.
pub(crate) fn maximum_of_new_provisioned(member: &str) -> ApiError {
    invalid(format!(
        "{member} for OnDemandThroughput cannot be specified when table BillingMode is PROVISIONED."
    ))
}
/// Of UpdateTable; the service words it differently.
pub(crate) fn maximum_of_provisioned(member: &str) -> ApiError {
    invalid(format!(
        "{member} for OnDemandThroughput cannot be specified when the table BillingMode is PROVISIONED"
    ))
}
pub(crate) fn maximum_out_of_range(member: &str) -> ApiError {
    invalid(format!(
        "Requested {member} for OnDemandThroughput for table is outside of valid range"
    ))
}
pub(crate) fn warm_below_initial(member: &str) -> ApiError {
    invalid(format!(
        "Requested {member} for WarmThroughput for table is lower than initial throughput for OnDemand. See: \
         https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html#on-demand-capacity-mode-initial"
    ))
}
/// `provisioned` is `ReadCapacityUnits` or `WriteCapacityUnits`.
pub(crate) fn warm_below_provisioned(member: &str, provisioned: &str) -> ApiError {
    invalid(format!(
        "Requested {member} for WarmThroughput for table is lower than {provisioned} of ProvisionedThroughput"
    ))
}
pub(crate) fn warm_lowered(member: &str) -> ApiError {
    invalid(format!(
        "Requested {member} for WarmThroughput for table is lower than current WarmThroughput, decreasing WarmThroughput is \
         not supported"
    ))
}
/// Times are written out.
pub(crate) fn too_many_decreases(today: u64, last: &str, next: &str) -> ApiError {
    limit_exceeded(format!(
        "Subscriber limit exceeded: Provisioned throughput decreases are limited within a given UTC day. After the first 4 \
         decreases, each subsequent decrease in the same UTC day can be performed at most once every 3600 seconds. Number of \
         decreases today: {today}. Last decrease at {last}. Next decrease can be made at {next}"
    ))
}
/// Times are written out.
pub(crate) fn too_many_switches(max: usize, last: &str, next: &str) -> ApiError {
    limit_exceeded(format!(
        "Subscriber limit exceeded: Update to PayPerRequest mode are limited to {max} times in 1 day(s). Last update at \
         {last}. Next update can be made at {next}"
    ))
}

// ---- quotas ----

fn limit_exceeded(text: String) -> ApiError {
    ApiError::new(ErrorKind::LimitExceeded, text)
}
pub(crate) fn too_many_tables(limit: usize) -> ApiError {
    limit_exceeded(format!(
        "Subscriber limit exceeded: There is a limit of {limit} tables per subscriber"
    ))
}
pub(crate) fn above_table_quota(
    direction: Direction,
    units: u64,
    region: &str,
    quota: u64,
) -> ApiError {
    let word = direction.name();
    limit_exceeded(format!(
        "The requested {word}CapacityUnits, {units}, is above the per table maximum for the account in {region}. Per table \
         maximum: {quota}. {HIGHER_LIMITS}"
    ))
}
pub(crate) fn above_account_quota(
    direction: Direction,
    region: &str,
    reserved: u64,
    quota: u64,
    units: u64,
) -> ApiError {
    let word = direction.name();
    limit_exceeded(format!(
        "This request would have caused the {word}CapacityUnits limit to be exceeded for the account in {region}. Current \
         {word}CapacityUnits reserved by the account: {reserved}. Limit: {quota}. Requested: {units}. {HIGHER_LIMITS}"
    ))
}
pub(crate) fn maximum_above_quota(direction: Direction, region: &str) -> ApiError {
    let word = direction.name();
    limit_exceeded(format!(
        "Subscriber limit exceeded: Requested Max{word}RequestUnits for OnDemandThroughput for table exceeds \
         TableMax{word}CapacityUnits of the account in region {region}"
    ))
}
pub(crate) fn warm_above_quota(direction: Direction, region: &str) -> ApiError {
    let word = direction.name();
    limit_exceeded(format!(
        "Subscriber limit exceeded: Requested {word}UnitsPerSecond for WarmThroughput for table exceeds \
         TableMax{word}CapacityUnits of the account in region {region}"
    ))
}

// ---- changes ----

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

// ---- what there is none of ----

pub(crate) fn global_table_not_found(name: &str) -> ApiError {
    ApiError::new(
        ErrorKind::GlobalTableNotFound,
        format!("Global table not found: Global table with name: '{name}' does not exist."),
    )
}
pub(crate) fn no_kinesis_destination(doing: &str) -> ApiError {
    ApiError::validation(format!(
        "Table is not in a valid state to {doing} Kinesis Streaming Destination: KinesisStreamingDestination must be ACTIVE to perform {doing} operation."
    ))
}

// ---- policies ----

pub(crate) fn policy_not_found(arn: &str) -> ApiError {
    ApiError::new(
        ErrorKind::PolicyNotFound,
        format!("Resource-based policy not found for the provided ResourceArn: {arn}"),
    )
}
pub(crate) fn bad_policy(why: &str) -> ApiError {
    ApiError::validation(format!("Invalid policy document: {why}"))
}
pub(crate) fn locks_itself_out(action: &str) -> ApiError {
    ApiError::validation(format!(
        "The policy denies {action} to you, who attach it: set ConfirmRemoveSelfResourceAccess if that is meant"
    ))
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
