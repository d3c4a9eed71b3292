//! A scenario as a model of `stateright`: its first state, what may happen in a state, and what comes of it.

use std::sync::Arc;

use paxos::{Body, Mutation, NodeId, Role};
use stateright::{Model, Property};

use crate::action::Action;
use crate::campaign::campaign;
use crate::disk::Disk;
use crate::host::Host;
use crate::invariant::{INVARIANTS, Sight, Violation};
use crate::scenario::{Before, Bounds, Scenario};
use crate::space::{Digest, Envelope, Space, digest};
use crate::state::State;
use crate::step::{Event, Outcome, Work};

/// A model.
#[derive(Clone)]
pub struct System {
    /// What it is about.
    pub scenario: Arc<Scenario>,
    /// Its tables.
    pub space: Arc<Space>,
    first: Option<State>,
}

impl System {
    /// A model of this scenario.
    pub fn new(scenario: Scenario) -> System {
        let mut system = System {
            scenario: Arc::new(scenario),
            space: Arc::default(),
            first: None,
        };
        system.first = Some(system.prepare());
        system
    }

    /// The state before anything happened.
    fn founding(&self) -> State {
        let scenario = &self.scenario;
        let configuration = scenario.configuration();
        let present = scenario.members.iter().chain(&scenario.joining);
        let present = present.map(|member| (*member, true));
        let spare = scenario.spare.iter().map(|member| (*member, false));
        let hosts = present.chain(spare).map(|(mut member, there)| {
            if !there && scenario.mutated(Mutation::ReuseIncarnation) {
                member.incarnation = member.node.0 * 100;
            }
            let host = Host::start(scenario, member, Disk::empty(configuration.clone()), 0);
            let mut work = Work::new(scenario, host, 0);
            let founded = work.give(paxos::Input::Flushed { index: 0 });
            assert_eq!(founded, Ok(()), "a replica can be founded");
            while matches!(work.happen(&Event::Sync, 0), Ok(true)) {}
            work.tidy();
            work.host.alive = there;
            work.host.absent = !there;
            self.space.keep_host(work.host)
        });
        State {
            hosts: hosts.collect(),
            net: Vec::new(),
            committed: Vec::new(),
            configuration: self.space.keep_configuration(&configuration),
            led: Vec::new(),
            adopted: 0,
            used: Bounds::default(),
            seen: 0,
            violation: None,
        }
    }

    /// The first state: what the scenario says happened before has happened.
    fn prepare(&self) -> State {
        let mut state = self.founding();
        let mut deaf: Vec<NodeId> = Vec::new();
        for before in &self.scenario.before {
            let next = match *before {
                Before::Elect(node) => {
                    let host = node as u8 - 1;
                    let asked = (0..=u8::MAX)
                        .find_map(|asked| self.step(&state, Action::Campaign(host, asked)));
                    Some(asked.expect("the node can be elected"))
                }
                Before::Change(node, target) => {
                    self.step(&state, Action::Change(node as u8 - 1, target as u8))
                }
                Before::Propose(node) => self.step(&state, Action::Propose(node as u8 - 1)),
                Before::Tick => self.step(&state, Action::Tick),
                Before::Restart(node) => self.step(&state, Action::Crash(node as u8 - 1, 0)),
                Before::Wake(node) => self.step(&state, Action::Wake(node as u8 - 1)),
                Before::Deaf(node) => {
                    deaf.push(NodeId(node));
                    None
                }
                Before::Hears(node) => {
                    deaf.retain(|other| *other != NodeId(node));
                    None
                }
            };
            state = self.settle(next.unwrap_or(state), &deaf);
            state.net.clear();
        }
        state.used = Bounds {
            ticks: state.used.ticks,
            ..Bounds::default()
        };
        state.seen = 0;
        state.adopted = 0;
        state
    }

    /// Delivers every message once, and syncs, until nothing is left to do.
    fn settle(&self, mut state: State, deaf: &[NodeId]) -> State {
        let mut delivered = Vec::new();
        loop {
            let mut actions = Vec::new();
            self.actions(&state, &mut actions);
            let next = actions.into_iter().find_map(|action| {
                match action {
                    Action::Sync(_) => {}
                    Action::Deliver(_, message) => {
                        let to = self.space.envelope(message).to;
                        if deaf.contains(&to) || delivered.contains(&message) {
                            return None;
                        }
                        delivered.push(message);
                    }
                    _ => return None,
                }
                self.step(&state, action)
            });
            match next {
                Some(next) => state = next,
                None => return state,
            }
        }
    }

