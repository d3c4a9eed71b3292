//! The manifests of an export, as Amazon writes them (developer guide, "DynamoDB table export output format"). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use protocol::jobs::{Export, ExportedFile, Task};
use serde_json::json;

/// Version of the summary's form.
const VERSION: &str = "2020-06-30";

/// The folder of an export in its bucket, with a slash at its end.
pub(crate) fn folder(export: &Export) -> String {
    let folder = format!("AWSDynamoDB/{}/", export.folder);
    match export.prefix.as_str() {
        "" => folder,
        prefix => format!("{prefix}/{folder}"),
    }
}

/// Name of a part's file: as Amazon's, letters and digits that mean nothing, but the same ones whenever the part is written again.
pub(crate) fn data_key(export: &Export, task: &Task) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut digest = Md5::new();
    digest.update(export.folder.as_bytes());
    digest.update(task.partition.0.to_be_bytes());
    digest.update(&task.range.start);
    digest.update((task.files.len() as u64).to_be_bytes());
    let name: String = digest
        .finalize()
        .iter()
        .flat_map(|byte| [byte >> 3, (byte & 7) << 2])
        .take(26)
        .map(|five| char::from(LETTERS[usize::from(five & 31)]))
        .collect();
    format!("{}data/{name}.json.gz", folder(export))
}

/// MD5 of an object's bytes: in Base64, and as the entity tag that stores give to what was put at once.
pub(crate) fn checksums(bytes: &[u8]) -> (String, String) {
    let digest = Md5::digest(bytes);
    let tag: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    (STANDARD.encode(digest), tag)
}

/// Content of `manifest-files.json`: a line for each file.
pub(crate) fn files<'a>(files: impl Iterator<Item = &'a ExportedFile>) -> String {
    let line = |file: &ExportedFile| {
        let line = json!({
            "itemCount": file.items,
            "md5Checksum": file.md5,
            "etag": file.etag,
            "dataFileS3Key": file.key,
        });
        format!("{line}\n")
    };
    files.map(line).collect()
}

/// Content of `manifest-summary.json`.
pub(crate) fn summary(export: &Export, tasks: &[Task], ended_ms: u64) -> String {
    let prefix = match export.prefix.as_str() {
        "" => serde_json::Value::Null,
        prefix => json!(prefix),
    };
    let summary = json!({
        "version": VERSION,
        "exportArn": export.arn,
        "startTime": time(export.started_ms),
        "endTime": time(ended_ms),
        "tableArn": export.table_arn,
        "tableId": export.source.uuid,
        "exportTime": time(export.source.at_ms),
        "s3Bucket": export.bucket,
        "s3Prefix": prefix,
        "s3SseAlgorithm": null,
        "s3SseKmsKeyId": null,
        "manifestFilesS3Key": format!("{}manifest-files.json", folder(export)),
        "billedSizeBytes": tasks.iter().map(|task| task.bytes).sum::<u64>(),
        "itemCount": tasks.iter().map(|task| task.items).sum::<u64>(),
        "outputFormat": "DYNAMODB_JSON",
        "exportType": "FULL_EXPORT",
    });
    summary.to_string()
}

/// `2020-11-04T07:28:34.028Z`.
fn time(ms: u64) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    // Days to a date, from 1970 on: years of 365 days and the leap days between (Howard Hinnant's civil_from_days).
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = match month_from_march {
        0..=9 => month_from_march + 3,
        _ => month_from_march - 9,
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use model::TableId;
    use paxos::GroupId;
    use protocol::jobs::Source;

    use super::*;

    fn export(prefix: &str) -> Export {
        Export {
            source: Source {
                uuid: "12345a12-abcd-123a-ab12-1234abc12345".into(),
                table: TableId(20),
                at_ms: 1_604_474_914_028,
            },
            bucket: "lake".into(),
            prefix: prefix.into(),
            folder: "01604474914028-a1b2c3d4".into(),
            arn: "arn:e".into(),
            table_arn: "arn:t".into(),
            started_ms: 1_604_474_914_028,
        }
    }

    #[test]
    fn times_are_written_as_in_the_developer_guide() {
        assert_eq!(time(1_604_474_914_028), "2020-11-04T07:28:34.028Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(time(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn the_summary_says_what_amazons_says() {
        let tasks = [
            Task {
                items: 3,
                bytes: 40,
                ..Task::default()
            },
            Task {
                items: 5,
                bytes: 60,
                ..Task::default()
            },
        ];
        let summary = summary(&export("2020-Nov"), &tasks, 1_604_475_223_897);
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(
            summary,
            json!({
                "version": "2020-06-30",
                "exportArn": "arn:e",
                "startTime": "2020-11-04T07:28:34.028Z",
                "endTime": "2020-11-04T07:33:43.897Z",
                "tableArn": "arn:t",
                "tableId": "12345a12-abcd-123a-ab12-1234abc12345",
                "exportTime": "2020-11-04T07:28:34.028Z",
                "s3Bucket": "lake",
                "s3Prefix": "2020-Nov",
                "s3SseAlgorithm": null,
                "s3SseKmsKeyId": null,
                "manifestFilesS3Key": "2020-Nov/AWSDynamoDB/01604474914028-a1b2c3d4/manifest-files.json",
                "billedSizeBytes": 100,
                "itemCount": 8,
                "outputFormat": "DYNAMODB_JSON",
                "exportType": "FULL_EXPORT",
            })
        );
    }

    #[test]
    fn each_file_has_a_line_and_a_name_of_its_own() {
        let export = export("");
        let mut task = Task {
            partition: GroupId(16),
            ..Task::default()
        };
        let first = data_key(&export, &task);
        assert_eq!(
            first,
            data_key(&export, &task),
            "the same when it is written again"
        );
        assert!(first.starts_with("AWSDynamoDB/01604474914028-a1b2c3d4/data/"));
        assert_eq!(
            first.len(),
            folder(&export).len() + "data/.json.gz".len() + 26
        );
        task.files.push(ExportedFile {
            key: first.clone(),
            items: 2,
            ..ExportedFile::default()
        });
        let second = data_key(&export, &task);
        task.partition = GroupId(17);
        let third = data_key(&export, &task);
        assert!(first != second && second != third && first != third);
        let (md5, etag) = checksums(b"");
        assert_eq!(
            (md5.as_str(), etag.as_str()),
            (
                "1B2M2Y8AsgTpgAmY7PhCfg==",
                "d41d8cd98f00b204e9800998ecf8427e"
            )
        );
        let lines = files(task.files.iter());
        let line: serde_json::Value = serde_json::from_str(lines.trim_end()).unwrap();
        assert_eq!(
            line,
            json!({"itemCount": 2, "md5Checksum": "", "etag": "", "dataFileS3Key": first})
        );
    }
}
