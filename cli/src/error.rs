//! Errors and exit codes.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use composable_rust::store::StoreError;
use composable_rust::{ConnectError, LoadError};
use composable_rust_admin::AdminError;
use composable_rust_runtime::RegistryError;
use composable_rust_runtime::operations::{ConsumerError, RepublishError, ResetPolicyError};

use crate::printable;

/// The reason why a command did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// The operation failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The store cannot be opened.
    #[error("cannot open the store: {0}")]
    Connect(#[from] ConnectError),
    /// The arguments contradict each other, or one has no meaning here.
    #[error("{0}")]
    Usage(String),
    /// The command needs a decision that was not given.
    #[error("{0}")]
    Refused(String),
    /// The operator stopped the command.
    #[error("interrupted")]
    Interrupted,
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// The exit codes, which do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Problems = 1,
    Usage = 2,
    Unavailable = 3,
    NotFound = 4,
    Refused = 5,
    Interrupted = 130,
}

/// The exit codes, for the help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    done, and problems were found
  2    wrong usage
  3    the store is unavailable, or the outcome is unknown
  4    not found
  5    refused: by the store, by the operator, or for want of --yes
  130  interrupted by Ctrl-C";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl CliError {
    /// Converts an error of the store.
    pub(crate) fn store(error: StoreError) -> Self {
        Self::Admin(error.into())
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Admin(error) => exit_of(error),
            Self::Connect(_) | Self::Output(_) => Exit::Unavailable,
            Self::Usage(_) => Exit::Usage,
            Self::Refused(_) => Exit::Refused,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    /// Prints the error to stderr, and returns its exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {}", printable::block(&error_chain(self)));
        self.exit().into()
    }
}

fn exit_of(error: &AdminError) -> Exit {
    match error {
        _ if error.is_transient() => Exit::Unavailable,
        AdminError::NotFound { .. }
        | AdminError::Republish(RepublishError::NotPublished(_))
        | AdminError::ResetPolicy(ResetPolicyError::Unknown(_))
        | AdminError::Consumer(ConsumerError::Unknown { .. })
        | AdminError::Registry(RegistryError::UnknownAggregate { .. }) => Exit::NotFound,
        AdminError::Load(LoadError::Unavailable { .. } | LoadError::Log { .. }) => {
            Exit::Unavailable
        }
        AdminError::Load(_) | AdminError::Registry(RegistryError::Load(_)) => Exit::Problems,
        AdminError::Registry(RegistryError::InvalidCommand { .. }) => Exit::Usage,
        _ => Exit::Refused,
    }
}

/// Returns the texts of an error and its sources, without repetitions.
fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let of = error.to_string();
        if !text.contains(&of) {
            text = format!("{text}: {of}");
        }
        source = error.source();
    }
    text
}
