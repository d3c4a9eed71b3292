//! What is wrong with a scenario, before anything is sent. Pure.

use std::collections::BTreeSet;

use super::{CONNECTIONS_MAX, Scenario};
use crate::open_loop::items::{ITEM_BYTES_MAX, ITEM_BYTES_MIN};
use crate::open_loop::keys::ITEMS_MAX;
use crate::open_loop::numbers;

/// A run's length at most, seconds: a day.
const SECONDS_MAX: f64 = 86_400.0;
/// Tables, phases, streams, faults, metrics or promises of a scenario at most.
const PARTS_MAX: usize = 64;

impl Scenario {
    /// An error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.check_names()?;
        self.check_numbers()?;
        for fault in &self.faults {
            let Some(phase) = self.phases.iter().find(|phase| phase.name == fault.phase) else {
                return Err(format!(
                    "the fault \"{}\" names no phase: \"{}\"",
                    fault.name, fault.phase
                ));
            };
            if !(0.0..phase.seconds).contains(&fault.at_s) {
                return Err(format!(
                    "the fault \"{}\" is not within its phase",
                    fault.name
                ));
            }
            if fault
                .every_s
                .is_some_and(|every| !(0.1..=SECONDS_MAX).contains(&every))
                || !(0.0..=SECONDS_MAX).contains(&fault.lasts_s)
                || !(0.1..=SECONDS_MAX).contains(&fault.timeout_s)
            {
                return Err(format!(
                    "the fault \"{}\" has times out of range",
                    fault.name
                ));
            }
        }
        for promise in &self.promises {
            let known = promise.holds.judge(&numbers::NamesOnly(self));
            known.map_err(|error| format!("the promise \"{}\": {error}", promise.holds))?;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), String> {
        let plain = |name: &str| {
            !name.is_empty()
                && name.len() <= 40
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if self.name.is_empty()
            || !self
                .name
                .replace('-', "")
                .chars()
                .all(|c| c.is_ascii_alphanumeric())
        {
            return Err("the name of a scenario is made of letters, digits and dashes".into());
        }
        let mut taken: BTreeSet<&str> = ["reads", "writes"].into();
        let names = (self.phases.iter().map(|phase| &phase.name))
            .chain(self.streams.iter().map(|stream| &stream.name))
            .chain(self.metrics.iter().map(|metric| &metric.name));
        for name in names {
            if !plain(name) {
                return Err(format!(
                    "\"{name}\": names are made of letters, digits and underscores, at most 40"
                ));
            }
            if !taken.insert(name) {
                return Err(format!("the name \"{name}\" is taken already"));
            }
        }
        let mut tables = BTreeSet::new();
        for table in &self.tables {
            let valid = !table.name.is_empty()
                && table.name.len() <= 60
                && table
                    .name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
            if !valid || !tables.insert(&table.name) {
                return Err(format!(
                    "the table name \"{}\" is not valid or there twice",
                    table.name
                ));
            }
        }
        for stream in &self.streams {
            if !tables.contains(&stream.table) {
                return Err(format!(
                    "the stream \"{}\" names no table: \"{}\"",
                    stream.name, stream.table
                ));
            }
            for phase in stream.rate.keys() {
                if !self.phases.iter().any(|known| known.name == *phase) {
                    return Err(format!(
                        "the stream \"{}\" has a rate for no phase: \"{phase}\"",
                        stream.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), String> {
        for (what, count, least) in [
            ("table", self.tables.len(), 1),
            ("phase", self.phases.len(), 1),
            ("stream", self.streams.len(), 1),
            ("fault", self.faults.len(), 0),
            ("metric", self.metrics.len(), 0),
            ("promise", self.promises.len(), 0),
        ] {
            if !(least..=PARTS_MAX).contains(&count) {
                return Err(format!(
                    "{count} of [[{what}]]: there must be {least} to {PARTS_MAX}"
                ));
            }
        }
        if !(1..=4).contains(&self.mesh.routers) {
            return Err("a mesh has 1 to 4 routers".into());
        }
        for phase in &self.phases {
            if !(0.1..=SECONDS_MAX).contains(&phase.seconds) {
                return Err(format!(
                    "the phase \"{}\" must last 0.1 to {SECONDS_MAX} s",
                    phase.name
                ));
            }
        }
        if self.length().as_secs_f64() > SECONDS_MAX {
            return Err(format!("a run lasts at most {SECONDS_MAX} s"));
        }
        for table in &self.tables {
            let name = &table.name;
            if !(1..=ITEMS_MAX).contains(&table.items) {
                return Err(format!("table {name}: items must be 1 to {ITEMS_MAX}"));
            }
            if !(ITEM_BYTES_MIN..=ITEM_BYTES_MAX).contains(&table.item_bytes) {
                return Err(format!(
                    "table {name}: item_bytes must be {ITEM_BYTES_MIN} to {ITEM_BYTES_MAX}"
                ));
            }
            let provisioned = table.read_units.is_some();
            if provisioned != table.write_units.is_some() {
                return Err(format!(
                    "table {name}: read_units and write_units go together"
                ));
            }
            if table.load_write_units.is_some() && !provisioned {
                return Err(format!(
                    "table {name}: load_write_units is for provisioned tables"
                ));
            }
            if (table.read_units_max.is_some() || table.write_units_max.is_some()) && provisioned {
                return Err(format!(
                    "table {name}: read_units_max and write_units_max are for on-demand tables"
                ));
            }
        }
        for stream in &self.streams {
            let name = &stream.name;
            if !(1..=CONNECTIONS_MAX).contains(&stream.connections) {
                return Err(format!(
                    "stream {name}: connections must be 1 to {CONNECTIONS_MAX}"
                ));
            }
            if !(1..=60_000).contains(&stream.timeout_ms) || stream.try_timeout_ms == Some(0) {
                return Err(format!("stream {name}: timeout_ms must be 1 to 60,000"));
            }
            if !(1..=10).contains(&stream.tries) {
                return Err(format!("stream {name}: tries must be 1 to 10"));
            }
        }
        Ok(())
    }
}
