//! A separate PostgreSQL server that a test can crash and restart.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// A PostgreSQL cluster with the binaries and the account of the server in `DATABASE_URL`.
///
/// That server must run on this machine, like the one of `cargo xtask test`.
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
        std::os::unix::fs::chown(folder.path(), Some(owner.0), Some(owner.1))
            .expect("the folder gets the owner");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("the listener has an address").port();
        let mut server = Self { binaries, owner, folder, port, process: None };
        let mut initdb = server.command("initdb");
        let args = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"];
        initdb.args(args).arg("--pgdata");
        let status = initdb.arg(server.data()).status().expect("initdb is installed");
        assert!(status.success(), "{}", server.log());
        drop(listener);
        server.restart().await;
        server
    }

    /// Returns the URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates a database and returns its URL.
    pub(crate) async fn create(&self, database: &str) -> String {
        let mut connection = PgConnection::connect(&self.url("postgres"))
            .await
            .expect("the server accepts connections");
        let create = format!("create database {database}");
        connection.execute(&*create).await.expect("the database is created");
        self.url(database)
    }

    /// Stops the server at once, as a crash does. It recovers at the next start.
    pub(crate) fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SIGKILL would leave its child processes running.
            let sent = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()), "the signal is sent");
            process.wait().expect("the server can be waited for");
        }
    }

    /// Starts the server, and waits until it accepts connections.
    pub(crate) async fn restart(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        for setting in ["listen_addresses=127.0.0.1", &sockets, "max_connections=400"] {
            command.args(["-c", setting]);
        }
        self.process = Some(command.spawn().expect("postgres is installed"));
        let began = Instant::now();
        while PgConnection::connect(&self.url("postgres")).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// With `true`, closes all connections and makes new ones read-only. With `false`, makes new
    /// connections writable, and leaves the existing ones as they are.
    pub(crate) async fn read_only(&self, read_only: bool) {
        let mut connection = PgConnection::connect(&self.url("postgres"))
            .await
            .expect("the server accepts connections");
        let databases =
            "select datname from pg_database where not datistemplate and datname <> 'postgres'";
        let databases: Vec<String> = sqlx::query_scalar(databases)
            .fetch_all(&mut connection)
            .await
            .expect("the list of databases");
        for database in databases {
            let set = format!(
                "alter database {database} set default_transaction_read_only = {read_only}"
            );
            connection.execute(&*set).await.expect("the setting is changed");
        }
        if read_only {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname <> 'postgres' and pid <> pg_backend_pid()";
            connection.execute(end).await.expect("the connections are closed");
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
        let own = std::fs::metadata("/proc/self").map_or(self.owner.0, |own| own.uid());
        if own != self.owner.0 {
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
