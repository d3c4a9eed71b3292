//! The storage nodes and admins as their heartbeats show them. Pure: time is an input.

use std::collections::BTreeMap;

use paxos::NodeId;
use protocol::health::{ArchiveHealth, Heartbeat, StorageHealth};
use protocol::tokens::TableQuota;

/// A node that was silent for so long gets no new replicas, milliseconds.
pub(crate) const SILENT_MS: u64 = 3_500;
/// Nodes that were silent for so long are forgotten, milliseconds.
const FORGET_MS: u64 = 600_000;
/// Nodes and admins kept at most.
const ENTRIES_MAX: usize = 10_000;

/// A storage node.
#[derive(Clone, Debug)]
pub(crate) struct StorageNode {
    pub(crate) node: NodeId,
    pub(crate) zone: String,
    pub(crate) incarnation: u64,
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    pub(crate) health: StorageHealth,
    pub(crate) version: String,
    heard_ms: u64,
}

/// An instance of a service that looks after the data: it says how far it is, and what an operator must look at.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub(crate) archive: Option<ArchiveHealth>,
    pub(crate) troubles: Vec<String>,
    heard_ms: u64,
}

/// Who is there.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<NodeId, StorageNode>,
    admins: BTreeMap<u64, u64>,
    /// GAC instances, and when they were heard.
    gac: BTreeMap<u64, u64>,
    /// What they go by, as far as they said so.
    quotas: BTreeMap<u64, TableQuota>,
    /// Other services that say how they are: by name and instance.
    watchers: BTreeMap<(String, u64), Watcher>,
    /// When three zones were seen alive without a break since.
    three_zones_since_ms: Option<u64>,
}

impl Cluster {
    /// Takes in a heartbeat.
    pub(crate) fn heard(&mut self, beat: Heartbeat, now_ms: u64) {
        match beat.service.as_str() {
            "admin" if beat.draining => {
                self.admins.remove(&beat.instance);
            }
            "admin" if self.admins.len() < ENTRIES_MAX => {
                self.admins.insert(beat.instance, now_ms);
            }
            "gac" if beat.draining => {
                self.gac.remove(&beat.instance);
            }
            "gac" if self.gac.len() < ENTRIES_MAX => {
                self.gac.insert(beat.instance, now_ms);
            }
            "storage" if self.nodes.len() < ENTRIES_MAX => {
                let node = StorageNode {
                    node: NodeId(beat.instance),
                    zone: beat.zone,
                    incarnation: beat.incarnation,
                    ready: beat.ready,
                    draining: beat.draining,
                    health: beat.storage.unwrap_or_default(),
                    version: beat.version,
                    heard_ms: now_ms,
                };
                self.nodes.insert(node.node, node);
            }
            _ if beat.archive.is_none() && beat.troubles.is_empty() => {
                self.watchers.remove(&(beat.service, beat.instance));
            }
            _ if beat.draining => {
                self.watchers.remove(&(beat.service, beat.instance));
            }
            _ if self.watchers.len() < ENTRIES_MAX => {
                let watcher = Watcher {
                    archive: beat.archive,
                    troubles: beat.troubles,
                    heard_ms: now_ms,
                };
                self.watchers.insert((beat.service, beat.instance), watcher);
            }
            _ => {}
        }
        self.observe(now_ms);
    }

    /// Lets time pass.
    pub(crate) fn observe(&mut self, now_ms: u64) {
        self.nodes
            .retain(|_, node| now_ms.saturating_sub(node.heard_ms) < FORGET_MS);
        self.admins
            .retain(|_, heard_ms| now_ms.saturating_sub(*heard_ms) < SILENT_MS);
        self.gac
            .retain(|_, heard_ms| now_ms.saturating_sub(*heard_ms) < SILENT_MS);
        let gac = &self.gac;
        self.quotas.retain(|instance, _| gac.contains_key(instance));
        self.watchers
            .retain(|_, watcher| now_ms.saturating_sub(watcher.heard_ms) < SILENT_MS);
        let zones: std::collections::BTreeSet<&str> =
            self.alive(now_ms).map(|n| n.zone.as_str()).collect();
        if zones.len() < 3 {
            self.three_zones_since_ms = None;
        } else {
            self.three_zones_since_ms.get_or_insert(now_ms);
        }
    }

    /// All nodes that are remembered.
    pub(crate) fn all(&self) -> impl Iterator<Item = &StorageNode> {
        self.nodes.values()
    }

    /// Instances of the admins that are alive.
    pub(crate) fn admins(&self) -> impl Iterator<Item = u64> {
        self.admins.keys().copied()
    }

    /// GAC instances that are alive.
    pub(crate) fn gac(&self) -> impl Iterator<Item = u64> {
        self.gac.keys().copied()
    }

    /// A GAC instance says what it goes by.
    pub(crate) fn told_quota(&mut self, quota: TableQuota) {
        if self.gac.contains_key(&quota.instance) {
            self.quotas.insert(quota.instance, quota);
        }
    }

