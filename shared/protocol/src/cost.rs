//! What item requests cost in capacity units, by what is asked and what is answered: the one place for both lines of admission. The rules themselves
//! are `model::capacity`'s.

use model::capacity::{self, Direction};
use model::codec::encoded_item_size;
use model::index::FIRST_GLOBAL;
use model::{IndexId, Units};

use crate::item::{ItemFault, ItemOperation, ItemReply, PageReply, WriteAction};
use crate::transact::Transact;

impl ItemOperation {
    /// What it costs at least: the smallest read, the size that is sent to be written.
    pub fn surely(&self) -> (Direction, Units) {
        match self {
            Self::Get(get) => (Direction::Read, capacity::read_units(0, get.strong)),
            Self::Page(page) => (Direction::Read, capacity::read_units(0, page.strong)),
            Self::Propagate(propagate) => {
                let bytes = propagate.entries.iter().map(|entry| match &entry.item {
                    Some(item) => encoded_item_size(item).unwrap_or(0),
                    None => 0,
                });
                (Direction::Write, bytes.map(capacity::write_units).sum())
            }
            // Streams have limits of their own.
            Self::Changes(_) => (Direction::Read, Units::ZERO),
            Self::Write(write) => {
                let bytes = match &write.action {
                    // A malformed item is refused when it is evaluated.
                    WriteAction::Put(item) | WriteAction::Fill(item) => {
                        encoded_item_size(item).unwrap_or(0)
                    }
                    WriteAction::Delete
                    | WriteAction::Check
                    | WriteAction::Expire { .. }
                    | WriteAction::Update { .. } => 0,
                };
                (Direction::Write, capacity::write_units(bytes))
            }
            // Two units for one: a write is prepared and committed (charged at once), a read is read twice.
            Self::Transact(transact) => match &**transact {
                Transact::Prepare { write, .. } => {
                    let bytes = match &write.action {
                        WriteAction::Put(item) => encoded_item_size(item).unwrap_or(0),
                        _ => 0,
                    };
                    (
                        Direction::Write,
                        capacity::transactional(capacity::write_units(bytes)),
                    )
                }
                Transact::Commit(_) | Transact::Cancel(_) => (Direction::Write, Units::ZERO),
                Transact::Read { .. } => (Direction::Read, capacity::read_units(0, true)),
            },
        }
    }

    /// Whether it reads strongly; a write reads nothing that is charged.
    pub fn strong(&self) -> bool {
        match self {
            Self::Get(get) => get.strong,
            Self::Page(page) => page.strong,
            Self::Changes(_) => true,
            Self::Write(_) | Self::Propagate(_) => false,
            Self::Transact(transact) => matches!(**transact, Transact::Read { .. }),
        }
    }
}

impl ItemReply {
    /// What the request cost whose answer this is; `sure` is what it cost at least, `strong` whether it read strongly.
    pub fn cost(&self, sure: Units, strong: bool) -> Units {
        match self {
            Self::Item { size_bytes, .. } => capacity::read_units(*size_bytes, strong),
            Self::Page(page) => page.units(strong).0.saturating_add(page.units(strong).1),
            Self::Changes(_) => Units::ZERO,
            Self::Written {
                old_size_bytes,
                new_size_bytes,
                indexes,
                ..
            } => capacity::write_units(*old_size_bytes.max(new_size_bytes))
                .saturating_add(local_units(indexes)),
            Self::Prepared {
                old_size_bytes,
                new_size_bytes,
                ..
            } => {
                capacity::transactional(capacity::write_units(*old_size_bytes.max(new_size_bytes)))
            }
            Self::Versioned { size_bytes, .. } => capacity::read_units(*size_bytes, true),
            // As the write would have cost: what was to be written, or what is there, whichever is larger.
            Self::Fault(ItemFault::ConditionFailed { size_bytes, .. }) => {
                sure.max(capacity::write_units(*size_bytes))
            }
            // What may have been executed is charged.
            Self::Fault(ItemFault::Unknown) => sure,
            Self::Fault(_) => Units::ZERO,
        }
    }
}

impl PageReply {
    /// What the page cost: for what it read, and for what it fetched from the table of an index.
    pub fn units(&self, strong: bool) -> (Units, Units) {
        let block = if strong { Units::ONE } else { Units::HALF };
        (
            capacity::read_units(self.bytes_read, strong),
            block.saturating_mul(self.fetched_blocks),
        )
    }
}

/// What a write cost in local indexes: they share the table's throughput.
pub fn local_units(indexes: &[(IndexId, Units)]) -> Units {
    let local = indexes.iter().filter(|(id, _)| id.0 < FIRST_GLOBAL);
    local.map(|(_, units)| *units).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_follow_the_answers() {
        let item = |size_bytes| ItemReply::Item {
            item: None,
            size_bytes,
        };
        let cost = |reply: ItemReply, strong| reply.cost(Units::ONE, strong);
        assert_eq!(cost(item(4097), true), Units::new(2));
        assert_eq!(cost(item(0), false), Units::HALF);
        let written = |old_size_bytes, new_size_bytes| ItemReply::Written {
            attributes: None,
            old_size_bytes,
            new_size_bytes,
            indexes: Vec::new(),
            collection_bytes: None,
        };
        assert_eq!(cost(written(1025, 10), false), Units::new(2));
        assert_eq!(cost(written(10, 2049), false), Units::new(3));
        assert_eq!(cost(written(0, 0), false), Units::ONE);
        let page = ItemReply::Page(PageReply {
            bytes_read: 8193,
            ..PageReply::default()
        });
        assert_eq!(cost(page, false), Units::from_thousandths(1500));
    }

    #[test]
    fn failed_conditions_cost_what_the_write_would_have() {
        let failed = |size_bytes| {
            ItemReply::Fault(ItemFault::ConditionFailed {
                item: None,
                size_bytes,
            })
        };
        let sure = capacity::write_units(3_000);
        assert_eq!(failed(10).cost(sure, false), Units::new(3));
        assert_eq!(failed(5_000).cost(sure, false), Units::new(5));
        let nothing = ItemReply::Fault(ItemFault::NotReady);
        assert_eq!(nothing.cost(sure, false), Units::ZERO);
        let unknown = ItemReply::Fault(ItemFault::Unknown);
        assert_eq!(unknown.cost(sure, false), sure);
    }
}
