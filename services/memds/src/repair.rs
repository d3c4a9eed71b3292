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
