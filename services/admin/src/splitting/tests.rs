//! Splits from decision to end, with admins that crash anywhere.

use heat::{Advice, Obstacle};
use model::Units;
use model::table::{BillingMode, TableStatus};
use paxos::GroupId;

use super::model::{Admin, Mesh, TURN_MS};
use super::wishes::Wish;
use crate::partitions::Partitions;
use crate::records::{SplitCause, SplitPhase};
use crate::settings::SplitSettings;

const ON_DEMAND: BillingMode = BillingMode::PayPerRequest;

fn provisioned(read_units: u64, write_units: u64) -> BillingMode {
    BillingMode::Provisioned {
        read_units,
        write_units,
    }
}

fn wish(parent: GroupId) -> Wish {
    Wish {
        table: "music".into(),
        parent,
        cause: SplitCause::Operator,
        point: None,
    }
}

fn begin(mesh: &mut Mesh, parent: GroupId) {
    let point = model::key::hash_middle(&mesh.groups[&parent].info.range).unwrap();
    mesh.record_split(&wish(parent), point);
}

/// Turns until nothing is under way.
fn settle(mesh: &mut Mesh, admin: &mut Admin, turns: u32) {
    for _ in 0..turns {
        mesh.turn();
        mesh.push_to(&mut admin.partitions, 100);
        admin.go_on(mesh, usize::MAX);
        mesh.check();
        if mesh.settled() {
            return;
        }
    }
    panic!("not settled: {:?}", mesh.record.splits);
}

#[test]
fn a_split_takes_its_course() {
    let mut mesh = Mesh::new(2, ON_DEMAND, 1);
    let mut admin = Admin::new(SplitSettings::default());
    let parent = mesh.record.partitions[0];
    begin(&mut mesh, parent);
    settle(&mut mesh, &mut admin, 30);
    assert_eq!(mesh.record.partitions, [103, 104, 102].map(GroupId));
    assert!(mesh.records[&parent].dropping);
    assert_eq!(admin.courses.counts().done, 1);
}

#[test]
fn a_parent_stays_until_its_log_is_archived() {
    let mut mesh = Mesh::new(2, ON_DEMAND, 1);
    let mut admin = Admin::new(SplitSettings::default());
    let parent = mesh.record.partitions[0];
    begin(&mut mesh, parent);
    mesh.groups.get_mut(&parent).unwrap().info.unarchived = true;
    for _ in 0..60 {
        mesh.turn();
        mesh.push_to(&mut admin.partitions, 100);
        admin.go_on(&mut mesh, usize::MAX);
        mesh.check();
    }
    assert!(!mesh.settled() && mesh.groups.contains_key(&parent));
    assert_eq!(
        mesh.record.partitions,
        [103, 104, 102].map(GroupId),
        "its children serve"
    );
    mesh.groups.get_mut(&parent).unwrap().info.unarchived = false;
    settle(&mut mesh, &mut admin, 30);
    assert!(mesh.records[&parent].dropping);
}

#[test]
fn a_child_that_is_split_and_ended_before_its_parent_holds_nothing_up() {
    let mut mesh = Mesh::new(2, ON_DEMAND, 1);
    let mut admin = Admin::new(SplitSettings::default());
    let parent = mesh.record.partitions[0];
    begin(&mut mesh, parent);
    mesh.groups.get_mut(&parent).unwrap().info.unarchived = true;
    let child = GroupId(103);
    let mut begun = false;
    for _ in 0..90 {
        mesh.turn();
        mesh.push_to(&mut admin.partitions, 100);
        admin.go_on(&mut mesh, usize::MAX);
        mesh.check();
        if !begun && mesh.record.partitions.contains(&child) {
            begin(&mut mesh, child);
            begun = true;
        }
    }
    assert!(begun && !mesh.groups.contains_key(&child));
    assert!(mesh.record.split_of(parent).is_some(), "it waits");
    mesh.groups.get_mut(&parent).unwrap().info.unarchived = false;
    settle(&mut mesh, &mut admin, 30);
    assert_eq!(mesh.record.partitions.len(), 4);
    assert_eq!(mesh.groups.len(), 4);
}

