//! Orders of the admin: refuses those of an admin that is no longer in office, and hands the others to the shard whose partition they are about.

use std::sync::Arc;
use std::time::Duration;

use mesh::{Delivery, Subscription};
use protocol::control::{Order, OrderCall};
use protocol::split::Split;
use protocol::subjects;

use crate::epochs::Standing;
use crate::inbox::Event;
use crate::node::Node;
use crate::orders::OrderCaller;

/// Orders of an admin that has just come into office, while its epoch is being written down.
pub(crate) const NOTINGS_MAX: u32 = 64;
/// How long a node that ends waits for them.
const NOTING_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn serve(node: &Arc<Node>) -> anyhow::Result<Subscription> {
    let subject = subjects::node_control(node.id);
    let node = node.clone();
    let mesh = node.mesh.clone();
    Ok(mesh
        .serve(&subject, None, move |delivery| take(&node, delivery))
        .await?)
}

fn take(node: &Arc<Node>, delivery: Delivery) {
    let call = delivery.decode::<OrderCall>();
    let caller = OrderCaller::new(delivery);
    let OrderCall { epoch, order } = match call {
        Ok(call) => call,
        Err(error) => return caller.refused(error.to_string()),
    };
    match node.epochs.standing(epoch) {
        Standing::Current => pass(node, order, caller),
        Standing::Older(greatest) => stale(epoch, greatest, caller),
        Standing::Newer => note_first(node, epoch, order, caller),
    }
}

/// Nothing is done for a new admin before its epoch is durable: else its predecessor could undo it after a restart of this node.
fn note_first(node: &Arc<Node>, epoch: u64, order: Order, caller: OrderCaller) {
    let Ok(permit) = node.notings.clone().try_acquire_owned() else {
        return caller.refused("the epoch of a new admin is being noted");
    };
    let noting = node.clone();
    node.runtime.spawn_blocking(move || {
        match noting.epochs.note(epoch) {
            Ok(Standing::Older(greatest)) => stale(epoch, greatest, caller),
            Ok(_) => pass(&noting, order, caller),
            Err(error) => {
                tracing::error!(epoch, %error, "the epoch of a new admin is not noted");
                caller.refused(format!("the admin's epoch is not noted: {error}"));
            }
        }
        // Whoever waits for the permits may close the node.
        drop(noting);
        drop(permit);
    });
}

/// Waits until no epoch is being noted any more, for a bounded time.
pub(crate) async fn outlast(node: &Arc<Node>) {
    let all = node.notings.acquire_many(NOTINGS_MAX);
    if tokio::time::timeout(NOTING_MAX, all).await.is_err() {
        tracing::warn!(
            node = node.id.0,
            "the epoch of an admin is still being noted, going on"
        );
    }
}

fn stale(epoch: u64, greatest: u64, caller: OrderCaller) {
    tracing::warn!(
        epoch,
        greatest,
        "an order of an admin that is no longer in office"
    );
    caller.stale(greatest);
}

fn pass(node: &Node, order: Order, caller: OrderCaller) {
    match order {
        _ if node.is_draining() => caller.refused("the node is going away"),
        Order::CreateReplica(order) => {
            node.inbox(order.partition)
                .event(Event::Create(order, caller));
        }
        Order::DropReplica { partition } => {
            node.inbox(partition).event(Event::Drop(partition, caller));
        }
        Order::Campaign { partition } => {
            node.inbox(partition)
                .event(Event::Campaign(partition, caller));
        }
        Order::SetTable { partition, table } => {
            node.inbox(partition)
                .event(Event::SetTable(partition, table, caller));
        }
        Order::JoinReplica(order) => {
            node.inbox(order.partition)
                .event(Event::Join(order, caller));
        }
        Order::RetireReplica {
            partition,
            incarnation,
            generation,
        } => {
            let event = Event::Retire(partition, incarnation, generation, caller);
            node.inbox(partition).event(event);
        }
        Order::ReplaceReplica {
            partition,
            generation,
            replaced,
            target,
        } => {
            let event = Event::Replace(partition, generation, (replaced, target), caller);
            node.inbox(partition).event(event);
        }
        Order::TransferLeadership { partition, to } => {
            node.inbox(partition)
                .event(Event::Transfer(partition, to, caller));
        }
        Order::FenceReplica {
            partition,
            incarnation,
            why,
        } => {
            let event = Event::Condemn(partition, incarnation, why, caller);
            node.inbox(partition).event(event);
        }
        Order::SplitPartition {
            partition,
            generation,
            point,
            left,
            right,
        } => {
            let split = Split {
                point,
                left,
                right,
                committed: None,
            };
            let event = Event::Split(partition, generation, split, caller);
            node.inbox(partition).event(event);
        }
        Order::AbandonSplit { partition, left } => {
            node.inbox(partition)
                .event(Event::AbandonSplit(partition, left, caller));
        }
        Order::FindMiddle { partition } => {
            node.inbox(partition)
                .event(Event::FindMiddle(partition, caller));
        }
    }
}
