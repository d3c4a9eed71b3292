//! SELECT: item collections one after another, or a scan.

use expression::partiql::Select;
use model::{ApiError, KeyRange, Units};
use protocol::item::{Page, PageReply};

use super::super::target::{Named, Target};
use super::super::{pages, usable_table_for};
use super::columns;
use super::token::{Fingerprint, Position};
use crate::answer::{Answer, write_items};
use crate::backend::{Backend, Context};
use crate::constraints::table_of;
use crate::consumed::Detail;
use crate::requests::Integer;
use crate::texts;

/// What an ExecuteStatement says besides its statement.
pub(super) struct Reading {
    pub(super) fingerprint: Fingerprint,
    pub(super) next_token: Option<String>,
    pub(super) limit: Option<Integer>,
    pub(super) strong: bool,
    pub(super) detail: Detail,
}

pub(super) async fn execute<B: Backend>(
    select: Select,
    reading: Reading,
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let table = usable_table_for(
        "PartiQLSelect",
        backend,
        table_of(&select.target.table),
        context,
    )
    .await?;
    let index = select.target.index.as_deref();
    let target = Target::of(
        table,
        (index, Named::InStatement),
        reading.strong,
        backend,
        context,
    )
    .await?;
    let access = select.access(&target.keys())?;
    if let Some(projection) = &select.projection {
        projection.check_key_paths(&target.table.keys)?;
    }
    // An index is scanned by what it has: what it lacks, its items lack.
    if let (Some(_), Some(filter)) = (&access.collections, &access.filter) {
        target.check_projected(filter)?;
    }
    let fetch = target.fetch(None, select.projection.as_ref(), None)?;
    let ranges = match access.collections {
        None => vec![target.whole()],
        Some(collections) => collections
            .into_iter()
            .map(|terms| target.range(&target.resolve(terms)?))
            .collect::<Result<_, _>>()?,
    };
    let start = match &reading.next_token {
        Some(token) => Position::of_token(token, &reading.fingerprint)?,
        None => Position::default(),
    };
    check(&start, &ranges)?;

    let mut left = Left {
        items: pages::limit(reading.limit),
        bytes: pages::PAGE_BYTES_MAX,
    };
    let mut read: Vec<PageReply> = Vec::new();
    let (mut units, mut fetched) = (Units::ZERO, Units::ZERO);
    let mut next = None;
    let mut after = start.after;
    for (number, range) in ranges.iter().enumerate().skip(start.collection as usize) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if left.is_used_up() {
            next = Some(Position {
                collection: number,
                after: None,
            });
            break;
        }
        if range.is_empty() {
            continue;
        }
        let page = Page {
            range: range.clone(),
            after: after.take(),
            reverse: access.reverse,
            strong: reading.strong,
            limit: left.items,
            bytes_max: left.bytes,
            filter: access.filter.clone(),
            projection: select.projection.clone(),
            index: target.local(),
            fetch,
            ..Page::default()
        };
        let mut reply = backend.page(&target.asked, page, context).await?;
        if let Some(projection) = &select.projection {
            for item in &mut reply.items {
                *item = columns(projection, std::mem::take(item))?;
            }
        }
        left.use_up(&reply);
        let (of_read, of_fetched) = reply.units(reading.strong);
        units = units.saturating_add(of_read);
        fetched = fetched.saturating_add(of_fetched);
        let stopped = reply.last_key.clone();
        read.push(reply);
        if stopped.is_some() {
            next = Some(Position {
                collection: number,
                after: stopped,
            });
            break;
        }
    }
    answer(&target, &read, next, (units, fetched), &reading)
}

/// What of a request's bounds is left.
struct Left {
    items: Option<u32>,
    bytes: u64,
}

impl Left {
    fn is_used_up(&self) -> bool {
        self.items == Some(0) || self.bytes == 0
    }

    fn use_up(&mut self, page: &PageReply) {
        self.bytes = self.bytes.saturating_sub(page.bytes_read);
        if let Some(items) = &mut self.items {
            *items = items.saturating_sub(u32::try_from(page.scanned_count).unwrap_or(u32::MAX));
        }
    }
}

/// A token's position must lie in what is read.
fn check(start: &Position, ranges: &[KeyRange]) -> Result<(), ApiError> {
    let range = ranges.get(start.collection as usize);
    let fits = match (&start.after, range) {
        (None, _) if start.collection == 0 => true,
        (None, Some(_)) => true,
        (Some(after), Some(range)) => range.contains(after),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(texts::bad_next_token())
    }
}

fn answer(
    target: &Target,
    read: &[PageReply],
    next: Option<Position>,
    units: (Units, Units),
    reading: &Reading,
) -> Result<Vec<u8>, ApiError> {
    let items = || read.iter().flat_map(|page| &page.items);
    let encoded: usize = items().map(|item| item.len() + 8).sum();
    let mut answer = Answer::with_capacity(encoded * 2 + 256);
    write_items(items().map(|item| &item[..]), answer.member("Items"))?;
    if let Some(next) = next {
        let token = next.to_token(&reading.fingerprint);
        model::json::write_string(&token, answer.member("NextToken"));
        if let (Some(_), Some(key)) = (
            &next.after,
            read.last().and_then(|page| page.last_key_item.as_ref()),
        ) {
            answer.item("LastEvaluatedKey", key)?;
        }
    }
    target.add_units(&mut answer, units, reading.detail);
    Ok(answer.finish())
}
