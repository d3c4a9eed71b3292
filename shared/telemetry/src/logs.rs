//! Structured logs on standard error: their format, the trace that a line belongs to, and levels that can be changed while the process runs.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Once, OnceLock};

use parking_lot::Mutex;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::traces;

/// Longest text of levels that is taken, bytes.
pub const LEVELS_BYTES_MAX: usize = 4_096;

static INIT: Once = Once::new();

/// Changes the filter of this process's logs.
type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static CHANGE: OnceLock<Change> = OnceLock::new();
static LEVELS: Mutex<String> = Mutex::new(String::new());

/// Sets up logging, once a process; further calls do nothing.
///
/// `EVENKEEL_LOG` sets the levels (`info`, `warn,storage=debug` …; default `info`); `EVENKEEL_LOG_FORMAT` is `json` or `text` (default:
/// text on a terminal, JSON lines otherwise).
pub fn init(service: &str) {
    init_at(service, "info,async_nats=warn,actix_server=warn");
}

/// As `init`, with other default levels.
pub fn init_at(service: &str, default_levels: &str) {
    INIT.call_once(|| {
        let given = std::env::var("EVENKEEL_LOG").unwrap_or_default();
        let (levels, filter) = match EnvFilter::try_new(&given) {
            Ok(filter) if !given.is_empty() => (given, filter),
            _ => (default_levels.to_owned(), EnvFilter::new(default_levels)),
        };
        *LEVELS.lock() = levels;
        let json = match std::env::var("EVENKEEL_LOG_FORMAT").as_deref() {
            Ok("json") => true,
            Ok("text") => false,
            _ => !std::io::stderr().is_terminal(),
        };
        let builder = tracing_subscriber::fmt().with_writer(std::io::stderr);
        // A subscriber that a test or an embedding program set earlier stays, with its levels.
        if json {
            let format = format::format().json().flatten_event(true);
            let builder = (builder.fmt_fields(JsonFields::new()))
                .event_format(WithTrace { format, json })
                .with_env_filter(filter)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                let _ = CHANGE.set(Box::new(move |filter| {
                    handle.reload(filter).map_err(|error| error.to_string())
                }));
            }
        } else {
            let format = format::format();
            let builder = builder
                .event_format(WithTrace { format, json })
                .with_env_filter(filter)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                let _ = CHANGE.set(Box::new(move |filter| {
                    handle.reload(filter).map_err(|error| error.to_string())
                }));
            }
        }
    });
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
}

/// The levels as they are.
pub fn levels() -> String {
    LEVELS.lock().clone()
}

/// Changes the levels of this process, as `EVENKEEL_LOG` would have set them.
///
/// # Errors
/// When the text is too long or says no levels, or the logs are not ours.
pub fn set_levels(levels: &str) -> Result<(), String> {
    let levels = levels.trim();
    if levels.is_empty() || levels.len() > LEVELS_BYTES_MAX {
        return Err(format!(
            "levels are 1 to {LEVELS_BYTES_MAX} bytes, e.g. info,storage=debug"
        ));
    }
    let filter = EnvFilter::try_new(levels).map_err(|error| format!("{levels:?}: {error}"))?;
    let change = CHANGE.get().ok_or("the logs are not ours to change")?;
    change(filter)?;
    let before = std::mem::replace(&mut *LEVELS.lock(), levels.to_owned());
    tracing::warn!(before, now = levels, "the levels of the logs were changed");
    Ok(())
}

/// A format that adds the trace of the request that the line is about.
struct WithTrace<F> {
    format: F,
    json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let trace = traces::current();
        if !trace.is_some() {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        (self.format).format_event(context, Writer::new(&mut line), event)?;
        let (id, span) = (trace.trace_id, trace.span_id);
        let line = line.trim_end();
        match line.strip_suffix('}').filter(|_| self.json) {
            Some(open) => writeln!(
                writer,
                r#"{open},"trace_id":"{id:032x}","span_id":"{span:016x}"}}"#
            ),
            None => writeln!(writer, "{line} trace_id={id:032x} span_id={span:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use mesh::TraceContext;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    const TRACE: TraceContext = TraceContext {
        trace_id: 0xab,
        span_id: 0xcd,
        sampled: false,
    };

    fn log() {
        tracing::info!(number = 3, "before");
        let _entered = traces::enter(TRACE);
        tracing::info!(number = 4, "within");
    }

    #[test]
    fn lines_within_a_request_name_its_trace() {
        let lines = Lines::default();
        let writer = lines.clone();
        let json = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(WithTrace {
                format: format::format().json().flatten_event(true),
                json: true,
            });
        tracing::subscriber::with_default(json.finish(), log);
        let text = lines.text();
        let parsed: Vec<serde_json::Value> = (text.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(parsed[0]["message"], "before");
        assert!(parsed[0].get("trace_id").is_none());
        assert_eq!(parsed[1]["number"], 4);
        assert_eq!(parsed[1]["trace_id"], format!("{:032x}", 0xab));
        assert_eq!(parsed[1]["span_id"], "00000000000000cd");

        let lines = Lines::default();
        let writer = lines.clone();
        let text = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(WithTrace {
                format: format::format(),
                json: false,
            });
        tracing::subscriber::with_default(text.finish(), log);
        let text = lines.text();
        let ends: Vec<bool> = (text.lines())
            .map(|line| line.ends_with("ab span_id=00000000000000cd"))
            .collect();
        assert_eq!(ends, [false, true]);
    }

    #[test]
    fn levels_that_are_none_are_refused() {
        for wrong in ["", "  ", "storage=loud", &"x".repeat(LEVELS_BYTES_MAX + 1)] {
            assert!(set_levels(wrong).is_err(), "{wrong:?}");
        }
    }
}
