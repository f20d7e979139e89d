//! Logs: text or JSON through tracing, with redaction as the second net.

mod redact;

pub use redact::{Redactor, looks_secret};

use std::{
    io::{self, IsTerminal, Write},
    panic::PanicHookInfo,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::{metrics::Metrics, watcher::SCHEDULER};

/// Dependencies that write what they send and receive, secrets included: no filter makes them talk.
const SILENT: &str = "vaultrs=off,rustify=off";

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// For people or for machines.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,credd::watcher=debug`. `CREDD_LOG` overrides.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One line for a person.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::default(), level: "info".into() }
    }
}

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a filter.
    #[error(
        "the log level is not a level or filter: use `error`, `warn`, `info`, `debug`, or \"info,credd::watcher=debug\""
    )]
    Level,
    /// Set up before.
    #[error("logs are already set up in this process")]
    Twice,
}

/// Running logs.
#[derive(Clone, Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    pinned: bool,
    /// Masks secrets in every line; register those that are known.
    pub redactor: Redactor,
}

impl Telemetry {
    /// Follows a reloaded `[log] level`; one given on the command line or by `CREDD_LOG` stays.
    pub fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        if self.pinned {
            return Ok(());
        }
        self.filter.reload(parse(level)?).map_err(|_| TelemetryError::Level)
    }
}

/// Begins to log to standard error. `level`, where given, wins over the settings for good (`--log-level`, `CREDD_LOG`).
pub fn init(settings: &Settings, level: Option<&str>) -> Result<Telemetry, TelemetryError> {
    let (subscriber, telemetry) = assemble(settings, level, io::stderr, io::stderr().is_terminal())?;
    subscriber.try_init().map_err(|_| TelemetryError::Twice)?;
    Ok(telemetry)
}

/// The same for any writer.
fn assemble<W: for<'a> MakeWriter<'a> + Send + Sync + 'static>(
    settings: &Settings,
    level: Option<&str>,
    writer: W,
    colours: bool,
) -> Result<(Box<dyn Subscriber + Send + Sync>, Telemetry), TelemetryError> {
    let redactor = Redactor::default();
    let (filter, handle) = reload::Layer::new(parse(level.unwrap_or(&settings.level))?);
    let writer = Redacted { writer, redactor: redactor.clone() };
    let registry = tracing_subscriber::registry().with(filter);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match settings.format {
        // A log that takes no line stops nothing (FM-42): the layer would complain on standard error, which is that very
        // log, and panic there.
        Format::Text => {
            Box::new(registry.with(fmt::layer().log_internal_errors(false).with_writer(writer).with_ansi(colours)))
        }
        Format::Json => Box::new(
            registry.with(fmt::layer().log_internal_errors(false).json().flatten_event(true).with_writer(writer)),
        ),
    };
    Ok((subscriber, Telemetry { filter: handle, pinned: level.is_some(), redactor }))
}

/// Whether this is a level or a filter. A bare word that is no level would be taken for a module, and silence the rest.
pub fn is_filter(level: &str) -> bool {
    parse(level).is_ok()
}

fn parse(level: &str) -> Result<EnvFilter, TelemetryError> {
    let bare = |word: &&str| !word.contains(['=', '[']);
    let mut words = level.split(',').map(str::trim).filter(bare);
    if level.trim().is_empty() || words.any(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(TelemetryError::Level);
    }
    EnvFilter::try_new(format!("{SCHEDULER}=warn,{level},{SILENT}")).map_err(|_| TelemetryError::Level)
}

/// Masks each line on its way out, whatever wrote it: message, field, span, dependency.
struct Redacted<W> {
    writer: W,
    redactor: Redactor,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Redacted<W> {
    type Writer = Line<W::Writer>;
    fn make_writer(&'a self) -> Self::Writer {
        Line { writer: self.writer.make_writer(), redactor: self.redactor.clone() }
    }
}

struct Line<W> {
    writer: W,
    redactor: Redactor,
}

impl<W: Write> Write for Line<W> {
    /// tracing hands over each event as one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let masked = self.redactor.mask_bytes(line);
        match masked.strip_suffix(b"\n") {
            // A line break inside would let a message forge the next line.
            Some(inner) if inner.contains(&b'\n') => {
                let mut one: Vec<u8> = inner.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\\n"[..]);
                one.push(b'\n');
                self.writer.write_all(&one)?;
            }
            _ => self.writer.write_all(&masked)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Panics are logged by place and thread. What they say may hold anything, so it is left out.
pub fn install_panic_hook(metrics: Metrics) {
    std::panic::set_hook(Box::new(move |info| {
        let (place, component) = place_of(info);
        metrics.credd_panics_total.with_label_values(&[component.as_str()]).inc();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        tracing::error!(place, component, thread, "a task panicked; this is a bug in credd, please report the place");
    }));
}

fn place_of(info: &PanicHookInfo<'_>) -> (String, String) {
    let Some(location) = info.location() else { return ("unknown".into(), "unknown".into()) };
    let place = format!("{}:{}:{}", location.file(), location.line(), location.column());
    // One of our own modules, or everything else: labels stay few.
    let ours = location.file().strip_prefix("src/").and_then(|rest| rest.split(['/', '.']).next());
    (place, ours.unwrap_or("dependency").to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::credential::Secret;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, colours: bool, work: impl FnOnce(&Telemetry)) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let settings = Settings { format, level: "trace".into() };
        let (subscriber, telemetry) = assemble(&settings, None, move || writer.clone(), colours).unwrap();
        tracing::subscriber::with_default(subscriber, || work(&telemetry));
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "it is printed")]
    struct Reply {
        refresh_token: &'static str,
        status: u16,
    }

