//! Who works on which job, what their reports change, and what is forgotten. Pure: time is an input.

use std::collections::BTreeMap;

use protocol::jobs::{JobProgress, JobsReport, Outcome};

use super::records::JobRecord;

/// An instance that was silent for so long loses its jobs to others, milliseconds: ten reports.
const SILENT_MS: u64 = 10_000;
/// Instances remembered at most.
const INSTANCES_MAX: usize = 1_000;
/// Exports and imports are told of for so long after their end, milliseconds: 90 days, as documented.
const TOLD_MS: u64 = 90 * model::table::DAY_MS;
/// A restore is remembered for so long after its end (an operator may look), milliseconds.
const RESTORE_TOLD_MS: u64 = model::table::DAY_MS;
/// A job's table is recorded behind the job: so long it may take, milliseconds.
const ORPHAN_MS: u64 = 60_000;

/// An archiver instance.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Instance {
    incarnation: u64,
    jobs_max: u64,
    heard_ms: u64,
}

/// Who is there to work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workers {
    instances: BTreeMap<u64, Instance>,
    /// Jobs that nobody can work on at the moment, and since when, milliseconds since the start.
    held_up: BTreeMap<String, u64>,
}

/// What is to be written about a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Nothing.
    Keep,
    /// This.
    Put(Box<JobRecord>),
    /// Forget it.
    Delete,
}

impl Workers {
    /// Takes in that an instance is there.
    pub(crate) fn heard(&mut self, report: &JobsReport, now_ms: u64) {
        if self.instances.len() < INSTANCES_MAX || self.instances.contains_key(&report.instance) {
            let instance = Instance {
                incarnation: report.incarnation,
                jobs_max: report.jobs_max,
                heard_ms: now_ms,
            };
            self.instances.insert(report.instance, instance);
        }
    }

    /// Gives jobs that nobody works on to instances that have room, the oldest first; gives back the changed records. `ready`: whether work
    /// on it can begin.
    pub(crate) fn assign<'a>(
        &self,
        jobs: impl Iterator<Item = &'a JobRecord>,
        ready: impl Fn(&JobRecord) -> bool,
        now_ms: u64,
    ) -> Vec<JobRecord> {
        let mut room: BTreeMap<u64, u64> = self
            .instances
            .iter()
            .filter(|(_, instance)| alive(instance, now_ms))
            .map(|(&id, instance)| (id, instance.jobs_max))
            .collect();
        let mut waiting = Vec::new();
        for job in jobs.filter(|job| job.outcome.is_none()) {
            match job.owner.filter(|_| self.works(job, now_ms)) {
                Some(owner) => {
                    if let Some(room) = room.get_mut(&owner) {
                        *room = room.saturating_sub(1);
                    }
                }
                None if ready(job) => waiting.push(job),
                None => {}
            }
        }
        waiting.sort_by(|a, b| a.number.cmp(&b.number));
        let mut assigned = Vec::new();
        for job in waiting {
            let best = room.iter_mut().filter(|(_, room)| **room > 0);
            let Some((&owner, room)) = best.max_by_key(|(id, room)| (**room, u64::MAX - **id))
            else {
                break;
            };
            *room -= 1;
            assigned.push(JobRecord {
                owner: Some(owner),
                incarnation: self.instances[&owner].incarnation,
                attempt: job.attempt + 1,
                ..job.clone()
            });
        }
        assigned
    }

    /// Ends jobs as failed that nobody could work on for `wait_ms_max`; gives back the changed records. `lacks`: what a job has to wait for, in words;
    /// none: nothing. Waiting for a free place does not count.
    pub(crate) fn give_up<'a>(
        &mut self,
        jobs: impl Iterator<Item = &'a JobRecord>,
        lacks: impl Fn(&JobRecord) -> Option<&'static str>,
        wait_ms_max: u64,
        (now_ms, unix_ms): (u64, u64),
    ) -> Vec<JobRecord> {
        let nobody = !self.instances.values().any(|i| alive(i, now_ms));
        let (mut held_up, mut given_up) = (BTreeMap::new(), Vec::new());
        for job in jobs.filter(|job| job.outcome.is_none() && !self.works(job, now_ms)) {
            let why = lacks(job).or(nobody.then_some("No archiver is at work"));
            let Some(why) = why else { continue };
            let since_ms = *self.held_up.get(&job.number).unwrap_or(&now_ms);
            held_up.insert(job.number.clone(), since_ms);
            if now_ms.saturating_sub(since_ms) < wait_ms_max {
                continue;
            }
            let seconds = wait_ms_max / 1_000;
            given_up.push(JobRecord {
                outcome: Some(Outcome::Failed {
                    code: "ArchiveUnavailable".to_owned(),
                    message: format!("{why}, for {seconds} seconds by now"),
                }),
                ended_ms: unix_ms,
                owner: None,
                ..job.clone()
            });
        }
        self.held_up = held_up;
        given_up
    }

    /// Another admin gave the orders meanwhile: how long jobs have waited is not known.
    pub(crate) fn forget_waits(&mut self) {
        self.held_up.clear();
    }

    /// Whether the owner of a job is still at it.
    fn works(&self, job: &JobRecord, now_ms: u64) -> bool {
        let instance = job.owner.and_then(|owner| self.instances.get(&owner));
        instance.is_some_and(|i| alive(i, now_ms) && i.incarnation == job.incarnation)
    }
}

fn alive(instance: &Instance, now_ms: u64) -> bool {
    now_ms.saturating_sub(instance.heard_ms) < SILENT_MS
}

/// A job's record after a report of this instance; none: nothing new, or not its business any more. `now_ms`: milliseconds since the epoch.
pub(crate) fn progressed(
    job: &JobRecord,
    instance: u64,
    progress: &JobProgress,
    now_ms: u64,
) -> Option<JobRecord> {
    let current = (job.owner, job.attempt) == (Some(instance), progress.attempt);
    if !current || job.outcome.is_some() {
        return None;
    }
    let mut next = job.clone();
    // Parts are never lost: a report that was made before the first ones were known says nothing.
    if progress.tasks.len() >= job.tasks.len() {
        next.tasks.clone_from(&progress.tasks);
    }
    if let Some(outcome) = &progress.outcome {
        next.outcome = Some(outcome.clone());
        next.ended_ms = now_ms;
        next.owner = None;
    }
    (next != *job).then_some(next)
}

/// What time does to a job. `filling`: whether a table waits for it; `now_ms`: milliseconds since the epoch.
pub(crate) fn aged(job: &JobRecord, filling: bool, now_ms: u64) -> Change {
    match &job.outcome {
        Some(_) => {
            let told_ms = if job.is_restore() {
                RESTORE_TOLD_MS
            } else {
                TOLD_MS
            };
            match now_ms.saturating_sub(job.ended_ms) > told_ms && !filling {
                true => Change::Delete,
                false => Change::Keep,
            }
        }
        None if job.target().is_none() || filling => Change::Keep,
        None if now_ms.saturating_sub(job.started_ms) < ORPHAN_MS => Change::Keep,
        // Its table was never recorded, or is gone: nobody waits for it.
        None => Change::Put(Box::new(JobRecord {
            outcome: Some(Outcome::Failed {
                code: "TableNotFound".to_owned(),
                message: "The table that was to be filled does not exist".to_owned(),
            }),
            ended_ms: now_ms,
            owner: None,
            ..job.clone()
        })),
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
