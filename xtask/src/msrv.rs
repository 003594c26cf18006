//! `cargo xtask msrv`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::session::Session;
use crate::unprivileged_user::is_root;
use crate::{cargo, exit_code, program};

/// The oldest supported Rust, from `rust-version` in `Cargo.toml`.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// The Debian release that contains this Rust version.
const DEBIAN: &str = "trixie";

const CHECK: [&str; 5] = ["check", "--workspace", "--all-targets", "--all-features", "--locked"];

/// Cargo configuration that replaces crates.io by the vendored sources.
///
/// All dependencies come from crates.io, as `deny.toml` requires.
const VENDORED: &str = r#"
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "/msrv/vendor"
"#;

/// Checks the workspace with the oldest supported Rust.
///
/// Uses rustup's toolchain if it is installed, otherwise Debian's in a chroot.
pub(crate) fn run() -> Result<ExitCode> {
    let session = Session::start()?;
    if let Some(toolchain) = installed_toolchain() {
        println!("Rust {toolchain} from rustup");
        let mut check = Command::new("rustup");
        check.current_dir(cargo::root()).args(["run", &toolchain, "cargo"]).args(CHECK);
        return Ok(exit_code::from_status(session.run(&mut check)?));
    }
    if !is_root() || (!has_debian() && program::find("debootstrap").is_none()) {
        bail!(
            "Rust {RUST_VERSION} is not installed: rustup toolchain install {RUST_VERSION}, or, \
             as root on Debian or Ubuntu, apt-get install debootstrap and run this again"
        );
    }
    let debian = Debian { session: &session, root: debian_folder() };
    debian.install()?;
    debian.copy_sources()?;
    debian.check()
}

/// Returns the name of rustup's toolchain for that version.
fn installed_toolchain() -> Option<String> {
    let output = Command::new("rustup").args(["toolchain", "list"]).output().ok()?;
    toolchain_in(&String::from_utf8_lossy(&output.stdout), RUST_VERSION)
}

/// Finds a toolchain with the same major and minor version in rustup's list.
fn toolchain_in(list: &str, version: &str) -> Option<String> {
    let minor = minor_of(version);
    list.lines().filter_map(|line| line.split_whitespace().next()).find_map(|name| {
        let rest = name.strip_prefix(minor)?;
        (rest.is_empty() || rest.starts_with(['.', '-'])).then(|| name.to_owned())
    })
}

/// Removes the patch version: "1.85.0" becomes "1.85".
fn minor_of(version: &str) -> &str {
    version.match_indices('.').nth(1).map_or(version, |(end, _)| &version[..end])
}

fn debian_folder() -> PathBuf {
    cargo::root().join("target").join(format!("msrv-{DEBIAN}"))
}

fn has_debian() -> bool {
    debian_folder().join("usr/bin/cargo").exists()
}

/// A minimal Debian with the compiler, reused by later runs.
///
/// Its folder `/msrv` contains the workspace's sources, the dependencies' sources and the build
/// output.
struct Debian<'a> {
    session: &'a Session,
    root: PathBuf,
}

impl Debian<'_> {
    fn install(&self) -> Result<()> {
        if !has_debian() {
            println!("installing Debian {DEBIAN} in {}", self.root.display());
            // An interrupted run may have left an incomplete installation.
            remove_folder(&self.root)?;
            let mut debootstrap = Command::new("debootstrap");
            debootstrap
                .args(["--variant=minbase", "--include=rustc,cargo,gcc,g++,make,perl", DEBIAN])
                .arg(&self.root);
            self.run_checked(&mut debootstrap)?;
        }
        let output =
            self.chroot("rustc").arg("--version").output().context("failed to run chroot")?;
        let version = String::from_utf8_lossy(&output.stdout);
        if !version.starts_with(&format!("rustc {}.", minor_of(RUST_VERSION))) {
            bail!("Debian {DEBIAN} has {version:?} instead of Rust {RUST_VERSION}");
        }
        println!("{} from Debian {DEBIAN}", version.trim());
        Ok(())
    }

    /// Copies the workspace's files, without those that git ignores.
    fn copy_sources(&self) -> Result<()> {
        let (from, to) = (cargo::root(), self.folder().join("src"));
        remove_folder(&to)?;
        let output = Command::new("git")
            .current_dir(&from)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .context("failed to run git")?;
        for file in names_in(&output.stdout) {
            // git also lists files whose deletion is not committed.
            if from.join(file).is_file() {
                copy(&from.join(file), &to.join(file))?;
            }
        }
        self.vendor()
    }

    /// Copies the dependencies' sources too, so that the check needs no network.
    fn vendor(&self) -> Result<()> {
        println!("copying the dependencies' sources");
        let mut vendor = cargo::cargo();
        vendor.args(["vendor", "--quiet", "--locked", "--versioned-dirs", "--manifest-path"]);
        vendor.arg(self.folder().join("src/Cargo.toml")).arg(self.folder().join("vendor"));
        self.run_checked(&mut vendor)?;
        fs::write(self.folder().join("vendored.toml"), VENDORED)
            .context("failed to write cargo's settings")
    }

    fn check(&self) -> Result<ExitCode> {
        let mut check = self.chroot("cargo");
        check.args(CHECK).args(["--offline", "--manifest-path", "/msrv/src/Cargo.toml"]);
        check.arg("--config").arg("/msrv/vendored.toml");
        Ok(exit_code::from_status(self.session.run(&mut check)?))
    }

    fn folder(&self) -> PathBuf {
        self.root.join("msrv")
    }

    /// Returns a command that runs in the chroot, without this process's environment variables.
    fn chroot(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["HOME=/root", "TERM=dumb", "CARGO_TARGET_DIR=/msrv/target", program]);
        command
    }

    fn run_checked(&self, command: &mut Command) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let status = self.session.run_in_group(command.stdin(Stdio::null()))?;
        if !status.success() {
            bail!("{program} failed ({status})");
        }
        Ok(())
    }
}

fn names_in(zero_separated: &[u8]) -> impl Iterator<Item = &Path> {
    use std::os::unix::ffi::OsStrExt;
    let names = zero_separated.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.map(|name| Path::new(OsStr::from_bytes(name)))
}

/// Copies a file with its modification time, by which cargo decides what to rebuild.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = || {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::copy(from, to)?;
        File::options().write(true).open(to)?.set_modified(from.metadata()?.modified()?)
    };
    copy().with_context(|| format!("failed to copy {}", from.display()))
}

fn remove_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_patch_release_is_accepted() {
        let list =
            "stable-x86_64-unknown-linux-gnu (active, default)\n1.85.1-x86_64-apple-darwin\n";
        assert_eq!(toolchain_in(list, "1.85.0").as_deref(), Some("1.85.1-x86_64-apple-darwin"));
        assert_eq!(toolchain_in("1.85-x86_64\n", "1.85.0").as_deref(), Some("1.85-x86_64"));
        assert_eq!(toolchain_in("1.850.0-x86_64\nstable\n", "1.85.0"), None);
        assert_eq!(toolchain_in("no installed toolchains\n", "1.85.0"), None);
    }

    #[test]
    fn the_patch_version_is_removed() {
        assert_eq!(minor_of("1.85.0"), "1.85");
        assert_eq!(minor_of("1.85"), "1.85");
    }

    #[test]
    fn copies_keep_the_modification_time() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("a/b/to"));
        fs::write(&from, "text").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().write(true).open(&from).unwrap().set_modified(old).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(to.metadata().unwrap().modified().unwrap(), old);
        assert_eq!(fs::read_to_string(&to).unwrap(), "text");
    }
}
