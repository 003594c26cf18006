//! Finds and runs programs of this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// Returns the path of the first executable with this name in `PATH`.
///
/// A name with a slash is taken as a path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_executable(path));
    }
    folders().map(|folder| folder.join(name)).find(|path| is_executable(path))
}

/// Returns the folders of `PATH` in order.
pub(crate) fn folders() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// Returns `true` if this is a file that any user may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a command without input and output, and returns `true` if it succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    silent(command).status().is_ok_and(|status| status.success())
}

/// Does the same as [`succeeds`], but kills the command and returns `false` after `timeout`.
pub(crate) fn succeeds_within(timeout: Duration, command: &mut Command) -> bool {
    let Ok(mut child) = silent(command).spawn() else { return false };
    let started = Instant::now();
    while started.elapsed() < timeout {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        let sh = find("sh").expect("sh is installed");
        assert_eq!(find(sh.to_str().unwrap()), Some(sh));
        assert_eq!(find("no-program-has-this-name"), None);
        assert_eq!(find("/etc/passwd"), None);
    }

    #[test]
    fn a_hanging_command_is_killed() {
        let started = Instant::now();
        assert!(!succeeds_within(Duration::from_millis(100), Command::new("sleep").arg("60")));
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(succeeds_within(Duration::from_secs(30), &mut Command::new("true")));
    }
}
