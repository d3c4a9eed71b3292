//! An election's beginning: the probe and its answers, which promise nothing and change nobody but the asker, happen in one event.

use paxos::{Body, Input};

use crate::host::Host;
use crate::invariant::Violation;
use crate::scenario::Scenario;
use crate::space::Envelope;
use crate::step::Work;

/// `host` asks these peers. None: it does not get further than its probe by exactly their answers.
pub fn campaign(
    scenario: &Scenario,
    host: &Host,
    peers: &[&Host],
    ticks: u8,
) -> Option<(Host, Vec<Envelope>, Option<Violation>)> {
    let mut work = Work::new(scenario, host.clone(), ticks);
    let before = host.replica.status().promised;
    let result = attempt(&mut work, peers, ticks);
    work.tidy();
    match result {
        Ok(true) => {
            let retired = !work.host.alive;
            let campaigns = work.host.replica.status().promised > before;
            (retired || campaigns).then_some((work.host, work.sends, None))
        }
        Ok(false) => None,
        Err(violation) => Some((work.host, work.sends, Some(violation))),
    }
}

fn attempt(work: &mut Work<'_>, peers: &[&Host], ticks: u8) -> Result<bool, Violation> {
    let before = work.host.replica.status().promised;
    work.give(Input::StepDown)?;
    // The first attempt may only learn of a higher ballot; the second one outbids it.
    for _ in 0..2 {
        work.probes.clear();
        work.give(Input::Campaign)?;
        for (asked, peer) in peers.iter().enumerate() {
            let settled = work.host.replica.status().promised > before || !work.host.alive;
            if settled {
                // Fewer answers were enough: that is another action.
                return Ok(asked == peers.len());
            }
            let to_peer = |probe: &&Envelope| {
                probe.to == peer.member.node && matches!(probe.message.body, Body::Probe { .. })
            };
            let Some(probe) = work.probes.iter().find(to_peer).cloned() else {
                return Ok(false);
            };
            let mut other = Work::new(work.scenario, (*peer).clone(), ticks);
            other.give(message(&probe))?;
            let Some(reply) = other.probes.pop() else {
                return Ok(false);
            };
            work.give(message(&reply))?;
        }
        if work.host.replica.status().promised > before || !work.host.alive {
            return Ok(true);
        }
    }
    Ok(false)
}

fn message(envelope: &Envelope) -> Input {
    Input::Message {
        from: envelope.from,
        incarnation: envelope.incarnation,
        message: envelope.message.clone(),
    }
}
