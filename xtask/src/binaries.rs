//! Finds the PostgreSQL server programs installed on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program;
use crate::version::Version;

/// A folder that contains `initdb` and `postgres`, and their version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) folder: PathBuf,
    pub(crate) version: Version,
}

/// The folders in which distributions install server programs: a parent folder, the prefix of a
/// versioned folder in it, and a subfolder of that.
const SERVER_FOLDERS: [(&str, &str, &str); 9] = [
    ("/usr/lib/postgresql", "", "bin"),         // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                  // the PostgreSQL project's RPMs
    ("/usr/lib", "postgresql", "bin"),          // openSUSE
    ("/usr/libexec", "postgresql", ""),         // Alpine
    ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew, Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),    // Homebrew, Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"), // Homebrew, Linux
    ("/usr/local", "pgsql", "bin"),             // built from source
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

impl Binaries {
    /// Returns all installed versions, supported or not.
    pub(crate) fn installed() -> Vec<Self> {
        folders().into_iter().filter_map(Self::in_folder).collect()
    }

    /// Returns the newest version that the project supports.
    pub(crate) fn newest(installed: &[Self]) -> Option<&Self> {
        installed.iter().filter(|found| found.version.is_supported()).max_by_key(|f| f.version)
    }

    /// Returns the path of a program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn in_folder(folder: PathBuf) -> Option<Self> {
        let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder, version })
    }
}

/// Returns the path of `pgbench`, in the newest server's folder or in `PATH`.
pub(crate) fn pgbench() -> Option<PathBuf> {
    let installed = Binaries::installed();
    let beside = Binaries::newest(&installed).map(|newest| newest.program("pgbench"));
    beside.filter(|path| program::is_executable(path)).or_else(|| program::find("pgbench"))
}

/// Returns the folders that contain the server programs, with links resolved and without
/// duplicates.
fn folders() -> BTreeSet<PathBuf> {
    let named = SERVER_FOLDERS.iter().flat_map(|(parent, prefix, rest)| {
        names_in(Path::new(parent))
            .filter(move |name| name.starts_with(prefix))
            .map(move |name| Path::new(parent).join(name).join(rest))
    });
    program::folders().chain(named).filter_map(|folder| resolve(&folder)).collect()
}

/// Returns the folder that `initdb` in `folder` links to, if it contains all programs needed.
///
/// `/usr/local/bin/initdb`, for example, may be a link to the installation's folder.
fn resolve(folder: &Path) -> Option<PathBuf> {
    let initdb = folder.join("initdb").canonicalize().ok()?;
    let folder = initdb.parent()?;
    let is_complete =
        ["initdb", "postgres"].iter().all(|name| program::is_executable(&folder.join(name)));
    is_complete.then(|| folder.to_owned())
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn at(folder: &str, major: u32, minor: u32) -> Binaries {
        Binaries { folder: folder.into(), version: Version { major, minor } }
    }

    #[test]
    fn the_newest_supported_is_chosen() {
        let installed = [at("a", 15, 18), at("b", 17, 2), at("c", 17, 5), at("d", 19, 0)];
        assert_eq!(Binaries::newest(&installed), Some(&installed[2]));
    }

    #[test]
    fn an_unsupported_version_is_not_chosen() {
        assert_eq!(Binaries::newest(&[at("a", 14, 9), at("b", 19, 1)]), None);
        assert_eq!(Binaries::newest(&[]), None);
    }

    #[test]
    fn a_link_is_resolved_to_the_installation() {
        let temp = tempfile::tempdir().unwrap();
        let (real, links) = (temp.path().join("real"), temp.path().join("links"));
        for folder in [&real, &links] {
            fs::create_dir(folder).unwrap();
        }
        for name in ["initdb", "postgres"] {
            fs::write(real.join(name), "").unwrap();
            fs::set_permissions(real.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(real.join("initdb"), links.join("initdb")).unwrap();
        assert_eq!(resolve(&links), Some(real.canonicalize().unwrap()));
        fs::remove_file(real.join("postgres")).unwrap();
        assert_eq!(resolve(&links), None, "a client package is no server");
    }
}
