//! The protocol's rules, one by one, on replicas that run on a network and disks under the test's control.

mod catch_up;
mod cluster;
mod election;
mod lease;
mod membership;
mod replication;
