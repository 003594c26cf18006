//! The command line.

use crate::program::Program;

#[test]
fn a_repeated_run_changes_nothing() {
    let program = Program::on_a_file();
    let run = ["run", "-n", "60", "--declines", "20", "--refund-refusals", "0"];
    let first = program.run(&run);
    assert!(first.contains("The audit balances"), "{first}");
    assert_eq!(program.run(&run), first);
    assert_eq!(program.run(&["audit"]), first);
}

/// The log of failing payments would hide everything else.
#[test]
fn a_run_prints_its_progress_and_no_warnings() {
    let program = Program::on_a_file();
    let run = ["run", "-n", "60", "--hangs", "50", "--failures", "40"];
    let errors = program.errors(&run);
    assert!(errors.lines().all(|line| line.starts_with("checkouts ")), "{errors}");
    let errors = program.errors(&run);
    let first = errors.lines().next();
    assert_eq!(first, Some("an earlier run started 60 of 60 checkouts; continuing"), "{errors}");
}

#[test]
fn services_on_separate_files_run_in_one_process() {
    let connection = ["--store", "sqlite:checkout.db", "--as-services"].map(str::to_owned);
    let program = Program::new(connection);
    let printed = program.run(&["run", "-n", "7"]);
    assert_eq!(program.run(&["audit"]), printed);
    insta::assert_snapshot!(without_times(&program.run(&["status", "run-000007"])));
    let history = program.run(&["history", "run-000007"]);
    let lines: Vec<_> = history.lines().filter_map(|line| line.split_once("  ")).collect();
    let lines: Vec<_> = lines.into_iter().map(|(_, event)| event.trim_start()).collect();
    insta::assert_snapshot!(without_times(&lines.join("\n")));
}

/// Removes the times.
fn without_times(text: &str) -> String {
    let mut parts = text.split("at: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(" }").unwrap_or(part.len());
        text + "at: …" + &part[end..]
    })
}

#[test]
fn an_audit_that_does_not_balance_fails() {
    let program = Program::on_a_file();
    program.run(&["run", "-n", "20"]);
    std::fs::remove_file(program.ledger()).unwrap();
    assert_eq!(program.fails(&["audit"], 1), "error: the audit does not balance");
}

#[test]
fn an_error_is_one_line() {
    let program = Program::on_a_file();
    assert_eq!(program.fails(&["status", "x"], 1), "error: there is no checkout x");
    let program = Program::new(["--as-services".to_owned()]);
    assert_eq!(
        program.fails(&["serve"], 1),
        "error: services with separate stores need a bus; add --brokers"
    );
    let program = Program::new(["--store=memory:", "--store=payments=memory:"].map(str::to_owned));
    assert_eq!(
        program.fails(&["audit"], 2),
        "error: name one store for all services, or one for each: checkout=URL, payments=URL, …"
    );
}

#[test]
fn a_ledger_of_another_store_is_an_error() {
    let program = Program::on_a_file();
    program.run(&["run", "-n", "20"]);
    for file in ["checkout.db", "checkout.db-wal", "checkout.db-shm"] {
        let _ = std::fs::remove_file(program.ledger().with_file_name(file));
    }
    assert_eq!(
        program.fails(&["run", "-n", "20"], 1),
        "error: the ledger belongs to another store: remove it, or choose one with --ledger"
    );
}
