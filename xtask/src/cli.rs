//! The command line.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::kafka::Kafka;
use crate::server::Server;
use crate::session::Session;
use crate::{bench, ci, deploy, exit_code, load, msrv, prose, reaper, test};

/// The repository's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run all tests, with a PostgreSQL server and a Kafka broker
    ///
    /// The server is the first available of: the one in `DATABASE_URL`, a container, a throw-away
    /// cluster of the PostgreSQL on this machine (installed if missing). The broker is the first
    /// available of: the one in `KAFKA_BROKERS`, Redpanda in a container, Apache Kafka from Maven
    /// Central.
    Test {
        /// Arguments for `cargo test`; `-p NAME` tests only that package
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run all checks of continuous integration: formatting, clippy, docs, tests, licences, book
    Ci,
    /// Start a PostgreSQL server and run a command with `DATABASE_URL` set to its URL
    ///
    /// Without a command, the server runs until Ctrl-C.
    Postgres {
        /// Start a second server, whose commits wait at least 5 ms for a synchronous replica, and
        /// set `SLOW_DATABASE_URL` to its URL
        #[arg(long)]
        slow_commit: bool,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Start a Kafka broker and run a command with `KAFKA_BROKERS` set to its address
    ///
    /// Without a command, the broker runs until Ctrl-C.
    Kafka {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Install Chromium and its driver, if they are missing, and run a command
    Browser {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Run the benchmarks, with a PostgreSQL server and a Kafka broker
    ///
    /// `PGBENCH` is set to the path of `pgbench` if it is installed. If the server is a throw-away
    /// cluster, `SLOW_DATABASE_URL` is set to the URL of a second server, whose commits take at
    /// least 5 ms.
    Bench {
        /// Arguments for `cargo bench`; `-p NAME` runs only that package
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run the load of the example `production-ready`, with a PostgreSQL server and a Kafka broker
    ///
    /// Builds the example with optimizations, and starts its three services as processes. See its
    /// command `load` for the arguments.
    Load {
        /// Arguments for `production-ready load`, such as `--rate 200 --seconds 60`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Check the workspace with the oldest supported Rust
    Msrv,
    /// Check the wording of docs, comments and Markdown files
    ///
    /// Prints each offence as `file:line: rule: text`. Three rules: at most 3 % of a crate's doc
    /// summaries begin with What, How, Whether, Where, Why, Who, Whom, Whose or Which; phrases of
    /// the stop list are absent; comment lines in Rust have at most 100 columns.
    Prose {
        /// Check one crate only, named by its folder (`core`, `examples/counter`)
        #[arg(long = "crate", value_name = "NAME")]
        only: Option<String>,
    },
    /// Check the folder `deploy`: alerts, dashboards, the chart, compose files
    ///
    /// Alerts and dashboards are checked with `promtool` (installed if missing), the chart with
    /// `helm` and `kubeconform` (built if missing and Go is installed), and compose files with
    /// `docker compose`. What a missing tool would check is skipped, and said so.
    Deploy,
    /// Read cleanup tasks from standard input, and run them once standard input closes
    #[command(name = reaper::SUBCOMMAND, hide = true)]
    Reaper,
}

impl Cli {
    /// Runs the subcommand and returns this process's exit code.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.task {
            Task::Test { args } => test::run(&with_separator(args)),
            Task::Bench { args } => bench::run(&with_separator(args)),
            Task::Load { args } => load::run(&args),
            Task::Ci => ci::run(),
            Task::Postgres { slow_commit, command } => postgres(slow_commit, &command),
            Task::Kafka { command } => kafka(&command),
            Task::Browser { command } => browser(&command),
            Task::Msrv => msrv::run(),
            Task::Prose { only } => prose::run(only.as_deref()),
            Task::Deploy => deploy::run(),
            Task::Reaper => {
                reaper::run();
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn postgres(slow_commit: bool, command: &[OsString]) -> Result<ExitCode> {
    let mut server = Server::provision(Session::start()?)?;
    if slow_commit {
        server.add_slow_commit()?;
    }
    match command {
        [] => {
            println!("{}", server.url());
            if let Some(url) = server.slow_commit_url() {
                println!("{url} (slow commits)");
            }
            println!("Press Ctrl-C to stop.");
            server.session().wait_for_interrupt()
        }
        [program, args @ ..] => {
            let mut command = Command::new(program);
            Ok(exit_code::from_status(server.run(command.args(args))?))
        }
    }
}

fn kafka(command: &[OsString]) -> Result<ExitCode> {
    let session = Session::start()?;
    let kafka = Kafka::start(&session)?.wait_until_ready(&session)?;
    match command {
        [] => {
            println!("{}\nPress Ctrl-C to stop.", kafka.brokers());
            session.wait_for_interrupt()
        }
        [program, args @ ..] => {
            let mut command = Command::new(program);
            kafka.set_env(command.args(args));
            Ok(exit_code::from_status(session.run(&mut command)?))
        }
    }
}

fn browser(command: &[OsString]) -> Result<ExitCode> {
    let session = Session::start()?;
    test::install_browser(&session);
    match command {
        [] => Ok(ExitCode::SUCCESS),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            Ok(exit_code::from_status(session.run(command.args(args))?))
        }
    }
}

/// Restores a leading `--`, which clap removes.
///
/// In `cargo xtask test -- --nocapture`, the separator belongs to `cargo test`.
fn with_separator(args: Vec<OsString>) -> Vec<OsString> {
    let was_removed = std::env::args_os().nth(2).is_some_and(|first| first == "--");
    let separator = was_removed.then(|| OsString::from("--"));
    separator.into_iter().chain(args).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_for_cargo_are_passed_on() {
        let cli = Cli::parse_from(["xtask", "test", "-p", "core", "--", "--nocapture"]);
        let Task::Test { args } = cli.task else { panic!("not a test: {cli:?}") };
        assert_eq!(args, ["-p", "core", "--", "--nocapture"]);
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let cli = Cli::parse_from(["xtask", "postgres", "--", "psql", "-c", "select 1"]);
        let Task::Postgres { slow_commit, command } = cli.task else {
            panic!("not postgres: {cli:?}")
        };
        assert_eq!(command, ["psql", "-c", "select 1"]);
        assert!(!slow_commit);
    }

    #[test]
    fn slow_commit_is_an_option_before_the_command() {
        let cli = Cli::parse_from(["xtask", "postgres", "--slow-commit", "--", "bench", "--bench"]);
        let Task::Postgres { slow_commit, command } = cli.task else {
            panic!("not postgres: {cli:?}")
        };
        assert_eq!(command, ["bench", "--bench"]);
        assert!(slow_commit);
    }
}
