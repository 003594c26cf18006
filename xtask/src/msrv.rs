//! `cargo xtask msrv`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::account::is_root;
use crate::session::Session;
use crate::{cargo, program, status};

/// The oldest Rust that the workspace promises to build with, as in `Cargo.toml`.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// The Debian release that ships it.
const DEBIAN: &str = "trixie";

const CHECK: [&str; 5] = ["check", "--workspace", "--all-targets", "--all-features", "--locked"];

/// Every dependency is from the default registry; `deny.toml` sees to that.
const VENDORED: &str = r#"
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "/msrv/vendor"
"#;

/// Checks the workspace with the oldest supported Rust: rustup's if it has it, else Debian's in
/// a folder of its own.
pub(crate) fn run() -> Result<ExitCode> {
    let session = Session::start()?;
    if let Some(toolchain) = installed_toolchain() {
        println!("Rust {toolchain} from rustup");
        let mut check = Command::new("rustup");
        check.current_dir(cargo::root()).args(["run", &toolchain, "cargo"]).args(CHECK);
        return Ok(status::exit_code(session.run(&mut check)?));
    }
    if !is_root() || (!has_debian() && program::find("debootstrap").is_none()) {
        bail!(
            "Rust {RUST_VERSION} is not installed: rustup toolchain install {RUST_VERSION}, or, \
             as root on Debian or Ubuntu, apt-get install debootstrap and run this again"
        );
    }
    let debian = Debian { session: &session, root: debian_folder() };
    debian.install()?;
    debian.lay_out_sources()?;
    debian.check()
}

/// The name of rustup's toolchain of that version.
fn installed_toolchain() -> Option<String> {
    let output = Command::new("rustup").args(["toolchain", "list"]).output().ok()?;
    toolchain_in(&String::from_utf8_lossy(&output.stdout), RUST_VERSION)
}

/// Any patch release will do.
fn toolchain_in(list: &str, version: &str) -> Option<String> {
    let minor = minor_of(version);
    list.lines().filter_map(|line| line.split_whitespace().next()).find_map(|name| {
        let rest = name.strip_prefix(minor)?;
        (rest.is_empty() || rest.starts_with(['.', '-'])).then(|| name.to_owned())
    })
}

/// "1.85" of "1.85.0".
fn minor_of(version: &str) -> &str {
    version.match_indices('.').nth(1).map_or(version, |(end, _)| &version[..end])
}

fn debian_folder() -> PathBuf {
    cargo::root().join("target").join(format!("msrv-{DEBIAN}"))
}

fn has_debian() -> bool {
    debian_folder().join("usr/bin/cargo").exists()
}

/// A small Debian with the compiler in it, kept from run to run. What it checks lies in its
/// folder `/msrv`: the sources, every dependency's source, and the build's output.
struct Debian<'a> {
    session: &'a Session,
    root: PathBuf,
}

impl Debian<'_> {
    fn install(&self) -> Result<()> {
        if !has_debian() {
            println!("Debian {DEBIAN} into {}", self.root.display());
            // What an interrupted run left is no base to build on.
            remove_folder(&self.root)?;
            let mut debootstrap = Command::new("debootstrap");
            debootstrap
                .args(["--variant=minbase", "--include=rustc,cargo,gcc,g++,make,perl", DEBIAN])
                .arg(&self.root);
            self.succeed(&mut debootstrap)?;
        }
        let output = self.inside("rustc").arg("--version").output().context("running chroot")?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !said.starts_with(&format!("rustc {}.", minor_of(RUST_VERSION))) {
            bail!("Debian {DEBIAN} has {said:?}, and Rust {RUST_VERSION} is what to check with");
        }
        println!("{} from Debian {DEBIAN}", said.trim());
        Ok(())
    }

    /// Copies what git would: the files it knows and those it does not ignore.
    fn lay_out_sources(&self) -> Result<()> {
        let (from, to) = (cargo::root(), self.folder().join("src"));
        remove_folder(&to)?;
        let output = Command::new("git")
            .current_dir(&from)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .context("running git")?;
        for file in names_in(&output.stdout) {
            // git also lists what has been deleted but not committed.
            if from.join(file).is_file() {
                copy(&from.join(file), &to.join(file))?;
            }
        }
        self.vendor()
    }

    /// Puts the dependencies' sources beside the workspace's, so that the check needs no network.
    fn vendor(&self) -> Result<()> {
        println!("collecting the dependencies' sources");
        let mut vendor = cargo::cargo();
        vendor.args(["vendor", "--quiet", "--locked", "--versioned-dirs", "--manifest-path"]);
        vendor.arg(self.folder().join("src/Cargo.toml")).arg(self.folder().join("vendor"));
        self.succeed(&mut vendor)?;
        fs::write(self.folder().join("vendored.toml"), VENDORED).context("writing cargo's settings")
    }

    fn check(&self) -> Result<ExitCode> {
        let mut check = self.inside("cargo");
        check.args(CHECK).args(["--offline", "--manifest-path", "/msrv/src/Cargo.toml"]);
        check.arg("--config").arg("/msrv/vendored.toml");
        Ok(status::exit_code(self.session.run(&mut check)?))
    }

    fn folder(&self) -> PathBuf {
        self.root.join("msrv")
    }

    /// A program in there, with an environment that knows nothing of the toolchain out here.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["HOME=/root", "TERM=dumb", "CARGO_TARGET_DIR=/msrv/target", program]);
        command
    }

    fn succeed(&self, command: &mut Command) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let status = self.session.run_apart(command.stdin(Stdio::null()))?;
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

/// Keeps the time of change, by which cargo knows what to build again.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = || {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::copy(from, to)?;
        File::options().write(true).open(to)?.set_modified(from.metadata()?.modified()?)
    };
    copied().with_context(|| format!("copying {}", from.display()))
}

fn remove_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_patch_release_will_do() {
        let list =
            "stable-x86_64-unknown-linux-gnu (active, default)\n1.85.1-x86_64-apple-darwin\n";
        assert_eq!(toolchain_in(list, "1.85.0").as_deref(), Some("1.85.1-x86_64-apple-darwin"));
        assert_eq!(toolchain_in("1.85-x86_64\n", "1.85.0").as_deref(), Some("1.85-x86_64"));
        assert_eq!(toolchain_in("1.850.0-x86_64\nstable\n", "1.85.0"), None);
        assert_eq!(toolchain_in("no installed toolchains\n", "1.85.0"), None);
    }

    #[test]
    fn minor_versions() {
        assert_eq!(minor_of("1.85.0"), "1.85");
        assert_eq!(minor_of("1.85"), "1.85");
    }

    #[test]
    fn copies_keep_their_age() {
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
