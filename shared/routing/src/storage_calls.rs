//! One item request from the caller to the storage node that can answer it. Owns the tries: whatever was certainly not executed
//! is tried elsewhere until the deadline, reads also when nobody answered; a write whose outcome is unknown never is.

use std::sync::Arc;
use std::time::Duration;

use mesh::{CallError, Deadline, TraceContext};
use model::{ApiError, EncodedKey, KeyRange, TableId};
use protocol::directory::PartitionInfo;
use protocol::item::{ItemCall, ItemFault, ItemOperation, ItemReply};
use protocol::subjects;

use crate::attempts::{Attempts, Need};
use crate::client::Client;
use crate::errors;

/// What to do after one try.
enum Next {
    Done(Result<ItemReply, ApiError>),
    Elsewhere,
    /// The cache is wrong about the range.
    LookUp,
}

impl Client {
    /// Calls the partition of table `id` that holds `key`; gives the answer and the partition that gave it.
    pub(crate) async fn call_storage(
        &self,
        id: TableId,
        key: &EncodedKey,
        operation: ItemOperation,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<(ItemReply, Arc<PartitionInfo>), ApiError> {
        let Ok(_permit) = self.shared.calls.try_acquire() else {
            return Err(errors::overloaded());
        };
        let is_write = matches!(operation, ItemOperation::Write(_));
        let mut attempts = Attempts::new(need(&operation));
        let whole_range = match &operation {
            ItemOperation::Page(page) => Some(page.range.clone()),
            _ => None,
        };
        let mut info = self.locate(id, key, deadline).await?;
        let mut call = ItemCall {
            partition: info.partition,
            operation,
        };
        loop {
            call.partition = info.partition;
            if let (ItemOperation::Page(page), Some(range)) = (&mut call.operation, &whole_range) {
                // Exactly the keys that this partition is believed to hold: a node whose partition is smaller by now can tell.
                page.range = range.intersection(&info.range);
                page.believed = Some(info.range.clone());
                page.name_last = goes_on(range, &info.range, page.reverse);
            }
            let next = match attempts.next(&info, &self.shared.settings.zone) {
                None => Next::LookUp,
                Some(node) => {
                    let remaining = deadline.remaining();
                    if remaining.is_zero() {
                        return Err(errors::unavailable());
                    }
                    let try_time = if is_write {
                        remaining
                    } else {
                        remaining.min(self.shared.settings.read_try)
                    };
                    let subject = subjects::node_item(node);
                    let try_deadline = Deadline::after(try_time);
                    let reply = self
                        .shared
                        .mesh
                        .call(&subject, &call, try_deadline, trace)
                        .await;
                    self.judge(reply, is_write, node, &info, &mut attempts)
                }
            };
            match next {
                Next::Done(Ok(reply)) => return Ok((reply, info)),
                Next::Done(Err(error)) => return Err(error),
                Next::Elsewhere => {}
                Next::LookUp => {
                    let pause = attempts.pause(rand::random());
                    if deadline.remaining() <= pause {
                        return Err(errors::unavailable());
                    }
                    tokio::time::sleep(pause).await;
                    self.recheck(id, key, Some(info.partition)).await?;
                }
            }
            let known = self.shared.routes.read().partition(id, key);
            info = match known {
                Some(info) => info,
                None => self.locate(id, key, deadline).await?,
            };
        }
    }

    fn judge(
        &self,
        reply: Result<ItemReply, CallError>,
        is_write: bool,
        node: paxos::NodeId,
        info: &PartitionInfo,
        attempts: &mut Attempts,
    ) -> Next {
        let fault = match reply {
            Ok(ItemReply::Fault(fault)) => fault,
            Ok(reply) => return Next::Done(Ok(reply)),
            Err(error) => return judge_call_error(&error, is_write),
        };
        match fault {
            ItemFault::ConditionFailed { .. } | ItemFault::Throttled { .. } => {
                Next::Done(Ok(ItemReply::Fault(fault)))
            }
            ItemFault::Api(error) => Next::Done(Err(error)),
            ItemFault::NotHere { partition: hint } => {
                if let Some(hint) = hint {
                    if let Some(leader) = hint.leader
                        && leader != node
                        && hint.newer_than(info)
                    {
                        attempts.hinted(leader, hint.members.len());
                    }
                    self.shared.routes.write().learn_partition(*hint);
                }
                Next::Elsewhere
            }
            ItemFault::WrongRange {
                partition,
                children,
            } => {
                let mut routes = self.shared.routes.write();
                for known in partition.into_iter().map(|p| *p).chain(children) {
                    routes.learn_partition(known);
                }
                Next::LookUp
            }
            ItemFault::NotReady => Next::Elsewhere,
            ItemFault::Overloaded => Next::Done(Err(errors::overloaded())),
            ItemFault::Unknown if is_write => Next::Done(Err(errors::unknown())),
            ItemFault::Unknown => Next::Elsewhere,
        }
    }
}

fn judge_call_error(error: &CallError, is_write: bool) -> Next {
    match error {
        CallError::NoResponders | CallError::Incompatible => Next::Elsewhere,
        CallError::Overloaded => Next::Done(Err(errors::overloaded())),
        CallError::TimedOut if !is_write => Next::Elsewhere,
        CallError::TimedOut | CallError::Closed => Next::Done(Err(errors::unknown())),
        CallError::Malformed(reason) => {
            tracing::error!(%reason, "a storage node's answer could not be read");
            Next::Done(Err(errors::unknown()))
        }
    }
}

/// Whether a range goes on behind a partition, in reading direction.
fn goes_on(range: &KeyRange, partition: &KeyRange, reverse: bool) -> bool {
    if reverse {
        return range.start < partition.start;
    }
    !partition.end.is_empty() && (range.end.is_empty() || partition.end < range.end)
}

fn need(operation: &ItemOperation) -> Need {
    let strong = match operation {
        ItemOperation::Get(get) => get.strong,
        ItemOperation::Page(page) => page.strong,
        ItemOperation::Write(_) => true,
    };
    if strong { Need::Leader } else { Need::Nearest }
}

/// Time a caller that sets none should give a request: a dead leader is replaced in about two seconds.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);
