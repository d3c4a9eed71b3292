//! The world: all nodes, the network, the clients, and the queue of what happens next. One event at a time, in the order
//! of simulated time; everything else follows from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use paxos::{GroupId, Input, Message, Millis, NodeId, Output, ReadLog, Replica, Standing};
use protocol::item::ItemReply;

use crate::client::{Call, Client, Outcome};
use crate::coverage::Coverage;
use crate::disk::GroupDisk;
use crate::fixture::{MapTree, founding_state};
use crate::host::{Clock, Host};
use crate::invariants::{self, Check, Committed, Invariant, Stepped};
use crate::linearizability::Operation;
use crate::network::Network;
use crate::rng::Rng;
use crate::scenario::{Scenario, incarnation};
use crate::trace::Trace;

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: NodeId,
        to: NodeId,
        group: GroupId,
        incarnation: u64,
        message: Box<Message>,
    },
    Tick {
        node: NodeId,
        life: u64,
        group: GroupId,
    },
    Synced {
        node: NodeId,
        life: u64,
    },
    LogRead {
        node: NodeId,
        life: u64,
        group: GroupId,
        read: ReadLog,
    },
    FlushDue {
        node: NodeId,
        life: u64,
        group: GroupId,
    },
    Flushed {
        node: NodeId,
        life: u64,
        group: GroupId,
        epoch: u64,
    },
    Copy {
        node: NodeId,
        life: u64,
        group: GroupId,
    },
    ClientWakes {
        client: usize,
    },
    Request {
        node: NodeId,
        call: Box<Call>,
    },
    Reply {
        call: u64,
        reply: Box<ItemReply>,
    },
    TimedOut {
        client: usize,
        call: u64,
    },
    Fault,
    Ambush {
        node: NodeId,
        life: u64,
    },
    Restart {
        node: NodeId,
        life: u64,
    },
    Heal,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What an invariant, or the world itself, found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// The world.
pub struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) scenario: Scenario,
    queue: BinaryHeap<Reverse<Scheduled>>,
    numbers: u64,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) calls: BTreeMap<u64, Call>,
    pub(crate) call_ids: u64,
    /// What the clients saw, by group and key.
    pub(crate) history: BTreeMap<(GroupId, u64), Vec<Operation>>,
    invariants: Vec<Box<dyn Invariant>>,
    /// Things still go wrong.
    pub(crate) faulty: bool,
    /// Clients go on with new requests.
    pub(crate) clients_run: bool,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    /// A message seen on the network, to be sent again by the nemesis.
    pub(crate) overheard: Option<(NodeId, NodeId, GroupId, Message)>,
}

impl World {
    /// A world at time 0, all nodes starting.
    pub fn new(mut rng: Rng, scenario: Scenario, keep_trace: bool) -> World {
        let mut hosts = BTreeMap::new();
        for node in &scenario.nodes {
            let clock = Clock::draw(&mut rng, scenario.drift_ppm);
            let mut disks = BTreeMap::new();
            for (group, configuration) in &scenario.groups {
                if configuration.member(*node).is_some() {
                    disks.insert(*group, GroupDisk::new(founding_state(configuration)));
                }
            }
            hosts.insert(*node, Host::new(*node, clock, disks));
        }
        let mut clients = Vec::new();
        for (group, configuration) in &scenario.groups {
            for _ in 0..scenario.clients {
                clients.push(Client::new(*group, configuration.members[0].node));
            }
        }
        let mut world = World {
            now: 0,
            network: Network::new(&scenario),
            rng,
            queue: BinaryHeap::new(),
            numbers: 0,
            hosts,
            clients,
            calls: BTreeMap::new(),
            call_ids: 0,
            history: BTreeMap::new(),
            invariants: invariants::all(),
            faulty: true,
            clients_run: true,
            trace: Trace::new(keep_trace),
            coverage: Coverage::default(),
            overheard: None,
            scenario,
        };
        if world.scenario.drift_ppm > 0 {
            world.coverage.hit("clock drift");
        }
        for node in world.scenario.nodes.clone() {
            world.start(node);
        }
        for client in 0..world.clients.len() {
            let at = world.rng.below(200_000);
            world.after(at, Event::ClientWakes { client });
        }
        let first = world.rng.around(world.scenario.fault_every_ms) * 1_000;
        world.after(first, Event::Fault);
        world
    }

