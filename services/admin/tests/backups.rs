//! Backups, restores, exports and imports in the control plane: storage nodes in memory, archiver instances that are acted.

mod world;

use model::ErrorKind;
use model::table::TableStatus;
use protocol::jobs::{Job, JobProgress, JobsReport, Outcome, Task, Work};
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

fn named(name: &str) -> Value {
    json!({ "TableName": name })
}

async fn active(world: &World, name: &str) {
    let active = async || world.status(name).await.as_deref() == Some("ACTIVE");
    world.until("active", active).await;
}

fn kind(result: Result<Value, (ErrorKind, String)>) -> ErrorKind {
    result.unwrap_err().0
}

/// An archiver that works on one job at a time.
struct Worker {
    report: JobsReport,
}

impl Worker {
    fn new(instance: u64) -> Self {
        let report = JobsReport {
            instance,
            incarnation: 1,
            jobs_max: 1,
            progress: Vec::new(),
        };
        Self { report }
    }

    /// Its only job, once it has one.
    async fn job(&mut self, world: &World) -> Job {
        let mut found = None;
        let given = async || {
            let reply = world.report_jobs(&self.report).await;
            found = reply.and_then(|reply| reply.jobs.into_iter().next());
            found.is_some()
        };
        world.until("a job is given", given).await;
        found.unwrap()
    }

    /// Says how far it is, until it is heard.
    async fn says(&mut self, world: &World, job: &Job, tasks: Vec<Task>, outcome: Option<Outcome>) {
        self.report.progress = vec![JobProgress {
            id: job.id.clone(),
            attempt: job.attempt,
            tasks,
            outcome,
            waits: String::new(),
        }];
        let heard = async || world.report_jobs(&self.report).await.is_some();
        world.until("heard", heard).await;
        self.report.progress.clear();
    }
}

#[actix::test]
async fn without_an_archiver_nothing_is_promised() {
    let world = World::new().await;
    let _admin = world.admin(1).await;
    world.call("CreateTable", music("music")).await.unwrap();
    active(&world, "music").await;
    let on = json!({"TableName": "music", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true}});
    assert_eq!(
        kind(world.call("UpdateContinuousBackups", on).await),
        ErrorKind::ContinuousBackupsUnavailable
    );
    let backup = json!({"TableName": "music", "BackupName": "first"});
    assert_eq!(
        kind(world.call("CreateBackup", backup).await),
        ErrorKind::ContinuousBackupsUnavailable
    );
    let told = world
        .call("DescribeContinuousBackups", named("music"))
        .await
        .unwrap();
    assert_eq!(
        told,
        json!({"ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "DISABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
        }})
    );
    assert_eq!(
        world
            .call("DescribeContinuousBackups", named("films"))
            .await,
        Err((ErrorKind::TableNotFound, "Table not found: films".into()))
    );
}

fn import(name: &str) -> Value {
    let mut parameters = music(name);
    parameters["TableName"] = json!(name);
    json!({
        "S3BucketSource": {"S3Bucket": "lake"},
        "InputFormat": "DYNAMODB_JSON",
        "TableCreationParameters": parameters,
        "ClientToken": "token",
    })
}

