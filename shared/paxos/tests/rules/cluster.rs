//! A handful of replicas on a perfect network that tests cut as they like. Disks keep what is persisted; a test may hold
//! a node's disk back. Time moves only when a test says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use paxos::*;

pub const GROUP: GroupId = GroupId(7);

/// What a node's disk holds.
#[derive(Clone)]
pub struct Disk {
    pub promised: Ballot,
    pub floor: Position,
    pub configuration: Configuration,
    pub entries: Vec<Entry>,
    pub applied: Position,
    pub applied_configuration: Option<Configuration>,
    pub identity: Option<Identity>,
}

impl Disk {
    fn write(&mut self, op: &PersistOp) {
        match op {
            PersistOp::Promise(ballot) => {
                assert!(*ballot > self.promised, "a promise only rises");
                self.promised = *ballot;
            }
            PersistOp::TruncateFrom(index) => self.entries.retain(|e| e.index < *index),
            PersistOp::Append(entries) => {
                for entry in entries {
                    let last = self.entries.last().map_or(self.floor.index, |e| e.index);
                    assert_eq!(entry.index, last + 1, "the log has no gaps");
                    self.entries.push(entry.clone());
                }
            }
            PersistOp::Install {
                index,
                ballot,
                configuration,
                identity,
            } => {
                self.identity = Some(*identity);
                self.entries.clear();
                self.floor = Position {
                    index: *index,
                    ballot: *ballot,
                };
                self.configuration = configuration.clone();
            }
            PersistOp::Floor {
                index,
                ballot,
                configuration,
            } => {
                self.entries.retain(|e| e.index > *index);
                self.floor = Position {
                    index: *index,
                    ballot: *ballot,
                };
                self.configuration = configuration.clone();
            }
        }
    }

    fn restored(&self) -> Restored {
        Restored {
            promised: self.promised,
            floor: self.floor,
            configuration: self.configuration.clone(),
            entries: self.entries.clone(),
            applied: self.applied,
            applied_configuration: self.applied_configuration.clone(),
            fresh: false,
            identity: self.identity.expect("the replica was founded"),
        }
    }
}

pub struct Node {
    pub replica: Option<Replica>,
    pub incarnation: u64,
    pub disk: Disk,
    pub unsynced: VecDeque<(Token, Vec<PersistOp>)>,
    /// The disk does not sync.
    pub stuck: bool,
    pub committed: Vec<Entry>,
    pub lost: Vec<std::ops::RangeInclusive<Index>>,
    pub copy_from: Option<NodeId>,
    pub reads: u64,
    /// It was told that it is no longer in the group.
    pub retired: bool,
}

pub struct Cluster {
    pub now: u64,
    pub timing: Timing,
    pub nodes: BTreeMap<u64, Node>,
    pub queue: VecDeque<(u64, u64, Message)>,
    /// Log reads wait in `reads_held` instead of being answered.
    pub hold_reads: bool,
    pub reads_held: Vec<(u64, ReadLog)>,
    /// Directed links that lose everything.
    pub cut: BTreeSet<(u64, u64)>,
    /// Every message that was sent, for inspection.
    pub sent: Vec<(u64, u64, Message)>,
    /// The last answer to a wish for other members.
    pub reconfigured: Option<Result<u64, ReconfigureRefusal>>,
}

pub fn three() -> Configuration {
    let member = |node| Member {
        node: NodeId(node),
        role: Role::Storage,
        incarnation: node * 100,
    };
    Configuration::founding((1..=3).map(member).collect())
}

impl Cluster {
    pub fn new(configuration: Configuration, timing: Timing) -> Cluster {
        let mut cluster = Cluster {
            now: 10_000,
            timing,
            nodes: BTreeMap::new(),
            queue: VecDeque::new(),
            hold_reads: false,
            reads_held: Vec::new(),
            cut: BTreeSet::new(),
            sent: Vec::new(),
            reconfigured: None,
        };
        for member in configuration.all() {
            cluster.add(*member, &configuration);
        }
        cluster
    }

