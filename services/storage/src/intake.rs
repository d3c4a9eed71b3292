//! What comes in over the bus: decodes it, bounds it, and hands it to the shard whose it is. Owns the node's subjects; decides nothing. Runs on
//! threads of the bus, so nothing here may block.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh::{Delivery, Responder, Subscription};
use protocol::batch::BatchReader;
use protocol::demand::{DemandReport, GROUPS_MAX};
use protocol::health::Heartbeat;
use protocol::item::{ItemCall, ItemFault, ItemReply};
use protocol::replication::{CopyRequest, GroupMessage, KNOWS_BATCHES, ReplicationFrame};
use protocol::scrub::{Marker, ScrubCall, ScrubReply, ScrubRequest};
use protocol::split::SplitReport;
use protocol::subjects;
use telemetry::traces;

use crate::archiver_calls::take_call;
use crate::forwarder::forward;
use crate::inbox::{Caller, Event, Request, Traced};
use crate::node::{self, Node};
use crate::pool::Jobs;
use crate::scrub::{KeysJob, ScrubJob};

pub(crate) mod orders;

/// What a request weighs beside its body: the structures that hold it.
const REQUEST_OVERHEAD_BYTES: usize = 512;

pub(crate) async fn serve_items(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let subject = subjects::node_item(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    Ok(mesh
        .serve(&subject, None, move |delivery| take_item(&node, delivery))
        .await?)
}

/// Runs on a thread of the bus.
fn take_item(node: &Arc<Node>, delivery: Delivery) {
    if node.is_closed() {
        node.refused.fetch_add(1, Ordering::Relaxed);
        return delivery.reply(&ItemReply::Fault(ItemFault::NotReady));
    }
    let call = match delivery.decode::<ItemCall>() {
        Ok(call) => call,
        Err(error) => {
            tracing::warn!(%error, sender = delivery.sender.instance, "not an item request");
            let error =
                model::ApiError::new(model::ErrorKind::InternalServerError, error.to_string());
            return delivery.reply(&ItemReply::Fault(ItemFault::Api(error)));
        }
    };
    if let Some(to) = call.forward_to.filter(|to| *to != node.id) {
        return forward(node, call, to, delivery);
    }
    let inbox = node.inbox(call.partition);
    let bytes = delivery.body.len() + REQUEST_OVERHEAD_BYTES;
    if !inbox.admit(bytes) {
        return delivery.reply(&ItemReply::Fault(ItemFault::Overloaded));
    }
    let deadline = delivery.deadline;
    let traced = (delivery.trace.is_some() && node.recorder.is_on()).then(|| Traced {
        context: delivery.trace,
        partition: call.partition.0,
        operation: call.operation.name(),
        received_ns: traces::now_ns(),
        evaluated_ns: 0,
        committed_ns: 0,
        index: 0,
    });
    let caller = Caller::Item {
        responder: delivery.responder(),
        bytes,
        traced,
    };
    inbox.request(Request {
        call,
        caller,
        deadline,
    });
}

pub(crate) async fn serve_replication(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let subject = subjects::node_replication(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    let take = move |delivery: Delivery| match delivery.decode::<ReplicationFrame>() {
        Ok(frame) => take_messages(&node, frame, delivery.body.len()),
        Err(error) => {
            tracing::warn!(%error, sender = delivery.sender.instance, "not a replication message");
        }
    };
    Ok(mesh.serve(&subject, None, take).await?)
}

/// Runs on a thread of the bus: one event for each shard that has a part in the frame.
fn take_messages(node: &Node, frame: ReplicationFrame, frame_bytes: usize) {
    let from = frame.from;
    node.note_reader(from, frame.knows >= KNOWS_BATCHES);
    let shards = node.inboxes.len();
    let mut parts: Vec<(Vec<GroupMessage>, usize)> = Vec::new();
    parts.resize_with(shards, Default::default);
    let mut malformed = 0;
    for read in BatchReader::new(from, &frame.batch) {
        match read {
            Ok((message, bytes)) => {
                let part = &mut parts[node::shard_of(message.group, shards)];
                part.0.push(message);
                part.1 += bytes;
            }
            Err(_) => malformed += 1,
        }
    }
    if malformed > 0 {
        tracing::warn!(sender = from.0, malformed, "not replication messages");
    }
    if let Some(message) = frame.single() {
        let part = &mut parts[node::shard_of(message.group, shards)];
        part.0.push(message);
        part.1 += frame_bytes;
    }
    for (inbox, (messages, bytes)) in node.inboxes.iter().zip(parts) {
        if !messages.is_empty() {
            inbox.messages(messages, bytes);
        }
    }
}

pub(crate) async fn serve_copies(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let subject = subjects::node_bulk(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    let take = move |delivery: Delivery| match delivery.decode::<CopyRequest>() {
        Ok(request) => {
            let inbox = node.inbox(request.group);
            inbox.event(Event::CopyRequested(request, delivery.responder()));
        }
        Err(error) => {
            tracing::warn!(%error, sender = delivery.sender.instance, "not a copy request");
        }
    };
    Ok(mesh.serve(&subject, None, take).await?)
}

pub(crate) async fn serve_archivers(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let subject = subjects::node_archive(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    let take = move |delivery: Delivery| take_call(&node, delivery);
    Ok(mesh.serve(&subject, None, take).await?)
}

pub(crate) async fn serve_splits(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let subject = subjects::node_split(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    let take = move |delivery: Delivery| match delivery.decode::<SplitReport>() {
        Ok(report) => {
            let inbox = node.inbox(report.partition);
            inbox.event(Event::SplitReported(report));
        }
        Err(error) => {
            tracing::warn!(%error, sender = delivery.sender.instance, "not a split report");
        }
    };
    Ok(mesh.serve(&subject, None, take).await?)
}

pub(crate) async fn serve_demand(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let subject = subjects::node_demand(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    let take = move |delivery: Delivery| match delivery.decode::<DemandReport>() {
        Ok(report) => {
            for demand in report.groups.into_iter().take(GROUPS_MAX) {
                let inbox = node.inbox(demand.partition);
                inbox.event(Event::Demand(demand));
            }
        }
        Err(error) => {
            tracing::warn!(%error, sender = delivery.sender.instance, "not a report of demand");
        }
    };
    Ok(mesh.serve(&subject, None, take).await?)
}

pub(crate) async fn serve_scrubs(
    node: &Arc<Node>,
    jobs: Jobs<ScrubJob>,
) -> anyhow::Result<Subscription> {
    let subject = subjects::node_scrub(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    let take = move |delivery: Delivery| match delivery.decode::<ScrubCall>() {
        Ok(call) => take_scrub(&node, &jobs, call, delivery.responder()),
        Err(error) => {
            tracing::warn!(%error, sender = delivery.sender.instance, "not a request of a scrub");
        }
    };
    Ok(mesh.serve(&subject, None, take).await?)
}

/// Runs on a thread of the bus.
fn take_scrub(node: &Node, jobs: &Jobs<ScrubJob>, call: ScrubCall, responder: Responder) {
    let (partition, scrub) = (call.partition, call.scrub);
    match call.what {
        ScrubRequest::Begin { bytes_per_second } => {
            let marker = Marker {
                scrub,
                bytes_per_second,
            };
            let event = Event::Mark(partition, marker, responder);
            node.inbox(partition).event(event);
        }
        ScrubRequest::Digest { from } => {
            let reply = node.scrubs.digest(partition, scrub, from, node.now());
            responder.reply(&reply);
        }
        ScrubRequest::Keys { range, after } => {
            match node.scrubs.view(partition, scrub, node.now()) {
                Err(reply) => responder.reply(&reply),
                Ok(snapshot) => {
                    let job = KeysJob {
                        snapshot,
                        range,
                        after,
                        responder,
                    };
                    if let Err(ScrubJob::Keys(job)) = jobs.submit(ScrubJob::Keys(job)) {
                        let busy = ScrubReply::Busy("too many listings at once".to_owned());
                        job.responder.reply(&busy);
                    }
                }
            }
        }
        ScrubRequest::End => {
            node.scrubs.end(partition, scrub);
            responder.reply(&ScrubReply::Unknown("ended".to_owned()));
        }
    }
}

/// Keeps an eye on the other nodes' heartbeats.
pub(crate) async fn watch_nodes(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let node = node.clone();
    let mesh = node.mesh.clone();
    // Heartbeats of other services, and what cannot be read, say nothing about nodes.
    let take = move |delivery: Delivery| {
        if let Ok(heartbeat) = delivery.decode::<Heartbeat>() {
            let now = node.now();
            node.capacity.hear(now, &heartbeat);
            node.nodes.write().hear(now, &heartbeat);
        }
    };
    Ok(mesh.serve(subjects::HEALTH, None, take).await?)
}

pub(crate) async fn serve_hydrate(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let node = node.clone();
    let mesh = node.mesh.clone();
    let take = move |_: Delivery| {
        node.inboxes
            .iter()
            .for_each(|inbox| inbox.event(Event::Hydrate))
    };
    Ok(mesh.serve(subjects::MEMDS_HYDRATE, None, take).await?)
}
