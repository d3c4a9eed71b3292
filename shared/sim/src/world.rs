//! The world: all nodes, the network, the clients, and the queue of what happens next. One event at a time, in the order
//! of simulated time; everything else follows from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use paxos::{GroupId, Identity, Index, Input, Message, NodeId};

use crate::archive::Archive;
use crate::checks::blame;
use crate::client::{Call, Client, Outcome};
use crate::coverage::Coverage;
use crate::disk::GroupDisk;
use crate::event::Event;
use crate::figure_eight::Trap;
use crate::fixture::founding_state;
use crate::host::{Clock, Host};
use crate::invariants::{self, Invariant};
use crate::markers::Markers;
use crate::network::Network;
use crate::registry::Registry;
use crate::rng::Rng;
use crate::scenario::{Members, Scenario};
use crate::splits::Line;
use crate::trace::Trace;
use linearizability::Operation;

/// The stand-in for healing looks at the groups so often.
pub(crate) const CARE_US: u64 = 500_000;

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
    pub(crate) invariants: Vec<Box<dyn Invariant>>,
    /// Things still go wrong.
    pub(crate) faulty: bool,
    /// Clients go on with new requests.
    pub(crate) clients_run: bool,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    /// The trap that is set, if one is.
    pub(crate) trap: Option<Trap>,
    /// A message seen on the network, with its sender's incarnation, to be sent again by the nemesis.
    pub(crate) overheard: Option<(NodeId, u64, NodeId, GroupId, Message)>,
    /// Messages of replicas, kept to be delivered again much later, when their senders may be gone.
    pub(crate) kept: VecDeque<(NodeId, u64, NodeId, GroupId, Message)>,
    /// What is known of the groups' members from outside.
    pub(crate) registry: Registry,
    /// Replacements that the admin wants: who goes, and where the new one is to be.
    pub(crate) intents: BTreeMap<GroupId, (NodeId, NodeId)>,
    /// When the last disk was lost.
    pub(crate) lost_at: u64,
    /// Replicas that were ordered to join so far.
    pub(crate) newcomers: u64,
    /// Groups among their relatives, where partitions are split.
    pub(crate) lines: BTreeMap<GroupId, Line>,
    /// Greatest number that was given to a child.
    pub(crate) split_ids: u64,
    /// Replicas that were ready for a split (named by its left child) at some time.
    pub(crate) ready: BTreeSet<(GroupId, NodeId, u64)>,
    /// Parents that are being dropped.
    pub(crate) dropping: BTreeSet<GroupId>,
    /// The last entry of each group that any replica handed out as committed.
    pub(crate) handed_out: BTreeMap<GroupId, Index>,
    /// What replicas held at markers.
    pub(crate) markers: Markers,
    /// What of each group is archived, where logs are.
    pub(crate) archives: BTreeMap<GroupId, Archive>,
}

