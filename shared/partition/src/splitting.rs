//! The commands of a split at a leader, and what they do where they are applied.

use std::sync::Arc;

use bytes::Bytes;
use model::{ApiError, ErrorKind};
use paxos::{Ballot, GroupId, Index};
use protocol::item::{ItemFault, ItemReply};
use protocol::split::{CommittedSplit, Split};

use crate::partition::{Evaluated, Partition};
use crate::{Batch, command};

/// A command of a split that a leader proposed. There is one at a time: what the next one may be hangs on what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deciding {
    /// The leader's ballot: in another one, the command is applied before that leader serves, or never.
    ballot: Ballot,
    /// It is `CommitSplit`.
    commits: bool,
    /// It is in the log.
    proposed: bool,
}

impl<C> Partition<C> {
    /// Whether a leader in this ballot may serve strong reads and writes, as far as splits are concerned. Not from the moment on in which
    /// it proposes `CommitSplit`: others may apply it, and the children serve, before it knows.
    pub fn serves(&self, ballot: Ballot) -> bool {
        !self.has_ended() && !self.is_committing(ballot)
    }

    /// Whether the partition has ended: its children serve its keys.
    pub(crate) fn has_ended(&self) -> bool {
        #[cfg(feature = "mutations")]
        if self.mutations.contains(&crate::Mutation::ServeAfterCommit) {
            return false;
        }
        self.state.has_ended()
    }

    /// Whether a leader in this ballot has proposed `CommitSplit`, and does not know what became of it.
    pub fn is_committing(&self, ballot: Ballot) -> bool {
        #[cfg(feature = "mutations")]
        if self
            .mutations
            .contains(&crate::Mutation::ServeWhileCommitting)
        {
            return false;
        }
        self.deciding
            .is_some_and(|deciding| deciding.commits && deciding.ballot == ballot)
    }

    /// Makes the command that begins a split, at a leader in `ballot`; `Written` stands for done. `now_ms`: milliseconds since the
    /// epoch.
    pub fn evaluate_split(
        &mut self,
        id: GroupId,
        split: &Split,
        (ballot, now_ms): (Ballot, u64),
        caller: C,
    ) -> Evaluated<C> {
        let begun = self.state.split.as_ref();
        if begun.is_some_and(|begun| {
            (&begun.point, begun.left, begun.right) == (&split.point, split.left, split.right)
        }) {
            return Evaluated::Answer(caller, done());
        }
        let check =
            crate::split::check_split(&self.state, id, &split.point, (split.left, split.right));
        let time_ms = self.stamp(now_ms);
        let command = check.and_then(|()| command::encode_begin_split(time_ms, split));
        self.evaluate_step(ballot, command, caller)
    }

    /// Makes the command that gives a split up, at a leader in `ballot`.
    pub fn evaluate_abandon(
        &mut self,
        left: GroupId,
        (ballot, now_ms): (Ballot, u64),
        caller: C,
    ) -> Evaluated<C> {
        let Some(_) = self.state.split.as_ref().filter(|split| split.left == left) else {
            return Evaluated::Answer(caller, done());
        };
        let command = match self.state.has_ended() {
            true => Err("the split is committed".to_owned()),
            false => command::encode_abandon_split(self.stamp(now_ms), left),
        };
        self.evaluate_step(ballot, command, caller)
    }

    fn evaluate_step(
        &mut self,
        ballot: Ballot,
        command: Result<Bytes, String>,
        caller: C,
    ) -> Evaluated<C> {
        let refused = |caller, why: String| {
            let error = ApiError::new(ErrorKind::InternalServerError, why);
            Evaluated::Answer(caller, ItemReply::Fault(ItemFault::Api(error)))
        };
        match command {
            _ if self.decides(ballot) => refused(
                caller,
                "an earlier step of a split is not decided".to_owned(),
            ),
            Err(why) => refused(caller, why),
            Ok(command) => {
                self.deciding = Some(Deciding {
                    ballot,
                    commits: false,
                    proposed: false,
                });
                self.flights
                    .push(command.clone(), Bytes::new(), None, caller, done());
                Evaluated::Propose(command)
            }
        }
    }

    fn decides(&self, ballot: Ballot) -> bool {
        self.deciding
            .is_some_and(|deciding| deciding.ballot == ballot)
    }

    /// The command that commits the split, at a serving leader in `ballot` that may commit (see [`crate::split::Reports`]) and has proposed
    /// everything that it evaluated: from this call on it does not serve. None if there is nothing to commit. Say
    /// `proposed` or `refused`, as for any command.
    pub fn commit(&mut self, ballot: Ballot, now_ms: u64) -> Option<Bytes> {
        let split = self.state.split.as_ref()?;
        if split.committed.is_some() || self.decides(ballot) {
            return None;
        }
        let left = split.left;
        let command = command::encode_commit_split(self.stamp(now_ms), left).ok()?;
        self.deciding = Some(Deciding {
            ballot,
            commits: true,
            proposed: false,
        });
        Some(command)
    }

    /// Commands that were given out are in the log.
    pub(crate) fn step_proposed(&mut self) {
        if let Some(deciding) = &mut self.deciding {
            deciding.proposed = true;
        }
    }

    /// Commands that were given out did not go into the log: a step among them was not made.
    pub(crate) fn step_refused(&mut self) {
        self.deciding.take_if(|deciding| !deciding.proposed);
    }

    /// The children's replicas are here, durably: the batch that notes it. There must be no other one under way.
    pub fn note_installed(&mut self) -> Batch {
        self.state.installed = true;
        // The last scrub of a partition that has ended is of no use to anybody.
        self.forget_marker();
        self.seal().unwrap_or_else(|| Batch {
            state: self.state.clone(),
            items: Arc::default(),
            marked: None,
        })
    }

    /// The batch of `note_installed` did not reach the B-tree; it is made anew.
    pub fn install_failed(&mut self) {
        self.state.installed = false;
        self.overlay.unseal();
    }

    pub(crate) fn begin_split(&mut self, split: Split) {
        self.deciding = None;
        // The leader has checked it against a state that may have been older.
        if self.state.split.is_none() {
            self.state.split = Some(Split {
                committed: None,
                ..split
            });
        }
    }

    pub(crate) fn commit_split(&mut self, index: Index, left: GroupId) {
        self.deciding = None;
        let configuration = &self.state.configuration;
        if let Some(split) = self.state.split.as_mut().filter(|split| split.left == left)
            && split.committed.is_none()
        {
            split.committed = Some(CommittedSplit {
                at: index,
                time_ms: self.state.time_ms,
                configuration: configuration.clone(),
            });
        }
    }

    pub(crate) fn abandon_split(&mut self, left: GroupId) {
        self.deciding = None;
        self.state
            .split
            .take_if(|split| split.left == left && split.committed.is_none());
    }
}

fn done() -> ItemReply {
    ItemReply::Written {
        attributes: None,
        old_size_bytes: 0,
        new_size_bytes: 0,
        indexes: Vec::new(),
        collection_bytes: None,
    }
}
