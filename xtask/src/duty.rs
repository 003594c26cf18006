//! What the guard is told to take down.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use rustix::process::Signal;

use crate::program;
use crate::target::Target;

/// One line from the parent to the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Duty {
    /// The command that runs now, if one does.
    Command(Option<Target>),
    /// A server's first process; there may be several servers.
    Server(Target),
    /// That one has ended on its own.
    ServerEnded(Target),
    /// The container that the server runs in.
    Container { engine: String, name: String },
    /// The folder with the servers' data.
    Folder(PathBuf),
}

/// All duties, as last told.
#[derive(Debug, Default)]
pub(crate) struct Duties {
    command: Option<Target>,
    servers: Vec<Target>,
    container: Option<(String, String)>,
    folder: Option<PathBuf>,
}

impl Duties {
    pub(crate) fn note(&mut self, duty: Duty) {
        match duty {
            Duty::Command(target) => self.command = target,
            Duty::Server(target) => self.servers.push(target),
            Duty::ServerEnded(target) => self.servers.retain(|server| *server != target),
            Duty::Container { engine, name } => self.container = Some((engine, name)),
            Duty::Folder(folder) => self.folder = Some(folder),
        }
    }

    /// Ends the command, then the servers, then removes what they leave.
    pub(crate) fn fulfil(self) {
        if let Some(command) = self.command {
            command.end(Signal::TERM, Duration::from_secs(5));
        }
        for server in self.servers {
            // PostgreSQL's immediate shutdown: nobody needs this data.
            server.end(Signal::QUIT, Duration::from_secs(10));
        }
        if let Some((engine, name)) = self.container {
            let mut remove = Command::new(engine);
            remove.args(["rm", "--force", "--volumes", &name]);
            if !program::succeeds_within(Duration::from_secs(30), &mut remove) {
                eprintln!("xtask: container {name} could not be removed");
            }
        }
        if let Some(folder) = self.folder {
            if let Err(error) = fs::remove_dir_all(&folder) {
                eprintln!("xtask: {} could not be removed: {error}", folder.display());
            }
        }
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(Some(target)) => write!(f, "command {target}"),
            Self::Command(None) => f.write_str("command none"),
            Self::Server(target) => write!(f, "server {target}"),
            Self::ServerEnded(target) => write!(f, "server-ended {target}"),
            Self::Container { engine, name } => write!(f, "container {engine} {name}"),
            Self::Folder(folder) => write!(f, "folder {}", folder.display()),
        }
    }
}

impl FromStr for Duty {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let (kind, rest) = line.split_once(' ').context("a kind and its details")?;
        Ok(match kind {
            "command" if rest == "none" => Self::Command(None),
            "command" => Self::Command(Some(rest.parse()?)),
            "server" => Self::Server(rest.parse()?),
            "server-ended" => Self::ServerEnded(rest.parse()?),
            "container" => {
                let (engine, name) = rest.split_once(' ').context("an engine and a name")?;
                Self::Container { engine: engine.to_owned(), name: name.to_owned() }
            }
            "folder" => Self::Folder(rest.into()),
            _ => bail!("no such duty"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_pipe() {
        for line in [
            "command group 4711",
            "command none",
            "server process 4712",
            "server-ended process 4712",
            "container docker composable-rust-1",
            "folder /tmp/with a space/x",
        ] {
            assert_eq!(line.parse::<Duty>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn the_last_word_counts() {
        let mut duties = Duties::default();
        for line in ["command group 4711", "command none", "folder /a", "folder /b"] {
            duties.note(line.parse().unwrap());
        }
        assert_eq!(duties.command, None);
        assert_eq!(duties.folder, Some("/b".into()));
    }

    #[test]
    fn every_server_counts_until_it_ends() {
        let mut duties = Duties::default();
        for line in ["server process 11", "server process 12", "server-ended process 11"] {
            duties.note(line.parse().unwrap());
        }
        assert_eq!(duties.servers, ["process 12".parse().unwrap()]);
    }
}
