//! The world: all nodes, the network, the clients, and the queue of what happens next. One event at a time, in the order
//! of simulated time; everything else follows from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use paxos::{GroupId, Identity, Input, Message, NodeId, ReadLog};
use protocol::item::ItemReply;

use crate::checks::blame;
use crate::client::{Call, Client, Outcome};
use crate::coverage::Coverage;
use crate::disk::GroupDisk;
use crate::figure_eight::Trap;
use crate::fixture::founding_state;
use crate::host::{Clock, Host};
use crate::invariants::{self, Invariant};
use crate::network::Network;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::trace::Trace;
use linearizability::Operation;

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
    pub(crate) invariants: Vec<Box<dyn Invariant>>,
    /// Things still go wrong.
    pub(crate) faulty: bool,
    /// Clients go on with new requests.
    pub(crate) clients_run: bool,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    /// The trap that is set, if one is.
    pub(crate) trap: Option<Trap>,
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
            trap: None,
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
