//! Buckets of exports and imports, in the object store that the archive lies in: `s3://` buckets as they are, folders of `<archive>/buckets/` for
//! `file://`. Owns the way from a name to a connection.

use std::path::Path;

use objects::{ArchiveSettings, Listed, ObjectError, Objects, Reason};

use crate::context::Stop;

/// Objects below this of a `file://` archive are buckets.
const BUCKETS: &str = "buckets";

/// Connects to a bucket; it must be there.
pub(crate) fn open(settings: &ArchiveSettings, bucket: &str) -> Result<Objects, Stop> {
    let url = match settings.url.strip_prefix("file://") {
        None => format!("s3://{bucket}"),
        Some(root) => {
            let folder = Path::new(root).join(BUCKETS).join(bucket);
            if !folder.is_dir() {
                let folder = folder.display();
                return Err(no_bucket(format!(
                    "The specified bucket does not exist: {folder} is no folder"
                )));
            }
            format!("file://{}", folder.display())
        }
    };
    let settings = ArchiveSettings {
        url,
        ..settings.clone()
    };
    Objects::connect(&settings).map_err(no_bucket)
}

fn no_bucket(why: String) -> Stop {
    Stop::failed("S3NoSuchBucket", why)
}

/// The failure of an operation on a bucket's object.
pub(crate) fn failure(error: ObjectError) -> Stop {
    if error.is_transient() {
        return Stop::Later(error.to_string());
    }
    let code = match &error.reason {
        Reason::Denied(_) => "AccessDenied",
        Reason::NotFound => "S3NoSuchKey",
        Reason::TooLarge(_) => "ObjectTooLarge",
        Reason::Rejected(_) => "S3NoSuchBucket",
        Reason::TimedOut(_) | Reason::Unavailable(_) => "S3Unavailable",
    };
    Stop::failed(code, error)
}

/// All objects whose names begin with `prefix`, by name, but no markers of folders.
pub(crate) async fn list(objects: &Objects, prefix: &str) -> Result<Vec<Listed>, Stop> {
    let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    let mut listed = objects.list(folder).await.map_err(failure)?;
    listed.retain(|object| object.key.starts_with(prefix) && !object.key.ends_with('/'));
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use objects::PutMode;

    use super::*;

    fn settings(root: &Path) -> ArchiveSettings {
        ArchiveSettings {
            url: format!("file://{}", root.display()),
            ..ArchiveSettings::default()
        }
    }

    #[tokio::test]
    async fn a_bucket_is_a_folder_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        let missing = open(&settings, "lake").unwrap_err();
        assert!(matches!(
            missing,
            Stop::Failed {
                code: "S3NoSuchBucket",
                ..
            }
        ));
        std::fs::create_dir_all(root.path().join("buckets/lake")).unwrap();
        let objects = open(&settings, "lake").unwrap();
        for key in ["in/a.json", "in/ab.json", "in/b/c.json", "other"] {
            objects.put(key, "x".into(), PutMode::Create).await.unwrap();
        }
        let names = async |prefix: &str| {
            let listed = list(&objects, prefix).await.unwrap();
            listed
                .into_iter()
                .map(|object| object.key)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("in/a").await, ["in/a.json", "in/ab.json"]);
        assert_eq!(names("in/").await.len(), 3);
        assert_eq!(names("").await.len(), 4);
        assert!(names("nothing/").await.is_empty());
    }
}
