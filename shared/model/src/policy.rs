//! Access policies: documents as of IAM, attached to a caller or to a table, and what they allow together (IAM user guide, "Policy
//! evaluation logic", within one account). Pure: knows no keys, no requests, no storage.

mod document;
mod pattern;

pub use document::{Policy, PolicyError, PolicyKind};

use document::{Effect, Subject};
use serde::{Deserialize, Serialize};

/// The account that all tables and callers belong to.
pub const ACCOUNT: &str = "000000000000";

/// Largest resource policy, bytes.
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// ARN of the caller.
    pub principal: &'a str,
    /// `dynamodb:GetItem` …
    pub action: &'a str,
    /// ARN of the table, index …, or `*` where an action has none.
    pub resource: &'a str,
}

/// Why something is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A policy of the caller forbids it.
    DeniedByIdentity,
    /// The table's policy forbids it.
    DeniedByResource,
    /// Nothing allows it.
    NotAllowed,
}

impl Denial {
    /// The AccessDeniedException's message.
    pub fn message(self, access: Access<'_>) -> String {
        let Access {
            principal,
            action,
            resource,
        } = access;
        let why = match self {
            Self::DeniedByIdentity => {
                "with an explicit deny in an identity-based policy".to_owned()
            }
            Self::DeniedByResource => "with an explicit deny in a resource-based policy".to_owned(),
            Self::NotAllowed => {
                format!("because no identity-based policy allows the {action} action")
            }
        };
        format!(
            "User: {principal} is not authorized to perform: {action} on resource: {resource} {why}"
        )
    }
}

/// What policies say of an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// They allow it; also where callers have no policies at all, and may do everything that nothing forbids.
    #[default]
    Allowed,
    /// They forbid it.
    Denied,
    /// They say nothing of it.
    Silent,
}

impl Verdict {
    /// Of several policies together: a Deny counts more than any Allow.
    pub fn of<'p>(access: Access<'_>, policies: impl IntoIterator<Item = &'p Policy>) -> Self {
        let mut verdict = Self::Silent;
        for policy in policies {
            match policy.effect(access) {
                Some(Effect::Deny) => return Self::Denied,
                Some(Effect::Allow) => verdict = Self::Allowed,
                None => {}
            }
        }
        verdict
    }
}

/// Decides by what the caller's policies say and what the table's says.
pub fn decide(identity: Verdict, resource: Verdict) -> Result<(), Denial> {
    match (identity, resource) {
        (Verdict::Denied, _) => Err(Denial::DeniedByIdentity),
        (_, Verdict::Denied) => Err(Denial::DeniedByResource),
        (Verdict::Silent, Verdict::Silent) => Err(Denial::NotAllowed),
        _ => Ok(()),
    }
}

/// Every name or ARN of a table, or of something of a table, that the body of a control-plane call gives, whatever the operation makes of it: a
/// member that it ignores must not tell what it is checked for. Empty if the body is no object: then the operation refuses it.
pub fn named_in(body: &[u8]) -> Vec<String> {
    const MEMBERS: [&str; 9] = [
        "TableName",
        "SourceTableName",
        "TargetTableName",
        "ResourceArn",
        "TableArn",
        "SourceTableArn",
        "BackupArn",
        "ExportArn",
        "ImportArn",
    ];
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let named = MEMBERS.iter().filter_map(|name| body.get(name)?.as_str());
    named.map(str::to_owned).collect()
}

impl Policy {
    /// What the policy says of it; none: nothing. A Deny counts more than any Allow.
    fn effect(&self, access: Access<'_>) -> Option<Effect> {
        let mut effect = None;
        for statement in &self.statements {
            let applies = statement
                .actions
                .matches(|pattern| pattern::matches_ignoring_case(pattern, access.action))
                && statement.resources.as_ref().is_none_or(|resources| {
                    resources.matches(|p| pattern::matches(p, access.resource))
                })
                && statement.principals.as_ref().is_none_or(|principals| {
                    principals.matches(|subject| subject.is(access.principal))
                });
            if !applies {
                continue;
            }
            if statement.effect == Effect::Deny {
                return Some(Effect::Deny);
            }
            effect = Some(Effect::Allow);
        }
        effect
    }
}

