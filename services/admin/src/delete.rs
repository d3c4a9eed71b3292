//! Dropping a table: the record says DELETING, memds forgets, the replicas go, then the records. Replicas on nodes that are away are
//! dropped when they come back; until then their partition's record stays.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::table::TableStatus;
use model::{ApiError, KeyRange, TableDefinition};
use paxos::GroupId;
use protocol::control::Order;
use protocol::directory::PlacedMember;

use crate::catalog::WriteError;
use crate::driver::{Admin, Outcome, Unsettled};
use crate::records::{self, PartitionRecord, SplitRecord, Stored, TableRecord};
use crate::texts;
use crate::update::refuse_busy;

impl Admin {
    /// Records that a table is to be dropped; `drive` does it.
    pub(crate) async fn record_deletion(&self, name: &str) -> Result<TableDefinition, ApiError> {
        self.change_record(name, |definition| {
            refuse_busy(definition)?;
            if definition.deletion_protection {
                return Err(texts::deletion_protected());
            }
            definition.version += 1;
            definition.status = TableStatus::Deleting;
            Ok(())
        })
        .await?
        .ok_or_else(|| texts::table_not_found(name))
    }

    /// Drops the partitions of a table that is DELETING, then its record.
    pub(crate) async fn delete(&self, stored: Stored<TableRecord>) -> Result<(), Unsettled> {
        let stored = self.take_last_backup(stored).await?;
        self.await_backups(&stored.value).await?;
        let Stored {
            value: record,
            token,
        } = stored;
        // Before memds and we forget where they are now.
        let mut parents = Vec::new();
        for split in &record.splits {
            if let Some(mut parent) = self.partition(split.parent).await? {
                self.find_members(&mut parent).await?;
                self.record_children(split, &parent.value).await?;
                parents.push(parent);
            }
        }
        let all = record.all_partitions();
        let mut others = Vec::new();
        for &partition in all.iter().filter(|&&p| record.split_of(p).is_none()) {
            if let Some(mut other) = self.partition(partition).await? {
                self.find_members(&mut other).await?;
                others.push(other);
            }
        }
        self.tell_dropped(all.clone());
        self.client.forget_table(record.definition.id);
        // Parents first: as long as there are replicas of one, it may still bring forth its children.
        for partitions in [parents, others] {
            let drops: FuturesUnordered<_> = partitions
                .into_iter()
                .map(|partition| self.drop_partition(partition))
                .collect();
            for dropped in drops.collect::<Vec<_>>().await {
                dropped?;
            }
        }
        // Whatever a leader pushed before it was dropped.
        self.tell_dropped(all);
        self.catalog
            .delete(&records::table_key(&record.definition.name), &token)
            .await?;
        Ok(())
    }

