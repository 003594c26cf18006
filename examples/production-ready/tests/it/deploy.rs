//! The alerts and dashboards of `deploy` against what the framework exports and the book explains.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of the framework's metrics in a text, without the suffixes of a histogram.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut names = BTreeSet::new();
    let mut rest = text;
    while let Some(start) = rest.find("composable_rust_") {
        let from = &rest[start..];
        let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let name = &from[..end];
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|of| name.strip_suffix(of));
        names.insert(base.unwrap_or(name).to_owned());
        rest = &from[end..];
    }
    names
}

fn exported() -> BTreeSet<String> {
    composable_rust::operations::metrics().iter().map(|metric| metric.name.to_owned()).collect()
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let entries = fs::read_dir(root().join("deploy/dashboards")).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.clone(), serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

#[test]
fn every_query_names_an_exported_metric() {
    let exported = exported();
    let alerts = metrics_in(&read("deploy/alerts/composable-rust.yaml"));
    assert!(alerts.len() > 15, "{alerts:?}");
    assert_eq!(alerts.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new());
    for (path, dashboard) in dashboards() {
        let queried = metrics_in(&dashboard.to_string());
        let unknown: Vec<_> = queried.difference(&exported).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let shown: BTreeSet<_> =
        dashboards().iter().flat_map(|(_, of)| metrics_in(&of.to_string())).collect();
    let missing: Vec<_> = exported().difference(&shown).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_alert_has_a_runbook() {
    let (alerts, runbooks) =
        (read("deploy/alerts/composable-rust.yaml"), read("docs/src/runbooks.md"));
    let named = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let named: Vec<_> = named.collect();
    assert!(named.len() >= 20);
    for alert in &named {
        assert!(runbooks.contains(&format!("## {alert}\n")), "no section {alert}");
        let anchor = format!("runbooks.html#{}", alert.to_lowercase());
        assert!(alerts.contains(&anchor), "no link to {anchor}");
    }
    let sections = runbooks.lines().filter_map(|line| line.strip_prefix("## "));
    for section in sections {
        assert!(named.contains(&section), "the runbook {section} has no alert");
    }
}

#[test]
fn the_panels_of_the_overview_name_their_alerts() {
    let alerts = read("deploy/alerts/composable-rust.yaml");
    for (path, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{}: {}", path.display(), panel["title"]);
            if let Some((_, alert)) = description.split_once("Alert: ") {
                let alert = alert.trim_end_matches('.');
                assert!(alerts.contains(&format!("alert: {alert}\n")), "{alert}");
            }
        }
    }
}
