//! Stores behind `PgBouncer`.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use composable_rust_core::projection::ReadModel as _;
use composable_rust_core::store::EventStore as _;
use composable_rust_postgres::{
    ConnectError, PostgresEventStore, PostgresEventStoreBuilder, PostgresReadModel,
};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::database::Database;
use crate::fixtures::{append, commit, committed, exact, load};

const CERTIFICATE: &str = "\
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = localhost
[extensions]
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:localhost
";

/// A pooler in front of the test server. It ends when it is dropped.
struct PgBouncer {
    process: Child,
    port: u16,
    database: String,
    folder: TempDir,
}

impl PgBouncer {
    async fn start(database: &Database, settings: &str) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        Some(Self::run(&program, folder, database, settings).await)
    }

    /// Starts a pooler that encrypts, with a self-signed certificate for localhost, and rejects
    /// plain text.
    async fn start_encrypted(database: &Database) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let (key, certificate) = (file("key.pem"), file("certificate.pem"));
        let request = file("request.cnf");
        std::fs::write(&request, CERTIFICATE).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-config"])
            .arg(&request)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            println!("SKIPPED: no certificate can be made (apt-get install openssl)");
            return None;
        }
        open_to_all(&key, 0o644);
        let settings = format!(
            "client_tls_sslmode = require\nclient_tls_key_file = {}\nclient_tls_cert_file = {}\n",
            key.display(),
            certificate.display()
        );
        Some(Self::run(&program, folder, database, &settings).await)
    }

    async fn run(program: &Path, folder: TempDir, database: &Database, settings: &str) -> Self {
        let server: PgConnectOptions = database.url().parse().unwrap();
        let port = {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listener.local_addr().unwrap().port()
        };
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} port={} user={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\ndefault_pool_size = 20\n{settings}",
            server.get_host(),
            server.get_port(),
            server.get_username(),
        );
        std::fs::write(&file, text).unwrap();
        open_to_all(folder.path(), 0o755);
        let mut command = Command::new(program);
        // It does not run as root; other users may not use the option.
        if std::fs::metadata("/proc/self").is_ok_and(|own| owner(&own) == 0) {
            command.args(["-u", "nobody"]);
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap();
        let started = Self { process, port, database: database.name().to_owned(), folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let log = std::fs::read_to_string(started.folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "PgBouncer does not start: {log}");
            sleep(Duration::from_millis(20)).await;
        }
        started
    }

    fn url(&self) -> String {
        format!("postgres://app@localhost:{}/{}", self.port, self.database)
    }

    fn builder(&self) -> PostgresEventStoreBuilder {
        PostgresEventStore::builder(&self.url()).partitions(1)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program; `None`, with a message, where it is not installed.
fn program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    folders.push("/usr/sbin".into());
    let found = folders.into_iter().map(|folder| folder.join("pgbouncer")).find(|p| p.is_file());
    if found.is_none() {
        println!("SKIPPED: PgBouncer is not installed (apt-get install pgbouncer)");
    }
    found
}

fn open_to_all(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn owner(file: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(file)
}

#[tokio::test]
async fn stores_behind_a_pooler_in_session_mode_are_separate() {
    let database = Database::create().await;
    for ignored in ["", "ignore_startup_parameters = options, extra_float_digits\n"] {
        let settings = format!("pool_mode = session\n{ignored}");
        let Some(pooler) = PgBouncer::start(&database, &settings).await else { return };
        for (schema, count) in [("svc_a", 1_u64), ("svc_b", 2)] {
            let schema = format!("{schema}_{}", ignored.len());
            let store = pooler.builder().schema(&schema).connect().await.unwrap();
            for n in 0..count {
                let event = append("order-1", exact(n), &[u128::from(n) + 1]);
                assert_eq!(commit(&store, &event).await, committed(n + 1, 0, n + 1), "{schema}");
            }
            assert_eq!(load(&store, "order-1").await.len() as u64, count, "{schema}");
        }
        PostgresReadModel::connect(&pooler.url()).await.unwrap().load("p").await.unwrap();
    }
}

#[tokio::test]
async fn a_pooler_that_shares_sessions_is_rejected() {
    let database = Database::create().await;
    for mode in [
        "pool_mode = transaction\n",
        "pool_mode = statement\n",
        "pool_mode = transaction\nserver_reset_query_always = 1\n",
    ] {
        let Some(pooler) = PgBouncer::start(&database, mode).await else { return };
        let refused = pooler.builder().connect().await.expect_err(mode);
        assert!(matches!(refused, ConnectError::SharedSession { .. }), "{mode}: {refused:?}");
        assert!(refused.to_string().contains("session mode"), "{refused}");
    }
}

#[tokio::test]
async fn a_server_may_require_encryption() {
    let database = Database::create().await;
    let Some(server) = PgBouncer::start_encrypted(&database).await else { return };
    let certificate = server.folder.path().join("certificate.pem");
    let verified =
        format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), certificate.display());
    for url in [verified, format!("{}?sslmode=require", server.url()), server.url()] {
        let store = PostgresEventStore::builder(&url).partitions(1).connect().await.unwrap();
        store.heads().await.unwrap();
    }
    let untrusted = format!("{}?sslmode=verify-full", server.url());
    let refused = PostgresEventStore::connect(&untrusted).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Tls { .. }), "{refused:?}");
    let plain = format!("{}?sslmode=disable", server.url());
    let refused = PostgresEventStore::connect(&plain).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused:?}");
}