    fn step(&self, state: &State, action: Action) -> Option<State> {
        let next = self.next_state(state, action)?;
        assert_eq!(next.violation, None, "the way to the first state is clean");
        Some(next)
    }

    /// The host of a node that runs.
    fn host_of(&self, state: &State, node: NodeId) -> Option<usize> {
        state.hosts.iter().position(|host| {
            let host = self.space.host(*host);
            host.alive && host.member.node == node
        })
    }

    /// Something worth seeing happened.
    pub(crate) fn see(&self, state: &mut State, sight: Sight) {
        if self.scenario.expects.contains(&sight) {
            state.seen |= sight.bit();
        }
    }

    /// What comes of an event at a host. `key` stands for the event.
    fn outcome(
        &self,
        host: Digest,
        key: Digest,
        ticks: u8,
        event: impl FnOnce() -> Event,
    ) -> Option<Arc<Outcome>> {
        let clocked = self.scenario.clocks.is_some();
        let time = if clocked { u64::from(ticks) << 57 } else { 0 };
        self.space.outcome(host, key ^ time, || {
            let before = self.space.host(host);
            let mut work = Work::new(&self.scenario, (*before).clone(), ticks);
            let result = work.happen(&event(), ticks);
            if matches!(result, Ok(false)) {
                return None;
            }
            work.tidy();
            self.finish(host, work.host, work.sends, result.err())
        })
    }

    fn finish(
        &self,
        before: Digest,
        host: Host,
        sends: Vec<crate::space::Envelope>,
        violation: Option<Violation>,
    ) -> Option<Outcome> {
        let host = self.space.keep_host(host);
        if host == before && sends.is_empty() && violation.is_none() {
            return None;
        }
        let sends = sends.into_iter().map(|e| self.space.keep_envelope(e));
        Some(Outcome {
            host,
            sends: sends.collect(),
            violation,
        })
    }

    /// Asks the peers whose bits are set.
    fn campaign(&self, state: &State, at: u8, asked: u8) -> Option<Arc<Outcome>> {
        let own = state.hosts[usize::from(at)];
        let peers = (0..state.hosts.len()).filter(|i| asked & (1 << i) != 0);
        let peers: Vec<Digest> = peers.map(|i| state.hosts[i]).collect();
        let ticks = state.used.ticks;
        self.space
            .outcome(own, digest(&("campaign", &peers, ticks)), || {
                let host = self.space.host(own);
                let peers: Vec<Arc<Host>> =
                    peers.iter().map(|peer| self.space.host(*peer)).collect();
                if peers.iter().any(|peer| !peer.alive) {
                    return None;
                }
                let peers: Vec<&Host> = peers.iter().map(|peer| &**peer).collect();
                let (host, sends, violation) = campaign(&self.scenario, &host, &peers, ticks)?;
                self.finish(own, host, sends, violation)
            })
    }

    /// What comes of an action, and at which host.
    fn act(&self, state: &State, action: Action) -> Option<(usize, Arc<Outcome>)> {
        let ticks = state.used.ticks;
        let (at, event, key) = match action {
            Action::Deliver(at, message) => {
                let at = usize::from(at);
                let event = || Event::Deliver(self.space.envelope(message));
                return Some((at, self.outcome(state.hosts[at], message, ticks, event)?));
            }
            Action::Campaign(at, asked) => {
                return Some((usize::from(at), self.campaign(state, at, asked)?));
            }
            Action::Tick | Action::Lose(_) => return None,
            Action::Sync(at) => (at, Event::Sync, digest("sync")),
            Action::Propose(at) => {
                let number = state.used.proposals + 1;
                (at, Event::Propose(number), digest(&("propose", number)))
            }
            Action::Crash(at, keep) => (at, Event::Crash(keep), digest(&("crash", keep))),
            Action::Change(at, target) => (at, Event::Change(target), digest(&("change", target))),
            Action::Transfer(at, to) => (at, Event::Transfer(to), digest(&("transfer", to))),
            Action::Wake(at) => (at, Event::Wake, digest("wake")),
            Action::Copy(at) => {
                let host = self.space.host(state.hosts[usize::from(at)]);
                let source = self.host_of(state, host.copy_from?)?;
                let source = self.space.host(state.hosts[source]);
                if source.member.role != Role::Storage {
                    return None;
                }
                let key = digest(&("copy", source.disk.applied));
                (at, Event::Copy(source), key)
            }
        };
        let at = usize::from(at);
        let outcome = self.outcome(state.hosts[at], key, ticks, || event)?;
        Some((at, outcome))
    }

