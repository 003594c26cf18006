//! `timers`: what is armed, due or not.

use clap::Subcommand;
use composable_rust::StreamId;
use composable_rust::store::EventStore as _;
use composable_rust_admin::{Admin, TimerQuery, TimerRef};

use crate::args::{ChangeArgs, ListArgs};
use crate::error::Exit;
use crate::table::Table;
use crate::text::{Moment, age_at, moment};
use crate::{CliError, Terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum TimersCommand {
    /// List armed timers, the first due first
    List {
        /// Category of the streams, such as order
        #[arg(long)]
        category: Option<String>,
        /// Time or age before which the timers are due
        #[arg(long, value_name = "TIME|AGE", conflicts_with = "overdue")]
        due_before: Option<Moment>,
        /// Only timers that are due
        #[arg(long)]
        overdue: bool,
        /// Maximum number of timers
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Make a timer due at once
    Fire {
        /// Stream of the timer
        stream: StreamId,
        /// Id of the timer within the stream
        timer: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Cancel a timer: its message is never delivered
    Cancel {
        /// Stream of the timer
        stream: StreamId,
        /// Id of the timer within the stream
        timer: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

impl TimersCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { category, due_before, overdue, limit, list } => {
                let print = async |terminal: &mut Terminal, json| {
                    let now = admin.app().store().now().await.map_err(CliError::store)?;
                    let due_before = match due_before {
                        None => overdue.then_some(now),
                        of => Moment::option(of, admin).await?,
                    };
                    let category = category.clone();
                    let query = TimerQuery { category, due_before, limit };
                    let timers = admin.timers(&query).await?;
                    if json {
                        return terminal.json(&timers);
                    }
                    let mut table =
                        Table::new(["!stream", "!timer", "!due", "#attempts", "message", "error"]);
                    for of in timers {
                        let due = if of.due <= now { "overdue by " } else { "" };
                        table.row([
                            of.message.sender.to_string(),
                            of.id,
                            format!("{} ({due}{})", moment(of.due), age_at(now, of.due)),
                            of.attempts.to_string(),
                            of.message.name,
                            of.last_error.unwrap_or_default(),
                        ]);
                    }
                    terminal.table(&table, "No timers.")
                };
                list.repeat(terminal, print).await
            }
            Self::Fire { stream, timer, change } => {
                let admin = change.by.admin(admin);
                let prepared = prepare(&admin, &stream, &timer, &change, "fire", terminal).await?;
                let Some(seen) = prepared else { return Ok(Exit::Done) };
                admin.fire_timer(&seen).await?;
                change.by.done(terminal, &format!("the timer {timer} of {stream} is due"))
            }
            Self::Cancel { stream, timer, change } => {
                let admin = change.by.admin(admin);
                let prepared =
                    prepare(&admin, &stream, &timer, &change, "cancel", terminal).await?;
                let Some(seen) = prepared else { return Ok(Exit::Done) };
                admin.cancel_timer(&seen).await?;
                change.by.done(terminal, &format!("the timer {timer} of {stream} is cancelled"))
            }
        }
    }
}

/// Looks the timer up and asks; returns the timer that was asked about, or `None` if that is all.
async fn prepare(
    admin: &Admin,
    stream: &StreamId,
    timer: &str,
    change: &ChangeArgs,
    verb: &str,
    terminal: &mut Terminal,
) -> Result<Option<TimerRef>, CliError> {
    let found = admin.timer(stream, timer).await?;
    let (name, due) = (&found.message.name, moment(found.due));
    let what = format!("{verb} the timer {timer} of {stream}, {name} due at {due}");
    if change.dry_run {
        change.by.planned(terminal, &what)?;
        return Ok(None);
    }
    change.confirm(terminal, &what)?;
    Ok(Some(TimerRef::from(&found)))
}
