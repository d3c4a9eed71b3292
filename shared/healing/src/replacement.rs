//! Replacements as the admin orders them. Owns which order is taken, and the one that is being carried out; it is volatile: the
//! admin orders again until it sees that it is done.

use paxos::{Configuration, Member, Millis, NodeId, Role};

use crate::{Planner, View};

/// A replacement that was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Who goes: a storage member, a learner or a log replica.
    pub replaced: NodeId,
    /// Where the new storage replica is to be; may be the same node.
    pub target: NodeId,
    /// When it was last ordered.
    pub ordered: Millis,
    /// How often the making of the new replica failed.
    pub(crate) failures: u32,
    /// Incarnation of the new replica, once it is made.
    pub(crate) made: Option<u64>,
}

/// Why a replacement is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplacementRefusal {
    /// Meant for another generation; this one is in force.
    Stale(u64),
    /// It cannot be, and why.
    Refused(&'static str),
}

impl Planner {
    /// Takes `ReplaceReplica`; the same order again does no harm.
    pub fn replace(
        &mut self,
        now: Millis,
        view: &View<'_>,
        generation: u64,
        replaced: NodeId,
        target: NodeId,
    ) -> Result<(), ReplacementRefusal> {
        use ReplacementRefusal::{Refused, Stale};
        let configuration = view.configuration;
        if generation != configuration.generation {
            return Err(Stale(configuration.generation));
        }
        if is_done(configuration, replaced, target) {
            return Ok(());
        }
        let Some(member) = configuration.member(replaced) else {
            return Err(Refused("the replica to be replaced is not in the group"));
        };
        let lives = self.silent_ms(now, view, member) < self.settings.log_replica_after_ms;
        let made = self
            .replacement
            .is_some_and(|r| r.made == Some(member.incarnation));
        if replaced == target && lives && !made {
            return Err(Refused(
                "that replica lives: it cannot be rebuilt in its place",
            ));
        }
        let votes = configuration.voters().any(|m| m.node == target);
        if votes && target != replaced {
            return Err(Refused("the target has a replica with a vote already"));
        }
        let learns = configuration.learners.iter().any(|l| l.node == target);
        let log = configuration.members.iter().any(|m| m.role == Role::Log);
        let storage = |m: &Member| m.node == replaced && m.role == Role::Storage;
        let ordered = self.replacement.is_some_and(|r| r.target == target);
        if learns
            && log
            && configuration.members.iter().any(storage)
            && !ordered
            && target != replaced
        {
            return Err(Refused("the target will take the place of a log replica"));
        }
        if let Some(current) = &mut self.replacement {
            if (current.replaced, current.target) == (replaced, target) {
                current.ordered = now;
                return Ok(());
            }
            if now.since(current.ordered) < self.settings.replacement_hold_ms {
                return Err(Refused("another replacement is under way"));
            }
        }
        if !view.takes_replicas(target, now, &self.settings) {
            return Err(Refused(
                "the target is not ready, is draining, has no space, or was not heard of lately",
            ));
        }
        self.replacement = Some(Replacement {
            replaced,
            target,
            ordered: now,
            failures: 0,
            made: None,
        });
        Ok(())
    }

    /// The replacement that is being carried out.
    pub fn replacement(&self) -> Option<&Replacement> {
        self.replacement.as_ref()
    }
}

fn is_done(configuration: &Configuration, replaced: NodeId, target: NodeId) -> bool {
    let in_place = |role: Role| {
        let mut members = configuration.members.iter();
        members.any(|m| m.node == target && m.role == role)
    };
    replaced != target && configuration.member(replaced).is_none() && in_place(Role::Storage)
}
