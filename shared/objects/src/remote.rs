//! Folders and S3-compatible services, through the `object_store` crate. Owns the connection and the meaning of its errors; its types stay in here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Certificate, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions,
    RetryConfig,
};

use crate::credentials::FileCredentials;
use crate::error::Reason;
use crate::settings::ArchiveSettings;
use crate::store::{Listed, Put, PutMode, Store};

/// A connection.
#[derive(Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    /// Before each key; ends with `/` or is empty.
    prefix: String,
}

impl Remote {
    /// Connects to what the settings name. Does not speak to it yet; a folder is made.
    pub(crate) fn connect(settings: &ArchiveSettings) -> Result<Remote, String> {
        let (scheme, place) = settings.url.split_once("://").unwrap_or_default();
        if scheme == "file" {
            return Self::folder(place);
        }
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(format!("archive.url {:?} names no bucket", settings.url));
        }
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Remote {
            store: Arc::new(s3(settings, bucket)?),
            prefix,
        })
    }

    fn folder(path: &str) -> Result<Remote, String> {
        let failed = |error: String| format!("archive folder {path}: {error}");
        if !path.starts_with('/') {
            return Err(failed("it must be an absolute path, file:///…".to_owned()));
        }
        std::fs::create_dir_all(path).map_err(|error| failed(error.to_string()))?;
        let store =
            LocalFileSystem::new_with_prefix(path).map_err(|error| failed(error.to_string()))?;
        Ok(Remote {
            // An object that is said to be written must survive a power cut.
            store: Arc::new(store.with_fsync(true)),
            prefix: String::new(),
        })
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    fn key(&self, path: &Path) -> Option<String> {
        path.as_ref().strip_prefix(&self.prefix).map(str::to_owned)
    }
}

fn s3(settings: &ArchiveSettings, bucket: &str) -> Result<object_store::aws::AmazonS3, String> {
    // The first one who comes sets it; all of ours are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = ClientOptions::new()
        .with_timeout(Duration::from_millis(settings.timeout_ms))
        .with_connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .with_allow_http(settings.endpoint.starts_with("http://"));
    if !settings.ca_file.as_os_str().is_empty() {
        let file = settings.ca_file.display();
        let pem = std::fs::read(&settings.ca_file)
            .map_err(|error| format!("archive.ca_file {file}: {error}"))?;
        let certificates = Certificate::from_pem_bundle(&pem);
        let certificates =
            certificates.map_err(|error| format!("archive.ca_file {file}: {error}"))?;
        if certificates.is_empty() {
            return Err(format!("archive.ca_file {file} holds no certificate"));
        }
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(options)
        // Attempts are counted in one place, for all kinds of stores: `Objects`.
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        });
    if !settings.endpoint.is_empty() {
        builder = builder.with_endpoint(&settings.endpoint);
    }
    if settings.credentials_file.as_os_str().is_empty() {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // Without them the machine's role is asked for.
        if let (Some(id), Some(secret)) = (
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
        ) {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret);
            if let Some(token) = variable("AWS_SESSION_TOKEN") {
                builder = builder.with_token(token);
            }
        }
    } else {
        let file =
            FileCredentials::open(&settings.credentials_file, &settings.credentials_profile)?;
        builder = builder.with_credentials(Arc::new(file));
    }
    builder.build().map_err(|error| error.to_string())
}

fn reason(error: Error) -> Reason {
    match error {
        Error::NotFound { .. } => Reason::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Reason::Denied(error.to_string())
        }
        // 5xx, connections, full disks; what cannot be told from them is tried again a few times.
        Error::Generic { .. } | Error::JoinError { .. } => Reason::Unavailable(error.to_string()),
        error => Reason::Rejected(error.to_string()),
    }
}

#[async_trait]
impl Store for Remote {
    async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, Reason> {
        let found = self.store.get(&self.path(key)).await.map_err(reason)?;
        let bytes = found.meta.size;
        if bytes > bytes_max {
            return Err(Reason::TooLarge(bytes_max));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or(0));
        let mut stream = found.into_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(reason)?;
            if (body.len() + piece.len()) as u64 > bytes_max {
                return Err(Reason::TooLarge(bytes_max));
            }
            body.extend_from_slice(&piece);
        }
        match body.len() as u64 == bytes {
            true => Ok(body.freeze()),
            false => Err(Reason::Unavailable(format!(
                "{} of {bytes} bytes came",
                body.len()
            ))),
        }
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Reason> {
        let mode = match mode {
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Replace => object_store::PutMode::Overwrite,
        };
        let put = self
            .store
            .put_opts(&self.path(key), body.into(), PutOptions::from(mode))
            .await;
        match put {
            Ok(_) => Ok(Put::Written),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Exists),
            Err(Error::NotFound { source, .. }) => Err(Reason::Rejected(format!(
                "no such bucket or folder: {source}"
            ))),
            Err(error) => Err(reason(error)),
        }
    }

    async fn list(&self, folder: &str, max: usize) -> Result<Vec<Listed>, Reason> {
        let mut stream = self.store.list(Some(&self.path(folder)));
        let mut listed = Vec::new();
        while let Some(meta) = stream.next().await {
            let ObjectMeta {
                location,
                last_modified,
                size,
                ..
            } = meta.map_err(reason)?;
            let Some(key) = self.key(&location) else {
                continue;
            };
            if listed.len() == max {
                return Err(Reason::TooLarge(max as u64));
            }
            listed.push(Listed {
                key,
                bytes: size,
                modified_ms: u64::try_from(last_modified.timestamp_millis()).unwrap_or(0),
            });
        }
        listed.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(listed)
    }

    async fn folders(&self, folder: &str, max: usize) -> Result<Vec<String>, Reason> {
        let found = self
            .store
            .list_with_delimiter(Some(&self.path(folder)))
            .await;
        let found = found.map_err(reason)?.common_prefixes;
        if found.len() > max {
            return Err(Reason::TooLarge(max as u64));
        }
        let keys = found.iter().filter_map(|path| self.key(path));
        let mut folders: Vec<String> = keys.map(|key| format!("{key}/")).collect();
        folders.sort();
        Ok(folders)
    }

    async fn delete(&self, key: &str) -> Result<(), Reason> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(reason(error)),
        }
    }
}
