//! Layered settings: a service's defaults, then its TOML file, then the environment. Owns the layering and its errors; never knows
//! what the settings mean.

use std::path::Path;

use config::{Config, Environment, File, FileFormat};
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
    builder
        .add_source(
            Environment::with_prefix("EVENKEEL")
                .prefix_separator("_")
                .separator("__")
                .try_parsing(true)
                .list_separator(",")
                .with_list_parse_key("bus.urls")
                .source(variables),
        )
        .build()
        .and_then(Config::try_deserialize)
        .map_err(failed)
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
