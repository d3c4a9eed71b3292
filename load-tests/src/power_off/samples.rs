//! What the mesh says of itself, once a second: leaders on each storage node. Owns no judgement.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;

use super::topology::{Kind, Topology};
use crate::health;

/// An answer must be here within this time: the next second waits.
const ANSWER_MAX: Duration = Duration::from_millis(700);

/// One second's sample.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Since the start, milliseconds.
    pub at_ms: u64,
    /// Groups led and served, a zone; a zone none of whose nodes answers is absent.
    pub leading: BTreeMap<String, u64>,
    /// Groups led and served, a node; silent nodes are absent.
    pub nodes: BTreeMap<String, u64>,
    /// Pages read since the start of the process, a node.
    #[serde(skip)]
    pub pages: BTreeMap<String, u64>,
}

/// Asks all storage nodes.
pub async fn take(topology: &Topology, at_ms: u64) -> Sample {
    let nodes = topology
        .processes
        .iter()
        .filter(|process| process.kind == Kind::Storage);
    let answers = join_all(nodes.map(async |node| {
        let answer = health::get(&node.health, "/metrics", ANSWER_MAX).await;
        (node, answer.map(|(_, text)| text))
    }));
    let mut sample = Sample {
        at_ms,
        ..Sample::default()
    };
    for (node, text) in answers.await {
        let Some(text) = text else { continue };
        if let Some(leading) = health::metric(&text, "evenkeel_storage_leading", "") {
            *sample.leading.entry(node.zone.clone()).or_default() += leading as u64;
            sample.nodes.insert(node.name.clone(), leading as u64);
        }
        if let Some(pages) = health::metric(&text, "evenkeel_storage_pages_total", "") {
            sample.pages.insert(node.name.clone(), pages as u64);
        }
    }
    sample
}
