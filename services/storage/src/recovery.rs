//! What a node finds on its disk when it starts: the log and the B-trees, brought together into replicas. What does not fit is
//! fenced and named, never repaired by guessing. Runs once, blocking, before anything is served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use btree::{ReplicaTree, TreeError, TreeOptions};
use partition::{Batch, PartitionState};
use paxos::{GroupId, Identity, Outline, Position, Restored, Role};
use wal::{DataDir, FoundGroup, Recovery, Wal};

use crate::children::{child_folder, child_in, rename};
use crate::fence::{Fence, Reason};
use crate::orders::{DROPPED_MARK, forget_log, remove_folder};

/// A replica that was found whole.
pub(crate) struct Found {
    pub(crate) group: GroupId,
    /// None: a log replica.
    pub(crate) store: Option<(ReplicaTree, PartitionState)>,
    /// Applied entries above the floor of the log, or all of a log replica, in outline.
    pub(crate) outlines: Vec<Outline>,
    pub(crate) restored: Restored,
}

/// All that was found.
#[derive(Default)]
pub(crate) struct Inventory {
    pub(crate) replicas: Vec<Found>,
    /// Replicas that must not be served, and why.
    pub(crate) fenced: BTreeMap<GroupId, Fence>,
}

/// Brings B-trees and log together. Blocks.
pub(crate) fn take_stock(
    data_dir: &DataDir,
    wal: &Wal,
    recovery: Recovery,
    options: TreeOptions,
) -> anyhow::Result<Inventory> {
    let folder = data_dir.replicas();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    crate::copy::tidy(&folder)?;
    let Recovery {
        mut groups,
        damaged,
        unattributed_damage,
        torn_bytes,
    } = recovery;
    if torn_bytes > 0 {
        tracing::info!(torn_bytes, "cut the torn tail of the write-ahead log");
    }
    let mut inventory = Inventory::default();
    let mut seen = BTreeSet::new();
    let mut children = BTreeSet::new();
    // In the order of their numbers: a parent comes before its children.
    for group in replica_folders(&folder)? {
        let path = folder.join(group.0.to_string());
        if !path.exists() {
            // A child that was taken back.
            continue;
        }
        seen.insert(group);
        let logged = groups.remove(&group);
        if path.join(DROPPED_MARK).exists() {
            tracing::info!(group = group.0, "completing an interrupted drop");
            forget_log(wal, group)
                .and_then(|()| remove_folder(&path))
                .map_err(anyhow::Error::msg)?;
            continue;
        }
        if let Some(why) = damaged.get(&group) {
            let fence = Fence::new(Reason::LogDamaged, why.clone());
            inventory.fenced.insert(group, fence);
            continue;
        }
        let marked = Fence::marked(&path);
        if let Some(fence) = marked.with_context(|| format!("cannot read {}", path.display()))? {
            inventory.fenced.insert(group, fence);
            continue;
        }
        match (ReplicaTree::open(&path, options), logged) {
            (Ok((tree, mut state)), Some(logged)) => {
                if let Some(split) = state.split.clone().filter(|_| !state.installed) {
                    let identity = logged.identity(data_dir.incarnation());
                    let parts = (wal, folder.as_path(), &mut groups);
                    if complete_install(parts, group, &tree, &state, identity)? {
                        state.installed = true;
                    } else {
                        children.extend([split.left, split.right]);
                    }
                }
                let applied = Position {
                    ballot: state.ballot,
                    index: state.applied,
                };
                let configuration = Some(state.configuration.clone());
                let mut logged = match wal.load(group, logged, applied) {
                    Ok(logged) => logged,
                    Err(error) => {
                        inventory.fenced.insert(group, error.into());
                        continue;
                    }
                };
                let outlines = std::mem::take(&mut logged.outlines);
                let restored = logged.restored(data_dir.incarnation(), applied, configuration);
                inventory.replicas.push(Found {
                    group,
                    store: Some((tree, state)),
                    outlines,
                    restored,
                });
            }
            // The log never heard of it: its creation was not finished (then nothing was ever promised, and the order comes
            // again), unless the log may have forgotten it.
            (Ok((_, state)), None) if state.applied > 0 || unattributed_damage => {
                let why = "the write-ahead log has nothing of it";
                let fence = Fence::new(Reason::LogMissing, why);
                inventory.fenced.insert(group, fence);
            }
            (Ok((tree, _)), None) => {
                tracing::info!(
                    group = group.0,
                    "removing a replica whose creation was not finished"
                );
                tree.destroy()?;
            }
            (Err(TreeError::Missing { .. }), None) if !unattributed_damage => {
                remove_folder(&path).map_err(anyhow::Error::msg)?;
            }
            (Err(error), _) => drop(inventory.fenced.insert(group, error.into())),
        }
    }
    crate::children::tidy(&folder, |child| children.contains(&child))?;
    for (group, why) in damaged {
        let fence = Fence::new(Reason::LogDamaged, why);
        inventory.fenced.entry(group).or_insert(fence);
    }
    for (group, logged) in groups {
        // A log replica is in the log alone.
        if logged.identity(data_dir.incarnation()).role == Role::Log {
            match wal.load_outlined(group, logged) {
                Ok(mut logged) => inventory.replicas.push(Found {
                    group,
                    store: None,
                    outlines: std::mem::take(&mut logged.outlines),
                    restored: logged.restored(data_dir.incarnation(), Position::default(), None),
                }),
                Err(error) => drop(inventory.fenced.insert(group, error.into())),
            }
            continue;
        }
        let fence = Fence::new(Reason::TreeMissing, "its B-tree is missing");
        inventory.fenced.insert(group, fence);
    }
    Ok(inventory)
}

