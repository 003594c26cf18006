//! `sagas`, `workers`, `processes`, `checkpoints`: who does what, and how far it is.

use clap::Args;
use composable_rust::StreamId;
use composable_rust::store::EventStore as _;
use composable_rust_admin::{Admin, CheckpointView};

use crate::args::ListArgs;
use crate::error::Exit;
use crate::followers::{NO_PROGRESS, progress};
use crate::streams::next_page;
use crate::table::Table;
use crate::text::{age_at, moment, number};
use crate::{CliError, Terminal};

#[derive(Debug, Args)]
pub(crate) struct SagasArgs {
    /// Category of the sagas, such as checkout; other aggregates have steps as well
    category: String,
    /// Stream after which the page begins
    #[arg(long, value_name = "STREAM")]
    after: Option<StreamId>,
    #[command(flatten)]
    list: ListArgs,
}

impl SagasArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let print = async |terminal: &mut Terminal, json| {
            let page = admin.unfinished(&self.category, self.after.clone()).await?;
            if json {
                return terminal.json(&page);
            }
            let now = admin.app().store().now().await.map_err(CliError::store)?;
            let mut table = Table::new(["step", "#count", "!oldest", "waits for", "error"]);
            for step in &page.entries {
                let Some(oldest) = step.oldest.first() else { continue };
                table.row([
                    step.step.clone(),
                    number(step.count),
                    oldest.stream.to_string(),
                    age_at(now, oldest.since),
                    oldest.error.clone().unwrap_or_default(),
                ]);
            }
            let is_first = self.after.is_none();
            terminal.table(
                &table,
                match (is_first, &page.next) {
                    (true, None) => "All are finished.",
                    (_, Some(_)) => "All that were examined here are finished.",
                    (false, None) => "All further ones are finished.",
                },
            )?;
            next_page(terminal, page.next.as_ref())
        };
        self.list.repeat(terminal, print).await
    }
}

pub(crate) async fn workers(
    list: ListArgs,
    admin: &Admin,
    terminal: &mut Terminal,
) -> Result<Exit, CliError> {
    let print = async |terminal: &mut Terminal, json| {
        let workers = admin.workers().await?;
        if json {
            return terminal.json(&workers);
        }
        let mut table = Table::new(["!worker", "#processes", "held", "free"]);
        for of in workers {
            let processes = of.processes.len().to_string();
            table.row([of.worker, processes, ranges(&of.held), ranges(&of.free)]);
        }
        terminal.table(&table, "No workers.")
    };
    list.repeat(terminal, print).await
}

pub(crate) async fn processes(
    list: ListArgs,
    admin: &Admin,
    terminal: &mut Terminal,
) -> Result<Exit, CliError> {
    let print = async |terminal: &mut Terminal, json| {
        let processes = admin.processes().await?;
        if json {
            return terminal.json(&processes);
        }
        let mut table = Table::new([
            "!process", "program", "version", "host", "#pid", "!since", "#leases", "workers",
        ]);
        for of in processes {
            table.row([
                of.process.to_string(),
                of.program,
                of.version,
                of.host,
                of.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                of.since.map(moment).unwrap_or_default(),
                of.leases.to_string(),
                of.workers.join(" "),
            ]);
        }
        terminal.table(&table, "No processes.")
    };
    list.repeat(terminal, print).await
}

pub(crate) async fn checkpoints(
    list: ListArgs,
    admin: &Admin,
    terminal: &mut Terminal,
) -> Result<Exit, CliError> {
    let print = async |terminal: &mut Terminal, json| {
        let table = |of: &[CheckpointView]| progress("checkpoint", of);
        terminal.list(json, &admin.checkpoints().await?, table, NO_PROGRESS)
    };
    list.repeat(terminal, print).await
}

/// Returns numbers in order as ranges, such as `0-3 7`.
fn ranges(numbers: &[u16]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let mut found: Vec<(u16, u16)> = Vec::new();
    for number in sorted {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => found.push((number, number)),
        }
    }
    let text = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    found.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn partitions_are_printed_as_ranges() {
        assert_eq!(super::ranges(&[3, 0, 1, 2, 7, 9, 10]), "0-3 7 9-10");
        assert_eq!(super::ranges(&[]), "");
    }
}
