//! Replicas whose logs differ from what was archived: has them fenced, as the scrubber has replicas whose B-trees differ. Owns the list, and what
//! must hold before and after; nobody is on it without a majority of the replicas against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use archive::Digest;
use paxos::{GroupId, Index, NodeId};
use protocol::archive::LedLog;
use protocol::operate::{Answer, Command};
use tokio::time::{MissedTickBehavior, interval};

use crate::desk::Desk;
use crate::source::SourceError;

/// Between two looks at the list.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Replicas on the list at most: others are found again with the next segment that they differ in.
const SUSPECTS_MAX: usize = 64;

/// A replica that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) incarnation: u64,
    /// `TableDefinition::uuid`.
    pub(crate) uuid: String,
    /// The entries in which it differs.
    pub(crate) range: (Index, Index),
    /// What the others' segment of that range has.
    pub(crate) expected: Digest,
    /// Its node was told to fence it, and did.
    pub(crate) fenced: bool,
}

/// Those that are to be fenced, or replaced after that.
pub(crate) type Suspects = BTreeMap<(GroupId, NodeId), Suspect>;

/// The replica to be fenced for an alarm, if so many of the log's voters are a majority and it is there.
pub(crate) fn suspect(
    log: &LedLog,
    node: NodeId,
    equal: usize,
    range: (Index, Index),
    expected: Digest,
) -> Option<Suspect> {
    let voters = log.replicas.iter().filter(|replica| replica.votes).count();
    let replica = log.replicas.iter().find(|replica| replica.node == node)?;
    (2 * equal > voters).then(|| Suspect {
        incarnation: replica.incarnation,
        uuid: log.table_uuid.clone(),
        range,
        expected,
        fenced: false,
    })
}

/// Notes a replica.
pub(crate) fn note(suspects: &mut Suspects, at: (GroupId, NodeId), suspect: Suspect) {
    let known = suspects.get(&at);
    let again = known.is_some_and(|known| known.incarnation == suspect.incarnation);
    if !again && (known.is_some() || suspects.len() < SUSPECTS_MAX) {
        suspects.insert(at, suspect);
    }
}

/// What is to be done about a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// It is to be fenced.
    Condemn,
    /// Nothing now.
    Wait,
    /// It is off the list: replaced, or it says the same as the others by now, so that a message was damaged and no log.
    Over,
}

/// `answer`: what it says now to the range in which it differed.
fn next(
    suspect: &Suspect,
    node: NodeId,
    log: &LedLog,
    answer: &Result<Digest, SourceError>,
) -> Next {
    let of = |replica: &&protocol::archive::LogReplica| {
        replica.node == node && replica.incarnation == suspect.incarnation
    };
    if !log.replicas.iter().any(|replica| of(&replica)) {
        return Next::Over;
    }
    match answer {
        _ if suspect.fenced => Next::Wait,
        Ok(digest) if *digest == suspect.expected => Next::Over,
        // It said so twice before it came on the list; its log may be cut by now.
        Ok(_) | Err(SourceError::Gone(_)) => Next::Condemn,
        Err(_) => Next::Wait,
    }
}

/// Looks at the list, again and again.
pub(crate) async fn condemn(desk: Arc<Desk>) {
    let mut every = interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let suspects = desk.suspects.lock().clone();
        for (at, suspect) in suspects {
            look(&desk, at, &suspect).await;
        }
    }
}

async fn look(desk: &Desk, at: (GroupId, NodeId), suspect: &Suspect) {
    let (partition, node) = at;
    let Some(known) = desk.log(partition) else {
        // Another instance looks after it, or it is gone. Nobody describes it for a moment: it is found again.
        desk.suspects.lock().remove(&at);
        return;
    };
    let answer = desk
        .source
        .digest(node, partition, &suspect.uuid, suspect.range)
        .await;
    let answer = answer.and_then(|digest| {
        let read = <[u8; 32]>::try_from(&digest[..]);
        read.map(Digest::from)
            .map_err(|_| SourceError::Silent("no digest".to_owned()))
    });
    match next(suspect, node, &known.log, &answer) {
        Next::Wait => {}
        Next::Over => {
            desk.suspects.lock().remove(&at);
            desk.alarms.clear(&diverges(partition, node));
        }
        Next::Condemn => {
            let (first, last) = suspect.range;
            let command = Command::Condemn {
                partition,
                node,
                incarnation: suspect.incarnation,
                why: format!(
                    "its log differs from those of the other replicas in entries {first} to {last}"
                ),
            };
            match desk.source.ask_admin(&command).await {
                Ok(Answer::Done(words)) => {
                    tracing::error!(
                        partition = partition.0,
                        node = node.0,
                        words,
                        "a replica whose log differs is fenced"
                    );
                    if let Some(suspect) = desk.suspects.lock().get_mut(&at) {
                        suspect.fenced = true;
                    }
                }
                said => tracing::warn!(
                    partition = partition.0,
                    node = node.0,
                    ?said,
                    "a replica whose log differs is not fenced yet"
                ),
            }
        }
    }
}

