//! A process that is held before its program starts, until the reaper knows it.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// The shell script that holds the process. At the end of its input it ends without running the
/// program; at a line, it becomes the program, with the same process id.
const HOLD: &str = r#"read -r line && exec "$0" "$@" </dev/null"#;

/// Returns a command that is held before it becomes `command`, with the program, arguments,
/// environment and folder of `command`.
pub(crate) fn hold(command: &Command) -> Command {
    let mut held = Command::new("sh");
    held.args(["-c", HOLD]).arg(command.get_program()).args(command.get_args());
    held.stdin(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => held.env(name, value),
            None => held.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        held.current_dir(folder);
    }
    held
}

/// Lets a held process run its program.
pub(crate) fn release(process: &mut Child) -> Result<()> {
    let mut input = process.stdin.take().context("the process is not held")?;
    input.write_all(b"go\n").context("the held process has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_process_runs_its_program_only_when_released() {
        let folder = tempfile::tempdir().unwrap();
        for is_released in [false, true] {
            let mut touch = Command::new("touch");
            touch.arg("a file").current_dir(folder.path());
            let mut process = hold(&touch).spawn().unwrap();
            if is_released {
                release(&mut process).unwrap();
            }
            // Closes the pipe, as the end of this process does.
            drop(process.stdin.take());
            assert_eq!(process.wait().unwrap().success(), is_released);
            assert_eq!(folder.path().join("a file").exists(), is_released);
        }
    }
}
