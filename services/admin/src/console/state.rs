//! All that the console shows, as one JSON document. Asked for at most once a second, however many look.

use std::cmp::Reverse;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::join_all;
use mesh::{Deadline, TraceContext};
use model::TableId;
use parking_lot::Mutex;
use paxos::GroupId;
use protocol::canary::{View, ViewRequest};
use protocol::operate::{
    Answer, Command, MeshHealth, PartitionStatus, TableSums, ThroughputStatus, table_sums,
};
use protocol::scrub::{Overview, PartitionScrub, Question};
use protocol::subjects;
use serde::Serialize;

use super::ANSWER_MAX;
use super::alarms::{Together, together};
use super::roster::{Instance, Roster};
use crate::driver::Admin;
use crate::operate;

/// For how long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);
/// Partitions looked at for the sums of tables.
const PARTITIONS_MAX: usize = 50_000;
/// Partitions shown at once: those with which something is going on, then the most used. The others: `/console/api/partitions`.
const SHOWN_MAX: usize = 200;
/// Scrubs shown at once: those under way and those that found something.
const SCRUBS_MAX: usize = 100;
/// Canaries asked.
const CANARIES_MAX: usize = 12;
/// Five-minute windows shown: six hours.
const WINDOWS: u64 = 72;

/// The last answer.
#[derive(Default)]
pub(super) struct Cached {
    last: Option<(Instant, Bytes)>,
}