/// Whether there are folders of replicas: then there must be a log.
pub(crate) fn has_replicas(data_dir: &DataDir) -> bool {
    std::fs::read_dir(data_dir.replicas()).is_ok_and(|mut folders| folders.next().is_some())
}

/// Goes on with the installation of a split's children that a crash interrupted. If both are there, the parent's B-tree notes it
/// now. If not, those that are there are taken back, and the parent's replica installs both anew: until it is noted, none of them
/// has begun, so nothing was promised. True: it is noted.
fn complete_install(
    (wal, folder, groups): (&Wal, &Path, &mut BTreeMap<GroupId, FoundGroup>),
    parent: GroupId,
    tree: &ReplicaTree,
    state: &PartitionState,
    identity: Identity,
) -> anyhow::Result<bool> {
    let Some(split) = &state.split else {
        return Ok(false);
    };
    let Some(committed) = &split.committed else {
        return Ok(false);
    };
    let children = [split.left, split.right];
    let logged = |groups: &BTreeMap<GroupId, FoundGroup>, child| {
        let found = groups.get(&child).map(|found| found.identity(0));
        found.map(|found| found.incarnation == identity.incarnation)
    };
    let named = committed.configuration.members.iter();
    let named = named
        .filter(|m| m.incarnation == identity.incarnation)
        .count()
        > 0;
    if !named {
        return Ok(false);
    }
    let complete = |child: &GroupId| match logged(groups, *child) {
        Some(true) => folder.join(child.0.to_string()).exists(),
        // Another replica of the child joined.
        Some(false) => true,
        None => false,
    };
    if children.iter().all(complete) {
        tracing::info!(group = parent.0, "completing an interrupted split");
        let noted = PartitionState {
            installed: true,
            ..state.clone()
        };
        tree.flush(&Batch {
            state: noted,
            items: Default::default(),
            marked: None,
        })?;
        return Ok(true);
    }
    for child in children {
        let path = folder.join(child.0.to_string());
        match logged(groups, child) {
            Some(false) => continue,
            Some(true) => {
                forget_log(wal, child).map_err(anyhow::Error::msg)?;
                groups.remove(&child);
            }
            // What is there without a log is the parent's if it begins where the parent ended, else somebody's that was not made whole.
            None => match ReplicaTree::open(&path, TreeOptions::default()) {
                Ok((_, begun)) if begun.applied == committed.at => {}
                _ => continue,
            },
        }
        if path.exists() {
            rename(&path, &child_folder(folder, child))?;
        }
    }
    Ok(false)
}

fn replica_folders(folder: &Path) -> anyhow::Result<BTreeSet<GroupId>> {
    let mut found = BTreeSet::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        match number {
            Some(number) => drop(found.insert(GroupId(number))),
            None if child_in(&path).is_some() => {}
            None => tracing::warn!(path = %path.display(), "not a replica's folder, left alone"),
        }
    }
    Ok(found)
}
