//! Finds the files to check.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A file to check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    /// The folder of the file's crate, relative to the workspace. Empty for files outside crates.
    pub(super) package: String,
    /// The file's path, relative to the workspace.
    pub(super) path: PathBuf,
    pub(super) language: Language,
}

/// The language of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Language {
    /// Rust, of which comments are checked.
    Rust,
    /// Markdown, of which all prose is checked.
    Markdown,
}

impl Source {
    /// Reads the file.
    pub(super) fn read(&self, root: &Path) -> Result<String> {
        let path = root.join(&self.path);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// Returns the Rust and Markdown files of the workspace, or of the crate in the folder `only`.
///
/// # Errors
///
/// If a folder cannot be read, or `only` is not the folder of a crate.
pub(super) fn find(root: &Path, only: Option<&str>) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    visit(root, Path::new(""), "", &mut found)?;
    found.sort();
    let Some(only) = only.map(|name| name.trim_end_matches('/')) else { return Ok(found) };
    found.retain(|source| source.package == only);
    if found.is_empty() {
        bail!("no crate in a folder named {only}: name it as the workspace's Cargo.toml does");
    }
    Ok(found)
}

fn visit(root: &Path, folder: &Path, package: &str, found: &mut Vec<Source>) -> Result<()> {
    let absolute = root.join(folder);
    let is_crate = folder != Path::new("") && absolute.join("Cargo.toml").is_file();
    let own = folder.to_string_lossy();
    let package = if is_crate { own.as_ref() } else { package };
    let failed = || format!("reading {}", absolute.display());
    for entry in fs::read_dir(&absolute).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name();
        let path = folder.join(&name);
        let kind = entry.file_type().with_context(failed)?;
        if kind.is_dir() {
            let is_hidden = name.to_string_lossy().starts_with('.');
            if !is_hidden && name != "target" {
                visit(root, &path, package, found)?;
            }
        } else if let Some(language) = language(&path) {
            found.push(Source { package: package.to_owned(), path, language });
        }
    }
    Ok(())
}

fn language(path: &Path) -> Option<Language> {
    match path.extension()?.to_str()? {
        "rs" => Some(Language::Rust),
        // The changelog's entries keep their wording.
        "md" if path != Path::new("CHANGELOG.md") => Some(Language::Markdown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "Cargo.toml",
            "README.md",
            "CHANGELOG.md",
            "target/a.rs",
            ".git/b.rs",
            "docs/src/c.md",
            "core/Cargo.toml",
            "core/src/d.rs",
            "core/tests/ui/e.rs",
            "core/f.toml",
            "examples/counter/Cargo.toml",
            "examples/counter/README.md",
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn names(only: Option<&str>) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let found = find(tree().path(), only).unwrap();
        found.into_iter().map(|source| (source.package, text(&source.path))).collect()
    }

    #[test]
    fn rust_and_markdown_are_found_with_their_crates() {
        let pair = |package: &str, path: &str| (package.to_owned(), path.to_owned());
        assert_eq!(
            names(None),
            [
                pair("", "README.md"),
                pair("", "docs/src/c.md"),
                pair("core", "core/src/d.rs"),
                pair("core", "core/tests/ui/e.rs"),
                pair("examples/counter", "examples/counter/README.md"),
            ]
        );
    }

    #[test]
    fn one_crate_can_be_chosen() {
        assert_eq!(names(Some("core/")).len(), 2);
        assert_eq!(names(Some("examples/counter")).len(), 1);
        assert!(find(tree().path(), Some("counter")).is_err());
    }
}
