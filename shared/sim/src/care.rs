//! A stand-in for healing: what leader and admin together would order, decided by an onlooker who knows which nodes run.
//! Brings every group back to three storage members and nothing else.

use paxos::{Configuration, GroupId, Member, NodeId, Role};

use crate::event::Event;
use crate::host::Host;
use crate::orders::Order;
use crate::scenario::Members;
use crate::world::{CARE_US, Violation, World};

/// Storage members of a group.
const COPIES: usize = 3;

impl World {
    /// Looks at all groups. While things go wrong, it looks at some now and then.
    pub(crate) fn care(&mut self) -> Result<(), Violation> {
        self.after(CARE_US, Event::Care);
        if self.scenario.splits {
            self.care_for_splits()?;
        }
        if self.scenario.scrubs {
            self.care_for_scrubs()?;
        }
        if self.scenario.members == Members::Fixed {
            return Ok(());
        }
        for (group, _) in self.scenario.groups.clone() {
            if (self.faulty && !self.rng.chance(300_000)) || self.is_ending(group) {
                continue;
            }
            if self.scenario.members == Members::Healing {
                self.administer(group);
            } else if let Some(leader) = self.leader(group) {
                self.care_for(group, leader)?;
            }
        }
        Ok(())
    }

    fn care_for(&mut self, group: GroupId, leader: NodeId) -> Result<(), Violation> {
        let Some(hosted) = self.hosted(leader, group) else {
            return Ok(());
        };
        let current = hosted.replica.configuration().clone();
        let followers = hosted.replica.followers();
        let settled = self
            .registry
            .get(group)
            .is_some_and(|k| k.committed == current);
        if !settled || current.joint.is_some() {
            return Ok(());
        }
        self.dismiss(group, &current);
        let runs = |m: &&Member| {
            let up = self.hosts.get(&m.node).is_some_and(|host| host.up);
            up && m.role == Role::Storage && self.exists(group, m)
        };
        let sound: Vec<Member> = current.members.iter().filter(runs).copied().collect();
        let filling: Vec<Member> = current.learners.iter().filter(runs).copied().collect();
        let ready = filling.iter().find(|m| {
            let mut known = followers.iter();
            known.any(|f| f.member == **m && f.in_step)
        });
        let (mut members, mut learners) = (current.members.clone(), current.learners.clone());
        let dead = |m: &&Member| !self.exists(group, m) && !sound.contains(m);
        if let Some(learner) = ready.filter(|_| sound.len() < COPIES) {
            learners.retain(|m| m != learner);
            let gone = members.iter().find(dead);
            let log = members.iter().find(|m| m.role == Role::Log);
            if let Some(gone) = gone.or(log).copied() {
                members.retain(|m| *m != gone);
            }
            members.retain(|m| m.node != learner.node);
            members.push(*learner);
        } else if sound.len() >= COPIES {
            let keep = sound.iter().filter(|m| m.node == leader);
            let rest = sound.iter().filter(|m| m.node != leader);
            members = keep.chain(rest).take(COPIES).copied().collect();
            learners.clear();
        } else if filling.len() < learners.len() {
            learners = filling;
        } else if let Some(dead) = members
            .iter()
            .find(dead)
            .copied()
            .filter(|m| m.role == Role::Log)
        {
            members.retain(|m| *m != dead);
        } else if sound.len() + filling.len() < COPIES {
            let log = members.iter().find(|m| m.role == Role::Log).copied();
            match (self.orphan(group, &current), log) {
                (Some(orphan), _) => learners.push(orphan),
                // No node is left but the log replica's.
                (None, Some(log)) if !self.hosts.values().any(|h| self.has_room(h, group)) => {
                    members.retain(|m| *m != log);
                }
                _ => return self.join_somewhere(group, &current, Role::Storage, None),
            }
        }
        let same =
            |a: &[Member], b: &[Member]| a.len() == b.len() && a.iter().all(|m| b.contains(m));
        if same(&members, &current.members) && same(&learners, &current.learners) {
            return Ok(());
        }
        self.reconfigure(leader, group, current.generation, members, learners)
    }

    fn has_room(&self, host: &Host, group: GroupId) -> bool {
        host.up && !host.disk.groups.contains_key(&group)
    }

    /// Tells replicas that were removed long ago, as the admin does: all that they know may be gone without a trace.
    pub(crate) fn dismiss(&mut self, group: GroupId, current: &Configuration) {
        let removed: Vec<(NodeId, u64)> = self
            .hosts
            .values()
            .filter_map(|host| {
                let identity = host.disk.groups.get(&group)?.identity;
                let named = current.contains(host.node, identity.incarnation);
                let older = identity.generation < current.generation;
                (older && !named).then_some((host.node, identity.incarnation))
            })
            .collect();
        for (node, incarnation) in removed {
            if self.rng.chance(100_000) {
                let order = Order::Retire {
                    group,
                    incarnation,
                    generation: current.generation,
                };
                self.order(node, &order);
            }
        }
    }

    /// A replica that was made for this very configuration and never taken in. A storage replica is of use; any other, if it
    /// takes the last free node, is taken in for as long as it takes to be told that it is not wanted.
    fn orphan(&self, group: GroupId, current: &Configuration) -> Option<Member> {
        let made = |host: &Host| {
            let identity = host.disk.groups.get(&group)?.identity;
            let known = current.contains(host.node, identity.incarnation);
            (!known && host.up && identity.generation == current.generation).then_some(Member {
                node: host.node,
                role: identity.role,
                incarnation: identity.incarnation,
            })
        };
        let of = |role: Role| {
            let mut made = self.hosts.values().filter_map(made);
            made.find(|m| m.role == role)
        };
        let full = !self.hosts.values().any(|host| self.has_room(host, group));
        of(Role::Storage).or(of(Role::Log).filter(|_| full))
    }
}
