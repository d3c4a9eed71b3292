//! The invariants that concern more than one step of one host. All look from outside, at disks, messages and status.

use std::sync::Arc;

use paxos::{Body, Configuration, Entry, Payload};

use crate::host::Host;
use crate::invariant::{Check, Invariant, Sight, broken};
use crate::space::{Envelope, digest};
use crate::state::{Committed, State};
use crate::system::System;

/// What a host says must be true of its disk now.
pub fn check_message(host: &Host, envelope: &Envelope) -> Check {
    let (disk, member) = (&host.disk, host.member);
    let promised = host.replica.status().promised;
    let said = match &envelope.message.body {
        Body::Prepare { ballot } => Some(*ballot),
        Body::Promise(promise) => Some(promise.ballot),
        Body::Append(append) => Some(append.ballot),
        Body::Ack(ack) => Some(ack.ballot),
        _ => None,
    };
    if let Some(ballot) = said
        && ballot > disk.promised
    {
        let detail = format!(
            "{member:?} has stored {:?} and says {:?}",
            disk.promised, envelope.message
        );
        return broken(Invariant::Promises, detail);
    }
    if let Body::Ack(ack) = &envelope.message.body {
        let last = disk.last();
        if ack.ballot != promised || ack.matched > last.index {
            let detail = format!("{member:?}, promised {promised:?}, on disk {last:?}: {ack:?}");
            return broken(Invariant::Acknowledgements, detail);
        }
    }
    Ok(())
}

impl System {
    /// What the change of one host means to all. `hosts` are as they are now.
    pub(crate) fn observe(
        &self,
        state: &mut State,
        at: usize,
        old: &Host,
        hosts: &[Arc<Host>],
    ) -> Check {
        let new = &hosts[at];
        let (commit, leads) = (new.commit(), new.leads());
        if commit != old.commit() {
            self.check_commit(state, new, hosts)?;
        }
        if leads != old.leads() {
            self.check_leader(state, old, new)?;
        }
        if new.entries() != old.entries() {
            let cut = |(a, b): (&Entry, &Entry)| a != b;
            let same_floor = new.log.floor == old.log.floor;
            if same_floor && new.entries().iter().zip(old.entries()).any(cut) {
                self.see(state, Sight::Truncated);
            }
            check_logs(new, hosts)?;
            check_changes(state, new)?;
        }
        if old.alive && !new.alive {
            let configuration = self.space.configuration(state.configuration);
            let member = new.member;
            if configuration.contains(member.node, member.incarnation) {
                let detail = format!("{member:?} goes, though committed is {configuration:?}");
                return broken(Invariant::RetiredIfRemoved, detail);
            }
            self.see(state, Sight::Retired);
        }
        Ok(())
    }

    /// A host knows more to be committed.
    fn check_commit(&self, state: &mut State, host: &Host, hosts: &[Arc<Host>]) -> Check {
        let status = host.replica.status();
        for entry in host.entries() {
            if entry.index > status.commit {
                break;
            }
            let entry_digest = digest(entry);
            if let Some(known) = state.committed.get(entry.index as usize - 1) {
                if known.entry != entry_digest {
                    let detail = format!(
                        "{:?} takes {entry:?} for committed; at {} that was another",
                        host.member, entry.index
                    );
                    return broken(Invariant::CommittedNeverChanges, detail);
                }
                continue;
            }
            let durable = host.replica.configuration().quorum(|member| {
                hosts
                    .iter()
                    .any(|other| other.member == *member && other.disk.has(entry.position()))
            });
            if !durable {
                let detail = format!("{:?} takes {entry:?} for committed", host.member);
                return broken(Invariant::CommittedIsDurable, detail);
            }
            if let Payload::Config(configuration) = &entry.payload {
                self.see_change(state, entry, host, configuration);
                state.configuration = self.space.keep_configuration(configuration);
            }
            state.committed.push(Committed {
                entry: entry_digest,
                ballot: entry.ballot,
                at: status.promised,
            });
            self.see(state, Sight::Committed);
        }
        Ok(())
    }

