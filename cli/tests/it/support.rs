//! Running commands in this process or in the program.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use clap::Parser;
use composable_rust::App;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust_cli::{Admin, Operations, Operator, Terminal};

use crate::shop::{Build, fill, shop};

/// A user's own program.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    operations: Operations,
}

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command, and returns its output, its error and its exit code.
pub(crate) async fn run(admin: &Admin, args: &[&str]) -> String {
    let (output, code) = run_for(admin, args).await;
    let shown = args.join(" ").replace(char::is_whitespace, " ");
    format!("$ shop {shown}\n{output}[exit code {code}]\n")
}

/// Runs a command, and returns its output and its exit code.
pub(crate) async fn run_for(admin: &Admin, args: &[&str]) -> (String, u8) {
    let line = std::iter::once("shop").chain(args.iter().copied());
    let operations = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).operations;
    let buffer = Buffer::default();
    let mut terminal = Terminal::plain(buffer.clone(), Some(120));
    let done = operations.run_on(admin, &mut terminal).await;
    let mut output = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    let code = done.unwrap_or_else(|error| {
        let source = std::error::Error::source(&error).map(|of| format!(": {of}"));
        let line = format!("error: {error}{}\n", source.unwrap_or_default());
        output.push_str(&line);
        error.report()
    });
    (output, number_of(code))
}

fn number_of(code: std::process::ExitCode) -> u8 {
    let digits: String = format!("{code:?}").chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// A filled log in a file.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        fill(fixture.store().await).await;
        fixture
    }

    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn store(&self) -> SqliteEventStore {
        SqliteEventStore::open(self.path("shop.db")).await.unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path("shop.db").display())
    }

    /// Returns the app of a build, which is not started.
    pub(crate) async fn app(&self, build: Build) -> App {
        shop(self.store().await, build).build().unwrap()
    }

    /// Returns the operations with the app.
    pub(crate) async fn decoding(&self, build: Build) -> Admin {
        Admin::new(&self.app(build).await, bea())
    }

    /// Returns the operations of the store alone.
    pub(crate) async fn raw(&self) -> Admin {
        Admin::of_store(self.store().await, bea()).unwrap()
    }
}

pub(crate) fn bea() -> Operator {
    Operator::named("bea")
}

/// Runs the program.
pub(crate) fn composable(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_composable"));
    command.args(args).env_remove("COMPOSABLE_STORE").env("USER", "bea");
    command.output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replaces what differs between runs by a text of a fixed form.
pub(crate) fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(true);
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]");
    settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]");
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[time]");
    settings.add_filter(r"\b\d+ (s|min)( \d+ s)?\b *", "[age] ");
    settings.add_filter(r"operators-\d{4}-\d\d", "operators-[month]");
    settings.add_filter(r"\d+\.\d{3} s", "[age]");
    settings.add_filter(r"in \d+ d( \d+ h)?", "in [age]");
    settings.add_filter(r"(oldest_seconds.: )\d+", "${1}[age]");
    settings
}
