//! How far the archive is, as the archivers report it. Pure: time is an input. What was said once of a partition stays true, so nothing is unsaid when an
//! instance falls silent.

use std::collections::BTreeMap;

use paxos::GroupId;

/// An archiver that was silent for so long is away, milliseconds.
const SILENT_MS: u64 = 30_000;
/// What is said of a partition that is not one of its table's any more counts for so long, milliseconds.
const ENDED_MS: u64 = 10_000;
/// Partitions remembered at most.
const PARTITIONS_MAX: usize = 2_000_000;

#[derive(Clone, Copy, Debug)]
struct Through {
    through_ms: u64,
    heard_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Table {
    partitions: BTreeMap<GroupId, Through>,
    /// How far all of it was once: true for ever, whatever its partitions are now.
    through_ms: Option<u64>,
}

/// How far the archive is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archived {
    tables: BTreeMap<String, Table>,
    partitions: usize,
    heard_ms: Option<u64>,
}

impl Archived {
    /// An instance is there. `now_ms`: since the start.
    pub(crate) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = Some(now_ms);
    }

    /// Every command of a partition up to `through_ms` (milliseconds since the epoch) is archived.
    pub(crate) fn learn(&mut self, uuid: &str, partition: GroupId, through_ms: u64, now_ms: u64) {
        if !self.tables.contains_key(uuid) {
            self.tables.insert(uuid.to_owned(), Table::default());
        }
        let Some(table) = self.tables.get_mut(uuid) else {
            return;
        };
        if let Some(known) = table.partitions.get_mut(&partition) {
            known.through_ms = known.through_ms.max(through_ms);
            known.heard_ms = now_ms;
        } else if self.partitions < PARTITIONS_MAX {
            let heard_ms = now_ms;
            let through = Through {
                through_ms,
                heard_ms,
            };
            table.partitions.insert(partition, through);
            self.partitions += 1;
        }
    }

    /// Whether an archiver is at work.
    pub(crate) fn at_work(&self, now_ms: u64) -> bool {
        self.heard_ms
            .is_some_and(|heard| now_ms.saturating_sub(heard) < SILENT_MS)
    }

    /// Everything that was written to a table up to then is archived, milliseconds since the epoch; none: that was never known of all of its
    /// partitions, which are `partitions` now. One that has ended, but is not archived to its end yet, is heard of besides.
    pub(crate) fn through(
        &mut self,
        uuid: &str,
        partitions: &[GroupId],
        now_ms: u64,
    ) -> Option<u64> {
        let table = self.tables.get_mut(uuid)?;
        let known = &table.partitions;
        let own: Option<Vec<u64>> = partitions
            .iter()
            .map(|partition| known.get(partition).map(|t| t.through_ms))
            .collect();
        let ended = known
            .iter()
            .filter(|(id, t)| {
                !partitions.contains(id) && now_ms.saturating_sub(t.heard_ms) < ENDED_MS
            })
            .map(|(_, t)| t.through_ms);
        let now = own.and_then(|own| own.into_iter().chain(ended).min());
        table.through_ms = table.through_ms.max(now);
        table.through_ms
    }

    /// Forgets tables that are not `wanted`.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.tables.retain(|uuid, _| wanted(uuid));
        self.partitions = self.tables.values().map(|t| t.partitions.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [GroupId; 2] = [GroupId(16), GroupId(17)];

    #[test]
    fn a_table_is_as_far_as_the_last_of_its_partitions() {
        let mut archived = Archived::default();
        assert_eq!(archived.through("t", &PARTS, 0), None);
        archived.learn("t", GroupId(16), 500, 0);
        assert_eq!(
            archived.through("t", &PARTS, 0),
            None,
            "of one nothing is known"
        );
        archived.learn("t", GroupId(17), 400, 0);
        assert_eq!(archived.through("t", &PARTS, 0), Some(400));
        // An instance that knows less (it was just started) takes nothing back.
        archived.learn("t", GroupId(17), 0, 1);
        assert_eq!(archived.through("t", &PARTS, 1_000_000), Some(400));
        assert_eq!(archived.through("u", &PARTS, 0), None);
        archived.retain(|uuid| uuid == "u");
        assert_eq!(archived.through("t", &PARTS, 0), None);
    }

    #[test]
    fn a_split_partition_counts_until_it_is_archived_to_its_end() {
        let mut archived = Archived::default();
        for partition in PARTS {
            archived.learn("t", partition, 900, 0);
        }
        archived.learn("t", GroupId(15), 300, 0);
        assert_eq!(archived.through("t", &PARTS, 1), Some(300));
        let split = [GroupId(16), GroupId(18), GroupId(19)];
        assert_eq!(
            archived.through("t", &split, 2),
            Some(300),
            "known once, true for ever"
        );
        assert_eq!(
            archived.through("t", &PARTS, ENDED_MS),
            Some(900),
            "nobody speaks of it any more"
        );
    }

    #[test]
    fn an_archiver_is_at_work_while_it_reports() {
        let mut archived = Archived::default();
        assert!(!archived.at_work(0));
        archived.heard(5);
        assert!(archived.at_work(SILENT_MS));
        assert!(!archived.at_work(SILENT_MS + 5));
    }
}
