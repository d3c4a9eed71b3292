//! How a request ended, by kind. Pure.

use std::borrow::Cow;

use serde::Deserialize;

use super::knowledge::Ended;

/// Kinds of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As wished.
    Ok,
    /// Refused for want of throughput.
    Throttled,
    /// The condition of a read-modify-write did not hold: somebody else was faster.
    Conflict,
    /// No answer within the client's patience, or never sent because all connections were busy that long.
    TimedOut,
    /// 5xx, or the connection broke.
    Failed,
    /// Any other 4xx.
    Refused,
    /// An answer that can't be true.
    Wrong,
}

impl Kind {
    /// Number of kinds.
    pub const COUNT: usize = 7;
    /// All, in the order of their numbers.
    pub const ALL: [Kind; Kind::COUNT] = [
        Kind::Ok,
        Kind::Throttled,
        Kind::Conflict,
        Kind::TimedOut,
        Kind::Failed,
        Kind::Refused,
        Kind::Wrong,
    ];

    /// Its name in reports and promises.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ok => "ok",
            Kind::Throttled => "throttled",
            Kind::Conflict => "conflicts",
            Kind::TimedOut => "timeouts",
            Kind::Failed => "failed",
            Kind::Refused => "refused",
            Kind::Wrong => "wrong",
        }
    }

    /// Something that must not happen: everything but success, throttling and lost races.
    pub fn is_error(self) -> bool {
        !matches!(self, Kind::Ok | Kind::Throttled | Kind::Conflict)
    }
}

/// One end: its kind, and what exactly (for all but success).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Kind.
    pub kind: Kind,
    /// Reason: of few different texts, except for wrong answers.
    pub label: Cow<'static, str>,
}

impl Outcome {
    /// Success.
    pub const OK: Outcome = Outcome {
        kind: Kind::Ok,
        label: Cow::Borrowed(""),
    };

    /// Any other.
    pub fn new(kind: Kind, label: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            label: label.into(),
        }
    }

    /// What the end says of a write.
    pub fn ended(&self) -> Ended {
        match self.kind {
            Kind::Ok | Kind::Wrong => Ended::Done,
            Kind::Throttled | Kind::Conflict | Kind::Refused => Ended::NotDone,
            Kind::TimedOut | Kind::Failed => Ended::Unknown,
        }
    }

    /// Worth another try: nobody answered, or with 5xx.
    pub fn retriable(&self) -> bool {
        matches!(self.kind, Kind::TimedOut | Kind::Failed)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    #[serde(rename = "__type")]
    kind: String,
    // The two exceptions spell it differently (API reference).
    #[serde(rename = "ThrottlingReasons", alias = "throttlingReasons")]
    reasons: Vec<Reason>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reason {
    reason: String,
}

/// What an answer other than 200 means.
pub fn of_error(status: u16, body: &[u8]) -> Outcome {
    let error: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let name = error.kind.rsplit('#').next().unwrap_or_default();
    match name {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded" => {
            let reason = error.reasons.first().map(|first| first.reason.as_str());
            let label = reason.filter(|reason| !reason.is_empty()).unwrap_or(name);
            Outcome::new(Kind::Throttled, label.to_owned())
        }
        "ConditionalCheckFailedException" => {
            Outcome::new(Kind::Conflict, "ConditionalCheckFailedException")
        }
        _ => {
            let kind = if status >= 500 {
                Kind::Failed
            } else {
                Kind::Refused
            };
            Outcome::new(kind, format!("{status} {name}").trim_end().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let reasoned = br#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"m",
            "ThrottlingReasons":[{"reason":"TableReadProvisionedThroughputExceeded","resource":"arn"}]}"#;
        let outcome = of_error(400, reasoned);
        assert_eq!(outcome.kind, Kind::Throttled);
        assert_eq!(outcome.label, "TableReadProvisionedThroughputExceeded");
        let plain = of_error(400, br#"{"__type":"x#ThrottlingException","message":"m"}"#);
        assert_eq!(
            (plain.kind, &*plain.label),
            (Kind::Throttled, "ThrottlingException")
        );
        let on_demand = of_error(
            400,
            br#"{"__type":"x#ThrottlingException","throttlingReasons":[{"reason":"TableWriteKeyRangeThroughputExceeded"}]}"#,
        );
        assert_eq!(on_demand.label, "TableWriteKeyRangeThroughputExceeded");
        let lost = of_error(400, br#"{"__type":"x#ConditionalCheckFailedException"}"#);
        assert_eq!((lost.kind, lost.ended()), (Kind::Conflict, Ended::NotDone));
        let broken = of_error(500, br#"{"__type":"x#InternalServerError"}"#);
        assert_eq!(
            (broken.kind, &*broken.label),
            (Kind::Failed, "500 InternalServerError")
        );
        assert_eq!(broken.ended(), Ended::Unknown);
        assert_eq!(of_error(502, b"<html>").label, "502");
        assert_eq!(
            of_error(400, br#"{"__type":"x#ValidationException"}"#).kind,
            Kind::Refused
        );
    }
}
