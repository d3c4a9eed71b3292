//! Anti-entropy: two memds nodes find by hashes what differs between their maps, and each takes what the other has newer. Owns one
//! bounded round of it, and a peer's side. A round between equal maps is one small message each way.

use std::time::Duration;

use bytes::Bytes;
use mesh::{Deadline, Mesh, TraceContext};
use perkle::{Answer, Comparison};
use protocol::directory::{CompareReply, CompareRequest, Push, RepairRequest};
use protocol::subjects;
use tracing::debug;

use crate::entry::SCHEME;
use crate::service::SharedMap;

/// Parts in one question: about 10 KiB.
const PARTS_MAX: usize = 256;
/// Hashes and stamps in one answer, give or take one part: about 200 KiB.
const ITEMS_MAX: usize = 4_096;
/// Questions of one round.
const QUESTIONS_MAX: usize = 256;
/// Differences that one round repairs; the next round goes on.
const DIFFERENCES_MAX: usize = 20_000;
/// Entries that one message carries each way; about 300 bytes each.
const ENTRIES_MAX: usize = 1_000;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// Messages to the peer.
    pub(crate) messages: u64,
    /// Entries of this map that changed.
    pub(crate) repaired: u64,
    /// Entries that the peer was given.
    pub(crate) offered: u64,
    /// The peer has the same, or had it once the round was over.
    pub(crate) in_step: bool,
}

/// One round with a peer. Whatever goes wrong ends it; the next one starts anew.
pub(crate) async fn once(mesh: &Mesh, map: &SharedMap, peer: u64, call_max: Duration) -> Round {
    let mut round = Round::default();
    let mut comparison = Comparison::new(DIFFERENCES_MAX);
    let subject = subjects::memds_compare(peer);
    for _ in 0..QUESTIONS_MAX {
        let Some(question) = comparison.question(map.read().tree(), PARTS_MAX) else {
            break;
        };
        let request = CompareRequest {
            scheme: SCHEME,
            question,
        };
        round.messages += 1;
        let reply: CompareReply = match call(mesh, &subject, &request, call_max).await {
            Ok(reply) => reply,
            Err(error) => {
                debug!(peer, %error, "the peer does not compare");
                return round;
            }
        };
        if reply.scheme != SCHEME {
            debug!(peer, its = reply.scheme, ours = SCHEME, "another scheme");
            return round;
        }
        comparison.learn(map.read().tree(), &request.question, &reply.answer);
    }
    let complete = comparison.is_complete();
    // Partitions before the tables that they are of: a definition counts only where a partition of it is known.
    let (mut wanted, mut offered) = (comparison.wanted, comparison.offered);
    wanted.sort_unstable();
    offered.sort_unstable();
    let subject = subjects::memds_repair(peer);
    let (mut wanted, mut offered) = (&wanted[..], &offered[..]);
    while !wanted.is_empty() || !offered.is_empty() {
        let request = RepairRequest {
            wanted: take_front(&mut wanted).to_vec(),
            offered: map.read().entries(take_front(&mut offered)),
        };
        round.messages += 1;
        let given = request.offered.partitions.len()
            + request.offered.tables.len()
            + request.offered.dropped.len();
        let push: Push = match call(mesh, &subject, &request, call_max).await {
            Ok(push) => push,
            Err(error) => {
                debug!(peer, %error, "the peer does not repair");
                return round;
            }
        };
        round.offered += given as u64;
        round.repaired += map.write().push(push) as u64;
    }
    round.in_step = complete;
    round
}

/// The peer's side of a comparison.
pub(crate) fn compare(map: &SharedMap, request: &CompareRequest) -> CompareReply {
    let answer = match request.scheme == SCHEME && request.question.parts.len() <= PARTS_MAX {
        true => map.read().tree().answer(&request.question, ITEMS_MAX),
        false => Answer::default(),
    };
    CompareReply {
        scheme: SCHEME,
        answer,
    }
}

/// The peer's side of a repair: how much was new, and what was asked for.
pub(crate) fn take(map: &SharedMap, request: RepairRequest) -> (usize, Push) {
    let news = map.write().push(request.offered);
    let wanted = &request.wanted[..request.wanted.len().min(ENTRIES_MAX)];
    (news, map.read().entries(wanted))
}

fn take_front<'a>(keys: &mut &'a [Bytes]) -> &'a [Bytes] {
    let (front, rest) = keys.split_at(keys.len().min(ENTRIES_MAX));
    *keys = rest;
    front
}

async fn call<Q: serde::Serialize, R: serde::de::DeserializeOwned>(
    mesh: &Mesh,
    subject: &str,
    request: &Q,
    call_max: Duration,
) -> Result<R, mesh::CallError> {
    let deadline = Deadline::after(call_max);
    mesh.call(subject, request, deadline, &TraceContext::default())
        .await
}