/// The document.
#[derive(Serialize)]
struct State {
    now_ms: u64,
    /// The admin that serves the page.
    admin: u64,
    active: bool,
    version: &'static str,
    /// Nobody can sign in.
    read_only: bool,
    trace_url: String,
    health: Option<MeshHealth>,
    services: Vec<Instance>,
    tables: Vec<TableSums>,
    partitions_total: usize,
    partitions: Vec<PartitionStatus>,
    throughput: Vec<ThroughputStatus>,
    scrub: Option<Scrubs>,
    availability: Together,
    /// What could not be had, in words.
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Scrubs {
    scrubber: u64,
    archive: String,
    partitions: usize,
    never_clean: usize,
    with_findings: usize,
    /// Of the partition that was clean longest ago.
    oldest_clean_ms: Option<u64>,
    shown: Vec<PartitionScrub>,
}

/// The active admin's answer: one's own, or over the bus.
pub(super) async fn ask(admin: &std::sync::Arc<Admin>, command: Command) -> Result<Answer, String> {
    if admin.epoch().is_some() {
        return Ok(operate::answer(admin, command).await);
    }
    let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
    let asked = admin
        .mesh
        .call::<_, Answer>(subjects::ADMIN_OPERATE, &command, deadline, &trace);
    asked
        .await
        .map_err(|error| format!("no active admin answers: {error}"))
}

/// The active scrubber's answer.
pub(super) async fn scrubs(admin: &Admin, question: &Question) -> Result<Overview, String> {
    let mut all = Overview::default();
    let mut question = question.clone();
    loop {
        let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
        let asked =
            admin
                .mesh
                .call::<_, Overview>(subjects::SCRUB_OPERATE, &question, deadline, &trace);
        let answer = asked
            .await
            .map_err(|error| format!("no active scrubber answers: {error}"))?;
        let mut partitions = std::mem::take(&mut all.partitions);
        partitions.extend(answer.partitions);
        let next = answer.next.filter(|next| *next > question.after);
        all = Overview {
            partitions,
            next: None,
            ..answer
        };
        match next {
            Some(next) if all.partitions.len() < PARTITIONS_MAX => question.after = next,
            _ => return Ok(all),
        }
    }
}

async fn all_partitions(admin: &std::sync::Arc<Admin>) -> Result<Vec<PartitionStatus>, String> {
    let (mut all, mut after) = (Vec::new(), GroupId(0));
    loop {
        let command = Command::Partitions { table: None, after };
        match ask(admin, command).await? {
            Answer::Partitions { partitions, next } => {
                all.extend(partitions);
                match next.filter(|next| *next > after) {
                    Some(next) if all.len() < PARTITIONS_MAX => after = next,
                    _ => return Ok(all),
                }
            }
            Answer::Refused(why) => return Err(why),
            _ => return Err("the admin answered something else".to_owned()),
        }
    }
}

async fn canaries(admin: &Admin, instances: Vec<u64>) -> Vec<View> {
    let asked = instances.into_iter().take(CANARIES_MAX).map(|instance| {
        let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
        async move {
            let subject = subjects::canary_view(instance);
            let request = ViewRequest { windows: WINDOWS };
            let asked = admin
                .mesh
                .call::<_, View>(&subject, &request, deadline, &trace);
            asked.await.ok()
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Those with which something is going on first, then the most used.
fn most_telling(mut partitions: Vec<PartitionStatus>) -> Vec<PartitionStatus> {
    partitions.sort_by_key(|partition| {
        let busy = partition.leader.is_none()
            || partition.healthy_copies < 3
            || !partition.healing.is_empty()
            || !partition.split.is_empty();
        (!busy, Reverse(partition.heat_permille), partition.partition)
    });
    partitions.truncate(SHOWN_MAX);
    partitions
}

fn scrubs_shown(overview: Overview) -> Scrubs {
    let never = |scrub: &&PartitionScrub| scrub.clean_ms.is_none();
    let telling = |scrub: &PartitionScrub| scrub.running.is_some() || !scrub.finding.is_empty();
    let all = &overview.partitions;
    Scrubs {
        scrubber: overview.instance,
        archive: overview.archive,
        partitions: all.len(),
        never_clean: all.iter().filter(never).count(),
        with_findings: all.iter().filter(|s| !s.finding.is_empty()).count(),
        oldest_clean_ms: all.iter().filter_map(|scrub| scrub.clean_ms).min(),
        shown: all
            .iter()
            .filter(|scrub| telling(scrub))
            .take(SCRUBS_MAX)
            .cloned()
            .collect(),
    }
}

impl Cached {
    /// The document, as of this second.
    pub(super) async fn body(
        &mut self,
        admin: &std::sync::Arc<Admin>,
        roster: &Mutex<Roster>,
    ) -> Bytes {
        if let Some((at, body)) = &self.last
            && at.elapsed() < FRESH
        {
            return body.clone();
        }
        let body = Bytes::from(gather(admin, roster).await);
        self.last = Some((Instant::now(), body.clone()));
        body
    }
}

async fn gather(admin: &std::sync::Arc<Admin>, roster: &Mutex<Roster>) -> Vec<u8> {
    let (services, watching) = {
        let (now_ms, mut roster) = (admin.now_ms(), roster.lock());
        (roster.all(now_ms), roster.alive("canary", now_ms))
    };
    let throughput = Command::Throughput {
        table: None,
        after: TableId(0),
    };
    let question = Question::default();
    let (health, partitions, throughput, scrub, views) = tokio::join!(
        ask(admin, Command::Health),
        all_partitions(admin),
        ask(admin, throughput),
        scrubs(admin, &question),
        canaries(admin, watching),
    );
    let mut missing = Vec::new();
    let mut unless = |why: String| missing.push(why);
    let health = match health {
        Ok(Answer::Health(health)) => Some(*health),
        Ok(_) => None,
        Err(why) => {
            unless(why);
            None
        }
    };
    let partitions = partitions.unwrap_or_else(|why| {
        unless(why);
        Vec::new()
    });
    let throughput = match throughput {
        // The first thousand tables; `ctl throughput` has them all.
        Ok(Answer::Throughput { tables, .. }) => tables,
        Ok(Answer::Refused(why)) | Err(why) => {
            unless(why);
            Vec::new()
        }
        Ok(_) => Vec::new(),
    };
    let scrub = match scrub {
        Ok(overview) => Some(scrubs_shown(overview)),
        Err(why) => {
            unless(why);
            None
        }
    };
    if views.is_empty() {
        unless("no canary is heard: availability is not known".to_owned());
    }
    missing.dedup();
    let settings = &admin.settings.console;
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let state = State {
        now_ms: u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
        admin: admin.settings.instance,
        active: admin.epoch().is_some(),
        version: env!("CARGO_PKG_VERSION"),
        read_only: settings.operator_token.0.is_empty(),
        trace_url: settings.trace_url.clone(),
        health,
        services,
        tables: table_sums(&partitions),
        partitions_total: partitions.len(),
        partitions: most_telling(partitions),
        throughput,
        scrub,
        availability: together(&views),
        missing,
    };
    serde_json::to_vec(&state).unwrap_or_else(|error| {
        // Only of what cannot be JSON, such as maps whose keys are no texts.
        tracing::error!(%error, "the console's state can't be written");
        b"{}".to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(id: u64, table: &str, heat_permille: u64) -> PartitionStatus {
        PartitionStatus {
            partition: GroupId(id),
            table: table.to_owned(),
            leader: Some(paxos::NodeId(1)),
            healthy_copies: 3,
            items: 10,
            heat_permille,
            ..PartitionStatus::default()
        }
    }

    #[test]
    fn what_something_is_going_on_with_comes_first() {
        let mut all: Vec<_> = (1..=300).map(|id| partition(id, "music", id)).collect();
        all[4].healing = "node 1 -> node 2".to_owned();
        all[9].leader = None;
        let sums = table_sums(&all);
        assert_eq!(
            (sums.len(), sums[0].partitions, sums[0].items),
            (1, 300, 3_000)
        );
        assert_eq!((sums[0].heat_permille, sums[0].without_leader), (300, 1));
        let shown = most_telling(all);
        let ids: Vec<u64> = shown.iter().map(|p| p.partition.0).take(4).collect();
        assert_eq!(ids, [10, 5, 300, 299]);
        assert_eq!(shown.len(), SHOWN_MAX);
    }
}
