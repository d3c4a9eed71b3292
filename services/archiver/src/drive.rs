//! The loops of an instance: asks the nodes, gives partitions their turn, reports to the admin, looks after the store. Owns what runs when and how much at
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use archive::course::Step;
use futures::future::join_all;
use mesh::{Deadline, Mesh, TraceContext};
use objects::{Honesty, Reason};
use paxos::GroupId;
use protocol::archive::{ArchivePlan, ArchiveReport};
use protocol::subjects;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::archiving::Work;
use crate::desk::Desk;

/// Between two looks at which partitions have something to do.
const DISPATCH_EVERY: Duration = Duration::from_millis(100);
/// Between two reports to the admin.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Pages of policies in one report.
const PLAN_PAGES_MAX: usize = 1_000;
/// Between two looks whether the store answers.
const STORE_EVERY: Duration = Duration::from_secs(10);

/// Asks all storage nodes for their logs, again and again.
pub(crate) async fn survey(desk: Arc<Desk>) {
    let mut every = interval(Duration::from_millis(desk.settings.poll_ms));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let nodes = desk.survey.lock().nodes(desk.now_ms());
        let asked = nodes.into_iter().map(|node| {
            let desk = desk.clone();
            async move {
                match desk.source.status(node).await {
                    Ok(logs) => {
                        let now_ms = desk.now_ms();
                        desk.survey.lock().described(node, logs, now_ms);
                    }
                    Err(error) => tracing::debug!(node = node.0, %error, "no word of its logs"),
                }
            }
        });
        join_all(asked).await;
    }
}

/// Gives the partitions that this instance looks after their turns, the oldest entries first.
pub(crate) async fn work(desk: Arc<Desk>) {
    let mut every = interval(DISPATCH_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle: BTreeMap<GroupId, Work> = BTreeMap::new();
    let mut busy: BTreeSet<GroupId> = BTreeSet::new();
    let mut turns: JoinSet<(GroupId, Work)> = JoinSet::new();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            Some(done) = turns.join_next(), if !turns.is_empty() => match done {
                Ok((id, work)) => {
                    busy.remove(&id);
                    idle.insert(id, work);
                }
                // Whatever it was about is in an unknown state: fail-stop.
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return,
            },
        }
        let mut own = desk.own_logs();
        let mine: BTreeSet<GroupId> = own.iter().map(|known| known.log.partition).collect();
        // Somebody else's by now, or gone.
        idle.retain(|id, _| mine.contains(id));
        desk.keep_reaches(&mine);
        desk.wishes.lock().retain(|id| mine.contains(id));
        own.sort_by_key(|known| std::cmp::Reverse(known.log.unarchived_ms));
        for known in own {
            if turns.len() >= desk.settings.partitions_at_once {
                break;
            }
            let id = known.log.partition;
            if busy.contains(&id) {
                continue;
            }
            let Some(mut work) = idle.remove(&id).or_else(|| Work::new(&desk, &known)) else {
                continue;
            };
            if desk.wishes.lock().remove(&id) {
                work.course.wanted();
            }
            if let Step::Wait { .. } = work.course.next(&known.for_course(), desk.now_ms()) {
                idle.insert(id, work);
                continue;
            }
            busy.insert(id);
            let desk = desk.clone();
            turns.spawn(async move {
                work.advance(&desk).await;
                (id, work)
            });
        }
    }
}

/// Tells the admin how far the tables are, and hears what is to be kept.
pub(crate) async fn report(desk: Arc<Desk>, mesh: Mesh) {
    let mut every = interval(REPORT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let (mut policies, mut after) = (BTreeMap::new(), String::new());
        let mut complete = false;
        for _ in 0..PLAN_PAGES_MAX {
            let report = ArchiveReport {
                instance: desk.settings.instance,
                zone: desk.settings.zone.clone(),
                tables: desk.tables(),
                after: after.clone(),
            };
            let deadline = Deadline::after(Duration::from_millis(desk.settings.call_ms));
            let trace = TraceContext::default();
            let said = mesh
                .call::<_, ArchivePlan>(subjects::ADMIN_ARCHIVE, &report, deadline, &trace)
                .await;
            match said {
                Ok(plan) => {
                    let named = plan.policies.into_iter();
                    policies.extend(named.map(|policy| (policy.uuid.clone(), policy)));
                    match plan.next.filter(|next| *next > after) {
                        Some(next) => after = next,
                        None => {
                            complete = true;
                            break;
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no admin says what is to be kept");
                    break;
                }
            }
        }
        if complete {
            *desk.policies.lock() = Some(policies);
        }
    }
}

/// Looks whether the store is there, and once whether it keeps conditional writes.
pub(crate) async fn watch_store(desk: Arc<Desk>) {
    let mut every = interval(STORE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if desk.probed.load(Relaxed) > 0 {
            let answer = match desk.objects.get("probes/none").await {
                Err(error) if error.reason == Reason::NotFound => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(_) => Ok(()),
            };
            desk.store_answered(answer);
            continue;
        }
        match objects::probe(&desk.objects).await {
            Ok(honesty) => {
                desk.store_answered(Ok(()));
                let honest = honesty == Honesty::Honest;
                desk.probed.store(if honest { 1 } else { 2 }, Relaxed);
                match honest {
                    true => tracing::info!("the object store keeps conditional writes"),
                    false => tracing::warn!(
                        how = honesty.as_str(),
                        "the object store does not keep conditional writes; nothing rests on them, since names hold digests"
                    ),
                }
            }
            Err(error) => desk.store_answered(Err(error.to_string())),
        }
    }
}