impl Subject {
    fn is(&self, principal: &str) -> bool {
        match self {
            Self::Everybody | Self::Account => true,
            Self::Arn(arn) => arn == principal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/Music";
    const ANN: &str = "arn:aws:iam::000000000000:user/ann";

    fn policy(kind: PolicyKind, statements: serde_json::Value) -> Policy {
        let document = serde_json::json!({"Version": "2012-10-17", "Statement": statements});
        Policy::parse(kind, &document.to_string()).expect("a policy")
    }

    fn decided(
        access: Access<'_>,
        identity: Option<&Policy>,
        resource: Option<&Policy>,
    ) -> Result<(), Denial> {
        let identity = identity.map_or(Verdict::Allowed, |policy| Verdict::of(access, [policy]));
        decide(identity, Verdict::of(access, resource))
    }

    fn access(action: &'static str) -> Access<'static> {
        Access {
            principal: ANN,
            action,
            resource: TABLE,
        }
    }

    #[test]
    fn callers_without_policies_may_do_what_nothing_forbids() {
        assert_eq!(decided(access("dynamodb:GetItem"), None, None), Ok(()));
        let deny = policy(
            PolicyKind::Resource,
            serde_json::json!([{"Effect": "Deny", "Principal": "*", "Action": "dynamodb:Delete*", "Resource": "*"}]),
        );
        assert_eq!(
            decided(access("dynamodb:GetItem"), None, Some(&deny)),
            Ok(())
        );
        assert_eq!(
            decided(access("dynamodb:deleteitem"), None, Some(&deny)),
            Err(Denial::DeniedByResource)
        );
    }

    #[test]
    fn an_allow_of_either_side_is_enough_and_a_deny_of_either_side_wins() {
        let reads = policy(
            PolicyKind::Identity,
            serde_json::json!({"Effect": "Allow", "Action": ["dynamodb:Get*", "dynamodb:Query"], "Resource": format!("{TABLE}*")}),
        );
        let table = policy(
            PolicyKind::Resource,
            serde_json::json!([
                {"Effect": "Allow", "Principal": {"AWS": ANN}, "Action": "dynamodb:PutItem", "Resource": TABLE},
                {"Effect": "Deny", "Principal": {"AWS": "000000000000"}, "Action": "dynamodb:Query", "Resource": TABLE},
            ]),
        );
        let decide = |action| decided(access(action), Some(&reads), Some(&table));
        assert_eq!(decide("dynamodb:GetItem"), Ok(()));
        assert_eq!(decide("dynamodb:PutItem"), Ok(()));
        assert_eq!(decide("dynamodb:Query"), Err(Denial::DeniedByResource));
        assert_eq!(decide("dynamodb:Scan"), Err(Denial::NotAllowed));
        assert_eq!(
            Denial::NotAllowed.message(access("dynamodb:Scan")),
            "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: dynamodb:Scan on resource: \
             arn:aws:dynamodb:us-east-1:000000000000:table/Music because no identity-based policy allows the dynamodb:Scan action"
        );
    }

    #[test]
    fn not_action_and_not_principal_turn_it_over() {
        let table = policy(
            PolicyKind::Resource,
            serde_json::json!([{"Effect": "Deny", "NotPrincipal": {"AWS": [ANN]}, "NotAction": "dynamodb:GetItem", "Resource": "*"}]),
        );
        let bob = Access {
            principal: "arn:aws:iam::000000000000:user/bob",
            ..access("dynamodb:PutItem")
        };
        assert_eq!(
            decided(access("dynamodb:PutItem"), None, Some(&table)),
            Ok(())
        );
        assert_eq!(
            decided(bob, None, Some(&table)),
            Err(Denial::DeniedByResource)
        );
        let reads = Access {
            action: "dynamodb:GetItem",
            ..bob
        };
        assert_eq!(decided(reads, None, Some(&table)), Ok(()));
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let refused = |kind, statement: serde_json::Value| {
            let document = serde_json::json!({"Version": "2012-10-17", "Statement": [statement]});
            Policy::parse(kind, &document.to_string()).unwrap_err().0
        };
        let resource = |change: serde_json::Value| {
            let mut statement = serde_json::json!({"Effect": "Allow", "Principal": "*", "Action": "dynamodb:*", "Resource": "*"});
            for (name, value) in change.as_object().unwrap() {
                statement[name] = value.clone();
            }
            refused(PolicyKind::Resource, statement)
        };
        assert!(resource(serde_json::json!({"Condition": {"Bool": {}}})).contains("Condition"));
        assert!(resource(serde_json::json!({"Effect": "Maybe"})).contains("Effect"));
        assert!(resource(serde_json::json!({"Principle": "*"})).contains("Principle"));
        assert!(resource(serde_json::json!({"Action": "s3:*"})).contains("s3:*"));
        assert!(resource(serde_json::json!({"Principal": {"Service": "x"}})).contains("Principal"));
        assert!(
            refused(
                PolicyKind::Identity,
                serde_json::json!({"Effect": "Allow", "Action": "*"})
            )
            .contains("Resource")
        );
        for text in ["", "[]", "{}", "{\"Statement\": []}"] {
            assert!(Policy::parse(PolicyKind::Resource, text).is_err(), "{text}");
        }
    }
}