    /// A disk is gone, and the node's next replica is there.
    fn lose(&self, state: &State, at: u8) -> Option<State> {
        let mut next = state.clone();
        next.used.losses += 1;
        let at = usize::from(at);
        let mut host = (*self.space.host(state.hosts[at])).clone();
        host.alive = false;
        let node = host.member.node;
        next.hosts[at] = self.space.keep_host(host);
        let spare = next.hosts.iter().position(|host| {
            let host = self.space.host(*host);
            host.absent && host.member.node == node
        })?;
        let mut host = (*self.space.host(next.hosts[spare])).clone();
        (host.alive, host.absent) = (true, false);
        next.hosts[spare] = self.space.keep_host(host);
        Some(next)
    }

    /// Judges a state after an action.
    fn judge(&self, state: &State, next: &mut State, at: usize) -> Result<(), Violation> {
        let moved = state.hosts[at] != next.hosts[at];
        if !moved && self.scenario.clocks.is_none() {
            return Ok(());
        }
        let hosts = next.hosts.iter().map(|host| self.space.host(*host));
        let hosts: Vec<Arc<Host>> = hosts.collect();
        if moved {
            let old = self.space.host(state.hosts[at]);
            self.observe(next, at, &old, &hosts)?;
        }
        self.check_serving(next, &hosts)
    }

    fn may_be_late(&self, message: Digest) -> bool {
        matches!(
            self.space.envelope(message).message.body,
            Body::Ack(_) | Body::Promise(_) | Body::TimeoutNow { .. }
        )
    }

