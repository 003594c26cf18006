//! The tables of the book and the metrics of the runtime.

use composable_rust::operations::{MetricDescription, MetricKind, metrics};

const CHAPTER: &str = include_str!("../../../docs/src/operations.md");

/// Returns the row of a metric.
fn row(metric: &MetricDescription) -> String {
    let kind = match metric.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let (name, unit, labels) = (metric.name, metric.unit, labels.join(", "));
    format!("| `{name}` | {kind} | {unit} | {labels} | {} |", metric.description)
}

#[test]
fn the_table_of_the_book_is_that_of_the_runtime() {
    let is_row = |line: &&str| {
        line.starts_with("| `composable_rust_")
            && ["gauge", "counter", "histogram"]
                .iter()
                .any(|kind| line.contains(&format!("| {kind} |")))
    };
    let rows: Vec<_> = CHAPTER.lines().filter(is_row).collect();
    let expected: Vec<_> = metrics().iter().map(row).collect();
    assert_eq!(rows, expected, "the table is:\n{}", expected.join("\n"));
}

#[test]
fn the_book_names_no_other_metrics() {
    let names = CHAPTER.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    let is_metric = |name: &&str| name.starts_with("composable_rust_") && !name.contains("runtime");
    for name in names.filter(is_metric).filter(|name| *name != "composable_rust_redpanda") {
        assert!(metrics().iter().any(|metric| metric.name == name), "{name}");
    }
}
