//! Arguments that several commands share.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use clap::Args;
use composable_rust_admin::{Admin, AdminError, Interrupt, Operator};
use serde::Serialize;
use serde_json::json;

use crate::error::Exit;
use crate::{CliError, Terminal};

/// The form of the output.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON, with exact numbers
    #[arg(long)]
    pub(crate) json: bool,
}

/// The form of a list.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Print the list again every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) watch: Option<u64>,
}

impl ListArgs {
    /// Calls `print` once, or again and again.
    pub(crate) async fn repeat(
        self,
        terminal: &mut Terminal,
        mut print: impl AsyncFnMut(&mut Terminal, bool) -> Result<(), CliError>,
    ) -> Result<Exit, CliError> {
        let Some(seconds) = self.watch else {
            print(terminal, self.output.json).await?;
            return Ok(Exit::Done);
        };
        until_interrupted(async {
            loop {
                if !self.output.json {
                    terminal.clear()?;
                }
                print(terminal, self.output.json).await?;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
        })
        .await
    }
}

/// Runs an endless operation until Ctrl-C.
///
/// Ctrl-C ends it at its next `await`, from the start on: none is missed while it works.
pub(crate) async fn until_interrupted(
    endless: impl Future<Output = Result<Infallible, CliError>>,
) -> Result<Exit, CliError> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
        ended = endless => match ended? {},
    }
}

/// The operator of a change, and the form of what is printed about it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ByArgs {
    /// Name in the operators' stream [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Reason in the operators' stream, such as a ticket
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl ByArgs {
    pub(crate) fn admin(&self, admin: &Admin) -> Admin {
        let Operator { name, reason } = admin.operator().clone();
        admin.on_behalf_of(Operator {
            name: self.by.clone().unwrap_or(name),
            reason: self.reason.clone().unwrap_or(reason),
        })
    }

    /// Prints what a change has done.
    pub(crate) fn done(&self, terminal: &mut Terminal, text: &str) -> Result<Exit, CliError> {
        self.report(terminal, &json!({ "changed": true, "text": text }), text)
    }

    /// Prints what a change would do.
    pub(crate) fn planned(&self, terminal: &mut Terminal, what: &str) -> Result<Exit, CliError> {
        let text = format!("would {what}");
        self.report(terminal, &json!({ "changed": false, "text": text }), &text)
    }

    /// Prints a value, or a text in its place.
    pub(crate) fn report(
        &self,
        terminal: &mut Terminal,
        value: &impl Serialize,
        text: &str,
    ) -> Result<Exit, CliError> {
        if self.output.json {
            terminal.json(value)?;
        } else {
            terminal.line(text)?;
        }
        Ok(Exit::Done)
    }
}

/// A change that cannot be undone.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) by: ByArgs,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl ChangeArgs {
    /// Asks whether to go on, unless the arguments say so.
    pub(crate) fn confirm(&self, terminal: &Terminal, what: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        if !terminal.is_interactive() {
            return Err(CliError::Refused(format!("to {what}, add --yes (or --dry-run)")));
        }
        let mut question = what.to_owned();
        question[..1].make_ascii_uppercase();
        if terminal.ask(&format!("{question}?"))? {
            Ok(())
        } else {
            Err(CliError::Refused("nothing was changed".to_owned()))
        }
    }
}

/// Runs a long operation. The first Ctrl-C lets it end early, the second one drops it.
pub(crate) async fn interruptible<T>(
    interrupt: &Interrupt,
    operation: impl Future<Output = Result<T, AdminError>>,
) -> Result<T, CliError> {
    let mut operation = std::pin::pin!(operation);
    tokio::select! {
        done = &mut operation => return Ok(done?),
        _ = tokio::signal::ctrl_c() => {
            interrupt.interrupt();
            eprintln!("stopping; Ctrl-C again stops at once");
        }
    }
    tokio::select! {
        done = operation => Ok(done?),
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn ctrl_c_while_an_operation_works_is_not_missed() {
        let working = async {
            let pid = std::process::id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            std::future::pending().await
        };
        assert_eq!(until_interrupted(working).await.unwrap(), Exit::Done);
    }
}
