//! One item request from the caller to the storage node that can answer it. Owns the tries: whatever was certainly not executed
//! is tried elsewhere until the deadline, reads also when nobody answered; a write whose outcome is unknown never is. A node that cannot be
//! reached directly is called by way of one in a third zone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh::{CallError, Deadline, TraceContext};
use model::{ApiError, EncodedKey, KeyRange, TableId};
use paxos::NodeId;
use protocol::directory::PartitionInfo;
use protocol::item::{ItemCall, ItemFault, ItemOperation, ItemReply};
use protocol::subjects;
use protocol::transact::Transact;
use telemetry::traces::{self, Call, Record};

use crate::attempts::{Attempts, Need};
use crate::client::Client;
use crate::errors;

/// How often a write that waits looks whether its node is still heard of.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A call that is under way, for its trace.
struct CallSpan {
    /// What travels with it.
    context: TraceContext,
    /// 0: nothing is noted.
    start_ns: u64,
}

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
        let is_write = is_write(&operation);
        let mut attempts = Attempts::new(need(&operation));
        let whole_range = match &operation {
            ItemOperation::Page(page) => Some(page.range.clone()),
            _ => None,
        };
        let mut info = self.locate(id, key, deadline, *trace).await?;
        let mut call = ItemCall {
            partition: info.partition,
            operation,
            forward_to: None,
            uncharged: self.shared.settings.uncharged,
        };
        loop {
            call.partition = info.partition;
            if let (ItemOperation::Page(page), Some(range)) = (&mut call.operation, &whole_range) {
                // Exactly the keys that this partition is believed to hold: a node whose partition is smaller by now can tell.
                page.range = range.intersection(&info.range);
                page.believed = Some(info.range.clone());
                page.name_last = goes_on(range, &info.range, page.reverse);
            }
            let leaving = |node| self.shared.reach.read().leaving(node);
            let next = match attempts.next(&info, &self.shared.settings.zone, leaving) {
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
                    let detour = self.detour(node);
                    call.forward_to = detour.map(|_| node);
                    let span = self.begin(trace);
                    let reply = match detour {
                        Some(via) => self.send(via, &call, try_time, &span.context).await,
                        None => self.try_node(node, &call, try_time, &span.context).await,
                    };
                    self.note(span, *trace, (node, detour, call.partition.0), &reply);
                    let unheard = matches!(reply, Err(CallError::TimedOut)) && detour.is_none();
                    if unheard && self.detour(node).is_some() {
                        // By the detour it may still answer.
                        attempts.hinted(node, info.members.len());
                    }
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
                    self.recheck(id, key, Some(info.partition), *trace).await?;
                }
            }
            let known = self.shared.routes.read().partition(id, key);
            info = match known {
                Some(info) => info,
                None => self.locate(id, key, deadline, *trace).await?,
            };
        }
    }

    /// Begins a call's span, if the request is traced.
    fn begin(&self, trace: &TraceContext) -> CallSpan {
        match trace.is_some() && self.shared.recorder.is_on() {
            true => CallSpan {
                context: trace.within(traces::random_u64()),
                start_ns: traces::now_ns(),
            },
            false => CallSpan {
                context: *trace,
                start_ns: 0,
            },
        }
    }

    /// Notes a call that ended.
    fn note(
        &self,
        span: CallSpan,
        context: TraceContext,
        (node, via, partition): (NodeId, Option<NodeId>, u64),
        reply: &Result<ItemReply, CallError>,
    ) {
        if span.start_ns > 0 {
            self.shared.recorder.note(Record::Call(Call {
                context,
                span_id: span.context.span_id,
                start_ns: span.start_ns,
                end_ns: traces::now_ns(),
                node: node.0,
                via: via.map_or(0, |via| via.0),
                partition,
                outcome: match reply {
                    Ok(reply) => reply.outcome(),
                    Err(error) => call_outcome(error),
                },
            }));
        }
    }

    /// The node that passes calls for `node` on, if it cannot be reached directly.
    fn detour(&self, node: NodeId) -> Option<NodeId> {
        let now_ms = self.shared.now_ms();
        let reach = self.shared.reach.read();
        reach.detour(node, now_ms, rand::random())
    }

    async fn send(
        &self,
        to: NodeId,
        call: &ItemCall,
        time: Duration,
        trace: &TraceContext,
    ) -> Result<ItemReply, CallError> {
        let subject = subjects::node_item(to);
        let deadline = Deadline::after(time);
        self.shared.mesh.call(&subject, call, deadline, trace).await
    }

    /// Calls a node directly. A write is given up as unknown once its node has fallen silent: the answer cannot come, and the caller
    /// learns sooner that it has to look.
    async fn try_node(
        &self,
        node: NodeId,
        call: &ItemCall,
        time: Duration,
        trace: &TraceContext,
    ) -> Result<ItemReply, CallError> {
        let (shared, began) = (&self.shared, Instant::now());
        let sent = self.send(node, call, time, trace);
        let reply = if is_write(&call.operation) {
            tokio::pin!(sent);
            loop {
                tokio::select! {
                    biased;
                    reply = &mut sent => break reply,
                    () = tokio::time::sleep(LOOK_EVERY) => {
                        if shared.reach.read().silent(node, shared.now_ms()) {
                            break Err(CallError::TimedOut);
                        }
                    }
                }
            }
        } else {
            sent.await
        };
        match &reply {
            // In less time an answer could not be expected.
            Err(CallError::TimedOut) if began.elapsed() >= shared.settings.read_try => {
                shared.reach.write().unanswered(node, shared.now_ms());
            }
            Ok(_) if shared.reach.read().doubted(node) => shared.reach.write().answered(node),
            _ => {}
        }
        reply
    }

    fn judge(
        &self,
        reply: Result<ItemReply, CallError>,
        is_write: bool,
        node: NodeId,
        info: &PartitionInfo,
        attempts: &mut Attempts,
    ) -> Next {
        let fault = match reply {
            Ok(ItemReply::Fault(fault)) => fault,
            Ok(reply) => return Next::Done(Ok(reply)),
            Err(error) => return judge_call_error(&error, is_write),
        };
        match fault {
            ItemFault::ConditionFailed { .. }
            | ItemFault::Throttled { .. }
            | ItemFault::Conflict { .. }
            | ItemFault::Untimely { .. } => Next::Done(Ok(ItemReply::Fault(fault))),
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

/// How a call without an answer ended, for traces.
fn call_outcome(error: &CallError) -> &'static str {
    match error {
        CallError::NoResponders => "no responders",
        CallError::TimedOut => "timed out",
        CallError::Overloaded => "overloaded",
        CallError::Closed => "closed",
        CallError::Incompatible => "incompatible",
        CallError::Malformed(_) => "malformed",
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

/// Whether it must not be repeated while it is unknown whether it was executed.
fn is_write(operation: &ItemOperation) -> bool {
    match operation {
        ItemOperation::Write(_) | ItemOperation::Propagate(_) => true,
        ItemOperation::Transact(transact) => matches!(**transact, Transact::Prepare { .. }),
        ItemOperation::Get(_) | ItemOperation::Page(_) | ItemOperation::Changes(_) => false,
    }
}

fn need(operation: &ItemOperation) -> Need {
    let strong = match operation {
        ItemOperation::Get(get) => get.strong,
        ItemOperation::Page(page) => page.strong,
        ItemOperation::Write(_)
        | ItemOperation::Propagate(_)
        | ItemOperation::Changes(_)
        | ItemOperation::Transact(_) => true,
    };
    if strong { Need::Leader } else { Need::Nearest }
}

/// Time a caller that sets none should give a request: a dead leader is replaced in about two seconds.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);
