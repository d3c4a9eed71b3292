//! Restores, exports and imports: jobs that the admin gives out (`protocol::jobs`) and an archiver instance works on. Owns which of them run here,
//! their progress, and their pace; keeps nothing that the admin's records don't have, so that any instance can go on with any job.

mod bucket;
mod context;
mod desk;
mod export;
mod fill;
mod import;
mod lines;
mod manifest;
mod pieces;
mod rebuilt;
mod restore;
mod scratch;
mod settings;

pub use desk::Jobs;
pub use settings::JobSettings;
