//! Faults of the links between zones: rules in the zones' own network namespaces. What is in force is a set; each change writes all rules
//! of all zones anew. Never touches a namespace that `mesh.json` does not name.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::topology::{Topology, Zone};

/// A tool that hangs is given up after this.
const TOOL_MAX: Duration = Duration::from_secs(10);
/// A slow link: delay with netem …
const DELAY: [&str; 4] = ["delay", "100ms", "20ms", "loss"];
/// … and lost packets, per cent.
const LOSS_PERCENT: u32 = 2;
/// A slow link where the kernel has no netem: a narrow one, whose queue makes the delay.
const NARROW_RATE: &str = "4mbit";

/// How links can be made slow here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shaping {
    /// Delay and loss by netem.
    Netem,
    /// A narrow link by HTB, loss by nft.
    Narrow,
    /// Loss by nft only.
    Loss,
}

impl Shaping {
    /// For people.
    pub fn label(self) -> String {
        match self {
            Shaping::Netem => format!("100 ± 20 ms of delay, {LOSS_PERCENT} % loss (netem)"),
            Shaping::Narrow => {
                format!("{NARROW_RATE}, {LOSS_PERCENT} % loss (the kernel has no netem)")
            }
            Shaping::Loss => {
                format!("{LOSS_PERCENT} % loss (the kernel has neither netem nor HTB)")
            }
        }
    }
}

/// A rule in force: what arrives at `at` from `from`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Is dropped.
    Drop {
        /// Sending zone.
        from: String,
        /// Receiving zone.
        at: String,
    },
    /// Is slow, and partly lost.
    Slow {
        /// Sending zone.
        from: String,
        /// Receiving zone.
        at: String,
    },
    /// Nothing enters or leaves this zone, clients included.
    Dark {
        /// Zone.
        zone: String,
    },
}

/// The links of a mesh whose zones are namespaces.
pub struct Links {
    zones: Vec<Zone>,
    rules: BTreeSet<Rule>,
    /// How links are made slow.
    pub shaping: Shaping,
}

impl Links {
    /// Finds out what can be done. None on loopback.
    pub async fn new(topology: &Topology) -> anyhow::Result<Option<Self>> {
        let zones = topology.zones.clone();
        let Some(namespace) = zones.iter().find_map(|zone| zone.namespace.clone()) else {
            return Ok(None);
        };
        let device = zones[0].device.clone();
        let mut shaping = Shaping::Loss;
        for (name, kind) in [(Shaping::Narrow, "htb"), (Shaping::Netem, "netem")] {
            let add = ["tc", "qdisc", "add", "dev", &device, "root", kind];
            if tool(&namespace, &add, "").await.is_ok() {
                shaping = name;
                tool(
                    &namespace,
                    &["tc", "qdisc", "del", "dev", &device, "root"],
                    "",
                )
                .await?;
            }
        }
        let mut links = Self {
            zones,
            rules: BTreeSet::new(),
            shaping,
        };
        links.write().await?;
        Ok(Some(links))
    }

    /// Puts rules in force.
    pub async fn add(&mut self, rules: impl IntoIterator<Item = Rule>) -> anyhow::Result<()> {
        self.rules.extend(rules);
        self.write().await
    }

    /// Lifts rules.
    pub async fn remove(&mut self, rules: &[Rule]) -> anyhow::Result<()> {
        self.rules.retain(|rule| !rules.contains(rule));
        self.write().await
    }

    /// Lifts all rules.
    pub async fn clear(&mut self) -> anyhow::Result<()> {
        self.rules.clear();
        self.write().await
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        for zone in &self.zones {
            let Some(namespace) = &zone.namespace else {
                continue;
            };
            tool(namespace, &["nft", "-f", "-"], &self.filter(zone)).await?;
            self.shape(zone, namespace).await?;
        }
        Ok(())
    }

    fn address(&self, name: &str) -> &str {
        let zone = self.zones.iter().find(|zone| zone.name == name);
        zone.map_or("", |zone| &zone.address)
    }

    /// The whole rule set of a zone; replaces what was there in one transaction.
    fn filter(&self, zone: &Zone) -> String {
        let mut input = String::new();
        let mut output = String::new();
        for rule in &self.rules {
            match rule {
                Rule::Drop { from, at } if *at == zone.name => {
                    input += &format!("    ip saddr {} drop\n", self.address(from));
                }
                Rule::Slow { from, at } if *at == zone.name && self.shaping != Shaping::Netem => {
                    let from = self.address(from);
                    input += &format!(
                        "    ip saddr {from} numgen random mod 100 < {LOSS_PERCENT} drop\n"
                    );
                }
                Rule::Dark { zone: dark } if *dark == zone.name => {
                    input += "    iif != \"lo\" drop\n";
                    output += "    oif != \"lo\" drop\n";
                }
                _ => {}
            }
        }
        format!(
            "table ip faults {{}}\nflush table ip faults\ndelete table ip faults\ntable ip faults {{\n  chain input {{\n    type filter hook input priority 0; \
             policy accept;\n{input}  }}\n  chain output {{\n    type filter hook output priority 0; policy accept;\n{output}  }}\n}}\n"
        )
    }

    /// Queues of what leaves a zone.
    async fn shape(&self, zone: &Zone, namespace: &str) -> anyhow::Result<()> {
        if self.shaping == Shaping::Loss {
            return Ok(());
        }
        let device = &zone.device;
        // There may be none.
        let _ = tool(
            namespace,
            &["tc", "qdisc", "del", "dev", device, "root"],
            "",
        )
        .await;
        let slow: Vec<&str> = self
            .rules
            .iter()
            .filter_map(|rule| match rule {
                Rule::Slow { from, at } if *from == zone.name => Some(self.address(at)),
                _ => None,
            })
            .collect();
        if slow.is_empty() {
            return Ok(());
        }
        let rate = if self.shaping == Shaping::Narrow {
            NARROW_RATE
        } else {
            "10gbit"
        };
        let mut commands = vec![
            format!("qdisc add dev {device} root handle 1: htb default 1 r2q 1000"),
            format!("class add dev {device} parent 1: classid 1:1 htb rate 10gbit quantum 60000"),
            format!("class add dev {device} parent 1: classid 1:2 htb rate {rate} quantum 60000"),
        ];
        if self.shaping == Shaping::Netem {
            let delay = DELAY.join(" ");
            commands.push(format!(
                "qdisc add dev {device} parent 1:2 netem {delay} {LOSS_PERCENT}%"
            ));
        }
        for address in slow {
            commands.push(format!(
                "filter add dev {device} parent 1: protocol ip u32 match ip dst {address}/32 flowid 1:2"
            ));
        }
        for command in commands {
            let words: Vec<&str> = std::iter::once("tc").chain(command.split(' ')).collect();
            tool(namespace, &words, "").await?;
        }
        Ok(())
    }
}

/// Runs a tool within a namespace.
async fn tool(namespace: &str, words: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .args(["netns", "exec", namespace])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("ip netns exec")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let done = tokio::time::timeout(TOOL_MAX, child.wait_with_output()).await;
    let done = done.with_context(|| format!("{words:?} hangs"))??;
    if !done.status.success() {
        bail!(
            "{words:?} in {namespace}: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(())
}
