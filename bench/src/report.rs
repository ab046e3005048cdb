//! What a measurement says: one JSON object a line, or a table.

use std::io::{Write as _, stdout};

use serde_json::{Map, Value, json};

use crate::{
    case::Case,
    measure::{Pair, Sample},
};

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// One object a line
    Json,
    /// For people
    Table,
}

/// Shows results as they come.
#[derive(Debug)]
pub(crate) struct Report {
    output: Output,
    /// The broker that the bus is over; none: the cases are on a store.
    broker: Option<&'static str>,
    begun: bool,
}

impl Report {
    pub(crate) fn new(output: Output, broker: Option<&'static str>) -> Self {
        Self {
            output,
            broker,
            begun: false,
        }
    }
    /// Shows one case.
    pub(crate) fn line(&mut self, case: &Case, pair: &Pair) -> anyhow::Result<()> {
        match self.output {
            Output::Json => println!("{}", object(case, pair, self.broker)),
            Output::Table => self.row(case, pair),
        }
        Ok(stdout().flush()?)
    }

    fn row(&mut self, case: &Case, pair: &Pair) {
        if !self.begun {
            println!(
                "{:<25} {:>12} {:>12} {:<10} {:>6} {:>9} {:>9}",
                "case", "ours", "baseline", "unit", "ratio", "p50 ms", "p99 ms"
            );
            self.begun = true;
        }
        let ms = |part| milliseconds(&pair.ours, part).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
        let (ours, baseline, ratio) = (pair.ours.rate, pair.baseline.rate, pair.ours.rate / pair.baseline.rate);
        println!(
            "{:<25} {:>12} {:>12} {:<10} {ratio:>6.2} {:>9} {:>9}",
            case.name,
            figure(ours),
            figure(baseline),
            case.unit,
            ms(0.5),
            ms(0.99)
        );
        println!("    against {}", case.baseline);
        let (ours, baseline) = (microseconds(&pair.ours), microseconds(&pair.baseline));
        println!("    processor time {ours:.2} µs a unit, baseline {baseline:.2} µs");
        for (name, value) in &pair.ours.more {
            match pair.baseline.more.get(name) {
                Some(theirs) => println!("    {name} {}, baseline {}", rounded(*value), rounded(*theirs)),
                None => println!("    {name} {}", rounded(*value)),
            }
        }
    }
}

fn object(case: &Case, pair: &Pair, broker: Option<&str>) -> Value {
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
    put("case", json!(case.name));
    if let Some(broker) = broker {
        put("broker", json!(broker));
    }
    put("ours", json!(rounded(pair.ours.rate)));
    put("baseline", json!(rounded(pair.baseline.rate)));
    put("unit", json!(case.unit));
    put("ratio", json!(rounded(pair.ours.rate / pair.baseline.rate)));
    put("against", json!(case.baseline));
    for (part, ours, theirs) in [(0.5, "p50_ms", "baseline_p50_ms"), (0.99, "p99_ms", "baseline_p99_ms")] {
        put(ours, json!(milliseconds(&pair.ours, part).map(rounded)));
        put(theirs, json!(milliseconds(&pair.baseline, part).map(rounded)));
    }
    put("cpu_us", json!(rounded(microseconds(&pair.ours))));
    put("baseline_cpu_us", json!(rounded(microseconds(&pair.baseline))));
    for (name, value) in &pair.ours.more {
        put(name, json!(rounded(*value)));
    }
    for (name, value) in &pair.baseline.more {
        put(&format!("baseline_{name}"), json!(rounded(*value)));
    }
    Value::Object(line)
}

fn microseconds(sample: &Sample) -> f64 {
    sample.cpu.as_secs_f64() * 1e6
}

fn milliseconds(sample: &Sample, part: f64) -> Option<f64> {
    sample.percentile(part).map(|time| time.as_secs_f64() * 1_000.0)
}

/// A rate has no decimals; a time in milliseconds or seconds needs them.
fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Three decimals where they say something, none where they do not.
fn rounded(value: f64) -> f64 {
    if value >= 1_000.0 {
        value.round()
    } else {
        (value * 1_000.0).round() / 1_000.0
    }
}
