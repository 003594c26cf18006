//! Commands that run cargo in this workspace.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the workspace's folder.
pub(crate) fn root() -> PathBuf {
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&xtask).parent().expect("the crate's folder has a parent").to_owned()
}

/// Returns the folder of build artifacts.
pub(crate) fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| root().join("target"))
}

/// Returns a command for the cargo that runs this process, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Returns `--workspace`, unless `args` select packages.
///
/// With both, cargo silently ignores the selection.
pub(crate) fn scope(args: &[OsString]) -> &'static [&'static str] {
    let selects_packages = args.iter().take_while(|arg| *arg != "--").any(|arg| {
        let arg = arg.to_string_lossy();
        arg.starts_with("--package")
            || arg.starts_with("--manifest-path")
            || (arg.starts_with("-p") && !arg.starts_with("--"))
    });
    if selects_packages { &[] } else { &["--workspace"] }
}

/// Returns `true` if this cargo subcommand is installed.
pub(crate) fn has_subcommand(name: &str) -> bool {
    let mut command = cargo();
    command.args([OsStr::new(name), OsStr::new("--version")]);
    crate::program::succeeds(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_of(args: &[&str]) -> &'static [&'static str] {
        scope(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_workspace_is_the_default() {
        assert_eq!(scope_of(&[]), ["--workspace"]);
        assert_eq!(scope_of(&["--release", "name_of_a_test"]), ["--workspace"]);
    }

    #[test]
    fn selected_packages_replace_the_workspace() {
        for args in [&["-p", "xtask"][..], &["-pxtask"], &["--package=xtask"], &["--package", "x"]]
        {
            assert!(scope_of(args).is_empty(), "{args:?}");
        }
    }

    #[test]
    fn arguments_after_the_separator_are_not_cargos() {
        assert_eq!(scope_of(&["--", "-p"]), ["--workspace"]);
    }
}
