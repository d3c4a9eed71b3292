//! Jobs: who gets them, whose reports count, when they are forgotten.

use model::TableId;
use protocol::jobs::{Source, Task, Work};

use super::*;
use crate::records::system_table;

const DAY_MS: u64 = model::table::DAY_MS;

fn restore(number: &str) -> JobRecord {
    let source = Source {
        uuid: "u".into(),
        table: TableId(20),
        at_ms: 5,
    };
    let target = Box::new(system_table());
    JobRecord::new(
        number.into(),
        &system_table(),
        Work::Restore { source, target },
        1_000,
    )
}

fn report(instance: u64, incarnation: u64, jobs_max: u64) -> JobsReport {
    JobsReport {
        instance,
        incarnation,
        jobs_max,
        progress: Vec::new(),
    }
}

fn owners(assigned: &[JobRecord]) -> Vec<(&str, Option<u64>, u64)> {
    let owner = |job: &JobRecord| (job.owner, job.attempt);
    assigned
        .iter()
        .map(|job| (job.number.as_str(), owner(job).0, owner(job).1))
        .collect()
}

#[test]
fn jobs_go_to_those_with_room_the_oldest_first() {
    let mut workers = Workers::default();
    let jobs = [restore("3"), restore("1"), restore("2"), restore("4")];
    assert!(
        workers.assign(jobs.iter(), |_| true, 0).is_empty(),
        "nobody is there"
    );
    workers.heard(&report(7, 1, 2), 0);
    workers.heard(&report(8, 1, 1), 0);
    let assigned = workers.assign(jobs.iter(), |_| true, 0);
    assert_eq!(
        owners(&assigned),
        [("1", Some(7), 1), ("2", Some(7), 1), ("3", Some(8), 1)]
    );
    let unready = workers.assign(jobs.iter(), |job| job.number == "4", 0);
    assert_eq!(owners(&unready), [("4", Some(7), 1)]);
    // Who stops takes nothing.
    workers.heard(&report(7, 1, 0), 0);
    assert_eq!(
        owners(&workers.assign(jobs.iter(), |_| true, 0)),
        [("1", Some(8), 1)]
    );
}

#[test]
fn the_job_of_an_instance_that_died_or_restarted_goes_on_elsewhere() {
    let mut workers = Workers::default();
    workers.heard(&report(7, 1, 1), 0);
    let job = workers.assign([restore("1")].iter(), |_| true, 0).remove(0);
    let again = |workers: &Workers, now_ms| workers.assign([job.clone()].iter(), |_| true, now_ms);
    assert!(again(&workers, SILENT_MS - 1).is_empty());
    workers.heard(&report(8, 1, 1), SILENT_MS);
    assert_eq!(owners(&again(&workers, SILENT_MS)), [("1", Some(8), 2)]);
    // The same instance, restarted: it knows nothing of its job.
    let mut workers = Workers::default();
    workers.heard(&report(7, 2, 1), 1);
    assert_eq!(owners(&again(&workers, 1)), [("1", Some(7), 2)]);
}

#[test]
fn only_the_current_attempt_counts() {
    let mut job = restore("1");
    job.owner = Some(7);
    job.attempt = 2;
    let progress = |attempt, tasks: usize, outcome| JobProgress {
        id: "1".into(),
        attempt,
        tasks: vec![Task::default(); tasks],
        outcome,
        waits: String::new(),
    };
    let done = Some(Outcome::Done { manifest: None });
    assert_eq!(progressed(&job, 7, &progress(1, 3, done.clone()), 9), None);
    assert_eq!(progressed(&job, 8, &progress(2, 3, done.clone()), 9), None);
    let planned = progressed(&job, 7, &progress(2, 3, None), 9).unwrap();
    assert_eq!((planned.tasks.len(), planned.outcome.clone()), (3, None));
    assert_eq!(
        progressed(&planned, 7, &progress(2, 3, None), 9),
        None,
        "nothing new"
    );
    assert_eq!(
        progressed(&planned, 7, &progress(2, 0, None), 9),
        None,
        "parts are not lost"
    );
    let ended = progressed(&planned, 7, &progress(2, 3, done.clone()), 9).unwrap();
    assert_eq!(
        (ended.outcome.clone(), ended.ended_ms, ended.owner),
        (done, 9, None)
    );
    assert_eq!(
        progressed(&ended, 7, &progress(2, 3, None), 10),
        None,
        "it has ended"
    );
}

#[test]
fn ended_jobs_are_forgotten_and_jobs_without_a_table_fail() {
    let job = restore("1");
    assert_eq!(
        aged(&job, true, 100 * DAY_MS),
        Change::Keep,
        "a table waits for it"
    );
    assert_eq!(aged(&job, false, 1_000 + ORPHAN_MS - 1), Change::Keep);
    let Change::Put(failed) = aged(&job, false, 1_000 + ORPHAN_MS) else {
        panic!("it has no table");
    };
    assert!(matches!(failed.outcome, Some(Outcome::Failed { .. })));
    assert_eq!(aged(&failed, false, failed.ended_ms + DAY_MS), Change::Keep);
    assert_eq!(
        aged(&failed, false, failed.ended_ms + DAY_MS + 1),
        Change::Delete
    );
    assert_eq!(
        aged(&failed, true, failed.ended_ms + DAY_MS + 1),
        Change::Keep
    );
}

#[test]
fn a_job_that_nobody_can_work_on_fails_and_one_that_waits_for_its_turn_does_not() {
    const WAIT_MS: u64 = 60_000;
    let mut workers = Workers::default();
    let jobs = [restore("1"), restore("2")];
    let lacks = |job: &JobRecord| (job.number == "1").then_some("The archive is behind");
    let look = |workers: &mut Workers, now_ms| {
        workers.heard(&report(7, 1, 0), now_ms);
        workers.give_up(jobs.iter(), lacks, WAIT_MS, (now_ms, now_ms + 5))
    };
    assert!(look(&mut workers, 0).is_empty());
    assert!(look(&mut workers, WAIT_MS - 1).is_empty());
    let given_up = look(&mut workers, WAIT_MS);
    assert_eq!(given_up.len(), 1);
    assert_eq!(
        (given_up[0].number.as_str(), given_up[0].ended_ms),
        ("1", WAIT_MS + 5)
    );
    let Some(Outcome::Failed { code, message }) = &given_up[0].outcome else {
        panic!("{given_up:?}");
    };
    assert_eq!(code, "ArchiveUnavailable");
    assert_eq!(message, "The archive is behind, for 60 seconds by now");
    // Another admin had the lease meanwhile.
    workers.forget_waits();
    assert!(look(&mut workers, 2 * WAIT_MS).is_empty());
    // Nobody is there at all.
    let alone = |workers: &mut Workers, now_ms| {
        let number = |job: JobRecord| job.number;
        let up = workers.give_up(jobs[1..].iter(), lacks, WAIT_MS, (now_ms, 0));
        up.into_iter().map(number).collect::<Vec<_>>()
    };
    let silent_ms = 2 * WAIT_MS + SILENT_MS;
    assert!(alone(&mut workers, silent_ms).is_empty());
    assert_eq!(alone(&mut workers, silent_ms + WAIT_MS), ["2"]);
}
