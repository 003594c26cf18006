//! `projections`: progress, pausing, rebuilding.

use clap::Subcommand;
use composable_rust_admin::Admin;

use crate::args::{ByArgs, ChangeArgs, ListArgs};
use crate::error::Exit;
use crate::table::Table;
use crate::text::number;
use crate::{CliError, Terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectionsCommand {
    /// List the projections that this program registers
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Pause a projection
    Pause {
        /// Name of the projection
        projection: String,
        #[command(flatten)]
        by: ByArgs,
    },
    /// Continue a projection that is paused or failed
    Resume {
        /// Name of the projection
        projection: String,
        #[command(flatten)]
        by: ByArgs,
    },
    /// Clear the read model of a projection, and project all events again
    Rebuild {
        /// Name of the projection
        projection: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

impl ProjectionsCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { list } => {
                let print = async |terminal: &mut Terminal, json| {
                    let projections = admin.projections().await;
                    if json {
                        return terminal.json(&projections);
                    }
                    let mut table = Table::new(["!projection", "state", "#done", "#of", "reason"]);
                    for of in projections {
                        let reason = of.error.unwrap_or(of.reason);
                        table.row([of.name, of.state, number(of.done), number(of.of), reason]);
                    }
                    terminal.table(&table, "This program registers no projections.")
                };
                list.repeat(terminal, print).await
            }
            Self::Pause { projection, by } => {
                by.admin(admin).pause_projection(&projection).await?;
                by.done(terminal, &format!("the projection {projection} is paused"))
            }
            Self::Resume { projection, by } => {
                by.admin(admin).resume_projection(&projection).await?;
                by.done(terminal, &format!("the projection {projection} is resumed"))
            }
            Self::Rebuild { projection, change } => {
                let admin = change.by.admin(admin);
                let found = admin.projection(&projection).await?;
                let what = format!("rebuild {projection} from {} events", number(found.of));
                if change.dry_run {
                    return change.by.planned(terminal, &what);
                }
                change.confirm(terminal, &what)?;
                admin.rebuild_projection(&projection).await?;
                change.by.done(terminal, &format!("the projection {projection} is rebuilding"))
            }
        }
    }
}