    /// Counts an action.
    fn count(&self, next: &mut State, action: Action) {
        let used = &mut next.used;
        match action {
            Action::Campaign(..) => used.campaigns += 1,
            Action::Propose(_) => used.proposals += 1,
            Action::Crash(..) => used.crashes += 1,
            Action::Change(..) => used.changes += 1,
            Action::Transfer(..) => used.transfers += 1,
            Action::Copy(_) => {
                used.copies += 1;
                self.see(next, Sight::Copied);
            }
            Action::Wake(_) => used.wakes += 1,
            Action::Deliver(..) | Action::Sync(_) => {}
            Action::Tick => used.ticks += 1,
            Action::Lose(_) => used.losses += 1,
        }
    }
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.first.iter().cloned().collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        let (used, bounds) = (&state.used, &self.scenario.bounds);
        let among =
            |list: &[u64], host: &Host| list.is_empty() || list.contains(&host.member.node.0);
        let hosts: Vec<Arc<Host>> = state.hosts.iter().map(|h| self.space.host(*h)).collect();
        let deliver = |message: &Digest| {
            let mut running = hosts.iter().zip(0..).filter(|(host, _)| host.alive);
            let (_, at) = running.find(|(host, _)| host.member.node.0 == message & 0xff)?;
            Some(Action::Deliver(at, *message))
        };
        actions.extend(state.net.iter().filter_map(deliver));
        for (host, at) in hosts.iter().zip(0_u8..) {
            if !host.alive {
                continue;
            }
            if !host.unsynced.is_empty() {
                actions.push(Action::Sync(at));
            }
            let leads = host.leads().is_some();
            if used.campaigns < bounds.campaigns && among(&self.scenario.campaigners, host) {
                let others = (1_u8 << hosts.len()) - 1 - (1 << at);
                let some = (1..=others).filter(|asked| asked & !others == 0);
                actions.extend(some.map(|asked| Action::Campaign(at, asked)));
            }
            if leads && used.proposals < bounds.proposals {
                actions.push(Action::Propose(at));
            }
            if used.crashes < bounds.crashes && among(&self.scenario.crashers, host) {
                let ops = match self.scenario.torn {
                    true => host.unsynced.first().map_or(1, Vec::len),
                    false => 1,
                };
                actions.extend((0..ops as u8).map(|keep| Action::Crash(at, keep)));
            }
            if leads && used.changes < bounds.changes {
                let targets = 0..self.scenario.targets.len() as u8;
                actions.extend(targets.map(|target| Action::Change(at, target)));
            }
            if leads && used.transfers < bounds.transfers {
                let others = hosts
                    .iter()
                    .filter(|other| other.member.node != host.member.node);
                actions.extend(others.map(|other| Action::Transfer(at, other.member.node)));
            }
            let clock = self.scenario.clock(host.member.node, used.ticks);
            let clocked = self.scenario.clocks.is_some();
            if clocked && used.wakes < bounds.wakes && host.replica.wake_at() <= clock {
                actions.push(Action::Wake(at));
            }
            if host.copy_from.is_some() && used.copies < bounds.copies {
                actions.push(Action::Copy(at));
            }
            if used.losses < bounds.losses
                && hosts
                    .iter()
                    .any(|h| h.absent && h.member.node == host.member.node)
            {
                actions.push(Action::Lose(at));
            }
        }
        if used.ticks < bounds.ticks {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        match action {
            Action::Tick => {
                let mut next = state.clone();
                self.count(&mut next, action);
                if !self.scenario.late {
                    next.net.retain(|message| self.may_be_late(*message));
                }
                let judged = self.judge(state, &mut next, 0);
                next.violation = judged.err().map(Arc::new);
                return Some(next);
            }
            Action::Lose(at) => return self.lose(state, at),
            _ => {}
        }
        let (at, outcome) = self.act(state, action)?;
        let known = |message: &Digest| state.net.binary_search(message).is_ok();
        if outcome.host == state.hosts[at]
            && outcome.violation.is_none()
            && outcome.sends.iter().all(known)
        {
            return None;
        }
        let mut next = state.clone();
        self.count(&mut next, action);
        next.hosts[at] = outcome.host;
        for message in &outcome.sends {
            next.send(*message);
        }
        self.forget_dead(&mut next);
        if let Some(violation) = &outcome.violation {
            next.violation = Some(Arc::new(violation.clone()));
            return Some(next);
        }
        match action {
            Action::Deliver(_, message) if self.adopts(state, &next, at, message) => {
                next.adopted |= 1 << at;
            }
            Action::Crash(..) => next.adopted &= !(1 << at),
            _ => {}
        }
        let (led, judged) = (next.led.len(), self.judge(state, &mut next, at));
        next.violation = judged.err().map(Arc::new);
        if next.led.len() > led && next.adopted & (1 << at) != 0 {
            self.see(&mut next, Sight::AdoptedFromLogReplica);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<System>> {
        let always = INVARIANTS.into_iter().zip(ALWAYS);
        let always = always.map(|(invariant, holds)| Property::always(invariant.name(), holds));
        let sometimes = crate::invariant::SIGHTS.into_iter().zip(SOMETIMES);
        let expected = sometimes.filter(|(sight, _)| self.scenario.expects.contains(sight));
        let sometimes = expected.map(|(sight, seen)| Property::sometimes(sight.name(), seen));
        always.chain(sometimes).collect()
    }
}

impl System {
    /// Takes out the messages that can move nobody any more, so that states that behave alike are equal.
    fn forget_dead(&self, state: &mut State) {
        let taken = |bug: &Mutation| self.scenario.mutated(*bug);
        if TAKES_DEAD.iter().any(taken) {
            return;
        }
        let hosts: Vec<Arc<Host>> = state.hosts.iter().map(|h| self.space.host(*h)).collect();
        let mut net = std::mem::take(&mut state.net);
        let all = net.clone();
        let led = |ballot: &paxos::Ballot| state.led.iter().any(|(b, _)| b == ballot);
        net.retain(|message| {
            let envelope = self.space.envelope(*message);
            let settled = self.scenario.clocks.is_none() && is_of_election(&envelope, led);
            !settled
                && hosts.iter().zip(&state.hosts).any(|(host, digest)| {
                    may_move(host, &envelope)
                        && !self.is_taken(state, host, *digest, *message, &all)
                })
        });
        state.net = net;
    }

    /// Whether an append is in this host's log, and will be as long as it does not promise a higher ballot: within a ballot, a follower that
    /// does not crash only gets more. It has acknowledged all of it, so that another delivery says nothing new either.
    fn is_taken(
        &self,
        state: &State,
        host: &Host,
        digest: Digest,
        message: Digest,
        sent: &[Digest],
    ) -> bool {
        let scenario = &self.scenario;
        let crashes = state.used.crashes < scenario.bounds.crashes
            && (scenario.crashers.is_empty() || scenario.crashers.contains(&host.member.node.0));
        let plain = scenario.clocks.is_none()
            && scenario.syncs_at_once(host.member.node)
            && scenario.bounds.copies == 0;
        let envelope = self.space.envelope(message);
        let Body::Append(append) = &envelope.message.body else {
            return false;
        };
        if !plain || crashes || !host.alive || append.ballot != host.disk.promised {
            return false;
        }
        let event = || Event::Deliver(self.space.envelope(message));
        let Some(outcome) = self.outcome(digest, message, state.used.ticks, event) else {
            return true;
        };
        outcome.host == digest
            && outcome.violation.is_none()
            && outcome.sends.iter().all(|answer| {
                let is_ack = matches!(self.space.envelope(*answer).message.body, Body::Ack(_));
                is_ack && sent.binary_search(answer).is_ok()
            })
    }

    /// Whether a host took committed entries from a log replica that no other storage replica that could have been asked holds.
    fn adopts(&self, state: &State, next: &State, at: usize, message: Digest) -> bool {
        let envelope = self.space.envelope(message);
        let Body::Fetched { entries, .. } = &envelope.message.body else {
            return false;
        };
        let Some(source) = self.host_of(state, envelope.from) else {
            return false;
        };
        let source = self.space.host(state.hosts[source]);
        let Some(last) = entries.last() else {
            return false;
        };
        let wanted = self
            .scenario
            .expects
            .contains(&Sight::AdoptedFromLogReplica);
        wanted
            && source.member.role == Role::Log
            && state.hosts[at] != next.hosts[at]
            && last.index as usize <= state.committed.len()
    }
}

/// Bugs that consist in taking messages that should move nobody.
const TAKES_DEAD: [Mutation; 4] = [
    Mutation::AcceptBelowPromise,
    Mutation::LatePromise,
    Mutation::TrustStaleIncarnation,
    Mutation::ReuseIncarnation,
];

/// Whether a message may ever do anything at a host: now, or after any number of other events. A promise on disk never falls; below it,
/// and at it where the message asks for a promise, the message is refused, and refusals get lost.
fn may_move(host: &Host, envelope: &Envelope) -> bool {
    let runs = host.alive || host.absent;
    if !runs || host.member.node != envelope.to {
        return false;
    }
    let promised = host.disk.promised;
    match &envelope.message.body {
        Body::Prepare { ballot } => *ballot > promised,
        Body::Append(append) => append.ballot >= promised,
        Body::Ack(ack) => ack.ballot >= promised,
        Body::Reject(reject) => reject.ballot >= promised,
        Body::Promise(promise) => promise.ballot >= promised,
        Body::Fetch { ballot, .. }
        | Body::Fetched { ballot, .. }
        | Body::CopyNeeded { ballot, .. } => *ballot >= promised,
        Body::TimeoutNow { released } => *released >= promised,
        Body::Probe { .. } | Body::ProbeReply { .. } | Body::Refuse { .. } => true,
    }
}

/// Whether a message is of an election that is over: its candidate leads, or led, and takes no more of it.
fn is_of_election(envelope: &Envelope, led: impl Fn(&paxos::Ballot) -> bool) -> bool {
    match &envelope.message.body {
        Body::Promise(promise) => led(&promise.ballot),
        Body::Fetch { ballot, .. } | Body::Fetched { ballot, .. } => led(ballot),
        _ => false,
    }
}

type Predicate = fn(&System, &State) -> bool;

fn holds<const N: usize>(_: &System, state: &State) -> bool {
    let broken = |v: &Arc<Violation>| v.invariant == INVARIANTS[N];
    !state.violation.as_ref().is_some_and(broken)
}

fn seen<const N: usize>(_: &System, state: &State) -> bool {
    state.seen & (1 << N) != 0
}

const ALWAYS: [Predicate; 14] = [
    holds::<0>,
    holds::<1>,
    holds::<2>,
    holds::<3>,
    holds::<4>,
    holds::<5>,
    holds::<6>,
    holds::<7>,
    holds::<8>,
    holds::<9>,
    holds::<10>,
    holds::<11>,
    holds::<12>,
    holds::<13>,
];
const SOMETIMES: [Predicate; 10] = [
    seen::<0>, seen::<1>, seen::<2>, seen::<3>, seen::<4>, seen::<5>, seen::<6>, seen::<7>,
    seen::<8>, seen::<9>,
];
