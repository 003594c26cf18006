//! `cargo xtask deploy`: checks of the folder `deploy`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::package_manager::{Dependency, PackageManager};
use crate::session::Session;
use crate::{cargo, program};

/// A tool that is built from its sources in the Go module proxy if it is missing.
struct GoTool {
    name: &'static str,
    module: &'static str,
    /// The name under which `go install` leaves it.
    built_as: &'static str,
}

const HELM: GoTool =
    GoTool { name: "helm", module: "helm.sh/helm/v3/cmd/helm@v3.22.0", built_as: "helm" };
const KUBECONFORM: GoTool = GoTool {
    name: "kubeconform",
    module: "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
    built_as: "kubeconform",
};
const COMPOSE: GoTool = GoTool {
    name: "docker-compose",
    module: "github.com/docker/compose/v5/cmd@v5.0.2",
    built_as: "cmd",
};

/// The version of Kubernetes whose manifests are made.
const KUBERNETES: &str = "1.31.0";

/// Checks the alerts, dashboards, the chart and the compose files. A check whose tool is missing
/// and cannot be installed is skipped, with a message.
pub(crate) fn run() -> Result<ExitCode> {
    let session = Session::start()?;
    check(&session, true)?;
    Ok(ExitCode::SUCCESS)
}

/// Checks the folder `deploy`; with `builds_tools`, tools that take minutes to build are built.
pub(crate) fn check(session: &Session, builds_tools: bool) -> Result<()> {
    let deploy = cargo::root().join("deploy");
    alerts(&deploy, session)?;
    chart(&deploy.join("helm/composable-app"), session, builds_tools)?;
    compose(&deploy.join("compose"), session, builds_tools)
}

/// Checks the rules, their unit tests, and the queries of the dashboards.
fn alerts(deploy: &Path, session: &Session) -> Result<()> {
    let Some(promtool) = promtool(session) else {
        println!("skipped: promtool is not installed (Debian, Ubuntu: apt-get install prometheus)");
        return Ok(());
    };
    let rules = deploy.join("alerts/composable-rust.yaml");
    require(session, Command::new(&promtool).args(["check", "rules"]).arg(&rules))?;
    let tests = deploy.join("alerts/tests/alerts.yaml");
    require(session, Command::new(&promtool).args(["test", "rules"]).arg(&tests))?;
    // promtool parses rules, so the queries are checked as rules.
    let folder = tempfile::tempdir()?;
    let queries = folder.path().join("queries.json");
    fs::write(&queries, dashboard_rules(&deploy.join("dashboards"))?.to_string())?;
    require(session, Command::new(&promtool).args(["check", "rules"]).arg(&queries))
}

fn promtool(session: &Session) -> Option<PathBuf> {
    let installed = program::find("promtool");
    if installed.is_some() {
        return installed;
    }
    let manager = PackageManager::usable()?;
    eprintln!("installing promtool: {}", manager.install_command(Dependency::Prometheus));
    if let Err(error) = manager.install(Dependency::Prometheus, session) {
        eprintln!("xtask: {error:#}");
    }
    program::find("promtool")
}

/// Returns the queries of all dashboards as recording rules.
fn dashboard_rules(folder: &Path) -> Result<Value> {
    let mut rules = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("json")) {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let dashboard: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON", path.display()))?;
        let panels = dashboard["panels"].as_array().context("a dashboard has panels")?;
        for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
            rules.push(json!({
                "record": format!("dashboard:{}", rules.len()),
                "expr": target["expr"],
            }));
        }
    }
    Ok(json!({ "groups": [{ "name": "dashboards", "rules": rules }] }))
}

