//! Carries out the nemesis' faults.

use paxos::{GroupId, Input, NodeId};

use crate::event::Event;
use crate::figure_eight::Trap;
use crate::nemesis::Fault;
use crate::world::{Violation, World};

impl World {
    /// The next fault happens, and the one after is planned.
    pub(crate) fn fault(&mut self) -> Result<(), Violation> {
        if !self.faulty {
            return Ok(());
        }
        let next = self.rng.around(self.scenario.fault_every_ms) * 1_000 + 1_000;
        self.after(next, Event::Fault);
        if self.trap.is_some() && self.rng.chance(800_000) {
            // Chance rarely helps a trap.
            return Ok(());
        }
        let (traps, churn) = (self.scenario.traps, self.scenario.churn);
        let fault = Fault::draw(&mut self.rng, &self.scenario.nodes, traps, churn);
        let now = self.now;
        self.trace.note(now, format_args!("fault: {fault:?}"));
        let nodes = self.scenario.nodes.clone();
        match fault {
            Fault::Crash(node, ms) => self.crash(node, ms),
            Fault::CrashAll(ms) => {
                for node in nodes {
                    let down = self.rng.below(ms + 1);
                    self.crash(node, down)?;
                }
                Ok(())
            }
            Fault::CrashLeader(ms) => match self.some_leader() {
                Some((_, leader)) => {
                    self.coverage.hit("leader crashed");
                    self.crash(leader, ms)
                }
                None => Ok(()),
            },
            Fault::Isolate(node, ms) => {
                self.network.split(&[node], &nodes);
                self.heal_after(ms)
            }
            Fault::OneWay(from, to, ms) => {
                self.network.cut(from, to);
                self.heal_after(ms)
            }
            Fault::Link(a, b, ms) => {
                self.network.split(&[a], &[b]);
                self.heal_after(ms)
            }
            Fault::DeafLeader(ms) => {
                if let Some((_, leader)) = self.some_leader() {
                    for node in nodes.into_iter().filter(|node| *node != leader) {
                        self.network.cut(node, leader);
                    }
                }
                self.heal_after(ms)
            }
            Fault::Amnesia(ms) => {
                let Some((_, leader)) = self.some_leader() else {
                    return Ok(());
                };
                self.network.split(&[leader], &nodes);
                for node in nodes.into_iter().filter(|node| *node != leader) {
                    let down = self.rng.below(50);
                    self.crash(node, down)?;
                }
                self.heal_after(ms)
            }
            Fault::SlowDisk(node, ms) => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.slow_until = now + ms * 1_000;
                }
                Ok(())
            }
            Fault::Transfer => {
                let Some((group, leader)) = self.some_leader() else {
                    return Ok(());
                };
                let to = *self.rng.pick(&nodes).unwrap_or(&leader);
                self.step(leader, group, Input::TransferLeadership { to })
            }
            Fault::StepDown => {
                let Some((group, leader)) = self.some_leader() else {
                    return Ok(());
                };
                self.step(leader, group, Input::StepDown)
            }
            Fault::FigureEight => {
                if let Some((group, leader)) = self.some_leader() {
                    self.set_trap(group, leader);
                }
                Ok(())
            }
            Fault::Campaign(node) => self.tell(node, &Input::Campaign),
            Fault::ReleaseLog(node) => self.tell(node, &Input::ReleaseLog),
            Fault::Stale => self.stale(),
            Fault::Late => self.late(),
            Fault::Pause(node, ms) => {
                self.pause(node, ms);
                Ok(())
            }
            Fault::PauseLeader(ms) => {
                if let Some((_, leader)) = self.some_leader() {
                    self.coverage.hit("leader paused");
                    self.pause(leader, ms);
                }
                Ok(())
            }
            Fault::LongCrash(node, ms) => self.crash(node, ms),
            Fault::LoseDisk(node, ms) => self.lose_disk(node, ms),
            Fault::Churn => self.churn(),
        }
    }

    /// A replica just won: perhaps its node does not live to enjoy it.
    pub(crate) fn ambush(&mut self, group: GroupId, node: NodeId) {
        let trapped = self.faulty && self.trap_leader(group, node);
        if self.faulty && !trapped && self.rng.chance(self.scenario.ambush) {
            let Some(life) = self.hosts.get(&node).map(|host| host.life) else {
                return;
            };
            // Long enough for some of what it has to reach others, and not all.
            let delay = self.rng.below(4 * self.scenario.delay_us.1);
            self.after(delay, Event::Ambush { node, life });
        }
    }

    /// The ambush.
    pub(crate) fn spring(&mut self, node: NodeId) -> Result<(), Violation> {
        if !self.faulty {
            return Ok(());
        }
        self.coverage.hit("leader ambushed");
        if self.trap == Some(Trap::Closing) {
            self.trap = None;
            self.coverage.hit("trap closed");
            self.network.heal();
            return self.crash(node, 2_000);
        }
        let ms = self.rng.around(200);
        if self.rng.chance(600_000) {
            return self.crash(node, ms);
        }
        let nodes = self.scenario.nodes.clone();
        self.network.split(&[node], &nodes);
        self.heal_after(ms)
    }

    /// Every replica of a node gets this input.
    fn tell(&mut self, node: NodeId, input: &Input) -> Result<(), Violation> {
        for (group, _) in self.scenario.groups.clone() {
            self.step(node, group, input.clone())?;
        }
        Ok(())
    }

    pub(crate) fn heal_after(&mut self, ms: u64) -> Result<(), Violation> {
        self.after(ms * 1_000, Event::Heal);
        Ok(())
    }

    /// A group, drawn, and its leader.
    pub(crate) fn some_leader(&mut self) -> Option<(GroupId, NodeId)> {
        let groups = &self.scenario.groups;
        let group = groups.get(self.rng.below(groups.len() as u64) as usize)?.0;
        Some((group, self.leader(group)?))
    }

    /// A node dies. Some of what it had not synced is on the disk all the same, and perhaps a flush that nobody heard of.
    pub(crate) fn crash(&mut self, node: NodeId, down_ms: u64) -> Result<(), Violation> {
        let parent_first = self.parent_first();
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return Ok(());
        };
        let life = host.life;
        for (group, hosted) in &mut host.groups {
            if let Some(batch) = hosted.flushing.take()
                && self.rng.chance(500_000)
            {
                // All of its transactions, or only the first ones.
                let steps = match host.disk.children.contains_key(group) {
                    true => self.rng.between(0, 3) as usize,
                    false => 3,
                };
                for step in hosted.flushed..steps {
                    host.disk.flush(*group, &batch, step, parent_first);
                }
            }
        }
        let unsynced = host.disk.unsynced();
        let survive = self.rng.below(unsynced + 1);
        if unsynced > 0 && survive < unsynced {
            self.coverage.hit("crash with a torn write");
        }
        let now = self.now;
        self.trace.note(
            now,
            format_args!("n{} dies, {survive} of {unsynced} survive", node.0),
        );
        let torn = host.crash(survive);
        let torn = torn.iter().map(|(group, ops)| (*group, &ops[..])).collect();
        self.check_persisted(node, torn)?;
        self.after(down_ms * 1_000 + 1_000, Event::Restart { node, life });
        Ok(())
    }

    /// A message from, or to, a disk that is no member's.
    fn stale(&mut self) -> Result<(), Violation> {
        let Some((from, mut incarnation, to, group, mut message)) = self.overheard.take() else {
            return Ok(());
        };
        self.coverage.hit("stale message");
        let receiver = self.hosts.get(&to).and_then(|host| host.groups.get(&group));
        let current = receiver.map_or(0, |hosted| hosted.replica.configuration().generation);
        // Somebody unknown may speak from a newer configuration, and anybody may ask.
        let free =
            message.generation > current || matches!(message.body, paxos::Body::Probe { .. });
        if !free && self.rng.chance(500_000) {
            incarnation += 999_999_999;
        } else {
            message.to_incarnation += 999_999_999;
        }
        let input = Input::Message {
            from,
            incarnation,
            message,
        };
        self.step_stale(to, group, input)
    }

    /// A message from long ago.
    fn late(&mut self) -> Result<(), Violation> {
        let Some((from, incarnation, to, group, message)) = self.kept.pop_front() else {
            return Ok(());
        };
        self.coverage.hit("message from long ago");
        let message = Box::new(message);
        self.after(
            0,
            Event::Deliver {
                from,
                to,
                group,
                incarnation,
                message,
            },
        );
        Ok(())
    }

    /// The process stops; its clock goes on.
    fn pause(&mut self, node: NodeId, ms: u64) {
        if let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) {
            host.paused_until = self.now + ms * 1_000;
            self.coverage.hit("process paused");
        }
    }

    /// Ends all faults: the network behaves, everybody runs.
    pub(crate) fn heal(&mut self) {
        self.faulty = false;
        self.network.behave();
        let mut down = Vec::new();
        for host in self.hosts.values_mut() {
            host.slow_until = 0;
            host.paused_until = 0;
            if !host.up {
                down.push((host.node, host.life));
            }
        }
        for (node, life) in down {
            self.after(1_000, Event::Restart { node, life });
        }
    }
}