#[actix::test]
async fn a_table_is_active_once_the_job_that_fills_it_is_done() {
    let world = World::new().await;
    let _admin = world.admin(1).await;
    let made = world.call("ImportTable", import("music")).await.unwrap();
    let arn = made["ImportTableDescription"]["ImportArn"].clone();
    assert_eq!(
        made["ImportTableDescription"]["ImportStatus"],
        "IN_PROGRESS"
    );
    let again = world.call("ImportTable", import("music")).await.unwrap();
    assert_eq!(
        again["ImportTableDescription"]["ImportArn"], arn,
        "the same token"
    );
    let mut other = import("music");
    other["S3BucketSource"]["S3Bucket"] = json!("sea");
    assert_eq!(
        kind(world.call("ImportTable", other).await),
        ErrorKind::ImportConflict
    );

    let mut worker = Worker::new(7);
    let job = worker.job(&world).await;
    let Work::Import(work) = &job.work else {
        panic!("{job:?}");
    };
    assert_eq!(
        (work.bucket.as_str(), work.target.name.as_str()),
        ("lake", "music")
    );
    assert_eq!(world.status("music").await.as_deref(), Some("CREATING"));
    let taken = |status| {
        let definitions = world.definitions("music");
        definitions.len() == 4 && definitions.iter().all(|table| table.status == status)
    };
    assert!(
        taken(TableStatus::Creating),
        "partitions take what fills them only"
    );
    let first = Task {
        object: "a".into(),
        records: 3,
        items: 2,
        errors: 1,
        bytes: 70,
        ..Task::default()
    };
    worker.says(&world, &job, vec![first.clone()], None).await;
    let told = world
        .call("DescribeImport", json!({"ImportArn": arn}))
        .await
        .unwrap();
    let told = &told["ImportTableDescription"];
    assert_eq!(
        [
            &told["ProcessedItemCount"],
            &told["ImportedItemCount"],
            &told["ErrorCount"],
            &told["ProcessedSizeBytes"]
        ],
        [&json!(3), &json!(2), &json!(1), &json!(70)]
    );
    // Another instance takes over where it was.
    worker.report.jobs_max = 0;
    worker.report.incarnation = 2;
    let mut second = Worker::new(8);
    let nothing = async || {
        world
            .report_jobs(&worker.report)
            .await
            .is_some_and(|r| r.jobs.is_empty())
    };
    world
        .until("it has no job after its restart", nothing)
        .await;
    let taken_over = second.job(&world).await;
    assert_eq!(
        (taken_over.id.as_str(), taken_over.attempt),
        (job.id.as_str(), job.attempt + 1)
    );
    assert_eq!(taken_over.tasks, std::slice::from_ref(&first));
    // What the first one says now does not count.
    worker
        .says(
            &world,
            &job,
            Vec::new(),
            Some(Outcome::Done { manifest: None }),
        )
        .await;
    assert_eq!(world.status("music").await.as_deref(), Some("CREATING"));
    let done = Task {
        done: true,
        ..first
    };
    second
        .says(
            &world,
            &taken_over,
            vec![done],
            Some(Outcome::Done { manifest: None }),
        )
        .await;
    active(&world, "music").await;
    assert!(taken(TableStatus::Active));
    let told = world
        .call("DescribeImport", json!({"ImportArn": arn}))
        .await
        .unwrap();
    assert_eq!(told["ImportTableDescription"]["ImportStatus"], "COMPLETED");
    let listed = world.call("ListImports", json!({})).await.unwrap();
    assert_eq!(listed["ImportSummaryList"][0]["ImportArn"], arn);
    let missing = arn.as_str().unwrap().replace("music", "films");
    assert_eq!(
        kind(
            world
                .call("DescribeImport", json!({"ImportArn": missing}))
                .await
        ),
        ErrorKind::ImportNotFound
    );
}

#[actix::test]
async fn a_table_that_can_t_be_filled_is_dropped_and_its_import_says_why() {
    let world = World::new().await;
    let _admin = world.admin(1).await;
    let made = world.call("ImportTable", import("music")).await.unwrap();
    let mut worker = Worker::new(7);
    let job = worker.job(&world).await;
    let failed = Outcome::Failed {
        code: "S3NoSuchBucket".into(),
        message: "no such bucket".into(),
    };
    worker.says(&world, &job, Vec::new(), Some(failed)).await;
    let gone = async || world.status("music").await.is_none();
    world.until("the table is dropped", gone).await;
    let arn = &made["ImportTableDescription"]["ImportArn"];
    let told = world
        .call("DescribeImport", json!({"ImportArn": arn}))
        .await
        .unwrap();
    let told = &told["ImportTableDescription"];
    assert_eq!(
        [
            &told["ImportStatus"],
            &told["FailureCode"],
            &told["FailureMessage"]
        ],
        ["FAILED", "S3NoSuchBucket", "no such bucket"]
    );
    world.call("CreateTable", music("music")).await.unwrap();
    active(&world, "music").await;
}
