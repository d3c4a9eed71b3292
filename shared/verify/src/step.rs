//! One event at one host: the real replica does a step, its disk and its messages are taken care of, and what can be judged without
//! looking at other hosts is judged.

use std::sync::Arc;

use bytes::Bytes;
use paxos::{
    Body, Entry, Input, Millis, NodeId, Output, PersistOp, Position, Role, Standing, Token,
};

use crate::checks::check_message;
use crate::host::Host;
use crate::invariant::{Check, Invariant, Violation, broken};
use crate::scenario::Scenario;
use crate::space::{Digest, Envelope};

/// What may happen to a host.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message arrives.
    Deliver(Arc<Envelope>),
    /// The oldest batch becomes durable.
    Sync,
    /// It dies and starts again; of the oldest batch that was not durable so many operations are.
    Crash(u8),
    /// A command is proposed.
    Propose(u8),
    /// A change to this target is ordered.
    Change(u8),
    /// It is to hand leadership over.
    Transfer(NodeId),
    /// Its timer is due.
    Wake,
    /// The copy that it wanted is there, of a B-tree that stands at the disk's position.
    Copy(Arc<Host>),
}

/// What came of an event.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The host afterwards.
    pub host: Digest,
    /// Messages on their way.
    pub sends: Vec<Digest>,
    /// A broken invariant.
    pub violation: Option<Violation>,
}

/// A host in the middle of an event.
pub struct Work<'a> {
    /// What the model is about.
    pub scenario: &'a Scenario,
    /// The host as it is now.
    pub host: Host,
    /// Its clock.
    pub now: Millis,
    /// Messages that go into the network.
    pub sends: Vec<Envelope>,
    /// Probes and their answers, for `campaign`.
    pub probes: Vec<Envelope>,
}