#[test]
fn admins_may_crash_at_every_step_and_nothing_is_lost_or_done_twice() {
    // `acts`: how many things each admin does before the next one takes over, which knows nothing but records and pushes.
    for seed in 0..25 {
        for acts in 3..8 {
            let mut mesh = Mesh::new(2, ON_DEMAND, seed * 2 + 1);
            mesh.lossy = 3;
            for parent in mesh.record.partitions.clone() {
                begin(&mut mesh, parent);
            }
            let mut admin = Admin::new(SplitSettings::default());
            let mut turns = 0;
            while !mesh.settled() {
                turns += 1;
                assert!(turns < 1_000, "seed {seed}, {acts} acts");
                mesh.turn();
                mesh.push_to(&mut admin.partitions, 50);
                // Who has nothing to do waits, and does not crash of it.
                let left = 1 + mesh.draw(acts);
                if admin.go_on(&mut mesh, left as usize) == left as usize {
                    // It did the last thing and crashed before it knew what became of it, or just after.
                    admin = Admin::new(SplitSettings::default());
                    mesh.push_to(&mut admin.partitions, 50);
                }
            }
            assert_eq!(mesh.record.partitions.len(), 4);
            assert_eq!(mesh.groups.len(), 4);
        }
    }
}

#[test]
fn two_admins_that_both_believe_to_be_active_do_no_harm() {
    for seed in 0..25 {
        let mut mesh = Mesh::new(1, ON_DEMAND, seed * 2 + 1);
        mesh.lossy = 4;
        let parent = mesh.record.partitions[0];
        begin(&mut mesh, parent);
        let new = || Admin::new(SplitSettings::default());
        let mut admins = [new(), new()];
        let mut turns = 0;
        while !mesh.settled() {
            turns += 1;
            assert!(turns < 1_000, "seed {seed}");
            mesh.turn();
            for admin in &mut admins {
                mesh.push_to(&mut admin.partitions, 60);
                let acts = mesh.draw(3);
                admin.go_on(&mut mesh, acts as usize);
            }
        }
        assert_eq!(mesh.record.partitions.len(), 2);
    }
}

#[test]
fn a_split_without_progress_is_given_up_and_tried_anew_with_other_numbers() {
    for seed in 0..15 {
        let settings = SplitSettings {
            abandon_after_ms: 10_000,
            ..SplitSettings::default()
        };
        let mut mesh = Mesh::new(1, ON_DEMAND, seed * 2 + 1);
        mesh.lossy = 2;
        let parent = mesh.record.partitions[0];
        begin(&mut mesh, parent);
        mesh.groups.get_mut(&parent).unwrap().stuck = true;
        let mut admin = Admin::new(settings);
        let mut turns = 0;
        while !mesh.record.splits.is_empty() {
            turns += 1;
            assert!(turns < 2_000);
            mesh.turn();
            mesh.push_to(&mut admin.partitions, 50);
            admin.go_on(&mut mesh, usize::MAX);
        }
        assert!(turns as u64 * TURN_MS >= 10_000);
        assert_eq!(mesh.record.partitions, [parent]);
        assert_eq!(admin.courses.counts().abandoned, 1);
        mesh.groups.get_mut(&parent).unwrap().stuck = false;
        begin(&mut mesh, parent);
        mesh.lossy = 0;
        settle(&mut mesh, &mut admin, 100);
        assert_eq!(mesh.record.partitions, [104, 105].map(GroupId));
    }
}

