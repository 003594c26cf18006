//! The chapter of errors in the book.

use std::fs;
use std::path::Path;

/// The files whose errors operators meet.
const SOURCES: [&str; 10] = [
    "admin/src/error.rs",
    "console/src/console.rs",
    "core/src/bus/event_bus.rs",
    "core/src/codec/content.rs",
    "core/src/store/event_store.rs",
    "postgres/src/error.rs",
    "redpanda/src/error.rs",
    "runtime/src/error.rs",
    "sqlite/src/error.rs",
    "telemetry/src/error.rs",
];

/// Returns the texts of the errors that a file defines, each up to its first variable part.
fn texts(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let definitions = code.split("#[error(").skip(1);
    let literals = definitions.filter_map(|of| of.trim_start().strip_prefix('"'));
    let fixed = literals.filter_map(|of| of.split(['{', '"', '`', '\\']).next());
    fixed.map(|text| text.trim().to_owned()).filter(|text| text.len() > 8).collect()
}

#[test]
fn each_error_that_operators_meet_has_an_entry() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let chapter = fs::read_to_string(root.join("docs/src/errors.md")).unwrap();
    let mut found = 0;
    for source in SOURCES {
        for text in texts(&fs::read_to_string(root.join(source)).unwrap()) {
            // The chapter cuts long texts.
            let start: String = text.chars().take(24).collect();
            assert!(chapter.contains(&start), "{source}: `{text}` has no entry in errors.md");
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}

#[test]
fn the_texts_of_errors_are_found() {
    let source = r#"#[error("there is no folder `{}`", path)] A, #[error(transparent)] B(C),
        #[error(
            "the log is at home in another database ({home}), this one"
        )] D"#;
    assert_eq!(texts(source), ["there is no folder", "the log is at home in another database ("]);
}
