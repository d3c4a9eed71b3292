//! What is known of the storage nodes and of the logs that they lead. Owns which description of a log counts, and when one is too old to count; never
//! asks anybody itself (`desk` does).

use std::collections::BTreeMap;
use std::sync::Arc;

use archive::course;
use paxos::{GroupId, NodeId, Role};
use protocol::archive::LedLog;
use protocol::health::Heartbeat;

/// A node that was silent for so long is not asked, milliseconds.
const NODE_SILENT_MS: u64 = 30_000;
/// A log that nobody described for so long is forgotten, milliseconds: its partition is gone, or has no leader.
const LOG_SILENT_MS: u64 = 60_000;
/// A log that nobody described for so long is not worked on, milliseconds: what is known of it is of no use.
const LOG_STALE_MS: u64 = 15_000;
/// Nodes kept at most.
const NODES_MAX: usize = 10_000;

/// A log, and who leads it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) leader: NodeId,
    pub(crate) log: LedLog,
    /// Grows with each description of any log.
    version: u64,
    heard_ms: u64,
}

impl Known {
    /// As the course wants it.
    pub(crate) fn for_course(&self) -> course::Log {
        let log = &self.log;
        let voters = log.replicas.iter().filter(|replica| replica.votes);
        let nodes = |with: &dyn Fn(Role) -> bool| {
            let wanted = voters.clone().filter(|replica| with(replica.role));
            wanted.map(|replica| replica.node).collect::<Vec<_>>()
        };
        course::Log {
            leader: self.leader,
            voters: nodes(&|_| true),
            storage: nodes(&|role| role == Role::Storage),
            floor: log.floor,
            committed: log.committed,
            archived: log.archived,
            bytes: log.unarchived_bytes,
            age_ms: log.unarchived_ms,
            partition_bytes: log.bytes,
            ended: log.ended,
            version: self.version,
        }
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    nodes: BTreeMap<NodeId, u64>,
    logs: BTreeMap<GroupId, Arc<Known>>,
    versions: u64,
}

impl Survey {
    /// A heartbeat came.
    pub(crate) fn heard(&mut self, beat: &Heartbeat, now_ms: u64) {
        let node = NodeId(beat.instance);
        if beat.service == "storage"
            && (self.nodes.len() < NODES_MAX || self.nodes.contains_key(&node))
        {
            self.nodes.insert(node, now_ms);
        }
    }

    /// The nodes to ask.
    pub(crate) fn nodes(&mut self, now_ms: u64) -> Vec<NodeId> {
        self.nodes
            .retain(|_, heard_ms| now_ms.saturating_sub(*heard_ms) < NODE_SILENT_MS);
        self.nodes.keys().copied().collect()
    }

    /// A node described all the logs that it leads.
    pub(crate) fn described(&mut self, leader: NodeId, logs: Vec<LedLog>, now_ms: u64) {
        for log in logs {
            let known = self.logs.get(&log.partition);
            // Two may take themselves for leaders for a moment: the later one is right. An earlier one that goes on is forgotten in time.
            let older = known.is_some_and(|known| {
                known.leader != leader
                    && (known.log.generation, known.log.round) > (log.generation, log.round)
            });
            if older {
                continue;
            }
            self.versions += 1;
            let definition = log.definition.clone();
            let mut log = log;
            log.definition =
                definition.or_else(|| known.and_then(|known| known.log.definition.clone()));
            let partition = log.partition;
            let known = Known {
                leader,
                log,
                version: self.versions,
                heard_ms: now_ms,
            };
            self.logs.insert(partition, Arc::new(known));
        }
        self.logs
            .retain(|_, known| now_ms.saturating_sub(known.heard_ms) < LOG_SILENT_MS);
    }

    /// A log that was described lately.
    pub(crate) fn log(&self, partition: GroupId, now_ms: u64) -> Option<Arc<Known>> {
        let known = self.logs.get(&partition)?;
        (now_ms.saturating_sub(known.heard_ms) < LOG_STALE_MS).then(|| known.clone())
    }

    /// All logs that are not forgotten.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &Arc<Known>> {
        self.logs.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::archive::LogReplica;

    fn log(partition: u64, round: u64) -> LedLog {
        LedLog {
            partition: GroupId(partition),
            round,
            ..LedLog::default()
        }
    }

    #[test]
    fn the_later_leader_counts_until_it_falls_silent() {
        let mut survey = Survey::default();
        survey.described(NodeId(1), vec![log(7, 2), log(8, 2)], 0);
        survey.described(NodeId(2), vec![log(7, 3)], 100);
        survey.described(NodeId(1), vec![log(7, 2), log(8, 2)], 200);
        let leader = |survey: &Survey, partition, now_ms| {
            survey
                .log(GroupId(partition), now_ms)
                .map(|known| known.leader.0)
        };
        assert_eq!(leader(&survey, 7, 300), Some(2));
        assert_eq!(leader(&survey, 8, 300), Some(1));
        assert_eq!(leader(&survey, 7, 100 + LOG_STALE_MS), None, "stale");
        survey.described(NodeId(3), vec![], 100 + LOG_SILENT_MS);
        let left: Vec<u64> = survey.logs().map(|known| known.log.partition.0).collect();
        assert_eq!(left, [8]);
    }

    #[test]
    fn every_description_is_told_from_the_one_before() {
        let mut survey = Survey::default();
        survey.described(NodeId(1), vec![log(7, 2)], 0);
        let first = survey.log(GroupId(7), 0).unwrap().for_course().version;
        survey.described(NodeId(1), vec![log(7, 2)], 1);
        assert!(survey.log(GroupId(7), 1).unwrap().for_course().version > first);
    }

    #[test]
    fn only_voters_are_asked_and_only_storage_replicas_give_snapshots() {
        let replica = |node, role, votes| LogReplica {
            node: NodeId(node),
            incarnation: node,
            role,
            votes,
        };
        let mut described = log(7, 1);
        described.replicas = vec![
            replica(1, Role::Storage, true),
            replica(2, Role::Log, true),
            replica(3, Role::Storage, false),
        ];
        let mut survey = Survey::default();
        survey.described(NodeId(1), vec![described], 0);
        let log = survey.log(GroupId(7), 0).unwrap().for_course();
        assert_eq!(log.voters, [NodeId(1), NodeId(2)]);
        assert_eq!(log.storage, [NodeId(1)]);
    }

    #[test]
    fn silent_nodes_are_not_asked() {
        let beat = |service: &str, instance| Heartbeat {
            service: service.to_owned(),
            instance,
            ..Heartbeat::default()
        };
        let mut survey = Survey::default();
        survey.heard(&beat("storage", 1), 0);
        survey.heard(&beat("router", 9), 0);
        survey.heard(&beat("storage", 2), 1_000);
        assert_eq!(survey.nodes(1_000), [NodeId(1), NodeId(2)]);
        assert_eq!(survey.nodes(NODE_SILENT_MS), [NodeId(2)]);
    }
}
