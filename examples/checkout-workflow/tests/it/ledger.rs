//! The provider's ledger in a file.

use std::io::Write as _;

use checkout_workflow::{EntryKind, Ledger, Payment};
use composable_rust::prelude::*;

#[test]
fn each_entry_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::open(&path).unwrap();
    assert!(ledger.capture(&Payment::id("1"), 500, "a").unwrap());
    assert_eq!(ledger.refund(&Payment::id("1"), "b").unwrap(), 500);
    assert_eq!(ledger.refund(&Payment::id("2"), "c").unwrap(), 0);
    let lines = std::fs::read_to_string(&path).unwrap();
    insta::assert_snapshot!(lines, @r#"
    {"key":"a","payment":"1","kind":"capture","cents":500}
    {"key":"b","payment":"1","kind":"refund","cents":500}
    {"key":"c","payment":"2","kind":"void","cents":0}
    "#);
}

#[test]
fn two_ledgers_on_one_file_share_their_entries() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let (one, two) = (Ledger::open(&path).unwrap(), Ledger::open(&path).unwrap());
    let payment = Payment::id("1");
    assert!(one.capture(&payment, 500, "a").unwrap());
    assert!(two.capture(&payment, 500, "a").unwrap());
    assert_eq!(two.refund(&payment, "b").unwrap(), 500);
    assert_eq!(one.refund(&payment, "c").unwrap(), 500);
    assert!(!one.capture(&payment, 500, "d").unwrap());
    let again = Ledger::open(&path).unwrap().entries().unwrap();
    assert_eq!(again, one.entries().unwrap());
    assert_eq!(again.len(), 2);
}

#[test]
fn the_first_of_two_concurrent_writers_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let mut file = std::fs::File::create(&path).unwrap();
    for (key, kind, cents) in [
        ("a", "capture", 500),
        // The same call, by a process that was frozen before it wrote.
        ("a", "capture", 500),
        // The writer decided before the capture was written.
        ("b", "void", 0),
        ("b", "refund", 500),
        ("c", "refund", 500),
        ("d", "capture", 500),
    ] {
        let line = format!(r#"{{"key":"{key}","payment":"1","kind":"{kind}","cents":{cents}}}"#);
        writeln!(file, "{line}").unwrap();
    }
    let ledger = Ledger::open(&path).unwrap();
    let entries = ledger.entries().unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| (&entry.key[..], entry.kind)).collect();
    assert_eq!(kinds, [("a", EntryKind::Capture), ("b", EntryKind::Refund)]);
    assert_eq!(ledger.balance(&Payment::id("1")).unwrap(), 0);
}

#[test]
fn threads_charge_the_same_payment_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ledger = Ledger::open(&path).unwrap();
                for n in 0..100 {
                    let payment = Payment::id(n.to_string());
                    ledger.capture(&payment, 500, &format!("take {n}")).unwrap();
                    ledger.refund(&payment, &format!("give {n}")).unwrap();
                }
            });
        }
    });
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.entries().unwrap().len(), 200);
    assert!((0..100).all(|n| ledger.balance(&Payment::id(n.to_string())).unwrap() == 0));
}

#[test]
fn a_file_that_is_not_a_ledger_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    std::fs::write(&path, "hello\n").unwrap();
    assert_eq!(Ledger::open(&path).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}