impl World {
    /// A world at time 0, all nodes starting.
    pub fn new(mut rng: Rng, scenario: Scenario, keep_trace: bool) -> World {
        let mut hosts = BTreeMap::new();
        for node in &scenario.nodes {
            let clock = Clock::draw(&mut rng, scenario.drift_ppm);
            let mut disks = BTreeMap::new();
            for (group, configuration) in &scenario.groups {
                if let Some(member) = configuration.member(*node) {
                    let identity = Identity {
                        incarnation: member.incarnation,
                        role: member.role,
                        generation: configuration.generation,
                    };
                    let state = founding_state(configuration);
                    disks.insert(*group, GroupDisk::new(state, identity));
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
        let roots: Vec<GroupId> = scenario.groups.iter().map(|(group, _)| *group).collect();
        let roots = roots.into_iter().map(|group| (group, Line::root(group)));
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
            invariants: invariants::all(&scenario),
            faulty: true,
            clients_run: true,
            trace: Trace::new(keep_trace),
            coverage: Coverage::default(),
            trap: None,
            overheard: None,
            kept: VecDeque::new(),
            registry: Registry::new(&scenario.groups),
            intents: BTreeMap::new(),
            lost_at: 0,
            newcomers: 0,
            lines: match scenario.splits {
                true => roots.collect(),
                false => BTreeMap::new(),
            },
            split_ids: 0,
            ready: BTreeSet::new(),
            dropping: BTreeSet::new(),
            handed_out: BTreeMap::new(),
            markers: Markers::default(),
            archives: BTreeMap::new(),
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
        world.after(CARE_US, Event::Care);
        if world.scenario.members == Members::Healing {
            world.begin_healing();
        }
        if world.scenario.archive_ms > 0 {
            world.after(1_000, Event::Archive);
        }
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
        let Some(event) = self.unless_paused(event) else {
            return Ok(());
        };
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
            Event::Tick { node, birth, group } => {
                if self.hosts_birth(node, group, birth) {
                    self.tick_was(node, group);
                    self.step(node, group, Input::Tick)?;
                }
                Ok(())
            }
            Event::Synced { node, life } if self.alive(node, life) => self.synced(node),
            Event::LogRead {
                node,
                birth,
                group,
                read,
            } if self.hosts_birth(node, group, birth) => self.log_read(node, group, read),
            Event::FlushDue { node, birth, group } if self.hosts_birth(node, group, birth) => {
                self.flush_due(node, group);
                Ok(())
            }
            Event::Flushed {
                node,
                birth,
                group,
                epoch,
            } if self.hosts_birth(node, group, birth) => self.flushed(node, group, epoch),
            Event::Copy { node, birth, group } if self.hosts_birth(node, group, birth) => {
                self.copied(node, group)
            }
            Event::Inbox { node, birth, group } if self.hosts_birth(node, group, birth) => {
                self.evaluate(node, group)
            }
            Event::SplitWork { node, birth, group } if self.hosts_birth(node, group, birth) => {
                self.split_work(node, group)
            }
            Event::SplitReported { node, report } => {
                if self.hosts.get(&node).is_some_and(|host| host.up) {
                    self.split_reported(node, &report);
                }
                Ok(())
            }
            Event::Begin {
                node,
                life,
                group,
                campaigns,
            } if self.alive(node, life) => self.begin_child(node, group, campaigns),
            Event::Begin { .. } | Event::SplitWork { .. } => Ok(()),
            Event::Synced { .. }
            | Event::LogRead { .. }
            | Event::FlushDue { .. }
            | Event::Flushed { .. }
            | Event::Copy { .. }
            | Event::Inbox { .. } => Ok(()),
            Event::Order { node, order } => self.ordered(node, *order),
            Event::Deleted { node, life, group } => {
                if self.alive(node, life) {
                    self.delete(node, group);
                }
                Ok(())
            }
            Event::Care => self.care(),
            Event::Archive => {
                self.archive();
                Ok(())
            }
            Event::Archived { node, group, index } => self.archived(node, group, index),
            Event::Beat { node } => {
                self.beat(node);
                Ok(())
            }
            Event::Beaten { node, from } => {
                self.beaten(node, from);
                Ok(())
            }
            Event::Plan { node } => self.plan(node),
            Event::ClientWakes { client } => {
                self.client_wakes(client);
                Ok(())
            }
            Event::Request { node, call } => {
                self.request(node, *call);
                Ok(())
            }
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

    /// What happens to a process that is stopped happens once it goes on, all at once and in no order.
    fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let node = event.process();
        let host = node.and_then(|node| self.hosts.get(&node));
        let Some(until) = host.filter(|h| h.up).map(|host| host.paused_until) else {
            return Some(event);
        };
        if until <= self.now {
            return Some(event);
        }
        let later = until - self.now + self.rng.below(2_000);
        self.after(later, event);
        None
    }

    /// Whether this node still runs the replica that an event is meant for.
    fn hosts_birth(&self, node: NodeId, group: GroupId, birth: u64) -> bool {
        let host = self.hosts.get(&node).filter(|host| host.up);
        host.and_then(|host| host.groups.get(&group))
            .is_some_and(|hosted| hosted.birth == birth)
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
        host.start(self.now, &self.scenario);
        let groups: Vec<(GroupId, u64)> = host
            .groups
            .iter()
            .map(|(g, hosted)| (*g, hosted.birth))
            .collect();
        for (group, birth) in groups {
            self.begin(node, group, birth);
        }
    }

    /// A replica begins to run.
    pub(crate) fn begin(&mut self, node: NodeId, group: GroupId, birth: u64) {
        self.after(1, Event::Tick { node, birth, group });
        let pause = self.rng.around(self.scenario.flush_ms) * 1_000 + 1_000;
        self.after(pause, Event::FlushDue { node, birth, group });
        if self.scenario.splits {
            let pause = self.rng.around(self.scenario.split_ms) * 1_000 + 500;
            self.after(pause, Event::SplitWork { node, birth, group });
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

pub(crate) fn broken(invariant: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { invariant, detail })
}