    /// What the GAC instances that are alive go by, as far as they said so.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = TableQuota> {
        self.quotas.values().copied()
    }

    /// Instances of other services that say how they are, with their names.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = (&str, u64, &Watcher)> {
        let watchers = self.watchers.iter();
        watchers.map(|((service, instance), watcher)| (service.as_str(), *instance, watcher))
    }

    /// Nodes that were heard from lately.
    pub(crate) fn alive(&self, now_ms: u64) -> impl Iterator<Item = &StorageNode> {
        self.nodes
            .values()
            .filter(move |n| now_ms.saturating_sub(n.heard_ms) < SILENT_MS)
    }

    /// For how long `node` has been silent; none if it was never heard from or is forgotten.
    pub(crate) fn silent_ms(&self, node: NodeId, now_ms: u64) -> Option<u64> {
        self.nodes
            .get(&node)
            .map(|n| now_ms.saturating_sub(n.heard_ms))
    }

    /// Whether an empty mesh may be founded now by admin `me`: three zones report for `after_ms`, no node holds a replica,
    /// and no admin with a lower number is alive.
    pub(crate) fn may_found(&self, me: u64, after_ms: u64, now_ms: u64) -> bool {
        let waited = self
            .three_zones_since_ms
            .is_some_and(|since| now_ms.saturating_sub(since) >= after_ms);
        waited
            // What is fenced is data, too.
            && self
                .nodes
                .values()
                .all(|n| n.health.replicas == 0 && n.health.fenced.is_empty())
            && self.admins.keys().all(|&other| other >= me)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn beat(service: &str, instance: u64, zone: &str, replicas: u64) -> Heartbeat {
        Heartbeat {
            service: service.into(),
            instance,
            zone: zone.into(),
            incarnation: 1,
            http: String::new(),
            ready: true,
            draining: false,
            version: String::new(),
            storage: (service == "storage").then(|| StorageHealth {
                replicas,
                ..StorageHealth::default()
            }),
            ..Heartbeat::default()
        }
    }

    #[test]
    fn troubles_of_other_services_are_known_while_they_last() {
        let mut cluster = Cluster::default();
        let said = |troubles: &[&str], draining| Heartbeat {
            troubles: troubles.iter().map(|&t| t.to_owned()).collect(),
            draining,
            ..beat("archiver", 1, "az1", 0)
        };
        let known = |cluster: &Cluster| {
            let watchers = cluster.watchers();
            watchers
                .flat_map(|(name, n, w)| w.troubles.iter().map(move |t| format!("{name} {n}: {t}")))
                .collect::<Vec<_>>()
        };
        cluster.heard(said(&["the store is down"], false), 0);
        assert_eq!(known(&cluster), ["archiver 1: the store is down"]);
        cluster.heard(said(&[], false), 1_000);
        assert!(known(&cluster).is_empty());
        cluster.heard(said(&["again"], false), 2_000);
        cluster.observe(2_000 + SILENT_MS);
        assert!(known(&cluster).is_empty(), "it fell silent");
        cluster.heard(said(&["again"], false), 9_000);
        cluster.heard(said(&["again"], true), 9_500);
        assert!(known(&cluster).is_empty(), "it goes");
    }

    #[test]
    fn founds_only_a_mesh_that_is_empty_and_whole() {
        let mut cluster = Cluster::default();
        cluster.heard(beat("storage", 1, "az1", 0), 0);
        cluster.heard(beat("storage", 2, "az2", 0), 0);
        assert!(!cluster.may_found(1, 0, 0), "two zones");
        cluster.heard(beat("storage", 3, "az3", 0), 100);
        assert!(cluster.may_found(1, 0, 100));
        assert!(!cluster.may_found(1, 1_000, 1_000), "too early");
        let mut fenced = beat("storage", 3, "az3", 0);
        fenced.storage.as_mut().unwrap().fenced = vec![paxos::GroupId(1)];
        cluster.heard(fenced, 100);
        assert!(!cluster.may_found(1, 0, 100), "what is fenced is data");
        cluster.heard(beat("storage", 3, "az3", 0), 100);
        assert!(cluster.may_found(1, 1_000, 1_100));
        cluster.heard(beat("admin", 1, "az1", 0), 1_100);
        assert!(cluster.may_found(1, 0, 1_100));
        assert!(!cluster.may_found(2, 0, 1_100), "the other admin does it");
        cluster.heard(beat("storage", 4, "az1", 1), 1_100);
        assert!(!cluster.may_found(1, 0, 1_200), "somebody holds data");
    }

    #[test]
    fn a_zone_that_falls_silent_starts_the_wait_anew() {
        let mut cluster = Cluster::default();
        for node in 1..=3 {
            cluster.heard(beat("storage", node, &format!("az{node}"), 0), 0);
        }
        cluster.heard(beat("storage", 1, "az1", 0), 5_000);
        assert_eq!(cluster.alive(5_000).count(), 1);
        assert_eq!(cluster.silent_ms(NodeId(2), 5_000), Some(5_000));
        cluster.heard(beat("storage", 2, "az2", 0), 5_100);
        cluster.heard(beat("storage", 3, "az3", 0), 5_200);
        assert!(!cluster.may_found(1, 1_000, 5_300));
        assert!(cluster.may_found(1, 1_000, 6_200));
    }
}