    fn see_change(&self, state: &mut State, entry: &Entry, host: &Host, now: &Configuration) {
        if now.joint.is_some() {
            return;
        }
        self.see(state, Sight::Changed);
        let began = host.entries().iter().rev().find(|before| {
            let joint = matches!(&before.payload, Payload::Config(c) if c.joint.is_some());
            before.index < entry.index && joint
        });
        if began.is_some_and(|began| began.ballot != entry.ballot) {
            self.see(state, Sight::ChangeCompletedByAnother);
        }
    }

    /// A host starts or ends to lead.
    fn check_leader(&self, state: &mut State, old: &Host, new: &Host) -> Check {
        if let Some(ballot) = old.leads()
            && let Some(led) = state.led.iter_mut().find(|(b, _)| *b == ballot)
        {
            led.1 = true;
        }
        let Some(ballot) = new.leads() else {
            return Ok(());
        };
        let member = new.member;
        if ballot.node != member.node || state.led.iter().any(|(b, _)| *b == ballot) {
            let detail = format!(
                "{member:?} leads in {ballot:?}, led already: {:?}",
                state.led
            );
            return broken(Invariant::OneLeaderABallot, detail);
        }
        state.led.push((ballot, false));
        state.led.sort_unstable();
        if state.led.len() >= 3 {
            self.see(state, Sight::ThreeBallots);
        }
        let configuration = new.replica.configuration();
        let learner = configuration.learners.contains(&member);
        if learner && !configuration.votes(member.node, member.incarnation) {
            let detail = format!("{member:?} is a learner in {configuration:?} and leads");
            return broken(Invariant::OnlyStorageMembersLead, detail);
        }
        for (committed, index) in state.committed.iter().zip(1..) {
            let position = paxos::Position {
                ballot: committed.ballot,
                index,
            };
            if committed.at <= ballot && !new.disk.has(position) {
                let detail = format!(
                    "{member:?} leads in {ballot:?} and lacks {position:?}, committed in {:?}",
                    committed.at
                );
                return broken(Invariant::LeaderCompleteness, detail);
            }
        }
        Ok(())
    }

    /// At most one serves reads.
    pub(crate) fn check_serving(&self, state: &mut State, hosts: &[Arc<Host>]) -> Check {
        if self.scenario.clocks.is_none() {
            return Ok(());
        }
        let ticks = state.used.ticks;
        let serves = |host: &&Arc<Host>| {
            let now = self.scenario.clock(host.member.node, ticks);
            host.alive && host.replica.can_serve_reads(now)
        };
        let mut serving = hosts.iter().filter(serves);
        let first = serving.next();
        if let (Some(a), Some(b)) = (first, serving.next()) {
            let detail = format!("{:?} and {:?} both serve", a.member, b.member);
            return broken(Invariant::OneServes, detail);
        }
        let later = |host: &Arc<Host>| {
            state
                .led
                .first()
                .is_some_and(|(b, _)| host.leads() > Some(*b))
        };
        if first.is_some_and(later) {
            self.see(state, Sight::SecondServes);
            if ticks < 3 {
                self.see(state, Sight::ServedByTransfer);
            }
        }
        Ok(())
    }
}

/// Where two logs hold the same ballot, they are equal from there down.
fn check_logs(new: &Host, hosts: &[Arc<Host>]) -> Check {
    for other in hosts {
        for log in [&other.log, &other.disk] {
            let same = |entry: &&Entry| {
                log.entry(entry.index)
                    .is_some_and(|e| e.ballot == entry.ballot)
            };
            let Some(top) = new.log.entries.iter().rev().find(same) else {
                continue;
            };
            let differs = |entry: &&Entry| {
                entry.index <= top.index
                    && entry.index > log.floor.index
                    && log.entry(entry.index) != Some(entry)
            };
            if let Some(entry) = new.log.entries.iter().find(differs) {
                let detail = format!(
                    "{:?} and {:?} agree at {:?} and differ at {}",
                    new.member,
                    other.member,
                    top.position(),
                    entry.index
                );
                return broken(Invariant::LogsMatch, detail);
            }
        }
    }
    Ok(())
}

/// No log has two configurations that are not committed.
fn check_changes(state: &State, host: &Host) -> Check {
    let open = |entry: &&Entry| {
        entry.index as usize > state.committed.len() && matches!(entry.payload, Payload::Config(_))
    };
    if host.entries().iter().filter(open).count() > 1 {
        let detail = format!("{:?} has more than one", host.member);
        return broken(Invariant::OneChangeAtATime, detail);
    }
    Ok(())
}
