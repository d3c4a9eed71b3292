//! Real storage nodes, a memds node and admins on the in-process bus, and an operator's view of them.
#![allow(dead_code)] // each test file uses a part

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use admin::AdminSettings;
use memds::MemdsSettings;
use mesh::{Deadline, Identity, LocalBus, Mesh, TraceContext};
use parking_lot::Mutex;
use paxos::GroupId;
use protocol::control::{ApiCall, ApiReply};
use protocol::operate::{Answer, Command, MeshHealth, NodeStatus, PartitionStatus};
use protocol::subjects;
use serde_json::Value;
use storage::StorageSettings;

const PATIENCE: Duration = Duration::from_secs(120);

pub fn join(bus: &LocalBus, service: &str, instance: u64) -> Mesh {
    let identity = Identity {
        service: service.to_owned(),
        instance,
        incarnation: 1,
    };
    Mesh::local(bus, identity)
}

/// `calm`: nobody has to take over, and no leader is lost however long this machine lets everybody wait.
fn settings(number: u64, folder: &Path, calm: bool) -> StorageSettings {
    let mut settings = StorageSettings {
        node_id: number,
        zone: format!("az{}", 1 + (number - 1) % 3),
        data_dir: folder.join(format!("node-{number}")),
        shards: 1,
        // There is no archiver.
        archive: false,
        ..StorageSettings::default()
    };
    settings.timing.heartbeat_ms = 100;
    settings.timing.lease_ms = 600;
    settings.timing.election_ms = 600;
    settings.timing.candidate_ms = 600;
    settings.limits.push_every_ms = 500;
    if calm {
        settings.timing.lease_ms = 10_000;
        settings.timing.election_ms = 10_000;
        settings.timing.leader_patience_ms = 30_000;
        settings.timing.leader_stall_ms = 30_000;
        settings.healing.log_replica_after_ms = 60_000;
    }
    settings
}

/// All of it.
pub struct Nodes {
    pub bus: LocalBus,
    folder: tempfile::TempDir,
    calm: bool,
    memds: memds::Running,
    running: Mutex<BTreeMap<u64, storage::Running>>,
    client: Mesh,
}

impl Nodes {
    /// So many storage nodes over three zones, none of which will die. Must be called within an actix system.
    pub async fn start_calm(count: u64) -> Self {
        Self::start_as(count, true).await
    }

    /// So many storage nodes over three zones. Must be called within an actix system.
    pub async fn start(count: u64) -> Self {
        Self::start_as(count, false).await
    }

    async fn start_as(count: u64, calm: bool) -> Self {
        let bus = LocalBus::new();
        let memds = memds::start(MemdsSettings::default(), join(&bus, "memds", 1))
            .await
            .unwrap();
        let client = join(&bus, "test", 1);
        let nodes = Self {
            bus,
            folder: tempfile::tempdir().unwrap(),
            calm,
            memds,
            running: Mutex::default(),
            client,
        };
        for number in 1..=count {
            nodes.start_node(number).await;
        }
        nodes
    }

    pub async fn start_node(&self, number: u64) {
        let mesh = join(&self.bus, "storage", number);
        let running = storage::start(settings(number, self.folder.path(), self.calm), mesh);
        let running = running.await.unwrap();
        self.running.lock().insert(number, running);
    }

    /// It stops as if it were killed.
    pub async fn kill(&self, number: u64) {
        let running = self.running.lock().remove(&number);
        running.unwrap().halt().await;
    }

    pub async fn admin(&self, instance: u64, settings: AdminSettings) -> admin::Running {
        let settings = AdminSettings {
            instance,
            ..settings
        };
        admin::start(settings, join(&self.bus, "admin", instance))
            .await
            .unwrap()
    }

    pub async fn stop(self) {
        let running = std::mem::take(&mut *self.running.lock());
        for (_, node) in running {
            node.stop().await;
        }
        self.memds.stop().await;
    }

    /// An API call; none: it failed.
    pub async fn call(&self, operation: &str, body: Value) -> Option<Value> {
        let call = ApiCall {
            operation: operation.into(),
            body: body.to_string().into(),
            principal: "test".into(),
            ..ApiCall::default()
        };
        let deadline = Deadline::after(Duration::from_secs(30));
        let trace = TraceContext::default();
        match self
            .client
            .call(subjects::ADMIN_API, &call, deadline, &trace)
            .await
        {
            Ok(ApiReply::Ok(body)) if !body.is_empty() => serde_json::from_slice(&body).ok(),
            _ => None,
        }
    }

    /// What an operator says to the active admin.
    pub async fn operate(&self, command: Command) -> Option<Answer> {
        let deadline = Deadline::after(Duration::from_secs(20));
        let trace = TraceContext::default();
        self.client
            .call(subjects::ADMIN_OPERATE, &command, deadline, &trace)
            .await
            .ok()
    }

    pub async fn partitions(&self) -> Vec<PartitionStatus> {
        let all = Command::Partitions {
            table: None,
            after: GroupId(0),
        };
        match self.operate(all).await {
            Some(Answer::Partitions { partitions, .. }) => partitions,
            _ => Vec::new(),
        }
    }

    /// All partitions, once the active admin tells.
    pub async fn all_partitions(&self) -> Vec<PartitionStatus> {
        let mut all = Vec::new();
        self.until("partitions are told", async || {
            all = self.partitions().await;
            !all.is_empty()
        })
        .await;
        all
    }

    pub async fn health(&self) -> Option<MeshHealth> {
        match self.operate(Command::Health).await {
            Some(Answer::Health(health)) => Some(*health),
            _ => None,
        }
    }

    /// Replicas that each node says it has.
    pub async fn hosted(&self) -> Vec<u64> {
        match self.operate(Command::Nodes).await {
            Some(Answer::Nodes(nodes)) => nodes.iter().map(|n: &NodeStatus| n.hosted).collect(),
            _ => Vec::new(),
        }
    }

    /// Waits (bounded) until something holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !holds().await {
            if started.elapsed() >= PATIENCE {
                let (health, partitions) = (self.health().await, self.partitions().await);
                panic!("never: {what}; {health:#?} {partitions:#?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
