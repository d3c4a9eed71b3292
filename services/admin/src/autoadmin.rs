//! The shell around the planners: looks at the mesh, lets them decide, gives their orders under the lease's epoch, and tells them the
//! answers. Does nothing while another admin holds the lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh::TraceContext;
use paxos::{GroupId, NodeId};
use protocol::control::Order;
use protocol::directory::Hydrate;
use protocol::subjects;
use telemetry::traces;

use crate::catalog::WriteError;
use crate::driver::{Admin, Outcome};
use crate::healing::{
    Directive, Leaderless, Leaders, Pressure, Repairs, Traces, View, orphans, relieve,
};
use crate::lease::LeaseAction;
use crate::records::{self, NodeRecord};
use crate::vitality::{NodeViews, Watch};

/// What the planners remember, and the nodes as of the last look.
pub(crate) struct Plan {
    pub(crate) watch: Watch,
    pub(crate) nodes: NodeViews,
    pub(crate) repairs: Repairs,
    leaders: Leaders,
    pub(crate) pressure: Pressure,
    pub(crate) traces: Traces,
}

impl Plan {
    pub(crate) fn new(now_ms: u64, gone_after_ms: u64) -> Self {
        Self {
            watch: Watch::new(now_ms, gone_after_ms),
            nodes: NodeViews::new(),
            repairs: Repairs::default(),
            leaders: Leaders::default(),
            pressure: Pressure::default(),
            traces: Traces::default(),
        }
    }
}

