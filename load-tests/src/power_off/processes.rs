//! The processes of the mesh: started here, ended here by pid, never by name. What is dropped is killed, so that nothing outlives the driver.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::topology::{Kind, Process, Topology};
use crate::health;

/// A process that was told to end has so long.
const TERM_MAX: Duration = Duration::from_secs(15);

/// All of them, by name.
pub struct Processes {
    all: BTreeMap<String, Running>,
    order: Vec<String>,
}

struct Running {
    spec: Process,
    namespace: Option<String>,
    child: Option<Child>,
}

impl Processes {
    /// None of them runs yet.
    pub fn new(topology: &Topology) -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        for spec in &topology.processes {
            let namespace = topology.zone(&spec.zone)?.namespace.clone();
            let running = Running {
                spec: spec.clone(),
                namespace,
                child: None,
            };
            all.insert(spec.name.clone(), running);
        }
        let order = topology
            .processes
            .iter()
            .map(|process| process.name.clone())
            .collect();
        Ok(Self { all, order })
    }

    /// Names in the order in which they start.
    pub fn names(&self) -> &[String] {
        &self.order
    }

    /// Names of those in a zone.
    pub fn of_zone(&self, zone: &str) -> Vec<String> {
        let all = self.order.iter();
        all.filter(|name| self.all[*name].spec.zone == zone)
            .cloned()
            .collect()
    }

    fn get(&mut self, name: &str) -> anyhow::Result<&mut Running> {
        self.all
            .get_mut(name)
            .with_context(|| format!("there is no process {name}"))
    }

    /// Starts it, if it does not run.
    pub fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let running = self.get(name)?;
        if running.child.is_some() {
            return Ok(());
        }
        let spec = &running.spec;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log);
        let log = log.with_context(|| format!("{}", spec.log.display()))?;
        let mut words = Vec::new();
        if let Some(namespace) = &running.namespace {
            // `ip netns exec` becomes the command: the pid is the service's own.
            words.extend(["ip", "netns", "exec", namespace].map(str::to_owned));
        }
        words.extend(spec.command.iter().cloned());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // An interrupt from the terminal is for the driver alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name}: {words:?}"))?;
        let pid = child.id().unwrap_or_default();
        std::fs::write(&spec.pid_file, pid.to_string())?;
        running.child = Some(child);
        Ok(())
    }

    fn signal(&mut self, name: &str, signal: Signal) -> anyhow::Result<()> {
        let child = self.get(name)?.child.as_ref();
        let pid = child
            .and_then(Child::id)
            .and_then(|pid| Pid::from_raw(pid as i32));
        // Gone already: found as an unexpected end later.
        let Some(pid) = pid else { return Ok(()) };
        kill_process(pid, signal).with_context(|| format!("{name}: signal {signal:?}"))
    }

    /// SIGSTOP.
    pub fn pause(&mut self, name: &str) -> anyhow::Result<()> {
        self.signal(name, Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self, name: &str) -> anyhow::Result<()> {
        self.signal(name, Signal::CONT)
    }

    /// `kill -9` of all of these at once; returns when they are gone.
    pub async fn kill(&mut self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            self.signal(name, Signal::KILL)?;
        }
        for name in names {
            if let Some(mut child) = self.get(name)?.child.take() {
                child.wait().await?;
            }
        }
        Ok(())
    }

    /// SIGTERM, waits for the end, starts it again.
    pub async fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        self.signal(name, Signal::TERM)?;
        if let Some(mut child) = self.get(name)?.child.take() {
            let ended = tokio::time::timeout(TERM_MAX, child.wait()).await;
            let status = ended.with_context(|| {
                format!("{name} did not stop within {} s", TERM_MAX.as_secs())
            })??;
            if !status.success() {
                bail!("{name}: told to stop, it ended with {status}");
            }
        }
        self.start(name)
    }

    /// Empties the disk of a process that does not run.
    pub fn wipe(&mut self, name: &str) -> anyhow::Result<()> {
        let running = self.get(name)?;
        if running.child.is_some() || running.spec.data_dir.as_os_str().is_empty() {
            bail!("{name}: its disk can't be emptied");
        }
        std::fs::remove_dir_all(&running.spec.data_dir).with_context(|| format!("{name}: its disk"))
    }

    /// Processes that ended though nobody told them to, with how; each is told once.
    pub fn unexpected_ends(&mut self) -> Vec<String> {
        let mut ends = Vec::new();
        for (name, running) in &mut self.all {
            if let Some(child) = &mut running.child
                && let Ok(Some(status)) = child.try_wait()
            {
                running.child = None;
                ends.push(format!("{name} ended by itself: {status}"));
            }
        }
        ends
    }

    /// Waits until all of these are ready; gives back those that are not in time.
    pub async fn wait_ready(&mut self, names: &[String], patience: Duration) -> Vec<String> {
        let until = Instant::now() + patience;
        let mut waiting = names.to_vec();
        loop {
            let mut left = Vec::new();
            for name in waiting {
                let Some(running) = self.all.get(&name) else {
                    continue;
                };
                let path = if running.spec.kind == Kind::Nats {
                    "/healthz"
                } else {
                    "/readyz"
                };
                let answer =
                    health::get(&running.spec.health, path, Duration::from_millis(500)).await;
                if answer.is_none_or(|(status, _)| status != 200) {
                    left.push(name);
                }
            }
            waiting = left;
            if waiting.is_empty() || Instant::now() >= until {
                return waiting;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends all: asked nicely first, in reverse order, all at once.
    pub async fn stop_all(&mut self) -> anyhow::Result<()> {
        let names: Vec<String> = self.order.iter().rev().cloned().collect();
        for name in &names {
            self.resume(name)?;
        }
        for name in names.iter().filter(|name| !name.starts_with("nats")) {
            self.signal(name, Signal::TERM)?;
        }
        let until = tokio::time::Instant::now() + TERM_MAX;
        for name in &names {
            let Some(child) = &mut self.get(name)?.child else {
                continue;
            };
            if !name.starts_with("nats") {
                // Whatever is left is killed below.
                let _ = tokio::time::timeout_at(until, child.wait()).await;
            }
        }
        self.kill(&names).await
    }
}
