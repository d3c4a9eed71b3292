//! What clients and nodes say to each other.

use partition::Evaluated;
use paxos::{GroupId, Input, NodeId, Output, Refusal};
use protocol::item::{ItemFault, ItemReply};

use crate::client::{Call, Outcome, Wish};
use crate::event::Event;
use crate::fixture;
use crate::registry::Known;
use crate::world::{Violation, World, broken};

/// A client gives up on a request after so long.
const CALL_US: u64 = 3_000_000;

impl World {
    /// A client calls.
    pub(crate) fn client_wakes(&mut self, client: usize) {
        if !self.clients_run {
            return;
        }
        let keys = self.scenario.keys;
        let Some(state) = self.clients.get_mut(client) else {
            return;
        };
        let call = state.next(&mut self.rng, &mut self.call_ids, (client, self.now), keys);
        let node = state.target;
        self.calls.insert(call.id, call);
        let delay = self.network.delay(&mut self.rng);
        // Requests get lost, too.
        if !self.faulty || !self.rng.chance(self.scenario.loss / 4) {
            self.after(
                delay,
                Event::Request {
                    node,
                    call: Box::new(call),
                },
            );
        }
        self.after(
            CALL_US,
            Event::TimedOut {
                client,
                call: call.id,
            },
        );
    }

    /// A request reaches a node: it is evaluated with whatever else is there by then.
    pub(crate) fn request(&mut self, node: NodeId, call: Call) {
        let group = call.group;
        let wait = self.rng.below(self.scenario.batch_us + 1);
        let Some(hosted) = self.hosted(node, group) else {
            // The node says so at once.
            if self.hosts.get(&node).is_some_and(|host| host.up) {
                let fault = ItemFault::NotHere { partition: None };
                self.answer(node, call.id, ItemReply::Fault(fault));
            }
            return;
        };
        let first = hosted.inbox.is_empty();
        let birth = hosted.birth;
        hosted.inbox.push(call);
        if first {
            self.after(wait, Event::Inbox { node, birth, group });
        }
    }

    /// A leader evaluates what came in, in one go, and proposes what comes of it together.
    pub(crate) fn evaluate(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let (Some(hosted), Some(disk)) =
            (host.groups.get_mut(&group), host.disk.groups.get(&group))
        else {
            return Ok(());
        };
        let mut answers = Vec::new();
        let mut commands = Vec::new();
        for call in std::mem::take(&mut hosted.inbox) {
            let ballot = hosted.replica.status().promised;
            if hosted.partition.state().has_ended() && !hosted.partition.serves(ballot) {
                let fault = ItemFault::WrongRange {
                    partition: None,
                    children: Vec::new(),
                };
                answers.push((call.id, ItemReply::Fault(fault)));
                continue;
            }
            if !hosted.replica.can_serve_reads(now) || !hosted.partition.serves(ballot) {
                let fault = match hosted.replica.status().leader {
                    Some(leader) if leader != node => ItemFault::NotHere { partition: None },
                    _ => ItemFault::NotReady,
                };
                answers.push((call.id, ItemReply::Fault(fault)));
                continue;
            }
            let Some(write) = fixture::write_of(&call) else {
                match hosted.partition.get(&disk.tree, &fixture::get(call.key)) {
                    Ok(reply) => answers.push((call.id, reply)),
                    Err(error) => return broken("the partition answers reads", error.to_string()),
                }
                continue;
            };
            match hosted.partition.evaluate(&disk.tree, &write, 0, call.id) {
                Ok(Evaluated::Propose(command)) => commands.push(command),
                Ok(Evaluated::Waits) => {}
                Ok(Evaluated::Answer(caller, reply)) => answers.push((caller, reply)),
                Err(error) => return broken("the partition evaluates writes", error.to_string()),
            }
        }
        if commands.len() > 1 {
            self.coverage.hit("several commands a proposal");
        }
        let mut output = Output::default();
        if !commands.is_empty() {
            output = hosted.replica.step(now, Input::Propose(commands));
            match output.proposed.take() {
                Some(Ok(first)) => hosted.partition.proposed(first),
                Some(Err(Refusal::Overloaded)) => {
                    let fault = ItemFault::Overloaded;
                    hosted.partition.refused(&fault, &mut answers);
                }
                Some(Err(_)) | None => {
                    hosted.partition.refused(&ItemFault::NotReady, &mut answers);
                }
            }
        }
        for (caller, reply) in answers {
            self.answer(node, caller, reply);
        }
        self.carry_out_proposal(node, group, output)
    }