impl Admin {
    /// The epoch under which this admin gives orders now; none: another one does, or nobody.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.lease.lock().epoch(self.now_ms())
    }

    /// Reads or writes the lease's record, if that is due.
    pub(crate) async fn tend_lease(&self) {
        let Some(action) = self.lease.lock().step(self.now_ms()) else {
            return;
        };
        match action {
            LeaseAction::Read => {
                let found = self.catalog.get(records::LEASE).await;
                if let Err(error) = &found {
                    tracing::debug!(%error, "the lease can't be read");
                }
                self.lease.lock().read(found.ok(), self.now_ms());
            }
            LeaseAction::Write { record, expected } => {
                let written = self
                    .catalog
                    .put(records::LEASE, &record, expected.as_deref())
                    .await;
                if let Err(WriteError::Api(error)) = &written {
                    tracing::info!(%error, "the lease can't be renewed at the moment");
                }
                self.lease
                    .lock()
                    .written(record, written.ok(), self.now_ms());
            }
        }
    }

    /// Gives the lease back, so that another admin need not wait for its end.
    pub(crate) async fn release_lease(&self) {
        let action = self.lease.lock().release(self.now_ms());
        if let Some(LeaseAction::Write { record, expected }) = action {
            let released = self
                .catalog
                .put(records::LEASE, &record, expected.as_deref());
            if let Err(error) = released.await {
                tracing::debug!(?error, "the lease is not given back: it runs out by itself");
            }
        }
    }

    /// Tells all nodes of our epoch, so that they refuse the orders of whoever held the lease before, from now on: an order that asks
    /// for nothing, since there is no such partition.
    pub(crate) async fn announce(&self) {
        let nodes: Vec<NodeId> = {
            let cluster = self.cluster.read();
            cluster.alive(self.now_ms()).map(|n| n.node).collect()
        };
        let nothing = &Order::Campaign {
            partition: GroupId(0),
        };
        let told = nodes.into_iter().map(|node| self.order(node, nothing));
        futures::future::join_all(told).await;
    }

    /// Asks all leaders to say at once what they lead.
    pub(crate) fn ask_for_pushes(&self) {
        let hydrate = Hydrate {
            instance: self.settings.instance,
        };
        if let Err(error) = self.mesh.cast(subjects::MEMDS_HYDRATE, &hydrate) {
            tracing::debug!(%error, "the leaders can't be asked for their partitions");
        }
    }

    /// Lets `work` see the mesh as it is now, with the planners.
    pub(crate) fn with_plan<R>(&self, work: impl FnOnce(&mut Plan, &View) -> R) -> R {
        let now_ms = self.now_ms();
        let mut plan = self.plan.lock();
        let plan = &mut *plan;
        plan.nodes = {
            let records: BTreeMap<NodeId, NodeRecord> = self
                .node_records
                .read()
                .iter()
                .map(|(&node, stored)| (node, stored.value.clone()))
                .collect();
            let (cluster, partitions) = (self.cluster.read(), self.partitions.read());
            plan.watch.look(&cluster, &records, &partitions, now_ms)
        };
        let nodes = plan.nodes.clone();
        let partitions = self.partitions.read();
        let view = View {
            now_ms,
            nodes: &nodes,
            partitions: &partitions,
            settings: &self.settings.healing,
            free_bytes_min: self.settings.free_bytes_min,
        };
        work(plan, &view)
    }

    /// One round of planning: decides, and sends the orders on their way.
    pub(crate) fn plan(self: &Arc<Self>) {
        if self.epoch().is_none() {
            return;
        }
        let now_ns = traces::now_ns();
        let drained = self.drained();
        let (orders, ended) = self.with_plan(|plan, view| {
            plan.traces.drained(drained);
            let lost = match view.blind() {
                true => Vec::new(),
                false => plan.traces.lost(view.nodes, now_ns),
            };
            // Before the repairs, which carry its moves out.
            let mut orders = relieve(&mut plan.pressure, &mut plan.repairs, view);
            orders.extend(plan.repairs.step(view));
            let mut ended = plan.traces.ended(&plan.repairs);
            ended.extend(lost.into_iter().map(|(flow, why)| (flow, Err(why))));
            orders.extend(plan.leaders.step(view, &plan.repairs));
            let traced = orders.into_iter().map(|directive| {
                let part_of = plan.traces.ordered(&directive, &plan.repairs, now_ns);
                (directive, part_of)
            });
            (traced.collect::<Vec<_>>(), ended)
        });
        for (flow, result) in ended {
            self.flows.end(flow, result);
        }
        for (directive, part_of) in orders {
            let admin = self.clone();
            tokio::spawn(async move {
                let order = std::pin::pin!(admin.carry_out(directive));
                traces::within(part_of, order).await;
            });
        }
    }

    /// Nodes that are being drained, and what wanted that.
    fn drained(&self) -> BTreeMap<NodeId, TraceContext> {
        let records = self.node_records.read();
        let drained = records.iter().filter(|(_, stored)| stored.value.draining);
        drained
            .map(|(&node, stored)| (node, TraceContext::new(&stored.value.traceparent)))
            .collect()
    }

    /// Another admin plans now.
    pub(crate) fn forget_plans(&self) {
        let mut plan = self.plan.lock();
        plan.repairs.forget();
        plan.leaders = Leaders::default();
        plan.pressure = Pressure::default();
        plan.traces = Traces::default();
        drop(plan);
        self.splits.forget();
    }

    async fn carry_out(&self, directive: Directive) {
        let Directive {
            to,
            partition,
            order,
        } = directive;
        let outcome = self.order(to, &order).await;
        if outcome != Outcome::Done {
            let (partition, node) = (partition.0, to.0);
            tracing::info!(
                partition,
                node,
                ?order,
                ?outcome,
                "an order is not carried out"
            );
        }
        if matches!(order, Order::ReplaceReplica { .. }) {
            self.with_plan(|plan, view| plan.repairs.answered(partition, &outcome, view));
        }
    }

    /// Replicas that hear of no leader, as their nodes report them now.
    pub(crate) fn leaderless(&self) -> Vec<Leaderless> {
        let cluster = self.cluster.read();
        let alive = cluster.alive(self.now_ms());
        alive
            .flat_map(|n| n.health.leaderless.iter().map(|r| (n.node, r.clone())))
            .collect()
    }

    /// Tells nodes of replicas that nobody wants.
    pub(crate) async fn clear_orphans(
        &self,
        replicas: &[Leaderless],
        recorded: &BTreeMap<GroupId, bool>,
        next_partition: u64,
    ) {
        let orders = self.with_plan(|_, view| orphans(replicas, recorded, next_partition, view));
        futures::future::join_all(orders.into_iter().map(|order| self.carry_out(order))).await;
    }

    /// Writes down nodes that are new, or have another disk or zone.
    pub(crate) async fn note_nodes(&self) {
        let noted: Vec<(NodeRecord, Option<String>)> = {
            let (cluster, known) = (self.cluster.read(), self.node_records.read());
            let alive = cluster.alive(self.now_ms()).filter(|n| n.ready);
            alive
                .filter_map(|n| {
                    let stored = known.get(&n.node);
                    let known = stored.map(|s| &s.value);
                    let next = NodeRecord::noted(known, n.node, &n.zone, n.incarnation)?;
                    Some((next, stored.map(|s| s.token.clone())))
                })
                .collect()
        };
        for (record, token) in noted {
            if let Err(error) = self.put_node(record, token.as_deref()).await {
                tracing::info!(?error, "a node's record is not written yet");
            }
        }
    }

    /// Writes a node's record.
    pub(crate) async fn put_node(
        &self,
        record: NodeRecord,
        token: Option<&str>,
    ) -> Result<(), WriteError> {
        let key = records::node_key(record.node);
        let token = self.catalog.put(&key, &record, token).await?;
        let stored = records::Stored {
            value: record,
            token,
        };
        self.node_records.write().insert(stored.value.node, stored);
        Ok(())
    }
}
