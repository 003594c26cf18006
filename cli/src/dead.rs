//! `dead`: dead letters, grouped, rehearsed and decided about.

use clap::{Args, Subcommand};
use composable_rust_admin::{
    Admin, DeadLetterFilter, DeadLetterGroup, DeadLetterView, DryRun, Interrupt, Resolution,
};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::args::{ChangeArgs, ListArgs, OutputArgs, interruptible};
use crate::error::Exit;
use crate::table::Table;
use crate::terminal::progress_bar;
use crate::text::{Moment, count, moment, number};
use crate::{CliError, Terminal};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Group dead letters by queue, message and error, the largest group first
    Groups {
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// List dead letters
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Maximum number of dead letters
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Print a dead letter
    Show {
        /// Id of the message
        id: Uuid,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Retry dead letters, then those that wait behind them; --dry-run rehearses with this build
    Redrive(DecideArgs),
    /// Delete dead letters; their senders get a reply that says so
    Discard(DecideArgs),
    /// Print dead letters as JSON lines
    Export {
        #[command(flatten)]
        filter: FilterArgs,
    },
}

/// The dead letters that are meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// Key of a group, as `dead groups` prints it
    #[arg(long, value_name = "KEY")]
    group: Option<String>,
    /// Kind of the queue, such as dispatch or call
    #[arg(long)]
    kind: Option<String>,
    /// Target of the queue, such as an aggregate or a gateway
    #[arg(long)]
    target: Option<String>,
    /// Stored name of the message
    #[arg(long)]
    name: Option<String>,
    /// Part of the error
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Time or age since which the messages are dead letters
    #[arg(long, value_name = "TIME|AGE")]
    since: Option<Moment>,
}

impl FilterArgs {
    async fn filter(&self, admin: &Admin, ids: Vec<Uuid>) -> Result<DeadLetterFilter, CliError> {
        let of = self.clone();
        Ok(DeadLetterFilter {
            ids,
            kind: of.kind,
            target: of.target,
            name: of.name,
            error_contains: of.error,
            group: of.group,
            since: Moment::option(of.since, admin).await?,
        })
    }
}

/// A decision about dead letters.
#[derive(Debug, Clone, Args)]
pub(crate) struct DecideArgs {
    /// Ids of the messages
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Every dead letter
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl DeadCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        // What is asked about, listed and exported is what a decision reaches: all.
        let admin = &admin.examining(usize::MAX);
        match self {
            Self::Groups { filter, list } => {
                let filter = filter.filter(admin, Vec::new()).await?;
                let print = async |terminal: &mut Terminal, json| {
                    terminal.list(
                        json,
                        &admin.dead_letter_groups(&filter).await?.entries,
                        groups_table,
                        "No dead letters.",
                    )
                };
                list.repeat(terminal, print).await
            }
            Self::List { filter, limit, list } => {
                let filter = filter.filter(admin, Vec::new()).await?;
                let print = async |terminal: &mut Terminal, json| {
                    terminal.list(
                        json,
                        &admin.dead_letters(&filter, limit).await?.entries,
                        letters_table,
                        "No dead letters.",
                    )
                };
                list.repeat(terminal, print).await
            }
            Self::Show { id, output } => {
                let letter = admin.dead_letter(id).await?;
                if output.json {
                    terminal.json(&letter)?;
                } else {
                    print_letter(&letter, terminal)?;
                }
                Ok(Exit::Done)
            }
            Self::Redrive(args) => args.run(Resolution::Redrive, admin, terminal).await,
            Self::Discard(args) => args.run(Resolution::Discard, admin, terminal).await,
            Self::Export { filter } => {
                let filter = filter.filter(admin, Vec::new()).await?;
                let mut letters = std::pin::pin!(admin.all_dead_letters(&filter));
                while let Some(letter) = letters.try_next().await? {
                    terminal.json_line(&letter)?;
                }
                Ok(Exit::Done)
            }
        }
    }
}

fn groups_table(groups: &[DeadLetterGroup]) -> Table {
    let mut table =
        Table::new(["!group", "#letters", "#heads", "queue", "message", "!since", "error"]);
    for of in groups {
        table.row([
            of.key.clone(),
            number(of.count),
            number(of.heads),
            format!("{}/{}", of.kind, of.target),
            of.name.clone(),
            moment(of.since),
            of.error.clone().unwrap_or_else(|| "(waits behind another)".to_owned()),
        ]);
    }
    table
}

fn letters_table(letters: &[DeadLetterView]) -> Table {
    let mut table = Table::new(["!id", "message", "to", "!since", "error"]);
    for of in letters {
        table.row([
            of.message.id.to_string(),
            of.message.name.clone(),
            if of.message.recipient.is_empty() { &of.target } else { &of.message.recipient }
                .clone(),
            moment(of.parked_at),
            error_of(of),
        ]);
    }
    table
}

