//! This run: its commands and its guard.

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, getpgrp, getpid};

use crate::duty::Duty;
use crate::guard::Guard;
use crate::signals::{Interrupt, Watch};
use crate::target::Target;

/// Runs commands that end when this process does. Dropping it takes everything down.
#[derive(Debug)]
pub(crate) struct Session {
    guard: Guard,
    watch: Watch,
}

impl Session {
    pub(crate) fn start() -> Result<Self> {
        let guard = Guard::start()?;
        let watch = Watch::start(guard.clone())?;
        Ok(Self { guard, watch })
    }

    /// Runs a command of the user's and waits for it.
    ///
    /// At a terminal it can be typed at, and Ctrl-C is its business; elsewhere it gets a process
    /// group of its own, which is ended as a whole when this process is.
    pub(crate) fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        if !io::stdin().is_terminal() {
            return self.run_apart(command);
        }
        self.watch.interrupt_means(Interrupt::LeftToTheCommand);
        let ended = self.wait_for(command, |child| {
            // A shell gives each job a group; then the group holds the command's children too.
            if getpgrp() == getpid() { Target::OwnGroup(getpid()) } else { Target::Process(child) }
        });
        self.watch.interrupt_means(Interrupt::Ends);
        ended
    }

    /// Runs a command in a process group of its own, without a terminal.
    pub(crate) fn run_apart(&self, command: &mut Command) -> Result<ExitStatus> {
        self.wait_for(command.process_group(0), Target::Group)
    }

    /// As [`Session::run_apart`], with all output in a file.
    pub(crate) fn run_logged(&self, command: &mut Command, log: &Path) -> Result<ExitStatus> {
        self.run_apart(log_to(command, log)?)
    }

    /// Starts a PostgreSQL server, its output in a file.
    pub(crate) fn spawn_server(&self, command: &mut Command, log: &Path) -> Result<Child> {
        self.spawn_apart(command, log, Duty::Server)
    }

    /// Starts a Kafka broker, its output in a file.
    pub(crate) fn spawn_broker(&self, command: &mut Command, log: &Path) -> Result<Child> {
        self.spawn_apart(command, log, Duty::Broker)
    }

    fn spawn_apart(
        &self,
        command: &mut Command,
        log: &Path,
        duty: fn(Target) -> Duty,
    ) -> Result<Child> {
        let command = log_to(command, log)?.process_group(0);
        self.guard.begin(|| {
            let child = spawn(command)?;
            let duty = duty(Target::Process(pid(&child)?));
            Ok((child, duty))
        })
    }

    /// The server ended on its own before it was ready.
    pub(crate) fn forget_server(&self, server: &Child) -> Result<()> {
        self.guard.tell(&Duty::ServerEnded(Target::Process(pid(server)?)))
    }

    /// Reaps the server when it is taken down, and complains if it ends earlier.
    pub(crate) fn reap_server(&self, name: &'static str, mut server: Child) {
        let guard = self.guard.clone();
        thread::spawn(move || {
            let ended = server.wait();
            if !guard.lock().has_ended() {
                let _ = pid(&server)
                    .and_then(|pid| guard.tell(&Duty::ServerEnded(Target::Process(pid))));
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                eprintln!("xtask: {name} ended unexpectedly ({how})");
            }
        });
    }

    /// Makes an empty folder that is its owner's alone, removed with everything else.
    pub(crate) fn create_folder(&self, parent: &Path, prefix: &str) -> Result<PathBuf> {
        self.guard.begin(|| {
            let folder = tempfile::Builder::new()
                .prefix(prefix)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .with_context(|| format!("making a folder in {}", parent.display()))?
                .keep();
            Ok((folder.clone(), Duty::Folder(folder)))
        })
    }

    /// Has this container removed with everything else.
    pub(crate) fn remove_container_later(&self, engine: &str, name: &str) -> Result<()> {
        self.guard.tell(&Duty::Container { engine: engine.to_owned(), name: name.to_owned() })
    }

    /// Waits for Ctrl-C, which then counts as success.
    pub(crate) fn wait_for_interrupt(&self) -> ! {
        self.watch.interrupt_means(Interrupt::Finishes);
        loop {
            thread::park();
        }
    }

    fn wait_for(
        &self,
        command: &mut Command,
        target: impl FnOnce(Pid) -> Target,
    ) -> Result<ExitStatus> {
        let mut child = self.guard.begin(|| {
            let child = spawn(command)?;
            let duty = Duty::Command(Some(target(pid(&child)?)));
            Ok((child, duty))
        })?;
        let status = child.wait().context("waiting for a command")?;
        self.guard.tell(&Duty::Command(None))?;
        Ok(status)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.guard.end();
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("running {program}"))
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process without a number")
}

fn log_to<'a>(command: &'a mut Command, log: &Path) -> Result<&'a mut Command> {
    let log = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    let copy = log.try_clone().context("sharing a log")?;
    Ok(command.stdin(Stdio::null()).stdout(log).stderr(copy))
}
