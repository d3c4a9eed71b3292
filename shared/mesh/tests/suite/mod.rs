//! What both transports promise, as one suite: `local.rs` and `nats.rs` run it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mesh::{CallError, Deadline, Delivery, Mesh, SenderId, TraceContext};
use tokio::sync::mpsc;

/// Two participants of one bus: the asking one and the serving one.
pub struct Pair {
    pub asker: Mesh,
    pub server: Mesh,
}

/// Run everything.
pub async fn run(pair: &Pair) {
    envelope_arrives(pair).await;
    answers_find_their_callers(pair).await;
    casts_arrive_in_order(pair).await;
    queue_groups_share_and_others_copy(pair).await;
    nobody_there_is_said_at_once(pair).await;
    calls_end_at_their_deadline(pair).await;
    large_bodies_travel(pair).await;
    answers_come_from_any_thread(pair).await;
    wrong_bodies_are_errors(pair).await;
    a_panic_costs_one_message(pair).await;
    odd_subjects_are_refused(pair).await;
    lanes_work(pair).await;
}

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

pub fn none() -> TraceContext {
    TraceContext::default()
}

async fn envelope_arrives(pair: &Pair) {
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let serving = pair
        .server
        .serve("suite.envelope", None, move |delivery: Delivery| {
            let text: String = delivery.decode().expect("a string");
            seen.send((delivery.sender, delivery.deadline, delivery.trace))
                .expect("open");
            assert!(delivery.wants_reply());
            delivery.reply(&format!("{text} back"));
        });
    let serving = serving.await.expect("served");
    let (deadline, trace) = (
        soon(),
        TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    );
    let answer: String = pair
        .asker
        .call("suite.envelope", "there", deadline, &trace)
        .await
        .expect("answered");
    assert_eq!(answer, "there back");
    let identity = pair.asker.identity();
    let sender = SenderId {
        instance: identity.instance,
        incarnation: identity.incarnation,
    };
    assert_eq!(arrived.recv().await, Some((sender, Some(deadline), trace)));
    drop(serving);
}

async fn answers_find_their_callers(pair: &Pair) {
    let serving = pair
        .server
        .serve("suite.double", None, |delivery: Delivery| {
            match delivery.decode::<u64>() {
                Ok(number) => delivery.reply(&(2 * number)),
                Err(error) => panic!("{error}"),
            }
        });
    let _serving = serving.await.expect("served");
    let mut callers = Vec::new();
    for number in 0..500_u64 {
        let asker = pair.asker.clone();
        callers.push(tokio::spawn(async move {
            let mut sum = 0;
            for round in 0..10 {
                let request = number * 10 + round;
                let answer: u64 = asker
                    .call("suite.double", &request, soon(), &none())
                    .await
                    .expect("answered");
                assert_eq!(answer, request * 2);
                sum += 1;
            }
            sum
        }));
    }
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.expect("no panic");
    }
    assert_eq!(answered, 5_000);
    assert_eq!(pair.asker.stats().calls_in_flight.get(), 0);
}

async fn casts_arrive_in_order(pair: &Pair) {
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let serving = pair
        .server
        .serve("suite.cast", None, move |delivery: Delivery| {
            assert!(!delivery.wants_reply());
            seen.send(delivery.decode::<u32>().expect("a number"))
                .expect("open");
        });
    let _serving = serving.await.expect("served");
    for number in 0..2_000_u32 {
        pair.asker.cast("suite.cast", &number).expect("queued");
    }
    for number in 0..2_000_u32 {
        assert_eq!(arrived.recv().await, Some(number));
    }
}

