//! The program as a whole. `DATABASE_URL` is set, so that no server needs to be there.

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
fn a_url_of_something_else_is_refused_in_one_line() {
    let output =
        xtask(&["postgres", "--", "true"]).env("DATABASE_URL", "sqlite:a.db").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("not to a PostgreSQL server") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_missing_command_is_named() {
    let output = xtask(&["postgres", "--", "no-such-program"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("running no-such-program"), "{said}");
}

/// Starts a command that starts another, both of which would run for long; returns its process
/// group.
fn long_running() -> (Child, Pid) {
    let script = "sleep 600 & echo $$; wait";
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
fn what_runs_is_gone_when_a_terminated_run_ends() {
    let (mut child, group) = long_running();
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(test_kill_process_group(group).is_err());
}

#[test]
fn what_runs_is_gone_soon_after_a_killed_run() {
    let (mut child, group) = long_running();
    signal(&child, Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let killed = Instant::now();
    // The system's first process has to reap them, and takes its time.
    while test_kill_process_group(group).is_ok() {
        assert!(killed.elapsed() < Duration::from_secs(30), "still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}
