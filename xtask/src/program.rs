//! Programs on this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// The first executable of that name in `PATH`; a name with a slash is a path already.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_executable(path));
    }
    folders().map(|folder| folder.join(name)).find(|path| is_executable(path))
}

/// The folders of `PATH`, in order.
pub(crate) fn folders() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// Can somebody execute this file?
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Does the command succeed, silently?
pub(crate) fn succeeds(command: &mut Command) -> bool {
    silent(command).status().is_ok_and(|status| status.success())
}

/// Does the command succeed, silently, within `limit`? One that hangs is ended.
pub(crate) fn succeeds_within(limit: Duration, command: &mut Command) -> bool {
    let Ok(mut child) = silent(command).spawn() else { return false };
    let started = Instant::now();
    while started.elapsed() < limit {
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
    fn finds_by_name_and_by_path() {
        let sh = find("sh").expect("every Unix has sh");
        assert_eq!(find(sh.to_str().unwrap()), Some(sh));
        assert_eq!(find("no-program-has-this-name"), None);
        assert_eq!(find("/etc/passwd"), None);
    }

    #[test]
    fn a_hanging_command_does_not_succeed() {
        let started = Instant::now();
        assert!(!succeeds_within(Duration::from_millis(100), Command::new("sleep").arg("60")));
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(succeeds_within(Duration::from_secs(30), &mut Command::new("true")));
    }
}
