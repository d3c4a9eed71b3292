//! A trap for leaders that commit by counting (figure 8 of the Raft paper), which chance alone sets too rarely. It takes
//! three leaders: the first is cut off and keeps entries that nobody else has; the second wins without them, and is cut
//! off with the first entry of its ballot; the first (or the third node, with its log) wins again, spreads the old entries,
//! and dies at a moment when its own first entry may not have followed them yet. Then the second comes back.

use paxos::{GroupId, NodeId};

use crate::event::Event;
use crate::world::World;

/// How far the trap is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// The first leader is cut off.
    Buried { group: GroupId, first: NodeId },
    /// The second one, too; the first is back.
    Rivals { group: GroupId, second: NodeId },
    /// The third is about to die.
    Closing,
}

impl World {
    /// Begins with this leader.
    pub(crate) fn set_trap(&mut self, group: GroupId, first: NodeId) {
        let nodes = self.scenario.nodes.clone();
        self.network.split(&[first], &nodes);
        self.trap = Some(Trap::Buried { group, first });
    }

    /// A replica won. True: the trap has its own plans with it.
    pub(crate) fn trap_leader(&mut self, of: GroupId, node: NodeId) -> bool {
        let nodes = self.scenario.nodes.clone();
        match self.trap {
            Some(Trap::Buried { group, first }) if group == of && node != first => {
                self.network.heal();
                self.network.split(&[node], &nodes);
                let second = node;
                self.trap = Some(Trap::Rivals { group, second });
                true
            }
            Some(Trap::Rivals { group, second }) if group == of && node != second => {
                let Some(life) = self.hosts.get(&node).map(|host| host.life) else {
                    return false;
                };
                self.trap = Some(Trap::Closing);
                let delay = self.rng.below(6 * self.scenario.delay_us.1);
                self.after(delay, Event::Ambush { node, life });
                true
            }
            _ => false,
        }
    }
}