impl<'a> Work<'a> {
    /// Begins an event.
    pub fn new(scenario: &'a Scenario, host: Host, ticks: u8) -> Work<'a> {
        let now = scenario.clock(host.member.node, ticks);
        Work {
            scenario,
            host,
            now,
            sends: Vec::new(),
            probes: Vec::new(),
        }
    }

    /// Lets it happen. False: it cannot.
    pub fn happen(&mut self, event: &Event, ticks: u8) -> Result<bool, Violation> {
        match event {
            Event::Deliver(envelope) => return self.deliver(envelope).map(|()| true),
            Event::Sync => {
                if self.host.unsynced.is_empty() {
                    return Ok(false);
                }
                self.sync(Token(1))?;
            }
            Event::Crash(keep) => return self.crash(*keep, ticks),
            Event::Propose(number) => {
                let command = Bytes::copy_from_slice(&[*number]);
                self.give(Input::Propose(vec![command]))?;
            }
            Event::Change(target) => {
                let target = &self.scenario.targets[usize::from(*target)];
                self.give(Input::Reconfigure {
                    generation: self.host.replica.configuration().generation,
                    members: target.members.clone(),
                    learners: target.learners.clone(),
                })?;
            }
            Event::Transfer(to) => self.give(Input::TransferLeadership { to: *to })?,
            Event::Wake => self.give(Input::Tick)?,
            Event::Copy(source) => {
                self.host.copy_from = None;
                let (applied, configuration) = (
                    source.disk.applied,
                    source.disk.applied_configuration.clone(),
                );
                self.host.disk.applied = applied;
                self.host.disk.applied_configuration = configuration.clone();
                self.give(Input::CopyInstalled {
                    applied,
                    configuration,
                })?;
            }
        }
        Ok(true)
    }

    fn deliver(&mut self, envelope: &Envelope) -> Check {
        let stale = envelope.message.to_incarnation != self.host.member.incarnation;
        let before = stale.then(|| self.host.digest());
        let sent = self.sends.len();
        self.give(Input::Message {
            from: envelope.from,
            incarnation: envelope.incarnation,
            message: envelope.message.clone(),
        })?;
        if let Some(before) = before {
            self.tidy();
            if self.host.digest() != before || self.sends.len() != sent {
                let detail = format!("{envelope:?} moved {:?}", self.host.member);
                return broken(Invariant::StaleMovesNothing, detail);
            }
        }
        Ok(())
    }

    /// The replica does a step.
    pub fn give(&mut self, input: Input) -> Check {
        let before = self.host.replica.status().promised;
        let output = self.host.replica.step(self.now, input);
        let promised = self.host.replica.status().promised;
        if promised < before {
            let detail = format!("{:?}: {promised:?} after {before:?}", self.host.member);
            return broken(Invariant::Promises, detail);
        }
        self.carry_out(output)
    }

    fn carry_out(&mut self, output: Output) -> Check {
        self.judge(&output.committed)?;
        for (to, message) in output.send {
            let envelope = Envelope {
                from: self.host.member.node,
                incarnation: self.host.member.incarnation,
                to,
                message,
            };
            check_message(&self.host, &envelope)?;
            self.send(envelope);
        }
        if let Some(from) = output.copy_wanted {
            self.host.copy_from = Some(from);
        }
        if output.retired {
            self.host.alive = false;
        }
        if let Some(token) = output.token {
            for op in &output.persist {
                write(&mut self.host.log, op)?;
            }
            self.host.unsynced.push(output.persist);
            if self.scenario.syncs_at_once(self.host.member.node) {
                self.sync(token)?;
            }
        }
        if let (true, Some(last)) = (self.scenario.truncate, output.committed.last()) {
            self.flush(&output.committed, last.position())?;
        }
        Ok(())
    }

    /// The network loses refusals (they only speed things up), and answers probes at once, in `campaign`.
    fn send(&mut self, mut envelope: Envelope) {
        match &mut envelope.message.body {
            Body::Refuse { .. } => return,
            Body::Probe { .. } | Body::ProbeReply { .. } => {
                self.probes.push(envelope);
                return;
            }
            // Only who wants to be leader would care.
            Body::Append(append) => append.healthy = false,
            _ => {}
        }
        self.sends.push(envelope);
    }

    /// The oldest batch, which has this token, is durable.
    fn sync(&mut self, token: Token) -> Check {
        for op in self.host.unsynced.remove(0) {
            write(&mut self.host.disk, &op)?;
        }
        self.give(Input::Persisted(token))
    }

    fn flush(&mut self, committed: &[Entry], applied: Position) -> Check {
        for entry in committed {
            if let paxos::Payload::Config(configuration) = &entry.payload {
                self.host.disk.applied_configuration = configuration.clone();
            }
        }
        self.host.disk.applied = applied;
        self.give(Input::Flushed {
            index: applied.index,
        })
    }

    fn crash(&mut self, keep: u8, ticks: u8) -> Result<bool, Violation> {
        let mut disk = self.host.disk.clone();
        let first: &[PersistOp] = self.host.unsynced.first().map_or(&[], |ops| ops);
        if usize::from(keep) >= first.len().max(1) {
            return Ok(false);
        }
        for op in &first[..usize::from(keep)] {
            write(&mut disk, op)?;
        }
        self.host = Host::start(self.scenario, self.host.member, disk, ticks);
        Ok(true)
    }

    /// What can be seen of the replica itself.
    fn judge(&self, committed: &[Entry]) -> Check {
        let status = self.host.replica.status();
        let member = self.host.member;
        if status.faults > 0 {
            return broken(Invariant::NoFaults, format!("{member:?}: {status:?}"));
        }
        if status.delivered > status.commit {
            let detail = format!("{member:?} applied beyond its commit: {status:?}");
            return broken(Invariant::AppliedIsDurable, detail);
        }
        if let Some(entry) = committed
            .iter()
            .find(|entry| !self.host.disk.has(entry.position()))
        {
            let detail = format!("{member:?} applies {entry:?} before it is durable");
            return broken(Invariant::AppliedIsDurable, detail);
        }
        if member.role == Role::Log && status.standing != Standing::Follower {
            let detail = format!("{member:?} is {:?}", status.standing);
            return broken(Invariant::OnlyStorageMembersLead, detail);
        }
        Ok(())
    }

    /// Brings the host into its canonical form.
    pub fn tidy(&mut self) {
        self.host.replica.canonical();
        if self.scenario.clocks.is_none() {
            self.host.replica.outwait_lease();
        }
    }
}

fn write(disk: &mut crate::disk::Disk, op: &PersistOp) -> Check {
    disk.write(op).map_err(|detail| Violation {
        invariant: match op {
            PersistOp::Promise(_) => Invariant::Promises,
            _ => Invariant::NoFaults,
        },
        detail,
    })
}
