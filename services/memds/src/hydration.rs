//! How a fresh memds node gets its map: from a ready peer, or else from the storage nodes' pushes, with the system table as the list
//! of what must be there. Owns one bounded round of it; the keeper repeats it until the map is complete.

use std::time::Duration;

use mesh::{Deadline, Mesh, TraceContext};
use model::AttributeValue;
use model::codec::get_attribute;
use paxos::GroupId;
use protocol::directory::{Hydrate, SyncReply, SyncRequest};
use protocol::item::{ItemCall, ItemOperation, ItemReply, Page};
use protocol::subjects;
use tracing::debug;

use crate::peers::Peers;
use crate::service::SharedMap;

/// The system table's only partition.
const SYSTEM: GroupId = GroupId(1);

/// Messages that one sync may take: with 1,000 partitions in each, ten million partitions.
const SYNC_MESSAGES_MAX: usize = 10_000;

/// Pages of the system table that one scan may take.
const PAGES_MAX: usize = 10_000;

/// One round: does what can be done now.
pub(crate) async fn once(
    mesh: Mesh,
    map: SharedMap,
    peers: Peers,
    instance: u64,
    call_max: Duration,
) {
    let ready = map.read().ready();
    if !ready {
        for peer in peers.ready() {
            if copy(&mesh, &map, peer, call_max).await {
                debug!(peer, "copied the map of a peer");
                return;
            }
        }
    }
    // Pushes come in while the system table is being read; what is still missing shows in the next round.
    let _ = mesh.cast(subjects::MEMDS_HYDRATE, &Hydrate { instance });
    if let Some(names) = table_names(&mesh, &map, call_max).await {
        map.write().expect_tables(names);
    }
}

/// Copies a peer's map; whether all of it came.
async fn copy(mesh: &Mesh, map: &SharedMap, peer: u64, call_max: Duration) -> bool {
    let mut after = GroupId(0);
    for _ in 0..SYNC_MESSAGES_MAX {
        let reply: SyncReply = match mesh
            .call(
                &subjects::memds_sync(peer),
                &SyncRequest { after },
                Deadline::after(call_max),
                &TraceContext::default(),
            )
            .await
        {
            Ok(reply) => reply,
            Err(error) => {
                debug!(peer, %error, "the peer does not answer");
                return false;
            }
        };
        if !reply.ready {
            return false;
        }
        let next = reply.next;
        map.write().sync(reply);
        match next {
            Some(next) => after = next,
            None => return true,
        }
    }
    false
}

/// Reads the names of all tables from the system table's leader, strongly. None: it can't be had now.
async fn table_names(mesh: &Mesh, map: &SharedMap, call_max: Duration) -> Option<Vec<String>> {
    let system = map.read().partition(SYSTEM)?;
    let leader = system.leader?;
    let mut names = Vec::new();
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let call = ItemCall {
            partition: SYSTEM,
            forward_to: None,
            uncharged: false,
            operation: ItemOperation::Page(Box::new(Page {
                range: system.range.clone(),
                after,
                reverse: false,
                strong: true,
                limit: None,
                bytes_max: 1024 * 1024,
                filter: None,
                projection: None,
                count_only: false,
                believed: None,
                name_last: false,
                ..Page::default()
            })),
        };
        let reply: ItemReply = mesh
            .call(
                &subjects::node_item(leader),
                &call,
                Deadline::after(call_max),
                &TraceContext::default(),
            )
            .await
            .ok()?;
        let ItemReply::Page(page) = reply else {
            return None;
        };
        for item in &page.items {
            if let Ok(Some(AttributeValue::S(key))) = get_attribute(item, "pk")
                && let Some(name) = key.strip_prefix("table#")
            {
                names.push(name.to_owned());
            }
        }
        after = page.last_key;
        if after.is_none() {
            return Some(names);
        }
    }
    None
}