#[test]
fn a_split_that_a_leader_is_at_and_nobody_recorded_is_taken_on() {
    let mut mesh = Mesh::new(1, ON_DEMAND, 1);
    let mut admin = Admin::new(SplitSettings::default());
    let parent = mesh.record.partitions[0];
    begin(&mut mesh, parent);
    mesh.push_to(&mut admin.partitions, 100);
    assert_eq!(admin.go_on(&mut mesh, 1), 1, "ordered");
    // As if the order had come late, after the split was given up.
    mesh.record.splits.clear();
    let mut next = Admin::new(SplitSettings::default());
    settle(&mut mesh, &mut next, 100);
    assert_eq!(mesh.record.partitions, [102, 103].map(GroupId));
}

#[test]
fn a_tables_end_stops_its_splits() {
    let mut mesh = Mesh::new(1, ON_DEMAND, 1);
    let mut admin = Admin::new(SplitSettings::default());
    let parent = mesh.record.partitions[0];
    begin(&mut mesh, parent);
    mesh.record.definition.status = TableStatus::Deleting;
    mesh.turn();
    mesh.push_to(&mut admin.partitions, 100);
    assert_eq!(admin.go_on(&mut mesh, usize::MAX), 0);
    assert_eq!(
        mesh.record.all_partitions(),
        [parent, GroupId(102), GroupId(103)]
    );
    // A change does not.
    mesh.record.definition.status = TableStatus::Updating;
    settle(&mut mesh, &mut admin, 30);
}

// What should be split

/// Lets the planner have its way for so many turns.
fn grow(mesh: &mut Mesh, admin: &mut Admin, turns: u32) {
    for _ in 0..turns {
        mesh.turn();
        mesh.push_to(&mut admin.partitions, 100);
        for (wish, point) in admin.wish(mesh) {
            mesh.record_split(&wish, point);
        }
        admin.go_on(mesh, usize::MAX);
        mesh.check();
        let open = mesh.record.splits.iter();
        let open = open.filter(|s| s.phase != SplitPhase::Settled).count();
        assert!(open <= admin.settings.splits_max);
        assert!(
            open <= admin.settings.splits_per_node_max,
            "one group of nodes"
        );
    }
}

#[test]
fn large_partitions_are_split_until_none_is_too_large() {
    let mut mesh = Mesh::new(1, ON_DEMAND, 1);
    let parent = mesh.record.partitions[0];
    let info = &mut mesh.groups.get_mut(&parent).unwrap().info;
    (info.bytes, info.items) = (7_000, 700);
    let mut admin = Admin::new(SplitSettings {
        split_bytes: 1_000,
        ..SplitSettings::default()
    });
    grow(&mut mesh, &mut admin, 300);
    assert!(mesh.settled());
    assert_eq!(mesh.record.partitions.len(), 8, "875 bytes each");
}

#[test]
fn a_table_gets_the_partitions_that_its_throughput_needs() {
    let mut mesh = Mesh::new(1, provisioned(10, 10), 1);
    let mut admin = Admin::new(SplitSettings::default());
    grow(&mut mesh, &mut admin, 20);
    assert_eq!(mesh.record.partitions.len(), 1);
    mesh.record.definition.billing = provisioned(10, 4_100);
    grow(&mut mesh, &mut admin, 300);
    assert!(mesh.settled());
    assert_eq!(mesh.record.partitions.len(), 5);
    let widths = mesh
        .groups
        .values()
        .map(|g| model::key::hash_width(&g.info.range));
    assert!(widths.max().unwrap() <= 1 << 62, "a quarter at most");
    // It never shrinks.
    mesh.record.definition.billing = provisioned(1, 1);
    grow(&mut mesh, &mut admin, 20);
    assert_eq!(mesh.record.partitions.len(), 5);
    mesh.record.definition.billing = ON_DEMAND;
    admin.on_demand_partitions = 7;
    grow(&mut mesh, &mut admin, 100);
    assert_eq!(mesh.record.partitions.len(), 7);
}

/// Says what the only partition consumes, and where its leader would split it.
fn heat(mesh: &mut Mesh, write_units: u64, advice: Advice) {
    for group in mesh.groups.values_mut() {
        group.info.write_units_s = Units::new(write_units);
        group.info.advice = Some(advice.clone());
    }
}

