//! A GAC instance: the tables that it looks after, known from nothing but what routers said lately. Decides what each router gets; forgets in order of
//! silence when there are too many.

use std::collections::BTreeMap;

use model::error::ThroughputLimit;
use model::{TableId, Units};
use protocol::tokens::{
    DirectionUse, Grant, SideView, TABLES_MAX, TableGrant, TableUse, TableView, TokenReply,
    TokenRequest, WarmTable,
};

use crate::growth::Growth;
use crate::pool::{Pool, PoolSettings};

/// Routers remembered for the order of their requests; the bound is for a runaway of restarts.
const ROUTERS_MAX: usize = 10_000;

/// Times and bounds of an instance.
#[derive(Clone, Copy, Debug)]
pub struct InstanceSettings {
    /// How long a grant is fresh, milliseconds: some refills, so that a lost message changes nothing.
    pub fresh_ms: u64,
    /// A router that was silent for so long has its share taken over, milliseconds.
    pub silent_ms: u64,
    /// For so long after a start, and after other instances came or went, tables that are new here are not shared anew, milliseconds: all
    /// their routers must have been heard first.
    pub settle_ms: u64,
    /// Seconds of a table's rate that are kept for bursts.
    pub burst_s: u64,
    /// Seconds of the rate that are kept where the rate itself is what grows (on-demand).
    pub growth_burst_s: u64,
    /// Length of the windows in which peaks of on-demand tables are looked for, milliseconds.
    pub peak_window_ms: u64,
    /// The account's quota for one on-demand table, units a second; reads, writes.
    pub table_quota: (Units, Units),
    /// Tables kept at most.
    pub tables_max: usize,
}

impl Default for InstanceSettings {
    fn default() -> Self {
        Self {
            fresh_ms: 3_000,
            silent_ms: 10_000,
            settle_ms: 2_500,
            burst_s: 300,
            growth_burst_s: 5,
            peak_window_ms: 1_800_000,
            table_quota: (Units::new(40_000), Units::new(40_000)),
            tables_max: 100_000,
        }
    }
}

/// An instance.
#[derive(Debug)]
pub struct Instance {
    settings: InstanceSettings,
    /// What is new here from this time on …
    unsettled_since_ms: u64,
    /// … is not shared anew before this one.
    settled_ms: u64,
    tables: BTreeMap<TableId, Table>,
    routers: BTreeMap<u64, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    incarnation: u64,
    sequence: u64,
    heard_ms: u64,
}

#[derive(Clone, Debug)]
struct Table {
    since_ms: u64,
    heard_ms: u64,
    version: u64,
    /// Its routers may not all have been heard.
    frozen: bool,
    read: Side,
    write: Side,
}

/// One direction.
#[derive(Clone, Debug)]
struct Side {
    /// As the newest definition has it.
    limit: Units,
    maximum: Option<Units>,
    on_demand: bool,
    quota: Units,
    growth: Growth,
    pool: Pool,
}

impl Instance {
    /// An instance that starts at `now_ms`.
    pub fn new(settings: InstanceSettings, now_ms: u64) -> Self {
        Self {
            settings,
            unsettled_since_ms: now_ms,
            settled_ms: now_ms.saturating_add(settings.settle_ms),
            tables: BTreeMap::new(),
            routers: BTreeMap::new(),
        }
    }

    /// Another instance came or went: tables may come here whose routers did not all say so yet.
    pub fn ring_changed(&mut self, now_ms: u64) {
        if now_ms >= self.settled_ms {
            self.unsettled_since_ms = now_ms;
        }
        self.settled_ms = now_ms.saturating_add(self.settings.settle_ms);
    }

    /// Answers a router; none if the request is an old one, came before, or is malformed.
    pub fn answer(&mut self, now_ms: u64, request: &TokenRequest) -> Option<TokenReply> {
        if request.tables.len() > TABLES_MAX || !self.is_new(now_ms, request) {
            return None;
        }
        let tables = request
            .tables
            .iter()
            .map(|table| self.grant(now_ms, request, table))
            .collect();
        Some(TokenReply {
            nonce: request.nonce,
            tables,
        })
    }

    /// On-demand tables that can serve more than their definition says.
    pub fn grown(&mut self, now_ms: u64) -> Vec<WarmTable> {
        let grown = self.tables.iter_mut().filter_map(|(table, state)| {
            let read = state.read.grown(now_ms);
            let write = state.write.grown(now_ms);
            (read.is_some() || write.is_some()).then(|| WarmTable {
                table: *table,
                read_units: whole(read.unwrap_or(state.read.limit)),
                write_units: whole(write.unwrap_or(state.write.limit)),
            })
        });
        grown.take(TABLES_MAX).collect()
    }

    /// All tables, for operators.
    pub fn tables(&mut self, now_ms: u64) -> Vec<TableView> {
        let view = |side: &mut Side| {
            let (held, debt) = side.pool.level(now_ms);
            SideView {
                rate: side.pool.rate(),
                demand: side.pool.demand(now_ms),
                shares: side.pool.shares(now_ms),
                held,
                debt,
            }
        };
        let tables = self.tables.iter_mut();
        tables
            .map(|(table, state)| TableView {
                table: *table,
                routers: state.read.pool.router_count(now_ms) as u64,
                read: view(&mut state.read),
                write: view(&mut state.write),
            })
            .collect()
    }

