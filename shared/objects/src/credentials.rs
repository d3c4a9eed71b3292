//! Credentials from a file in the format of `~/.aws/credentials`. Owns reading it, again when it has changed: credentials are rotated while
//! services run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use parking_lot::Mutex;

/// The credentials of one section of a file.
#[derive(Debug)]
pub(crate) struct FileCredentials {
    path: PathBuf,
    profile: String,
    read: Mutex<Option<(SystemTime, Arc<AwsCredential>)>>,
}

impl FileCredentials {
    /// Reads the file once, so that a mistake in it shows at the start.
    pub(crate) fn open(path: &Path, profile: &str) -> Result<FileCredentials, String> {
        let credentials = FileCredentials {
            path: path.into(),
            profile: profile.to_owned(),
            read: Mutex::default(),
        };
        credentials.current()?;
        Ok(credentials)
    }

    fn current(&self) -> Result<Arc<AwsCredential>, String> {
        let failed =
            |error: std::io::Error| format!("credentials file {}: {error}", self.path.display());
        let modified = std::fs::metadata(&self.path).and_then(|meta| meta.modified());
        let modified = modified.map_err(failed)?;
        let mut read = self.read.lock();
        if let Some((when, credential)) = &*read
            && *when == modified
        {
            return Ok(credential.clone());
        }
        let text = std::fs::read_to_string(&self.path).map_err(failed)?;
        let credential = parse(&text, &self.profile);
        let credential =
            credential.map_err(|why| format!("credentials file {}: {why}", self.path.display()))?;
        let credential = Arc::new(credential);
        *read = Some((modified, credential.clone()));
        Ok(credential)
    }
}

#[async_trait]
impl CredentialProvider for FileCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.current().map_err(|why| object_store::Error::Generic {
            store: "S3",
            source: why.into(),
        })
    }
}

fn parse(text: &str, profile: &str) -> Result<AwsCredential, String> {
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').trim() == profile;
        } else if inside && let Some((name, value)) = line.split_once('=') {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    match (key_id, secret_key) {
        (Some(key_id), Some(secret_key)) => Ok(AwsCredential {
            key_id,
            secret_key,
            token,
        }),
        _ => Err(format!(
            "section [{profile}] must have aws_access_key_id and aws_secret_access_key"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[default]\naws_access_key_id = A\naws_secret_access_key=a=b\n\n[other]\naws_access_key_id=B\n\
        aws_secret_access_key = b\naws_session_token = t\n[half]\naws_access_key_id = C\n";

    #[test]
    fn each_section_is_its_own() {
        let first = parse(FILE, "default").unwrap();
        assert_eq!(
            (&first.key_id[..], &first.secret_key[..], first.token),
            ("A", "a=b", None)
        );
        let other = parse(FILE, "other").unwrap();
        assert_eq!(
            (&other.key_id[..], other.token.as_deref()),
            ("B", Some("t"))
        );
        assert!(parse(FILE, "half").unwrap_err().contains("[half]"));
        assert!(parse(FILE, "none").is_err());
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let write = |key: &str, age_s: u64| {
            std::fs::write(
                &path,
                format!("[default]\naws_access_key_id={key}\naws_secret_access_key=s\n"),
            )
            .unwrap();
            let when = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + age_s);
            std::fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_modified(when)
                .unwrap();
        };
        write("one", 0);
        let credentials = FileCredentials::open(&path, "default").unwrap();
        assert_eq!(credentials.current().unwrap().key_id, "one");
        write("two", 1);
        assert_eq!(credentials.current().unwrap().key_id, "two");
        std::fs::remove_file(&path).unwrap();
        let error = credentials.current().unwrap_err();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
