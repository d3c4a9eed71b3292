//! The control plane: tables, their placement, and the orders that make it real. Owns the system table's content; never sits in the
//! path of an item request: while every admin is down, tables keep serving.

mod absent;
mod agreement;
mod api;
mod autoadmin;
mod backups;
mod catalog;
mod cluster;
mod condemn;
mod console;
mod constraints;
mod create;
mod delete;
mod driver;
mod founding;
mod healing;
mod indexes;
mod lease;
mod ledger;
mod numbers;
mod operate;
mod partitions;
mod placement;
mod records;
mod requests;
mod reservations;
mod resource_policies;
mod service;
mod settings;
mod splitting;
mod streams;
mod tagging;
mod texts;
mod throughput;
mod time_to_live;
mod update;
mod views;
mod vitality;
mod warm;

pub use console::{ConsoleSettings, Token};
pub use service::{Running, start};
pub use settings::{AdminSettings, HealingSettings, SplitSettings};
pub use throughput::Quotas;
