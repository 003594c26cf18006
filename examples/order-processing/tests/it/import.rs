//! The import of purchase files.

use serde_json::Value;

use crate::support::{Program, PurchaseFile, assert_no_gaps, events};

fn report(program: &Program) -> Value {
    serde_json::from_str(&program.run(&["report", "--json"]).ok()).expect("JSON")
}

#[tokio::test]
async fn every_purchase_is_placed_once() {
    let program = Program::on_sqlite();
    let file = PurchaseFile::generated(1, 3_000);
    let totals = file.totals();
    program.file("cdnow.txt", file.text());
    let placed = program.run(&["import", "cdnow.txt"]).ok();
    assert_eq!(placed, format!("placed {} orders, 0 existed\n", totals.orders));
    assert_eq!(report(&program), totals.json);
    let placed = program.run(&["import", "cdnow.txt"]).ok();
    assert_eq!(placed, format!("placed 0 orders, {} existed\n", totals.orders));
    assert_eq!(report(&program), totals.json);
    let events = events(program.store()).await;
    assert_eq!(events.len(), totals.orders);
    assert_no_gaps(&events);
}

#[test]
fn appended_purchases_are_placed() {
    let program = Program::on_sqlite();
    let file = PurchaseFile::generated(2, 1_000);
    let totals = file.totals();
    program.file("cdnow.txt", file.first(400));
    assert_eq!(program.run(&["import", "cdnow.txt"]).ok(), "placed 400 orders, 0 existed\n");
    program.file("cdnow.txt", file.text());
    let placed = program.run(&["import", "cdnow.txt"]).ok();
    assert_eq!(placed, format!("placed {} orders, 400 existed\n", totals.orders - 400));
    assert_eq!(report(&program), totals.json);
}

#[test]
fn line_breaks_may_be_lf_and_missing_at_the_end() {
    let program = Program::on_sqlite();
    let file = PurchaseFile::generated(3, 50);
    program.file("cdnow.txt", file.text().replace('\r', "").trim_end());
    program.run(&["import", "cdnow.txt"]).ok();
    assert_eq!(report(&program), file.totals().json);
}

#[test]
fn an_invalid_line_stops_the_import() {
    let file = PurchaseFile::generated(4, 40);
    let mut lines: Vec<_> = file.text().lines().map(str::to_owned).collect();
    lines[30] = " 00009 19970230  1   11.77".to_owned();
    lines[35] = " 00009 19970228  1   -1.77".to_owned();
    let program = Program::on_sqlite();
    program.file("bad.txt", lines.join("\r\n"));

    let output = program.run(&["import", "bad.txt"]);
    assert_eq!(output.stdout, "placed 29 orders, 0 existed\n");
    let error = output.fails(1);
    assert_eq!(
        error,
        "error: stopped at line 31: `19970230` is not a day of the calendar such as 1997-01-31; \
         correct it or pass --skip-bad, and run the same import again to continue"
    );

    let output = program.run(&["import", "bad.txt", "--skip-bad"]);
    let skipped: Vec<_> = output.stderr.lines().filter(|line| line.contains("skipped")).collect();
    assert_eq!(skipped.len(), 2, "{output:?}");
    assert!(skipped[0].starts_with("line 31 skipped: `19970230`"), "{skipped:?}");
    assert!(skipped[1].starts_with("line 36 skipped: `-1.77` is not an amount"), "{skipped:?}");
    let placed = lines.len() - 1 - 2 - 29;
    assert_eq!(output.ok(), format!("placed {placed} orders, 29 existed, 2 skipped\n"));
}

#[test]
fn a_changed_line_is_reported() {
    let program = Program::on_sqlite();
    let header = "customer_id date number_of_cds dollar_value\n";
    program.file("a.txt", format!("{header}1 19970101 1 1.00\n1 19970102 1 1.00\n"));
    program.run(&["import", "a.txt"]).ok();
    program.file("a.txt", format!("{header}1 19970101 1 2.00\n1 19970102 1 1.00\n"));
    let output = program.run(&["import", "a.txt"]);
    assert!(output.fails(1).contains("stopped at line 2: the order exists with other details"));
    let output = program.run(&["import", "a.txt", "--skip-bad"]);
    assert_eq!(output.ok(), "placed 0 orders, 1 existed, 1 skipped\n");
}

#[test]
fn another_header_is_an_error_even_with_skip_bad() {
    let program = Program::on_sqlite();
    program.file("a.txt", "1 19970101 1 1.00\n");
    let error = program.run(&["import", "a.txt", "--skip-bad"]).fails(1);
    assert!(error.contains("line 1: the first line must name the columns"), "{error}");
    program.file("empty.txt", "");
    program.run(&["import", "empty.txt"]).fails(1);
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_completes_the_sends_and_prints_the_line() {
    use crate::support::{event_count, send_signal};
    use std::process::Stdio;

    let program = Program::on_sqlite();
    let file = PurchaseFile::generated(5, 3_000);
    program.file("cdnow.txt", file.text());
    let app = program.app().await;
    let mut command = program.command(&["import", "cdnow.txt", "--in-flight=8"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while event_count(&app).await < 50 {
        assert_eq!(child.try_wait().unwrap(), None, "the import ended by itself");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    send_signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let placed = event_count(&app).await;
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout, format!("placed {placed} orders, 0 existed\n"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    // Line 1 is the header, and every line before the printed one is placed.
    let expected = format!("interrupted before line {}; run the same import again", placed + 2);
    assert!(stderr.contains(&expected), "{stderr} instead of {expected}");

    program.run(&["import", "cdnow.txt"]).ok();
    assert_eq!(report(&program), file.totals().json);
}
