//! One run of xtask, with the commands that it starts and its reaper.

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, getpgrp, getpid};

use crate::cleanup::CleanupTask;
use crate::held_process;
use crate::process_target::ProcessTarget;
use crate::reaper::Reaper;
use crate::signals::{InterruptAction, SignalWatcher};
use crate::unprivileged_user::UnprivilegedUser;

/// Runs commands that end when this process ends. Dropping it runs all cleanup tasks.
#[derive(Debug)]
pub(crate) struct Session {
    reaper: Reaper,
    signals: SignalWatcher,
}

impl Session {
    /// Starts the reaper process and the signal handlers.
    pub(crate) fn start() -> Result<Self> {
        let reaper = Reaper::start()?;
        let signals = SignalWatcher::start(reaper.clone())?;
        Ok(Self { reaper, signals })
    }

    /// Runs the user's command and waits for it.
    ///
    /// At a terminal, the command reads from the terminal and handles Ctrl-C itself. Elsewhere, it
    /// gets a process group of its own, and the whole group ends when this process ends.
    pub(crate) fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        if !io::stdin().is_terminal() {
            return self.run_in_group(command);
        }
        self.signals.set_interrupt_action(InterruptAction::LeaveToCommand);
        let ended = self.wait_for(command, |child| {
            // A shell gives each job a process group, which the command's children belong to too.
            if getpgrp() == getpid() {
                ProcessTarget::OwnGroup(getpid())
            } else {
                ProcessTarget::Process(child)
            }
        });
        self.signals.set_interrupt_action(InterruptAction::Exit);
        ended
    }

    /// Runs a command in a process group of its own, without a terminal, and waits for it.
    pub(crate) fn run_in_group(&self, command: &mut Command) -> Result<ExitStatus> {
        self.wait_for(command.process_group(0), ProcessTarget::Group)
    }

    /// Does the same as [`Session::run_in_group`], with all output written to a file.
    pub(crate) fn run_logged(&self, command: &mut Command, log: &Path) -> Result<ExitStatus> {
        self.run_in_group(write_output_to(command, log)?.stdin(Stdio::null()))
    }

    /// Starts a PostgreSQL server, as `user` if there is one, and writes its output to a file.
    pub(crate) fn spawn_server(
        &self,
        command: &Command,
        user: Option<UnprivilegedUser>,
        log: &Path,
    ) -> Result<Child> {
        let mut held = held_process::hold(command);
        if let Some(user) = user {
            user.apply(&mut held);
        }
        self.spawn_held(held, log, CleanupTask::Server)
    }

    /// Starts a Kafka broker, and writes its output to a file.
    pub(crate) fn spawn_broker(&self, command: &Command, log: &Path) -> Result<Child> {
        self.spawn_held(held_process::hold(command), log, CleanupTask::Broker)
    }

    /// Starts a held process in a process group of its own, registers it and releases it. If this
    /// process is killed before the registration, the held process ends without running its
    /// program.
    fn spawn_held(
        &self,
        mut held: Command,
        log: &Path,
        task: fn(ProcessTarget) -> CleanupTask,
    ) -> Result<Child> {
        write_output_to(&mut held, log)?.process_group(0);
        let mut child = self.reaper.start_registered(|| {
            let child = spawn(&mut held)?;
            let task = task(ProcessTarget::Process(pid(&child)?));
            Ok((child, task))
        })?;
        held_process::release(&mut child)?;
        Ok(child)
    }

    /// Removes a server that has ended by itself from the cleanup tasks.
    pub(crate) fn unregister_server(&self, server: &Child) -> Result<()> {
        self.reaper.register(&CleanupTask::ServerEnded(ProcessTarget::Process(pid(server)?)))
    }

    /// Waits for the server in a thread, and prints an error if it ends before the cleanup.
    pub(crate) fn watch_server(&self, name: &'static str, mut server: Child) {
        let reaper = self.reaper.clone();
        thread::spawn(move || {
            let ended = server.wait();
            if !reaper.lock().has_cleaned_up() {
                let _ = pid(&server).and_then(|pid| {
                    reaper.register(&CleanupTask::ServerEnded(ProcessTarget::Process(pid)))
                });
                let outcome =
                    ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                eprintln!("xtask: {name} ended unexpectedly ({outcome})");
            }
        });
    }

    /// Creates an empty folder that only its owner can access. The reaper removes it.
    pub(crate) fn create_folder(&self, parent: &Path, prefix: &str) -> Result<PathBuf> {
        self.reaper.start_registered(|| {
            let folder = tempfile::Builder::new()
                .prefix(prefix)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .with_context(|| format!("failed to create a folder in {}", parent.display()))?
                .keep();
            Ok((folder.clone(), CleanupTask::Folder(folder)))
        })
    }

    /// Registers a container for removal by the reaper.
    pub(crate) fn register_container(&self, engine: &str, name: &str) -> Result<()> {
        self.reaper
            .register(&CleanupTask::Container { engine: engine.to_owned(), name: name.to_owned() })
    }

    /// Waits for Ctrl-C, which ends this process with success.
    pub(crate) fn wait_for_interrupt(&self) -> ! {
        self.signals.set_interrupt_action(InterruptAction::ExitWithSuccess);
        loop {
            thread::park();
        }
    }

    fn wait_for(
        &self,
        command: &mut Command,
        target: impl FnOnce(Pid) -> ProcessTarget,
    ) -> Result<ExitStatus> {
        let mut child = self.reaper.start_registered(|| {
            let child = spawn(command)?;
            let task = CleanupTask::Command(Some(target(pid(&child)?)));
            Ok((child, task))
        })?;
        let status = child.wait().context("failed to wait for a command")?;
        self.reaper.register(&CleanupTask::Command(None))?;
        Ok(status)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reaper.clean_up();
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("failed to run {program}"))
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("invalid process id")
}

fn write_output_to<'a>(command: &'a mut Command, log: &Path) -> Result<&'a mut Command> {
    let log = File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
    let copy = log.try_clone().context("failed to duplicate the log's file handle")?;
    Ok(command.stdout(log).stderr(copy))
}
