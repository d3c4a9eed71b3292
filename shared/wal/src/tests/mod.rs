//! Tests of the log: against a model, with crashes at every byte and with damage.

mod crash;
mod damage;
mod faults;
mod model;
mod operation;