async fn queue_groups_share_and_others_copy(pair: &Pair) {
    let counts: Vec<Arc<AtomicU64>> = (0..4).map(|_| Arc::default()).collect();
    let mut serving = Vec::new();
    for (index, group) in [(0, Some("g")), (1, Some("g")), (2, None), (3, None)] {
        let count = counts[index].clone();
        let handler = move |delivery: Delivery| {
            count.fetch_add(1, Ordering::SeqCst);
            if index < 2 {
                delivery.reply(&());
            }
        };
        serving.push(
            pair.server
                .serve("suite.group", group, handler)
                .await
                .expect("served"),
        );
    }
    // one at a time, so that every call is a bus message of its own
    let trace = none();
    for _ in 0..200 {
        let called = pair.asker.call::<_, ()>("suite.group", &(), soon(), &trace);
        called.await.expect("answered");
    }
    let count = |index: usize| counts[index].load(Ordering::SeqCst);
    let everybody_has = |wanted| count(2) == wanted && count(3) == wanted;
    let give_up = Instant::now() + Duration::from_secs(60);
    while !everybody_has(200) && Instant::now() < give_up {
        tokio::task::yield_now().await;
    }
    assert!(everybody_has(200), "{} {}", count(2), count(3));
    assert_eq!(count(0) + count(1), 200);
    assert!(count(0) > 0 && count(1) > 0, "{} {}", count(0), count(1));
}

async fn nobody_there_is_said_at_once(pair: &Pair) {
    let start = Instant::now();
    let refused = pair
        .asker
        .call::<_, ()>("suite.nobody", &(), soon(), &none())
        .await;
    assert_eq!(refused, Err(CallError::NoResponders));
    assert!(CallError::NoResponders.certainly_not_executed());
    // Long before its deadline.
    assert!(start.elapsed() < Duration::from_secs(40));

    let serving = pair
        .server
        .serve("suite.brief", None, |delivery| delivery.reply(&1_u8));
    let serving = serving.await.expect("served");
    let answer = pair
        .asker
        .call::<_, u8>("suite.brief", &(), soon(), &none())
        .await;
    assert_eq!(answer, Ok(1));
    drop(serving);
    // Unsubscribing takes a moment: until then there are answers or, for what is on its way just then, nothing.
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let brief = Deadline::after(Duration::from_millis(200));
        match pair
            .asker
            .call::<_, u8>("suite.brief", &(), brief, &none())
            .await
        {
            Err(CallError::NoResponders) => break,
            Ok(1) | Err(CallError::TimedOut) => assert!(Instant::now() < give_up),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pair.asker.cast("suite.nobody", &()), Ok(()));
}

async fn calls_end_at_their_deadline(pair: &Pair) {
    let (keep, _kept) = mpsc::unbounded_channel();
    let serving = pair
        .server
        .serve("suite.silent", None, move |delivery: Delivery| {
            keep.send(delivery.responder()).expect("open");
        });
    let _serving = serving.await.expect("served");
    let timed_out = pair.asker.stats().calls_timed_out.get();
    let deadline = Deadline::after(Duration::from_millis(50));
    let start = Instant::now();
    let called = pair
        .asker
        .call::<_, ()>("suite.silent", &(), deadline, &none())
        .await;
    assert_eq!(called, Err(CallError::TimedOut));
    assert!(
        start.elapsed() >= Duration::from_millis(45),
        "{:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "{:?}",
        start.elapsed()
    );
    let past = Deadline::at_unix_ms(deadline.unix_ms() - 1_000);
    let called = pair
        .asker
        .call::<_, ()>("suite.silent", &(), past, &none())
        .await;
    assert_eq!(called, Err(CallError::TimedOut));
    assert_eq!(pair.asker.stats().calls_timed_out.get(), timed_out + 2);
    // a caller that goes away leaves nothing behind
    let trace = none();
    let abandoned = pair
        .asker
        .call::<_, ()>("suite.silent", &(), soon(), &trace);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), abandoned)
            .await
            .is_err()
    );
    assert_eq!(pair.asker.stats().calls_in_flight.get(), 0);
}

