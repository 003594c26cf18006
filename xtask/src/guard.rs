//! A process that outlives this one just long enough to clean up after it.
//!
//! It holds the reading end of a pipe. The writing end closes when this process ends, for
//! whatever reason, `kill -9` and panics included; then the guard ends the running command, stops
//! the server and removes its folder. There is no other way down, so this one is always tested.

use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::duty::{Duties, Duty};

/// The hidden subcommand that a guard process runs.
pub(crate) const SUBCOMMAND: &str = "guard-process";

/// The parent's hold on its guard. Clones share one guard, which takes everything down when the
/// first of them is asked to or this process ends.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    link: Arc<Mutex<Link>>,
}

#[derive(Debug)]
pub(crate) struct Link {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard process.
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut process = Command::new(program)
            .arg(SUBCOMMAND)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .spawn()
            .context("starting the guard process")?;
        let pipe = process.stdin.take();
        Ok(Self { link: Arc::new(Mutex::new(Link { process, pipe })) })
    }

    /// Tells the guard one more thing to take down.
    pub(crate) fn tell(&self, duty: &Duty) -> Result<()> {
        self.lock().tell(duty)
    }

    /// Begins something that will have to be taken down. No signal gets between `begin` and
    /// the guard's knowing of it.
    pub(crate) fn begin<T>(&self, begin: impl FnOnce() -> Result<(T, Duty)>) -> Result<T> {
        let mut link = self.lock();
        if link.has_ended() {
            bail!("interrupted");
        }
        let (started, duty) = begin()?;
        link.tell(&duty)?;
        Ok(started)
    }

    /// Takes everything down and returns when that is done.
    pub(crate) fn end(&self) {
        self.lock().end();
    }

    /// The guard, to oneself.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// See [`Guard::end`].
    pub(crate) fn end(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }

    /// Has everything been taken down?
    pub(crate) fn has_ended(&self) -> bool {
        self.pipe.is_none()
    }

    fn tell(&mut self, duty: &Duty) -> Result<()> {
        let pipe = self.pipe.as_mut().context("interrupted")?;
        writeln!(pipe, "{duty}").context("the guard process has ended")
    }
}

/// The guard process: reads duties until the parent is done or dead, then fulfils them.
pub(crate) fn keep() {
    let mut duties = Duties::default();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.parse() {
            Ok(duty) => duties.note(duty),
            Err(error) => eprintln!("xtask: the guard did not understand {line:?}: {error:#}"),
        }
    }
    duties.fulfil();
}
