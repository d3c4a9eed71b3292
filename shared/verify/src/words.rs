//! States and actions in words.

use paxos::{Ballot, Body, Configuration, Entry, Member, Payload, Position, Role, Standing};

use crate::action::Action;
use crate::host::Host;
use crate::space::Envelope;
use crate::state::State;
use crate::system::System;

/// `2.1`: round 2 of node 1.
fn ballot(ballot: Ballot) -> String {
    format!("{}.{}", ballot.round, ballot.node.0)
}

/// `3@2.1`: index 3 with ballot 2.1.
fn position(at: Position) -> String {
    format!("{}@{}", at.index, ballot(at.ballot))
}

/// `S1`, `L3`; with the incarnation if it is not the node's first.
pub fn member(member: &Member) -> String {
    let role = match member.role {
        Role::Storage => "S",
        Role::Log => "L",
    };
    match member.incarnation == member.node.0 * 100 {
        true => format!("{role}{}", member.node.0),
        false => format!("{role}{}'{}", member.node.0, member.incarnation % 100),
    }
}

fn members(list: &[Member]) -> String {
    list.iter().map(member).collect::<Vec<_>>().join(" ")
}

/// `g3 {S1 S2 S4} from {S1 S2 L3} learning {}`.
pub fn configuration(of: &Configuration) -> String {
    let mut text = format!("g{} {{{}}}", of.generation, members(&of.members));
    if let Some(joint) = &of.joint {
        text.push_str(&format!(" from {{{}}}", members(joint)));
    }
    if !of.learners.is_empty() {
        text.push_str(&format!(" learning {{{}}}", members(&of.learners)));
    }
    text
}

fn entry(entry: &Entry) -> String {
    let what = match &entry.payload {
        Payload::Noop => "noop".to_owned(),
        Payload::Config(c) => configuration(c),
        Payload::Command(bytes) => format!("command {}", bytes.first().copied().unwrap_or(0)),
    };
    format!("{} {what}", position(entry.position()))
}

fn entries(list: &[Entry]) -> String {
    let list: Vec<String> = list.iter().map(entry).collect();
    format!("[{}]", list.join(", "))
}

/// A message.
pub fn envelope(envelope: &Envelope) -> String {
    let body = match &envelope.message.body {
        Body::Prepare { ballot: b } => format!("prepare {}", ballot(*b)),
        Body::Promise(p) => format!("promise {}, last {}", ballot(p.ballot), position(p.last)),
        Body::Fetch { ballot: b, from } => format!("fetch from {from} in {}", ballot(*b)),
        Body::Fetched { entries: list, .. } => format!("fetched {}", entries(list)),
        Body::Append(a) => format!(
            "append {} behind {} {} commit {} sent {}",
            ballot(a.ballot),
            position(a.prev),
            entries(&a.entries),
            a.commit,
            a.sent.0
        ),
        Body::Ack(a) => format!(
            "ack {} matched {} received {} sent {}",
            ballot(a.ballot),
            a.matched,
            a.received,
            a.sent.0
        ),
        Body::Reject(r) => format!(
            "reject {} of {}, last {}",
            ballot(r.ballot),
            position(r.prev),
            position(r.last)
        ),
        Body::TimeoutNow { released } => format!("timeout now, {} is released", ballot(*released)),
        other => format!("{other:?}"),
    };
    let (from, to) = (envelope.from.0, envelope.to.0);
    format!("{from} to {to}: {body}")
}

fn host(of: &Host) -> String {
    let status = of.replica.status();
    let standing = match (of.alive, status.standing) {
        (false, _) => "gone",
        (true, Standing::Follower) => "follows",
        (true, Standing::Candidate) => "campaigns",
        (true, Standing::Leader { .. }) => "leads",
    };
    format!(
        "{} {standing} promised {} ({} on disk) commit {} log {} ({} on disk, {} batches under way) {}",
        member(&of.member),
        ballot(status.promised),
        ballot(of.disk.promised),
        status.commit,
        entries(of.entries()),
        of.disk.entries.len(),
        of.unsynced.len(),
        configuration(status.configuration),
    )
}

/// The hosts of a state, a line each.
pub fn state(system: &System, state: &State) -> String {
    let lines = state.hosts.iter().map(|digest| {
        let of = system.space.host(*digest);
        format!("      {}\n", host(&of))
    });
    lines.collect()
}

/// What happens.
pub fn action(system: &System, state: &State, action: Action) -> String {
    let of = |at: u8| member(&system.space.host(state.hosts[usize::from(at)]).member);
    match action {
        Action::Deliver(_, message) => envelope(&system.space.envelope(message)),
        Action::Sync(at) => format!("{}: its oldest write is durable", of(at)),
        Action::Campaign(at, asked) => {
            let hosts = 0..state.hosts.len() as u8;
            let asked: Vec<String> = hosts.filter(|i| asked & (1 << i) != 0).map(of).collect();
            format!("{} campaigns, having asked {}", of(at), asked.join(" "))
        }
        Action::Propose(at) => format!("{} gets a command", of(at)),
        Action::Crash(at, 0) => format!("{} crashes and restarts", of(at)),
        Action::Crash(at, keep) => {
            format!(
                "{} crashes with {keep} operations of a torn write, and restarts",
                of(at)
            )
        }
        Action::Change(at, target) => {
            let target = &system.scenario.targets[usize::from(target)];
            let (to, learners) = (members(&target.members), members(&target.learners));
            format!(
                "{} is told to make it {{{to}}}, learning {{{learners}}}",
                of(at)
            )
        }
        Action::Transfer(at, to) => format!("{} is told to hand over to node {}", of(at), to.0),
        Action::Tick => format!("time passes: tick {}", state.used.ticks + 1),
        Action::Wake(at) => format!("{}: its timer is due", of(at)),
        Action::Copy(at) => format!("{}: the copy is there", of(at)),
        Action::Lose(at) => format!("{}: its disk is lost", of(at)),
    }
}
