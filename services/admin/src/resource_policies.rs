//! Tables' policies: PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy, and what a table's policy means for control-plane calls.
//! The rules are `model::policy`; the data plane checks them in the routers.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::policy::{Access, Denial, Policy, PolicyKind, Verdict, decide, named_in};
use model::table::{ResourcePolicy, TableStatus};
use model::{ApiError, ErrorKind, TableDefinition};
use protocol::control::ApiCall;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::now_ms;
use crate::backups::table_of_arn;
use crate::constraints::{Constraints, table_of};
use crate::driver::Admin;
use crate::texts;
use crate::update::refuse_busy;

/// `ExpectedRevisionId` that says that there is no policy yet.
const NO_POLICY: &str = "NO_POLICY";
/// What changes or shows a policy: who loses one of these must confirm it.
const POLICY_ACTIONS: [&str; 3] = [
    "dynamodb:PutResourcePolicy",
    "dynamodb:GetResourcePolicy",
    "dynamodb:DeleteResourcePolicy",
];

/// Body of the three operations.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct PolicyBody {
    resource_arn: Option<String>,
    policy: Option<String>,
    expected_revision_id: Option<String>,
    confirm_remove_self_resource_access: Option<bool>,
}

impl PolicyBody {
    /// The table that is meant, once the constraints hold.
    fn table(&self, with_policy: bool) -> Result<&str, ApiError> {
        let mut constraints = Constraints::default();
        match &self.resource_arn {
            None => constraints.present("resourceArn", false),
            Some(arn) => constraints.length("resourceArn", arn, 1, 1283),
        }
        if with_policy {
            constraints.present("policy", self.policy.is_some());
        }
        if let Some(revision) = &self.expected_revision_id {
            constraints.length("expectedRevisionId", revision, 1, 255);
        }
        constraints.check()?;
        let arn = self.resource_arn.as_deref().unwrap_or_default();
        table_of_arn(arn).ok_or_else(|| {
            if arn.contains("/stream/") {
                texts::unsupported("A resource policy of a stream")
            } else {
                texts::bad_arn(arn)
            }
        })
    }

    /// Whether the policy is the one that the caller expects.
    fn check_revision(&self, policy: Option<&ResourcePolicy>) -> Result<(), ApiError> {
        let expected = self.expected_revision_id.as_deref();
        let fits = match (expected, policy) {
            (None, _) | (Some(NO_POLICY), None) => true,
            (Some(expected), Some(policy)) => expected == policy.revision,
            (Some(_), None) => false,
        };
        if fits { Ok(()) } else { Err(self.not_found()) }
    }

    fn not_found(&self) -> ApiError {
        texts::policy_not_found(self.resource_arn.as_deref().unwrap_or_default())
    }
}

/// A policy's document, which must be one that can be kept to.
pub(crate) fn parse(document: &str) -> Result<Policy, ApiError> {
    Policy::parse(PolicyKind::Resource, document)
        .map_err(|error| texts::bad_policy(&error.to_string()))
}

/// The policy with a revision of its own.
pub(crate) fn policy_of(document: String, now_ms: u64) -> Box<ResourcePolicy> {
    Box::new(ResourcePolicy {
        revision: now_ms.to_string(),
        document,
    })
}

impl Admin {
    /// PutResourcePolicy.
    pub(crate) async fn put_resource_policy(
        self: &Arc<Self>,
        body: PolicyBody,
        call: &ApiCall,
    ) -> Result<Value, ApiError> {
        let table = body.table(true)?.to_owned();
        let document = body.policy.clone().unwrap_or_default();
        let policy = parse(&document)?;
        let confirmed = body.confirm_remove_self_resource_access.unwrap_or(false);
        if !confirmed {
            let resource = body.resource_arn.as_deref().unwrap_or_default();
            check_self(call, resource, &policy)?;
        }
        let now_ms = now_ms();
        let changed = self.change_record(&table, |definition| {
            body.check_revision(definition.resource_policy.as_deref())?;
            if let Some(policy) = &definition.resource_policy
                && policy.document == document
            {
                return Ok(());
            }
            refuse_busy(definition)?;
            definition.resource_policy = Some(policy_of(document.clone(), now_ms));
            mark_changed(definition);
            Ok(())
        });
        let definition = self.settled(&table, changed.await?).await?;
        let revision = definition.resource_policy.map(|policy| policy.revision);
        Ok(json!({ "RevisionId": revision }))
    }

    /// DeleteResourcePolicy: that there is none is no failure, unless another was expected.
    pub(crate) async fn delete_resource_policy(
        self: &Arc<Self>,
        body: PolicyBody,
    ) -> Result<Value, ApiError> {
        let table = body.table(false)?.to_owned();
        let mut removed = None;
        let changed = self.change_record(&table, |definition| {
            let policy = definition.resource_policy.as_deref();
            body.check_revision(policy)?;
            removed = policy.map(|policy| policy.revision.clone());
            if removed.is_none() {
                return Ok(());
            }
            refuse_busy(definition)?;
            definition.resource_policy = None;
            mark_changed(definition);
            Ok(())
        });
        let changed = changed.await?;
        self.settled(&table, changed).await?;
        Ok(json!({ "RevisionId": removed.unwrap_or_default() }))
    }

    /// GetResourcePolicy.
    pub(crate) async fn get_resource_policy(&self, body: PolicyBody) -> Result<Value, ApiError> {
        let table = body.table(false)?;
        let stored = self.table(table).await?;
        let definition = stored
            .map(|stored| stored.value.definition)
            .ok_or_else(|| texts::table_not_found(table))?;
        let policy = definition.resource_policy.ok_or_else(|| body.not_found())?;
        Ok(json!({ "Policy": policy.document, "RevisionId": policy.revision }))
    }