async fn large_bodies_travel(pair: &Pair) {
    let serving = pair
        .server
        .serve("suite.large", None, |delivery: Delivery| {
            let body: bytes::Bytes = delivery.decode().expect("bytes");
            delivery.reply(&body);
        });
    let _serving = serving.await.expect("served");
    for size in [100_000, 524_000, 525_000, 1_048_576, 5_000_001] {
        let body: bytes::Bytes = (0..size)
            .map(|n: u32| (n % 251) as u8)
            .collect::<Vec<_>>()
            .into();
        let answer: bytes::Bytes = pair
            .asker
            .call("suite.large", &body, soon(), &none())
            .await
            .expect("answered");
        assert!(answer == body, "{size}");
    }
    let body = bytes::Bytes::from(vec![0; 17 << 20]);
    let refused = pair
        .asker
        .call::<_, bytes::Bytes>("suite.large", &body, soon(), &none())
        .await;
    assert!(
        matches!(refused, Err(CallError::Malformed(_))),
        "{refused:?}"
    );
}

async fn answers_come_from_any_thread(pair: &Pair) {
    let serving = pair
        .server
        .serve("suite.thread", None, |delivery: Delivery| {
            let responder = delivery.responder();
            std::thread::spawn(move || responder.reply("from a thread"));
        });
    let _serving = serving.await.expect("served");
    let answer: String = pair
        .asker
        .call("suite.thread", &(), soon(), &none())
        .await
        .expect("answered");
    assert_eq!(answer, "from a thread");
}

async fn wrong_bodies_are_errors(pair: &Pair) {
    let serving = pair
        .server
        .serve("suite.wrong", None, |delivery: Delivery| {
            let refused = delivery.decode::<u64>().is_err();
            delivery.reply(&refused);
        });
    let _serving = serving.await.expect("served");
    let refused: bool = pair
        .asker
        .call("suite.wrong", "no number", soon(), &none())
        .await
        .expect("answered");
    assert!(refused);
    let odd = pair
        .asker
        .call::<_, String>("suite.wrong", &1, soon(), &none())
        .await;
    assert!(matches!(odd, Err(CallError::Malformed(_))), "{odd:?}");
}

async fn a_panic_costs_one_message(pair: &Pair) {
    let panics = pair.server.stats().handler_panics.get();
    let serving = pair
        .server
        .serve("suite.panic", None, |delivery: Delivery| {
            let panic: bool = delivery.decode().expect("a bool");
            assert!(!panic, "as ordered");
            delivery.reply(&());
        });
    let _serving = serving.await.expect("served");
    // Long enough for it to be read before that.
    let deadline = Deadline::after(Duration::from_millis(1_500));
    let lost = pair
        .asker
        .call::<_, ()>("suite.panic", &true, deadline, &none())
        .await;
    assert_eq!(lost, Err(CallError::TimedOut));
    let kept = pair
        .asker
        .call::<_, ()>("suite.panic", &false, soon(), &none())
        .await;
    assert_eq!(kept, Ok(()));
    assert_eq!(pair.server.stats().handler_panics.get(), panics + 1);
}

async fn odd_subjects_are_refused(pair: &Pair) {
    for subject in ["", "a..b", ".a", "a.", "a.*", "a.>", "a b", "a\r\nPUB b 0"] {
        assert!(
            pair.server.serve(subject, None, |_| {}).await.is_err(),
            "{subject:?}"
        );
        assert!(pair.asker.cast(subject, &()).is_err(), "{subject:?}");
        let called = pair
            .asker
            .call::<_, ()>(subject, &(), soon(), &none())
            .await;
        assert!(
            matches!(called, Err(CallError::Malformed(_))),
            "{subject:?}"
        );
    }
}

async fn lanes_work(pair: &Pair) {
    for subject in ["suite.1.repl", "suite.1.bulk"] {
        let serving = pair
            .server
            .serve(subject, None, |delivery| delivery.reply(&7_u8));
        let _serving = serving.await.expect("served");
        let answer = pair
            .asker
            .call::<_, u8>(subject, &(), soon(), &none())
            .await;
        assert_eq!(answer, Ok(7), "{subject}");
    }
    pair.asker.drain(Duration::from_secs(60)).await;
    assert_eq!(pair.asker.stats().bytes_queued.get(), 0);
}
