//! Settings that mean the same in two services, and must agree: what does not, in words for the operator. Pure.

use protocol::health::PartitionCaps;
use protocol::tokens::TableQuota;

use crate::cluster::Cluster;
use crate::settings::SplitSettings;
use crate::throughput::Quotas;

/// What nodes and GAC instances go by that is not what this admin goes by.
pub(crate) fn disagreements(
    cluster: &Cluster,
    now_ms: u64,
    splits: &SplitSettings,
    quotas: &Quotas,
) -> Vec<String> {
    let caps = cluster.alive(now_ms).filter_map(|node| {
        let caps = node.health.caps?;
        Some((node.node.0, caps))
    });
    let caps = caps.flat_map(|(node, caps)| of_node(node, caps, splits));
    let quotas = cluster.quotas().flat_map(|told| of_gac(told, quotas));
    caps.chain(quotas).collect()
}

/// Without a cap (0) partitions are split by what the admin goes by, and nothing contradicts it.
fn of_node(node: u64, caps: PartitionCaps, splits: &SplitSettings) -> Vec<String> {
    [
        ("read", caps.read_units, splits.partition_read_units),
        ("write", caps.write_units, splits.partition_write_units),
    ]
    .into_iter()
    .filter(|&(_, has, wanted)| has != 0 && has != wanted)
    .map(|(side, has, wanted)| {
        let when = match has < wanted {
            true => "too late",
            false => "too early",
        };
        format!(
            "node {node}: storage.admission.partition_{side}_units_max is {has}, but admin.splits.partition_{side}_units is \
             {wanted}: hot partitions are split {when}"
        )
    })
    .collect()
}

fn of_gac(told: TableQuota, quotas: &Quotas) -> Vec<String> {
    [
        ("read", told.read_units, quotas.table_read_units),
        ("write", told.write_units, quotas.table_write_units),
    ]
    .into_iter()
    .filter(|&(_, has, wanted)| has != wanted)
    .map(|(side, has, wanted)| {
        let what = match has < wanted {
            true => "on-demand tables stop growing below their quota",
            false => "on-demand tables grow beyond their quota until GAC is lost",
        };
        format!(
            "GAC instance {}: gac.table_{side}_units is {has}, but admin.quotas.table_{side}_units is {wanted}: {what}",
            told.instance
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::beat;

    fn cluster(caps: Option<(u64, u64)>, quota: (u64, u64)) -> Cluster {
        let mut cluster = Cluster::default();
        let mut node = beat("storage", 3, "az1", 1);
        node.storage.as_mut().unwrap().caps = caps.map(|(read_units, write_units)| PartitionCaps {
            read_units,
            write_units,
        });
        cluster.heard(node, 0);
        cluster.heard(beat("gac", 2, "az1", 0), 0);
        cluster.told_quota(TableQuota {
            instance: 2,
            read_units: quota.0,
            write_units: quota.1,
        });
        cluster
    }

    fn said(cluster: &Cluster) -> Vec<String> {
        disagreements(cluster, 0, &SplitSettings::default(), &Quotas::default())
    }

    #[test]
    fn equal_unlimited_and_unknown_settings_are_no_trouble() {
        for caps in [None, Some((3_000, 1_000)), Some((0, 0)), Some((0, 1_000))] {
            assert!(said(&cluster(caps, (40_000, 40_000))).is_empty());
        }
    }

    #[test]
    fn each_setting_that_differs_is_named_with_both_values_and_what_follows() {
        let text = said(&cluster(Some((2_000, 5_000)), (40_000, 90_000)));
        assert_eq!(
            text,
            [
                "node 3: storage.admission.partition_read_units_max is 2000, but admin.splits.partition_read_units is 3000: hot \
                 partitions are split too late",
                "node 3: storage.admission.partition_write_units_max is 5000, but admin.splits.partition_write_units is 1000: hot \
                 partitions are split too early",
                "GAC instance 2: gac.table_write_units is 90000, but admin.quotas.table_write_units is 40000: on-demand tables grow \
                 beyond their quota until GAC is lost",
            ]
        );
    }

    #[test]
    fn who_is_gone_disagrees_no_more() {
        let mut cluster = cluster(Some((1, 1)), (1, 1));
        assert_eq!(said(&cluster).len(), 4);
        cluster.observe(60_000);
        let text = disagreements(
            &cluster,
            60_000,
            &SplitSettings::default(),
            &Quotas::default(),
        );
        assert!(text.is_empty(), "{text:?}");
        // What was never heard of is not believed.
        cluster.told_quota(TableQuota {
            instance: 9,
            read_units: 1,
            write_units: 1,
        });
        assert_eq!(cluster.quotas().count(), 0);
    }
}
