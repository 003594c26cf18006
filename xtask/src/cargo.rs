//! Cargo, run on this workspace.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&xtask).parent().expect("this crate has a folder of its own").to_owned()
}

/// The cargo that runs us, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `--workspace`, unless `args` choose packages: cargo would let `--workspace` win silently.
pub(crate) fn scope(args: &[OsString]) -> &'static [&'static str] {
    let chooses_packages = args.iter().take_while(|arg| *arg != "--").any(|arg| {
        let arg = arg.to_string_lossy();
        arg.starts_with("--package")
            || arg.starts_with("--manifest-path")
            || (arg.starts_with("-p") && !arg.starts_with("--"))
    });
    if chooses_packages { &[] } else { &["--workspace"] }
}

/// Is this cargo subcommand installed?
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
    fn everything_by_default() {
        assert_eq!(scope_of(&[]), ["--workspace"]);
        assert_eq!(scope_of(&["--release", "name_of_a_test"]), ["--workspace"]);
    }

    #[test]
    fn a_chosen_package_alone() {
        for args in [&["-p", "xtask"][..], &["-pxtask"], &["--package=xtask"], &["--package", "x"]]
        {
            assert!(scope_of(args).is_empty(), "{args:?}");
        }
    }

    #[test]
    fn what_follows_the_separator_is_not_cargos() {
        assert_eq!(scope_of(&["--", "-p"]), ["--workspace"]);
    }
}
