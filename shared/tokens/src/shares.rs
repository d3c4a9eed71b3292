//! All of a router's tables, and its exchange with the GAC instances: one message to each about once a second, with all tables that it looks after
//! and that were used lately. Whatever comes back, or does not, no request waits for it.

use std::collections::BTreeMap;

use model::capacity::Direction;
use model::error::ThroughputLimit;
use model::table::BillingMode;
use model::{TableDefinition, TableId, Units};
use protocol::tokens::{TABLES_MAX, TableUse, TokenReply, TokenRequest};

use crate::Ring;
use crate::share::{Allowed, Reserved, Share};

/// After a refusal that GAC knows nothing of yet, it is asked again this soon, milliseconds.
const HURRY_MS: u64 = 200;

/// Times and bounds of a router's shares.
#[derive(Clone, Copy, Debug)]
pub struct ShareSettings {
    /// Time between two requests to the same instance, milliseconds.
    pub refill_ms: u64,
    /// An answer that took longer counts for nothing, milliseconds.
    pub answer_ms_max: u64,
    /// Among how many routers a table's rate is taken to be shared until GAC says how.
    pub routers_expected: u64,
    /// A table that was not used for so long is no longer reported, milliseconds; less than the instances' patience with silent routers.
    pub idle_ms: u64,
    /// Tables kept at most; those that were not used for longest go first.
    pub tables_max: usize,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            refill_ms: 1_000,
            answer_ms_max: 1_000,
            routers_expected: 2,
            idle_ms: 10_000,
            tables_max: 20_000,
        }
    }
}

/// What a request was let in with; `Shares::settle` wants it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    table: TableId,
    direction: Direction,
    reserved: Reserved,
}

/// A router's tables.
#[derive(Debug)]
pub struct Shares {
    settings: ShareSettings,
    router: u64,
    incarnation: u64,
    sequence: u64,
    tables: BTreeMap<TableId, Table>,
    exchanges: BTreeMap<u64, Exchange>,
}

#[derive(Debug)]
struct Table {
    version: u64,
    on_demand: bool,
    used_ms: u64,
    /// It was idle for so long that it is no longer reported.
    retired: bool,
    read: Share,
    write: Share,
    /// Units refused until the last report.
    refused_reported: Units,
    /// The last report told of refusals: GAC knows of the demand.
    refused_lately: bool,
}

impl Table {
    fn side(&mut self, direction: Direction) -> &mut Share {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    fn refused(&self) -> Units {
        let (read, write) = (self.read.refused_total(), self.write.refused_total());
        read.saturating_add(write)
    }
}

/// The exchange with one instance.
#[derive(Debug, Default)]
struct Exchange {
    asked_ms: Option<u64>,
    /// A request should go out before its time.
    hurry: bool,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    nonce: u64,
    sent_ms: u64,
    /// Extra units of each table that were spent when it was sent: reads, writes.
    spent: BTreeMap<TableId, (Units, Units)>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It was taken.
    Taken,
    /// Nothing like it is awaited: late, repeated or forged.
    Unasked,
}

impl Shares {
    /// Of the router with this instance number; `incarnation` is drawn at its start.
    pub fn new(settings: ShareSettings, router: u64, incarnation: u64) -> Self {
        Self {
            settings,
            router,
            incarnation,
            sequence: 0,
            tables: BTreeMap::new(),
            exchanges: BTreeMap::new(),
        }
    }

    /// Admits a request that surely costs `sure`, or says which limit refuses it. What the mesh keeps for itself is never refused.
    pub fn admit(
        &mut self,
        now_ms: u64,
        definition: &TableDefinition,
        direction: Direction,
        sure: Units,
    ) -> Result<Option<Admission>, ThroughputLimit> {
        if definition.id.is_system() {
            return Ok(None);
        }
        let table = self.table(now_ms, definition);
        table.used_ms = now_ms;
        table.retired = false;
        let admitted = table.side(direction).admit(now_ms, sure);
        if admitted.is_err() && !table.refused_lately {
            // GAC does not know yet that more is wanted.
            for exchange in self.exchanges.values_mut() {
                exchange.hurry = true;
            }
        }
        let reserved = admitted?;
        Ok(Some(Admission {
            table: definition.id,
            direction,
            reserved,
        }))
    }