    async fn settled(
        self: &Arc<Self>,
        table: &str,
        changed: Option<TableDefinition>,
    ) -> Result<TableDefinition, ApiError> {
        let definition = changed.ok_or_else(|| texts::table_not_found(table))?;
        if definition.status == TableStatus::Updating {
            self.drive(table, self.answer_wait()).await;
        }
        Ok(definition)
    }

    /// Refuses a call that the caller's and the table's policies together do not allow.
    pub(crate) async fn check_access(&self, call: &ApiCall) -> Result<(), ApiError> {
        // A router that knows of no policies, or the operator.
        if call.caller_arn.is_empty() {
            return Ok(());
        }
        let tables = tables_of_call(&call.body);
        if tables.is_empty() {
            return decided(call, "*", Verdict::Silent);
        }
        for table in tables {
            self.check_access_to(call, &table).await?;
        }
        Ok(())
    }

    async fn check_access_to(&self, call: &ApiCall, table: &str) -> Result<(), ApiError> {
        let stored = self.table(table).await?;
        let resource = model::table::table_arn(&self.settings.region, table);
        let policy = stored.and_then(|stored| stored.value.definition.resource_policy);
        let of_table = match policy {
            Some(policy) => {
                let policy = parse(&policy.document)?;
                let action = format!("dynamodb:{}", call.operation);
                Verdict::of(access(call, &action, &resource), [&policy])
            }
            None => Verdict::Silent,
        };
        decided(call, &resource, of_table)
    }
}

fn access<'a>(call: &'a ApiCall, action: &'a str, resource: &'a str) -> Access<'a> {
    Access {
        principal: &call.caller_arn,
        action,
        resource,
    }
}

fn decided(call: &ApiCall, resource: &str, of_table: Verdict) -> Result<(), ApiError> {
    let action = format!("dynamodb:{}", call.operation);
    decide(call.identity, of_table).map_err(|denial: Denial| {
        let message = denial.message(access(call, &action, resource));
        ApiError::new(ErrorKind::AccessDenied, message)
    })
}

/// Refuses a policy that takes from the caller, unconfirmed, what it would need to change it again.
fn check_self(call: &ApiCall, resource: &str, policy: &Policy) -> Result<(), ApiError> {
    for action in POLICY_ACTIONS {
        let of_table = Verdict::of(access(call, action, resource), [policy]);
        if of_table == Verdict::Denied {
            return Err(texts::locks_itself_out(action));
        }
    }
    Ok(())
}

/// The partitions, and through them the routers, learn of it as of any other change.
fn mark_changed(definition: &mut TableDefinition) {
    definition.note_change(false);
}

/// The tables that a call names, by name or within an ARN.
fn tables_of_call(body: &[u8]) -> BTreeSet<String> {
    let named = named_in(body);
    let tables = named.iter().map(|name| table_of(name).split('/').next());
    let tables = tables.flatten().filter(|table| !table.is_empty());
    tables.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_name_tables_in_several_ways() {
        for (body, tables) in [
            (r#"{"TableName": "Music"}"#, &["Music"][..]),
            (
                r#"{"ResourceArn": "arn:aws:dynamodb:us-east-1:000000000000:table/Music"}"#,
                &["Music"],
            ),
            (
                r#"{"BackupArn": "arn:aws:dynamodb:us-east-1:000000000000:table/Music/backup/01-a", "TargetTableName": "Copy"}"#,
                &["Copy", "Music"],
            ),
            (
                r#"{"TableName": "Mine", "ResourceArn": "arn:aws:dynamodb:us-east-1:000000000000:table/Secret"}"#,
                &["Mine", "Secret"],
            ),
            (r#"{"TableName": "Secret", "BackupArn": 5}"#, &["Secret"]),
            ("{}", &[]),
            ("nonsense", &[]),
        ] {
            let found: Vec<_> = tables_of_call(body.as_bytes()).into_iter().collect();
            assert_eq!(found, tables, "{body}");
        }
    }

    #[test]
    fn the_revision_must_be_the_expected_one() {
        let body = |expected: Option<&str>| PolicyBody {
            expected_revision_id: expected.map(str::to_owned),
            ..PolicyBody::default()
        };
        let policy = policy_of(String::new(), 7);
        assert!(body(None).check_revision(None).is_ok());
        assert!(body(None).check_revision(Some(&policy)).is_ok());
        assert!(body(Some("7")).check_revision(Some(&policy)).is_ok());
        assert!(body(Some("8")).check_revision(Some(&policy)).is_err());
        assert!(body(Some("7")).check_revision(None).is_err());
        assert!(body(Some(NO_POLICY)).check_revision(None).is_ok());
        assert!(body(Some(NO_POLICY)).check_revision(Some(&policy)).is_err());
    }

    #[test]
    fn nobody_locks_himself_out_by_mistake() {
        let call = ApiCall {
            caller_arn: "arn:aws:iam::000000000000:user/ann".to_owned(),
            ..ApiCall::default()
        };
        let table = "arn:aws:dynamodb:us-east-1:000000000000:table/Music";
        let deny = |principal: &str| {
            parse(&format!(
                r#"{{"Statement": {{"Effect": "Deny", "Principal": {principal}, "Action": "dynamodb:*", "Resource": "*"}}}}"#
            ))
            .unwrap()
        };
        assert!(check_self(&call, table, &deny("\"*\"")).is_err());
        let bob = deny(r#"{"AWS": "arn:aws:iam::000000000000:user/bob"}"#);
        assert!(check_self(&call, table, &bob).is_ok());
    }
}
