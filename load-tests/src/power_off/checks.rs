//! What must hold once all is mended and quiet. Each check reads through the routers, as a client does, and is bounded in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use linearizability::{Failure, check};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::client::{Answer, Client};
use super::record::Record;
use super::requests::{COUNTERS, REGISTERS, Request, counter_name, insert_name, value_of};
use super::samples;
use super::topology::Topology;

/// A read of the checks is tried for so long: all is mended.
const READ_MAX: Duration = Duration::from_secs(90);
/// Replicas have so long to become equal: one that was lost late may still be built anew.
const EQUAL_MAX: Duration = Duration::from_secs(90);
/// All histories together are searched for so long.
const SEARCH_MAX: Duration = Duration::from_secs(120);
/// Pieces of evidence that are shown.
const EVIDENCE_MAX: usize = 10;

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// Whether it does.
    pub passed: bool,
    /// Numbers, or what is wrong.
    pub detail: String,
    /// What was found against it; the first few.
    pub evidence: Vec<String>,
}

impl Check {
    /// Passed if there is nothing against it.
    pub fn new(name: &'static str, detail: String, mut evidence: Vec<String>) -> Self {
        let (passed, found) = (evidence.is_empty(), evidence.len());
        if found > EVIDENCE_MAX {
            evidence.truncate(EVIDENCE_MAX);
            evidence.push(format!("… {} in all", found));
        }
        Self {
            name,
            passed,
            detail,
            evidence,
        }
    }
}

type Items = BTreeMap<String, Json>;

/// All checks of the data. `clients`: one a zone, each with its own zone's router first.
pub async fn all(
    topology: &Topology,
    clients: &[Arc<Client>],
    table: &str,
    record: &Arc<Record>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let read_back = read_back(clients, table, record).await;
    let strong = scan(&clients[0], table, true).await;
    match (&read_back, &strong) {
        (Ok(()), Ok(items)) => {
            checks.push(inserts(record, items));
            checks.push(counters(record, items));
            checks.push(histories(record).await);
            checks.push(replicas(topology, clients, table, items).await);
        }
        (read_back, strong) => {
            let errors = [read_back.as_ref().err(), strong.as_ref().err()];
            let errors = errors.into_iter().flatten().cloned().collect();
            checks.push(Check::new(
                "The data can be read back",
                String::new(),
                errors,
            ));
            // What the clients saw can be judged all the same.
            checks.push(histories(record).await);
        }
    }
    let detail = "no value from nowhere, no number returned twice, no senseless answer".to_owned();
    checks.push(Check::new(
        "Every answer made sense",
        detail,
        record.oddities(),
    ));
    checks
}