    /// Makes a replica on a new or empty node: a founding member, or one that joins a group with this configuration.
    pub fn add(&mut self, member: Member, configuration: &Configuration) {
        let disk = Disk {
            promised: Ballot::default(),
            floor: Position::default(),
            configuration: Configuration::default(),
            entries: Vec::new(),
            applied: Position::default(),
            applied_configuration: None,
            identity: None,
        };
        let identity = Identity {
            incarnation: member.incarnation,
            role: member.role,
            generation: configuration.generation,
        };
        let replica = Replica::new(
            member.node,
            GROUP,
            Restored::founding(identity, configuration.clone()),
            self.timing.clone(),
            Millis(self.now),
        );
        let node = Node {
            replica: Some(replica),
            incarnation: member.incarnation,
            disk,
            unsynced: VecDeque::new(),
            stuck: false,
            committed: Vec::new(),
            lost: Vec::new(),
            copy_from: None,
            reads: 0,
            retired: false,
        };
        self.nodes.insert(member.node.0, node);
    }

    /// Asks a leader for a change of the members, for the configuration in force.
    pub fn reconfigure(
        &mut self,
        node: u64,
        members: &[Member],
        learners: &[Member],
    ) -> Result<u64, ReconfigureRefusal> {
        let input = Input::Reconfigure {
            generation: self.status(node).configuration.generation,
            members: members.to_vec(),
            learners: learners.to_vec(),
        };
        self.step(node, input);
        let answer = self.reconfigured.take();
        answer.expect("an answer")
    }

    pub fn replica(&self, node: u64) -> &Replica {
        self.nodes[&node].replica.as_ref().expect("the node runs")
    }

    pub fn replica_mut(&mut self, node: u64) -> &mut Replica {
        let state = self.nodes.get_mut(&node).expect("a node");
        state.replica.as_mut().expect("the node runs")
    }

