//! Whether the store keeps conditional writes. Owns the probe that services make at their start. Nothing rests on the answer: keys name their
//! content, so an overwrite writes what was there. But an operator should know.

use bytes::Bytes;
use futures::future::join_all;

use crate::error::ObjectError;
use crate::store::{Objects, Put, PutMode};

/// Writers that race in the probe.
const RACERS: usize = 8;
/// Races: some stores let several win only now and then.
const RACES: usize = 4;

/// How a store takes `Create` of what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    /// One writer wins, what it wrote stays.
    Honest,
    /// A later writer overwrites.
    Overwrites,
    /// A later writer is refused, but of several at once more than one wins.
    SeveralWin,
}

impl Honesty {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Honesty::Honest => "honest",
            Honesty::Overwrites => "overwrites",
            Honesty::SeveralWin => "several_win",
        }
    }
}

/// Writes some small objects, and deletes them again.
pub async fn probe(objects: &Objects) -> Result<Honesty, ObjectError> {
    let nonce = uuid::Uuid::new_v4();
    let key = |number: usize| match number {
        0 => format!("probes/{nonce}/again"),
        race => format!("probes/{nonce}/race-{race}"),
    };
    let honesty = examine(objects, &key).await;
    for number in 0..=RACES {
        // A leftover is a few bytes that nobody reads.
        if let Err(error) = objects.delete(&key(number)).await {
            tracing::debug!(%error, "a probe stays");
        }
    }
    honesty
}

async fn examine(
    objects: &Objects,
    key: &impl Fn(usize) -> String,
) -> Result<Honesty, ObjectError> {
    let first = Bytes::from_static(b"first");
    objects.put(&key(0), first.clone(), PutMode::Create).await?;
    let second = Bytes::from_static(b"second");
    let put = objects.put(&key(0), second, PutMode::Create).await?;
    if put != Put::Exists || objects.get(&key(0)).await? != first {
        return Ok(Honesty::Overwrites);
    }
    for race in 1..=RACES {
        let key = key(race);
        let puts = (0..RACERS)
            .map(|racer| objects.put(&key, Bytes::from(format!("racer {racer}")), PutMode::Create));
        let mut winners = Vec::new();
        for (racer, put) in join_all(puts).await.into_iter().enumerate() {
            if put? == Put::Written {
                winners.push(format!("racer {racer}"));
            }
        }
        // No winner: its answer was lost, and its second attempt found what it had written.
        let won = winners.first();
        let stays = objects.get(&key).await?;
        if winners.len() > 1 || won.is_some_and(|won| stays != won.as_bytes()) {
            return Ok(Honesty::SeveralWin);
        }
    }
    Ok(Honesty::Honest)
}
