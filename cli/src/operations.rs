//! All commands on a store.

use std::process::ExitCode;

use clap::Subcommand;
use composable_rust_admin::{Admin, Operator};

use crate::args::{ListArgs, OutputArgs};
#[cfg(feature = "web-console")]
use crate::console_server::ConsoleArgs;
use crate::dead::DeadCommand;
use crate::diagnosis::DoctorArgs;
use crate::error::{EXIT_CODES, Exit};
use crate::events::EventsArgs;
use crate::followers::{ConsumersCommand, PoliciesCommand, RelaysCommand};
use crate::mounted::mounted;
use crate::pauses::{GatewaysCommand, LogCommand};
use crate::projections::ProjectionsCommand;
use crate::queues::QueuesCommand;
use crate::repair::{EraseArgs, OverrideArgs, SendArgs};
use crate::streams::StreamsCommand;
use crate::timers::TimersCommand;
use crate::trace::TraceArgs;
use crate::verify::AuditArgs;
use crate::workers::SagasArgs;
use crate::{CliError, Terminal, verify, workers};

/// The commands on a store, with or without an app. Mount them as a subcommand, or among those of
/// your program with `#[command(flatten)]`.
#[derive(Debug)]
pub struct Operations(Box<Command>);

mounted!(Operations(Command));

#[derive(Debug, Subcommand)]
#[command(after_help = EXIT_CODES)]
enum Command {
    /// Streams: lists, histories, states
    #[command(subcommand)]
    Streams(StreamsCommand),
    /// Queues of messages, and what waits in them
    #[command(subcommand)]
    Queues(QueuesCommand),
    /// Dead letters: messages that could not be handled
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Search or follow the events of the log, newest first
    Events(EventsArgs),
    /// Print the tree of a workflow across instances and services, with what waits in it
    Trace(TraceArgs),
    /// Timers, due or not
    #[command(subcommand)]
    Timers(TimersCommand),
    /// List the unfinished instances of a type by step, such as sagas
    Sagas(SagasArgs),
    /// List the workers, with the partitions that their processes hold
    Workers(ListArgs),
    /// List the processes, with their workers
    Processes(ListArgs),
    /// List the progress of policies, relays and consumers
    Checkpoints(ListArgs),
    /// Policies over the log: progress, resets
    #[command(subcommand)]
    Policies(PoliciesCommand),
    /// Relays to topics of the bus: progress, publishing again
    #[command(subcommand)]
    Relays(RelaysCommand),
    /// Consumers of topics of the bus: positions, resets
    #[command(subcommand)]
    Consumers(ConsumersCommand),
    /// Pause and resume all workers
    #[command(subcommand)]
    Log(LogCommand),
    /// Gateways: calls that wait, pauses
    #[command(subcommand)]
    Gateways(GatewaysCommand),
    /// Projections: progress, pauses, rebuilds
    #[command(subcommand)]
    Projections(ProjectionsCommand),
    /// Send a command to an instance, as JSON
    Send(SendArgs),
    /// Erase a stream permanently, or find where a text still appears
    Erase(EraseArgs),
    /// Replace the content of an event that cannot be decoded or applied
    Override(OverrideArgs),
    /// Read the whole log and verify it
    Verify(OutputArgs),
    /// List what operators have changed, newest first
    Audit(AuditArgs),
    /// Describe the log, and what this program registers
    Describe(OutputArgs),
    /// Examine the store and what works on it
    Doctor(DoctorArgs),
    /// Serve the console, for a browser on this machine, until Ctrl-C
    #[cfg(feature = "web-console")]
    Console(Box<ConsoleArgs>),
}

impl Operations {
    /// Runs the command on this process's terminal, and returns its exit code.
    pub async fn run(self, admin: &Admin) -> ExitCode {
        match self.run_on(admin, &mut Terminal::standard()).await {
            Ok(code) => code,
            Err(error) => error.report(),
        }
    }

    /// Runs the command on a terminal of the caller's choice, and returns its exit code.
    ///
    /// # Errors
    ///
    /// [`CliError`]: the command did not do its work. [`CliError::report`] prints it.
    pub async fn run_on(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<ExitCode, CliError> {
        self.0.execute(admin, terminal).await.map(ExitCode::from)
    }
}

impl Command {
    async fn execute(self, admin: &Admin, terminal: &mut Terminal) -> Result<Exit, CliError> {
        match self {
            Self::Streams(command) => command.run(admin, terminal).await,
            Self::Queues(command) => command.run(admin, terminal).await,
            Self::Dead(command) => command.run(admin, terminal).await,
            Self::Events(command) => command.run(admin, terminal).await,
            Self::Trace(command) => command.run(admin, terminal).await,
            Self::Timers(command) => command.run(admin, terminal).await,
            Self::Sagas(command) => command.run(admin, terminal).await,
            Self::Workers(list) => workers::workers(list, admin, terminal).await,
            Self::Processes(list) => workers::processes(list, admin, terminal).await,
            Self::Checkpoints(list) => workers::checkpoints(list, admin, terminal).await,
            Self::Policies(command) => command.run(admin, terminal).await,
            Self::Relays(command) => command.run(admin, terminal).await,
            Self::Consumers(command) => command.run(admin, terminal).await,
            Self::Log(command) => command.run(admin, terminal).await,
            Self::Gateways(command) => command.run(admin, terminal).await,
            Self::Projections(command) => command.run(admin, terminal).await,
            Self::Send(command) => command.run(admin, terminal).await,
            Self::Erase(command) => command.run(admin, terminal).await,
            Self::Override(command) => command.run(admin, terminal).await,
            Self::Verify(output) => verify::verify(output, admin, terminal).await,
            Self::Audit(command) => command.run(admin, terminal).await,
            Self::Describe(output) => verify::describe(output, admin, terminal).await,
            Self::Doctor(command) => command.run(admin, terminal).await,
            #[cfg(feature = "web-console")]
            Self::Console(command) => command.run(admin, terminal).await,
        }
    }
}

/// Returns the operator of this process: the user of the system.
pub fn operator() -> Operator {
    let name =
        ["USER", "USERNAME", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    Operator::named(name.unwrap_or_else(|| "unknown".to_owned()))
}
