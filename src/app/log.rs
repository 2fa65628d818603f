//! The log: text for people or Elastic Common Schema for machines, on stderr.
//!
//! `RUST_LOG` names one level for voicebridge itself (`error`, `warn`, `info`, `debug`, `trace`). What the
//! libraries below it say is kept to warnings at every level, and the SIP parser's and the handshakes'
//! libraries say nothing at all: some of them print messages, credentials or keys, some warn of whatever a
//! stranger writes.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Starts logging; later calls change nothing.
pub(super) fn start(format: LogFormat, level: Option<&str>) {
    let level = level
        .and_then(|word| LevelFilter::from_str(word).ok())
        .unwrap_or(LevelFilter::INFO);
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("rsipstack", LevelFilter::OFF)
        .with_target("rtc_dtls", LevelFilter::OFF)
        .with_target("rtc_stun", LevelFilter::OFF)
        .with_target("voicebridge", level);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // It only fails where logging was started before.
    let _started = match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry
            .with(lines.event_format(ElasticCommonSchema))
            .try_init(),
    };
}

/// One JSON object a line: `@timestamp`, `log.level`, `message`, `log.logger`, `ecs.version`, and the
/// event's own fields under `voicebridge`.
struct ElasticCommonSchema;

impl<S, N> FormatEvent<S, N> for ElasticCommonSchema
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("@timestamp".to_owned(), wall().to_string().into());
        line.insert(
            "log.level".to_owned(),
            metadata.level().as_str().to_lowercase().into(),
        );
        line.insert("message".to_owned(), fields.message.into());
        line.insert("log.logger".to_owned(), metadata.target().into());
        line.insert("ecs.version".to_owned(), "8.11.0".into());
        line.insert("service.name".to_owned(), "voicebridge".into());
        if !fields.others.is_empty() {
            line.insert("voicebridge".to_owned(), Value::Object(fields.others));
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.insert(field.name().to_owned(), text.into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a log line tells when it was written"
)]
fn wall() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_are_elastic_common_schema_and_survive_hostile_text() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(ElasticCommonSchema)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(calls = 3, peer = "a\r\n\u{1b}[31mb", "two\nlines");
        });
        let bytes = sink.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["log.level"], "warn");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["voicebridge"]["calls"], 3);
        assert!(
            line["@timestamp"]
                .as_str()
                .unwrap()
                .parse::<Timestamp>()
                .is_ok()
        );
    }
}
