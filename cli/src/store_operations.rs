//! `migrate`, `backup` and `adopt`: the commands that need the URL of the store.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use composable_rust::StoreUrl;
use composable_rust::store::Adoption;
use composable_rust_admin::{Admin, Intent};

use crate::args::{ChangeArgs, OutputArgs};
use crate::error::Exit;
use crate::mounted::mounted;
use crate::{CliError, Terminal};

/// The commands that need the URL of the store instead of an app: migrations, backups and their
/// adoption.
#[derive(Debug)]
pub struct StoreOperations(Box<Command>);

mounted!(StoreOperations(Command));

#[derive(Debug, Subcommand)]
enum Command {
    /// Migrations of a store on PostgreSQL
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Copy a log in an SQLite file to another file, while processes work on it
    Backup {
        /// File to create
        file: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Decide which log a copied database contains, such as a restored backup
    Adopt(AdoptArgs),
}

#[derive(Debug, Args)]
struct AdoptArgs {
    /// The log of this database from now on
    #[arg(value_name = "AS")]
    adopted_as: AdoptedAs,
    /// Also where the database has the identity of the original, as a physical copy of a server has
    #[arg(long)]
    undetected: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// The log of a copied database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AdoptedAs {
    /// The log continues here, and no process uses the other database any more
    Successor,
    /// The log continues there, and this becomes a log of its own, which is paused
    Copy,
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Print the SQL that `apply` would run
    Plan {
        /// Number of log partitions of a new log
        #[arg(long, value_name = "N")]
        partitions: Option<u16>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Create or migrate the schema
    Apply {
        /// Number of log partitions of a new log
        #[arg(long, value_name = "N")]
        partitions: Option<u16>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Check that no migration is due, as `migrate(false)` does when a program starts
    Check {
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl StoreOperations {
    /// Runs the command on this process's terminal, and returns its exit code.
    pub async fn run(self, url: &StoreUrl) -> ExitCode {
        match self.run_on(url, &mut Terminal::standard()).await {
            Ok(code) => code,
            Err(error) => error.report(),
        }
    }

    /// Runs the command on a terminal of the caller's choice, and returns its exit code.
    ///
    /// # Errors
    ///
    /// [`CliError`]: the command did not do its work.
    pub async fn run_on(
        self,
        url: &StoreUrl,
        terminal: &mut Terminal,
    ) -> Result<ExitCode, CliError> {
        let done = match *self.0 {
            Command::Migrate(command) => command.run(url, terminal).await,
            Command::Backup { file, output } => back_up(url, file, output, terminal).await,
            Command::Adopt(command) => command.run(url, terminal).await,
        };
        done.map(ExitCode::from)
    }
}

#[cfg(feature = "postgres")]
impl MigrateCommand {
    async fn run(self, url: &StoreUrl, terminal: &mut Terminal) -> Result<Exit, CliError> {
        let (partitions, json) = match &self {
            Self::Plan { partitions, output } | Self::Apply { partitions, output } => {
                (*partitions, output.json)
            }
            Self::Check { output } => (None, output.json),
        };
        let builder = builder(url, partitions)?;
        let plan = builder.migration_plan().await.map_err(composable_rust::ConnectError::from)?;
        let (found, needed) = (plan.found, plan.needed);
        let mut value = serde_json::json!({ "found": found, "needed": needed });
        let mut exit = Exit::Done;
        let text = match self {
            Self::Plan { .. } => {
                value["sql"] = plan.sql.clone().into();
                plan.sql.trim_end().to_owned()
            }
            Self::Apply { .. } if !plan.is_done() => {
                builder.connect().await.map_err(composable_rust::ConnectError::from)?;
                format!("migrated from version {found} to {needed}")
            }
            Self::Check { .. } if !plan.is_done() => {
                exit = Exit::Problems;
                format!(
                    "the schema has version {found}, this program needs {needed}: run `composable \
                     migrate apply`"
                )
            }
            Self::Check { .. } => format!("the schema has version {found}, as this program needs"),
            Self::Apply { .. } => String::new(),
        };
        if json {
            terminal.json(&value)?;
        } else if text.is_empty() {
            terminal.line(format!("no migration is due: the schema has version {found}"))?;
        } else {
            terminal.block(&text)?;
        }
        Ok(exit)
    }
}

#[cfg(feature = "postgres")]
fn builder(
    url: &StoreUrl,
    partitions: Option<u16>,
) -> Result<composable_rust::postgres::PostgresEventStoreBuilder, CliError> {
    let StoreUrl::Postgres { url, schema } = url else {
        return Err(not_on_postgres());
    };
    let mut builder = composable_rust::postgres::PostgresEventStore::builder(url);
    if let Some(schema) = schema {
        builder = builder.schema(schema);
    }
    if let Some(partitions) = partitions {
        builder = builder.partitions(partitions);
    }
    Ok(builder)
}

fn not_on_postgres() -> CliError {
    CliError::Usage("only stores on PostgreSQL have migrations to run".to_owned())
}

#[cfg(not(feature = "postgres"))]
impl MigrateCommand {
    #[expect(clippy::unused_async, reason = "as with the feature `postgres`")]
    async fn run(self, _: &StoreUrl, _: &mut Terminal) -> Result<Exit, CliError> {
        Err(not_on_postgres())
    }
}

impl AdoptArgs {
    async fn run(self, url: &StoreUrl, terminal: &mut Terminal) -> Result<Exit, CliError> {
        let (adoption, what) = match (self.adopted_as, self.undetected) {
            (AdoptedAs::Successor, true) => {
                let text = "a successor has the identity of the original: there is no need";
                return Err(CliError::Usage(text.to_owned()));
            }
            (AdoptedAs::Successor, false) => (Adoption::Successor, "continue the log here"),
            (AdoptedAs::Copy, false) => (Adoption::Copy, "make this copy a log of its own"),
            (AdoptedAs::Copy, true) => {
                (Adoption::UndetectedCopy, "make this copy a log of its own")
            }
        };
        let is_copied = match url.connect_existing().await {
            Ok(_) => false,
            Err(error) if error.is_copied() => true,
            Err(error) => return Err(error.into()),
        };
        let is_due = is_copied || self.undetected;
        let mut done = serde_json::json!({ "adopted": is_due && !self.change.dry_run });
        let text = if !is_due {
            "the log belongs to this database: there is nothing to adopt".to_owned()
        } else if self.change.dry_run {
            format!("would {what}")
        } else {
            self.change.confirm(terminal, what)?;
            let store = url.adopt(adoption).await?;
            let admin = self.change.by.admin(&Admin::of_store(store, crate::operator())?);
            let log = admin.app().log().id;
            let intent = Intent::new("adopt", what);
            admin.audited(intent, async || Ok(((), format!("adopted as {log}")))).await?;
            done["log"] = serde_json::json!(log);
            match self.adopted_as {
                AdoptedAs::Successor => format!("the log {log} continues here"),
                AdoptedAs::Copy => format!("this is the log {log} now, which is paused"),
            }
        };
        self.change.by.report(terminal, &done, &text)
    }
}

async fn back_up(
    url: &StoreUrl,
    file: PathBuf,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, CliError> {
    match url {
        #[cfg(feature = "sqlite")]
        StoreUrl::Sqlite(path) => {
            use composable_rust::ConnectError;
            let opened = composable_rust::sqlite::SqliteEventStore::builder(path).migrate(false);
            let store = opened.open().await.map_err(ConnectError::from)?;
            let bytes = store.back_up(&file).await.map_err(CliError::store)?;
            if output.json {
                terminal.json(&serde_json::json!({ "file": file, "bytes": bytes }))?;
            } else {
                let (file, bytes) = (file.display(), crate::text::number(bytes));
                terminal.line(format!("copied {bytes} bytes to {file}"))?;
                terminal.line("it is a copy: the first program that opens it must adopt it")?;
            }
            Ok(Exit::Done)
        }
        _ => {
            let (_, _, _) = (file, output, terminal);
            Err(CliError::Usage(
                "only SQLite files are copied; use pg_dump for PostgreSQL".to_owned(),
            ))
        }
    }
}
