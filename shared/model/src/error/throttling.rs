//! Throttling errors: which exception, text and reason DynamoDB gives for which limit. Never decides whether to throttle.

use serde::{Deserialize, Serialize};

use super::{ApiError, ErrorKind, texts};
use crate::capacity::Direction;
use crate::json;
use crate::table::BillingMode;

/// The limit that a request ran into (`LimitType` in the developer guide, "Diagnosing throttling").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ThroughputLimit {
    /// What one partition can serve.
    KeyRange,
    /// The provisioned throughput of the table or index.
    Provisioned,
    /// The account's quota for one on-demand table.
    Account,
    /// The maximum on-demand throughput set for the table or index.
    MaxOnDemand,
}

impl ThroughputLimit {
    fn name(self) -> &'static str {
        match self {
            Self::KeyRange => "KeyRangeThroughputExceeded",
            Self::Provisioned => "ProvisionedThroughputExceeded",
            Self::Account => "AccountLimitExceeded",
            Self::MaxOnDemand => "MaxOnDemandThroughputExceeded",
        }
    }
}

/// Every reason that a request can be refused for.
pub fn throttling_reasons() -> impl Iterator<Item = String> {
    let limits = [
        ThroughputLimit::KeyRange,
        ThroughputLimit::Provisioned,
        ThroughputLimit::Account,
        ThroughputLimit::MaxOnDemand,
    ];
    limits.into_iter().flat_map(move |limit| {
        Direction::ALL
            .into_iter()
            .flat_map(move |direction| [false, true].map(|index| reason(index, direction, limit)))
    })
}

/// `{Table|Index}{Read|Write}` and the limit's name.
fn reason(index: bool, direction: Direction, limit: ThroughputLimit) -> String {
    let resource = if index { "Index" } else { "Table" };
    format!("{resource}{}{}", direction.name(), limit.name())
}

/// One element of `ThrottlingReasons`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottlingReason {
    /// `{Table|Index}{Read|Write}` and the limit's name.
    pub reason: String,
    /// ARN of the table or index.
    pub resource: String,
}

impl ApiError {
    /// A request was refused for its throughput. `arn`: of the table, or of the index (`…/index/<name>`) whose limit it was.
    pub fn throttled(
        limit: ThroughputLimit,
        direction: Direction,
        billing: BillingMode,
        arn: &str,
    ) -> Self {
        let provisioned = matches!(billing, BillingMode::Provisioned { .. });
        let index = arn.contains("/index/");
        let (kind, message) = match limit {
            ThroughputLimit::Account => (ErrorKind::RequestLimitExceeded, texts::ACCOUNT_LIMIT),
            ThroughputLimit::MaxOnDemand => (ErrorKind::Throttling, texts::ON_DEMAND_MAXIMUM),
            ThroughputLimit::KeyRange if !provisioned => (
                ErrorKind::Throttling,
                if index {
                    texts::ON_DEMAND_INDEX_THROUGHPUT
                } else {
                    texts::ON_DEMAND_THROUGHPUT
                },
            ),
            ThroughputLimit::KeyRange | ThroughputLimit::Provisioned => (
                ErrorKind::ProvisionedThroughputExceeded,
                if index {
                    texts::PROVISIONED_INDEX_THROUGHPUT
                } else {
                    texts::PROVISIONED_THROUGHPUT
                },
            ),
        };
        let reason = ThrottlingReason {
            reason: reason(index, direction, limit),
            resource: arn.to_owned(),
        };
        Self {
            throttling_reasons: vec![reason],
            ..Self::new(kind, message)
        }
    }

    /// Whether the client was told to slow down; nothing was executed.
    pub fn is_throttling(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Throttling
                | ErrorKind::ProvisionedThroughputExceeded
                | ErrorKind::RequestLimitExceeded
        )
    }
}

/// Writes the member of an error's JSON body, its leading comma included. The exception of the framework in front has a small
/// letter (API reference: `ThrottlingException`).
pub(super) fn write_reasons(kind: ErrorKind, reasons: &[ThrottlingReason], out: &mut Vec<u8>) {
    let name: &[u8] = match kind {
        ErrorKind::Throttling => b",\"throttlingReasons\":[",
        _ => b",\"ThrottlingReasons\":[",
    };
    out.extend_from_slice(name);
    for (position, reason) in reasons.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"reason\":");
        json::write_string(&reason.reason, out);
        out.extend_from_slice(b",\"resource\":");
        json::write_string(&reason.resource, out);
        out.push(b'}');
    }
    out.push(b']');
}
