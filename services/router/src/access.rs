//! Who may do what: the callers' policies (from a file), the tables' policies (from their definitions), and the check of a request
//! against both. Owns no rules: those are `model::policy`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use model::policy::{ACCOUNT, Access, Denial, Policy, PolicyKind, Verdict, decide, named_in};
use model::table::{ResourcePolicy, table_arn};
use model::{ApiError, ErrorKind, TableDefinition};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;

use crate::constraints::table_of;
use crate::settings::RouterSettings;

/// Most tables' policies that are kept parsed.
const PARSED_MAX: usize = 4096;

/// The policies.
#[derive(Default)]
pub(crate) struct Policies {
    region: String,
    /// By access key id. None: callers have no policies, and may do everything that a table's does not forbid.
    callers: Option<BTreeMap<String, Caller>>,
    /// Tables' policies by table and revision.
    parsed: RwLock<HashMap<(u64, String), Arc<Policy>>>,
}

struct Caller {
    arn: String,
    policies: Vec<Policy>,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    callers: BTreeMap<String, CallerOfFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerOfFile {
    /// Name of the user; the access key id if there is none.
    name: Option<String>,
    policies: Vec<Value>,
}

impl Policies {
    /// From the file that the settings name.
    pub(crate) fn load(settings: &RouterSettings) -> anyhow::Result<Self> {
        let region = settings.arn_region().to_owned();
        let path = &settings.access_policies_file;
        let callers = if path.is_empty() {
            None
        } else {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read access_policies_file {path}"))?;
            Some(callers(&text).with_context(|| format!("access_policies_file {path}"))?)
        };
        Ok(Self {
            region,
            callers,
            parsed: RwLock::default(),
        })
    }

    /// ARN of the caller with an access key.
    pub(crate) fn caller_arn(&self, key_id: &str) -> String {
        match self
            .callers
            .as_ref()
            .and_then(|callers| callers.get(key_id))
        {
            Some(caller) => caller.arn.clone(),
            None => user_arn(key_id),
        }
    }

    /// What the caller's policies say.
    fn identity(&self, key_id: &str, access: Access<'_>) -> Verdict {
        match &self.callers {
            None => Verdict::Allowed,
            Some(callers) => {
                let policies = callers.get(key_id).map(|caller| &caller.policies);
                Verdict::of(access, policies.into_iter().flatten())
            }
        }
    }

    /// Whether a caller may do something to a table. (`action` without its prefix.)
    pub(crate) fn check(
        &self,
        key_id: &str,
        action: &str,
        table: &TableDefinition,
    ) -> Result<(), ApiError> {
        // What nearly every request comes to.
        if self.callers.is_none() && table.resource_policy.is_none() {
            return Ok(());
        }
        let principal = self.caller_arn(key_id);
        let action = format!("dynamodb:{action}");
        let resource = table.arn(&self.region);
        let access = Access {
            principal: &principal,
            action: &action,
            resource: &resource,
        };
        let of_table = match &table.resource_policy {
            Some(policy) => Verdict::of(access, [&*self.parsed(table, policy)?]),
            None => Verdict::Silent,
        };
        decide(self.identity(key_id, access), of_table).map_err(|denial| denied(denial, access))
    }

    /// Whether a caller's own policies let it learn that there is no such table.
    pub(crate) fn check_absent(
        &self,
        key_id: &str,
        action: &str,
        table: &str,
    ) -> Result<(), ApiError> {
        let resource = table_arn(&self.region, table);
        let (verdict, principal, action) = self.about(key_id, action, &resource);
        let access = Access {
            principal: &principal,
            action: &action,
            resource: &resource,
        };
        decide(verdict, Verdict::Silent).map_err(|denial| denied(denial, access))
    }

    /// What a caller's policies say of a control-plane operation. A denial is final; silence may become a permission by the table's policy.
    pub(crate) fn control(
        &self,
        key_id: &str,
        operation: &str,
        body: &[u8],
    ) -> Result<Verdict, ApiError> {
        if self.callers.is_none() {
            return Ok(Verdict::Allowed);
        }
        let mut together = Verdict::Allowed;
        for resource in resources_of(body, &self.region) {
            let (verdict, principal, action) = self.about(key_id, operation, &resource);
            let access = Access {
                principal: &principal,
                action: &action,
                resource: &resource,
            };
            match verdict {
                Verdict::Denied => return Err(denied(Denial::DeniedByIdentity, access)),
                // No table's policy can allow it.
                Verdict::Silent if resource == "*" => {
                    return Err(denied(Denial::NotAllowed, access));
                }
                Verdict::Silent => together = Verdict::Silent,
                Verdict::Allowed => {}
            }
        }
        Ok(together)
    }

    fn about(&self, key_id: &str, action: &str, resource: &str) -> (Verdict, String, String) {
        let principal = self.caller_arn(key_id);
        let action = format!("dynamodb:{action}");
        let access = Access {
            principal: &principal,
            action: &action,
            resource,
        };
        (self.identity(key_id, access), principal, action)
    }

