//! The wording of every expression error, in one place (Amazon changes wording region by region). Owns texts only: which error is
//! raised when is decided elsewhere.

use model::{ApiError, AttributeValue};

use crate::path::Path;

/// The request parameter that an expression comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    Condition,
    Filter,
    KeyCondition,
    Projection,
    Update,
}

impl Parameter {
    /// Name in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Condition => "ConditionExpression",
            Self::Filter => "FilterExpression",
            Self::KeyCondition => "KeyConditionExpression",
            Self::Projection => "ProjectionExpression",
            Self::Update => "UpdateExpression",
        }
    }

    /// A ValidationException about this expression.
    #[cold]
    pub(crate) fn invalid(self, problem: impl AsRef<str>) -> ApiError {
        ApiError::validation(format!("Invalid {}: {}", self.name(), problem.as_ref()))
    }
}

// Problems of an expression's text; `Parameter::invalid` puts the parameter in front.

pub(crate) const EMPTY: &str = "The expression can not be empty;";
pub(crate) const REDUNDANT_PARENTHESES: &str = "The expression has redundant parentheses;";

/// Not DynamoDB's: for what the grammar rules out.
pub(crate) const MISUSED_OPERAND: &str = "An operand is used where it is not allowed";

pub(crate) fn too_long(bytes: usize) -> String {
    format!("Expression size has exceeded the maximum allowed size; expression size: {bytes}")
}

pub(crate) fn syntax(token: &str, near: &str) -> String {
    format!("Syntax error; token: \"{token}\", near: \"{near}\"")
}

pub(crate) fn reserved(word: &str) -> String {
    format!("Attribute name is a reserved keyword; reserved keyword: {word}")
}

pub(crate) fn index_out_of_range(index: &str) -> String {
    format!("List index is not within the allowable range; index: [{index}]")
}

pub(crate) fn path_too_deep(levels: usize) -> String {
    format!("The document path has too many nesting levels; nesting levels: {levels}")
}

pub(crate) fn unknown_function(name: &str) -> String {
    format!("Invalid function name; function: {name}")
}

pub(crate) fn not_in_condition(function: &str) -> String {
    format!("The function is not allowed in a condition expression; function: {function}")
}

pub(crate) fn not_in_update(function: &str) -> String {
    format!("The function is not allowed in an update expression; function: {function}")
}

pub(crate) fn misused_function(function: &str) -> String {
    format!(
        "The function is not allowed to be used this way in an expression; function: {function}"
    )
}

pub(crate) fn undefined_name(name: &str) -> String {
    format!(
        "An expression attribute name used in the document path is not defined; attribute name: {name}"
    )
}

pub(crate) fn undefined_value(name: &str) -> String {
    format!(
        "An expression attribute value used in expression is not defined; attribute value: {name}"
    )
}

pub(crate) fn operand_count(operator: &str, count: usize) -> String {
    format!(
        "Incorrect number of operands for operator or function; operator or function: {operator}, number of operands: {count}"
    )
}

pub(crate) fn operand_type(operator: &str, kind: &str) -> String {
    format!(
        "Incorrect operand type for operator or function; operator or function: {operator}, operand type: {kind}"
    )
}

pub(crate) fn action_type(action: &str, value: &AttributeValue) -> String {
    let kind = match value {
        AttributeValue::S(_) => "STRING",
        AttributeValue::N(_) => "NUMBER",
        AttributeValue::B(_) => "BINARY",
        AttributeValue::Bool(_) => "BOOLEAN",
        AttributeValue::Null => "NULL",
        AttributeValue::StringSet(_) => "STRING_SET",
        AttributeValue::NumberSet(_) => "NUMBER_SET",
        AttributeValue::BinarySet(_) => "BINARY_SET",
        AttributeValue::M(_) => "MAP",
        AttributeValue::L(_) => "LIST",
    };
    format!(
        "Incorrect operand type for operator or function; operator: {action}, operand type: {kind}, typeSet: ALLOWED_FOR_{action}_OPERAND"
    )
}

pub(crate) fn path_required(function: &str) -> String {
    format!("Operator or function requires a document path; operator or function: {function}")
}

pub(crate) fn not_distinct(operator: &str, first: &Path) -> String {
    format!(
        "The first operand must be distinct from the remaining operands for this operator or function; operator: {operator}, first operand: {first}"
    )
}

pub(crate) fn unknown_type(name: &str) -> String {
    format!(
        "Invalid attribute type name found; type: {name}, valid types: {{B,NULL,SS,BOOL,L,BS,N,NS,S,M}}"
    )
}

/// What DynamoDB prints for an operand whose type could be any.
pub(crate) const ANY_TYPE: &str = "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}";

pub(crate) fn between_types(lower: &AttributeValue, upper: &AttributeValue) -> String {
    format!(
        "The BETWEEN operator requires same data type for lower and upper bounds; lower bound operand: {}, upper bound operand: {}",
        bound(lower),
        bound(upper)
    )
}

