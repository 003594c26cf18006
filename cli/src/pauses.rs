//! `log` and `gateways`: pausing and resuming.

use clap::Subcommand;
use composable_rust_admin::{Admin, AdminError, GatewayView, PauseView};

use crate::args::{ByArgs, ListArgs};
use crate::error::Exit;
use crate::table::Table;
use crate::text::{age, moment, number};
use crate::{CliError, Terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// List the pauses
    Status {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Pause the log: no worker of any process takes new work; commands are still handled
    Pause {
        #[command(flatten)]
        by: ByArgs,
    },
    /// End the pause of the log
    Resume {
        #[command(flatten)]
        by: ByArgs,
    },
}

impl LogCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::Status { list } => {
                let print = async |terminal: &mut Terminal, json| {
                    let pauses = admin.pauses().await?;
                    if json {
                        return terminal.json(&pauses);
                    }
                    let mut table = Table::new(["paused", "!since", "by"]);
                    for of in pauses {
                        table.row([of.name, moment(of.since), of.by.unwrap_or_default()]);
                    }
                    terminal.table(&table, "Nothing is paused.")
                };
                list.repeat(terminal, print).await
            }
            Self::Pause { by } => {
                by.admin(admin).pause_log().await?;
                let text = "the log is paused; each process notices within seconds";
                by.done(terminal, text)
            }
            Self::Resume { by } => {
                by.admin(admin).resume_log().await?;
                by.done(terminal, "the log is resumed")
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum GatewaysCommand {
    /// List the gateways that are registered here, are paused or have calls
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Pause a gateway in all processes: its calls wait without spending attempts
    Pause {
        /// Name of the gateway
        gateway: String,
        #[command(flatten)]
        by: ByArgs,
    },
    /// End the pause of a gateway
    Resume {
        /// Name of the gateway
        gateway: String,
        #[command(flatten)]
        by: ByArgs,
    },
}

impl GatewaysCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { list } => {
                let print = async |terminal: &mut Terminal, json| {
                    terminal.list(json, &admin.gateways().await?, table, "No gateways.")
                };
                list.repeat(terminal, print).await
            }
            Self::Pause { gateway, by } => {
                let admin = by.admin(admin);
                let found = admin.gateway(&gateway).await;
                // A program that registers none cannot know the name of an idle one.
                let is_idle = match found {
                    Err(AdminError::NotFound { .. }) if !registers_gateways(&admin) => true,
                    found => found.map(|_| false)?,
                };
                admin.pause_gateway(&gateway).await?;
                if is_idle && !by.output.json {
                    terminal.write("no call waits for it: make sure that this is its name")?;
                }
                by.done(terminal, &format!("the gateway {gateway} is paused"))
            }
            Self::Resume { gateway, by } => {
                let admin = by.admin(admin);
                admin.gateway(&gateway).await?;
                admin.resume_gateway(&gateway).await?;
                by.done(terminal, &format!("the gateway {gateway} is resumed"))
            }
        }
    }
}

fn registers_gateways(admin: &Admin) -> bool {
    !admin.app().gateways().is_empty()
}

fn table(gateways: &[GatewayView]) -> Table {
    let mut table = Table::new(["!gateway", "#waiting", "oldest", "#dead", "paused", "last error"]);
    for of in gateways {
        let paused = |PauseView { since, by, .. }: &PauseView| {
            let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            format!("since {}{by}", moment(*since))
        };
        table.row([
            of.name.clone(),
            number(of.waiting),
            if of.waiting == 0 { String::new() } else { age(of.oldest_seconds) },
            number(of.dead_letters),
            of.pause.as_ref().map(paused).unwrap_or_default(),
            of.last_error.clone().unwrap_or_default(),
        ]);
    }
    table
}