#[test]
fn a_partition_is_split_for_consumption_once_it_was_hot_for_long() {
    let mut mesh = Mesh::new(1, ON_DEMAND, 1);
    let parent = mesh.record.partitions[0];
    let point = model::key::hash_middle(&mesh.groups[&parent].info.range).unwrap();
    let mut admin = Admin::new(SplitSettings::default());
    let turns = u32::try_from(admin.settings.sustained_ms / TURN_MS).unwrap();
    heat(&mut mesh, 690, Advice::At(point.clone()));
    grow(&mut mesh, &mut admin, 2 * turns);
    assert_eq!(mesh.record.partitions.len(), 1, "below the threshold");
    heat(&mut mesh, 710, Advice::At(point.clone()));
    grow(&mut mesh, &mut admin, turns - 1);
    heat(&mut mesh, 500, Advice::At(point.clone()));
    grow(&mut mesh, &mut admin, 1);
    heat(&mut mesh, 710, Advice::At(point.clone()));
    grow(&mut mesh, &mut admin, turns - 1);
    assert!(mesh.record.splits.is_empty(), "it cooled down in between");
    heat(&mut mesh, 600, Advice::At(point.clone()));
    grow(&mut mesh, &mut admin, 1);
    heat(&mut mesh, 710, Advice::At(point));
    grow(&mut mesh, &mut admin, 3);
    assert!(!mesh.record.splits.is_empty(), "it hardly did");
    assert_eq!(mesh.record.splits[0].cause, SplitCause::Consumption);
}

#[test]
fn a_hot_item_is_left_alone_and_the_operator_is_told_why() {
    let mut mesh = Mesh::new(1, ON_DEMAND, 1);
    let parent = mesh.record.partitions[0];
    let mut admin = Admin::new(SplitSettings::default());
    heat(&mut mesh, 1_000, Advice::Nowhere(Obstacle::SingleItem));
    grow(&mut mesh, &mut admin, 500);
    assert_eq!(mesh.record.partitions.len(), 1);
    assert_eq!(
        admin.wishes.words(parent),
        Some("hot, but a single item has most of the consumption")
    );
    assert_eq!(admin.wishes.waiting(), 1);
}

#[test]
fn what_is_refused_counts_as_heat() {
    let mut mesh = Mesh::new(1, ON_DEMAND, 1);
    let group = mesh.groups.values_mut().next().unwrap();
    group.info.refused_units_s = Units::new(20);
    group.info.read_units_s = Units::new(100);
    let mut partitions = Partitions::default();
    mesh.push_to(&mut partitions, 100);
    let (_, seen) = partitions.iter().next().unwrap();
    let settings = SplitSettings::default();
    assert_eq!(super::wishes::heat_permille(seen, &settings), 1_000);
}

#[test]
fn what_could_not_be_split_is_tried_again_less_and_less_often() {
    let mut mesh = Mesh::new(1, ON_DEMAND, 1);
    let parent = mesh.record.partitions[0];
    mesh.groups.get_mut(&parent).unwrap().info.bytes = 1 << 40;
    let mut admin = Admin::new(SplitSettings::default());
    let mut tries = Vec::new();
    for _ in 0..4_000 {
        mesh.turn();
        mesh.push_to(&mut admin.partitions, 100);
        if !admin.wish(&mesh).is_empty() {
            tries.push(mesh.now_ms);
            let tables = [mesh.record.clone()];
            let view = super::SplitView {
                now_ms: mesh.now_ms,
                tables: &tables,
                partitions: &admin.partitions,
                settings: &admin.settings,
                on_demand_partitions: 1,
                partitions_max: 64,
            };
            admin.wishes.failed(parent, "no middle", &view);
        }
    }
    let waits: Vec<u64> = tries.windows(2).map(|t| t[1] - t[0]).collect();
    assert_eq!(&waits[..4], [2_000, 4_000, 8_000, 16_000]);
    assert_eq!(admin.wishes.words(parent), Some("tried in vain: no middle"));
}
