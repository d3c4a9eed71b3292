//! One run: a phase in which things go wrong and nothing may be unsafe, then everything is healed and the mesh must
//! converge.

use paxos::{Configuration, GroupId, Member, Role};
use protocol::item::ItemReply;

use crate::coverage::Coverage;
use crate::fixture;
use crate::host::Host;
use crate::rng::Rng;
use crate::scenario::{Members, Options, Scenario};
use crate::words;
use crate::world::{Violation, World, broken};

/// After healing, leaders must serve and replicas agree within so many simulated milliseconds.
const CONVERGE_MS: u64 = 120_000;
/// Clients go on for so long after healing, in milliseconds.
const CALM_MS: u64 = 3_000;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was wrong, if anything was.
    pub violation: Option<Violation>,
    /// Digest of the trace.
    pub digest: u64,
    /// Lines of the trace.
    pub events: u64,
    /// Text of the trace, if asked for.
    pub trace: String,
    /// What happened.
    pub coverage: Coverage,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Report {
    let mut rng = Rng::new(seed);
    let scenario = Scenario::draw(&mut rng, options);
    let mut world = World::new(rng, scenario, options.keep_trace);
    let violation = live(&mut world).err();
    Report {
        seed,
        violation,
        digest: world.trace.digest(),
        events: world.trace.lines(),
        trace: world.trace.text().to_owned(),
        coverage: world.coverage,
    }
}

fn live(world: &mut World) -> Result<(), Violation> {
    let faults_us = world.scenario.faults_ms * 1_000;
    world.run_until(faults_us)?;
    world.heal();
    let calm = world.now + CALM_MS * 1_000;
    world.run_until(calm)?;
    world.clients_run = false;
    converge(world)?;
    check_replicas(world)?;
    world.check_items()?;
    check_histories(world)
}

/// Waits until every group has a leader and all its members know everything.
fn converge(world: &mut World) -> Result<(), Violation> {
    let deadline = world.now + CONVERGE_MS * 1_000;
    loop {
        let next = world.now + 100_000;
        world.run_until(next)?;
        let waiting = world
            .scenario
            .groups
            .iter()
            .find_map(|(group, _)| unsettled(world, *group));
        match waiting {
            None => return Ok(()),
            Some(why) if world.now >= deadline => {
                return broken("a healed mesh converges", why);
            }
            Some(_) => {}
        }
    }
}

/// Why a group has not converged yet.
fn unsettled(world: &World, group: GroupId) -> Option<String> {
    let why = |what: &str| {
        let states = world.hosts.values().filter_map(|host| {
            Some(words::of_replica(
                host.node,
                &host.groups.get(&group)?.replica,
            ))
        });
        let states: Vec<String> = states.collect();
        Some(format!("group {}: {what}\n{}", group.0, states.join("\n")))
    };
    if let Some(what) = world.split_pending(group) {
        return why(what);
    }
    let Some(leader) = world.leader(group) else {
        return why("nobody serves");
    };
    let leading = &world.hosts[&leader].groups[&group].replica;
    let (last, configuration) = (leading.status().last, leading.configuration());
    let behind = world.hosts.values().any(|host| {
        host.groups.get(&group).is_some_and(|hosted| {
            let status = hosted.replica.status();
            let incarnation = hosted.replica.identity().incarnation;
            let agrees = status.last == last && status.delivered == last.index && !status.copying;
            configuration.contains(host.node, incarnation) && !agrees
        })
    });
    if behind {
        return why("a replica is behind");
    }
    if world.scenario.members == Members::Fixed {
        let mut members = configuration.members.iter();
        return match members.all(|member| world.exists(group, member)) {
            true => None,
            false => why("a replica is missing"),
        };
    }
    why(out_of_shape(world, group, configuration)?)
}

/// What is not as it should be with a group's members: three storage members, each there, and nothing else anywhere.
/// (A replica that was made for this very configuration may still be taken in, and stays.)
fn out_of_shape(
    world: &World,
    group: GroupId,
    configuration: &Configuration,
) -> Option<&'static str> {
    let sound = |m: &Member| m.role == Role::Storage && world.exists(group, m);
    if configuration.joint.is_some() || !configuration.learners.is_empty() {
        return Some("a change is not complete");
    }
    if configuration.members.len() != 3 || !configuration.members.iter().all(sound) {
        return Some("not three storage members");
    }
    let left = |host: &Host| match host.disk.groups.get(&group) {
        Some(disk) => {
            let identity = disk.identity;
            let named = configuration.contains(host.node, identity.incarnation);
            !named && identity.generation < configuration.generation
        }
        None => false,
    };
    world
        .hosts
        .values()
        .any(left)
        .then_some("a removed replica is still there")
}

/// All storage replicas hold the same items.
fn check_replicas(world: &World) -> Result<(), Violation> {
    for (group, _) in &world.scenario.groups {
        let has = |key: &u64| {
            let line = world.lines.get(group);
            line.is_none_or(|line| line.range.contains(&fixture::key(*key)))
        };
        for key in (0..world.scenario.keys).filter(has) {
            let mut first = None;
            for host in world.hosts.values() {
                let (Some(hosted), Some(disk)) =
                    (host.groups.get(group), host.disk.groups.get(group))
                else {
                    continue;
                };
                let identity = disk.identity;
                let known = world.registry.get(*group);
                let member = known
                    .is_some_and(|known| known.committed.contains(host.node, identity.incarnation));
                if identity.role == Role::Log || !member {
                    continue;
                }
                let reply = match hosted.partition.get(&disk.tree, &fixture::get(key)) {
                    Ok(ItemReply::Item { item, .. }) => item,
                    other => return broken("replicas answer reads", format!("{other:?}")),
                };
                match &first {
                    None => first = Some((host.node, reply)),
                    Some((_, item)) if *item == reply => {}
                    Some((node, item)) => {
                        let what = format!(
                            "group {} k{key}: node {} has {item:?}, node {} has {reply:?}",
                            group.0, node.0, host.node.0
                        );
                        return broken("replicas are equal", what);
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_histories(world: &World) -> Result<(), Violation> {
    // What is still under way has an unknown outcome.
    let mut histories = world.history.clone();
    for call in world.calls.values() {
        let Some(client) = world.clients.get(call.client) else {
            continue;
        };
        let operation = call.record(crate::client::Outcome::Unknown, world.now);
        histories
            .entry((client.group, call.key))
            .or_default()
            .extend(operation);
    }
    for ((group, key), history) in &histories {
        if let Err(why) = linearizability::check(history) {
            let what = format!("group {} k{key}: {why}", group.0);
            return broken("histories are linearizable", what);
        }
    }
    Ok(())
}
