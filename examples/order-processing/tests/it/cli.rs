//! The command line: its output and exit codes.

use crate::support::{Output, Program, masked};

fn place(program: &Program, order: &str) -> Output {
    let date = "--date=1997-01-12";
    program.run(&["place", order, "--customer=7", "--units=3", "--amount=25.50", date, "--by=anna"])
}

#[test]
fn an_order_is_placed_and_shipped() {
    let program = Program::on_sqlite();
    assert!(place(&program, "1001").ok().starts_with("order 1001: event 1 at "));
    assert_eq!(place(&program, "1001").ok(), "order 1001: already placed, nothing changed\n");
    program.run(&["ship", "1001", "--tracking=Z1", "--units=1", "--by=bo"]).ok();
    program.run(&["ship", "1001", "--tracking=Z2"]).ok();
    insta::assert_snapshot!(program.run(&["show", "1001"]).ok(), @r"
    order      1001
    version    3
    status     shipped
    customer   7
    placed on  1997-01-12
    units      3
    amount     25.50
    ");
    insta::assert_snapshot!(program.run(&["show", "1001", "--at=2"]).ok(), @r"
    order      1001
    version    2
    status     partly shipped: 1
    customer   7
    placed on  1997-01-12
    units      3
    amount     25.50
    ");
    insta::assert_snapshot!(masked(&program.run(&["history", "1001"]).ok()));
}

#[test]
fn a_cancelled_order_is_not_in_the_totals() {
    let program = Program::on_sqlite();
    place(&program, "1").ok();
    place(&program, "2").ok();
    program.run(&["cancel", "2", "--reason=changed my mind"]).ok();
    assert!(program.run(&["show", "2"]).ok().contains("cancelled: changed my mind"));
    insta::assert_snapshot!(program.run(&["report"]).ok());
    insta::assert_snapshot!(program.run(&["report", "--json"]).ok());
}

#[test]
fn a_rejection_is_one_line_and_status_1() {
    let program = Program::on_sqlite();
    place(&program, "1001").ok();
    let rejected = [
        program.run(&["ship", "1002", "--tracking=Z"]),
        program.run(&["ship", "1001", "--tracking=Z", "--units=4"]),
        program.run(&["place", "1001", "--customer=7", "--units=9", "--amount=1.00"]),
        program.run(&["show", "1002"]),
        program.run(&["show", "1001", "--at=2"]),
        program.run(&["history", "1002"]),
        program.run(&["import", "missing.txt"]),
    ];
    let lines: Vec<_> = rejected
        .into_iter()
        .map(|output| {
            assert_eq!((output.stderr.lines().count(), output.stdout.as_str()), (1, ""));
            output.fails(1)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_store_that_cannot_be_opened_is_one_line() {
    let fails = |store: &str, status| {
        let output = Program::on(store).run(&["report"]);
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
        output.fails(status)
    };
    let lines = [
        fails("orders.db", 2),
        fails("mysql://shop", 2),
        fails("sqlite:missing/orders.db", 1),
        fails("postgres://app:secret@127.0.0.1:1/shop", 1),
    ];
    assert!(lines.iter().all(|line| !line.contains("secret")), "{lines:?}");
    let program = Program::on_sqlite();
    program.file(
        "text.db",
        "this text is not a database and is longer than the header of one ".repeat(9),
    );
    let output = program.run(&["--store=sqlite:text.db", "report"]);
    assert!(output.fails(1).contains("not an event log"));
}

#[test]
fn wrong_usage_is_status_2() {
    let program = Program::on_sqlite();
    let place = ["place", "1", "--customer=7", "--units=3"];
    for args in [
        &["plaice"][..],
        &[],
        &["place"],
        &[&place[..], &["--amount=1.005"]].concat(),
        &[&place[..], &["--amount=1.00", "--date=1997-02-30"]].concat(),
        &["show", ""],
        &["show", "1", "--at=-1"],
        &["import", "x", "--in-flight=0"],
    ] {
        program.run(args).fails(2);
    }
    assert_eq!(program.run(&["--help"]).status, Some(0));
}

#[test]
fn the_store_is_an_option_or_an_environment_variable() {
    let program = Program::on_sqlite();
    place(&program, "1").ok();
    program.run(&["--store=sqlite:other.db", "show", "1"]).fails(1);
    program.run(&["--store=memory:", "show", "1"]).fails(1);
    program.run(&["show", "1"]).ok();
    let mut command =
        program.command(&["place", "2", "--customer=7", "--units=1", "--amount=1.00"]);
    assert!(command.env_remove("STORE_URL").status().unwrap().success());
    assert!(program.folder().join("orders.db").exists());
}

#[test]
fn a_key_makes_a_command_repeatable() {
    let program = Program::on_sqlite();
    let ship = ["ship", "1", "--tracking=Z", "--units=1", "--key=k"];
    let rejected = program.run(&ship).fails(1);
    place(&program, "1").ok();
    assert_eq!(program.run(&ship).fails(1), rejected, "the key repeats the rejection");
    let ship = ["ship", "1", "--tracking=Z", "--units=1", "--key=k2"];
    let first = program.run(&ship).ok();
    assert_eq!(program.run(&ship).ok(), first);
    let other = program.run(&["ship", "1", "--tracking=Y", "--units=1", "--key=k2"]).fails(1);
    assert!(other.contains("the idempotency key was used for a different command"), "{other}");
    assert_eq!(program.run(&["history", "1"]).ok().lines().count(), 2);
}

#[test]
fn a_second_demo_changes_nothing() {
    let program = Program::on_sqlite();
    let demo = || {
        let mut command = program.command(&["demo"]);
        let output = command.env_remove("STORE_URL").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.replace(env!("CARGO_BIN_EXE_order-processing"), "order-processing")
    };
    let first = demo();
    insta::assert_snapshot!(masked(&first));
    let second = demo();
    assert!(
        second.starts_with("placed 0 orders, 10000 existed\nThe demo ran on sqlite:orders-demo.db")
    );
    let report =
        |text: &str| text.split("\n\n").find(|p| p.starts_with("month")).map(str::to_owned);
    assert_eq!(report(&first), report(&second));
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_not_an_error() {
    let program = Program::on_sqlite();
    place(&program, "1").ok();
    let mut command = program.command(&["report"]);
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(reader);
    let writer = std::os::fd::OwnedFd::from(writer);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
