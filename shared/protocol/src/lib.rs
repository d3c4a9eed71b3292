//! What the services say to each other: message bodies, one module a subject family. MessagePack maps with named fields
//! (unknown fields are ignored, missing ones defaulted). Owns shapes only; never sends anything (`mesh`), never decides.

pub mod archive;
pub mod batch;
pub mod canary;
pub mod changes;
pub mod control;
pub mod cost;
pub mod demand;
pub mod directory;
pub mod health;
pub mod item;
pub mod jobs;
pub mod operate;
pub mod propagate;
pub mod replication;
pub mod scrub;
pub mod split;
pub mod subjects;
pub mod tokens;
pub mod transact;
