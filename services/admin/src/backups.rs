//! Backups, points in time, exports and imports in the control plane: what may be asked for (`request`, `transfer`), what is remembered (`records`), how it
//! is told (`describe`), which points in time a table can be restored to (`window`), how far the archive is (`archived`) and what it has to keep
//! (`policies`), and who works on what (`jobs`); all of these are pure. `operations` and `rounds` carry it out. Never touches the archive itself: archivers do.

mod archived;
pub(crate) mod arn;
mod describe;
mod jobs;
mod operations;
mod policies;
mod records;
mod request;
mod rounds;
mod texts;
mod transfer;
mod window;

pub(crate) use archived::Archived;
pub(crate) use arn::table_of_arn;
pub(crate) use describe::restore_summary;
pub(crate) use records::{Filling, JobRecord, Restored, job_key};
pub(crate) use rounds::Board;
pub(crate) use window::PointInTime;
