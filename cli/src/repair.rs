//! `send`, `erase`, `override`: changes of streams.

use clap::Args;
use composable_rust::{StreamId, Version};
use composable_rust_admin::{Admin, AdminError, Replacement};
use serde_json::value::RawValue;

use crate::args::{ByArgs, ChangeArgs};
use crate::error::Exit;
use crate::table::Table;
use crate::terminal::progress_bar;
use crate::text::{count, number};
use crate::{CliError, Terminal};

fn parse_json(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Sends a command.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Stream of the instance, such as order-17
    stream: StreamId,
    /// Stored name of the command, as `describe` prints it
    command: String,
    /// Content of the command
    #[arg(value_name = "JSON", value_parser = parse_json, default_value = "{}")]
    content: Box<RawValue>,
    /// Key that recognises a repetition of the command [default: one for each call]
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    by: ByArgs,
}

impl SendArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let admin = self.by.admin(admin);
        let (content, key) = (self.content.get(), self.key.as_deref());
        let sent = admin.send(&self.stream, &self.command, content, key).await?;
        if self.by.output.json {
            terminal.json(&sent)?;
        } else {
            let recorded = if sent.position.is_some() { "" } else { ", which it did not change" };
            terminal.line(format!("{} is at version {}{recorded}", sent.stream, sent.version))?;
        }
        Ok(Exit::Done)
    }
}

/// Erases a stream, or finds a text.
#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// Stream to erase, such as customer-17
    #[arg(required_unless_present = "find", conflicts_with = "find")]
    stream: Option<StreamId>,
    /// Print where a text still appears in readable form, such as an e-mail address, instead of
    /// erasing a stream
    #[arg(long, value_name = "TEXT")]
    find: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

impl EraseArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let admin = self.change.by.admin(admin);
        let Some(stream) = &self.stream else {
            return self.find(&admin, terminal).await;
        };
        let found = admin.stream(stream).await?;
        let events = count(found.version.get(), "event");
        if self.change.dry_run {
            let what = format!("erase {events} of {stream}, for good");
            return self.change.by.planned(terminal, &what);
        }
        self.change.confirm(terminal, &format!("erase {events} of {stream}, for good"))?;
        let erased = admin.erase(stream).await?;
        if self.change.by.output.json {
            terminal.json(&erased)?;
        } else {
            terminal.line(format!("{} of {stream} erased", count(erased.events, "event")))?;
        }
        Ok(Exit::Done)
    }

    async fn find(&self, admin: &Admin, terminal: &mut Terminal) -> Result<Exit, CliError> {
        let text = self.find.as_deref().unwrap_or_default();
        if text.is_empty() {
            return Err(CliError::Usage("say which text to find".to_owned()));
        }
        let (bar, progress) = progress_bar("events");
        let found = admin.appearances(text, progress).await;
        bar.finish_and_clear();
        let found = found?;
        if self.change.by.output.json {
            terminal.json(&found)?;
        } else {
            let mut table = Table::new(["stream", "#version", "part", "name"]);
            for of in &found.listed {
                table.row([
                    of.stream.to_string(),
                    of.version.map(|version| version.to_string()).unwrap_or_default(),
                    of.part.to_owned(),
                    of.name.clone(),
                ]);
            }
            terminal.table(&table, "It appears nowhere in readable form.")?;
            let more = found.count - found.listed.len() as u64;
            if more > 0 {
                terminal.line(format!("and {} more", number(more)))?;
            }
            terminal.write(NOT_SEARCHED)?;
        }
        Ok(if found.count == 0 { Exit::Done } else { Exit::Problems })
    }
}

/// The places that `erase --find` does not search.
const NOT_SEARCHED: &str = "Not searched: encrypted or compressed contents, snapshots and inboxes, \
    topics of the bus, read models.";

/// Replaces the content of an event.
#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    /// Stream of the event
    stream: StreamId,
    /// Version of the event
    version: Version,
    /// Content that loads return from now on; the original stays
    #[arg(value_name = "JSON", value_parser = parse_json)]
    content: Box<RawValue>,
    /// Stored name of the content [default: that of the event]
    #[arg(long)]
    name: Option<String>,
    /// Version of the content's shape [default: that of the event]
    #[arg(long, value_name = "N")]
    schema_version: Option<u16>,
    /// Store the content also where this program does not register the type and cannot check it
    #[arg(long)]
    unchecked: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl OverrideArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let admin = self.change.by.admin(admin);
        let replacement = Replacement {
            stream: self.stream.clone(),
            version: self.version,
            json: self.content.get().to_owned(),
            name: self.name,
            schema_version: self.schema_version,
            is_unchecked: self.unchecked,
        };
        let (stream, version) = (&self.stream, self.version);
        let (before, after) = admin.rehearse_override(&replacement).await.map_err(unchecked)?;
        let json = self.change.by.output.json;
        if json && self.change.dry_run {
            terminal.json(&serde_json::json!({ "before": before, "after": after }))?;
        } else if !json {
            terminal.write(&format!("before: {} {}", before.name, before.content.text()))?;
            terminal.write(&format!("after:  {} {}", after.name, after.content.text()))?;
        }
        if self.change.dry_run {
            return Ok(Exit::Done);
        }
        let unchecked = if self.unchecked { ", unchecked" } else { "" };
        let what = format!("override event {version} of {stream}{unchecked}");
        self.change.confirm(terminal, &what)?;
        let error = admin.override_event(&replacement).await?;
        if json {
            terminal.json(&serde_json::json!({ "overridden": true, "error": error }))?;
        } else {
            terminal.line(format!("event {version} of {stream} is overridden"))?;
            if let Some(error) = &error {
                terminal.write(&format!("the stream cannot be loaded: {error}"))?;
            }
        }
        Ok(if error.is_some() { Exit::Problems } else { Exit::Done })
    }
}

fn unchecked(error: AdminError) -> CliError {
    match error {
        AdminError::NotRegistered { .. } => CliError::Refused(format!(
            "{error}, or add --unchecked: the app cannot load the stream if the content is wrong"
        )),
        error => error.into(),
    }
}
