//! Scrubs of a group: the marker at the leader, and the view that a replica opens behind it.

use std::sync::Arc;

use btree::Snapshot;
use partition::{Marked, PartitionError};
use paxos::{Input, Role};
use protocol::scrub::{Marker, ScrubReply};

use super::Group;
use crate::env::Env;
use crate::scrub::{DigestJob, ScrubJob, Scrubs, View};

impl Group {
    /// `Begin`: puts a marker into the log, if this replica leads and nothing stands against it.
    pub(crate) fn mark(
        &mut self,
        env: &mut Env,
        marker: &Marker,
    ) -> Result<ScrubReply, PartitionError> {
        if self.leader_fault(env).is_some() {
            return Ok(ScrubReply::NotLeader);
        }
        if let Some(why) = env.node.scrubs.busy(self.id) {
            return Ok(ScrubReply::Busy(why));
        }
        let configuration = self.replica.configuration();
        let stores = configuration.members.iter();
        let members = stores.filter(|member| member.role == Role::Storage);
        let begun = ScrubReply::Begun {
            members: members.copied().collect(),
            generation: configuration.generation,
        };
        let Some(store) = &mut self.store else {
            return Ok(ScrubReply::NotLeader);
        };
        // Commands that were evaluated and not proposed yet have their places in the log reserved.
        if !store.commands.is_empty() || store.partition.is_marked() {
            return Ok(ScrubReply::Busy("try again".to_owned()));
        }
        match store.partition.marker(marker, env.unix_ms) {
            Err(why) => Ok(ScrubReply::Busy(why)),
            Ok(command) => {
                self.step(env, Input::Propose(vec![command]))?;
                Ok(begun)
            }
        }
    }

    /// The B-tree is flushed exactly up to a marker: has this view of it digested.
    pub(super) fn begin_digest(&mut self, env: &mut Env, marked: Marked, snapshot: Snapshot) {
        if !Scrubs::is_current(&marked, env.unix_ms) {
            return;
        }
        let view = View {
            group: self.id,
            incarnation: self.replica.identity().incarnation,
            marked,
            snapshot: Arc::new(snapshot),
        };
        if !env.node.scrubs.begin(&view, env.now) {
            return;
        }
        let (group, number) = (view.group, view.marked.marker.scrub);
        let node = env.node.clone();
        let job = ScrubJob::Digest(DigestJob { view, node });
        if env.scrubber.submit(job).is_err() {
            let why = "too much to do".to_owned();
            env.node.scrubs.give_up(group, number, why);
        }
    }
}
