//! Command-line arguments that several subcommands share.

use clap::Args;

/// The metadata of a command.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Idempotency key: a command repeated with the same key gets the same reply
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// User who sends the command
    #[arg(long)]
    pub(crate) by: Option<String>,
}
