//! `doctor`: a diagnosis of the store.

use clap::Args;
use composable_rust::store::Severity;
use composable_rust_admin::Admin;
use console::Color;

use crate::args::ListArgs;
use crate::error::Exit;
use crate::text::count;
use crate::{CliError, Terminal};

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// Leave the facts out
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    list: ListArgs,
}

impl DoctorArgs {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let mut has_problems = false;
        let print = async |terminal: &mut Terminal, json| {
            let mut diagnosis = admin.doctor().await?;
            has_problems = diagnosis.faults() + diagnosis.warnings() > 0;
            if self.quiet {
                diagnosis.0.retain(|finding| finding.severity > Severity::Fact);
            }
            if json {
                return terminal.json(&diagnosis);
            }
            for finding in &diagnosis.0 {
                let (name, colour) = match finding.severity {
                    Severity::Fault => ("FAULT  ", Color::Red),
                    Severity::Warning => ("WARNING", Color::Yellow),
                    Severity::Fact => ("ok     ", Color::Green),
                };
                let text = format!("  {}: {}", finding.check, finding.found);
                terminal.write_after(colour, name, &text)?;
                if !finding.remedy.is_empty() {
                    terminal.write(&format!("         {}", finding.remedy))?;
                }
            }
            terminal.write(&format!(
                "{}, {}",
                count(diagnosis.faults() as u64, "fault"),
                count(diagnosis.warnings() as u64, "warning")
            ))
        };
        self.list.repeat(terminal, print).await?;
        Ok(if has_problems { Exit::Problems } else { Exit::Done })
    }
}