    #[test]
    fn t22_no_canary_reaches_a_line() {
        for (format, colours) in [(Format::Text, false), (Format::Text, true), (Format::Json, false)] {
            let lines = logged(format, colours, |telemetry| {
                telemetry.redactor.register(&Secret::new("canary one \"quoted\""));
                telemetry.redactor.register(&Secret::new("CANARY-registered-2"));
                let span = tracing::info_span!("call", access_token = "canary3");
                let _inside = span.enter();
                tracing::info!("message with CANARY-registered-2 inside");
                tracing::warn!(field = "xxCANARY-registered-2yy", other = 5, "field");
                tracing::warn!(text = "canary one \"quoted\"", "escaped");
                tracing::info!(reply = ?Reply { refresh_token: "canary4 canary", status: 401 }, "debug");
                tracing::info!(body = r#"{"client_secret":"canary5 canary","a":1}"#, "json in a field");
                tracing::info!(header = "authorization: Bearer canary6.canary", "header");
                tracing::info!("https://user:canary7@host/path?access_token=canary8&state=9");
                tracing::info!(password = "canary9", "secret field");
            });
            assert!(!lines.to_lowercase().contains("canary"), "{format:?} {colours}: {lines}");
            for kept in ["message with", "escaped", "401", "state=9", "status"] {
                assert!(lines.contains(kept), "{format:?} lost {kept}: {lines}");
            }
            assert_eq!(lines.lines().count(), 8, "{lines}");
        }
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        let lines = logged(Format::Text, false, |_| tracing::info!("one\n2026-01-01 ERROR forged"));
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }

    #[test]
    fn json_lines_stay_json() {
        let lines = logged(
            Format::Json,
            false,
            |_| tracing::info!(credential = "github-bot", reply = ?Reply { refresh_token: "a\"b", status: 1 }, "x"),
        );
        let line: serde_json::Value = serde_json::from_str(&lines).expect(&lines);
        assert_eq!(line["credential"], "github-bot");
    }

    #[test]
    fn the_level_follows_the_settings_unless_it_was_given() {
        let sink = Sink::default();
        let writer = sink.clone();
        let settings = Settings { format: Format::Text, level: "warn".into() };
        let (subscriber, telemetry) = assemble(&settings, None, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("first");
            telemetry.set_level("info").unwrap();
            tracing::info!("second");
            for bad in ["credd=nonsense", "verbose", "", "info,verbose"] {
                assert!(telemetry.set_level(bad).is_err(), "{bad}");
            }
            for good in ["off", "WARN", "info,credd::watcher=debug", "warn,sqlx=error,[call{a=1}]=trace"] {
                assert!(is_filter(good), "{good}");
            }
        });
        let lines = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(!lines.contains("first") && lines.contains("second"), "{lines}");
        let (subscriber, telemetry) = assemble(&settings, Some("error"), io::sink, false).unwrap();
        telemetry.set_level("debug").unwrap();
        tracing::subscriber::with_default(subscriber, || assert!(!tracing::enabled!(tracing::Level::WARN)));
    }

    #[test]
    fn t22_dependencies_that_write_what_they_send_stay_silent_whatever_the_filter_says() {
        let sink = Sink::default();
        let writer = sink.clone();
        let settings = Settings { format: Format::Text, level: "trace,rustify=trace,vaultrs=debug".into() };
        let (subscriber, _) = assemble(&settings, None, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "rustify::client", "first");
            tracing::error!(target: "vaultrs::api", "second");
            tracing::info!(target: SCHEDULER, "third");
            tracing::trace!("fourth");
        });
        let lines = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(lines.contains("fourth") && lines.lines().count() == 1, "{lines}");
    }

    #[test]
    fn t22_a_panic_says_where_and_not_what() {
        let metrics = Metrics::new();
        let lines = logged(Format::Text, false, |_| {
            let before = std::panic::take_hook();
            install_panic_hook(metrics.clone());
            let _ = std::panic::catch_unwind(|| panic!("canary {}", 7));
            std::panic::set_hook(before);
        });
        assert!(lines.contains("src/telemetry.rs") && !lines.contains("canary"), "{lines}");
        assert_eq!(metrics.credd_panics_total.with_label_values(&["telemetry"]).get(), 1);
    }
}
