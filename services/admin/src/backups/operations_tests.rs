//! Pages of backups and of exports, and client tokens.

use model::TableId;
use protocol::jobs::Outcome;

use super::*;
use crate::backups::request::Named;
use crate::records::system_table;

fn backup(table: &str, at_ms: u64, kind: BackupKind) -> BackupRecord {
    BackupRecord {
        number: arn::number(at_ms, 1),
        name: "b".into(),
        kind,
        table: TableDefinition {
            name: table.into(),
            ..system_table()
        },
        partitions: Vec::new(),
        at_ms,
        items: 0,
        bytes: 0,
        available: true,
        expires_ms: None,
    }
}

fn query(limit: usize) -> BackupQuery {
    BackupQuery {
        table: None,
        limit,
        from_ms: 0,
        until_ms: u64::MAX,
        after: None,
        kind: "USER".into(),
    }
}

#[test]
fn backups_are_listed_by_table_and_time_page_by_page() {
    let all = || {
        let mut all: Vec<_> = (1..=5)
            .rev()
            .map(|n| backup("music", n, BackupKind::User))
            .collect();
        all.push(backup("films", 9, BackupKind::User));
        all.push(backup("films", 3, BackupKind::System));
        all
    };
    let times = |page: &[BackupRecord]| page.iter().map(|b| b.at_ms).collect::<Vec<_>>();
    let mut wanted = query(4);
    let (first, more) = page_of(all(), &wanted);
    assert_eq!((times(&first), more), (vec![9, 1, 2, 3], true));
    let last = first.last().unwrap();
    wanted.after = Some(Named {
        arn: last.arn("eu-1"),
        table: "music".into(),
        number: last.number.clone(),
    });
    let (second, more) = page_of(all(), &wanted);
    assert_eq!((times(&second), more), (vec![4, 5], false));
    let only = |change: fn(&mut BackupQuery)| {
        let mut wanted = query(100);
        change(&mut wanted);
        times(&page_of(all(), &wanted).0)
    };
    assert_eq!(only(|q| q.kind = "SYSTEM".into()), [3]);
    assert_eq!(only(|q| q.kind = "ALL".into()), [3, 9, 1, 2, 3, 4, 5]);
    assert_eq!(only(|q| q.kind = "AWS_BACKUP".into()), [0u64; 0]);
    assert_eq!(only(|q| q.table = Some("films".into())), [9]);
    // The lower bound is inclusive, the upper one exclusive.
    assert_eq!(only(|q| (q.from_ms, q.until_ms) = (2, 4)), [2, 3]);
}

fn export(table: &str, started_ms: u64) -> JobRecord {
    let work = Work::Export(Box::new(Export {
        source: Source {
            uuid: "u".into(),
            table: TableId(20),
            at_ms: 5,
        },
        bucket: "lake".into(),
        prefix: String::new(),
        folder: String::new(),
        arn: String::new(),
        table_arn: String::new(),
        started_ms,
    }));
    let table = TableDefinition {
        name: table.into(),
        ..system_table()
    };
    JobRecord::new(arn::number(started_ms, 1), &table, work, started_ms)
}

#[test]
fn exports_are_listed_the_newest_first_page_by_page() {
    let jobs = || {
        vec![
            export("music", 1),
            export("music", 3),
            export("films", 2),
            export("music", 4),
        ]
    };
    let times = |page: &[JobRecord]| page.iter().map(|j| j.started_ms).collect::<Vec<_>>();
    let mut query = TransferQuery {
        table: Some("music".into()),
        limit: 2,
        before: None,
    };
    let (first, next) = transfers(jobs(), &query);
    assert_eq!(
        (times(&first), next),
        (vec![4, 3], Some(token_of(&first[1].number)))
    );
    query.before = Some(first[1].number.clone());
    let (second, next) = transfers(jobs(), &query);
    assert_eq!((times(&second), next), (vec![1], None));
    query = TransferQuery {
        table: None,
        limit: 25,
        before: None,
    };
    assert_eq!(times(&transfers(jobs(), &query).0), [4, 3, 2, 1]);
}

#[test]
fn a_token_is_known_for_eight_hours_after_the_end() {
    let mut job = export("music", 1);
    job.token = Some("t".into());
    let known = |job: &JobRecord, token, now_ms| {
        with_token(
            std::slice::from_ref(job),
            token,
            now_ms,
            JobRecord::is_export,
        )
        .is_some()
    };
    assert!(known(&job, Some("t"), u64::MAX), "it has not ended");
    assert!(!known(&job, Some("u"), 1) && !known(&job, None, 1));
    job.outcome = Some(Outcome::Done { manifest: None });
    job.ended_ms = 10;
    assert!(known(&job, Some("t"), 10 + TOKEN_MS - 1));
    assert!(!known(&job, Some("t"), 10 + TOKEN_MS));
    assert!(with_token(&[job], Some("t"), 10, JobRecord::is_import).is_none());
}

#[test]
fn only_so_many_run_at_once() {
    let mut jobs = vec![export("music", 1), export("music", 2)];
    assert!(check_room(&jobs, "exports", 3, JobRecord::is_export).is_ok());
    let full = check_room(&jobs, "exports", 2, JobRecord::is_export).unwrap_err();
    assert_eq!(full.kind, ErrorKind::LimitExceeded);
    assert!(check_room(&jobs, "imports", 1, JobRecord::is_import).is_ok());
    jobs[0].outcome = Some(Outcome::Done { manifest: None });
    assert!(check_room(&jobs, "exports", 2, JobRecord::is_export).is_ok());
}

#[test]
fn a_backup_describes_what_its_table_had() {
    let mut backup = backup("music", 1, BackupKind::User);
    let features =
        |backup: &BackupRecord| backup.describe("eu-1")["SourceTableFeatureDetails"].clone();
    let off = json!({ "TimeToLiveStatus": "DISABLED" });
    assert_eq!(features(&backup), json!({ "TimeToLiveDescription": off }));
    let keys = model::index::IndexKeys {
        partition: vec![backup.table.keys.partition.clone()],
        sort: Vec::new(),
    };
    backup.table.indexes = vec![model::index::IndexDefinition {
        id: model::IndexId(model::index::FIRST_GLOBAL),
        name: "by-key".into(),
        scope: model::index::IndexScope::Global(Default::default()),
        keys: keys.clone(),
        projection: model::index::IndexProjection::All,
    }];
    backup.table.ttl.attribute = Some("until".into());
    let index = json!({
        "IndexName": "by-key",
        "KeySchema": keys.describe(),
        "Projection": { "ProjectionType": "ALL" },
    });
    let on = json!({ "TimeToLiveStatus": "ENABLED", "AttributeName": "until" });
    assert_eq!(
        features(&backup),
        json!({ "GlobalSecondaryIndexes": [index], "TimeToLiveDescription": on })
    );
}
