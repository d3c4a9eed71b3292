//! The operations of DynamoDB Streams that read: DescribeStream, GetShardIterator, GetRecords. Validation, the calls to the partitions, the answers.
//! (ListStreams is the admin's.) Keeps nothing: shards come from the partitions, places from the client.

mod iterator;
mod lineage;
mod names;
mod records;
mod requests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::key::index_range;
use model::stream::Stream;
use model::{ApiError, EncodedKey, ErrorKind, IndexId, TableDefinition, json};
use protocol::changes::{ChangesReply, ChangesRequest, Index, Place};
use protocol::item::{ItemOperation, ItemReply};

use crate::answer::{Answer, comma};
use crate::backend::{Backend, Caller, Context};
use crate::texts;
use iterator::{Invalid, ShardIterator};
use lineage::Shard;
use records::Part;
pub(crate) use requests::StreamOperation;
use requests::{DescribeStream, GetRecords, GetShardIterator, Start};

/// Bytes of records in one answer (API reference, GetRecords).
const BYTES_MAX: u64 = 1 << 20;
/// What each of many partitions is asked for at least.
const PART_BYTES_MIN: u64 = 64 << 10;
/// Looks for a stream that is not known …
const LOOKS_MAX: u32 = 10;
/// … and between two of them.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// Partitions that one request walks over at most.
const PARTITIONS_MAX: usize = 10_000;

