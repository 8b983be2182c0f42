//! Logs and metrics: JSON lines on standard output that can only hold allow-listed fields.
//!
//! **Invariant.** A field that is not in [`FIELDS`] is not written, whoever logs it; events of other crates than
//! ours are not written at all, since an SDK may log what it sends. A panic is reported by its place, never by its text.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sync_domain::id::{SourceId, TargetId};
use sync_domain::outcome::{Outcome, Stage};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

use crate::settings::{self, Lookup};

/// The fields that a log line may have, dotted, with the unit at the end. All hold names, ids, codes and counts.
pub const FIELDS: [&str; 26] = [
    "attempt",
    "batch.record_count",
    "change.id",
    "delay_ms",
    "duration_ms",
    "error",
    "error.code",
    "error.operation",
    "event.id",
    "failed_count",
    "http.status",
    "message",
    "message.id",
    "message.received_count",
    "model.id",
    "operation",
    "outcome",
    "place",
    "reason",
    "record.id",
    "request.id",
    "source.id",
    "stage",
    "target.id",
    "ticket.id",
    "version",
];

/// The crates whose events are written.
const OUR_CRATES: [&str; 12] = [
    "capture_pull",
    "capture_push",
    "capture_stream",
    "deliver",
    "enrich",
    "sync_aws",
    "sync_cli",
    "sync_domain",
    "sync_http",
    "sync_lambda",
    "ticket",
    "transform",
];

/// The longest text of a field, in bytes.
const MAX_FIELD: usize = 1_000;

/// Starts logging (at `LOG_LEVEL`, `info` by default) and replaces the panic hook by one that does not print the
/// panic's text, which may hold a value of a record.
pub fn init(function: &'static str, lookup: &(impl Lookup + ?Sized)) {
    let level = settings::or_default(lookup, "LOG_LEVEL", LevelFilter::INFO).unwrap_or(LevelFilter::INFO);
    // Only a second start in the same process can fail here, and then the first one's logger stays.
    let _ = tracing::subscriber::set_global_default(JsonLines { function, level, write: to_stdout });
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}

/// Writes the metrics of one batch as one line in CloudWatch's embedded metric format: the number of records, the count of
/// each outcome that occurred, the time it took. Dimensions: stage, and target if there is one.
pub fn batch_metrics(stage: Stage, target: Option<&TargetId>, outcomes: &[Outcome], took: Duration) {
    to_stdout(&metrics_line(stage, target, outcomes, took, now()));
}

/// Writes metrics of a source as one line in CloudWatch's embedded metric format. Dimensions: stage and source. The end of
/// a name tells its unit: `_ms`, `_seconds`, `_bytes`; anything else is a count.
pub fn source_metrics(stage: Stage, source: &SourceId, metrics: &[(&'static str, f64)]) {
    to_stdout(&source_line(stage, source, metrics, now()));
}

fn source_line(stage: Stage, source: &SourceId, metrics: &[(&'static str, f64)], now: Duration) -> String {
    let mut line = format!(
        r#"{{"_aws":{{"Timestamp":{},"CloudWatchMetrics":[{{"Namespace":"DataSync","Dimensions":[["stage","source"]],"Metrics":["#,
        now.as_millis()
    );
    for (index, (name, _)) in metrics.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(line, r#"{comma}{{"Name":"{name}","Unit":"{}"}}"#, unit(name));
    }
    let _ = write!(line, r#"]}}]}},"stage":"{stage}","source":"{source}""#);
    for (name, value) in metrics {
        // JSON has no infinity; a source that does not know a number leaves it out.
        let value = if value.is_finite() { *value } else { 0.0 };
        let _ = write!(line, r#","{name}":{value}"#);
    }
    line.push('}');
    line
}

fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("ms") => "Milliseconds",
        Some("seconds") => "Seconds",
        Some("bytes") => "Bytes",
        _ => "Count",
    }
}

fn metrics_line(
    stage: Stage,
    target: Option<&TargetId>,
    outcomes: &[Outcome],
    took: Duration,
    now: Duration,
) -> String {
    let mut counts: Vec<(&'static str, usize)> = vec![("records", outcomes.len())];
    for outcome in outcomes {
        let name = outcome.as_str();
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => counts.push((name, 1)),
        }
    }
    let mut line = format!(
        r#"{{"_aws":{{"Timestamp":{},"CloudWatchMetrics":[{{"Namespace":"DataSync","#,
        now.as_millis()
    );
    line.push_str(match target {
        Some(_) => r#""Dimensions":[["stage","target"]],"Metrics":["#,
        None => r#""Dimensions":[["stage"]],"Metrics":["#,
    });
    for (name, _) in &counts {
        let _ = write!(line, r#"{{"Name":"{name}","Unit":"Count"}},"#);
    }
    line.push_str(r#"{"Name":"duration_ms","Unit":"Milliseconds"}]}]},"#);
    let _ = write!(line, r#""stage":"{stage}","#);
    if let Some(target) = target {
        let _ = write!(line, r#""target":"{target}","#);
    }
    for (name, count) in &counts {
        let _ = write!(line, r#""{name}":{count},"#);
    }
    let _ = write!(line, r#""duration_ms":{}}}"#, took.as_millis());
    line
}

/// The logger: one JSON object a line. It has no spans; what a line needs to be found by stands in its fields.
struct JsonLines {
    function: &'static str,
    level: LevelFilter,
    write: fn(&str),
}

impl Subscriber for JsonLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let origin = metadata.target().split("::").next().unwrap_or_default();
        metadata.is_event() && *metadata.level() <= self.level && OUR_CRATES.contains(&origin)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::new(self.function, event.metadata(), now());
        event.record(&mut line);
        (self.write)(&line.close());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A log line in the making.
struct Line(String);

impl Line {
    fn new(function: &str, metadata: &Metadata<'_>, now: Duration) -> Self {
        let level = metadata.level();
        let module = metadata.target();
        Self(format!(
            r#"{{"timestamp_ms":{},"level":"{level}","function":"{function}","module":"{module}""#,
            now.as_millis()
        ))
    }

    fn name(&mut self, field: &Field) -> bool {
        let listed = FIELDS.contains(&field.name());
        if listed {
            let _ = write!(self.0, r#","{}":"#, field.name());
        }
        listed
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        if self.name(field) {
            let _ = write!(self.0, "{value}");
        }
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.name(field) {
            self.0.push('"');
            let _ = Quoted { out: &mut self.0, left: MAX_FIELD }.write_fmt(value);
            self.0.push('"');
        }
    }

    fn close(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }
}

/// Writes text as the inside of a JSON string, up to a length.
struct Quoted<'a> {
    out: &'a mut String,
    left: usize,
}

impl fmt::Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let Some(left) = self.left.checked_sub(character.len_utf8()) else {
                self.left = 0;
                return Ok(());
            };
            self.left = left;
            match character {
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(character);
                }
                _ if character.is_control() => write!(self.out, "\\u{:04x}", u32::from(character))?,
                _ => self.out.push(character),
            }
        }
        Ok(())
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Writes one line in one call, so that lines never mix; a closed standard output loses logs, not records.
fn to_stdout(line: &str) {
    let mut bytes = Vec::with_capacity(line.len().saturating_add(1));
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    let _ = io::stdout().lock().write_all(&bytes);
}

#[cfg(test)]
mod tests;