pub(crate) fn between_order(lower: &AttributeValue, upper: &AttributeValue) -> String {
    format!(
        "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: {}, upper bound operand: {}",
        bound(lower),
        bound(upper)
    )
}

fn bound(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) => format!("AttributeValue: {{S:{text}}}"),
        AttributeValue::N(number) => format!("AttributeValue: {{N:{number}}}"),
        AttributeValue::B(bytes) => {
            let length = bytes.len();
            format!(
                "AttributeValue: {{B:java.nio.HeapByteBuffer[pos=0 lim={length} cap={length}]}}"
            )
        }
        other => format!("AttributeValue: {{{}:}}", other.type_name()),
    }
}

pub(crate) fn too_many_in_operands(count: usize) -> String {
    format!("The IN operator is provided with too many operands; number of operands: {count}")
}

pub(crate) fn too_many_operators(count: usize) -> String {
    format!("The expression contains too many operators; operator count: {count}")
}

pub(crate) fn paths_overlap(one: &Path, two: &Path) -> String {
    format!(
        "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: {one}, path two: {two}"
    )
}

pub(crate) fn paths_conflict(one: &Path, two: &Path) -> String {
    format!(
        "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: {one}, path two: {two}"
    )
}

pub(crate) fn repeated_section(section: &str) -> String {
    format!("The \"{section}\" section can only be used once in an update expression;")
}

// Placeholders of the request.

pub(crate) const NAMES_WITHOUT_EXPRESSION: &str =
    "ExpressionAttributeNames can only be specified when using expressions";

pub(crate) fn values_without_expression(parameters: &[&str]) -> String {
    format!(
        "ExpressionAttributeValues can only be specified when using expressions: {} {} null",
        parameters.join(" and "),
        if parameters.len() == 1 { "is" } else { "are" }
    )
}

pub(crate) fn empty_map(map: &str) -> String {
    format!("{map} must not be empty")
}

pub(crate) fn invalid_key(map: &str, key: &str) -> String {
    format!("{map} contains invalid key: Syntax error; key: \"{key}\"")
}

pub(crate) fn key_too_long(map: &str, bytes: usize) -> String {
    format!(
        "{map} contains invalid key: The expression attribute map contains a key that is too long; size of key: {bytes}"
    )
}

pub(crate) fn empty_name(key: &str) -> String {
    format!("ExpressionAttributeNames contains invalid value: Empty attribute name for key {key}")
}

pub(crate) fn unused(map: &str, keys: &[&str]) -> String {
    format!(
        "Value provided in {map} unused in expressions: keys: {{{}}}",
        keys.join(", ")
    )
}

// Key attributes.

pub(crate) fn key_update(attribute: &str) -> String {
    format!(
        "One or more parameter values were invalid: Cannot update attribute {attribute}. This attribute is part of the key"
    )
}

pub(crate) fn key_not_scalar(attribute: &str) -> String {
    format!(
        "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: {attribute}"
    )
}

pub(crate) fn filter_on_key(attribute: &str) -> String {
    format!(
        "Filter Expression can only contain non-primary key attributes: Primary key attribute: {attribute}"
    )
}

// Key conditions.

pub(crate) const KEY_NESTED_OPERATION: &str =
    "KeyConditionExpressions cannot contain nested operations";
pub(crate) const KEY_NESTED_ATTRIBUTE: &str =
    "KeyConditionExpressions cannot have conditions on nested attributes";
pub(crate) const KEY_SEVERAL_NAMES: &str =
    "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition";
pub(crate) const KEY_NO_NAME: &str =
    "Invalid condition in KeyConditionExpression: No key attribute specified";
pub(crate) const KEY_TWICE: &str =
    "KeyConditionExpressions must only contain one condition per key";
pub(crate) const KEY_TERM_COUNT: &str = "Conditions can be of length 1 or 2 only";
pub(crate) const KEY_UNSUPPORTED: &str = "Query key condition not supported";
pub(crate) const KEY_TYPE: &str = "One or more parameter values were invalid: Condition parameter type does not match schema type";

pub(crate) fn key_operator(operator: &str) -> String {
    format!("Invalid operator used in KeyConditionExpression: {operator}")
}

pub(crate) fn key_first_operand(operator: &str) -> String {
    format!(
        "Invalid condition in KeyConditionExpression: {operator} operator must have the key attribute as its first operand"
    )
}

pub(crate) fn key_missing(attribute: &str) -> String {
    format!("Query condition missed key schema element: {attribute}")
}

/// Of an index's sort key with several attributes.
pub(crate) fn key_gap(missing: &[&str], named: &str) -> String {
    format!(
        "RANGE key attributes {} must have equality conditions specified in the query because a condition is present on key attribute {named}",
        missing.join(", ")
    )
}

