//! Apache Kafka's jars, and the Java that runs them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::package_manager::{Need, PackageManager};
use crate::session::Session;
use crate::{cargo, program};

/// The broker that the tests run against.
pub(crate) const KAFKA_VERSION: &str = "4.1.0";
/// What it logs with; without it, it says nothing when it does not start.
const LOG4J_VERSION: &str = "2.24.3";
/// The oldest Java that it runs on.
const OLDEST_JAVA: u32 = 17;

/// Where the packages of Homebrew are, which are not in `PATH`.
const PLACES: [&str; 3] = [
    "/opt/homebrew/opt/openjdk@21/bin/java",
    "/usr/local/opt/openjdk@21/bin/java",
    "/home/linuxbrew/.linuxbrew/opt/openjdk@21/bin/java",
];

/// What a broker is run with.
#[derive(Debug, Clone)]
pub(crate) struct Jars {
    pub(crate) java: PathBuf,
    /// A folder of nothing but jars.
    pub(crate) libs: PathBuf,
}

impl Jars {
    /// Those that `KAFKA_LIBS` names, else those that an earlier run brought, else from Maven
    /// Central. Java and Maven are installed if they are missing.
    ///
    /// # Errors
    ///
    /// Says what to install or set when there is no way to them.
    pub(crate) fn provide(session: &Session) -> Result<Self> {
        let chosen = env::var_os("KAFKA_LIBS").filter(|libs| !libs.is_empty()).map(PathBuf::from);
        let kept = cargo::root().join("target/kafka").join(KAFKA_VERSION);
        let libs = chosen.or_else(|| kept.is_dir().then(|| kept.clone()));
        let missing = java().is_none() || (libs.is_none() && program::find("mvn").is_none());
        if missing {
            install(session)?;
        }
        let java = java().with_context(what_is_missing)?;
        let libs = match libs {
            Some(libs) => libs,
            None => fetch(&kept, session)?,
        };
        Ok(Self { java, libs })
    }

    /// Java with the jars, for a main class and its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.java);
        let mut path = self.libs.clone().into_os_string();
        path.push("/*");
        command.arg("-cp").arg(path);
        command
    }
}

fn install(session: &Session) -> Result<()> {
    let Some(manager) = PackageManager::usable() else { bail!(what_is_missing()) };
    eprintln!("no Java or no Maven is installed here: {}", manager.line(Need::Java));
    manager.install(Need::Java, session)
}

fn what_is_missing() -> String {
    let install = match PackageManager::here() {
        Some(manager) => format!(" ({})", manager.line(Need::Java)),
        None => String::new(),
    };
    format!(
        "Java {OLDEST_JAVA} or newer and Maven are needed to run a Kafka broker: install them{install}"
    )
}

/// Has Maven copy the jars into a folder.
fn fetch(folder: &Path, session: &Session) -> Result<PathBuf> {
    let parent = folder.parent().context("the folder has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let work = session.create_folder(parent, "fetching-")?;
    fs::write(work.join("pom.xml"), pom()).context("writing pom.xml")?;
    eprintln!("fetching Apache Kafka {KAFKA_VERSION} from Maven Central");
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
    maven.arg("-DoutputDirectory=libs").current_dir(&work).stdin(Stdio::null());
    // Standard output is for the command that needs the broker.
    if !session.run_apart(maven.stdout(std::io::stderr()))?.success() {
        bail!(
            "Maven could not fetch Apache Kafka {KAFKA_VERSION}: set KAFKA_LIBS to a folder with \
             its jars, or KAFKA_BROKERS to a broker"
        );
    }
    // Another run may have been faster.
    if fs::rename(work.join("libs"), folder).is_err() && !folder.is_dir() {
        bail!("{} could not be made", folder.display());
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

/// A Java that is new enough.
fn java() -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let places = PLACES.iter().map(PathBuf::from);
    let candidates = home.into_iter().chain(program::find("java")).chain(places);
    candidates
        .filter(|java| program::is_executable(java))
        .find(|java| major_version(java).is_some_and(|major| major >= OLDEST_JAVA))
}

fn major_version(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stderr))
}

/// Reads what `java -version` prints.
fn parse_major(output: &str) -> Option<u32> {
    let (_, rest) = output.split_once("version \"")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_prints() {
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
