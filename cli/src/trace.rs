//! `trace`: the tree of a workflow, with what waits in it.

use clap::Args;
use composable_rust::{CorrelationId, StoreUrl, StreamId};
use composable_rust_admin::{Admin, Trace, TraceNode, TraceWaiting, Via, WaitingKind};
use console::Color;

use crate::args::OutputArgs;
use crate::error::Exit;
use crate::text::{Moment, moment};
use crate::{CliError, Terminal};

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Id of the workflow, or a stream, whose last event names it
    #[arg(value_name = "WORKFLOW|STREAM")]
    workflow: String,
    /// Store of another service that takes part; repeat for several
    #[arg(long, value_name = "URL")]
    also: Vec<StoreUrl>,
    /// Time or age of an event of the workflow: the search begins an hour before [default: the
    /// whole log, or the last event of the stream]
    #[arg(long, value_name = "TIME|AGE")]
    around: Option<Moment>,
    #[command(flatten)]
    output: OutputArgs,
}

impl TraceArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let mut around = Moment::option(self.around, admin).await?;
        let correlation = if let Ok(id) = self.workflow.parse::<uuid::Uuid>() {
            CorrelationId(id)
        } else {
            let stream: StreamId = self.workflow.parse().map_err(|error| {
                CliError::Usage(format!("`{}` is no id and no stream: {error}", self.workflow))
            })?;
            let (correlation, at) = admin.workflow_of(&stream).await?;
            around = around.or(Some(at));
            correlation
        };
        let mut others = Vec::new();
        for url in &self.also {
            let store = url.connect_existing().await?;
            others.push(Admin::of_store(store, admin.operator().clone())?);
        }
        let trace = admin.trace(correlation, around, &others).await?;
        if self.output.json {
            terminal.json(&trace)?;
        } else {
            print(&trace, terminal)?;
        }
        Ok(Exit::Done)
    }
}

fn print(trace: &Trace, terminal: &mut Terminal) -> Result<(), CliError> {
    terminal.line(format!("workflow {}", trace.correlation_id))?;
    for root in &trace.roots {
        print_node(root, "", None, terminal)?;
    }
    for of in &trace.waiting {
        print_waiting(of, "waits: ", terminal)?;
    }
    if trace.is_cut {
        terminal.line("the oldest part of the log was not searched: say when, with --around")?;
    }
    Ok(())
}

/// Prints a node below a prefix; `is_last` is `None` for a root.
fn print_node(
    node: &TraceNode,
    prefix: &str,
    is_last: Option<bool>,
    terminal: &mut Terminal,
) -> Result<(), CliError> {
    let (branch, below) = match is_last {
        None => ("", ""),
        Some(true) => ("└─ ", "   "),
        Some(false) => ("├─ ", "│  "),
    };
    let via = match &node.via {
        Via::Command => String::new(),
        Via::Effect => " (effect)".to_owned(),
        Via::Outcome => " (outcome)".to_owned(),
        Via::Policy(name) => format!(" (policy {name})"),
        Via::Later => " (later)".to_owned(),
    };
    let names: Vec<_> = node.events.iter().map(|event| event.name.as_str()).collect();
    let names = names.join(", ");
    let at = moment(node.at);
    terminal.line(format!("{prefix}{branch}{at}  {}  {names}{via}", node.stream))?;
    let prefix = format!("{prefix}{below}");
    let entries = node.children.len() + node.waiting.len();
    for (index, of) in node.waiting.iter().enumerate() {
        let branch = if index + 1 == entries { "└─ " } else { "├─ " };
        print_waiting(of, &format!("{prefix}{branch}waits: "), terminal)?;
    }
    for (index, child) in node.children.iter().enumerate() {
        let is_last = node.waiting.len() + index + 1 == entries;
        print_node(child, &prefix, Some(is_last), terminal)?;
    }
    Ok(())
}

fn print_waiting(of: &TraceWaiting, prefix: &str, terminal: &mut Terminal) -> Result<(), CliError> {
    let (message, target) = (&of.message, &of.target);
    let error = of.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let text = match of.kind {
        WaitingKind::Message => {
            let to = if message.recipient.is_empty() { target } else { &message.recipient };
            format!("{} to {to}{error}", message.name)
        }
        WaitingKind::Timer => {
            let due = of.due.map(moment).unwrap_or_default();
            format!("timer {target}, {} due at {due}{error}", message.name)
        }
        WaitingKind::DeadLetter => {
            format!("dead letter {} to {}{error}", message.name, message.recipient)
        }
    };
    let colour = if of.kind == WaitingKind::DeadLetter { Color::Red } else { Color::Yellow };
    terminal.line_ending_in(colour, prefix, &text)
}
