//! What global admission control knows of tables, for operators: asks all instances that are alive, and puts their answers together. Decides
//! nothing.

use std::time::Duration;

use futures::future::join_all;
use mesh::{Deadline, TraceContext};
use model::TableId;
use protocol::operate::{Answer, ThroughputSide, ThroughputStatus};
use protocol::subjects;
use protocol::tokens::{SideView, TableView, VIEWS_MAX, ViewReply, ViewRequest};

use crate::driver::Admin;

/// Time for one instance's answer.
const VIEW_MAX: Duration = Duration::from_secs(1);

/// Answers `Command::Throughput`.
pub(crate) async fn throughput(admin: &Admin, table: Option<&str>, after: TableId) -> Answer {
    let wanted = match table {
        None => None,
        Some(name) => match admin.table(name).await {
            Ok(Some(stored)) => Some(stored.value.definition),
            Ok(None) => return Answer::Refused(format!("there is no table '{name}'")),
            Err(error) => {
                return Answer::Refused(format!("the system table can't be had: {error}"));
            }
        },
    };
    let instances: Vec<u64> = admin.cluster.read().gac().collect();
    if instances.is_empty() {
        return Answer::Refused(
            "no GAC instance is heard: routers go on with what they have".into(),
        );
    }
    let request = ViewRequest {
        table: wanted.as_ref().map(|table| table.id),
        after,
    };
    let asked = instances.into_iter().map(|instance| {
        let request = &request;
        async move {
            let (deadline, trace) = (Deadline::after(VIEW_MAX), TraceContext::default());
            let subject = subjects::gac_view(instance);
            let asked = admin
                .mesh
                .call::<_, ViewReply>(&subject, request, deadline, &trace);
            (instance, asked.await)
        }
    });
    let mut names = admin.table_names();
    names.extend(wanted.map(|table| (table.id, table.name)));
    let mut found: Vec<(u64, TableView)> = Vec::new();
    for (instance, reply) in join_all(asked).await {
        match reply {
            Ok(reply) => {
                let tables = reply.tables.into_iter().take(VIEWS_MAX);
                found.extend(tables.map(|view| (instance, view)));
            }
            Err(error) => {
                return Answer::Refused(format!(
                    "GAC instance {instance} does not answer: {error}"
                ));
            }
        }
    }
    let (found, next) = page(found);
    let name = |table: TableId| {
        let name = names.get(&table).cloned();
        name.unwrap_or_else(|| format!("(table {})", table.0))
    };
    let status = |(instance, view): (u64, TableView)| ThroughputStatus {
        table: name(view.table),
        instance,
        routers: view.routers,
        read: side(&view.read),
        write: side(&view.write),
    };
    Answer::Throughput {
        tables: found.into_iter().map(status).collect(),
        next,
    }
}

/// What is shown of answers that were each cut at `VIEWS_MAX`, and behind which table to go on.
fn page(mut found: Vec<(u64, TableView)>) -> (Vec<(u64, TableView)>, Option<TableId>) {
    found.sort_by_key(|(instance, view)| (view.table, *instance));
    if found.len() < VIEWS_MAX {
        return (found, None);
    }
    // All of a table or nothing of it: the next page begins behind it.
    let last = found[VIEWS_MAX - 1].1.table;
    found.retain(|(_, view)| view.table <= last);
    (found, Some(last))
}

fn side(view: &SideView) -> ThroughputSide {
    ThroughputSide {
        rate_s: view.rate.as_f64(),
        demand_s: view.demand.as_f64(),
        shares_s: view.shares.as_f64(),
        saved: view.held.as_f64(),
        owed: view.debt.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(instance: u64, table: u64) -> (u64, TableView) {
        let view = TableView {
            table: TableId(table),
            routers: 1,
            read: SideView::default(),
            write: SideView::default(),
        };
        (instance, view)
    }

    #[test]
    fn pages_lose_nothing_and_repeat_nothing() {
        // Two instances with 1,500 tables each, and one table that both know.
        let all: Vec<(u64, TableView)> = (1..=1_500)
            .map(|n| view(1, 2 * n))
            .chain((1..=1_500).map(|n| view(2, 2 * n + 1)))
            .chain([view(2, 1_000)])
            .collect();
        let mut shown = Vec::new();
        let mut after = TableId(0);
        loop {
            let of = |instance: u64| {
                let mut views: Vec<_> = all
                    .iter()
                    .filter(|(i, view)| *i == instance && view.table > after)
                    .copied()
                    .collect();
                views.sort_by_key(|(_, view)| view.table);
                views.truncate(VIEWS_MAX);
                views
            };
            let (found, next) = page([of(1), of(2)].concat());
            shown.extend(found.iter().map(|(i, view)| (view.table.0, *i)));
            match next {
                Some(next) => {
                    assert!(next > after);
                    after = next;
                }
                None => break,
            }
        }
        let mut expected: Vec<(u64, u64)> =
            all.iter().map(|(i, view)| (view.table.0, *i)).collect();
        expected.sort_unstable();
        assert_eq!(shown, expected);
    }
}
