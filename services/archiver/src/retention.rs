//! Deletes from the archive what nothing needs any more (`archive::retention` says what that is), table by table. Owns the order (manifests before what
//! they name) and the care: nothing is deleted of a table of which the admin says nothing, nor while anything of it cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use archive::key::{Folder, ObjectName, parse};
use archive::retention::{Expired, Kept, KeptSegment, KeptSnapshot, Policy, expired};
use archive::{PartitionRef, SegmentName, SnapshotName, TableUuid};
use paxos::GroupId;
use protocol::archive::TablePolicy;
use tokio::time::{MissedTickBehavior, interval};

use crate::desk::Desk;
use crate::trouble::Trouble;

/// What no manifest names is left alone for so long, milliseconds: it may be of a segment or snapshot that is being written.
const ORPHAN_MS: u64 = 24 * 3_600_000;
/// Times of segments' ends that are remembered: they never change.
const TIMES_MAX: usize = 200_000;

/// What was read of manifests, which never change.
#[derive(Default)]
struct Times {
    segments: BTreeMap<(PartitionRef, SegmentName), u64>,
}

/// Deletes, again and again.
pub(crate) async fn run(desk: Arc<Desk>) {
    let mut every = interval(Duration::from_millis(desk.settings.retention_every_ms));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Times::default();
    loop {
        every.tick().await;
        if let Err(trouble) = round(&desk, &mut times).await {
            tracing::warn!(%trouble, "what is no longer needed stays in the archive for now");
        }
    }
}

async fn round(desk: &Desk, times: &mut Times) -> Result<(), Trouble> {
    let Some(policies) = desk.policies.lock().clone() else {
        return Ok(());
    };
    for table in desk.reader.tables().await? {
        let Some(policy) = policies.get(table.as_str()) else {
            continue;
        };
        if desk.ring.lock().of_number(number_of(&table)) != Some(desk.settings.instance) {
            continue;
        }
        if let Err(trouble) = clean(desk, times, &table, policy).await {
            tracing::warn!(table = table.as_str(), %trouble, "nothing more is deleted of its archive for now");
        }
    }
    Ok(())
}

/// A number for the ring.
fn number_of(table: &TableUuid) -> u64 {
    let bytes = table.as_str().bytes();
    bytes.fold(0, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    })
}

async fn clean(
    desk: &Desk,
    times: &mut Times,
    table: &TableUuid,
    policy: &TablePolicy,
) -> Result<(), Trouble> {
    let policy = Policy {
        window_from_ms: policy.window_from_ms,
        pins_ms: policy.pins.iter().copied().collect(),
        recoverable: !policy.deleted,
    };
    let mut kept: BTreeMap<GroupId, Kept> = BTreeMap::new();
    for partition in desk.reader.partitions(table).await? {
        if let Some(known) = read(desk, times, &partition).await? {
            kept.insert(partition.partition, known);
        }
    }
    for (id, expired) in expired(&kept, &policy) {
        let partition = PartitionRef {
            table: table.clone(),
            partition: id,
        };
        delete(desk, &partition, &expired).await?;
        times
            .segments
            .retain(|(of, name), _| *of != partition || !expired.segments.contains(name));
    }
    Ok(())
}

/// What a partition has; none: nothing that could be judged.
async fn read(
    desk: &Desk,
    times: &mut Times,
    partition: &PartitionRef,
) -> Result<Option<Kept>, Trouble> {
    let reader = &desk.reader;
    let Some(birth) = reader.birth(partition).await? else {
        return Ok(None);
    };
    let chain = reader.chain(partition).await?;
    let (mut segments, mut end) = (Vec::new(), None);
    let last = chain.names().next_back().cloned();
    for name in chain.names() {
        let known = (partition.clone(), name.clone());
        let known_ms = times.segments.get(&known).copied();
        let last_time_ms = match known_ms.filter(|_| last.as_ref() != Some(name)) {
            Some(time_ms) => time_ms,
            None => {
                let manifest = reader.manifest(partition, name).await?;
                end = end.or(manifest.split);
                if times.segments.len() < TIMES_MAX {
                    times.segments.insert(known, manifest.last_time_ms);
                }
                manifest.last_time_ms
            }
        };
        segments.push(KeptSegment {
            name: name.clone(),
            last_time_ms,
        });
    }
    let mut snapshots = Vec::new();
    for name in reader.snapshots(partition).await? {
        let manifest = reader.snapshot(partition, &name).await;
        snapshots.push(match manifest {
            Ok(manifest) => KeptSnapshot {
                name,
                time_ms: manifest.time_ms,
                damaged: false,
            },
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "a snapshot cannot be read");
                KeptSnapshot {
                    name,
                    time_ms: u64::MAX,
                    damaged: true,
                }
            }
        });
    }
    Ok(Some(Kept {
        birth,
        end,
        segments,
        snapshots,
    }))
}

async fn delete(desk: &Desk, partition: &PartitionRef, expired: &Expired) -> Result<(), Trouble> {
    let writer = &desk.writer;
    for name in &expired.snapshots {
        writer.delete_snapshot(partition, name).await?;
        desk.counts.deleted.fetch_add(1, Relaxed);
    }
    for name in &expired.segments {
        writer.delete_segment(partition, name).await?;
        desk.counts.deleted.fetch_add(1, Relaxed);
    }
    let orphans = orphans(desk, partition).await?;
    for key in &orphans {
        desk.objects.delete(key).await?;
        desk.counts.deleted.fetch_add(1, Relaxed);
    }
    if !expired.whole {
        return Ok(());
    }
    // The births go last: without them nothing says what the rest was. What is too young to be an orphan keeps them.
    let rest = [Folder::Segments, Folder::Parts, Folder::Snapshots];
    for folder in rest {
        if !desk
            .objects
            .list(&partition.folder_of(folder))
            .await?
            .is_empty()
        {
            return Ok(());
        }
    }
    for listed in desk
        .objects
        .list(&partition.folder_of(Folder::Births))
        .await?
    {
        desk.objects.delete(&listed.key).await?;
        desk.counts.deleted.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Parts and segments that no manifest names, and that are old enough.
async fn orphans(desk: &Desk, partition: &PartitionRef) -> Result<Vec<String>, Trouble> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let old = |modified_ms: u64| now_ms.saturating_sub(modified_ms) > ORPHAN_MS;
    let mut named: BTreeSet<String> = BTreeSet::new();
    let snapshots: Vec<SnapshotName> = desk.reader.snapshots(partition).await?;
    for name in &snapshots {
        let manifest = desk.reader.snapshot(partition, name).await?;
        let parts = manifest
            .parts
            .iter()
            .map(|part| partition.key(&part.name(manifest.applied)));
        named.extend(parts);
    }
    let listed = desk
        .objects
        .list(&partition.folder_of(Folder::Segments))
        .await?;
    for object in &listed {
        if let Some((_, ObjectName::SegmentManifest(name))) = parse(&object.key) {
            named.insert(object.key.clone());
            named.insert(partition.key(&ObjectName::Segment(name)));
        }
    }
    let parts = desk
        .objects
        .list(&partition.folder_of(Folder::Parts))
        .await?;
    let all = listed.into_iter().chain(parts);
    let orphans = all.filter(|object| !named.contains(&object.key) && old(object.modified_ms));
    Ok(orphans.map(|object| object.key).collect())
}
