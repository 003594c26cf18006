//! The command line.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::kafka::Kafka;
use crate::server::Server;
use crate::session::Session;
use crate::{bench, ci, guard, msrv, prose, status, suite};

/// The repository's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run all tests against a PostgreSQL server and a Kafka broker started for them
    ///
    /// The server is the one `DATABASE_URL` names, else a container, else a throw-away cluster
    /// of the PostgreSQL installed here, which is installed if it is missing. The broker is the one
    /// `KAFKA_BROKERS` names, else Redpanda in a container, else Apache Kafka from Maven Central.
    Test {
        /// Arguments for `cargo test`; `-p NAME` tests that package alone
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run what continuous integration runs: formatting, clippy, docs, tests, licences, book
    Ci,
    /// Run a command with `DATABASE_URL` set to a fresh server; without one, keep the server
    /// running until Ctrl-C
    Postgres {
        /// Start a second server, whose commits take at least 5 ms for a synchronous replica,
        /// and set `SLOW_DATABASE_URL` to it
        #[arg(long)]
        slow_commit: bool,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Run a command with `KAFKA_BROKERS` set to a fresh broker; without one, keep the broker
    /// running until Ctrl-C
    Kafka {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Run the benchmarks with `DATABASE_URL` and, where `pgbench` is installed, `PGBENCH` set
    ///
    /// Where the server is a throw-away cluster, `SLOW_DATABASE_URL` names a second one, whose
    /// commits take at least 5 ms.
    Bench {
        /// Arguments for `cargo bench`; `-p NAME` runs that package alone
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
    /// Take down what the parent started, once its end of standard input closes
    #[command(name = guard::SUBCOMMAND, hide = true)]
    Guard,
}

impl Cli {
    /// Runs the task and says how this process should exit.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.task {
            Task::Test { args } => suite::run(&with_separator(args)),
            Task::Bench { args } => bench::run(&with_separator(args)),
            Task::Ci => ci::run(),
            Task::Postgres { slow_commit, command } => postgres(slow_commit, &command),
            Task::Kafka { command } => kafka(&command),
            Task::Msrv => msrv::run(),
            Task::Prose { only } => prose::run(only.as_deref()),
            Task::Guard => {
                guard::keep();
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
            println!("Ctrl-C ends it.");
            server.session().wait_for_interrupt()
        }
        [program, args @ ..] => {
            let mut command = Command::new(program);
            Ok(status::exit_code(server.run(command.args(args))?))
        }
    }
}

fn kafka(command: &[OsString]) -> Result<ExitCode> {
    let session = Session::start()?;
    let kafka = Kafka::begin(&session)?.wait_until_ready(&session)?;
    match command {
        [] => {
            println!("{}\nCtrl-C ends it.", kafka.brokers());
            session.wait_for_interrupt()
        }
        [program, args @ ..] => {
            let mut command = Command::new(program);
            kafka.set(command.args(args));
            Ok(status::exit_code(session.run(&mut command)?))
        }
    }
}

/// Puts back the leading `--` that clap takes for its own: in `cargo xtask test -- --nocapture`
/// it belongs to `cargo test`.
fn with_separator(args: Vec<OsString>) -> Vec<OsString> {
    let swallowed = std::env::args_os().nth(2).is_some_and(|first| first == "--");
    let separator = swallowed.then(|| OsString::from("--"));
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
    fn arguments_of_cargo_pass_through() {
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
    fn slow_commits_are_asked_for_before_the_command() {
        let cli = Cli::parse_from(["xtask", "postgres", "--slow-commit", "--", "bench", "--bench"]);
        let Task::Postgres { slow_commit, command } = cli.task else {
            panic!("not postgres: {cli:?}")
        };
        assert_eq!(command, ["bench", "--bench"]);
        assert!(slow_commit);
    }
}
