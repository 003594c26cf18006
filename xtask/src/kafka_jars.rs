//! The jars of Apache Kafka, and the Java to run them with.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::package_manager::{Dependency, PackageManager};
use crate::session::Session;
use crate::{cargo, program};

/// The version of the broker.
pub(crate) const KAFKA_VERSION: &str = "4.1.0";
/// The version of the broker's logging library. Without it, a broker that fails to start logs
/// nothing.
const LOG4J_VERSION: &str = "2.24.3";
/// The oldest Java that the broker runs on.
const MIN_JAVA_VERSION: u32 = 17;

/// Paths of Homebrew's Java, which is not in `PATH`.
const HOMEBREW_JAVA: [&str; 3] = [
    "/opt/homebrew/opt/openjdk@21/bin/java",
    "/usr/local/opt/openjdk@21/bin/java",
    "/home/linuxbrew/.linuxbrew/opt/openjdk@21/bin/java",
];

/// The files needed to run a broker.
#[derive(Debug, Clone)]
pub(crate) struct KafkaJars {
    /// The path of the `java` program.
    pub(crate) java: PathBuf,
    /// A folder that contains only jars.
    pub(crate) libs: PathBuf,
}

impl KafkaJars {
    /// Returns the jars in `KAFKA_LIBS`, or those that an earlier run downloaded, or downloads them
    /// from Maven Central.
    ///
    /// Java and Maven are installed if they are needed and missing.
    ///
    /// # Errors
    ///
    /// If Java or the jars are not available. The message names the program to install or the
    /// variable to set.
    pub(crate) fn provision(session: &Session) -> Result<Self> {
        let chosen = env::var_os("KAFKA_LIBS").filter(|libs| !libs.is_empty()).map(PathBuf::from);
        let cached = cargo::root().join("target/kafka").join(KAFKA_VERSION);
        let libs = chosen.or_else(|| cached.is_dir().then(|| cached.clone()));
        let missing = java().is_none() || (libs.is_none() && program::find("mvn").is_none());
        if missing {
            install(session)?;
        }
        let java = java().with_context(missing_message)?;
        let libs = match libs {
            Some(libs) => libs,
            None => download(&cached, session)?,
        };
        Ok(Self { java, libs })
    }

    /// Returns a `java` command with the jars on its class path. The caller adds a main class and
    /// arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.java);
        let mut path = self.libs.clone().into_os_string();
        path.push("/*");
        command.arg("-cp").arg(path);
        command
    }
}

fn install(session: &Session) -> Result<()> {
    let Some(manager) = PackageManager::usable() else { bail!(missing_message()) };
    eprintln!(
        "Java or Maven is not installed; running: {}",
        manager.install_command(Dependency::Java)
    );
    manager.install(Dependency::Java, session)
}

fn missing_message() -> String {
    let install = match PackageManager::detect() {
        Some(manager) => format!(" ({})", manager.install_command(Dependency::Java)),
        None => String::new(),
    };
    format!(
        "a Kafka broker needs Java {MIN_JAVA_VERSION} or newer and Maven: install them{install}"
    )
}

/// Downloads the jars into a folder with Maven.
fn download(folder: &Path, session: &Session) -> Result<PathBuf> {
    let parent = folder.parent().context("the folder of the jars has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("failed to create {}", parent.display()))?;
    let work = session.create_folder(parent, "download-")?;
    fs::write(work.join("pom.xml"), pom()).context("failed to write pom.xml")?;
    eprintln!("downloading Apache Kafka {KAFKA_VERSION} from Maven Central");
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
    maven.arg("-DoutputDirectory=libs").current_dir(&work).stdin(Stdio::null());
    // Standard output belongs to the user's command.
    if !session.run_in_group(maven.stdout(std::io::stderr()))?.success() {
        bail!(
            "Maven failed to download Apache Kafka {KAFKA_VERSION}: set KAFKA_LIBS to a folder \
             with its jars, or KAFKA_BROKERS to a broker"
        );
    }
    // A concurrent run may have created the folder first.
    if fs::rename(work.join("libs"), folder).is_err() && !folder.is_dir() {
        bail!("failed to create {}", folder.display());
    }
    Ok(folder.to_owned())
}

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>\n"
        )
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        dependency("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    ];
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         <modelVersion>4.0.0</modelVersion>\n\
         <groupId>local</groupId><artifactId>broker</artifactId><version>1</version>\n\
         <dependencies>\n{}</dependencies>\n</project>\n",
        dependencies.concat()
    )
}

/// Returns a Java that is new enough.
fn java() -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let homebrew = HOMEBREW_JAVA.iter().map(PathBuf::from);
    let candidates = home.into_iter().chain(program::find("java")).chain(homebrew);
    candidates
        .filter(|java| program::is_executable(java))
        .find(|java| major_version(java).is_some_and(|major| major >= MIN_JAVA_VERSION))
}

fn major_version(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stderr))
}

/// Parses the output of `java -version`.
fn parse_major(output: &str) -> Option<u32> {
    let (_, rest) = output.split_once("version \"")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_java_is_parsed() {
        assert_eq!(parse_major("openjdk version \"17.0.15\" 2025-04-15\n…"), Some(17));
        assert_eq!(parse_major("java version \"21\" 2023-09-19 LTS"), Some(21));
        assert_eq!(parse_major("openjdk version \"1.8.0_412\""), Some(1));
        assert_eq!(parse_major("The operation couldn’t be completed."), None);
    }

    #[test]
    fn the_pom_names_the_version() {
        assert!(
            pom().contains(&format!("<artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}"))
        );
    }
}
