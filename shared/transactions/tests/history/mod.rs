//! A history of operations that append their number to items' lists, and read them; whether some serial order explains it (a cycle in the
//! graph of who must come before whom says no).

use std::collections::{BTreeMap, BTreeSet};

/// What one operation did.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Items that it appended to, if it took effect.
    pub appends: Vec<String>,
    /// What it read.
    pub reads: Vec<(String, Vec<u64>)>,
    /// When it began.
    pub began: u64,
    /// When its answer came; none: it did not, or says nothing.
    pub ended: Option<u64>,
    /// Whether real time counts: single reads are each serializable with transactions, but two of them are not one.
    pub strict: bool,
}

/// Panics with the cycle's members if no serial order explains the history. `lists`: the items at the end.
pub fn check(seed: u64, operations: &BTreeMap<u64, Operation>, lists: &BTreeMap<String, Vec<u64>>) {
    let mut after: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut edge = |from: u64, to: u64| {
        if from != to {
            after.entry(from).or_default().insert(to);
        }
    };
    for list in lists.values() {
        for pair in list.windows(2) {
            edge(pair[0], pair[1]);
        }
    }
    for (number, operation) in operations {
        for (item, seen) in &operation.reads {
            let list = &lists[item];
            assert!(
                list.starts_with(seen),
                "seed {seed}: operation {number} read {seen:?} of {item}, which is {list:?}"
            );
            if let Some(last) = seen.last() {
                edge(*last, *number);
            }
            if let Some(next) = list.get(seen.len()) {
                edge(*number, *next);
            }
        }
    }
    let took_effect: BTreeSet<u64> = lists.values().flatten().copied().collect();
    let timed: Vec<(&u64, &Operation)> = operations
        .iter()
        .filter(|(number, o)| o.strict && (!o.reads.is_empty() || took_effect.contains(number)))
        .collect();
    for (one, first) in &timed {
        for (other, second) in &timed {
            if first.ended.is_some_and(|ended| ended < second.began) {
                edge(**one, **other);
            }
        }
    }
    // Kahn's algorithm: what is left over lies on cycles or behind them.
    let mut before: BTreeMap<u64, usize> = operations.keys().map(|n| (*n, 0)).collect();
    for to in after.values().flatten() {
        *before.entry(*to).or_default() += 1;
    }
    let mut free: Vec<u64> = before
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(number, _)| *number)
        .collect();
    while let Some(number) = free.pop() {
        before.remove(&number);
        for to in after.get(&number).into_iter().flatten() {
            if let Some(count) = before.get_mut(to) {
                *count -= 1;
                if *count == 0 {
                    free.push(*to);
                }
            }
        }
    }
    let left: Vec<_> = before
        .keys()
        .map(|number| (number, operations.get(number)))
        .collect();
    assert!(left.is_empty(), "seed {seed}: no serial order: {left:#?}");
}
