//! `evenkeel ctl log-level`: shows and changes the levels of running processes' logs, at the health address that each tells of itself. Owns who is meant;
//! what levels are is the processes' business.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use mesh::Mesh;
use protocol::health::Heartbeat;
use protocol::subjects;
use serde::Serialize;
use tokio::sync::mpsc;

use super::table::{Side, table};

/// Every process says once a second that it is there.
const LISTEN: Duration = Duration::from_millis(2_500);
/// Time for one process's answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Processes that are listened to at most.
const HEARD_MAX: usize = 10_000;
/// Heartbeats that wait to be looked at.
const BEATS_QUEUED_MAX: usize = 1_024;
/// Characters of an answer that are shown.
const SHOWN_MAX: usize = 4_096;

/// Which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All.
    All,
    /// Of one service, or one instance of it.
    Service(String, Option<u64>),
}

impl Whom {
    fn is(&self, service: &str, instance: u64) -> bool {
        match self {
            Self::All => true,
            Self::Service(name, one) => {
                name == service && one.is_none_or(|number| number == instance)
            }
        }
    }
}

/// `all`, `router`, `storage-2`: reads whom an operator means.
pub fn whom(text: &str) -> Result<Whom, String> {
    let wrong = || format!("'{text}' is not all, SERVICE or SERVICE-NUMBER, e.g. storage-2");
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
    match text.split_once('-') {
        None if text == "all" => Ok(Whom::All),
        None if is_name(text) => Ok(Whom::Service(text.to_owned(), None)),
        Some((name, number)) if is_name(name) => {
            let number = number.parse().map_err(|_| wrong())?;
            Ok(Whom::Service(name.to_owned(), Some(number)))
        }
        _ => Err(wrong()),
    }
}

/// What became of one process.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Level {
    service: String,
    instance: u64,
    zone: String,
    /// Its health address.
    http: String,
    /// Its levels now; none: they could not be had.
    levels: Option<String>,
    /// Why not, or why they were not changed.
    error: Option<String>,
}

impl Level {
    /// Whether it is as it was to be.
    pub fn is_done(&self) -> bool {
        self.error.is_none()
    }
}

/// As people read it.
pub fn text(all: &[Level]) -> String {
    let columns = [
        ("SERVICE", Side::Left),
        ("INSTANCE", Side::Right),
        ("ZONE", Side::Left),
        ("HEALTH", Side::Left),
        ("LEVELS", Side::Left),
    ];
    let rows = all.iter().map(|level| {
        let levels = level.levels.clone().unwrap_or_default();
        let said = match &level.error {
            None => levels,
            Some(error) => format!("{levels} ✖ {error}").trim().to_owned(),
        };
        vec![
            level.service.clone(),
            level.instance.to_string(),
            level.zone.clone(),
            level.http.clone(),
            said,
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

/// Asks those who are meant, by service and number; changes their levels first, if some are given. Empty: nobody that is meant was heard.
///
/// # Errors
/// When the bus fails.
pub async fn levels(mesh: &Mesh, whom: &Whom, wanted: Option<&str>) -> anyhow::Result<Vec<Level>> {
    let meant = heard(mesh, whom).await?;
    // The first one in the process stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).build()?;
    let asked = meant
        .into_iter()
        .map(|beat| ask(&client, beat, wanted.map(str::to_owned)));
    Ok(join_all(asked).await)
}

async fn heard(mesh: &Mesh, whom: &Whom) -> anyhow::Result<Vec<Heartbeat>> {
    let (sender, mut beats) = mpsc::channel(BEATS_QUEUED_MAX);
    let whom = whom.clone();
    let listening = mesh
        .serve(subjects::HEALTH, None, move |delivery| {
            // One that finds no room comes again within a second.
            if let Ok(beat) = delivery.decode::<Heartbeat>()
                && whom.is(&beat.service, beat.instance)
            {
                let _ = sender.try_send(beat);
            }
        })
        .await?;
    let (until, mut all) = (tokio::time::Instant::now() + LISTEN, BTreeMap::new());
    while let Ok(Some(beat)) = tokio::time::timeout_at(until, beats.recv()).await {
        let name = (beat.service.clone(), beat.instance);
        if all.len() < HEARD_MAX || all.contains_key(&name) {
            all.insert(name, beat);
        }
    }
    drop(listening);
    Ok(all.into_values().collect())
}

async fn ask(client: &reqwest::Client, beat: Heartbeat, wanted: Option<String>) -> Level {
    let mut level = Level {
        service: beat.service,
        instance: beat.instance,
        zone: beat.zone,
        http: beat.http,
        levels: None,
        error: None,
    };
    if level.http.is_empty() {
        level.error = Some("it has no health address".to_owned());
        return level;
    }
    let url = format!("http://{}/log", level.http);
    if let Some(wanted) = wanted {
        match answer(client.put(&url).body(wanted)).await {
            Ok(now) => level.levels = Some(now),
            Err(why) => level.error = Some(why),
        }
    }
    if level.levels.is_none() {
        match answer(client.get(&url)).await {
            Ok(now) => level.levels = Some(now),
            Err(why) => level.error = level.error.or(Some(why)),
        }
    }
    level
}

async fn answer(request: reqwest::RequestBuilder) -> Result<String, String> {
    let response = request.send().await.map_err(|error| error.to_string())?;
    let good = response.status().is_success();
    let text = response.text().await.map_err(|error| error.to_string())?;
    let text: String = text.trim().chars().take(SHOWN_MAX).collect();
    match good {
        true => Ok(text),
        false => Err(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_an_operator_means_is_read() {
        assert_eq!(whom("all"), Ok(Whom::All));
        let router = whom("router").unwrap();
        assert!(router.is("router", 7) && !router.is("storage", 7));
        let node = whom("storage-2").unwrap();
        assert!(node.is("storage", 2) && !node.is("storage", 3) && !node.is("router", 2));
        for wrong in ["", "storage-", "storage-x", "-2", "Storage", "storage/2"] {
            assert!(whom(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_process_that_does_not_answer_is_told_as_such() {
        let level = |instance, levels: Option<&str>, error: Option<&str>| Level {
            service: "storage".to_owned(),
            instance,
            zone: "az1".to_owned(),
            http: "127.0.0.1:8011".to_owned(),
            levels: levels.map(str::to_owned),
            error: error.map(str::to_owned),
        };
        let all = [
            level(1, Some("info"), None),
            level(2, None, Some("no answer")),
        ];
        assert!(all[0].is_done() && !all[1].is_done());
        let text = text(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].ends_with("127.0.0.1:8011  info"), "{text}");
        assert!(lines[2].ends_with("✖ no answer"), "{text}");
    }
}