    /// Tells what an admitted request cost: nothing, if it was certainly not executed.
    pub fn settle(&mut self, now_ms: u64, admission: Admission, cost: Units) {
        // A table that was forgotten meanwhile has nothing to correct.
        if let Some(table) = self.tables.get_mut(&admission.table) {
            let side = table.side(admission.direction);
            side.settle(now_ms, admission.reserved, cost);
        }
    }

    /// The requests that are due, each with the instance that it is for. `draw` gives random numbers.
    pub fn requests(
        &mut self,
        now_ms: u64,
        ring: &Ring,
        mut draw: impl FnMut() -> u64,
    ) -> Vec<(u64, TokenRequest)> {
        let instances: Vec<u64> = ring.instances().collect();
        self.exchanges
            .retain(|instance, _| instances.contains(instance));
        let due: Vec<u64> = instances
            .into_iter()
            .filter(|&instance| self.due(now_ms, instance))
            .collect();
        if due.is_empty() {
            return Vec::new();
        }
        self.retire_idle(now_ms);
        let mut uses: BTreeMap<u64, Vec<TableUse>> = BTreeMap::new();
        let mut spent: BTreeMap<u64, BTreeMap<TableId, (Units, Units)>> = BTreeMap::new();
        for (&id, table) in &mut self.tables {
            let Some(instance) = ring.of(id).filter(|instance| due.contains(instance)) else {
                continue;
            };
            let tables = uses.entry(instance).or_default();
            if table.retired || tables.len() >= TABLES_MAX {
                continue;
            }
            tables.push(TableUse {
                table: id,
                version: table.version,
                on_demand: table.on_demand,
                read: table.read.report(now_ms),
                write: table.write.report(now_ms),
            });
            let reads = table.read.extra_spent_total();
            let writes = table.write.extra_spent_total();
            spent
                .entry(instance)
                .or_default()
                .insert(id, (reads, writes));
            let refused = table.refused();
            table.refused_lately = refused > table.refused_reported;
            table.refused_reported = refused;
        }
        let mut requests = Vec::new();
        for instance in due {
            let exchange = self.exchanges.entry(instance).or_default();
            exchange.asked_ms = Some(now_ms);
            exchange.hurry = false;
            let tables = uses.remove(&instance).unwrap_or_default();
            if tables.is_empty() {
                exchange.pending = None;
                continue;
            }
            self.sequence += 1;
            let nonce = draw();
            exchange.pending = Some(Pending {
                nonce,
                sent_ms: now_ms,
                spent: spent.remove(&instance).unwrap_or_default(),
            });
            let request = TokenRequest {
                router: self.router,
                incarnation: self.incarnation,
                sequence: self.sequence,
                nonce,
                tables,
            };
            requests.push((instance, request));
        }
        requests
    }

    /// Takes an answer of `instance`, if it is the one that is awaited.
    pub fn answered(&mut self, now_ms: u64, instance: u64, reply: &TokenReply) -> Answered {
        let answer_ms_max = self.settings.answer_ms_max;
        let Some(exchange) = self.exchanges.get_mut(&instance) else {
            return Answered::Unasked;
        };
        let awaited = exchange.pending.as_ref().is_some_and(|pending| {
            pending.nonce == reply.nonce && now_ms.saturating_sub(pending.sent_ms) <= answer_ms_max
        });
        let Some(pending) = exchange.pending.take_if(|_| awaited) else {
            return Answered::Unasked;
        };
        for grant in &reply.tables {
            // What was not asked about is not taken, from whomever it comes.
            if let (Some(table), Some(&(reads, writes))) = (
                self.tables.get_mut(&grant.table),
                pending.spent.get(&grant.table),
            ) {
                let sent_ms = pending.sent_ms;
                table.read.grant(now_ms, &grant.read, sent_ms, reads);
                table.write.grant(now_ms, &grant.write, sent_ms, writes);
            }
        }
        Answered::Taken
    }

