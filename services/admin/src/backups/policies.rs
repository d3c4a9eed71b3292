//! What the archive has to keep: from the records of tables, backups and jobs. Pure.

use std::collections::BTreeMap;

use protocol::archive::TablePolicy;
use protocol::jobs::{Source, Work};

use super::records::{BackupRecord, JobRecord};
use super::window::PointInTime;
use crate::records::TableRecord;

/// So much more than the window is kept, milliseconds: a restore to its very beginning may be asked for just before it moves on.
const LONGER_MS: u64 = 3_600_000;

/// What is kept of all tables, in the order of their uuids.
pub(crate) fn kept<'a>(
    tables: &[TableRecord],
    backups: impl Iterator<Item = &'a BackupRecord>,
    jobs: impl Iterator<Item = &'a JobRecord>,
    now_ms: u64,
) -> Vec<TablePolicy> {
    let mut all: BTreeMap<String, TablePolicy> = BTreeMap::new();
    let from_ms = |recovery: PointInTime| recovery.earliest_ms(now_ms).saturating_sub(LONGER_MS);
    for table in tables {
        let uuid = table.definition.uuid.clone();
        let recovery = table.point_in_time;
        let kept = TablePolicy {
            uuid: uuid.clone(),
            window_from_ms: recovery.map(from_ms),
            pins: Vec::new(),
            deleted: false,
        };
        all.insert(uuid, kept);
    }
    let read = jobs.filter(|job| job.outcome.is_none());
    let sources = read.filter_map(|job| match &job.work {
        Work::Restore { source, .. } => Some(source),
        Work::Export(export) => Some(&export.source),
        Work::Import(_) => None,
    });
    let pinned = backups.map(|b| (b.table.uuid.clone(), b.at_ms));
    let pinned = pinned.chain(sources.map(|Source { uuid, at_ms, .. }| (uuid.clone(), *at_ms)));
    for (uuid, at_ms) in pinned {
        let gone = || TablePolicy {
            uuid: uuid.clone(),
            deleted: true,
            ..TablePolicy::default()
        };
        all.entry(uuid.clone())
            .or_insert_with(gone)
            .pins
            .push(at_ms);
    }
    let mut all: Vec<TablePolicy> = all
        .into_values()
        .filter(|kept| !kept.uuid.is_empty())
        .collect();
    for kept in &mut all {
        kept.pins.sort_unstable();
        kept.pins.dedup();
    }
    all
}

#[cfg(test)]
mod tests {
    use model::TableId;

    use super::*;
    use crate::backups::records::BackupKind;

    fn table(uuid: &str, since_ms: Option<u64>) -> TableRecord {
        let mut record = TableRecord::default();
        record.definition.uuid = uuid.into();
        record.point_in_time = since_ms.map(|since_ms| PointInTime { since_ms, days: 1 });
        record
    }

    fn backup(uuid: &str, at_ms: u64) -> BackupRecord {
        BackupRecord {
            number: "1".into(),
            name: "b".into(),
            kind: BackupKind::User,
            table: table(uuid, None).definition,
            partitions: Vec::new(),
            at_ms,
            items: 0,
            bytes: 0,
            available: true,
            expires_ms: None,
        }
    }

    #[test]
    fn windows_pins_and_what_is_left_of_deleted_tables() {
        let source = Source {
            uuid: "a".into(),
            table: TableId(20),
            at_ms: 7,
        };
        let target = Box::new(table("b", None).definition);
        let work = Work::Restore { source, target };
        let job = JobRecord::new("1".into(), &table("b", None).definition, work, 0);
        let tables = [table("b", None), table("a", Some(LONGER_MS + 5))];
        let backups = [
            backup("gone", 3),
            backup("b", 9),
            backup("b", 2),
            backup("b", 9),
        ];
        let all = |jobs: &[JobRecord]| kept(&tables, backups.iter(), jobs.iter(), 1_000);
        let expected = |uuid: &str, window_from_ms, pins: &[u64], deleted| TablePolicy {
            uuid: uuid.into(),
            window_from_ms,
            pins: pins.to_vec(),
            deleted,
        };
        assert_eq!(
            all(std::slice::from_ref(&job)),
            [
                expected("a", Some(5), &[7], false),
                expected("b", None, &[2, 9], false),
                expected("gone", None, &[3], true),
            ]
        );
        // A job that has ended reads nothing any more.
        let ended = protocol::jobs::Outcome::Done { manifest: None };
        let ended = JobRecord {
            outcome: Some(ended),
            ..job
        };
        assert_eq!(all(&[ended])[0], expected("a", Some(5), &[], false));
        // The window slides.
        let later = kept(&tables, [].iter(), [].iter(), 2 * model::table::DAY_MS);
        assert_eq!(
            later[0].window_from_ms,
            Some(model::table::DAY_MS - LONGER_MS)
        );
    }
}