#[cfg(test)]
mod tests {
    use mesh::{Identity, LocalBus, Subscription};
    use paxos::{GroupId, NodeId};
    use protocol::directory::PartitionInfo;

    use super::*;
    use crate::entry::partition_key;

    fn join(bus: &LocalBus, instance: u64) -> Mesh {
        let identity = Identity {
            service: "memds".into(),
            instance,
            incarnation: 1,
        };
        Mesh::local(bus, identity)
    }

    /// 1,000 tables with 100 partitions each.
    fn all() -> Vec<PartitionInfo> {
        let of_table = |table: u64| {
            let ranges = model::key::split_table_range(model::TableId(100 + table), 100);
            let numbered = ranges.into_iter().zip(table * 100 + 1..);
            numbered.map(move |(range, id)| PartitionInfo {
                partition: GroupId(id),
                table: model::TableId(100 + table),
                range,
                generation: 1,
                ..PartitionInfo::default()
            })
        };
        (0..1_000).flat_map(of_table).collect()
    }

    fn push(partitions: Vec<PartitionInfo>) -> Push {
        Push {
            node: NodeId(1),
            partitions,
            tables: Vec::new(),
            dropped: Vec::new(),
        }
    }

    async fn serve(mesh: &Mesh, map: &SharedMap) -> [Subscription; 2] {
        let (a, b) = (map.clone(), map.clone());
        let compares = move |delivery: mesh::Delivery| {
            let reply = compare(&a, &delivery.decode().unwrap());
            delivery.reply(&reply);
        };
        let repairs = move |delivery: mesh::Delivery| {
            let (_, reply) = take(&b, delivery.decode().unwrap());
            delivery.reply(&reply);
        };
        let (to_compare, to_repair) = (subjects::memds_compare(1), subjects::memds_repair(1));
        [
            mesh.serve(&to_compare, None, compares).await.unwrap(),
            mesh.serve(&to_repair, None, repairs).await.unwrap(),
        ]
    }

    #[actix::test]
    async fn one_difference_in_a_hundred_thousand_costs_a_few_messages() {
        const CALL: Duration = Duration::from_secs(30);
        let bus = LocalBus::new();
        let (theirs, mine) = (SharedMap::default(), SharedMap::default());
        let _served = serve(&join(&bus, 1), &theirs).await;
        let mesh = join(&bus, 2);
        theirs.write().push(push(all()));
        mine.write().push(push(all()));
        let same = once(&mesh, &mine, 1, CALL).await;
        let expected = Round {
            messages: 1,
            in_step: true,
            ..Round::default()
        };
        assert_eq!(same, expected, "equal maps need one message");

        let mut newer = all().swap_remove(54_321);
        newer.generation = 2;
        theirs.write().push(push(vec![newer.clone()]));
        let one = once(&mesh, &mine, 1, CALL).await;
        assert_eq!((one.repaired, one.offered, one.in_step), (1, 0, true));
        assert!(one.messages <= 6, "{} messages", one.messages);
        assert_eq!(mine.read().partition(newer.partition), Some(newer));

        // Both lack something, and one knows of a drop.
        mine.write().push(Push {
            dropped: vec![GroupId(77)],
            ..push(Vec::new())
        });
        let mut newer = all().swap_remove(4);
        newer.generation = 3;
        theirs.write().push(push(vec![newer]));
        let both = once(&mesh, &mine, 1, CALL).await;
        assert!(both.in_step);
        assert_eq!(mine.read().root(), theirs.read().root());
        assert_eq!(theirs.read().partition(GroupId(77)), None);

        // Far more than one round repairs.
        let empty = SharedMap::default();
        let mut rounds = 0;
        while !once(&mesh, &empty, 1, CALL).await.in_step {
            rounds += 1;
            assert!(rounds < 20, "each round gets further");
        }
        assert_eq!(empty.read().root(), theirs.read().root());
    }

    #[actix::test]
    async fn another_scheme_is_left_alone() {
        let map = SharedMap::default();
        map.write().push(push(all().split_off(99_990)));
        let mut comparison = Comparison::new(10);
        let question = comparison.question(&perkle::Perkle::new(), 10).unwrap();
        let request = CompareRequest {
            scheme: SCHEME + 1,
            question,
        };
        assert_eq!(compare(&map, &request).answer, Answer::default());
        let key = partition_key(model::TableId(1_099), b"");
        let (_, nothing) = take(
            &map,
            RepairRequest {
                offered: push(Vec::new()),
                wanted: vec![key.into(), Bytes::from_static(b"nonsense"), Bytes::new()],
            },
        );
        assert!(nothing.partitions.is_empty());
    }
}
