//! The load of the program, with its audit, on SQLite.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs a load in processes of its own, which has to be good, and returns its report.
fn load(folder: &Path, args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_production-ready"));
    command.arg("load").args(args).arg("--report").arg(folder);
    // SQLite, whatever else the tests have.
    command.env_remove("DATABASE_URL").env_remove("KAFKA_BROKERS");
    let output = command.env("SHOP_PROVIDER_MILLIS", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("The audit balances."), "{text}");
    assert!(std::fs::read_to_string(folder.join("plot.svg")).unwrap().ends_with("</svg>\n"));
    serde_json::from_str(&std::fs::read_to_string(folder.join("report.json")).unwrap()).unwrap()
}

#[test]
fn every_order_of_a_load_is_acknowledged_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let report = load(folder.path(), &["--rate", "50", "--seconds", "2"]);
    assert_eq!((&report["due"], &report["acknowledged"]), (&100.into(), &100.into()));
    let audit = &report["audit"];
    let ended = audit["fulfilled"].as_u64().unwrap() + audit["cancelled"].as_u64().unwrap();
    assert_eq!(ended, 100, "{audit}");
    assert!(audit["cancelled"].as_u64().unwrap() >= 2, "{audit}");
    assert!(report["handled"]["order.place"].as_u64().unwrap() >= 100, "{report}");
    assert!(report["telemetry_bytes"].as_u64().unwrap() > 10_000, "{report}");
}

#[test]
fn no_acknowledged_order_is_lost_when_each_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--rate", "25", "--seconds", "6", "--replicas", "2", "--fault", "kill"];
    let report = load(folder.path(), &args);
    assert_eq!(report["acknowledged"], 150);
    assert_eq!(report["incidents"].as_array().unwrap().len(), 2);
}
