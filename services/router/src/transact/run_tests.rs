//! What a coordinator makes of a record that says something else than it left there.

use model::codec::encode_item;
use model::{AttributeValue, Item};
use protocol::item::{ReturnValues, WriteAction};

use super::*;
use crate::fake::{Fake, context};

/// A transaction that puts one item, over a ledger without its record.
async fn begun() -> Run<Fake> {
    let backend = Fake::new();
    let table = backend.table("hash", &context()).await.unwrap();
    let item = Item::from([("pk".to_owned(), AttributeValue::S("x".to_owned()))]);
    let write = Write {
        key: model::key::key_from_item(&table, &item).unwrap(),
        action: WriteAction::Put(encode_item(&item)),
        condition: None,
        return_values: ReturnValues::None,
        return_on_failure: false,
    };
    let request = WriteRequest {
        parts: vec![Part {
            table: table.clone(),
            write,
        }],
        token: Some("token".to_owned()),
        now_ms: 1_000,
    };
    Run::begin(Ledger::new(backend, table), request, context()).unwrap()
}

/// The same with this record in the ledger.
async fn found(state: State, ours: bool) -> Run<Fake> {
    let run = begun().await;
    let mut record = Record {
        state,
        ..run.record.clone()
    };
    if record.decided() == Some(true) {
        record.commit_ms = 2_000;
    }
    if !ours {
        record.id = TransactionId(0, 0);
    }
    let made = run.ledger.make(&run.name, &record, None, &context()).await;
    assert!(matches!(made, Ok(Put::Done)));
    run
}

async fn says(run: &Run<Fake>) -> Option<State> {
    let key = run.ledger.key(&run.name).unwrap();
    let read = run.ledger.read(&key, &context()).await.unwrap();
    read.map(|(_, record)| record.state)
}

#[tokio::test]
async fn a_decision_that_comes_late_is_what_a_recovery_has_made_of_it() {
    // A recovery found it committed (the answer to the first attempt was lost), finished it, and closed it.
    let done = found(State::Done, true).await;
    let decided = done.carry_out(Action::Decide, 0).await;
    assert_eq!(decided, Input::Decided(Some(true)));
    assert_eq!(says(&done).await, Some(State::Done), "it stays closed");
    assert_eq!(
        done.learned.lock().commit_ms,
        2_000,
        "for what is still to be committed"
    );
    // One withdrew it, and another one has cleared that away.
    let withdrawn = found(State::Cancelled, true).await;
    let decided = withdrawn.carry_out(Action::Decide, 0).await;
    assert_eq!(decided, Input::Decided(Some(false)));
    let gone = begun().await;
    let decided = gone.carry_out(Action::Decide, 0).await;
    assert_eq!(decided, Input::Decided(Some(false)));
    assert_eq!(says(&gone).await, None, "nothing comes back");
    // The token was used again, and that attempt is done: it says nothing of this one, of which nobody can have decided that it is committed.
    let other = found(State::Done, false).await;
    let decided = other.carry_out(Action::Decide, 0).await;
    assert_eq!(decided, Input::Decided(Some(false)));
}

#[tokio::test]
async fn what_is_decided_is_not_withdrawn() {
    for state in [State::Committed, State::Done] {
        let run = found(state, true).await;
        let withdrawn = run.carry_out(Action::Withdraw, 0).await;
        assert_eq!(withdrawn, Input::Decided(Some(true)));
        assert_eq!(says(&run).await, Some(state));
    }
    let open = found(State::Open, true).await;
    let withdrawn = open.carry_out(Action::Withdraw, 0).await;
    assert_eq!(withdrawn, Input::Decided(Some(false)));
    assert_eq!(says(&open).await, Some(State::Cancelled));
}

#[tokio::test]
async fn what_nobody_knows_is_asked_again() {
    let run = found(State::Open, true).await;
    run.ledger
        .backend()
        .fail_next([Some(ApiError::internal()), None]);
    run.learned.lock().commit_ms = 3_000;
    assert_eq!(run.carry_out(Action::Decide, 0).await, Input::Decided(None));
    let decided = run.carry_out(Action::Decide, 1).await;
    assert_eq!(decided, Input::Decided(Some(true)));
    assert_eq!(says(&run).await, Some(State::Committed));
    // Whoever recovers it commits as of the same time.
    let key = run.ledger.key(&run.name).unwrap();
    let (name, record) = run.ledger.read(&key, &context()).await.unwrap().unwrap();
    assert_eq!(record.commit_ms, 3_000);
    let (ledger, transaction) = (run.ledger.clone(), run.transaction.clone());
    let recovered = Run::recover(ledger, (name, record), transaction, context());
    assert_eq!(recovered.learned.lock().commit_ms, 3_000);
    recovered.close(true).await;
    assert_eq!(says(&run).await, Some(State::Done));
}
