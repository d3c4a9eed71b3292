//! A replica's part in the split of its partition: lets the rules say what is next (`partition::split`), hands it to the disk
//! threads, and stands for election with the children. Decides nothing itself.

mod install;
mod lead;

use std::sync::Arc;

use mesh::TraceContext;
use partition::PartitionError;
use partition::split::{self, Filling, Local, Reports, SIDES, Task};
use paxos::{Ballot, GroupId, Input, Member, Millis, Standing};
use protocol::directory::{PartitionInfo, PlacedMember};
use protocol::item::{ItemFault, ItemReply};
use protocol::split::Split;
use tokio::sync::OwnedSemaphorePermit;

use super::flush::Flush;
use super::{Group, Store, zone_of};
use crate::children::Children;
use crate::env::Env;
use crate::flusher::Work;
use crate::inbox::Reservation;

/// Between two reports of a replica, milliseconds.
const REPORT_EVERY_MS: u64 = 200;
/// After something that could not be done, milliseconds.
const RETRY_MS: u64 = 500;
/// A child stands for election so often …
const CAMPAIGN_EVERY_MS: u64 = 100;
/// … until somebody leads, but not longer: then elections go their usual way.
const CAMPAIGN_MS_MAX: u64 = 5_000;

/// A split as this replica carries it out.
pub(crate) struct Splitting {
    pub(crate) children: Arc<Children>,
    /// As the disk threads said last; none: the children are not open.
    fillings: Option<[Filling; 2]>,
    /// The next step may be taken then: something has to be tried again.
    at: Millis,
    /// The children are filled further then.
    paced: Millis,
    /// The node fills few replicas' children at a time.
    permit: Option<OwnedSemaphorePermit>,
    /// What the shards of the children said, while they are being installed.
    reserved: [Option<Reservation>; 2],
    installing: bool,
}

impl Splitting {
    fn of(env: &Env, id: GroupId, split: &Split) -> Self {
        let (folder, options) = (env.node.replicas_folder(), env.node.tree_options());
        Self {
            children: Children::new(folder, options, id, split),
            fillings: None,
            at: Millis(0),
            paced: Millis(0),
            permit: None,
            reserved: [None, None],
            installing: false,
        }
    }
}

/// When a task may be begun. Only the filling is paced, and only as long as the parent serves: once it has ended, clients wait for its
/// children.
fn starts_at(task: Task, ended: bool, at: Millis, paced: Millis) -> Millis {
    match task {
        Task::Fill(_) if !ended => at.max(paced),
        _ => at,
    }
}

/// At a leader: what it was told; at any replica: when it tells.
#[derive(Default)]
pub(super) struct SplitWatch {
    reports: Reports,
    report_at: Millis,
    /// A child that was just begun where the parent was led: since when it stands for election, and when it does next.
    campaign: Option<(Millis, Millis)>,
}

impl Group {
    /// Takes the next step of a split, if one is under way.
    pub(super) fn tick_split(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        self.campaign(env)?;
        let Some(store) = &self.store else {
            return Ok(());
        };
        let (applied, durable) = (store.partition.state(), &store.durable);
        if applied.split.is_none() && durable.split.is_none() && store.splitting.is_none() {
            return Ok(());
        }
        self.report_split(env);
        self.commit_split(env)?;
        self.work_on_split(env)
    }

