//! The control plane over storage nodes in memory.

mod world;

use model::ErrorKind;
use serde_json::{Value, json};
use world::World;

fn music(name: &str) -> Value {
    json!({
        "TableName": name,
        "AttributeDefinitions": [{"AttributeName": "artist", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    })
}

async fn active(world: &World, name: &str) {
    let active = async || world.status(name).await.as_deref() == Some("ACTIVE");
    world.until("active", active).await;
}

fn named(name: &str) -> Value {
    json!({ "TableName": name })
}

#[actix::test]
async fn an_empty_mesh_is_founded_and_tables_live_and_die() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    assert_eq!(
        world.call("ListTables", json!({})).await,
        Ok(json!({"TableNames": []}))
    );
    assert_eq!(world.replicas("evenkeel.system"), [3]);

    let made = world.call("CreateTable", music("music")).await.unwrap();
    assert_eq!(made["TableDescription"]["TableStatus"], "CREATING");
    active(&world, "music").await;
    assert_eq!(world.replicas("music"), [3, 3, 3, 3]);
    let leaders: std::collections::BTreeSet<u64> = world
        .leaders("music")
        .into_iter()
        .map(|(leader, _)| leader)
        .collect();
    assert_eq!(leaders.len(), 3, "first leaders are spread");
    let exists = world.call("CreateTable", music("music")).await;
    assert_eq!(
        exists,
        Err((
            ErrorKind::ResourceInUse,
            "Table already exists: music".into()
        ))
    );

    let arn = made["TableDescription"]["TableArn"].clone();
    let tags = json!({"ResourceArn": arn, "Tags": [{"Key": "team", "Value": "sre"}]});
    assert_eq!(world.call("TagResource", tags).await, Ok(Value::Null));
    let tags = world
        .call("ListTagsOfResource", json!({"ResourceArn": arn}))
        .await;
    assert_eq!(tags, Ok(json!({"Tags": [{"Key": "team", "Value": "sre"}]})));

    let protect = |on: bool| json!({"TableName": "music", "DeletionProtectionEnabled": on});
    let updated = world.call("UpdateTable", protect(true)).await.unwrap();
    assert_eq!(updated["TableDescription"]["TableStatus"], "UPDATING");
    active(&world, "music").await;
    assert!(
        world
            .leaders("music")
            .iter()
            .all(|&(_, version)| version == 2),
        "all were told"
    );
    let (kind, message) = world.call("DeleteTable", named("music")).await.unwrap_err();
    assert_eq!(kind, ErrorKind::Validation);
    assert!(message.contains("protected against deletion"), "{message}");
    world.call("UpdateTable", protect(false)).await.unwrap();
    active(&world, "music").await;

    let deleted = world.call("DeleteTable", named("music")).await.unwrap();
    assert_eq!(deleted["TableDescription"]["TableStatus"], "DELETING");
    let gone = world
        .call("DescribeTable", named("music"))
        .await
        .unwrap_err();
    assert_eq!(gone.0, ErrorKind::ResourceNotFound);
    assert_eq!(
        gone.1,
        "Requested resource not found: Table: music not found"
    );
    assert!(world.replicas("music").is_empty());
    assert_eq!(world.system_keys(), ["meta#counters"]);
    admin.stop().await;
}

#[actix::test]
async fn tables_are_listed_in_pages_by_name() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    for name in ["delta", "alpha", "charlie", "bravo"] {
        world.call("CreateTable", music(name)).await.unwrap();
    }
    let first = world.call("ListTables", json!({"Limit": 3})).await.unwrap();
    assert_eq!(
        first,
        json!({"TableNames": ["alpha", "bravo", "charlie"], "LastEvaluatedTableName": "charlie"})
    );
    let rest = json!({"Limit": 3, "ExclusiveStartTableName": "charlie"});
    assert_eq!(
        world.call("ListTables", rest).await,
        Ok(json!({"TableNames": ["delta"]}))
    );
    admin.stop().await;
}

#[actix::test]
async fn of_many_creations_at_once_one_wins_whichever_admin_takes_them() {
    let world = World::new().await;
    let admins = [world.admin(1).await, world.admin(2).await];
    world.call("ListTables", json!({})).await.unwrap();
    let calls = (0..16).map(|n| world.call("CreateTable", music(&format!("table{}", n % 4))));
    let results = futures::future::join_all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 4);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.0, ErrorKind::ResourceInUse, "{error:?}");
    }
    for n in 0..4 {
        let name = format!("table{n}");
        active(&world, &name).await;
        assert_eq!(world.replicas(&name), [3, 3, 3, 3]);
    }
    for admin in admins {
        admin.stop().await;
    }
}

#[actix::test]
async fn another_admin_finishes_what_one_left() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    world.call("ListTables", json!({})).await.unwrap();
    world.obey(3, false);
    world.call("CreateTable", music("music")).await.unwrap();
    assert_eq!(world.status("music").await.as_deref(), Some("CREATING"));
    let busy = world.call("DeleteTable", named("music")).await.unwrap_err();
    assert_eq!(
        busy.1,
        "Attempt to change a resource which is still in use: Table is being created: music"
    );
    admin.stop().await;
    world.obey(3, true);
    let admin = world.admin(2).await;
    active(&world, "music").await;
    assert_eq!(world.replicas("music"), [3, 3, 3, 3]);
    admin.stop().await;
}

#[actix::test]
async fn replicas_on_a_node_that_is_away_are_dropped_when_it_is_back() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    world.call("CreateTable", music("music")).await.unwrap();
    active(&world, "music").await;
    world.obey(3, false);
    world.call("DeleteTable", named("music")).await.unwrap();
    // Silence is judged by heartbeats, and none comes while we wait.
    let started = std::time::Instant::now();
    let status = async || world.call_in_silence("DescribeTable", named("music")).await;
    while status().await.is_ok() {
        assert!(
            started.elapsed().as_secs() < 60,
            "the name is never free again"
        );
    }
    assert_eq!(world.replicas("music"), [1, 1, 1, 1]);
    assert_eq!(
        world
            .system_keys()
            .iter()
            .filter(|key| key.starts_with("partition#"))
            .count(),
        4
    );
    world.obey(3, true);
    world
        .until("dropped", async || world.system_keys() == ["meta#counters"])
        .await;
    assert!(world.replicas("music").is_empty());
    admin.stop().await;
}

#[actix::test]
async fn bad_calls_get_dynamodbs_errors() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    let refused = |operation: &'static str, body: Value| {
        let world = &world;
        async move { world.call(operation, body).await.unwrap_err() }
    };
    let error = refused(
        "UpdateTable",
        json!({"TableName": "nix", "BillingMode": "PAY_PER_REQUEST"}),
    );
    let missing = "Requested resource not found: Table: nix not found".to_owned();
    assert_eq!(error.await, (ErrorKind::ResourceNotFound, missing.clone()));
    assert_eq!(
        refused("DeleteTable", named("nix")).await,
        (ErrorKind::ResourceNotFound, missing)
    );
    let (kind, _) = refused("CreateTable", json!({"TableName": 5})).await;
    assert_eq!(kind, ErrorKind::Serialization);
    let (kind, _) = refused("TransactWriteItems", json!({})).await;
    assert_eq!(kind, ErrorKind::UnknownOperation);
    let arn = "arn:aws:dynamodb:us-east-1:000000000000:table/nix";
    let (kind, _) = refused("ListTagsOfResource", json!({"ResourceArn": arn})).await;
    assert_eq!(kind, ErrorKind::ResourceNotFound);
    admin.stop().await;
}
