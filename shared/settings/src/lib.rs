//! Layered settings: a service's defaults, then its TOML file, then the environment. Owns the layering and its errors; never knows
//! what the settings mean.

use std::path::Path;

use config::{Config, File, FileFormat};
use serde::de::DeserializeOwned;

/// Settings could not be read.
#[derive(Debug, thiserror::Error)]
#[error("settings of {service}{from}: {reason}")]
pub struct SettingsError {
    service: String,
    from: String,
    reason: String,
}

/// Loads the settings of `service`: the type's own defaults < TOML file < environment variables `EVENKEEL_<SECTION>__<KEY>`, e.g.
/// `EVENKEEL_ROUTER__LISTEN=0.0.0.0:8000`.
///
/// # Errors
/// When the file can't be read or is not TOML, or a value does not fit; the error names file and key.
pub fn load<T: DeserializeOwned>(service: &str, file: Option<&Path>) -> Result<T, SettingsError> {
    load_from(service, file, None)
}

fn load_from<T: DeserializeOwned>(
    service: &str,
    file: Option<&Path>,
    variables: Option<config::Map<String, String>>,
) -> Result<T, SettingsError> {
    let failed = |error: config::ConfigError| SettingsError {
        service: service.to_owned(),
        from: file.map_or(String::new(), |file| format!(" ({})", file.display())),
        reason: error.to_string(),
    };
    let mut builder = Config::builder();
    if let Some(file) = file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    let variables = variables.unwrap_or_else(|| {
        // not UTF-8 = not ours; `std::env::vars` would panic at it
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    });
    for (name, value) in variables {
        let Some(key) = key_of(&name) else { continue };
        // The value stays the text that it is, and becomes a number only where a number is wanted: the password `0123` is
        // not 123.
        let value = if LISTS.contains(&key.as_str()) {
            value
                .split(',')
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .into()
        } else {
            config::Value::from(value)
        };
        builder = builder.set_override(key, value).map_err(failed)?;
    }
    builder
        .build()
        .and_then(Config::try_deserialize)
        .map_err(failed)
}

/// Settings that are lists; in a variable their elements are separated by commas.
const LISTS: [&str; 1] = ["bus.urls"];

/// `EVENKEEL_ROUTER__LISTEN` → `router.listen`; none for variables that are no settings (`EVENKEEL_LOG`).
fn key_of(variable: &str) -> Option<String> {
    let key = variable.strip_prefix("EVENKEEL_")?;
    let plain = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let sections = key.split("__").all(|section| !section.is_empty());
    (plain && sections && key.contains("__")).then(|| key.to_ascii_lowercase().replace("__", "."))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Router {
        listen: String,
        workers: usize,
        accept_any_key: bool,
        password: Option<String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Bus {
        urls: Vec<String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Settings {
        router: Router,
        bus: Bus,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn variables(pairs: &[(&str, &str)]) -> Option<config::Map<String, String>> {
        Some(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn the_environment_wins_over_the_file_over_the_defaults() {
        let file = file("[router]\nlisten = \"a:1\"\nworkers = 3\n");
        let settings: Settings = load_from(
            "router",
            Some(file.path()),
            variables(&[
                ("EVENKEEL_ROUTER__LISTEN", "b:2"),
                ("EVENKEEL_ROUTER__ACCEPT_ANY_KEY", "true"),
                ("EVENKEEL_BUS__URLS", "nats://x:1,nats://y:2"),
                ("EVENKEEL_LOG", "debug"),
            ]),
        )
        .unwrap();
        assert_eq!(settings.router.listen, "b:2");
        assert_eq!(settings.router.workers, 3);
        assert!(settings.router.accept_any_key);
        assert_eq!(settings.bus.urls, ["nats://x:1", "nats://y:2"]);
    }

    #[test]
    fn texts_that_look_like_numbers_stay_as_they_are() {
        for password in ["0123", "1e5", "true", "a,b", " x "] {
            let variables = variables(&[
                ("EVENKEEL_ROUTER__PASSWORD", password),
                ("EVENKEEL_ROUTER__WORKERS", "12"),
                ("EVENKEEL_", "x"),
                ("EVENKEEL___", "x"),
                ("EVENKEEL_ROUTER__A.B[", "x"),
            ]);
            let settings: Settings = load_from("router", None, variables).unwrap();
            assert_eq!(settings.router.password.as_deref(), Some(password));
            assert_eq!(settings.router.workers, 12);
        }
    }

    #[test]
    fn nothing_given_means_defaults() {
        let settings: Settings = load_from("router", None, variables(&[])).unwrap();
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        let file = file("[router]\nworkers = \"many\"\n");
        let error = load_from::<Settings>("router", Some(file.path()), variables(&[])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("router.workers"), "{text}");
        assert!(text.contains(file.path().to_str().unwrap()), "{text}");
        assert!(load::<Settings>("router", Some(Path::new("/does/not/exist"))).is_err());
    }
}
