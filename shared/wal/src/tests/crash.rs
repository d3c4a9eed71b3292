//! Crashes that tear what was written and not yet acknowledged.

use std::collections::BTreeMap;
use std::sync::mpsc;

use proptest::prelude::*;

use super::model::{self, Action, Model, act, actions, copy_dir, last_segment, open};
use crate::segment::{self, Found};

/// Queues actions so that they form one batch, and waits for them. `models` gets the state after each.
fn one_batch(wal: &crate::Wal, model: &mut Model, actions: &[Action], models: &mut Vec<Model>) {
    let (go, gate) = mpsc::channel::<()>();
    let (held, holding) = mpsc::channel::<()>();
    let promise = Action::Promise { group: 1, round: 0 };
    let (id, ops) = model::resolve(model, &promise);
    let ops = ops.unwrap();
    model::apply(model, id, &ops);
    wal.append(id, ops, move |result| {
        result.unwrap();
        held.send(()).unwrap();
        gate.recv().unwrap();
    })
    .unwrap();
    holding.recv().unwrap();
    models.push(model.clone());
    let mut waiting = Vec::new();
    for action in actions {
        waiting.push(act(wal, model, action).unwrap());
        models.push(model.clone());
    }
    go.send(()).unwrap();
    waiting
        .into_iter()
        .for_each(|receiver| receiver.recv().unwrap().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The file ends anywhere: what is recovered is a prefix of what was queued, never less than what was acknowledged.
    #[test]
    fn cut_at_every_byte(before in actions(15), last in actions(6)) {
        let dir = model::tempdir();
        let mut model = Model::new();
        let mut models = Vec::new();
        let (wal, _) = open(dir.path(), 1 << 20);
        one_batch(&wal, &mut model, &before, &mut models);
        models.clear();
        one_batch(&wal, &mut model, &last, &mut models);
        drop(wal);
        let file = last_segment(dir.path());
        let bytes = std::fs::read(&file).unwrap();
        // Where each record of the last batch ends, and what must be there then.
        let found = segment::scan(&bytes, 1);
        let last_batch: Vec<_> = found
            .iter()
            .filter_map(|f| match f {
                Found::Record(header, _) if header.kind != crate::record::Kind::Mark => Some(*header),
                _ => None,
            })
            .collect();
        let synced = last_batch.last().unwrap().synced as usize;
        let mut at = synced;
        while at <= bytes.len() {
            let crashed = model::tempdir();
            let path = crashed.path().join(file.file_name().unwrap());
            std::fs::write(&path, &bytes[..at]).unwrap();
            let (_wal, recovery) = open(crashed.path(), 1 << 20);
            prop_assert!(recovery.damaged.is_empty(), "cut at {at}: {recovery:?}");
            let position = models.iter().rposition(|m| *m == recovery.groups);
            prop_assert!(position.is_some(), "cut at {at} gives no prefix");
            let whole = last_batch
                .iter()
                .filter(|h| h.synced as usize == synced)
                .filter(|h| h.offset as usize + h.record_len() <= at)
                .count();
            // The log may hold fewer records than actions: removing what is not there writes nothing.
            prop_assert!(position >= Some(whole.min(models.len() - 1)) || whole == 0);
            at += if at - synced < 200 { 1 } else { 7 };
        }
    }

    /// Pages of an unacknowledged batch reach the disk in any order: no damage, and a prefix.
    #[test]
    fn holes_in_the_last_batch(
        before in actions(15),
        last in actions(12),
        holes in prop::collection::vec((0.0_f64..1.0, 1_usize..600), 1..4),
    ) {
        let dir = model::tempdir();
        let mut model = Model::new();
        let mut models = Vec::new();
        let (wal, _) = open(dir.path(), 1 << 20);
        one_batch(&wal, &mut model, &before, &mut models);
        models.clear();
        one_batch(&wal, &mut model, &last, &mut models);
        // Copied before a mark or the end of the log can vouch for the batch, or with the mark taken out.
        let crashed = model::tempdir();
        copy_dir(dir.path(), crashed.path());
        let file = last_segment(crashed.path());
        let mut bytes = std::fs::read(&file).unwrap();
        let records = segment::scan(&bytes, 1);
        let headers: Vec<_> = records
            .iter()
            .filter_map(|f| match f {
                Found::Record(header, _) => Some(*header),
                Found::Hole { .. } => None,
            })
            .collect();
        if let Some(mark) = headers.iter().rfind(|h| h.kind == crate::record::Kind::Mark)
            && mark.offset > headers[headers.len() - 2].offset
        {
            bytes.truncate(mark.offset as usize);
        }
        let synced = headers.iter().filter(|h| h.kind != crate::record::Kind::Mark);
        let synced = synced.map(|h| h.synced).max().unwrap() as usize;
        let tail = bytes.len() - synced;
        for (place, len) in holes {
            let from = synced + (tail as f64 * place) as usize;
            let to = (from + len).min(bytes.len());
            bytes[from..to].fill(0);
        }
        std::fs::write(&file, &bytes).unwrap();
        let (_wal, recovery) = open(crashed.path(), 1 << 20);
        prop_assert!(recovery.damaged.is_empty(), "{recovery:?}");
        prop_assert!(!recovery.unattributed_damage);
        prop_assert!(models.contains(&recovery.groups));
    }
}

/// A crash while a new segment is made: the old ones hold everything.
#[test]
fn cut_while_rotating() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 4096);
    let mut model = Model::new();
    let mut states: BTreeMap<usize, Model> = BTreeMap::new();
    let mut index = 0;
    let mut witness = Vec::new();
    while segment::list(dir.path()).unwrap().len() < 3 {
        index += 1;
        let before = model.clone();
        // As the crash leaves it: the new segment comes first, then the witness, then the acknowledgement.
        witness = std::fs::read(dir.path().join("newest")).unwrap();
        let action = Action::Append {
            group: 1 + index % 3,
            truncate: 0,
            lens: vec![200, 300],
        };
        act(&wal, &mut model, &action)
            .unwrap()
            .recv()
            .unwrap()
            .unwrap();
        states.insert(0, before);
    }
    let acknowledged_before = states[&0].clone();
    let file = last_segment(dir.path());
    let bytes = std::fs::read(&file).unwrap();
    let mut seen = [false; 2];
    for at in 0..bytes.len() {
        let crashed = model::tempdir();
        copy_dir(dir.path(), crashed.path());
        std::fs::write(last_segment(crashed.path()), &bytes[..at]).unwrap();
        std::fs::write(crashed.path().join("newest"), &witness).unwrap();
        let (wal, recovery) = open(crashed.path(), 4096);
        assert!(
            recovery.damaged.is_empty() && !recovery.unattributed_damage,
            "cut at {at}"
        );
        let old = recovery.groups == acknowledged_before;
        assert!(old || recovery.groups == model, "cut at {at}");
        seen[usize::from(old)] = true;
        // And life goes on.
        let mut again = recovery.groups.clone();
        let action = Action::Append {
            group: 2,
            truncate: 1,
            lens: vec![9],
        };
        act(&wal, &mut again, &action)
            .unwrap()
            .recv()
            .unwrap()
            .unwrap();
        drop(wal);
        assert_eq!(open(crashed.path(), 4096).1.groups, again, "cut at {at}");
    }
    assert_eq!(seen, [true, true]);
}