/// Calls until it is answered with 200.
async fn insist(client: &Client, operation: &str, body: &[u8]) -> Result<Json, String> {
    let until = Instant::now() + READ_MAX;
    loop {
        let answer = client.attempt_at(0, operation, body).await;
        match answer {
            Answer::Said(200, body) => return Ok(body),
            other if Instant::now() >= until => {
                return Err(format!(
                    "{operation} was not answered within {} s of quiet: {other:?}",
                    READ_MAX.as_secs()
                ));
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads every register strongly, through all routers in turn; what they hold belongs to their histories.
async fn read_back(clients: &[Arc<Client>], table: &str, record: &Record) -> Result<(), String> {
    for key in 0..REGISTERS {
        let request = Request::Get { key, strong: true };
        let called = record.now_us();
        let body = insist(
            &clients[key % clients.len()],
            request.operation(),
            &request.body(table),
        )
        .await?;
        record.read(key, called, value_of(&body["Item"])?);
    }
    Ok(())
}

async fn scan(client: &Client, table: &str, strong: bool) -> Result<Items, String> {
    let mut items = Items::new();
    let mut from = Json::Null;
    loop {
        let mut request = json!({"TableName": table, "ConsistentRead": strong});
        if !from.is_null() {
            request["ExclusiveStartKey"] = from;
        }
        let body = insist(client, "Scan", request.to_string().as_bytes()).await?;
        for item in body["Items"].as_array().into_iter().flatten() {
            let name = item["pk"]["S"].as_str().unwrap_or_default().to_owned();
            if let Some(twice) = items.insert(name, item.clone()) {
                return Err(format!("a scan gave an item twice: {twice}"));
            }
        }
        from = body["LastEvaluatedKey"].clone();
        if from.is_null() {
            return Ok(items);
        }
    }
}

fn inserts(record: &Record, items: &Items) -> Check {
    record.with_inserts(|inserts| {
        let lost = inserts
            .acknowledged
            .iter()
            .filter(|number| !items.contains_key(&insert_name(**number)));
        let lost = lost.map(|number| {
            format!(
                "{} was acknowledged, and is not there",
                insert_name(*number)
            )
        });
        let present = items
            .keys()
            .filter_map(|name| name.strip_prefix("insert-")?.parse::<u64>().ok());
        let foreign = present.filter(|number| !inserts.tried.contains(number));
        let foreign = foreign
            .map(|number| format!("{} is there, and nobody inserted it", insert_name(number)));
        let detail = format!(
            "{} items were inserted and acknowledged",
            inserts.acknowledged.len()
        );
        Check::new(
            "Every acknowledged insert is there",
            detail,
            lost.chain(foreign).collect(),
        )
    })
}

fn counters(record: &Record, items: &Items) -> Check {
    let (mut evidence, mut acknowledged, mut unknown) = (Vec::new(), 0, 0);
    for number in 0..COUNTERS {
        let name = counter_name(number);
        let held = match value_of(items.get(&name).unwrap_or(&Json::Null)) {
            Ok(held) => held.unwrap_or(0),
            Err(why) => {
                evidence.push(why);
                continue;
            }
        };
        record.with_counter(number, |counter| {
            acknowledged += counter.acknowledged;
            unknown += counter.unknown;
            let possible = counter.acknowledged..=counter.acknowledged + counter.unknown;
            if !possible.contains(&held) {
                evidence.push(format!("{name} holds {held}; possible are {possible:?}"));
            }
            if counter
                .returned
                .last()
                .is_some_and(|returned| *returned > held)
            {
                evidence.push(format!(
                    "{name} holds {held}, and once returned {:?}",
                    counter.returned.last()
                ));
            }
        });
    }
    let detail = format!(
        "{acknowledged} additions were acknowledged, {unknown} tries may or may not have been made"
    );
    Check::new("Counters hold what was added", detail, evidence)
}

async fn histories(record: &Arc<Record>) -> Check {
    let record = record.clone();
    let searched = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + SEARCH_MAX;
        let (mut evidence, mut operations, mut unknown, mut decided) = (Vec::new(), 0, 0, 0);
        for key in 0..REGISTERS {
            let history = record.history(key);
            operations += history.len();
            unknown += history
                .iter()
                .filter(|operation| operation.answered.is_none())
                .count();
            if Instant::now() >= until {
                continue;
            }
            match check(&history) {
                Ok(()) => decided += 1,
                Err(failure @ Failure::NotLinearizable { .. }) => {
                    decided += 1;
                    evidence.push(format!("register {key}: {failure}"));
                }
                Err(Failure::TooHard { states }) => {
                    evidence.push(format!(
                        "register {key}: its history of {} is too hard to decide ({states} states)",
                        history.len()
                    ));
                }
            }
        }
        if decided + evidence.len() < REGISTERS {
            evidence.push(format!(
                "only {decided} of {REGISTERS} histories were decided within {} s",
                SEARCH_MAX.as_secs()
            ));
        }
        let detail = format!(
            "{decided} keys, {operations} operations, of which {unknown} with an unknown outcome"
        );
        Check::new("Histories are linearizable", detail, evidence)
    });
    searched.await.unwrap_or_else(|error| {
        Check::new(
            "Histories are linearizable",
            String::new(),
            vec![error.to_string()],
        )
    })
}

/// Eventual scans through each zone's router read that zone's replicas.
async fn replicas(
    topology: &Topology,
    clients: &[Arc<Client>],
    table: &str,
    truth: &Items,
) -> Check {
    let until = Instant::now() + EQUAL_MAX;
    let mut rounds = 0;
    let (mut evidence, mut elsewhere);
    loop {
        rounds += 1;
        (evidence, elsewhere) = (Vec::new(), Vec::new());
        for (zone, client) in topology.zones.iter().zip(clients) {
            let before = samples::take(topology, 0).await.pages;
            match scan(client, table, false).await {
                Ok(items) => evidence.extend(difference(&zone.name, truth, &items)),
                Err(why) => evidence.push(why),
            }
            let after = samples::take(topology, 0).await.pages;
            for process in topology
                .processes
                .iter()
                .filter(|process| process.zone != zone.name)
            {
                if after.get(&process.name) > before.get(&process.name) {
                    elsewhere.push(format!("{} answered for {}", process.name, zone.name));
                }
            }
        }
        if (evidence.is_empty() && elsewhere.is_empty()) || Instant::now() >= until {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut detail = format!("{} items, read from the replicas of each zone", truth.len());
    if rounds > 1 {
        detail += &format!("; equal after {rounds} looks");
    }
    evidence.extend(elsewhere);
    Check::new("The replicas of all zones are equal", detail, evidence)
}

fn difference(zone: &str, truth: &Items, items: &Items) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = truth.keys().chain(items.keys()).collect();
    let show = |item: Option<&Json>| {
        item.map_or("nothing".to_owned(), |item| {
            format!("v = {}", item["v"]["N"])
        })
    };
    names
        .into_iter()
        .filter(|name| truth.get(*name) != items.get(*name))
        .map(|name| {
            format!(
                "{name}: {zone} holds {}, the leader {}",
                show(items.get(name)),
                show(truth.get(name))
            )
        })
        .collect()
}