fn error_of(of: &DeadLetterView) -> String {
    match (&of.error, of.decision) {
        (_, Some(decision)) => format!("(to {decision})"),
        (Some(error), None) => error.clone(),
        (None, None) => "(waits behind another)".to_owned(),
    }
}

fn print_letter(of: &DeadLetterView, terminal: &mut Terminal) -> Result<(), CliError> {
    let message = &of.message;
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for (name, value) in [
        ("id", message.id.to_string()),
        ("queue", format!("{}/{} (partition {})", of.kind, of.target, of.partition)),
        ("message", format!("{} v{}", message.name, message.schema_version)),
        ("from", message.sender.to_string()),
        ("to", message.recipient.clone()),
        ("since", moment(of.parked_at)),
        ("attempts", of.attempts.to_string()),
        ("error", error_of(of)),
        ("group", of.group.clone()),
        ("decidable", if of.is_head { "yes" } else { "after the one before it" }.to_owned()),
        ("workflow", text(message.correlation_id.map(|id| id.to_string()))),
        ("user", text(message.user.clone())),
        ("content", message.content.text()),
    ] {
        terminal.write(&format!("{name:<10} {value}"))?;
    }
    Ok(())
}

impl DecideArgs {
    async fn run(
        self,
        resolution: Resolution,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let (verb, done) = match resolution {
            Resolution::Redrive => ("redrive", "redriven"),
            Resolution::Discard => ("discard", "discarded"),
        };
        let admin = self.change.by.admin(admin);
        let is_narrow = !self.ids.is_empty();
        let filter = self.filter.filter(&admin, self.ids).await?;
        if !is_narrow && !self.all && filter == DeadLetterFilter::default() {
            return Err(CliError::Usage(format!(
                "say which dead letters to {verb}: their ids, a filter, or --all"
            )));
        }
        if self.change.dry_run && resolution == Resolution::Redrive {
            return rehearse(&admin, &filter, terminal, self.change.by.output.json).await;
        }
        let groups = admin.dead_letter_groups(&filter).await?.entries;
        let (found, heads) = groups
            .iter()
            .fold((0, 0), |(count, heads), group| (count + group.count, heads + group.heads));
        if found == 0 {
            return Err(CliError::Admin(composable_rust_admin::AdminError::NotFound {
                what: "dead letter",
                name: filter.to_string(),
                hint: String::new(),
            }));
        }
        let plan = format!("{verb} {}", count(heads, "dead letter"));
        if self.change.dry_run {
            let plan = format!("{plan}; {} behind others", number(found - heads));
            return self.change.by.planned(terminal, &plan);
        }
        self.change.confirm(terminal, &plan)?;
        let (bar, progress) = progress_bar(done);
        let interrupt = Interrupt::default();
        let admin = admin.until(&interrupt);
        let resolving = admin.resolve_dead_letters(&filter, resolution, progress);
        let resolved = interruptible(&interrupt, resolving).await;
        bar.finish_and_clear();
        let resolved = resolved?;
        if self.change.by.output.json {
            terminal.json(&resolved)?;
        } else {
            terminal.line(format!(
                "{done}: {}; resolved meanwhile: {}; behind others: {}",
                number(resolved.decided),
                number(resolved.gone),
                number(resolved.behind)
            ))?;
        }
        if resolved.interrupted {
            terminal.line("interrupted: the others are as they were")?;
            return Ok(Exit::Interrupted);
        }
        Ok(Exit::Done)
    }
}

async fn rehearse(
    admin: &Admin,
    filter: &DeadLetterFilter,
    terminal: &mut Terminal,
    json: bool,
) -> Result<Exit, CliError> {
    let (bar, progress) = progress_bar("rehearsed");
    let interrupt = Interrupt::default();
    let admin = admin.until(&interrupt);
    let run = interruptible(&interrupt, admin.rehearse_dead_letters(filter, progress)).await;
    bar.finish_and_clear();
    let run = run?;
    if json {
        terminal.json(&run)?;
    } else {
        print_rehearsal(&run, terminal)?;
    }
    Ok(match run.interrupted {
        true => Exit::Interrupted,
        false if run.would_fail.is_empty() => Exit::Done,
        false => Exit::Problems,
    })
}

fn print_rehearsal(run: &DryRun, terminal: &mut Terminal) -> Result<(), CliError> {
    terminal.line(format!("{} would pass with this build", number(run.would_pass)))?;
    for (error, (times, example)) in &run.would_fail {
        terminal.write(&format!("{} would fail, such as {example}: {error}", number(*times)))?;
    }
    if run.unknown > 0 {
        terminal.line(format!(
            "{} cannot be told: calls of gateways, or types that this program does not register",
            number(run.unknown)
        ))?;
    }
    if run.interrupted {
        terminal.line("interrupted before the end")?;
    }
    if run.behind > 0 {
        terminal.line(format!("{} wait behind others", number(run.behind)))?;
    }
    Ok(())
}
