//! `events`: searching and following the log.

use std::convert::Infallible;
use std::time::Duration;

use clap::Args;
use composable_rust::CorrelationId;
use composable_rust_admin::{Admin, EventCursor, EventQuery, EventView};

use crate::args::{ListArgs, until_interrupted};
use crate::error::Exit;
use crate::streams::next_page;
use crate::table::Table;
use crate::text::{Moment, moment};
use crate::{CliError, Terminal};

/// The interval at which `--follow` looks for events.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Category of the streams, such as order
    #[arg(long)]
    category: Option<String>,
    /// Part of the streams' names
    #[arg(long, value_name = "TEXT")]
    stream: Option<String>,
    /// Stored name of the events, such as order.placed; repeat for several
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Id of the workflow
    #[arg(long, value_name = "ID")]
    correlation: Option<uuid::Uuid>,
    /// Time or age of the oldest events
    #[arg(long, value_name = "TIME|AGE")]
    since: Option<Moment>,
    /// Time or age before which the events were recorded
    #[arg(long, value_name = "TIME|AGE")]
    until: Option<Moment>,
    /// Place at which the page begins, as the page before prints it
    #[arg(long, value_name = "CURSOR")]
    after: Option<EventCursor>,
    /// Maximum number of events
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Print events as they are recorded, from now on and oldest first; with --json, as JSON lines
    #[arg(long, short, conflicts_with_all = ["since", "until", "after", "watch"])]
    follow: bool,
    #[command(flatten)]
    list: ListArgs,
}

impl EventsArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let query = EventQuery {
            category: self.category,
            stream_contains: self.stream,
            names: self.name,
            correlation: self.correlation.map(CorrelationId),
            since: Moment::option(self.since, admin).await?,
            until: Moment::option(self.until, admin).await?,
            cursor: self.after,
            limit: self.limit,
        };
        if self.follow {
            return until_interrupted(follow(admin, &query, terminal, self.list.output.json)).await;
        }
        let print = async |terminal: &mut Terminal, json| {
            let page = admin.events(&query).await?;
            if json {
                return terminal.json(&page);
            }
            terminal.table(&events(&page.entries), "No events.")?;
            next_page(terminal, page.next.as_ref())
        };
        self.list.repeat(terminal, print).await
    }
}

async fn follow(
    admin: &Admin,
    query: &EventQuery,
    terminal: &mut Terminal,
    json: bool,
) -> Result<Infallible, CliError> {
    let mut at = admin.end_of_log().await?;
    loop {
        let (found, next) = admin.events_after(&at, query).await?;
        for of in &found {
            if json {
                terminal.json_line(of)?;
            } else {
                let (when, content) = (moment(of.recorded_at), of.content.text());
                terminal.line(format!(
                    "{when}  {} {}  {}  {content}",
                    of.stream, of.version, of.name
                ))?;
            }
        }
        if next == at {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
        at = next;
    }
}

/// Returns the table of events of several streams.
fn events(events: &[EventView]) -> Table {
    let mut table = Table::new(["!recorded", "stream", "#version", "event", "content"]);
    for of in events {
        table.row([
            moment(of.recorded_at),
            of.stream.to_string(),
            of.version.to_string(),
            of.name.clone(),
            of.content.text(),
        ]);
    }
    table
}
