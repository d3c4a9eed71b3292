//! Which partitions should be split now: those of tables whose throughput needs more, those that are too large, and those that are used too
//! much for so long that it is no passing burst. A bounded number at a time. Pure.

use std::collections::BTreeMap;

use heat::Advice;
use model::key::{hash_middle, hash_width};
use model::table::TableStatus;
use model::{EncodedKey, Units};
use paxos::{GroupId, NodeId, Role};

use super::SplitView;
use crate::create::partition_count;
use crate::partitions::Seen;
use crate::placement::REPLICAS;
use crate::records::{SplitCause, SplitPhase, TableRecord};
use crate::settings::SplitSettings;

/// A partition that was hot is so until its consumption is below this share of the threshold, thousandths: hysteresis.
const COOL_SHARE: u64 = 800;

/// A split that should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) table: String,
    pub(crate) parent: GroupId,
    pub(crate) cause: SplitCause,
    /// Where; none: in the middle of its bytes, which its leader knows.
    pub(crate) point: Option<EncodedKey>,
}

/// What is remembered of partitions.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Since when a partition is hot.
    hot: BTreeMap<GroupId, u64>,
    /// Partitions that could not be split: no wish before, and the wait until then.
    backoff: BTreeMap<GroupId, Backoff>,
    /// Why a partition that is hot or large is not split, in words.
    waiting: BTreeMap<GroupId, String>,
}

#[derive(Clone, Debug)]
struct Backoff {
    until_ms: u64,
    wait_ms: u64,
    why: String,
}

/// Splits under way, in all and by node.
#[derive(Default)]
struct Used {
    total: usize,
    nodes: BTreeMap<NodeId, usize>,
}

impl Used {
    fn of(view: &SplitView) -> Self {
        let mut used = Self::default();
        let splits = view.tables.iter().flat_map(|table| &table.splits);
        for split in splits.filter(|split| split.phase != SplitPhase::Settled) {
            used.total += 1;
            let seen = view.partitions.get(split.parent);
            seen.into_iter().for_each(|seen| used.take_nodes(seen));
        }
        used
    }

    fn take_nodes(&mut self, seen: &Seen) {
        for member in seen.replicas() {
            *self.nodes.entry(member.member.node).or_insert(0) += 1;
        }
    }

    /// Every replica copies its B-tree.
    fn full(&self, seen: &Seen, settings: &SplitSettings) -> bool {
        let busy = |node| self.nodes.get(&node).copied().unwrap_or(0);
        self.total >= settings.splits_max
            || seen
                .replicas()
                .any(|m| busy(m.member.node) >= settings.splits_per_node_max)
    }
}

impl Wishes {
    /// What should be split now. `touched`: partitions whose replicas are being changed.
    pub(crate) fn step(
        &mut self,
        view: &SplitView,
        touched: impl Fn(GroupId) -> bool,
    ) -> Vec<Wish> {
        self.waiting.clear();
        self.note_heat(view);
        let mut candidates = Vec::new();
        for table in view.tables {
            if table.definition.status != TableStatus::Active {
                continue;
            }
            let calm: Vec<_> = table
                .partitions
                .iter()
                .filter(|&&id| table.split_of(id).is_none() && !touched(id))
                .filter_map(|&id| Some((id, view.partitions.get(id)?)))
                .filter(|(_, seen)| calm(seen, view))
                .filter(|(id, _)| self.may(*id, view.now_ms))
                .collect();
            candidates.extend(self.for_throughput(table, &calm, view));
            for (id, seen) in calm {
                candidates.extend(self.for_itself(table, id, seen, view));
            }
        }
        candidates
            .sort_by_key(|(wish, urgency)| (wish.cause, std::cmp::Reverse(*urgency), wish.parent));
        let mut used = Used::of(view);
        let mut wishes: BTreeMap<GroupId, Wish> = BTreeMap::new();
        for (wish, _) in candidates {
            let Some(seen) = view.partitions.get(wish.parent) else {
                continue;
            };
            if wishes.contains_key(&wish.parent) {
                continue;
            }
            if used.full(seen, view.settings) {
                let why = "waits for other splits (bounded concurrency)".to_owned();
                self.waiting.insert(wish.parent, why);
                continue;
            }
            used.total += 1;
            used.take_nodes(seen);
            wishes.insert(wish.parent, wish);
        }
        wishes.into_values().collect()
    }

    /// It could not be split: not again for a while.
    pub(crate) fn failed(&mut self, parent: GroupId, why: &str, view: &SplitView) {
        let earlier = self.backoff.get(&parent).map(|b| b.wait_ms);
        let wait_ms = earlier.map_or(view.settings.backoff_ms, |ms| ms.saturating_mul(2));
        let wait_ms = wait_ms.min(view.settings.backoff_ms_max);
        let backoff = Backoff {
            until_ms: view.now_ms + wait_ms,
            wait_ms,
            why: why.to_owned(),
        };
        self.backoff.insert(parent, backoff);
    }

