//! The commands that concern PostgreSQL.

use composable_rust_testing::TestDatabase;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{composable, text};

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_a_step_of_their_own() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let run = |args: &[&str]| {
        let output = composable(&[&["--store", &url], args].concat());
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, _) = run(&["migrate", "check"]);
    assert_eq!(code, 1);
    assert!(out.contains("has version 0") && out.contains("`composable migrate apply`"), "{out}");
    // A program that must not migrate says the same.
    let (code, _, err) = run(&["queues", "list"]);
    assert_eq!(code, 3);
    assert!(err.contains("run `composable migrate apply`"), "{err}");

    // The plan does what `apply` does.
    let (code, plan, _) = run(&["migrate", "plan", "--partitions", "3"]);
    assert_eq!(code, 0);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("create schema planned; set search_path = planned").await.unwrap();
    connection.execute(sqlx::raw_sql(&plan)).await.unwrap();
    let (code, out, _) = run(&["--schema", "planned", "migrate", "check"]);
    assert_eq!(code, 0, "{out}");
    let (_, described, _) = run(&["--schema", "planned", "describe"]);
    assert!(described.contains("0 events in 3 partitions"), "{described}");

    let (code, out, _) = run(&["migrate", "apply"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("migrated from version 0 to "), "{out}");
    assert_eq!(run(&["migrate", "check"]).0, 0);
    let (_, out, _) = run(&["migrate", "plan"]);
    assert!(out.starts_with("no migration is due"), "{out}");
    assert_eq!(run(&["queues", "list"]).1, "All queues are empty.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_who_holds_an_old_snapshot_and_a_superuser() {
    let database = TestDatabase::create().await;
    let url = database.url();
    assert!(composable(&["--store", &url, "migrate", "apply"]).status.success());
    let mut holder =
        PgConnection::connect(&format!("{url}?application_name=report")).await.unwrap();
    let hold = "begin isolation level repeatable read; select 1";
    holder.execute(sqlx::raw_sql(hold)).await.unwrap();
    let output = composable(&["--store", &url, "doctor"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    println!("{out}");
    for part in ["superuser", "snapshot", "clock-skew"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}