pub(crate) fn key_operand_type(comparison: &str, kind: &str) -> String {
    format!(
        "One or more parameter values were invalid: {}",
        key_operand_type_text(comparison, kind)
    )
}

fn key_operand_type_text(comparison: &str, kind: &str) -> String {
    format!("ComparisonOperator {comparison} is not valid for {kind} AttributeValue type")
}

pub(crate) fn key_empty(kind: &str, attribute: &str) -> String {
    format!(
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty {kind} value. Key: {attribute}"
    )
}

// Problems found while an update is applied.

pub(crate) const MISSING_ATTRIBUTE: &str =
    "The provided expression refers to an attribute that does not exist in the item";
pub(crate) const WRONG_DATA_TYPE: &str =
    "An operand in the update expression has an incorrect data type";
pub(crate) const UPDATE_TOO_LARGE: &str =
    "Item size to update has exceeded the maximum allowed size";
pub(crate) const INVALID_UPDATE_PATH: &str =
    "The document path provided in the update expression is invalid for update";
pub(crate) const TOO_NESTED: &str = "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit";
pub(crate) const NUMBER_OVERFLOW: &str =
    "Number overflow. Attempting to store a number with magnitude larger than supported range";
pub(crate) const NUMBER_UNDERFLOW: &str =
    "Number underflow. Attempting to store a number with magnitude smaller than supported range";

/// Wording of the errors in legacy parameters.
pub(crate) mod legacy {
    use model::ApiError;

    fn invalid(problem: impl AsRef<str>) -> ApiError {
        ApiError::validation(format!(
            "One or more parameter values were invalid: {}",
            problem.as_ref()
        ))
    }

    pub(crate) fn value_and_list(attribute: &str) -> ApiError {
        invalid(format!(
            "Value and AttributeValueList cannot be used together for Attribute: {attribute}"
        ))
    }
    pub(crate) fn list_without_operator(attribute: &str) -> ApiError {
        invalid(format!(
            "AttributeValueList can only be used with a ComparisonOperator for Attribute: {attribute}"
        ))
    }
    pub(crate) fn exists_and_operator(attribute: &str) -> ApiError {
        invalid(format!(
            "Exists and ComparisonOperator cannot be used together for Attribute: {attribute}"
        ))
    }
    pub(crate) fn operator_without_value(operator: &str, attribute: &str) -> ApiError {
        invalid(format!(
            "Value or AttributeValueList must be used with ComparisonOperator: {operator} for Attribute: {attribute}"
        ))
    }
    pub(crate) fn value_missing(exists: Option<bool>, attribute: &str) -> ApiError {
        let exists = exists.map_or_else(|| "null".to_owned(), |exists| exists.to_string());
        invalid(format!(
            "Value must be provided when Exists is {exists} for Attribute: {attribute}"
        ))
    }
    pub(crate) fn value_of_nothing(attribute: &str) -> ApiError {
        invalid(format!(
            "Value cannot be used when Exists is false for Attribute: {attribute}"
        ))
    }
    pub(crate) fn argument_count(operator: &str) -> ApiError {
        invalid(format!(
            "Invalid number of argument(s) for the {operator} ComparisonOperator"
        ))
    }
    pub(crate) fn argument_type(operator: &str, kind: &str) -> ApiError {
        invalid(super::key_operand_type_text(operator, kind))
    }
    pub(crate) fn argument_types_differ() -> ApiError {
        invalid("AttributeValues inside AttributeValueList must be of same type")
    }
    pub(crate) fn between_order() -> ApiError {
        ApiError::validation(
            "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound",
        )
    }
    pub(crate) fn not_indexable() -> ApiError {
        ApiError::validation("Attempted conditional constraint is not an indexable operation")
    }
    pub(crate) fn operator_without_conditions() -> ApiError {
        invalid("ConditionalOperator cannot be used without Filter or Expected")
    }
    pub(crate) fn operator_for_one() -> ApiError {
        invalid(
            "ConditionalOperator can only be used when Filter or Expected has at least two elements",
        )
    }
    pub(crate) fn only_delete_without_value() -> ApiError {
        invalid("Only DELETE action is allowed when no attribute value is specified")
    }
    pub(crate) fn delete_type(kind: &str) -> ApiError {
        invalid(format!(
            "DELETE action with value is not supported for the type {kind}"
        ))
    }
    pub(crate) fn add_type(kind: &str) -> ApiError {
        invalid(format!("ADD action is not supported for the type {kind}"))
    }
    pub(crate) fn filter_on_key(attribute: &str) -> String {
        format!(
            "QueryFilter can only contain non-primary key attributes: Primary key attribute: {attribute}"
        )
    }
    pub(crate) const TYPE_MISMATCH: &str = "Type mismatch for attribute to update";
}