    pub fn status(&self, node: u64) -> Status<'_> {
        self.replica(node).status()
    }

    pub fn step(&mut self, node: u64, input: Input) -> Option<Result<Index, Refusal>> {
        let state = self.nodes.get_mut(&node).expect("a node");
        let replica = state.replica.as_mut()?;
        let out = replica.step(Millis(self.now), input);
        assert_eq!(out.persist.is_empty(), out.token.is_none());
        if let Some(token) = out.token {
            state.unsynced.push_back((token, out.persist));
        }
        for entry in &out.committed {
            let before = state
                .committed
                .last()
                .map_or(state.disk.floor.index, |e| e.index);
            assert_eq!(
                entry.index,
                before.max(state.disk.applied.index) + 1,
                "in order, no gaps"
            );
            state.committed.push(entry.clone());
        }
        state.lost.extend(out.lost);
        state.retired |= out.retired;
        self.reconfigured = out.reconfigured;
        if out.copy_wanted.is_some() {
            state.copy_from = out.copy_wanted;
        }
        for (to, message) in out.send {
            self.sent.push((node, to.0, message.clone()));
            if !self.cut.contains(&(node, to.0)) {
                self.queue.push_back((node, to.0, message));
            }
        }
        for read in out.read_log {
            if self.hold_reads {
                self.reads_held.push((node, read));
            } else {
                self.answer_read(node, read);
            }
        }
        out.proposed
    }

    /// Answers a log read.
    pub fn answer_read(&mut self, node: u64, read: ReadLog) {
        let state = self.nodes.get_mut(&node).expect("a node");
        state.reads += 1;
        let mut bytes = 0;
        let after = state.disk.entries.iter().filter(|e| e.index >= read.from);
        let entries: Vec<Entry> = after
            .take_while(|e| {
                bytes += e.bytes();
                bytes <= read.max_bytes || bytes == e.bytes()
            })
            .cloned()
            .collect();
        self.step(
            node,
            Input::LogRead {
                to: read.to,
                from: read.from,
                entries,
            },
        );
    }

    /// Syncs everything on a node's disk.
    pub fn sync(&mut self, node: u64) {
        loop {
            let state = self.nodes.get_mut(&node).expect("a node");
            let Some((token, ops)) = state.unsynced.pop_front() else {
                break;
            };
            for op in &ops {
                state.disk.write(op);
            }
            self.step(node, Input::Persisted(token));
        }
    }

    /// Delivers and syncs until nothing is left to do at this moment.
    pub fn settle(&mut self) {
        loop {
            let nodes: Vec<u64> = self.nodes.keys().copied().collect();
            for node in nodes {
                if !self.nodes[&node].stuck {
                    self.sync(node);
                }
            }
            let Some((from, to, message)) = self.queue.pop_front() else {
                break;
            };
            self.deliver(from, to, message);
        }
    }

    pub fn deliver(&mut self, from: u64, to: u64, message: Message) {
        if self.nodes.contains_key(&to) {
            let incarnation = self.nodes[&from].incarnation;
            self.step(
                to,
                Input::Message {
                    from: NodeId(from),
                    incarnation,
                    message,
                },
            );
        }
    }

    /// Lets time pass in steps of 10 ms, everything settling in between.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now = (self.now + 10).min(until);
            let nodes: Vec<u64> = self.nodes.keys().copied().collect();
            for node in nodes {
                self.step(node, Input::Tick);
            }
            self.settle();
        }
    }

    /// The node that leads and serves, if there is exactly one.
    pub fn leader(&self) -> Option<u64> {
        let serving = |n: &u64| {
            let replica = self.nodes[n].replica.as_ref();
            replica.is_some_and(|r| r.status().standing == Standing::Leader { serving: true })
        };
        let leaders: Vec<u64> = self.nodes.keys().copied().filter(serving).collect();
        assert!(leaders.len() <= 1, "two serve: {leaders:?}");
        leaders.first().copied()
    }

    /// Lets time pass until a leader serves.
    pub fn elect(&mut self) -> u64 {
        for _ in 0..2_000 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.pass(10);
        }
        panic!("no leader within 20 s");
    }

    /// Proposes one command at a node.
    pub fn propose(&mut self, node: u64, command: &str) -> Result<Index, Refusal> {
        let commands = vec![Bytes::from(command.to_owned())];
        self.step(node, Input::Propose(commands))
            .expect("an answer")
    }

    /// Cuts a node off, in both directions.
    pub fn isolate(&mut self, node: u64) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|n| *n != node).collect();
        for other in others {
            self.cut.insert((node, other));
            self.cut.insert((other, node));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The node dies, losing what was not synced.
    pub fn crash(&mut self, node: u64) {
        let state = self.nodes.get_mut(&node).expect("a node");
        state.replica = None;
        state.unsynced.clear();
    }

    pub fn restart(&mut self, node: u64) {
        let state = self.nodes.get_mut(&node).expect("a node");
        let applied = state.disk.applied.index;
        state.committed.retain(|e| e.index <= applied);
        let restored = state.disk.restored();
        let timing = self.timing.clone();
        let now = Millis(self.now);
        let replica = Replica::new(NodeId(node), GROUP, restored, timing, now);
        state.replica = Some(replica);
    }

    /// The node's B-tree becomes durable as far as it is applied.
    pub fn flush(&mut self, node: u64) {
        let state = self.nodes.get_mut(&node).expect("a node");
        if let Some(entry) = state.committed.last() {
            state.disk.applied = entry.position();
            let index = entry.index;
            self.step(node, Input::Flushed { index });
        }
    }

    /// Copies the applied state of one node to another that asked for it.
    pub fn copy(&mut self, from: u64, to: u64) {
        let source = &self.nodes[&from];
        let applied = source
            .committed
            .last()
            .map_or(source.disk.applied, |e| e.position());
        let configuration = self.replica(from).status().configuration.clone();
        let state = self.nodes.get_mut(&to).expect("a node");
        state.disk.applied = applied;
        state.disk.applied_configuration = Some(configuration.clone());
        state.committed.clear();
        state.copy_from = None;
        self.step(
            to,
            Input::CopyInstalled {
                applied,
                configuration,
            },
        );
    }

    /// The commands that a node handed out, as text.
    pub fn commands(&self, node: u64) -> Vec<String> {
        let text = |entry: &Entry| match &entry.payload {
            Payload::Command(command) => Some(String::from_utf8_lossy(command).into_owned()),
            _ => None,
        };
        self.nodes[&node]
            .committed
            .iter()
            .filter_map(text)
            .collect()
    }

    /// Two nodes that are not `node`.
    pub fn others(&self, node: u64) -> (u64, u64) {
        let mut others = self.nodes.keys().copied().filter(|n| *n != node);
        (others.next().expect("one"), others.next().expect("two"))
    }
}
