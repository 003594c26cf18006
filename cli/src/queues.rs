//! `queues`: what waits, and parking or discarding one message.

use clap::Subcommand;
use composable_rust::queue::OutboxKind;
use composable_rust_admin::{Admin, QueueView, WaitingView};
use uuid::Uuid;

use crate::args::{ChangeArgs, ListArgs};
use crate::error::Exit;
use crate::table::Table;
use crate::text::{age, number};
use crate::{CliError, Terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum QueuesCommand {
    /// List the queues that have messages, due timers or dead letters
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// List the messages of a queue, in order
    Show {
        /// Queue as the list names it, such as dispatch/order or call/bank
        #[arg(value_parser = parse_queue)]
        queue: QueueName,
        /// Maximum number of messages
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Move a waiting message to the dead letters
    Park {
        /// Id of the message
        id: Uuid,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Delete a waiting message; its sender gets a reply that says so
    Discard {
        /// Id of the message
        id: Uuid,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// The kind and target of a queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueName {
    kind: OutboxKind,
    target: String,
}

fn parse_queue(text: &str) -> Result<QueueName, String> {
    let parsed = text.split_once('/').and_then(|(kind, target)| {
        Some(QueueName { kind: OutboxKind::from_name(kind)?, target: target.to_owned() })
    });
    parsed.ok_or_else(|| {
        "write KIND/TARGET; the kinds are bulk, call, dispatch, policy, projection, send and timer"
            .to_owned()
    })
}

impl QueuesCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { list } => {
                let print = async |terminal: &mut Terminal, json| {
                    terminal.list(json, &admin.queues().await?, table, "All queues are empty.")
                };
                list.repeat(terminal, print).await
            }
            Self::Show { queue, limit, list } => {
                let print = async |terminal: &mut Terminal, json| {
                    terminal.list(
                        json,
                        &admin.waiting(queue.kind, &queue.target, limit).await?,
                        waiting,
                        "The queue is empty.",
                    )
                };
                list.repeat(terminal, print).await
            }
            Self::Park { id, change } => {
                let admin = change.by.admin(admin);
                let found = admin.find_message(id).await?;
                if change.dry_run {
                    return change.by.planned(terminal, &format!("park {}", described(&found)));
                }
                change.confirm(terminal, &format!("park {}", described(&found)))?;
                admin.park(id).await?;
                change.by.done(terminal, &format!("parked {}", described(&found)))
            }
            Self::Discard { id, change } => {
                let admin = change.by.admin(admin);
                let found = admin.find_message(id).await?;
                if change.dry_run {
                    return change.by.planned(terminal, &format!("discard {}", described(&found)));
                }
                change.confirm(terminal, &format!("discard {}", described(&found)))?;
                admin.discard_waiting(id).await?;
                change.by.done(terminal, &format!("discarded {}", described(&found)))
            }
        }
    }
}

fn described(of: &WaitingView) -> String {
    let message = &of.message;
    let to = match message.recipient.as_str() {
        "" => &of.target,
        recipient => recipient,
    };
    format!("{} from {} to {to} ({})", message.name, message.sender, message.id)
}

/// Returns the table of the queues; the partitions of one kind and target are one row.
fn table(queues: &[QueueView]) -> Table {
    let mut table = Table::new(["!queue", "#waiting", "oldest", "#dead", "worker", "last error"]);
    for of in QueueView::merged(queues) {
        let oldest = if of.depth == 0 { String::new() } else { age(of.oldest_seconds) };
        table.row([
            format!("{}/{}", of.kind, of.target),
            number(of.depth),
            oldest,
            number(of.dead_letters),
            match of.has_worker {
                Some(true) => "yes",
                Some(false) => "none",
                None => "paused",
            }
            .to_owned(),
            of.last_error.unwrap_or_default(),
        ]);
    }
    table
}

/// Returns the table of messages that wait.
fn waiting(messages: &[WaitingView]) -> Table {
    let mut table = Table::new(["!id", "message", "from", "to", "#attempts", "content"]);
    for of in messages {
        table.row([
            of.message.id.to_string(),
            of.message.name.clone(),
            of.message.sender.to_string(),
            of.message.recipient.clone(),
            of.attempts.to_string(),
            of.message.content.text(),
        ]);
    }
    table
}
