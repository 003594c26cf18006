//! A PostgreSQL server of a test's own, with an archive of its write-ahead log.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Running, free_address, until};

/// A folder with PostgreSQL's programs, and the user that they run as: they refuse to run as root.
#[derive(Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

impl Programs {
    /// Returns the newest programs that are installed; `None`, with a message, if there are none.
    pub(crate) fn find() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut folders: Vec<_> = versions.map(|of| of.path().join("bin")).collect();
        folders.sort();
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        folders.splice(0..0, std::env::split_paths(&in_path));
        let found = folders.into_iter().rfind(|folder| folder.join("initdb").is_file());
        if found.is_none() {
            eprintln!("skipped: no PostgreSQL server is installed");
        }
        Some(Self { folder: found?, user: unprivileged_user() })
    }

    /// Returns a shell that runs a script with these programs, as their user.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut shell = self.command("sh");
        shell.args(["-euc", script]);
        shell
    }

    fn command(&self, name: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(name);
        command.env("PATH", format!("{}:{path}", self.folder.display()));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Creates a folder that the programs may write to.
    pub(crate) fn create_folder(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }
}

/// Returns the ids of an unprivileged user if this process is root's.
fn unprivileged_user() -> Option<(u32, u32)> {
    let id = |args: &[&str]| {
        let output = Command::new("id").args(args).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    if id(&["-u"])? != 0 {
        return None;
    }
    let user = |name| Some((id(&["-u", name])?, id(&["-g", name])?));
    ["postgres", "nobody"].into_iter().find_map(user)
}

/// A running server.
pub(crate) struct Server {
    port: u16,
    _process: Running,
}

impl Server {
    /// Creates a cluster in a folder, and starts its server with these settings.
    pub(crate) fn create(programs: &Programs, data: &Path, settings: &[String]) -> Self {
        let init = "initdb --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync";
        let mut init = programs.shell(&format!("{init} --pgdata='{}' >&2", data.display()));
        assert!(init.stderr(Stdio::null()).status().unwrap().success(), "initdb");
        Self::start(programs, data, settings)
    }

    /// Starts the server of a cluster.
    pub(crate) fn start(programs: &Programs, data: &Path, settings: &[String]) -> Self {
        let port = free_address().port();
        let mut command = programs.command("postgres");
        command.arg("-D").arg(data).args(["-p", &port.to_string()]);
        let common = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
        for setting in common.into_iter().chain(settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(data.with_extension("log")).unwrap();
        let process = Running(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
        let server = Self { port, _process: process };
        until("the server accepts connections", || server.query("select 1", programs).is_some());
        server
    }

    /// Returns the URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns what a statement returns; `None` if the server is not up, or in recovery.
    pub(crate) fn query(&self, sql: &str, programs: &Programs) -> Option<String> {
        let mut psql = programs.command("psql");
        psql.args(["-XAtq", &self.url("postgres"), "-c", sql]).stderr(Stdio::null());
        let output = psql.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}
