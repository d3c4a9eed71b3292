//! Every instance of every service, as heartbeats show them. Pure: time is an input.

use std::collections::BTreeMap;

use protocol::health::Heartbeat;
use serde::Serialize;

/// An instance that was silent for so long is told as silent, milliseconds.
const SILENT_MS: u64 = 3_500;
/// One that was silent for so long is forgotten: half an hour, so that a loss stays in sight.
const FORGET_MS: u64 = 1_800_000;
/// Instances kept at most.
const INSTANCES_MAX: usize = 10_000;

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Instance {
    pub(super) service: String,
    pub(super) instance: u64,
    pub(super) zone: String,
    /// Address of its health endpoints.
    pub(super) http: String,
    pub(super) version: String,
    /// `ready`, `starting`, `draining` or `silent`.
    pub(super) state: &'static str,
    pub(super) silent_ms: u64,
}

#[derive(Debug)]
struct Heard {
    beat: Heartbeat,
    heard_ms: u64,
}

/// Who is there.
#[derive(Debug, Default)]
pub(super) struct Roster {
    heard: BTreeMap<(String, u64), Heard>,
}

impl Roster {
    /// Takes in a heartbeat.
    pub(super) fn heard(&mut self, beat: &Heartbeat, now_ms: u64) {
        let key = (beat.service.clone(), beat.instance);
        if self.heard.len() >= INSTANCES_MAX && !self.heard.contains_key(&key) {
            return;
        }
        let beat = Heartbeat {
            storage: None,
            archive: None,
            troubles: Vec::new(),
            ..beat.clone()
        };
        let heard_ms = now_ms;
        self.heard.insert(key, Heard { beat, heard_ms });
    }

    /// All instances; one that said good-bye is gone once it is silent.
    pub(super) fn all(&mut self, now_ms: u64) -> Vec<Instance> {
        self.heard.retain(|_, heard| {
            let silent_ms = now_ms.saturating_sub(heard.heard_ms);
            silent_ms < SILENT_MS || (silent_ms < FORGET_MS && !heard.beat.draining)
        });
        let instance = |heard: &Heard| {
            let silent_ms = now_ms.saturating_sub(heard.heard_ms);
            let beat = &heard.beat;
            Instance {
                service: beat.service.clone(),
                instance: beat.instance,
                zone: beat.zone.clone(),
                http: beat.http.clone(),
                version: beat.version.clone(),
                state: match () {
                    () if silent_ms >= SILENT_MS => "silent",
                    () if beat.draining => "draining",
                    () if beat.ready => "ready",
                    () => "starting",
                },
                silent_ms,
            }
        };
        self.heard.values().map(instance).collect()
    }

    /// Instances of a service that are not silent.
    pub(super) fn alive(&self, service: &str, now_ms: u64) -> Vec<u64> {
        let alive = self.heard.iter().filter(|((name, _), heard)| {
            name == service && now_ms.saturating_sub(heard.heard_ms) < SILENT_MS
        });
        alive.map(|((_, instance), _)| *instance).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dies_stays_in_sight_and_who_leaves_does_not() {
        let mut roster = Roster::default();
        let beat = |instance, draining: bool| Heartbeat {
            service: "router".into(),
            instance,
            zone: "az1".into(),
            ready: !draining,
            draining,
            ..Heartbeat::default()
        };
        roster.heard(&beat(1, false), 0);
        roster.heard(&beat(2, true), 0);
        let states = |roster: &mut Roster, now_ms| {
            let all = roster.all(now_ms);
            all.iter()
                .map(|i| (i.instance, i.state))
                .collect::<Vec<_>>()
        };
        assert_eq!(states(&mut roster, 1_000), [(1, "ready"), (2, "draining")]);
        assert_eq!(roster.alive("router", 1_000), [1, 2]);
        assert_eq!(states(&mut roster, SILENT_MS), [(1, "silent")]);
        assert!(roster.alive("router", SILENT_MS).is_empty());
        assert!(states(&mut roster, FORGET_MS).is_empty());
    }
}
