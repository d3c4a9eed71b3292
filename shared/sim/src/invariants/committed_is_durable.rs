//! What a leader takes for committed is durable on a quorum of every active configuration.

use std::collections::BTreeMap;

use paxos::{GroupId, Index, Standing};

use super::{Check, Invariant, Stepped};

/// See the module.
#[derive(Default)]
pub struct CommittedIsDurable {
    checked: BTreeMap<GroupId, Index>,
}

impl Invariant for CommittedIsDurable {
    fn name(&self) -> &'static str {
        "committed means durable on a quorum of every active configuration"
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let status = step.replica.status();
        let leads = matches!(status.standing, Standing::Leader { .. });
        let checked = self.checked.entry(step.group).or_default();
        if !leads || status.commit <= *checked || status.commit <= status.floor.index {
            return Ok(());
        }
        // Whatever a leader just counted: everything up to there was in one log, so its end stands for all.
        let index = status.commit;
        let Some(ballot) = step.replica.ballot_at(index) else {
            return Ok(());
        };
        // A member counts with its own disk, also with what it had when it was lost, but not with another one.
        let durable = status.configuration.quorum(|member| {
            step.disks.iter().any(|(node, disk)| {
                member.is(*node, disk.identity.incarnation)
                    && (disk.ballot_at(index) == Some(ballot) || disk.floor.index >= index)
            })
        });
        if !durable {
            return Err(format!(
                "node {} takes {index} of {ballot:?} for committed, but it is on no quorum: {status:?}",
                step.node.0
            ));
        }
        *checked = index;
        Ok(())
    }
}
