//! `streams`: lists, histories, states.

use clap::Subcommand;
use composable_rust::{StreamId, Version};
use composable_rust_admin::{
    Admin, DeadLetterView, EventView, InstanceView, StreamQuery, TimerView, WaitingView,
    shell_quoted,
};

use crate::args::{ListArgs, OutputArgs};
use crate::error::Exit;
use crate::table::Table;
use crate::text::{count, moment};
use crate::{CliError, Terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum StreamsCommand {
    /// List streams in the order of their names
    List {
        /// Beginning of the names, such as a category and a hyphen
        #[arg(default_value = "")]
        prefix: String,
        /// Part of the names
        #[arg(long, value_name = "TEXT", default_value = "")]
        contains: String,
        /// Stream after which the page begins
        #[arg(long, value_name = "STREAM")]
        after: Option<StreamId>,
        /// Maximum number of streams
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Print an instance: its state, last events, and everything of it that waits
    Show {
        /// Stream, such as order-17
        stream: StreamId,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Print the events of a stream, oldest first
    Events {
        /// Stream, such as order-17
        stream: StreamId,
        /// Version after which the page begins
        #[arg(long, value_name = "VERSION", default_value = "0")]
        after: Version,
        /// Maximum number of events
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Print the state of an instance
    State {
        /// Stream, such as order-17
        stream: StreamId,
        /// Version of the state [default: the present one]
        #[arg(long, value_name = "VERSION")]
        at: Option<Version>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Print the differences between the states of an instance at two versions
    Diff {
        /// Stream, such as order-17
        stream: StreamId,
        /// Earlier version
        before: Version,
        /// Later version
        after: Version,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl StreamsCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { prefix, contains, after, limit, list } => {
                let query = StreamQuery { prefix, contains, after, limit };
                let print = async |terminal: &mut Terminal, json| {
                    print_streams(admin, &query, terminal, json).await
                };
                list.repeat(terminal, print).await
            }
            Self::Show { stream, list } => {
                let print = async |terminal: &mut Terminal, json| {
                    let view = admin.instance(&stream).await?;
                    if json { terminal.json(&view) } else { print_instance(&view, terminal) }
                };
                list.repeat(terminal, print).await
            }
            Self::Events { stream, after, limit, list } => {
                let print = async |terminal: &mut Terminal, json| {
                    let page = admin.history(&stream, after, limit).await?;
                    if json {
                        return terminal.json(&page);
                    }
                    terminal.table(&events(&page.entries), "No further events.")?;
                    next_page(terminal, page.next.as_ref())
                };
                list.repeat(terminal, print).await
            }
            Self::State { stream, at, output } => {
                let state = admin.state(&stream, at).await?;
                if output.json {
                    terminal.json(&state)?;
                } else {
                    terminal.line(format!("{} at version {}", state.stream, state.version))?;
                    terminal.json(&state.state)?;
                }
                Ok(Exit::Done)
            }
            Self::Diff { stream, before, after, output } => {
                let differences = admin.diff(&stream, before, after).await?;
                if output.json {
                    terminal.json(&differences)?;
                    return Ok(Exit::Done);
                }
                let mut table = Table::new(["path", "before", "after"]);
                let text = |value: Option<serde_json::Value>| {
                    value.map_or_else(|| "(absent)".to_owned(), |value| value.to_string())
                };
                for of in differences {
                    let path = if of.path.is_empty() { ".".to_owned() } else { of.path };
                    table.row([path, text(of.before), text(of.after)]);
                }
                terminal.table(&table, "The states are equal.")?;
                Ok(Exit::Done)
            }
        }
    }
}

async fn print_streams(
    admin: &Admin,
    query: &StreamQuery,
    terminal: &mut Terminal,
    json: bool,
) -> Result<(), CliError> {
    let page = admin.streams(query).await?;
    if json {
        return terminal.json(&page);
    }
    let mut table = Table::new(["!stream", "#version", "!changed", "last event"]);
    for of in &page.entries {
        table.row([
            of.stream.to_string(),
            of.version.to_string(),
            moment(of.changed_at),
            of.last_event.clone(),
        ]);
    }
    terminal.table(&table, "No streams.")?;
    next_page(terminal, page.next.as_ref())
}

/// Says how to get the next page.
pub(crate) fn next_page(
    terminal: &mut Terminal,
    next: Option<&impl std::fmt::Display>,
) -> Result<(), CliError> {
    match next {
        Some(next) => {
            let next = next.to_string();
            terminal.write(&format!("There is more: --after {}", shell_quoted(&next)))
        }
        None => Ok(()),
    }
}

/// Returns the table of the events of one stream.
pub(crate) fn events(events: &[EventView]) -> Table {
    let mut table = Table::new(["#version", "!recorded", "event", "content"]);
    for of in events {
        table.row([
            of.version.to_string(),
            moment(of.recorded_at),
            of.name.clone(),
            of.content.text(),
        ]);
    }
    table
}

fn print_instance(view: &InstanceView, terminal: &mut Terminal) -> Result<(), CliError> {
    terminal.line(format!("{} at version {}", view.stream, view.version))?;
    if let Some(state) = &view.state {
        terminal.json(state)?;
    }
    if let Some(error) = &view.error {
        terminal.write(&format!("cannot be loaded: {error}"))?;
    }
    section(terminal, "events", &events(&view.events))?;
    section(terminal, "timers", &timers(&view.timers))?;
    section(terminal, "sending", &waiting(&view.sending))?;
    section(terminal, "receiving", &waiting(&view.receiving))?;
    section(terminal, "dead letters", &letters(&view.dead_letters))?;
    let handled = view.handled.len() as u64;
    terminal.line("")?;
    terminal.line(format!("{} in the inbox (at most 50 are read)", count(handled, "message")))
}

fn section(terminal: &mut Terminal, title: &str, table: &Table) -> Result<(), CliError> {
    if table.is_empty() {
        return Ok(());
    }
    terminal.line("")?;
    terminal.line(format!("{title}:"))?;
    terminal.table(table, "")
}

fn timers(timers: &[TimerView]) -> Table {
    let mut table = Table::new(["!timer", "!due", "#attempts", "message", "error"]);
    for of in timers {
        table.row([
            of.id.clone(),
            moment(of.due),
            of.attempts.to_string(),
            of.message.name.clone(),
            of.last_error.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn waiting(messages: &[WaitingView]) -> Table {
    let mut table = Table::new(["!id", "queue", "message", "from", "to", "#attempts"]);
    for of in messages {
        table.row([
            of.message.id.to_string(),
            format!("{}/{}", of.kind, of.target),
            of.message.name.clone(),
            of.message.sender.to_string(),
            of.message.recipient.clone(),
            of.attempts.to_string(),
        ]);
    }
    table
}

fn letters(letters: &[DeadLetterView]) -> Table {
    let mut table = Table::new(["!id", "queue", "message", "from", "to", "error"]);
    for of in letters {
        table.row([
            of.message.id.to_string(),
            format!("{}/{}", of.kind, of.target),
            of.message.name.clone(),
            of.message.sender.to_string(),
            of.message.recipient.clone(),
            of.error.clone().unwrap_or_else(|| "(waits behind another)".to_owned()),
        ]);
    }
    table
}
