//! A PostgreSQL server of a test's own, to be stopped at once and started again.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// A cluster of the installation that runs the server which `DATABASE_URL` names, under the same
/// account. That server must be on this machine, as the one of `cargo xtask test` is.
pub(crate) struct Postgres {
    binaries: PathBuf,
    owner: (u32, u32),
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// Starts a server, and waits until it answers.
    pub(crate) async fn start() -> Self {
        let known = std::env::var("DATABASE_URL").expect("DATABASE_URL is set: cargo xtask test");
        let mut connection = PgConnection::connect(&known).await.expect("the server answers");
        let mut ask = async |sql: &'static str| {
            let answer: Result<String, _> =
                sqlx::query_scalar(sql).fetch_one(&mut connection).await;
            PathBuf::from(answer.expect("a superuser may ask"))
        };
        let binaries = ask("select setting from pg_config where name = 'BINDIR'").await;
        let data = ask("show data_directory").await;
        let owner = std::fs::metadata(&data).expect("the server is on this machine");
        let owner = (owner.uid(), owner.gid());
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::chown(folder.path(), Some(owner.0), Some(owner.1)).expect("it is ours");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let mut server = Self { binaries, owner, folder, port, process: None };
        let mut initdb = server.command("initdb");
        let args = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"];
        initdb.args(args).arg("--pgdata");
        let made = initdb.arg(server.data()).status().expect("initdb is there");
        assert!(made.success(), "{}", server.log());
        drop(listener);
        server.start_again().await;
        server
    }

    /// Where a database is.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database.
    pub(crate) async fn create(&self, database: &str) -> String {
        let mut connection =
            PgConnection::connect(&self.url("postgres")).await.expect("it answers");
        let create = format!("create database {database}");
        connection.execute(&*create).await.expect("it is made");
        self.url(database)
    }

    /// Ends it at once, as a crash does: it recovers when it is started again.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SIGKILL would leave its children behind.
            let told = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            assert!(told.is_ok_and(|status| status.success()), "it can be told");
            process.wait().expect("it is ours");
        }
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        for setting in ["listen_addresses=127.0.0.1", &sockets, "max_connections=400"] {
            command.args(["-c", setting]);
        }
        self.process = Some(command.spawn().expect("postgres is there"));
        let began = Instant::now();
        while PgConnection::connect(&self.url("postgres")).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all connections, and those made from then on only read; or those made from then on write
    /// again, while those that are there stay as they are.
    pub(crate) async fn read_only(&self, read_only: bool) {
        let mut connection =
            PgConnection::connect(&self.url("postgres")).await.expect("it answers");
        let databases =
            "select datname from pg_database where not datistemplate and datname <> 'postgres'";
        let databases: Vec<String> =
            sqlx::query_scalar(databases).fetch_all(&mut connection).await.expect("a list");
        for database in databases {
            let set = format!(
                "alter database {database} set default_transaction_read_only = {read_only}"
            );
            connection.execute(&*set).await.expect("it is set");
        }
        if read_only {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname <> 'postgres' and pid <> pg_backend_pid()";
            connection.execute(end).await.expect("they end");
        }
    }

    fn command(&self, program: &str) -> Command {
        let log = || {
            let log = self.folder.path().join("log");
            std::fs::File::options().create(true).append(true).open(log).expect("a log")
        };
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(log()).stderr(log());
        let me = std::fs::metadata("/proc/self").map_or(self.owner.0, |me| me.uid());
        if me != self.owner.0 {
            command.uid(self.owner.0).gid(self.owner.1);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        let log: &Path = &self.folder.path().join("log");
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }
}