    /// Writes records of the children of a split that was not settled: they may come into being, or have done so, wherever their parent is.
    async fn record_children(
        &self,
        split: &SplitRecord,
        parent: &PartitionRecord,
    ) -> Result<(), Unsettled> {
        let (start, end) = (parent.range.start.clone(), parent.range.end.clone());
        let point = split.point.clone();
        let left = (split.left, start, point.clone());
        let right = (split.right, point, end);
        for (partition, start, end) in [left, right] {
            let child = PartitionRecord {
                partition,
                range: KeyRange { start, end },
                dropping: false,
                parent: Some(split.parent),
                ..parent.clone()
            };
            let key = records::partition_key(partition);
            match self.catalog.put(&key, &child, None).await {
                Ok(_) | Err(WriteError::Conflict) => {}
                Err(WriteError::Api(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Adds to the record who is a member now (members change over a partition's life), so that whoever goes on drops those, too.
    async fn find_members(&self, stored: &mut Stored<PartitionRecord>) -> Result<(), Unsettled> {
        let record = &mut stored.value;
        let known = record.members.len();
        add_members(record, &self.placed(record.partition));
        if record.members.len() > known {
            let key = records::partition_key(record.partition);
            stored.token = self.catalog.put(&key, record, Some(&stored.token)).await?;
        }
        Ok(())
    }

    /// The replicas of a partition as its leader last placed them.
    fn placed(&self, partition: GroupId) -> Vec<PlacedMember> {
        let partitions = self.partitions.read();
        let seen = partitions.get(partition);
        seen.map(|seen| seen.replicas().cloned().collect())
            .unwrap_or_default()
    }

    /// Drops a partition's replicas where it can; what is left on nodes that have been away for long is left to `drop_rest`.
    async fn drop_partition(&self, mut stored: Stored<PartitionRecord>) -> Result<(), Unsettled> {
        let mut left = self.drop_replicas(&stored.value).await;
        // A leader may have taken in somebody (a log replica) while the first ones were being dropped, or afterwards.
        let before = stored.value.members.len();
        self.find_members(&mut stored).await?;
        if stored.value.members.len() > before {
            left = self.drop_replicas(&stored.value).await;
        }
        let key = records::partition_key(stored.value.partition);
        if left.is_empty() {
            self.catalog.delete(&key, &stored.token).await?;
            return Ok(());
        }
        let patience_ms = self.settings.drop_patience_ms;
        let away = |member: &PlacedMember| {
            let silent = self
                .cluster
                .read()
                .silent_ms(member.member.node, self.now_ms());
            silent.map_or(self.now_ms() > patience_ms, |ms| ms > patience_ms)
        };
        if !left.iter().all(away) {
            return Err(Unsettled::Later("replicas are still to be dropped"));
        }
        let rest = PartitionRecord {
            members: left,
            dropping: true,
            ..stored.value
        };
        self.catalog.put(&key, &rest, Some(&stored.token)).await?;
        Ok(())
    }

    /// Goes on with a partition of a dropped table, or one that was split.
    pub(crate) async fn drop_rest(&self, stored: Stored<PartitionRecord>) {
        if let Some(parent) = stored.value.parent {
            // The parent is dropped first.
            let parent = self.partition(parent).await;
            if parent.map_or(true, |parent| parent.is_some_and(|p| p.value.dropping)) {
                return;
            }
        }
        let alive = |member: &PlacedMember| {
            let cluster = self.cluster.read();
            cluster
                .alive(self.now_ms())
                .any(|node| node.node == member.member.node)
        };
        if !stored.value.members.iter().any(alive) {
            return;
        }
        let left = self.drop_replicas(&stored.value).await;
        let key = records::partition_key(stored.value.partition);
        let done = if left.is_empty() {
            self.tell_dropped(vec![stored.value.partition]);
            self.catalog.delete(&key, &stored.token).await
        } else if left.len() < stored.value.members.len() {
            let rest = PartitionRecord {
                members: left,
                ..stored.value
            };
            self.catalog
                .put(&key, &rest, Some(&stored.token))
                .await
                .map(|_| ())
        } else {
            Ok(())
        };
        match done {
            Ok(()) | Err(WriteError::Conflict) => {}
            Err(WriteError::Api(error)) => {
                tracing::warn!(key, %error, "a dropped partition's record could not be changed");
            }
        }
    }

    /// Orders all members to drop their replicas; gives those that did not say that they did.
    async fn drop_replicas(&self, record: &PartitionRecord) -> Vec<PlacedMember> {
        let order = &Order::DropReplica {
            partition: record.partition,
        };
        let orders: FuturesUnordered<_> = record
            .members
            .iter()
            .map(|member| async move { (member, self.order(member.member.node, order).await) })
            .collect();
        let outcomes: Vec<_> = orders.collect().await;
        let mut left = Vec::new();
        for (member, outcome) in outcomes {
            if outcome != Outcome::Done {
                let (partition, node) = (record.partition.0, member.member.node.0);
                tracing::info!(partition, node, ?outcome, "a replica is not dropped yet");
                left.push(member.clone());
            }
        }
        left.sort_by_key(|member| member.member.node);
        left
    }
}

/// Adds the nodes that the record does not name yet; an order to drop names no replica, so one a node is enough.
fn add_members(record: &mut PartitionRecord, placed: &[PlacedMember]) {
    for member in placed {
        let known = |m: &PlacedMember| m.member.node == member.member.node;
        if !record.members.iter().any(known) {
            record.members.push(member.clone());
        }
    }
}
