//! `console`: the operations in a browser.

use std::net::SocketAddr;

use clap::Args;
use composable_rust_admin::Admin;
use composable_rust_console::{Console, Payloads};
use serde_json::json;
use tokio::net::TcpListener;

use crate::args::{ByArgs, until_interrupted};
use crate::error::Exit;
use crate::{CliError, Terminal};

/// The console that a command serves.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// Address to listen on; outside of this machine, a token is needed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Token of at least 16 bytes that browsers must present
    #[arg(long, value_name = "TOKEN", env = "COMPOSABLE_CONSOLE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Allow changes, which are recorded in the operators' stream
    #[arg(long)]
    allow_changes: bool,
    /// Show the contents of messages, events and states
    #[arg(long)]
    show_payloads: bool,
    /// Let browsers log in over HTTP from other machines
    #[arg(long)]
    plain_http: bool,
    #[command(flatten)]
    by: ByArgs,
}

impl ConsoleArgs {
    /// Serves the console until Ctrl-C. No worker is started.
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        let mode = if self.allow_changes { "may change" } else { "read-only" };
        let router = self
            .console(admin)?
            .router()
            .map_err(|error| CliError::Usage(error.to_string()))?
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind(self.listen).await?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}/");
        let text = format!("open {url} ({mode}; Ctrl-C ends it)");
        self.by.report(terminal, &json!({ "url": url, "mode": mode }), &text)?;
        until_interrupted(async {
            axum::serve(listener, router).await?;
            Err(CliError::Refused("the console has ended".to_owned()))
        })
        .await
    }

    fn console(&self, admin: &Admin) -> Result<Console, CliError> {
        let admin = self.by.admin(admin);
        let name = admin.operator().name.clone();
        let console = Console::new(admin);
        let mut console = match &self.token {
            Some(token) => console.token(name, token),
            None if self.listen.ip().is_loopback() => console.loopback_only(),
            None => {
                let what = format!("to listen on {}, add --token", self.listen);
                return Err(CliError::Refused(what));
            }
        };
        if self.allow_changes {
            console = console.allow_changes();
        }
        if self.show_payloads {
            console = console.payloads(Payloads::Shown);
        }
        Ok(if self.plain_http { console.plain_http() } else { console })
    }
}
