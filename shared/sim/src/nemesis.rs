//! What goes wrong, when: draws the next fault. Carries nothing out.

use paxos::NodeId;

use crate::rng::Rng;

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies and comes back after so many milliseconds.
    Crash(NodeId, u64),
    /// Every process dies and comes back after up to so many milliseconds.
    CrashAll(u64),
    /// The node that leads a group (which one, is drawn) dies.
    CrashLeader(u64),
    /// Cuts one node off for so many milliseconds.
    Isolate(NodeId, u64),
    /// Cuts one direction of a link.
    OneWay(NodeId, NodeId, u64),
    /// Cuts both directions of a link.
    Link(NodeId, NodeId, u64),
    /// Nothing reaches the leader of a group any more, while its own messages still leave.
    DeafLeader(u64),
    /// A leader is cut off and everybody else restarts at once: nobody remembers the lease that it still has.
    Amnesia(u64),
    /// Syncs of a node take long.
    SlowDisk(NodeId, u64),
    /// A leader is asked to hand over.
    Transfer,
    /// A leader is asked to step down.
    StepDown,
    /// See `figure_eight`.
    FigureEight,
    /// A replica is told to campaign without waiting for its timer.
    Campaign(NodeId),
    /// A node's shared log is full: its groups are told to release what they can.
    ReleaseLog(NodeId),
    /// A message with a wrong incarnation reaches somebody.
    Stale,
    /// A message from long ago arrives; its sender, or its receiver, may be gone.
    Late,
    /// The process stops for so many milliseconds, and then has everything at once.
    Pause(NodeId, u64),
    /// The process of a leader stops.
    PauseLeader(u64),
    /// A process dies and comes back, with its old state, after so long that everything went on without it.
    LongCrash(NodeId, u64),
    /// The disk of a node is gone; it comes back empty.
    LoseDisk(NodeId, u64),
    /// Somebody changes the members of a group.
    Churn,
}

impl Fault {
    /// Draws one; `traps` per million are traps, `churn` per million concern the members.
    pub fn draw(rng: &mut Rng, nodes: &[NodeId], traps: u64, churn: u64) -> Fault {
        if rng.chance(traps) {
            return Fault::FigureEight;
        }
        let first = rng.below(nodes.len() as u64) as usize;
        let second = (first + 1 + rng.below(nodes.len() as u64 - 1) as usize) % nodes.len();
        let (a, b) = (nodes[first], nodes[second]);
        let mut span = || rng.around(700) + 50;
        let long = span() + span();
        if rng.chance(churn) {
            return match rng.below(100) {
                0..70 => Fault::Churn,
                70..77 => Fault::LongCrash(a, 4_000 + 4 * long),
                77..85 => Fault::Late,
                _ => Fault::LoseDisk(a, long),
            };
        }
        match rng.below(100) {
            0..2 => Fault::LongCrash(a, 4_000 + 4 * long),
            2..5 => Fault::Pause(a, long),
            5..8 => Fault::PauseLeader(long),
            8..10 => Fault::Late,
            10..16 => Fault::Crash(a, long),
            16..20 => Fault::CrashAll(long),
            20..32 => Fault::CrashLeader(long),
            32..40 => Fault::Isolate(a, long),
            40..48 => Fault::OneWay(a, b, long),
            48..54 => Fault::Link(a, b, long),
            54..58 => Fault::DeafLeader(long),
            58..60 => Fault::Amnesia(long + 1_000),
            60..72 => Fault::SlowDisk(a, long),
            72..84 => Fault::Transfer,
            84..90 => Fault::StepDown,
            90..93 => Fault::Campaign(a),
            93..95 => Fault::ReleaseLog(a),
            _ => Fault::Stale,
        }
    }
}
