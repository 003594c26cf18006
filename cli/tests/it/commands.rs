//! The output of every command that reads.

use crate::shop::Build;
use crate::support::{Fixture, run, run_for, settings};

/// The commands that read, in an order of which none changes what a later one prints.
const READS: &[&[&str]] = &[
    &["streams", "list"],
    &["streams", "list", "order-", "--limit", "2"],
    &["streams", "list", "--contains", "c1"],
    &["streams", "show", "order-2"],
    &["streams", "events", "order-2"],
    &["streams", "state", "order-2"],
    &["streams", "state", "order-2", "--at", "0"],
    &["streams", "diff", "order-2", "0", "1"],
    &["streams", "show", "order-99"],
    &["events", "--category", "parcel"],
    &["events", "--name", "order.placed", "--limit", "2"],
    &["queues", "list"],
    &["queues", "show", "call/bank", "--limit", "2"],
    &["timers", "list", "--category", "order", "--limit", "2"],
    &["timers", "list", "--overdue"],
    &["dead", "groups"],
    &["dead", "list", "--error", "too heavy"],
    &["sagas", "checkout"],
    &["sagas", "order"],
    &["sagas", "chekout"],
    &["workers"],
    &["processes"],
    &["checkpoints"],
    &["log", "status"],
    &["gateways", "list"],
    &["projections", "list"],
    &["erase", "--find", "buyer-3@example.com"],
    &["verify"],
    &["doctor", "--quiet"],
    &["audit"],
    &["describe"],
];

#[tokio::test]
async fn commands_of_a_program_that_knows_the_types() {
    let fixture = Fixture::new().await;
    let admin = fixture.decoding(Build::Buggy).await;
    let mut shown = String::new();
    for args in READS {
        shown += &(run(&admin, args).await + "\n");
    }
    settings().bind(|| insta::assert_snapshot!(shown));
}

#[tokio::test]
async fn commands_on_a_store_alone() {
    let fixture = Fixture::new().await;
    let admin = fixture.raw().await;
    let mut shown = String::new();
    for args in READS {
        shown += &(run(&admin, args).await + "\n");
    }
    settings().bind(|| insta::assert_snapshot!(shown));
}

/// Every command that reads has the same content as JSON.
#[tokio::test]
async fn every_read_prints_one_json_document() {
    let fixture = Fixture::new().await;
    let admin = fixture.decoding(Build::Buggy).await;
    for args in READS {
        let (_, code) = run_for(&admin, args).await;
        let (output, json_code) = run_for(&admin, &[args, &["--json"][..]].concat()).await;
        assert_eq!(code, json_code, "{args:?}");
        if code == 4 {
            assert!(output.starts_with("error: "), "{output}");
            continue;
        }
        let parsed = serde_json::from_str::<serde_json::Value>(&output);
        let value = parsed.unwrap_or_else(|error| panic!("{args:?}: {error}: {output}"));
        assert!(value.is_array() || value.is_object(), "{args:?}: {value}");
    }
}

#[tokio::test]
async fn pages_continue_where_the_page_before_ends() {
    let fixture = Fixture::new().await;
    let admin = fixture.raw().await;
    let field = |entry: &serde_json::Value, name: &str| entry[name].to_string();
    for (list, name) in
        [(&["streams", "list"][..], "stream"), (&["events"], "id"), (&["audit"], "id")]
    {
        let (whole, _) = run_for(&admin, &[list, &["--json"]].concat()).await;
        let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
        let whole: Vec<_> =
            whole["entries"].as_array().unwrap().iter().map(|of| field(of, name)).collect();
        let (mut paged, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut args = [list, &["--json", "--limit", "2"]].concat();
            if let Some(after) = &after {
                args.extend(["--after", after]);
            }
            let (page, _) = run_for(&admin, &args).await;
            let page: serde_json::Value = serde_json::from_str(&page).unwrap();
            paged.extend(page["entries"].as_array().unwrap().iter().map(|of| field(of, name)));
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None if page["next"].is_null() => break,
                None => {
                    let next = page["next"].as_array().unwrap();
                    let next: Vec<_> = next.iter().map(|of| of.as_str().unwrap()).collect();
                    after = Some(next.join(","));
                }
            }
        }
        assert_eq!(paged, whole, "{list:?}");
    }
}

#[tokio::test]
async fn a_workflow_is_a_tree_with_what_waits_in_it() {
    let fixture = Fixture::new().await;
    let admin = fixture.decoding(Build::Buggy).await;
    let mut shown = run(&admin, &["trace", "order-1"]).await;
    shown += &run(&admin, &["trace", "checkout-c1"]).await;
    let nobody = "00000000-0000-4000-8000-000000000000";
    shown += &run(&admin, &["trace", nobody]).await;
    shown += &run(&admin, &["trace", "no stream"]).await;
    settings().bind(|| insta::assert_snapshot!(shown));
}

#[tokio::test]
async fn a_dead_letter_is_shown_and_exported() {
    let fixture = Fixture::new().await;
    let admin = fixture.raw().await;
    let (exported, code) = run_for(&admin, &["dead", "export"]).await;
    assert_eq!((exported.lines().count(), code), (4, 0));
    let letters: Vec<serde_json::Value> =
        exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let heavy = letters.iter().find(|of| of["error"].as_str().unwrap().contains("99 kg")).unwrap();
    let id = heavy["message"]["id"].as_str().unwrap();
    let (shown, code) = run_for(&admin, &["dead", "show", id]).await;
    assert_eq!(code, 0);
    settings().bind(|| insta::assert_snapshot!(shown));
}
