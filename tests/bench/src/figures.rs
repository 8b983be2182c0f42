//! The figures, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

/// What a figure counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Nanoseconds,
    Milliseconds,
    Megabytes,
    PerSecond,
    Count,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::PerSecond => "1/s",
            Self::Count => "count",
        }
    }
}

#[derive(Debug, Clone)]
struct Figure {
    value: f64,
    unit: Unit,
    floor: Option<f64>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.value / floor)
    }
}

/// All figures by name.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<String, Figure>);

/// What a figure, or its ratio where it has a floor, must be.
#[derive(Debug, Clone, Copy)]
enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

impl Budget {
    /// As `docs/PERFORMANCE.md` has them.
    fn of(name: &str) -> Option<Self> {
        let family = name.split('.').next().unwrap_or(name);
        match family {
            "start" | "binary" => Some(Self::AtMost(10.0)),
            "memory" | "log_pull_memory" => Some(Self::AtMost(16.0)),
            "kms_calls" => Some(Self::AtMost(1.0)),
            "transform" => Some(Self::AtMost(0.75)),
            "log_pull" => Some(Self::AtLeast(0.9)),
            "deliver" | "deliver_10ms" => Some(Self::AtLeast(0.7)),
            _ => None,
        }
    }

    fn verdict(self, value: f64) -> String {
        let (sign, bound, holds) = match self {
            Self::AtMost(bound) => ('≤', bound, value <= bound),
            Self::AtLeast(bound) => ('≥', bound, value >= bound),
        };
        format!("{sign} {bound} {}", if holds { "holds" } else { "does not hold" })
    }
}

impl Figures {
    /// Adds a figure.
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: Unit) {
        self.0.insert(name.to_owned(), Figure { value, unit, floor: None });
    }

    /// Adds a figure with what it is compared with.
    pub(crate) fn against(&mut self, name: &str, value: f64, floor: f64, unit: Unit) {
        self.0.insert(name.to_owned(), Figure { value, unit, floor: Some(floor) });
    }

    /// Counts on.
    #[expect(clippy::cast_precision_loss, reason = "nobody calls that often")]
    pub(crate) fn count(&mut self, name: &str, count: u64) {
        let figure = Figure { value: 0.0, unit: Unit::Count, floor: None };
        self.0.entry(name.to_owned()).or_insert(figure).value += count as f64;
    }

    /// The flat map from name to figure.
    pub(crate) fn json(&self) -> String {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        let figures: Map<String, Value> = self
            .0
            .iter()
            .map(|(name, figure)| {
                let mut value = json!({ "value": rounded(figure.value), "unit": figure.unit.name() });
                if let (Some(floor), Some(ratio), Some(value)) =
                    (figure.floor, figure.ratio(), value.as_object_mut())
                {
                    value.insert("floor".to_owned(), rounded(floor).into());
                    value.insert("ratio".to_owned(), rounded(ratio).into());
                }
                (name.clone(), value)
            })
            .collect();
        format!("{:#}\n", Value::Object(figures))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>10} {:<6} {:>8} {:>6}  budget", "figure", "value", "unit", "floor", "ratio")?;
        for (name, figure) in &self.0 {
            let decimals = if matches!(figure.unit, Unit::Milliseconds | Unit::Megabytes) { 2 } else { 0 };
            let value = if name == "kms_calls" {
                format!("{:.1}", figure.value)
            } else {
                format!("{:.decimals$}", figure.value)
            };
            let floor = figure.floor.map(|floor| format!("{floor:.0}")).unwrap_or_default();
            let ratio = figure.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let verdict =
                Budget::of(name).map(|budget| budget.verdict(figure.ratio().unwrap_or(figure.value)));
            let line = format!(
                "{name:<44} {value:>10} {:<6} {floor:>8} {ratio:>6}  {}",
                figure.unit.name(),
                verdict.unwrap_or_default()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
