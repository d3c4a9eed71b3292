//! The mesh under load: one that is there already, or one that the run starts through `infra/local` and takes away again. Owns names and
//! addresses; what is done to the mesh is `faults`'.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;

use super::metrics::Source;
use super::scenario::{FaultSpec, MeshNeeds};

/// Starting takes no longer than this: `infra/local/up` gives up by itself before.
const UP_MAX: Duration = Duration::from_secs(600);
/// Stopping and looking.
const COMMAND_MAX: Duration = Duration::from_secs(120);

/// Where requests go and metrics come from.
pub struct Mesh {
    /// Routers: name and host:port.
    pub routers: Vec<(String, String)>,
    /// Everybody with metrics.
    pub sources: Vec<Source>,
    local: Option<Local>,
}

/// A mesh that this run started.
struct Local {
    /// `infra/local`.
    scripts: PathBuf,
    environment: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Status {
    processes: Vec<Process>,
}

#[derive(Deserialize)]
struct Process {
    name: String,
    port: Option<u16>,
    health_port: Option<u16>,
}

impl Mesh {
    /// A mesh, or any DynamoDB endpoint, that is there already.
    pub fn there(endpoints: &[String], metrics: &[String]) -> anyhow::Result<Self> {
        let named = |text: &String| match text.split_once('=') {
            Some((name, address)) => (name.to_owned(), bare(address)),
            None => (bare(text), bare(text)),
        };
        let source = |text| {
            let (name, address) = named(text);
            Source { name, address }
        };
        ensure!(!endpoints.is_empty(), "no endpoint");
        Ok(Self {
            routers: endpoints.iter().map(named).collect(),
            sources: metrics.iter().map(source).collect(),
            local: None,
        })
    }

    /// Starts one.
    pub async fn start(scripts: PathBuf, needs: &MeshNeeds) -> anyhow::Result<Self> {
        let mut environment: Vec<(String, String)> =
            needs.environment.clone().into_iter().collect();
        environment.push(("EVENKEEL_ROUTERS".into(), needs.routers.to_string()));
        let local = Local {
            scripts,
            environment,
        };
        local.run("up", &[], UP_MAX).await?;
        let status = local
            .run("status", &["--output", "json"], COMMAND_MAX)
            .await?;
        let status: Status = serde_json::from_str(&status).context("infra/local/status")?;
        let here = |port: u16| format!("127.0.0.1:{port}");
        let mut mesh = Self {
            routers: Vec::new(),
            sources: Vec::new(),
            local: Some(local),
        };
        let mut nats = None;
        for process in status.processes {
            if let (true, Some(port)) = (process.name.starts_with("router"), process.port) {
                mesh.routers.push((process.name.clone(), here(port)));
            }
            match (process.name.as_str(), process.port, process.health_port) {
                ("nats", port, _) => nats = port,
                (_, _, Some(port)) => mesh.sources.push(Source {
                    name: process.name,
                    address: here(port),
                }),
                _ => {}
            }
        }
        if let (Some(port), Some(local)) = (nats, &mut mesh.local) {
            let url = format!("nats://{}", here(port));
            local.environment.push(("EVENKEEL_NATS".into(), url));
        }
        Ok(mesh)
    }

    /// host:port of routers by name; any other host:port is taken as it is. No names: all routers.
    pub fn endpoints(&self, names: &[String]) -> anyhow::Result<Vec<String>> {
        if names.is_empty() {
            return Ok(self
                .routers
                .iter()
                .map(|(_, address)| address.clone())
                .collect());
        }
        let find = |name: &String| {
            let router = self.routers.iter().find(|(router, _)| router == name);
            match router {
                Some((_, address)) => Ok(address.clone()),
                None if name.contains(':') => Ok(bare(name)),
                None => bail!(
                    "no router is called \"{name}\": name it with --endpoint {name}=HOST:PORT"
                ),
            }
        };
        names.iter().map(find).collect()
    }

    /// Carries out a fault's command; an error says what it said.
    pub async fn strike(&self, fault: &FaultSpec) -> anyhow::Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", &fault.run]);
        if let Some(local) = &self.local {
            command.envs(local.environment.iter().cloned());
            command.current_dir(local.top()?);
            let paths = std::env::var("EVENKEEL_BIN_DIR").ok().into_iter();
            let paths: Vec<String> = paths.chain(std::env::var("PATH").ok()).collect();
            command.env("PATH", paths.join(":"));
        }
        let patience = Duration::from_secs_f64(fault.timeout_s);
        output(command, patience, &fault.run).await.map(|_| ())
    }

    /// Takes away what was started.
    pub async fn stop(&self) -> anyhow::Result<()> {
        if let Some(local) = &self.local {
            local.run("down", &["--wipe"], COMMAND_MAX).await?;
        }
        Ok(())
    }
}

impl Local {
    fn top(&self) -> anyhow::Result<PathBuf> {
        let top = self.scripts.ancestors().nth(2);
        top.map(PathBuf::from)
            .context("--mesh names no infra/local")
    }

    async fn run(
        &self,
        script: &str,
        arguments: &[&str],
        patience: Duration,
    ) -> anyhow::Result<String> {
        let mut command = Command::new(self.scripts.join(script));
        command
            .args(arguments)
            .envs(self.environment.iter().cloned());
        output(command, patience, &format!("infra/local/{script}")).await
    }
}

/// What a command said. It is ended when it takes too long.
async fn output(mut command: Command, patience: Duration, what: &str) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(patience, command.output()).await;
    let done = done
        .with_context(|| format!("{what}: not done within {} s", patience.as_secs_f64()))?
        .with_context(|| what.to_owned())?;
    if !done.status.success() {
        let said = [done.stdout, done.stderr].concat();
        bail!(
            "{what}: {}: {}",
            done.status,
            String::from_utf8_lossy(&said).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// host:port of what may be a URL.
fn bare(address: &str) -> String {
    let address = address.strip_prefix("http://").unwrap_or(address);
    address.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_names() {
        let endpoints = [
            "router-1=http://10.0.0.1:8000/".to_owned(),
            "10.0.0.2:8000".to_owned(),
        ];
        let mesh = Mesh::there(&endpoints, &["memds-1=10.0.0.3:9".to_owned()]).unwrap();
        assert_eq!(
            mesh.endpoints(&[]).unwrap(),
            ["10.0.0.1:8000", "10.0.0.2:8000"]
        );
        assert_eq!(
            mesh.endpoints(&["router-1".into()]).unwrap(),
            ["10.0.0.1:8000"]
        );
        assert_eq!(mesh.endpoints(&["other:1".into()]).unwrap(), ["other:1"]);
        assert!(mesh.endpoints(&["router-9".into()]).is_err());
        assert_eq!(mesh.sources[0].name, "memds-1");
    }
}
