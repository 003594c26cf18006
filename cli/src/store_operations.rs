//! `migrate` and `backup`: the commands that need the URL of the store.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use composable_rust::StoreUrl;

use crate::args::OutputArgs;
use crate::error::Exit;
use crate::mounted::mounted;
use crate::{CliError, Terminal};

/// The commands that need the URL of the store instead of an app: migrations and backups.
#[derive(Debug)]
pub struct StoreOperations(Command);

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
    },
    /// Check that no migration is due, as `migrate(false)` does when a program starts
    Check,
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
        let done = match self.0 {
            Command::Migrate(command) => command.run(url, terminal).await,
            Command::Backup { file, output } => back_up(url, file, output, terminal).await,
        };
        done.map(ExitCode::from)
    }
}

#[cfg(feature = "postgres")]
impl MigrateCommand {
    async fn run(self, url: &StoreUrl, terminal: &mut Terminal) -> Result<Exit, CliError> {
        let partitions = match &self {
            Self::Plan { partitions, .. } | Self::Apply { partitions } => *partitions,
            Self::Check => None,
        };
        let builder = builder(url, partitions)?;
        let plan = builder.migration_plan().await.map_err(composable_rust::ConnectError::from)?;
        let (found, needed) = (plan.found, plan.needed);
        match self {
            Self::Plan { output, .. } if output.json => {
                let sql = &plan.sql;
                let plan = serde_json::json!({ "found": found, "needed": needed, "sql": sql });
                terminal.json(&plan)?;
            }
            Self::Plan { .. } | Self::Apply { .. } if plan.is_done() => {
                terminal.line(format!("no migration is due: the schema has version {found}"))?;
            }
            Self::Plan { .. } => terminal.write(plan.sql.trim_end())?,
            Self::Apply { .. } => {
                builder.connect().await.map_err(composable_rust::ConnectError::from)?;
                terminal.line(format!("migrated from version {found} to {needed}"))?;
            }
            Self::Check if plan.is_done() => {
                terminal.line(format!("the schema has version {found}, as this program needs"))?;
            }
            Self::Check => {
                terminal.line(format!(
                    "the schema has version {found}, this program needs {needed}: run \
                     `composable migrate apply`"
                ))?;
                return Ok(Exit::Problems);
            }
        }
        Ok(Exit::Done)
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
