//! What an operator has to look at: said once in the log, and with every heartbeat until it is over. Owns the list.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Alarms kept, and told with a heartbeat.
const ALARMS_MAX: usize = 256;

/// The alarms that are on.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    on: Mutex<BTreeMap<String, String>>,
}

impl Alarms {
    /// Something is wrong. `what` names it, so that it is said once, and can be taken back.
    pub(crate) fn raise(&self, what: String, text: String) {
        let mut on = self.on.lock();
        if on.len() >= ALARMS_MAX && !on.contains_key(&what) {
            return;
        }
        if on.insert(what, text.clone()).is_none() {
            drop(on);
            tracing::error!("{text}");
        }
    }

    /// It is over.
    pub(crate) fn clear(&self, what: &str) {
        if let Some(text) = self.on.lock().remove(what) {
            tracing::info!("no longer: {text}");
        }
    }

    /// All that are on.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.on.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_on_until_it_is_cleared_and_there_is_a_bound() {
        let alarms = Alarms::default();
        alarms.raise("a".into(), "first".into());
        alarms.raise("a".into(), "again".into());
        assert_eq!(alarms.texts(), ["again"]);
        for n in 0..2 * ALARMS_MAX {
            alarms.raise(format!("n{n}"), "x".into());
        }
        assert_eq!(alarms.texts().len(), ALARMS_MAX);
        alarms.clear("a");
        alarms.clear("unknown");
        assert_eq!(alarms.texts().len(), ALARMS_MAX - 1);
    }
}
