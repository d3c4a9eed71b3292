//! The operator's desk: what is scrubbed, how it goes, when it was last clean. Owns the answers' shapes and words.

use protocol::scrub::{IndexScrub, Overview, PartitionScrub, Question};

use crate::index_cycle::is_of;
use crate::service::{Shared, unix_ms};

/// Partitions in one answer.
const PARTITIONS_MAX: usize = 1_000;

/// Global indexes in one answer.
const INDEXES_MAX: usize = 2_000;

/// The answer of the active scrubber.
pub(crate) fn answer(shared: &Shared, question: &Question) -> Overview {
    let known = shared.known.lock().clone();
    let running = shared.running.lock().clone();
    let mut cycle = shared.cycle.lock();
    let wanted = |table: &str| question.table.as_ref().is_none_or(|wanted| wanted == table);
    let mut all: Vec<_> = known.iter().filter(|k| wanted(&k.table)).collect();
    all.sort_by_key(|known| known.partition);
    if question.now {
        all.iter().for_each(|known| cycle.wish(known.partition));
    }
    let of = |known: &&crate::cycle::Known| {
        let record = cycle.records().get(&known.partition);
        let record = record.cloned().unwrap_or_default();
        let scrub = running.get(&known.partition);
        let state = match scrub {
            Some((_, digested)) => {
                let digested = digested.load(std::sync::atomic::Ordering::Relaxed);
                let percent = (100 * digested).checked_div(known.bytes).unwrap_or(0);
                format!("being scrubbed, {} %", percent.min(100))
            }
            None if record.state.is_empty() => "not scrubbed yet".to_owned(),
            None if record.archive_void.is_empty() => record.state.clone(),
            None => format!("{}; archive: {}", record.state, record.archive_void),
        };
        PartitionScrub {
            partition: known.partition,
            table: known.table.clone(),
            bytes: known.bytes,
            state,
            running: scrub.map(|(number, _)| *number),
            clean_ms: record.clean_ms,
            archive_clean_ms: record.archive_clean_ms,
            compared_ms: (record.compared_ms > 0).then_some(record.compared_ms),
            finding: record.findings(),
            replicas: record.replicas,
            failures: u64::from(record.failures),
        }
    };
    let behind = all.iter().filter(|k| k.partition > question.after);
    let mut partitions: Vec<PartitionScrub> = behind.take(PARTITIONS_MAX + 1).map(of).collect();
    let more = partitions.len() > PARTITIONS_MAX;
    partitions.truncate(PARTITIONS_MAX);
    let next = partitions.last().map(|p| p.partition).filter(|_| more);
    Overview {
        instance: shared.settings.instance,
        now_ms: unix_ms(),
        bytes_per_second: shared.settings.bytes_per_second,
        archive: match &shared.archive {
            Some(_) => "compared with the archive".to_owned(),
            None => "not compared with an archive: none is set".to_owned(),
        },
        partitions,
        next,
        indexes: indexes(shared, question),
    }
}

/// The global indexes that are meant, with the first answer only.
fn indexes(shared: &Shared, question: &Question) -> Vec<IndexScrub> {
    if question.after.0 > 0 {
        return Vec::new();
    }
    let table = question.table.as_deref();
    let mut cycle = shared.indexes.lock();
    if question.now {
        cycle.wish(table);
    }
    let meant = cycle
        .records()
        .iter()
        .filter(|(name, _)| is_of(name, table));
    let of = |(name, record): (&String, &crate::index_cycle::Record)| IndexScrub {
        table: name.clone(),
        state: match cycle.running() == Some(name) {
            true => {
                let looked = &shared.index_counts.looked;
                let looked = looked.load(std::sync::atomic::Ordering::Relaxed);
                format!("being compared, {looked} items and entries so far")
            }
            false if record.state.is_empty() => "not compared yet".to_owned(),
            false => record.state.clone(),
        },
        clean_ms: record.clean_ms,
        compared_ms: record.compared_ms,
        finding: record.finding.clone(),
    };
    meant.take(INDEXES_MAX).map(of).collect()
}
