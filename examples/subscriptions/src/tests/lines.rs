//! The README's table of lines.

use std::fs;
use std::path::Path;

/// The limit for the program.
const MAX_LINES: usize = 650;

/// Returns the number of lines with code.
fn lines(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn the_readme_knows_the_lines_of_the_program() {
    let readme = fs::read_to_string("README.md").unwrap();
    let mut total = 0;
    for file in fs::read_dir("src").unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            let (name, lines) = (file.file_name().unwrap().to_str().unwrap(), lines(&file));
            println!("{name}: {lines}");
            total += lines;
            let row = format!("[`{name}`](src/{name}) | {lines} |");
            assert!(readme.contains(&row), "the README lacks `{row}`");
        }
    }
    println!("all: {total}");
    assert!(readme.contains(&format!("| **{total}** |")), "the README lacks the sum, {total}");
    assert!(total <= MAX_LINES, "{total} lines");
}
