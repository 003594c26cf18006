//! How little a saga takes.

#[test]
fn the_saga_takes_few_lines() {
    let lines = include_str!("../../src/saga.rs").lines().count();
    println!("the saga with its types, documentation and blank lines: {lines} lines");
    assert!(lines < 150);
}
