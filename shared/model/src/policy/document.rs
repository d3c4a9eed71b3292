//! Policy documents: their JSON, and what of it is understood. What is not understood is refused, never ignored.

use std::fmt;

use serde_json::{Map, Value};

use super::{ACCOUNT, POLICY_BYTES_MAX};

/// Versions of the policy language.
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];
/// Most statements of a document.
const STATEMENTS_MAX: usize = 512;

/// What a policy is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// To a caller: it names no principal.
    Identity,
    /// To a table: each statement names its principals.
    Resource,
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// Why a document is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError(pub String);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PolicyError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) effect: Effect,
    pub(super) actions: OneOf<String>,
    /// None in a resource policy that names none: the table itself.
    pub(super) resources: Option<OneOf<String>>,
    /// None in identity policies.
    pub(super) principals: Option<OneOf<Subject>>,
}

/// `Action` or `NotAction`, and so on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OneOf<T> {
    pub(super) values: Vec<T>,
    pub(super) negated: bool,
}

impl<T> OneOf<T> {
    pub(super) fn matches(&self, is: impl Fn(&T) -> bool) -> bool {
        self.values.iter().any(is) != self.negated
    }
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    Everybody,
    /// The only account that there is.
    Account,
    /// A user.
    Arn(String),
}

impl Policy {
    /// Reads a document.
    pub fn parse(kind: PolicyKind, text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return refuse(format!(
                "it is larger than {POLICY_BYTES_MAX} bytes: {}",
                text.len()
            ));
        }
        let document: Value = serde_json::from_str(text)
            .map_err(|error| PolicyError(format!("it is not JSON: {error}")))?;
        Self::of(kind, &document)
    }

    /// Same, of JSON.
    pub fn of(kind: PolicyKind, document: &Value) -> Result<Self, PolicyError> {
        let Value::Object(document) = document else {
            return refuse("it is not a JSON object");
        };
        known(document, &["Version", "Id", "Statement"])?;
        match document.get("Version").map(Value::as_str) {
            None => {}
            Some(Some(version)) if VERSIONS.contains(&version) => {}
            Some(_) => return refuse("Version must be 2012-10-17"),
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().collect(),
            Some(statement) => vec![statement],
            None => Vec::new(),
        };
        if statements.is_empty() {
            return refuse("Statement is missing");
        }
        if statements.len() > STATEMENTS_MAX {
            return refuse("there are too many statements");
        }
        let statements = statements
            .into_iter()
            .map(|statement| Statement::of(kind, statement))
            .collect::<Result<_, _>>()?;
        Ok(Self { statements })
    }
}

impl Statement {
    fn of(kind: PolicyKind, statement: &Value) -> Result<Self, PolicyError> {
        let Value::Object(statement) = statement else {
            return refuse("a statement is not a JSON object");
        };
        if statement.contains_key("Condition") {
            return refuse("Condition is not supported by Evenkeel");
        }
        known(
            statement,
            &[
                "Sid",
                "Effect",
                "Principal",
                "NotPrincipal",
                "Action",
                "NotAction",
                "Resource",
                "NotResource",
            ],
        )?;
        let effect = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return refuse("Effect must be Allow or Deny"),
        };
        let Some(actions) = one_of(statement, "Action", "NotAction", texts_of)? else {
            return refuse("Action or NotAction is missing");
        };
        if let Some(other) = actions.values.iter().find(|action| !is_action(action)) {
            return refuse(format!("Action {other} is not one of DynamoDB"));
        }
        let resources = one_of(statement, "Resource", "NotResource", texts_of)?;
        if resources.is_none() {
            return refuse("Resource or NotResource is missing");
        }
        let principals = one_of(statement, "Principal", "NotPrincipal", subjects_of)?;
        match (kind, &principals) {
            (PolicyKind::Identity, Some(_)) => {
                return refuse("Principal has no place in a caller's policy");
            }
            (PolicyKind::Resource, None) => {
                return refuse("Principal or NotPrincipal is missing");
            }
            _ => {}
        }
        Ok(Self {
            effect,
            actions,
            resources,
            principals,
        })
    }
}

fn refuse<T>(problem: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError(problem.into()))
}

/// Refuses members that mean nothing.
fn known(object: &Map<String, Value>, names: &[&str]) -> Result<(), PolicyError> {
    match object.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => refuse(format!("{name} is unknown")),
        None => Ok(()),
    }
}

fn one_of<T>(
    statement: &Map<String, Value>,
    name: &str,
    negated_name: &str,
    values: impl Fn(&str, &Value) -> Result<Vec<T>, PolicyError>,
) -> Result<Option<OneOf<T>>, PolicyError> {
    match (statement.get(name), statement.get(negated_name)) {
        (Some(_), Some(_)) => refuse(format!("{name} and {negated_name} exclude each other")),
        (Some(value), None) => Ok(Some(OneOf {
            values: values(name, value)?,
            negated: false,
        })),
        (None, Some(value)) => Ok(Some(OneOf {
            values: values(negated_name, value)?,
            negated: true,
        })),
        (None, None) => Ok(None),
    }
}

/// A text, or a list of some.
fn texts_of(name: &str, value: &Value) -> Result<Vec<String>, PolicyError> {
    let texts = match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|element| element.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    };
    match texts {
        Some(texts) => Ok(texts),
        None => refuse(format!("{name} must be a text or a list of texts")),
    }
}

/// `"*"` or `{"AWS": …}`.
fn subjects_of(name: &str, value: &Value) -> Result<Vec<Subject>, PolicyError> {
    if value.as_str() == Some("*") {
        return Ok(vec![Subject::Everybody]);
    }
    let Some(object) = value.as_object() else {
        return refuse(format!("{name} must be \"*\" or an object"));
    };
    let (Some(aws), 1) = (object.get("AWS"), object.len()) else {
        return refuse(format!("{name} takes AWS principals only"));
    };
    let root = format!("arn:aws:iam::{ACCOUNT}:root");
    let users = format!("arn:aws:iam::{ACCOUNT}:user/");
    texts_of(name, aws)?
        .into_iter()
        .map(|text| match text {
            text if text == "*" => Ok(Subject::Everybody),
            text if text == ACCOUNT || text == root => Ok(Subject::Account),
            text if text.starts_with(&users) => Ok(Subject::Arn(text)),
            text => refuse(format!("{name} {text} is not one of account {ACCOUNT}")),
        })
        .collect()
}

fn is_action(action: &str) -> bool {
    action == "*"
        || action
            .get(..9)
            .is_some_and(|service| service.eq_ignore_ascii_case("dynamodb:"))
}