    /// Why a partition is not split though it is hot or large, in words; none: it is neither, or it is about to be.
    pub(crate) fn words(&self, partition: GroupId) -> Option<&str> {
        self.waiting.get(&partition).map(String::as_str)
    }

    /// Partitions that are hot or large and are not split.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn may(&mut self, partition: GroupId, now_ms: u64) -> bool {
        match self.backoff.get(&partition) {
            Some(backoff) if now_ms < backoff.until_ms => {
                let why = format!("tried in vain: {}", backoff.why);
                self.waiting.insert(partition, why);
                false
            }
            _ => true,
        }
    }

    fn note_heat(&mut self, view: &SplitView) {
        let threshold = view.settings.consumption_permille;
        let known = std::mem::take(&mut self.hot);
        for (id, seen) in view.partitions.iter() {
            let since_ms = known.get(&id).copied();
            let wanted = match since_ms {
                Some(_) => threshold * COOL_SHARE / 1_000,
                None => threshold,
            };
            if heat_permille(seen, view.settings) >= wanted.max(1) {
                self.hot.insert(id, since_ms.unwrap_or(view.now_ms));
            }
        }
        self.backoff.retain(|id, backoff| {
            // Kept past its end, so that the next wait is longer; not for ever.
            view.partitions.get(*id).is_some()
                && view.now_ms < backoff.until_ms.saturating_add(backoff.wait_ms)
        });
    }

    /// The widest partitions of a table that has too few.
    fn for_throughput(
        &self,
        table: &TableRecord,
        calm: &[(GroupId, &Seen)],
        view: &SplitView,
    ) -> Vec<(Wish, u128)> {
        let open = table.splits.iter();
        let open = open.filter(|split| split.phase != SplitPhase::Settled);
        let there = table.partitions.len() + open.count();
        let needed = partition_count(
            table.definition.billing,
            table.definition.warm,
            view.on_demand_partitions,
            view.partitions_max,
        );
        let missing = (needed as usize).saturating_sub(there);
        let mut widest: Vec<_> = calm
            .iter()
            .filter_map(|(id, seen)| {
                let point = hash_middle(&seen.info.range)?;
                Some((hash_width(&seen.info.range), *id, point))
            })
            .collect();
        widest.sort_by_key(|(width, id, _)| (std::cmp::Reverse(*width), *id));
        let chosen = widest.into_iter().take(missing);
        chosen
            .map(|(width, parent, point)| {
                let wish = Wish {
                    table: table.definition.name.clone(),
                    parent,
                    cause: SplitCause::Throughput,
                    point: Some(point),
                };
                (wish, width)
            })
            .collect()
    }

    /// A partition that is too large or too hot.
    fn for_itself(
        &mut self,
        table: &TableRecord,
        parent: GroupId,
        seen: &Seen,
        view: &SplitView,
    ) -> Option<(Wish, u128)> {
        let settings = view.settings;
        let wish = |cause, point| Wish {
            table: table.definition.name.clone(),
            parent,
            cause,
            point,
        };
        if seen.info.bytes > settings.split_bytes && seen.info.items > 1 {
            let urgency = u128::from(seen.info.bytes);
            return Some((wish(SplitCause::Size, None), urgency));
        }
        let since_ms = *self.hot.get(&parent)?;
        if view.now_ms.saturating_sub(since_ms) < settings.sustained_ms {
            return None;
        }
        match seen.info.advice.as_ref()? {
            Advice::At(point) => {
                let urgency = u128::from(heat_permille(seen, settings));
                Some((wish(SplitCause::Consumption, Some(point.clone())), urgency))
            }
            Advice::Nowhere(obstacle) => {
                let why = format!("hot, but {}", obstacle.words());
                self.waiting.insert(parent, why);
                None
            }
        }
    }
}

/// What a partition consumes of what it may, thousandths; what it refuses counts, too: it would be consumed elsewhere.
pub(crate) fn heat_permille(seen: &Seen, settings: &SplitSettings) -> u64 {
    let info = &seen.info;
    let share = |units: Units, cap: u64| units.thousandths() / cap.max(1);
    let used = share(info.read_units_s, settings.partition_read_units)
        .max(share(info.write_units_s, settings.partition_write_units));
    // The bucket refuses only what is above the cap.
    match info.refused_units_s >= Units::ONE {
        true => used.max(1_000),
        false => used,
    }
}

/// It is led, complete and nothing happens to it.
fn calm(seen: &Seen, view: &SplitView) -> bool {
    let info = &seen.info;
    let storage = info
        .members
        .iter()
        .filter(|m| m.member.role == Role::Storage);
    seen.fresh(view.now_ms)
        && info.leader.is_some()
        && !info.changing
        && info.learners.is_empty()
        && info.split.is_none()
        && storage.count() == REPLICAS
        && info.members.len() == REPLICAS
}