    /// Simulated milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.now / 1_000
    }

    pub(crate) fn after(&mut self, delay_us: u64, event: Event) {
        self.numbers += 1;
        let (at, number) = (self.now + delay_us, self.numbers);
        self.queue.push(Reverse(Scheduled { at, number, event }));
    }

    /// Runs until this simulated time, or the first violation.
    pub fn run_until(&mut self, until_us: u64) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > until_us {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.happen(next.event)?;
        }
        self.now = self.now.max(until_us);
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver {
                from,
                to,
                group,
                incarnation,
                message,
            } => {
                let input = Input::Message {
                    from,
                    incarnation,
                    message: *message,
                };
                self.step(to, group, input)
            }
            Event::Tick { node, life, group } => {
                if self.alive(node, life) {
                    self.tick_was(node, group);
                    self.step(node, group, Input::Tick)?;
                }
                Ok(())
            }
            Event::Synced { node, life } if self.alive(node, life) => self.synced(node),
            Event::LogRead {
                node,
                life,
                group,
                read,
            } if self.alive(node, life) => self.log_read(node, group, read),
            Event::FlushDue { node, life, group } if self.alive(node, life) => {
                self.flush_due(node, group);
                Ok(())
            }
            Event::Flushed {
                node,
                life,
                group,
                epoch,
            } if self.alive(node, life) => self.flushed(node, group, epoch),
            Event::Copy { node, life, group } if self.alive(node, life) => self.copied(node, group),
            Event::Synced { .. }
            | Event::LogRead { .. }
            | Event::FlushDue { .. }
            | Event::Flushed { .. }
            | Event::Copy { .. } => Ok(()),
            Event::ClientWakes { client } => {
                self.client_wakes(client);
                Ok(())
            }
            Event::Request { node, call } => self.request(node, *call),
            Event::Reply { call, reply } => self.replied(call, &reply),
            Event::TimedOut { client, call } => {
                self.timed_out(client, call);
                Ok(())
            }
            Event::Fault => self.fault(),
            Event::Ambush { node, life } if self.alive(node, life) => self.spring(node),
            Event::Ambush { .. } => Ok(()),
            Event::Restart { node, life } => {
                let down = self
                    .hosts
                    .get(&node)
                    .is_some_and(|h| !h.up && h.life == life);
                if down { self.restart(node) } else { Ok(()) }
            }
            Event::Heal => {
                self.network.heal();
                Ok(())
            }
        }
    }

    fn alive(&self, node: NodeId, life: u64) -> bool {
        self.hosts
            .get(&node)
            .is_some_and(|host| host.up && host.life == life)
    }

    /// Starts a node's process.
    pub(crate) fn start(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get_mut(&node) else {
            return;
        };
        host.start(self.now, &self.scenario.timing, &self.scenario.mutations);
        let life = host.life;
        let groups: Vec<GroupId> = host.groups.keys().copied().collect();
        for group in groups {
            self.after(1, Event::Tick { node, life, group });
            let pause = self.rng.around(self.scenario.flush_ms) * 1_000 + 1_000;
            self.after(pause, Event::FlushDue { node, life, group });
        }
    }

    fn restart(&mut self, node: NodeId) -> Result<(), Violation> {
        self.coverage.hit("restart");
        self.trace
            .note(self.now, format_args!("n{} restarts", node.0));
        if let Some(host) = self.hosts.get_mut(&node) {
            host.clock.restart(&mut self.rng);
            for (group, disk) in &host.disk.groups {
                for invariant in &mut self.invariants {
                    let check = invariant.restarted(*group, node, disk);
                    blame(invariant.name(), check)?;
                }
            }
        }
        self.start(node);
        Ok(())
    }

    /// Gives an input to a replica and does what comes of it. Nothing happens on a node that is down.
    pub(crate) fn step(
        &mut self,
        node: NodeId,
        group: GroupId,
        input: Input,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        self.trace.note(
            self.now,
            format_args!(
                "n{} g{} {}",
                node.0,
                group.0,
                crate::words::of_input(&input)
            ),
        );
        let output = hosted.replica.step(now, input);
        self.carry_out(node, group, output)
    }

    /// Does what an output asks for.
    pub(crate) fn carry_out(
        &mut self,
        node: NodeId,
        group: GroupId,
        output: Output,
    ) -> Result<(), Violation> {
        self.check_step(node, group, &output)?;
        let Output {
            persist,
            token,
            send,
            committed,
            read_log,
            copy_wanted,
            ..
        } = output;
        if let Some(what) = output.role_changed {
            self.trace.note(
                self.now,
                format_args!("n{} g{} is {what:?}", node.0, group.0),
            );
            match what {
                Standing::Leader { serving: true } => self.coverage.hit("leader serves"),
                Standing::Leader { serving: false } => self.ambush(node),
                _ => {}
            }
        }
        if output.truncate_floor.is_some() {
            self.coverage.hit("log truncated");
        }
        let storage = self.is_storage(group, node);
        let mut answers = Vec::new();
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let life = host.life;
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        if output.lost.is_some() {
            hosted.partition.lose(&mut answers);
            self.coverage.hit("leader stepped down");
        }
        // A log replica has no state machine.
        for entry in committed.iter().filter(|_| storage) {
            if let Err(error) = hosted.partition.apply(entry, &mut answers) {
                return broken("the partition applies what is committed", error.to_string());
            }
        }
        if let Some(from) = copy_wanted {
            hosted.partition.lose(&mut answers);
            hosted.copying = Some(from);
            hosted.epoch += 1;
            hosted.flushing = None;
        }
        // Ticks: at most one is scheduled that is not overtaken.
        let wake = host
            .clock
            .when(hosted.replica.wake_at())
            .max(self.now + 500);
        let tick = wake < hosted.tick_at || hosted.tick_at <= self.now;
        if tick {
            hosted.tick_at = wake;
        }
        let sync = match token {
            Some(token) => host.disk.write(group, token, persist) && host.disk.begin_sync(),
            None => false,
        };
        if tick {
            self.after(wake - self.now, Event::Tick { node, life, group });
        }
        if sync {
            self.schedule_sync(node);
        }
        if copy_wanted.is_some() {
            let takes = self.rng.around(200_000) + 1_000;
            self.after(takes, Event::Copy { node, life, group });
        }
        for (to, message) in send {
            crate::words::cover(&mut self.coverage, &message, storage);
            self.send(node, to, group, message);
        }
        for read in read_log {
            self.coverage.hit("log read");
            let takes = self.rng.around(2_000);
            self.after(
                takes,
                Event::LogRead {
                    node,
                    life,
                    group,
                    read,
                },
            );
        }
        for (caller, reply) in answers {
            self.answer(node, caller, reply);
        }
        self.check_group(group)
    }

    fn tick_was(&mut self, node: NodeId, group: GroupId) {
        let hosted = self
            .hosts
            .get_mut(&node)
            .and_then(|host| host.groups.get_mut(&group));
        if let Some(hosted) = hosted
            && hosted.tick_at <= self.now
        {
            hosted.tick_at = 0;
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, group: GroupId, message: Message) {
        if self.rng.chance(10_000) {
            self.overheard = Some((from, to, group, message.clone()));
        }
        let (once, again) = self.network.fate(&mut self.rng, from, to);
        for delay in again.into_iter().chain(once) {
            let message = Box::new(message.clone());
            let incarnation = incarnation(from);
            self.after(
                delay,
                Event::Deliver {
                    from,
                    to,
                    group,
                    incarnation,
                    message,
                },
            );
        }
    }

    pub(crate) fn schedule_sync(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get(&node) else {
            return;
        };
        let life = host.life;
        let slow = host.slow_until > self.now;
        let mut takes = self.rng.around(self.scenario.sync_us) + 50;
        if slow {
            self.coverage.hit("slow disk");
            takes += self.rng.between(20_000, 1_500_000);
        }
        self.after(takes, Event::Synced { node, life });
    }

    /// A sync is done: what it covered is durable, the replicas hear of it, the next one starts.
    fn synced(&mut self, node: NodeId) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let durable = host.disk.end_sync();
        let next = host.disk.begin_sync();
        let groups = durable.iter().map(|(group, _, ops)| (*group, &ops[..]));
        self.check_persisted(node, groups.collect())?;
        if next {
            self.schedule_sync(node);
        }
        for (group, token, ops) in durable {
            if ops
                .iter()
                .any(|op| matches!(op, paxos::PersistOp::TruncateFrom(_)))
            {
                self.coverage.hit("entry truncated");
            }
            self.step(node, group, Input::Persisted(token))?;
        }
        Ok(())
    }

    fn log_read(&mut self, node: NodeId, group: GroupId, read: ReadLog) -> Result<(), Violation> {
        let Some(disk) = self.disk(node, group) else {
            return Ok(());
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (index, entry) in disk.entries.range(read.from..) {
            bytes += entry.bytes();
            let first = *index == read.from;
            if !first && (entries.is_empty() || bytes > read.max_bytes) {
                break;
            }
            entries.push(entry.clone());
        }
        let input = Input::LogRead {
            to: read.to,
            from: read.from,
            entries,
        };
        self.step(node, group, input)
    }

    fn flush_due(&mut self, node: NodeId, group: GroupId) {
        let pause = self.rng.around(self.scenario.flush_ms) * 1_000 + 1_000;
        let takes = self.rng.around(20_000) + 100;
        let Some(host) = self.hosts.get_mut(&node) else {
            return;
        };
        let life = host.life;
        let Some(hosted) = host.groups.get_mut(&group) else {
            return;
        };
        if hosted.copying.is_none()
            && let Some(batch) = hosted.partition.seal()
        {
            hosted.flushing = Some(batch);
            let epoch = hosted.epoch;
            self.after(
                takes,
                Event::Flushed {
                    node,
                    life,
                    group,
                    epoch,
                },
            );
        }
        self.after(pause, Event::FlushDue { node, life, group });
    }

    fn flushed(&mut self, node: NodeId, group: GroupId, epoch: u64) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        let Some(batch) = hosted.flushing.take_if(|_| hosted.epoch == epoch) else {
            return Ok(());
        };
        let index = batch.state.applied;
        if let Some(disk) = host.disk.groups.get_mut(&group) {
            disk.flush(batch);
        }
        hosted.partition.flushed(index);
        self.step(node, group, Input::Flushed { index })
    }

    /// The copy that a replica waits for: there, if its source is up, connected and whole.
    fn copied(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let Some(host) = self.hosts.get(&node) else {
            return Ok(());
        };
        let Some(from) = host.groups.get(&group).and_then(|hosted| hosted.copying) else {
            return Ok(());
        };
        let cut = self.network.is_cut(from, node) || self.network.is_cut(node, from);
        let source = self.hosts.get(&from).filter(|source| source.up && !cut);
        let whole = |source: &&Host| {
            source
                .groups
                .get(&group)
                .is_some_and(|g| g.copying.is_none())
        };
        let source = source
            .filter(whole)
            .and_then(|source| source.disk.groups.get(&group));
        let copy = source.map(|disk| (disk.tree.clone(), disk.state.clone()));
        let Some((tree, state)) = copy.filter(|_| !self.faulty || !self.rng.chance(200_000)) else {
            self.coverage.hit("copy failed");
            if let Some(hosted) = self.hosted(node, group) {
                hosted.copying = None;
            }
            return self.step(node, group, Input::CopyFailed);
        };
        self.coverage.hit("copy installed");
        self.install(node, group, tree, state)
    }

    fn install(
        &mut self,
        node: NodeId,
        group: GroupId,
        tree: MapTree,
        state: partition::PartitionState,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        hosted.copying = None;
        hosted.partition = partition::Partition::new(state.clone(), partition::Limits::default());
        let applied = paxos::Position {
            ballot: state.ballot,
            index: state.applied,
        };
        let configuration = state.configuration.clone();
        if let Some(disk) = host.disk.groups.get_mut(&group) {
            disk.install(tree, state);
        }
        self.step(
            node,
            group,
            Input::CopyInstalled {
                applied,
                configuration,
            },
        )
    }

    // Access

    pub(crate) fn hosted(
        &mut self,
        node: NodeId,
        group: GroupId,
    ) -> Option<&mut crate::host::Hosted> {
        self.hosts.get_mut(&node)?.groups.get_mut(&group)
    }

    pub(crate) fn disk(&self, node: NodeId, group: GroupId) -> Option<&GroupDisk> {
        self.hosts.get(&node)?.disk.groups.get(&group)
    }

    /// The serving leader of a group, as an onlooker sees it.
    pub(crate) fn leader(&self, group: GroupId) -> Option<NodeId> {
        let serves = |host: &&Host| {
            let hosted = host.groups.get(&group);
            hosted.is_some_and(|g| g.replica.can_serve_reads(host.clock.at(self.now)))
        };
        self.hosts.values().find(serves).map(|host| host.node)
    }

    // Checks

    fn check_step(
        &mut self,
        node: NodeId,
        group: GroupId,
        output: &Output,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get(&node) else {
            return Ok(());
        };
        let (Some(hosted), Some(disk)) = (host.groups.get(&group), host.disk.groups.get(&group))
        else {
            return Ok(());
        };
        let stepped = Stepped {
            group,
            node,
            replica: &hosted.replica,
            disk,
            sent: &output.send,
            committed: &output.committed,
        };
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.stepped(&stepped))?;
        }
        if output.committed.is_empty() {
            return Ok(());
        }
        let hosts = self.hosts.values();
        let disks: Vec<(NodeId, &GroupDisk)> = hosts
            .filter_map(|host| Some((host.node, host.disk.groups.get(&group)?)))
            .collect();
        let committed = Committed {
            group,
            node,
            entries: &output.committed,
            configuration: hosted.replica.configuration(),
            disks: &disks,
        };
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.committed(&committed))?;
        }
        Ok(())
    }

    pub(crate) fn check_persisted(
        &mut self,
        node: NodeId,
        durable: Vec<(GroupId, &[paxos::PersistOp])>,
    ) -> Result<(), Violation> {
        for (group, ops) in durable {
            let Some(disk) = self
                .hosts
                .get(&node)
                .and_then(|h| h.disk.groups.get(&group))
            else {
                continue;
            };
            for invariant in &mut self.invariants {
                let check = invariant.persisted(group, node, ops, disk);
                blame(invariant.name(), check)?;
            }
        }
        Ok(())
    }

    fn check_group(&mut self, group: GroupId) -> Result<(), Violation> {
        let now = self.now;
        let replicas: Vec<(NodeId, &Replica, Millis)> = self
            .hosts
            .values()
            .filter_map(|host| {
                let hosted = host.groups.get(&group)?;
                Some((host.node, &hosted.replica, host.clock.at(now)))
            })
            .collect();
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.swept(group, &replicas))?;
        }
        Ok(())
    }

    /// Delivers a message that may move nothing.
    pub(crate) fn step_stale(
        &mut self,
        node: NodeId,
        group: GroupId,
        input: Input,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        // Whatever time alone brings about happens first.
        let nothing = Input::Flushed { index: 0 };
        let output = hosted.replica.step(now, nothing);
        self.carry_out(node, group, output)?;
        let Some(hosted) = self.hosted(node, group) else {
            return Ok(());
        };
        let before = format!("{:?}", hosted.replica.status());
        let output = hosted.replica.step(now, input);
        let after = format!("{:?}", hosted.replica.status());
        let acted = !output.persist.is_empty() || !output.committed.is_empty();
        let states = (&before[..], &after[..]);
        let stale = invariants::Stale {
            group,
            node,
            states,
            acted,
        };
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.stale(&stale))?;
        }
        self.carry_out(node, group, output)
    }

    /// Writes an outcome down.
    pub(crate) fn record(&mut self, call: &Call, outcome: Outcome) {
        let Some(client) = self.clients.get_mut(call.client) else {
            return;
        };
        client.learn(call.key, outcome);
        let group = client.group;
        if let Some(operation) = call.record(outcome, self.now) {
            self.history
                .entry((group, call.key))
                .or_default()
                .push(operation);
        }
    }
}

fn blame(invariant: &'static str, check: Check) -> Result<(), Violation> {
    check.map_err(|detail| Violation { invariant, detail })
}

pub(crate) fn broken(invariant: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { invariant, detail })
}