/// Name of the alarm.
pub(crate) fn diverges(partition: GroupId, node: NodeId) -> String {
    format!("partition {}: node {} diverges", partition.0, node.0)
}

#[cfg(test)]
mod tests {
    use paxos::Role;
    use protocol::archive::LogReplica;

    use super::*;

    fn log(nodes: &[u64]) -> LedLog {
        let replica = |&node: &u64| LogReplica {
            node: NodeId(node),
            incarnation: 10 * node,
            role: Role::Storage,
            votes: true,
        };
        LedLog {
            partition: GroupId(7),
            table_uuid: "u".to_owned(),
            replicas: nodes.iter().map(replica).collect(),
            ..LedLog::default()
        }
    }

    fn odd(equal: usize) -> Option<Suspect> {
        suspect(
            &log(&[1, 2, 3]),
            NodeId(3),
            equal,
            (5, 9),
            Digest::of(b"right"),
        )
    }

    #[test]
    fn nobody_is_suspected_without_a_majority_against_it() {
        assert_eq!(odd(1), None);
        let suspect = odd(2).unwrap();
        assert_eq!((suspect.incarnation, suspect.range), (30, (5, 9)));
        let nobody = super::suspect(&log(&[1, 2]), NodeId(3), 2, (5, 9), Digest::of(b"x"));
        assert_eq!(nobody, None, "it is not there any more");
    }

    #[test]
    fn only_what_still_differs_is_condemned_and_once() {
        let mut suspect = odd(2).unwrap();
        let all = log(&[1, 2, 3]);
        let differs = Ok(Digest::of(b"wrong"));
        let now = |suspect: &Suspect, log: &LedLog, answer: &Result<Digest, SourceError>| {
            next(suspect, NodeId(3), log, answer)
        };
        assert_eq!(now(&suspect, &all, &differs), Next::Condemn);
        let silent = Err(SourceError::Silent("x".into()));
        assert_eq!(now(&suspect, &all, &silent), Next::Wait);
        assert_eq!(
            now(&suspect, &all, &Err(SourceError::Gone(9))),
            Next::Condemn
        );
        assert_eq!(
            now(&suspect, &all, &Ok(Digest::of(b"right"))),
            Next::Over,
            "a message was damaged"
        );
        suspect.fenced = true;
        assert_eq!(now(&suspect, &all, &silent), Next::Wait);
        // Another replica on the same node is another one.
        let mut replaced = all.clone();
        replaced.replicas[2].incarnation = 31;
        assert_eq!(now(&suspect, &replaced, &differs), Next::Over);
    }

    #[test]
    fn the_list_is_bounded_and_a_new_replica_takes_the_old_one_s_place() {
        let mut suspects = Suspects::new();
        for node in 0..2 * SUSPECTS_MAX as u64 {
            note(&mut suspects, (GroupId(7), NodeId(node)), odd(2).unwrap());
        }
        assert_eq!(suspects.len(), SUSPECTS_MAX);
        let at = (GroupId(7), NodeId(0));
        let fenced = Suspect {
            fenced: true,
            ..odd(2).unwrap()
        };
        suspects.insert(at, fenced.clone());
        note(&mut suspects, at, odd(2).unwrap());
        assert_eq!(suspects[&at], fenced, "known already");
        let other = Suspect {
            incarnation: 31,
            ..odd(2).unwrap()
        };
        note(&mut suspects, at, other.clone());
        assert_eq!(suspects[&at], other);
    }
}