/// Executes an operation; the result is the JSON answer.
pub(crate) async fn execute<B: Backend>(
    operation: StreamOperation,
    body: &[u8],
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let reader = Reader { backend, context };
    match operation {
        StreamOperation::DescribeStream => reader.describe(json::from_slice(body)?).await,
        StreamOperation::GetShardIterator => reader.iterator(json::from_slice(body)?).await,
        StreamOperation::GetRecords => reader.records(json::from_slice(body)?).await,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A stream that there is.
struct Found {
    table: Arc<TableDefinition>,
    stream: Stream,
}

struct Reader<'a, B> {
    backend: &'a B,
    context: &'a Context,
}

impl<B: Backend> Reader<'_, B> {
    /// The stream with this ARN. One that is not known may be new: the cache learns of a newer definition with the next look.
    async fn stream(&self, arn: &str) -> Result<Found, ApiError> {
        let mut looks = 0;
        loop {
            match self.look(arn).await {
                Err(error) if error.kind == ErrorKind::ResourceNotFound && looks < LOOKS_MAX => {
                    looks += 1;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                found => return found,
            }
        }
    }

    async fn look(&self, arn: &str) -> Result<Found, ApiError> {
        let (name, label) = names::parse_arn(arn).ok_or_else(texts::invalid_stream_arn)?;
        let missing = || texts::stream_not_found(arn);
        let Caller {
            key_id,
            action,
            policies,
        } = &self.context.caller;
        let table = match self.backend.table(name, self.context).await {
            Err(error) if error.kind == ErrorKind::ResourceNotFound => {
                policies.check_absent(key_id, action, name)?;
                return Err(missing());
            }
            table => table?,
        };
        policies.check(key_id, action, &table)?;
        let stream = *table.streams.with_label(label).ok_or_else(missing)?;
        Ok(Found { table, stream })
    }

    /// Asks the partition that holds `key`.
    async fn changes(
        &self,
        table: &TableDefinition,
        request: ChangesRequest,
    ) -> Result<ChangesReply, ApiError> {
        let key = request.key.clone();
        let operation = ItemOperation::Changes(Box::new(request));
        let reply = self
            .backend
            .item(table, &key, operation, self.context)
            .await?;
        match reply {
            ItemReply::Changes(reply) => Ok(*reply),
            other => Err(texts::internal(format!(
                "a read of changes was answered by {other:?}"
            ))),
        }
    }

    /// The stream's shards, as all partitions of the table know them.
    async fn shards(&self, found: &Found) -> Result<Vec<Shard>, ApiError> {
        let whole = index_range(found.table.id, IndexId(0));
        let (mut key, mut replies) = (whole.start.clone(), Vec::new());
        while replies.len() < PARTITIONS_MAX {
            let request = ChangesRequest {
                key,
                ..ChangesRequest::default()
            };
            let reply = self.changes(&found.table, request).await?;
            let end = reply.range.end.clone();
            replies.push(reply);
            if end.is_empty() || end >= whole.end {
                break;
            }
            key = end;
        }
        Ok(lineage::shards(&found.stream, &replies, now_ms()))
    }

    async fn describe(&self, request: DescribeStream) -> Result<Vec<u8>, ApiError> {
        let wanted = request.validate()?;
        let arn = &wanted.arn;
        let found = self.stream(arn).await?;
        let shards = self.shards(&found).await?;
        let (table, stream) = (&found.table, &found.stream);
        let number = |id: &str| {
            let partition = names::partition_of(stream, id);
            partition.ok_or_else(|| texts::shard_not_found(id, arn))
        };
        let after = wanted.after.as_deref().map(number).transpose()?;
        let parent = wanted.parent.as_deref().map(number).transpose()?;
        let shown = shards
            .iter()
            .filter(|shard| after.is_none_or(|after| shard.partition > after))
            .filter(|shard| parent.is_none() || shard.parent == parent);
        let shown: Vec<&Shard> = shown.collect();
        let more = shown.len() > wanted.limit;
        let shown = &shown[..shown.len().min(wanted.limit)];

        let mut description = Answer::with_capacity(512 + 256 * shown.len());
        json::write_string(arn, description.member("StreamArn"));
        json::write_string(&stream.label(), description.member("StreamLabel"));
        let status = match stream.ended_ms {
            None => "ENABLED",
            Some(_) => "DISABLED",
        };
        json::write_string(status, description.member("StreamStatus"));
        json::write_string(stream.view.as_str(), description.member("StreamViewType"));
        let created = model::stream::created(stream).to_string();
        let member = description.member("CreationRequestDateTime");
        member.extend_from_slice(created.as_bytes());
        json::write_string(&table.name, description.member("TableName"));
        let keys = table.keys.describe().to_string();
        description
            .member("KeySchema")
            .extend_from_slice(keys.as_bytes());
        let list = description.member("Shards");
        list.push(b'[');
        let mut first = true;
        for shard in shown {
            comma(list, &mut first);
            list.extend_from_slice(&shard_json(stream, shard));
        }
        list.push(b']');
        if let (true, Some(last)) = (more, shown.last()) {
            let id = names::shard_id(stream, last.partition);
            json::write_string(&id, description.member("LastEvaluatedShardId"));
        }
        let mut answer = Answer::with_capacity(1024);
        answer
            .member("StreamDescription")
            .extend_from_slice(&description.finish());
        Ok(answer.finish())
    }

    async fn iterator(&self, request: GetShardIterator) -> Result<Vec<u8>, ApiError> {
        let wanted = request.validate()?;
        let found = self.stream(&wanted.arn).await?;
        let missing = || texts::shard_not_found(&wanted.shard, &wanted.arn);
        let partition = names::partition_of(&found.stream, &wanted.shard).ok_or_else(missing)?;
        let shards = self.shards(&found).await?;
        let shard = shards
            .into_iter()
            .find(|shard| shard.partition == partition);
        let shard = shard.ok_or_else(missing)?;
        let first: Place = (shard.begins, u32::MAX);
        let (after, horizon) = match wanted.start {
            Start::TrimHorizon => (first, true),
            Start::Latest => ((shard.applied, u32::MAX), false),
            Start::At(place) => (before(place), false),
            Start::After(place) => (place, false),
        };
        if let Start::At(place) | Start::After(place) = wanted.start {
            if place.0 <= shard.begins || place.0 > shard.ends.unwrap_or(shard.applied) {
                return Err(texts::sequence_number_of_other_shard());
            }
            if place.0 <= shard.trimmed {
                return Err(texts::trimmed());
            }
        }
        let iterator = ShardIterator {
            partition,
            start: shard.range.start.clone(),
            after: after.max(first),
            horizon,
            issued_ms: now_ms(),
        };
        let mut answer = Answer::with_capacity(512);
        let text = iterator.write(&found.table, &wanted.arn);
        json::write_string(&text, answer.member("ShardIterator"));
        Ok(answer.finish())
    }

    async fn records(&self, request: GetRecords) -> Result<Vec<u8>, ApiError> {
        let (text, limit) = request.validate()?;
        let (arn, rest) = iterator::split(&text).ok_or_else(texts::invalid_iterator)?;
        if names::parse_arn(arn).is_none() {
            return Err(texts::invalid_iterator());
        }
        let found = self.stream(arn).await?;
        let at = ShardIterator::read(&found.table, arn, rest, now_ms());
        let at = at.map_err(|invalid| match invalid {
            Invalid::Garbage => texts::invalid_iterator(),
            Invalid::Expired(issued_ms) => texts::expired_iterator(issued_ms, now_ms()),
        })?;
        let (parts, closed) = self.parts(&found, &at, limit).await?;
        let (changes, next, end) = records::merge(parts, limit, BYTES_MAX as usize);
        let bytes: usize = changes.iter().map(|change| change.value.len()).sum();
        let mut answer = Answer::with_capacity(256 + 3 * bytes);
        let list = answer.member("Records");
        list.push(b'[');
        let mut first = true;
        let region = arn.split(':').nth(3).unwrap_or_default();
        for change in &changes {
            comma(list, &mut first);
            records::write(change, &found.table, (&found.stream, arn, region), list)?;
        }
        list.push(b']');
        // A closed shard that was read to its end has nothing further.
        if !(closed && end) {
            let iterator = ShardIterator {
                after: next.max(at.after),
                horizon: at.horizon && changes.is_empty(),
                issued_ms: now_ms(),
                ..at
            };
            let text = iterator.write(&found.table, arn);
            json::write_string(&text, answer.member("NextShardIterator"));
        }
        Ok(answer.finish())
    }

    /// What the partitions that hold a shard's changes give of them, and whether the shard is closed.
    async fn parts(
        &self,
        found: &Found,
        at: &ShardIterator,
        limit: usize,
    ) -> Result<(Vec<Part>, bool), ApiError> {
        let mut request = ChangesRequest {
            key: at.start.clone(),
            after: at.after,
            upto: None,
            stream: Some(found.stream.created_ms),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            bytes_max: BYTES_MAX,
        };
        let first = self.changes(&found.table, request.clone()).await?;
        check_trimmed(at, &first)?;
        if first.partition == at.partition {
            let closed = found.stream.ended_ms.is_some();
            return Ok((vec![part_of(first, Index::MAX)], closed));
        }
        // It was split: its changes are where its items are now.
        let ancestor = first
            .lineage
            .iter()
            .find(|ancestor| ancestor.partition == at.partition)
            .cloned()
            .ok_or_else(texts::trimmed)?;
        let (mut next, mut parts) = (first.range.end.clone(), Vec::new());
        parts.push(part_of(first, ancestor.ends));
        request.upto = Some(ancestor.ends);
        while is_before(&next, &ancestor.range.end) && parts.len() < PARTITIONS_MAX {
            request.key = next;
            // Each gives one record at least, and an answer takes no more of all of them.
            request.bytes_max = (BYTES_MAX / (parts.len() as u64 + 1)).max(PART_BYTES_MIN);
            let reply = self.changes(&found.table, request.clone()).await?;
            check_trimmed(at, &reply)?;
            next = reply.range.end.clone();
            parts.push(part_of(reply, ancestor.ends));
        }
        Ok((parts, true))
    }
}

/// The place right before another one.
fn before((position, sub): Place) -> Place {
    match sub.checked_sub(1) {
        Some(sub) => (position, sub),
        None => (position.saturating_sub(1), u32::MAX),
    }
}

/// Whether a range that ends with `end` (empty: nowhere) goes on up to `whole`.
fn is_before(end: &EncodedKey, whole: &EncodedKey) -> bool {
    !end.is_empty() && (whole.is_empty() || end < whole)
}

/// An iterator that stands behind some record must find everything that came behind it.
fn check_trimmed(at: &ShardIterator, reply: &ChangesReply) -> Result<(), ApiError> {
    match !at.horizon && at.after.0 < reply.trimmed {
        true => Err(texts::trimmed()),
        false => Ok(()),
    }
}

/// What a partition gave, up to where the shard ends.
fn part_of(reply: ChangesReply, ends: Index) -> Part {
    let mut changes = reply.changes;
    let count = changes.len();
    changes.retain(|change| change.place.0 <= ends);
    let end = reply.end || changes.len() < count || reply.next.0 > ends;
    Part {
        changes,
        next: reply.next.min((ends, u32::MAX)),
        end,
    }
}

fn shard_json(stream: &Stream, shard: &Shard) -> Vec<u8> {
    let mut range = Answer::with_capacity(128);
    let starts = names::sequence_number((shard.begins + 1, 0));
    json::write_string(&starts, range.member("StartingSequenceNumber"));
    if let Some(ends) = shard.ends {
        let ends = names::sequence_number((ends.max(shard.begins + 1), 0));
        json::write_string(&ends, range.member("EndingSequenceNumber"));
    }
    let mut shown = Answer::with_capacity(256);
    let id = names::shard_id(stream, shard.partition);
    json::write_string(&id, shown.member("ShardId"));
    shown
        .member("SequenceNumberRange")
        .extend_from_slice(&range.finish());
    if let Some(parent) = shard.parent {
        let id = names::shard_id(stream, parent);
        json::write_string(&id, shown.member("ParentShardId"));
    }
    shown.finish()
}
