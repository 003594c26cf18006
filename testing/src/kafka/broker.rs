//! A Kafka broker for one test.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::{Child, Command};
use uuid::Uuid;

use super::server::{Programs, contents, free_ports, succeed, wait_until_ready};
use super::settings::{LOGGING, Login, Ports, STORE_PASSWORD, properties};

/// The number of attempts to start on free ports, which another process may take first.
const ATTEMPTS: usize = 5;

/// An Apache Kafka broker for one test, which can be killed and restarted. Dropping the value kills
/// it and removes its data.
///
/// The environment variable `KAFKA_LIBS` names the jars. Java is `KAFKA_JAVA`, else the one of
/// `JAVA_HOME`, else the one in `PATH`. `cargo xtask test` provides them.
///
/// # Example: a broker that goes away and comes back
///
/// ```no_run
/// # async fn example() {
/// use composable_rust_testing::TestBroker;
///
/// let mut broker = TestBroker::start().await;
/// println!("connect to {}", broker.brokers());
/// broker.kill().await;
/// broker.start_again().await;
/// # }
/// ```
#[derive(Debug)]
pub struct TestBroker {
    programs: Programs,
    folder: PathBuf,
    ports: Ports,
    authority: Option<String>,
    process: Option<Child>,
}

impl TestBroker {
    /// Starts a broker, and waits until it accepts requests.
    ///
    /// # Panics
    ///
    /// Panics if `KAFKA_LIBS` is not set, or the broker does not start.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a broker with an additional encrypted listener, over which this user logs in by
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. The broker has a certificate of its own.
    ///
    /// # Panics
    ///
    /// Panics if `KAFKA_LIBS` is not set, or the broker does not start.
    pub async fn start_encrypted(user: &str, password: &str) -> Self {
        let login = Login { user: user.to_owned(), password: password.to_owned() };
        Self::start_with(Some(login)).await
    }

    async fn start_with(login: Option<Login>) -> Self {
        let programs = Programs::find();
        let name = format!("composable-rust-broker-{}", Uuid::new_v4().simple());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a folder is made");
        let ports = Ports { plain: 0, controller: 0, encrypted: 0 };
        let mut broker = Self { programs, folder, ports, authority: None, process: None };
        broker.write("log4j2.properties", LOGGING);
        if login.is_some() {
            broker.authority = Some(broker.make_certificate().await);
        }
        for attempt in 1.. {
            let [plain, controller, encrypted] = free_ports().await;
            broker.ports = Ports { plain, controller, encrypted };
            let properties = properties(&broker.folder, broker.ports, login.as_ref());
            broker.write("server.properties", &properties);
            if !broker.folder.join("data").exists() {
                broker.format(login.as_ref()).await;
            }
            if broker.runs().await {
                return broker;
            }
            assert!(attempt < ATTEMPTS, "{}", broker.complaint());
        }
        unreachable!("the last attempt returns or panics")
    }

    /// The bootstrap address of the unencrypted listener.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// The bootstrap address of the encrypted listener.
    pub fn encrypted_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.ports.encrypted)
    }

    /// The certificate to trust, as PEM.
    ///
    /// # Panics
    ///
    /// Panics if the broker has none: see [`start_encrypted`](Self::start_encrypted).
    pub fn authority(&self) -> &str {
        self.authority.as_deref().expect("the broker has no certificate")
    }

    /// Kills the broker at once, as a crash does. Acknowledged records are kept.
    ///
    /// # Panics
    ///
    /// Panics if the process cannot be killed.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("the process is killed");
        }
    }

    /// Shuts the broker down in order.
    ///
    /// # Panics
    ///
    /// Panics if the process cannot be signalled.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = process.id().expect("the process runs").to_string();
            let told = Command::new("kill").args(["-TERM", &id]).status().await;
            assert!(told.is_ok_and(|status| status.success()), "the broker cannot be stopped");
            process.wait().await.expect("the process is ours");
        }
    }

    /// Restarts the broker at the same addresses with the same data, and waits until it accepts
    /// requests.
    ///
    /// # Panics
    ///
    /// Panics if the broker does not start.
    pub async fn start_again(&mut self) {
        self.kill().await;
        assert!(self.runs().await, "{}", self.complaint());
    }

    /// Starts the process. Returns `true` if it accepts requests.
    async fn runs(&mut self) -> bool {
        let log = self.folder.join("broker.log");
        let logging = self.folder.join("log4j2.properties");
        let mut command = self.programs.java(&log);
        command.arg("-Xmx512m").arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        command.arg("kafka.Kafka").arg(self.folder.join("server.properties"));
        let process = self.process.insert(command.spawn().expect("Java is there"));
        wait_until_ready(process, self.ports.plain, &log).await
    }

    async fn format(&self, login: Option<&Login>) {
        let log = self.folder.join("format.log");
        let mut format = self.programs.java(&log);
        format.args(["kafka.tools.StorageTool", "format", "--cluster-id"]);
        format.args(["MkU3OEVBNTcwNTJENDM2Qg", "--config"]);
        format.arg(self.folder.join("server.properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            if let Some(Login { user, password }) = login {
                let login = format!("{mechanism}=[name={user},password={password}]");
                format.args(["--add-scram", &login]);
            }
        }
        succeed(&mut format, &log).await;
    }

    /// Makes the broker's key and a self-signed certificate.
    async fn make_certificate(&self) -> String {
        let log = self.folder.join("keytool.log");
        let store = self.folder.join("broker.p12");
        let of_store = |command: &mut Command| {
            command.args(["-alias", "broker", "-storetype", "PKCS12"]);
            command.arg("-keystore").arg(&store).args(["-storepass", STORE_PASSWORD]);
        };
        let mut make = self.programs.keytool(&log);
        make.args(["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "7"]);
        make.args(["-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1"]);
        of_store(&mut make);
        succeed(&mut make, &log).await;

        let certificate = self.folder.join("broker.pem");
        let mut export = self.programs.keytool(&log);
        export.args(["-exportcert", "-rfc", "-file"]).arg(&certificate);
        of_store(&mut export);
        succeed(&mut export, &log).await;
        fs::read_to_string(certificate).expect("the certificate is there")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("a file is written");
    }

    fn complaint(&self) -> String {
        let log: &Path = &self.folder.join("broker.log");
        format!("the broker does not start:\n{}", contents(log))
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The runtime reaps the process.
            let _ = process.start_kill();
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} stays behind: {error}", self.folder.display());
        }
    }
}
