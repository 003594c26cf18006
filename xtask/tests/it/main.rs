//! Tests of the program as a whole. They set `DATABASE_URL`, so that no server is started.

mod errors;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};

const URL: &str = "postgres://nobody@127.0.0.1:1/nothing";

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).env("DATABASE_URL", URL).stdin(Stdio::null());
    command
}

#[test]
fn a_command_gets_the_url_and_its_exit_code_is_passed_on() {
    let script = "echo \"$DATABASE_URL\"; exit 7";
    let output = xtask(&["postgres", "--", "sh", "-c", script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{URL}\n"));
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_url_of_another_database_is_rejected_in_one_line() {
    let output =
        xtask(&["postgres", "--", "true"]).env("DATABASE_URL", "sqlite:a.db").output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        message.contains("not to a PostgreSQL server") && message.lines().count() == 1,
        "{message}"
    );
}

#[test]
fn a_missing_command_is_named() {
    let output = xtask(&["postgres", "--", "no-such-program"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("failed to run no-such-program"), "{message}");
}

/// Starts a long-running command that starts another one, and returns their process group.
fn long_running() -> (Child, Pid) {
    // The run registers the command for cleanup right after starting it. Killed before that, it
    // would leave the command running, so the line that the test waits for comes late enough.
    let script = "sleep 600 & sleep 0.5; echo $$; wait";
    let mut child =
        xtask(&["postgres", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let group = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    assert!(test_kill_process_group(group).is_ok());
    (child, group)
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn the_command_has_ended_when_a_terminated_run_exits() {
    let (mut child, group) = long_running();
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(test_kill_process_group(group).is_err());
}

#[test]
fn the_command_ends_soon_after_a_killed_run() {
    let (mut child, group) = long_running();
    signal(&child, Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let killed = Instant::now();
    // The processes exist until the system's init process reaps them, which may take a while.
    while test_kill_process_group(group).is_ok() {
        assert!(killed.elapsed() < Duration::from_secs(30), "the command still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}