    fn parsed(
        &self,
        table: &TableDefinition,
        policy: &ResourcePolicy,
    ) -> Result<Arc<Policy>, ApiError> {
        let key = (table.id.0, policy.revision.clone());
        if let Some(parsed) = self.parsed.read().get(&key) {
            return Ok(parsed.clone());
        }
        // It was checked when it was put. One that a newer version put and this one does not understand allows nothing.
        let parsed = Policy::parse(PolicyKind::Resource, &policy.document)
            .map(Arc::new)
            .map_err(|error| {
                crate::texts::internal(format!("policy of {}: {error}", table.name))
            })?;
        let mut all = self.parsed.write();
        if all.len() >= PARSED_MAX {
            all.clear();
        }
        all.insert(key, parsed.clone());
        Ok(parsed)
    }
}

fn denied(denial: Denial, access: Access<'_>) -> ApiError {
    ApiError::new(ErrorKind::AccessDenied, denial.message(access))
}

fn user_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{name}")
}

fn callers(text: &str) -> anyhow::Result<BTreeMap<String, Caller>> {
    let file: File = serde_json::from_str(text).context("it is not of the documented form")?;
    file.callers
        .into_iter()
        .map(|(key_id, caller)| {
            let policies = caller
                .policies
                .iter()
                .map(|document| Policy::of(PolicyKind::Identity, document))
                .collect::<Result<_, _>>()
                .with_context(|| format!("a policy of {key_id}"))?;
            let arn = user_arn(caller.name.as_deref().unwrap_or(&key_id));
            Ok((key_id, Caller { arn, policies }))
        })
        .collect()
}

/// The resources that a control-plane call names, as this mesh writes their ARNs; `*` if it names none.
fn resources_of(body: &[u8], region: &str) -> Vec<String> {
    let named = named_in(body);
    if named.is_empty() {
        return vec!["*".to_owned()];
    }
    named
        .iter()
        .map(|name| table_arn(region, table_of(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(text: &str) -> Policies {
        Policies {
            region: "us-east-1".to_owned(),
            callers: Some(callers(text).expect("a file of policies")),
            parsed: RwLock::default(),
        }
    }

    const READER: &str = r#"{"callers": {"KEY1": {"name": "ann", "policies": [{
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["dynamodb:GetItem", "dynamodb:DescribeTable"], "Resource": "arn:aws:dynamodb:*:*:table/Music"},
            {"Effect": "Deny", "Action": "dynamodb:DeleteTable", "Resource": "*"}
        ]}]}}}"#;

    fn table(policy: Option<&str>) -> TableDefinition {
        TableDefinition {
            name: "Music".to_owned(),
            resource_policy: policy.map(|document| {
                Box::new(ResourcePolicy {
                    revision: "1".to_owned(),
                    document: document.to_owned(),
                })
            }),
            ..TableDefinition::default()
        }
    }

    #[test]
    fn a_caller_may_do_what_its_policies_or_the_tables_allow() {
        let policies = policies(READER);
        let plain = table(None);
        assert_eq!(policies.check("KEY1", "GetItem", &plain), Ok(()));
        let error = policies.check("KEY1", "PutItem", &plain).unwrap_err();
        assert_eq!(error.kind, ErrorKind::AccessDenied);
        assert_eq!(
            error.message,
            "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: dynamodb:PutItem on resource: \
             arn:aws:dynamodb:us-east-1:000000000000:table/Music because no identity-based policy allows the dynamodb:PutItem action"
        );
        assert!(policies.check("KEY2", "GetItem", &plain).is_err());
        let open = table(Some(
            r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/KEY2"}, "Action": "dynamodb:Get*", "Resource": "*"}}"#,
        ));
        assert_eq!(policies.check("KEY2", "GetItem", &open), Ok(()));
        assert!(policies.check("KEY2", "PutItem", &open).is_err());
    }

    #[test]
    fn control_calls_are_about_a_table_or_about_nothing() {
        let policies = policies(READER);
        let control =
            |operation: &str, body: &str| policies.control("KEY1", operation, body.as_bytes());
        assert_eq!(
            control("DescribeTable", r#"{"TableName": "Music"}"#),
            Ok(Verdict::Allowed)
        );
        assert_eq!(
            control("UpdateTable", r#"{"TableName": "Music"}"#),
            Ok(Verdict::Silent)
        );
        assert!(control("DeleteTable", r#"{"TableName": "Music"}"#).is_err());
        assert!(control("ListTables", "{}").is_err());
        // Whatever else a body names is checked, too; and an ARN is no way around a rule about another Region's.
        let two = r#"{"TableName": "Music", "ResourceArn": "arn:aws:dynamodb:us-east-1:000000000000:table/Secret"}"#;
        assert_eq!(control("DescribeTable", two), Ok(Verdict::Silent));
        let copy = r#"{"SourceTableName": "Secret", "TargetTableName": "Music"}"#;
        assert_eq!(control("DescribeTable", copy), Ok(Verdict::Silent));
        let elsewhere = r#"{"TableName": "arn:aws:dynamodb:mars-1:1:table/Music", "BackupArn": 5}"#;
        assert_eq!(control("DescribeTable", elsewhere), Ok(Verdict::Allowed));
        assert_eq!(
            Policies::default().control("KEY1", "ListTables", b"{}"),
            Ok(Verdict::Allowed)
        );
    }

    #[test]
    fn a_file_of_another_form_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"callers": {"K": {"policies": [{"Statement": []}]}}}"#,
            r#"{"callers": {"K": {"policies": [], "surname": "x"}}}"#,
        ] {
            assert!(callers(text).is_err(), "{text}");
        }
    }
}
