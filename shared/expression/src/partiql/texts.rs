//! Wording of the errors in PartiQL statements.

use model::ApiError;

/// The statement has no meaning.
#[cold]
pub(super) fn malformed(problem: impl AsRef<str>) -> ApiError {
    ApiError::validation(format!(
        "Statement wasn't well formed, can't be processed: {}",
        problem.as_ref()
    ))
}

#[cold]
pub(super) fn unexpected(found: &str) -> ApiError {
    if found.is_empty() {
        malformed("Unexpected end of the statement")
    } else {
        malformed(format!("Unexpected token: {found}"))
    }
}

#[cold]
pub(super) fn unsupported(what: &str) -> ApiError {
    ApiError::validation(format!("Unsupported operation: {what}"))
}

#[cold]
pub(super) fn delete_returns(returning: &str) -> ApiError {
    ApiError::validation(format!(
        "Invalid returning clause: RETURNING {returning} *. Only RETURNING ALL OLD * is allowed in DELETE statements."
    ))
}

#[cold]
pub(super) fn alias() -> ApiError {
    ApiError::validation("Aliasing is not supported")
}

#[cold]
pub(super) fn too_many_components() -> ApiError {
    ApiError::validation("A path may contain at most 2 components in the FROM clause")
}

#[cold]
pub(super) fn empty_component() -> ApiError {
    ApiError::validation("Path component cannot be an empty string")
}

/// Ours; that it is so is documented.
#[cold]
pub(super) fn exists_without_condition() -> ApiError {
    ApiError::validation(
        "The SELECT statement within EXISTS must specify the primary key and one other condition in the where clause.",
    )
}

#[cold]
pub(super) fn parameter_count() -> ApiError {
    ApiError::validation("Number of parameters in request and statement don't match.")
}

#[cold]
pub(super) fn key_not_given() -> ApiError {
    ApiError::validation("Where clause does not contain a mandatory equality on all key attributes")
}

#[cold]
pub(super) fn order_without_where() -> ApiError {
    ApiError::validation("Must have WHERE clause in the statement when using ORDER BY clause.")
}

#[cold]
pub(super) fn order_without_partition() -> ApiError {
    ApiError::validation(
        "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY clause.",
    )
}

#[cold]
pub(super) fn order_by_other(name: &str) -> ApiError {
    ApiError::validation(format!(
        "Variable reference {name} in ORDER BY clause must be part of the primary key"
    ))
}

#[cold]
pub(super) fn order_of_no_index() -> ApiError {
    ApiError::validation(
        "ORDER BY clause must name the attributes of the sort key from the first one on, all in the same direction",
    )
}

#[cold]
pub(super) fn too_many_in(limit: usize) -> ApiError {
    ApiError::validation(format!(
        "The IN operator is provided with too many operands; at most {limit} are allowed"
    ))
}

pub(super) const TOO_NESTED: &str = "Nesting is too deep";