    fn local<'a>(&self, env: &Env, store: &'a Store) -> Local<'a> {
        let splitting = store.splitting.as_ref();
        let fillings = splitting.and_then(|s| s.fillings.as_ref());
        Local {
            durable: &store.durable,
            applied: store.partition.state(),
            me: (env.node.id, self.replica.identity().incarnation),
            children: splitting.map(|s| s.children.left()),
            fillings: fillings.map(|[left, right]| [left, right]),
        }
    }

    pub(super) fn work_on_split(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let idle = |store: &Store| {
            let state = store.partition.state();
            state.split.is_none() && store.durable.split.is_none() && store.splitting.is_none()
        };
        if self.store.as_deref().is_none_or(idle) {
            return Ok(());
        }
        let Some(mut store) = self.store.take() else {
            return Ok(());
        };
        // Whatever is durable there may be children of, unless they were just deleted.
        let known = store.durable.split.as_ref();
        let known = known.filter(|split| Some(split.left) != store.discarded);
        if store.splitting.is_none()
            && let Some(split) = known.filter(|_| !store.durable.installed)
        {
            store.splitting = Some(Splitting::of(env, self.id, split));
        }
        let task = split::next_task(&self.local(env, &store));
        let ended = store.partition.state().has_ended();
        self.store = Some(store);
        let waits = |store: &Store| {
            let rests =
                |s: &Splitting| s.installing || starts_at(task, ended, s.at, s.paced) > env.now;
            !matches!(store.flush, Flush::Idle)
                || store.copy.is_some()
                || store.splitting.as_ref().is_some_and(rests)
        };
        let Some(store) = self.store.as_mut().filter(|store| !waits(store)) else {
            return Ok(());
        };
        // What room there is is for what must go on.
        if let (Task::Create | Task::Fill(_), Some(splitting)) = (task, &mut store.splitting)
            && !ended
            && env.node.is_full()
        {
            splitting.at = env.now.plus(RETRY_MS);
            return Ok(());
        }
        match (task, &mut store.splitting) {
            (Task::Rest, _) => {
                if let Some(splitting) = &mut store.splitting {
                    splitting.permit = None;
                }
            }
            (Task::Flush, _) => self.start_flush(env),
            (_, None) => {}
            (Task::Discard, Some(_)) => self.submit_flush(env, Work::Discard),
            (Task::Create, Some(splitting)) => {
                if splitting.permit.is_none() {
                    splitting.permit = env.node.fillings.clone().try_acquire_owned().ok();
                }
                // Once the parent has ended, its keys are served by fewer replicas for as long as this takes.
                if splitting.permit.is_none() && !ended {
                    splitting.at = env.now.plus(RETRY_MS);
                    return Ok(());
                }
                let state = Box::new(store.partition.state().clone());
                self.submit_flush(env, Work::Create(state));
            }
            (Task::Fill(side), Some(splitting)) => {
                let bytes_max = env.node.settings.limits.split_chunk_bytes;
                if !ended {
                    splitting.paced = env.node.pace_split(env.now, bytes_max as u64);
                }
                self.submit_flush(env, Work::Fill(side, bytes_max));
            }
            (Task::Install, Some(_)) => return self.install_children(env),
        }
        Ok(())
    }

    /// The disk threads did something about the children.
    pub(super) fn split_worked(&mut self, env: &Env, done: Result<Option<[Filling; 2]>, ()>) {
        let Some(store) = &mut self.store else { return };
        let Some(splitting) = &mut store.splitting else {
            return;
        };
        match done {
            Ok(fillings) => splitting.fillings = fillings,
            Err(()) => splitting.at = env.now.plus(RETRY_MS),
        }
    }

    /// Whether this replica leads, and has proposed the end of its partition or knows of it: its members stay as they are.
    pub(super) fn is_ending(&self) -> bool {
        let ballot = self.replica.status().promised;
        let store = self.store.as_ref();
        store.is_some_and(|store| !store.partition.serves(ballot))
    }

    /// The fault for requests on a partition that has ended; none if it has not.
    pub(super) fn ended_fault(&self, env: &Env) -> Option<ItemReply> {
        let store = self.store.as_ref()?;
        store.partition.state().has_ended().then(|| {
            ItemReply::Fault(ItemFault::WrongRange {
                partition: None,
                children: self.children_info(env),
            })
        })
    }

    /// The children as this replica knows them: what they began with. Whoever leads the parent probably leads them.
    fn children_info(&self, env: &Env) -> Vec<PartitionInfo> {
        let Some(store) = &self.store else {
            return Vec::new();
        };
        let state = store.partition.state();
        let Some(split) = &state.split else {
            return Vec::new();
        };
        let Some(committed) = &split.committed else {
            return Vec::new();
        };
        let nodes = env.node.nodes.read();
        let placed = |member: &Member| PlacedMember {
            member: *member,
            zone: zone_of(&nodes, &state.members, member.node),
        };
        let child = |side| {
            let begun = split::begun_child(state, self.id, split, committed, side);
            PartitionInfo {
                partition: split::child_of(split, side),
                table: state.table.id,
                range: begun.range,
                generation: begun.configuration.generation,
                leader: self.replica.status().leader,
                members: begun.configuration.voters().map(placed).collect(),
                table_version: state.table.version,
                parent: Some(self.id),
                ..PartitionInfo::default()
            }
        };
        SIDES.into_iter().map(child).collect()
    }

    /// A child that begins, of this split. Where the parent was led it stands for election until somebody leads.
    pub(crate) fn begin_as_child(
        &mut self,
        env: &mut Env,
        split: TraceContext,
        campaign: bool,
    ) -> Result<(), PartitionError> {
        self.election.begun_with(split);
        if campaign {
            self.split_watch.campaign = Some((env.now, env.now));
        }
        self.campaign(env)
    }

    fn campaign(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let Some((since, at)) = self.split_watch.campaign else {
            return Ok(());
        };
        let led = self.replica.status().leader.is_some();
        if led || env.now.since(since) > CAMPAIGN_MS_MAX {
            self.split_watch.campaign = None;
            return Ok(());
        }
        if at > env.now {
            return Ok(());
        }
        self.split_watch.campaign = Some((since, env.now.plus(CAMPAIGN_EVERY_MS)));
        let status = self.replica.status();
        if status.standing == Standing::Candidate && status.promised == Ballot::default() {
            // Nobody has answered its probe: where the others were not there yet, it is lost.
            self.step(env, Input::StepDown)?;
        }
        self.step(env, Input::Campaign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_the_end_of_a_partition_waits_for_the_pace_of_the_filling() {
        let (at, paced) = (Millis(5), Millis(9_000));
        assert_eq!(starts_at(Task::Fill(SIDES[0]), false, at, paced), paced);
        assert_eq!(starts_at(Task::Fill(SIDES[0]), true, at, paced), at);
        for task in [Task::Flush, Task::Create, Task::Install, Task::Discard] {
            assert_eq!(starts_at(task, false, at, paced), at);
            assert_eq!(starts_at(task, true, at, paced), at);
        }
    }
}
