//! Changing a document in place: finding where a path ends, and removing. Computes no values.

use model::{ApiError, AttributeValue, Item};

use crate::path::{Path, Step};
use crate::texts;

/// Where a path ends.
pub(super) enum Place<'i, 'p> {
    Entry(&'i mut Item, &'p str),
    Element(&'i mut Vec<AttributeValue>, usize),
}

/// The map or list that `path` ends in, which must exist.
pub(super) fn place<'i, 'p>(item: &'i mut Item, path: &'p Path) -> Result<Place<'i, 'p>, ApiError> {
    let invalid = || ApiError::validation(texts::INVALID_UPDATE_PATH);
    let steps = path.steps();
    let [Step::Name(head), middle @ .., last] = steps else {
        return match steps {
            [Step::Name(name)] => Ok(Place::Entry(item, name)),
            _ => Err(invalid()),
        };
    };
    let mut value = item.get_mut(head).ok_or_else(invalid)?;
    for step in middle {
        value = match (value, step) {
            (AttributeValue::M(map), Step::Name(name)) => map.get_mut(name),
            (AttributeValue::L(list), Step::Index(index)) => list.get_mut(*index as usize),
            _ => None,
        }
        .ok_or_else(invalid)?;
    }
    match (value, last) {
        (AttributeValue::M(map), Step::Name(name)) => Ok(Place::Entry(map, name)),
        (AttributeValue::L(list), Step::Index(index)) => Ok(Place::Element(list, *index as usize)),
        _ => Err(invalid()),
    }
}

/// Removes what the paths name, where it exists. Indexes mean what they mean before anything is removed: so the deepest go first, and
/// the elements of one list together (which also keeps the work linear, however many there are).
pub(super) fn remove_all(item: &mut Item, mut paths: Vec<&Path>) -> Result<(), ApiError> {
    paths.sort_unstable_by(|one, two| {
        two.steps()
            .len()
            .cmp(&one.steps().len())
            .then_with(|| one.cmp(two))
    });
    let together = |one: &&Path, two: &&Path| match (one.steps(), two.steps()) {
        ([one @ .., Step::Name(_)], [two @ .., Step::Name(_)])
        | ([one @ .., Step::Index(_)], [two @ .., Step::Index(_)]) => one == two,
        _ => false,
    };
    for group in paths.chunk_by(together) {
        let Some(first) = group.first() else { continue };
        let lasts = group.iter().filter_map(|path| path.steps().last());
        match place(item, first)? {
            Place::Entry(map, _) => {
                for last in lasts {
                    if let Step::Name(name) = last {
                        map.remove(name);
                    }
                }
            }
            Place::Element(list, _) => {
                let mut removed = lasts
                    .filter_map(|last| match last {
                        Step::Index(index) => Some(*index as usize),
                        Step::Name(_) => None,
                    })
                    .peekable();
                let mut index = 0;
                list.retain(|_| {
                    let keep = removed.next_if_eq(&index).is_none();
                    index += 1;
                    keep
                });
            }
        }
    }
    Ok(())
}

/// Whether more than `limit` lists and maps lie inside each other. Looks no deeper than that.
pub(super) fn is_deeper(value: &AttributeValue, limit: usize) -> bool {
    match (value, limit) {
        (AttributeValue::M(_) | AttributeValue::L(_), 0) => true,
        (AttributeValue::M(map), _) => map.values().any(|value| is_deeper(value, limit - 1)),
        (AttributeValue::L(list), _) => list.iter().any(|value| is_deeper(value, limit - 1)),
        _ => false,
    }
}