/// Checks the chart with each of its value files.
fn chart(chart: &Path, session: &Session, builds_tools: bool) -> Result<()> {
    let Some(helm) = HELM.find(session, builds_tools) else { return Ok(()) };
    let kubeconform = KUBECONFORM.find(session, builds_tools);
    let mut values = Vec::new();
    for entry in fs::read_dir(chart.join("ci"))? {
        values.push(entry?.path());
    }
    values.sort();
    for file in values {
        let mut lint = Command::new(&helm);
        lint.arg("lint").arg(chart).arg("--strict").arg("--values").arg(&file);
        require(session, &mut lint)?;
        let mut template = Command::new(&helm);
        template.args(["template", "shop"]).arg(chart);
        template.args(["--kube-version", KUBERNETES]).arg("--values").arg(&file);
        let manifests = template.output().context("helm does not run")?;
        if !manifests.status.success() {
            bail!("helm template: {}", String::from_utf8_lossy(&manifests.stderr));
        }
        println!("helm template with {}: {} bytes", file.display(), manifests.stdout.len());
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("manifests.yaml");
        fs::write(&path, &manifests.stdout)?;
        if let (Some(kubeconform), Some(schemas)) = (&kubeconform, schemas()) {
            let mut check = Command::new(kubeconform);
            check.args(["-strict", "-summary", "-ignore-missing-schemas", "-schema-location"]);
            require(session, check.arg(schemas).arg(&path))?;
        } else {
            println!(
                "skipped: kubeconform (set KUBECONFORM_SCHEMAS to the folder or URL of schemas)"
            );
        }
    }
    Ok(())
}

/// The location of the schemas of Kubernetes: that in `KUBECONFORM_SCHEMAS`, or in continuous
/// integration on GitHub the public one.
fn schemas() -> Option<String> {
    let given = env::var("KUBECONFORM_SCHEMAS").ok();
    given.or_else(|| env::var_os("GITHUB_ACTIONS").map(|_| "default".to_owned()))
}

/// Checks the compose files against their schema. It needs no running engine.
fn compose(folder: &Path, session: &Session, builds_tools: bool) -> Result<()> {
    let is_plugin = program::succeeds(Command::new("docker").args(["compose", "version"]));
    let standalone = if is_plugin { None } else { COMPOSE.find(session, builds_tools) };
    for files in [&["compose.yaml"][..], &["compose.yaml", "kafka.yaml"]] {
        let mut check = match &standalone {
            Some(compose) => Command::new(compose),
            None if is_plugin => Command::new("docker"),
            None => return Ok(()),
        };
        if is_plugin {
            check.arg("compose");
        }
        for file in files {
            check.arg("--file").arg(folder.join(file));
        }
        require(session, check.args(["config", "--quiet"]))?;
        println!("docker compose config of {}: valid", files.join(", "));
    }
    Ok(())
}

impl GoTool {
    /// Finds the tool, or builds it if that is wanted and Go is installed; otherwise `None`, with a
    /// message.
    fn find(&self, session: &Session, builds: bool) -> Option<PathBuf> {
        let folder = cargo::root().join("target/tools");
        let built = folder.join(self.name);
        let found =
            program::find(self.name).or_else(|| Some(built.clone()).filter(|of| of.is_file()));
        if found.is_some() {
            return found;
        }
        if !builds {
            println!("skipped: {} is not installed; `cargo xtask deploy` builds it", self.name);
            return None;
        }
        let Some(go) = program::find("go") else {
            println!("skipped: neither {} nor Go is installed", self.name);
            return None;
        };
        println!("building {} in {}", self.module, folder.display());
        let mut install = Command::new(go);
        install.args(["install", self.module]).env("GOBIN", &folder);
        let is_built = session.run(&mut install).is_ok_and(|status| status.success())
            && fs::rename(folder.join(self.built_as), &built).is_ok();
        if !is_built {
            println!("skipped: {} cannot be built", self.name);
        }
        is_built.then_some(built)
    }
}

fn require(session: &Session, command: &mut Command) -> Result<()> {
    let status = session.run(command)?;
    if !status.success() {
        bail!("failed ({status}): {command:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_of_the_dashboards_is_checked() {
        let rules = dashboard_rules(&cargo::root().join("deploy/dashboards")).unwrap();
        let rules = rules["groups"][0]["rules"].as_array().unwrap();
        assert!(rules.len() > 40, "{}", rules.len());
        assert!(rules.iter().all(|rule| rule["expr"].is_string()));
    }
}