    fn is_new(&mut self, now_ms: u64, request: &TokenRequest) -> bool {
        if let Some(seen) = self.routers.get(&request.router)
            && seen.incarnation == request.incarnation
            && seen.sequence >= request.sequence
        {
            return false;
        }
        if self.routers.len() >= ROUTERS_MAX {
            let silent_ms = self.settings.silent_ms;
            self.routers
                .retain(|_, seen| now_ms.saturating_sub(seen.heard_ms) < silent_ms);
        }
        let seen = Seen {
            incarnation: request.incarnation,
            sequence: request.sequence,
            heard_ms: now_ms,
        };
        self.routers.insert(request.router, seen);
        true
    }

    fn grant(&mut self, now_ms: u64, request: &TokenRequest, asked: &TableUse) -> TableGrant {
        self.make_room(asked.table);
        let settings = &self.settings;
        let unsettled = now_ms < self.settled_ms;
        let table = self.tables.entry(asked.table).or_insert_with(|| Table {
            since_ms: now_ms,
            heard_ms: now_ms,
            version: asked.version,
            frozen: unsettled,
            read: Side::new(settings, settings.table_quota.0, asked, &asked.read, now_ms),
            write: Side::new(
                settings,
                settings.table_quota.1,
                asked,
                &asked.write,
                now_ms,
            ),
        });
        table.heard_ms = now_ms;
        let newer = asked.version > table.version;
        table.version = table.version.max(asked.version);
        if table.frozen && (!unsettled || table.since_ms < self.unsettled_since_ms) {
            table.frozen = false;
            // What came in meanwhile was spent by routers that said nothing yet.
            table.read.pool.drain(now_ms);
            table.write.pool.drain(now_ms);
        }
        let frozen = table.frozen;
        let side = |side: &mut Side, report: &DirectionUse| {
            if newer {
                (side.limit, side.maximum) = (report.limit, report.maximum);
                side.on_demand = asked.on_demand;
            }
            side.grant(settings, now_ms, request, report, frozen)
        };
        TableGrant {
            table: asked.table,
            read: side(&mut table.read, &asked.read),
            write: side(&mut table.write, &asked.write),
        }
    }

    /// Forgets the tables that were silent for longest, a tenth at a time.
    fn make_room(&mut self, wanted: TableId) {
        let max = self.settings.tables_max.max(1);
        if self.tables.len() < max || self.tables.contains_key(&wanted) {
            return;
        }
        let mut heard: Vec<(u64, TableId)> = self
            .tables
            .iter()
            .map(|(table, state)| (state.heard_ms, *table))
            .collect();
        heard.sort_unstable();
        for (_, table) in heard.into_iter().take(max.div_ceil(10)) {
            self.tables.remove(&table);
        }
    }
}

impl Side {
    fn new(
        settings: &InstanceSettings,
        quota: Units,
        asked: &TableUse,
        report: &DirectionUse,
        now_ms: u64,
    ) -> Self {
        let pool = PoolSettings {
            silent_ms: settings.silent_ms,
            forget_ms: settings.silent_ms.saturating_mul(60),
        };
        Self {
            limit: report.limit,
            maximum: report.maximum,
            on_demand: asked.on_demand,
            quota,
            growth: Growth::new(settings.peak_window_ms, now_ms),
            pool: Pool::new(pool, report.limit, 0, now_ms),
        }
    }

    fn grant(
        &mut self,
        settings: &InstanceSettings,
        now_ms: u64,
        request: &TokenRequest,
        report: &DirectionUse,
        frozen: bool,
    ) -> Grant {
        let (rate, limit) = self.rate(now_ms);
        let burst_s = match limit {
            ThroughputLimit::Provisioned | ThroughputLimit::MaxOnDemand => settings.burst_s,
            ThroughputLimit::KeyRange | ThroughputLimit::Account => settings.growth_burst_s,
        };
        self.pool.resize(rate, burst_s, now_ms);
        let consumed = self
            .pool
            .report(now_ms, request.router, request.incarnation, report);
        self.growth.consumed(now_ms, consumed);
        let part = self.pool.part(now_ms, request.router, frozen);
        Grant {
            share: part.share,
            pace: part.pace,
            extra: part.extra,
            fresh_ms: settings.fresh_ms,
            limit,
        }
    }

    /// What the table may consume, units a second, and what stands in the way of more.
    fn rate(&mut self, now_ms: u64) -> (Units, ThroughputLimit) {
        if !self.on_demand {
            return (self.limit, ThroughputLimit::Provisioned);
        }
        let grown = self.limit.max(self.growth.limit(now_ms));
        let (rate, limit) = match grown >= self.quota {
            true => (self.quota.max(self.limit), ThroughputLimit::Account),
            false => (grown, ThroughputLimit::KeyRange),
        };
        match self.maximum {
            Some(maximum) if maximum <= rate => (maximum, ThroughputLimit::MaxOnDemand),
            _ => (rate, limit),
        }
    }

    /// What it can serve by now, if that is more than its definition says; the owner's maximum does not matter here.
    fn grown(&mut self, now_ms: u64) -> Option<Units> {
        let grown = self.growth.limit(now_ms).min(self.quota);
        (self.on_demand && grown > self.limit).then_some(grown)
    }
}

fn whole(units: Units) -> u64 {
    units.thousandths() / 1000
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