    fn carry_out_proposal(
        &mut self,
        node: NodeId,
        group: GroupId,
        output: Output,
    ) -> Result<(), Violation> {
        let now = self.now;
        self.trace.note(
            now,
            format_args!("n{} g{} took a proposal", node.0, group.0),
        );
        self.carry_out(node, group, output)
    }

    /// A node answers a call.
    pub(crate) fn answer(&mut self, _node: NodeId, call: u64, reply: ItemReply) {
        let delay = self.network.delay(&mut self.rng);
        if !self.faulty || !self.rng.chance(self.scenario.loss / 4) {
            let reply = Box::new(reply);
            self.after(delay, Event::Reply { call, reply });
        }
    }

    /// An answer reaches its client; if it comes too late, nobody waits for it.
    pub(crate) fn replied(&mut self, id: u64, reply: &ItemReply) -> Result<(), Violation> {
        let Some(call) = self.calls.remove(&id) else {
            return Ok(());
        };
        let outcome = call.outcome(reply);
        let now = self.now;
        self.trace
            .note(now, format_args!("call {id} k{}: {outcome:?}", call.key));
        self.record(&call, outcome);
        match outcome {
            Outcome::Nonsense => {
                let detail = format!("{call:?} was answered {reply:?}");
                return broken("answers make sense", detail);
            }
            Outcome::Unknown => self.coverage.hit("unknown outcome"),
            Outcome::NotExecuted => {
                let not_here = matches!(reply, ItemReply::Fault(ItemFault::NotHere { .. }));
                let what = if not_here {
                    "not leader"
                } else {
                    "overloaded or not ready"
                };
                self.coverage.hit(what);
                if matches!(reply, ItemReply::Fault(ItemFault::WrongRange { .. })) {
                    let Some(child) = self.child_with(call.group, call.key) else {
                        return broken("answers make sense", format!("{call:?}: {reply:?}"));
                    };
                    self.coverage.hit("sent on to a child");
                    self.relocate(call.client, call.key, child);
                } else if not_here && self.scenario.splits && self.rng.chance(200_000) {
                    // The directory knows.
                    self.look_up(&call);
                }
                self.retarget(&call);
            }
            Outcome::Done(_) => self.coverage.hit(match (call.wish, reply) {
                (Wish::Read, _) => "strong read",
                (_, ItemReply::Written { .. }) => "acknowledged write",
                _ => "condition failed",
            }),
        }
        self.think(call.client);
        Ok(())
    }

    /// A call was not answered in time: what was to be written may have been.
    pub(crate) fn timed_out(&mut self, client: usize, id: u64) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        let now = self.now;
        self.trace.note(now, format_args!("call {id} timed out"));
        self.record(&call, Outcome::Unknown);
        self.look_up(&call);
        self.retarget(&call);
        self.think(client);
    }

    /// The client tries another member next.
    fn retarget(&mut self, call: &Call) {
        let Some(state) = self.clients.get_mut(call.client) else {
            return;
        };
        let group = state.leaves.get(&call.key).copied().unwrap_or(state.group);
        let nodes = self.registry.get(group).map(Known::nodes);
        if let Some(node) = self.rng.pick(&nodes.unwrap_or_default()) {
            state.target = *node;
        }
    }

    /// The client looks up where a key is.
    fn look_up(&mut self, call: &Call) {
        if !self.scenario.splits {
            return;
        }
        let root = self.clients.get(call.client).map(|client| client.group);
        if let Some(root) = root {
            let owner = self.owner(root, call.key);
            self.relocate(call.client, call.key, owner);
        }
    }

    fn relocate(&mut self, client: usize, key: u64, group: GroupId) {
        if let Some(state) = self.clients.get_mut(client) {
            state.leaves.insert(key, group);
        }
    }

    fn think(&mut self, client: usize) {
        if let Some(state) = self.clients.get_mut(client) {
            state.call = None;
        }
        let pause = self.rng.around(self.scenario.pause_ms) * 1_000 + 100;
        self.after(pause, Event::ClientWakes { client });
    }
}
