//! The requests of the streams' operations: shapes, and validation in the service's order. Pure.

use model::ApiError;
use protocol::changes::Place;
use serde::Deserialize;

use super::names::place_of;
use crate::constraints::Constraints;
use crate::requests::Integer;
use crate::texts;

const TYPES: &[&str] = &[
    "AFTER_SEQUENCE_NUMBER",
    "LATEST",
    "AT_SEQUENCE_NUMBER",
    "TRIM_HORIZON",
];
/// Shards in one answer at most.
const SHARDS_MAX: i64 = 100;
/// Records in one answer at most.
const RECORDS_MAX: i64 = 1_000;

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamOperation {
    DescribeStream,
    GetShardIterator,
    GetRecords,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct DescribeStream {
    stream_arn: Option<String>,
    limit: Option<Integer>,
    exclusive_start_shard_id: Option<String>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ShardFilter {
    #[serde(rename = "Type")]
    kind: Option<String>,
    shard_id: Option<String>,
}

/// A valid DescribeStream.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) arn: String,
    pub(super) limit: usize,
    /// Shards behind this one.
    pub(super) after: Option<String>,
    /// Children of this one only.
    pub(super) parent: Option<String>,
}

fn constrain_arn(constraints: &mut Constraints, arn: Option<&str>) {
    match arn {
        None => constraints.present("streamArn", false),
        Some(arn) => constraints.length("streamArn", arn, 37, 1024),
    }
}

impl DescribeStream {
    pub(super) fn validate(self) -> Result<Wanted, ApiError> {
        let mut constraints = Constraints::default();
        constrain_arn(&mut constraints, self.stream_arn.as_deref());
        let limit = self.limit.map(|limit| limit.0);
        constraints.between("limit", limit, 1, SHARDS_MAX);
        if let Some(id) = &self.exclusive_start_shard_id {
            constraints.length("exclusiveStartShardId", id, 28, 65);
        }
        let filter = self.shard_filter.unwrap_or_default();
        constraints.one_of(
            "shardFilter.type",
            filter.kind.as_deref(),
            &["CHILD_SHARDS"],
        );
        if let Some(id) = &filter.shard_id {
            constraints.length("shardFilter.shardId", id, 28, 65);
        }
        constraints.finish()?;
        if filter.kind.is_some() != filter.shard_id.is_some() {
            return Err(texts::shard_filter());
        }
        Ok(Wanted {
            arn: self.stream_arn.unwrap_or_default(),
            limit: usize::try_from(limit.unwrap_or(SHARDS_MAX)).unwrap_or(1),
            after: self.exclusive_start_shard_id,
            parent: filter.shard_id,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct GetShardIterator {
    stream_arn: Option<String>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    sequence_number: Option<String>,
}

/// Where an iterator begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    TrimHorizon,
    Latest,
    At(Place),
    After(Place),
}

/// A valid GetShardIterator.
#[derive(Debug)]
pub(super) struct Iterated {
    pub(super) arn: String,
    pub(super) shard: String,
    pub(super) start: Start,
}

impl GetShardIterator {
    pub(super) fn validate(self) -> Result<Iterated, ApiError> {
        let mut constraints = Constraints::default();
        constrain_arn(&mut constraints, self.stream_arn.as_deref());
        match &self.shard_id {
            None => constraints.present("shardId", false),
            Some(id) => constraints.length("shardId", id, 28, 65),
        }
        let kind = self.shard_iterator_type.as_deref();
        constraints.present("shardIteratorType", kind.is_some());
        constraints.one_of("shardIteratorType", kind, TYPES);
        let number = self.sequence_number.as_deref();
        if let Some(number) = number {
            constraints.length("sequenceNumber", number, 21, 40);
        }
        constraints.finish()?;
        let kind = kind.unwrap_or_default();
        let start = match (kind, number) {
            ("TRIM_HORIZON" | "LATEST", Some(_)) => {
                return Err(texts::sequence_number_not_wanted(kind));
            }
            ("TRIM_HORIZON", None) => Start::TrimHorizon,
            ("LATEST", None) => Start::Latest,
            (_, None) => return Err(texts::sequence_number_missing(kind)),
            (_, Some(number)) => {
                let place = place_of(number);
                let place = place.ok_or_else(texts::sequence_number_of_other_shard)?;
                match kind {
                    "AT_SEQUENCE_NUMBER" => Start::At(place),
                    _ => Start::After(place),
                }
            }
        };
        Ok(Iterated {
            arn: self.stream_arn.unwrap_or_default(),
            shard: self.shard_id.unwrap_or_default(),
            start,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct GetRecords {
    shard_iterator: Option<String>,
    limit: Option<Integer>,
}

impl GetRecords {
    /// The iterator and how many records.
    pub(super) fn validate(self) -> Result<(String, usize), ApiError> {
        let mut constraints = Constraints::default();
        match &self.shard_iterator {
            None => constraints.present("shardIterator", false),
            Some(text) => constraints.length("shardIterator", text, 1, 4096),
        }
        let limit = self.limit.map(|limit| limit.0);
        constraints.between("limit", limit, 1, RECORDS_MAX);
        constraints.finish()?;
        Ok((
            self.shard_iterator.unwrap_or_default(),
            usize::try_from(limit.unwrap_or(RECORDS_MAX)).unwrap_or(1),
        ))
    }
}
