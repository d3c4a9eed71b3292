//! The parts of a restore or export: one for each partition that the table had at the time.

use archive::TableUuid;
use archive::lineage::Moment;
use objects::{ArchiveReader, ArchivedTable};
use protocol::jobs::{Source, Task};

use crate::context::Stop;

/// The source's name in the archive.
pub(crate) fn uuid_of(source: &Source) -> Result<TableUuid, Stop> {
    let wrong = || {
        Stop::failed(
            "ArchiveIncomplete",
            format!("'{}' is no UUID of a table", source.uuid),
        )
    };
    TableUuid::parse(&source.uuid).ok_or_else(wrong)
}

/// The parts, none of them begun.
pub(crate) async fn plan(reader: &ArchiveReader, source: &Source) -> Result<Vec<Task>, Stop> {
    let table = ArchivedTable::read(reader, &uuid_of(source)?).await?;
    let pieces = table.pieces(Moment::Time(source.at_ms))?;
    let task = |piece: archive::lineage::Piece| Task {
        partition: piece.partition,
        range: piece.range,
        ..Task::default()
    };
    Ok(pieces.into_iter().map(task).collect())
}
