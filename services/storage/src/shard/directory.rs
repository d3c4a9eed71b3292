//! What a shard tells memds: the partitions that it leads, on change and again and again (constant work).

use std::collections::BTreeMap;

use paxos::GroupId;
use protocol::directory::Push;
use protocol::subjects;

use super::Shard;

/// How long memds is told of a dropped partition.
const DROPPED_TOLD_MS: u64 = 30_000;

impl Shard {
    /// Pushes the partitions among `ids` that this shard leads and that have changed.
    pub(super) fn push_changes(&mut self, ids: &[GroupId]) {
        let changed = |id: &GroupId| {
            let group = self.groups.get_mut(id)?;
            (std::mem::take(&mut group.push_due) && group.leads()).then_some(*id)
        };
        let changed: Vec<GroupId> = ids.iter().filter_map(changed).collect();
        if !changed.is_empty() {
            self.push(changed, false);
        }
    }

    /// Pushes everything that this shard leads.
    pub(super) fn push_all(&mut self) {
        self.pushed_at = self.env.now;
        let now = self.env.now;
        self.dropped
            .retain(|(_, since)| now.since(*since) < DROPPED_TOLD_MS);
        let led = self.groups.values_mut().filter(|group| group.leads());
        let mut led: Vec<GroupId> = led
            .map(|group| {
                group.push_due = false;
                group.id
            })
            .collect();
        led.sort_unstable();
        self.push(led, true);
    }

    pub(super) fn push(&mut self, partitions: Vec<GroupId>, with_dropped: bool) {
        let mut dropped = match with_dropped {
            true => self.dropped.iter().map(|(id, _)| *id).collect(),
            false => Vec::new(),
        };
        let chunk_len = self.env.node.settings.limits.push_partitions_max.max(1);
        let mut chunks: Vec<&[GroupId]> = partitions.chunks(chunk_len).collect();
        if chunks.is_empty() && !dropped.is_empty() {
            chunks.push(&[]);
        }
        for chunk in chunks {
            let mut push = Push {
                node: self.env.node.id,
                partitions: Vec::with_capacity(chunk.len()),
                tables: Vec::new(),
                dropped: std::mem::take(&mut dropped),
            };
            let mut tables = BTreeMap::new();
            for group in chunk.iter().filter_map(|id| self.groups.get(id)) {
                let Some(store) = &group.store else { continue };
                push.partitions.extend(group.info(&self.env));
                let table = &store.partition.state().table;
                let newest = tables.entry(table.id).or_insert(table);
                if newest.version < table.version {
                    *newest = table;
                }
            }
            self.env.node.led.note(self.env.now, &push.partitions);
            push.tables = tables.into_values().cloned().collect();
            if let Err(error) = self.env.node.mesh.cast(subjects::MEMDS_PUSH, &push) {
                tracing::debug!(%error, "membership push not sent");
            }
        }
    }
}