    /// Units consumed and refused since the start, over all tables that are kept: reads, then writes.
    pub fn totals(&self) -> [(Units, Units); 2] {
        let side = |of: fn(&Table) -> &Share| {
            let sides = self.tables.values().map(of);
            let (consumed, refused) = sides
                .map(|side| (side.consumed_total(), side.refused_total()))
                .unzip::<_, _, Vec<_>, Vec<_>>();
            (consumed.into_iter().sum(), refused.into_iter().sum())
        };
        [side(|table| &table.read), side(|table| &table.write)]
    }

    fn due(&self, now_ms: u64, instance: u64) -> bool {
        let Some(exchange) = self.exchanges.get(&instance) else {
            return true;
        };
        let Some(asked_ms) = exchange.asked_ms else {
            return true;
        };
        let after_ms = match exchange.hurry {
            true => HURRY_MS.min(self.settings.refill_ms),
            false => self.settings.refill_ms,
        };
        now_ms.saturating_sub(asked_ms) >= after_ms
    }

    fn table(&mut self, now_ms: u64, definition: &TableDefinition) -> &mut Table {
        self.make_room(definition.id);
        let expected = self.settings.routers_expected;
        let table = self.tables.entry(definition.id).or_insert_with(|| Table {
            version: definition.version,
            on_demand: on_demand(definition),
            used_ms: now_ms,
            retired: false,
            read: Share::new(allowed(definition, Direction::Read), expected, now_ms),
            write: Share::new(allowed(definition, Direction::Write), expected, now_ms),
            refused_reported: Units::ZERO,
            refused_lately: false,
        });
        if definition.version > table.version {
            table.version = definition.version;
            table.on_demand = on_demand(definition);
            for direction in Direction::ALL {
                let allowed = allowed(definition, direction);
                table.side(direction).redefine(allowed, expected, now_ms);
            }
        }
        table
    }

    /// A table that nobody uses is no longer reported, and its share is given to others: it starts over when it is used again.
    fn retire_idle(&mut self, now_ms: u64) {
        let (idle_ms, expected) = (self.settings.idle_ms, self.settings.routers_expected);
        for table in self.tables.values_mut() {
            if !table.retired && now_ms.saturating_sub(table.used_ms) >= idle_ms {
                table.retired = true;
                table.read.retire(expected, now_ms);
                table.write.retire(expected, now_ms);
            }
        }
    }

    fn make_room(&mut self, wanted: TableId) {
        let max = self.settings.tables_max.max(1);
        if self.tables.len() < max || self.tables.contains_key(&wanted) {
            return;
        }
        let mut used: Vec<(u64, TableId)> = self
            .tables
            .iter()
            .map(|(id, table)| (table.used_ms, *id))
            .collect();
        used.sort_unstable();
        for (_, id) in used.into_iter().take(max.div_ceil(10)) {
            self.tables.remove(&id);
        }
    }
}

fn on_demand(definition: &TableDefinition) -> bool {
    matches!(definition.billing, BillingMode::PayPerRequest)
}

fn allowed(definition: &TableDefinition, direction: Direction) -> Allowed {
    let (_, limit) = definition.limit(direction);
    let rate = match definition.billing {
        BillingMode::Provisioned { .. } => definition.billing.base_rates(),
        BillingMode::PayPerRequest => definition.warm_rates(),
    };
    Allowed {
        rate: Units::new(rate.of(direction)),
        maximum: definition.on_demand_max.of(direction).map(Units::new),
        limit,
    }
}
