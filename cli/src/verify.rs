//! `verify`, `audit`, `describe`: proofs and facts.

use clap::Args;
use composable_rust_admin::{Admin, AuditCursor, Description, Interrupt};

use crate::args::{ListArgs, OutputArgs, interruptible};
use crate::error::Exit;
use crate::streams::next_page;
use crate::table::Table;
use crate::terminal::progress_bar;
use crate::text::{moment, number};
use crate::{CliError, Terminal};

pub(crate) async fn verify(
    output: OutputArgs,
    admin: &Admin,
    terminal: &mut Terminal,
) -> Result<Exit, CliError> {
    let (bar, progress) = progress_bar("events");
    let interrupt = Interrupt::default();
    let admin = admin.until(&interrupt);
    let found = interruptible(&interrupt, admin.verify(progress)).await;
    bar.finish_and_clear();
    let found = found?;
    if output.json {
        terminal.json(&found)?;
    } else {
        terminal.line(format!(
            "{} events of {} streams: {} decoded, {} of types that are not registered here",
            number(found.events),
            number(found.streams),
            number(found.decoded),
            number(found.unregistered)
        ))?;
        for problem in &found.listed {
            terminal.write(&format!("problem: {problem}"))?;
        }
        let more = found.problems - found.listed.len() as u64;
        if more > 0 {
            terminal.line(format!("and {} more", number(more)))?;
        }
        terminal.line(match (found.problems, found.interrupted) {
            (0, false) => "no problems".to_owned(),
            (n, false) => format!("{} problems", number(n)),
            (n, true) => format!("interrupted before the end; {} problems so far", number(n)),
        })?;
    }
    Ok(match (found.problems, found.interrupted) {
        (_, true) => Exit::Interrupted,
        (0, false) => Exit::Done,
        _ => Exit::Problems,
    })
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Place at which the page begins, as the page before prints it
    #[arg(long, value_name = "CURSOR")]
    after: Option<AuditCursor>,
    /// Maximum number of entries
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    list: ListArgs,
}

impl AuditArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let print = async |terminal: &mut Terminal, json| {
            let page = admin.audit(self.after.clone(), self.limit).await?;
            if json {
                return terminal.json(&page);
            }
            let mut table =
                Table::new(["!at", "operator", "operation", "!target", "result", "reason"]);
            for of in page.entries {
                let result = of.result.unwrap_or_else(|| "(none: under way or interrupted)".into());
                table.row([
                    moment(of.at),
                    of.operator,
                    of.intent.operation,
                    of.intent.target,
                    result,
                    of.reason,
                ]);
            }
            terminal.table(&table, "No operator has changed anything.")?;
            next_page(terminal, page.next.as_ref())
        };
        self.list.repeat(terminal, print).await
    }
}

pub(crate) async fn describe(
    output: OutputArgs,
    admin: &Admin,
    terminal: &mut Terminal,
) -> Result<Exit, CliError> {
    let description = admin.describe().await?;
    if output.json {
        terminal.json(&description)?;
    } else {
        print_description(&description, terminal)?;
    }
    Ok(Exit::Done)
}

fn print_description(of: &Description, terminal: &mut Terminal) -> Result<(), CliError> {
    terminal.line(format!("log {}", of.log))?;
    terminal.line(format!("{} events in {} partitions", number(of.events), of.partitions))?;
    for aggregate in &of.aggregates {
        terminal.line("")?;
        terminal.line(format!("aggregate {}", aggregate.name))?;
        for (kind, messages) in [("command", &aggregate.commands), ("event", &aggregate.events)] {
            for message in messages {
                let internal = if message.internal { " (internal)" } else { "" };
                let (name, version) = (&message.name, message.version);
                terminal.line(format!("  {kind:<7} {name} v{version}{internal}"))?;
            }
        }
    }
    for (kind, names) in [("gateway", &of.gateways), ("projection", &of.projections)] {
        for name in names {
            terminal.line(format!("{kind} {name}"))?;
        }
    }
    if of.aggregates.is_empty() {
        terminal
            .line("this program registers nothing, so contents are shown as they are stored")?;
    }
    Ok(())
}
