//! One scrub of one partition: has a marker put into its log, waits for the replicas' digests, compares them, names what differs, and has
//! the replica that stands alone fenced. Never condemns more than one replica a scrub, and nobody without a majority against it.

mod compare;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::join_all;
use mesh::{Mesh, TraceContext};
use paxos::{GroupId, Member, NodeId};
use protocol::operate::{Answer, Command};
use protocol::scrub::{Bucket, Digest, Head, KeyDigest, ScrubReply, ScrubRequest};
use scrub::Side;

use crate::ScrubberSettings;
use crate::cycle::{Ended, Known};
use crate::evidence::{self, Evidence};
use crate::nodes::{Nodes, ask_admin};
use crate::service::{Counts, unix_ms};

/// Between two looks at a digest: at first, and doubled up to this.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A replica that says nothing new for so long takes no part.
const STILL_MAX: Duration = Duration::from_secs(60);
/// A node that does not answer for so long takes no part.
const SILENT_MAX: Duration = Duration::from_secs(12);
/// How long the admin is asked to have a replica fenced; the next scrub finds it again.
const CONDEMN_MAX: Duration = Duration::from_secs(30);
/// Ranges that are looked at key by key.
const RANGES_MAX: usize = 64;
/// Answers with keys of one range and replica.
const LISTINGS_MAX: usize = 256;

/// A scrub.
pub(crate) struct Round {
    pub(crate) mesh: Mesh,
    pub(crate) settings: Arc<ScrubberSettings>,
    pub(crate) known: Known,
    pub(crate) scrub: u64,
    /// Bytes digested by the replica that is furthest.
    pub(crate) progress: Arc<AtomicU64>,
    pub(crate) counts: Arc<Counts>,
    /// The scrub's trace, for what comes about because of it.
    pub(crate) trace: TraceContext,
}

/// What became of a replica's digest.
#[derive(Debug)]
enum Part {
    Digested(Box<Whole>),
    /// It takes no part, and why.
    Absent(String),
    /// It found itself damaged, and is fenced.
    Damaged(String),
}

/// A complete digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) head: Head,
    pub(crate) buckets: Vec<Bucket>,
}

impl Round {
    /// Does it. Returns when its marker was made, or when it was given up, how it ended, and if all replicas were equal what they hold.
    pub(crate) async fn run(self) -> (u64, Ended, Option<Whole>) {
        let nodes = Nodes {
            mesh: self.mesh.clone(),
            partition: self.known.partition,
            scrub: self.scrub,
        };
        let members = match self.begin(&nodes).await {
            Ok(members) => members,
            Err(why) => return (unix_ms(), Ended::Void(why), None),
        };
        let collected = members.iter().map(|member| self.collect(&nodes, *member));
        let parts: Vec<(Member, Part)> = members
            .iter()
            .copied()
            .zip(join_all(collected).await)
            .collect();
        let ended = self.judge(&nodes, &parts).await;
        let told = members
            .iter()
            .map(|member| nodes.ask(member.node, ScrubRequest::End));
        // Views that were not let go end by themselves.
        join_all(told).await;
        let of = |part: &(Member, Part)| match &part.1 {
            Part::Digested(whole) => Some(whole.head.time_ms),
            _ => None,
        };
        let at_ms = parts.iter().find_map(of).unwrap_or_else(unix_ms);
        let agreed = matches!(ended, Ended::Clean { .. });
        let whole = parts.into_iter().find_map(|(_, part)| match part {
            Part::Digested(whole) => Some(*whole),
            _ => None,
        });
        (at_ms, ended, whole.filter(|_| agreed))
    }

    async fn begin(&self, nodes: &Nodes) -> Result<Vec<Member>, String> {
        let leader = self.known.leader.ok_or("no leader")?;
        let bytes_per_second = self.settings.bytes_per_second;
        match nodes
            .ask(leader, ScrubRequest::Begin { bytes_per_second })
            .await?
        {
            ScrubReply::Begun { members, .. } => Ok(members),
            ScrubReply::NotLeader => Err(format!("node {} leads it no more", leader.0)),
            ScrubReply::Busy(why) => Err(format!("node {}: {why}", leader.0)),
            other => Err(format!("node {} answered {other:?}", leader.0)),
        }
    }

    /// Waits for a replica's digest.
    async fn collect(&self, nodes: &Nodes, member: Member) -> Part {
        let begun = Instant::now();
        let reach_max = Duration::from_millis(self.settings.reach_ms_max);
        let (mut pause, mut heard, mut moved) = (POLL.0, begun, begun);
        let mut digested = 0;
        let mut head = None;
        let mut buckets: Vec<Bucket> = Vec::new();
        loop {
            let from = buckets.len() as u64;
            match nodes.ask(member.node, ScrubRequest::Digest { from }).await {
                Err(why) if heard.elapsed() >= SILENT_MAX => return Part::Absent(why),
                Err(_) => {}
                Ok(reply) => {
                    heard = Instant::now();
                    match reply {
                        ScrubReply::Unknown(why) if begun.elapsed() >= reach_max => {
                            return Part::Absent(why);
                        }
                        ScrubReply::Unknown(_) if digested == 0 => moved = Instant::now(),
                        ScrubReply::Unknown(why) => return Part::Absent(why),
                        ScrubReply::Digesting { bytes } => {
                            if bytes > digested || digested == 0 {
                                moved = Instant::now();
                            }
                            digested = bytes.max(1);
                            self.progress.fetch_max(bytes, Relaxed);
                        }
                        ScrubReply::Digest(digest) => {
                            if digest.incarnation != member.incarnation {
                                return Part::Absent("another replica is there now".to_owned());
                            }
                            let Digest {
                                head: of,
                                buckets: more,
                                buckets_total,
                                from: at,
                                ..
                            } = *digest;
                            if at != from || head.get_or_insert_with(|| of.clone()) != &of {
                                return Part::Absent("its digest changed".to_owned());
                            }
                            let none = more.is_empty();
                            buckets.extend(more);
                            moved = Instant::now();
                            if buckets.len() as u64 >= buckets_total || none {
                                let head = of;
                                return Part::Digested(Box::new(Whole { head, buckets }));
                            }
                            continue;
                        }
                        ScrubReply::Void(why) => return Part::Absent(why),
                        ScrubReply::Damaged(what) => return Part::Damaged(what),
                        other => return Part::Absent(format!("it answered {other:?}")),
                    }
                }
            }
            if moved.elapsed() >= STILL_MAX {
                return Part::Absent("its digest stands still".to_owned());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL.1);
        }
    }

    /// Compares what was collected.
    async fn judge(&self, nodes: &Nodes, parts: &[(Member, Part)]) -> Ended {
        let copies: Vec<(Member, &Whole)> = parts
            .iter()
            .filter_map(|(member, part)| match part {
                Part::Digested(whole) => Some((*member, &**whole)),
                _ => None,
            })
            .collect();
        let replicas = copies.len() as u64;
        let damaged: Vec<(Member, &str)> = parts
            .iter()
            .filter_map(|(member, part)| match part {
                Part::Damaged(what) => Some((*member, &what[..])),
                _ => None,
            })
            .collect();
        if !damaged.is_empty() {
            return self.report_damage(parts, &damaged).await;
        }
        let wholes: Vec<&Whole> = copies.iter().map(|(_, whole)| *whole).collect();
        let bytes = wholes
            .iter()
            .flat_map(|w| &w.buckets)
            .map(|b| b.bytes)
            .sum();
        self.counts.bytes.fetch_add(bytes, Relaxed);
        if wholes
            .windows(2)
            .any(|w| w[0].head.index != w[1].head.index)
        {
            return Ended::Void("the marker is at two positions".to_owned());
        }
        if replicas < 2 {
            return Ended::Void(absences(parts));
        }
        let classes = compare::classes(&wholes);
        let verdict = scrub::verdict(&classes, None);
        if verdict == scrub::Verdict::Clean {
            let all = copies.len() == parts.len() && replicas >= 3;
            return Ended::Clean { replicas, all };
        }
        self.report_difference(nodes, parts, &copies, &classes, &verdict)
            .await
    }

    /// Replicas found themselves damaged: they are fenced already.
    async fn report_damage(&self, parts: &[(Member, Part)], damaged: &[(Member, &str)]) -> Ended {
        let words = damaged.iter().map(|(member, what)| {
            format!("the replica on node {} is damaged: {what}", member.node.0)
        });
        let finding = words.collect::<Vec<_>>().join("; ");
        let copies = parts.iter().map(|(member, part)| evidence::Copy {
            name: format!("node {}", member.node.0),
            incarnation: member.incarnation,
            wrong: matches!(part, Part::Damaged(_)),
            words: match part {
                Part::Digested(_) => String::new(),
                Part::Absent(words) | Part::Damaged(words) => words.clone(),
            },
            ..evidence::Copy::default()
        });
        let evidence = Evidence {
            finding: finding.clone(),
            copies: copies.collect(),
            done: vec!["the node fenced it by itself".to_owned()],
            ..self.blank()
        };
        let node = damaged.first().map(|(member, _)| member.node);
        self.alarm(evidence, node).await;
        Ended::Differs {
            replicas: parts.len() as u64,
            finding,
        }
    }

    fn blank(&self) -> Evidence {
        Evidence {
            time_ms: unix_ms(),
            partition: self.known.partition.0,
            table: self.known.table.clone(),
            scrub: self.scrub,
            ..Evidence::default()
        }
    }

    async fn report_difference(
        &self,
        nodes: &Nodes,
        parts: &[(Member, Part)],
        copies: &[(Member, &Whole)],
        classes: &[usize],
        verdict: &scrub::Verdict,
    ) -> Ended {
        let wholes: Vec<&Whole> = copies.iter().map(|(_, whole)| *whole).collect();
        let ranges = compare::ranges(&wholes);
        let mut keys: Vec<evidence::Key> = Vec::new();
        let mut found = false;
        for range in ranges.iter().take(RANGES_MAX) {
            let listings = copies
                .iter()
                .map(|(member, _)| self.list(nodes, member.node, range));
            let listings: Result<Vec<Vec<KeyDigest>>, String> =
                join_all(listings).await.into_iter().collect();
            let listings = match listings {
                Ok(listings) => listings,
                Err(why) => return Ended::Void(format!("digests differ, but: {why}")),
            };
            let differing = compare::keys(&listings);
            found |= !differing.is_empty();
            let room = self.settings.keys_named_max.saturating_sub(keys.len());
            // One more says that there are more.
            keys.extend(differing.into_iter().take(room + 1));
            if keys.len() > self.settings.keys_named_max {
                break;
            }
        }
        if !ranges.is_empty() && !found {
            // Two readings of the same view: one of them was wrong.
            self.counts.unconfirmed.fetch_add(1, Relaxed);
            let partition = self.known.partition.0;
            tracing::warn!(
                partition,
                "digests of replicas differ, their items don't: reading again"
            );
            return Ended::Void("digests differ, items don't".to_owned());
        }
        let more_keys = keys.len() > self.settings.keys_named_max || ranges.len() > RANGES_MAX;
        keys.truncate(self.settings.keys_named_max);
        let wrong: Vec<usize> = match verdict {
            scrub::Verdict::Wrong(sides) => sides
                .iter()
                .filter_map(|side| match side {
                    Side::Replica(number) => Some(*number),
                    Side::Reference => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let names: Vec<String> = copies
            .iter()
            .map(|(member, _)| format!("node {}", member.node.0))
            .collect();
        let finding = compare::words(&names, &wrong, &ranges, &keys, more_keys, &wholes);
        let condemned = wrong.first().map(|number| copies[*number].0);
        let mut done = Vec::new();
        match condemned {
            Some(member) => done.push(self.condemn(member, &finding).await),
            None => done.push("nothing: there is no majority against any of them".to_owned()),
        }
        let absent = parts.iter().filter_map(|(member, part)| match part {
            Part::Absent(words) => Some(evidence::Copy {
                name: format!("node {}", member.node.0),
                incarnation: member.incarnation,
                words: words.clone(),
                ..evidence::Copy::default()
            }),
            _ => None,
        });
        let of = copies.iter().enumerate();
        let of = of.map(|(number, (member, whole))| evidence::Copy {
            name: names[number].clone(),
            incarnation: member.incarnation,
            class: classes[number],
            wrong: wrong.contains(&number),
            items: whole.head.items,
            bytes: whole.head.bytes,
            words: String::new(),
        });
        let head = &wholes[0].head;
        let evidence = Evidence {
            table_uuid: head.table.clone(),
            index: head.index,
            finding: finding.clone(),
            copies: of.chain(absent).collect(),
            ranges: ranges
                .iter()
                .map(|r| (evidence::escaped(&r.start), evidence::escaped(&r.end)))
                .collect(),
            keys,
            more_keys,
            done,
            ..self.blank()
        };
        self.alarm(evidence, condemned.map(|member| member.node))
            .await;
        Ended::Differs {
            replicas: copies.len() as u64,
            finding,
        }
    }

    /// All items of a range at a replica.
    async fn list(
        &self,
        nodes: &Nodes,
        node: NodeId,
        range: &model::KeyRange,
    ) -> Result<Vec<KeyDigest>, String> {
        let mut all: Vec<KeyDigest> = Vec::new();
        for _ in 0..LISTINGS_MAX {
            let wanted = ScrubRequest::Keys {
                range: range.clone(),
                after: all.last().map(|last| last.key.clone()),
            };
            match nodes.ask(node, wanted).await? {
                ScrubReply::Keys { keys, is_last } => {
                    let none = keys.is_empty();
                    all.extend(keys);
                    if is_last || none {
                        return Ok(all);
                    }
                }
                ScrubReply::Busy(_) => tokio::time::sleep(POLL.0).await,
                other => return Err(format!("node {} answered {other:?}", node.0)),
            }
        }
        Err(format!("node {}: too many items in a range", node.0))
    }

    /// Has a replica fenced; how that went, in words.
    async fn condemn(&self, member: Member, finding: &str) -> String {
        let command = Command::Condemn {
            partition: self.known.partition,
            node: member.node,
            incarnation: member.incarnation,
            why: finding.to_owned(),
        };
        let started = Instant::now();
        loop {
            let said = match ask_admin(&self.mesh, &command, &self.trace).await {
                Ok(Answer::Done(words)) => {
                    self.counts.condemned.fetch_add(1, Relaxed);
                    return words;
                }
                Ok(Answer::Refused(why)) => format!("not fenced: {why}"),
                Ok(other) => format!("not fenced: the admin answered {other:?}"),
                Err(why) => format!("not fenced: {why}"),
            };
            if started.elapsed() >= CONDEMN_MAX {
                return said;
            }
            tokio::time::sleep(POLL.1).await;
        }
    }

    /// Tells the operator, and keeps the evidence.
    async fn alarm(&self, evidence: Evidence, node: Option<NodeId>) {
        self.counts.differences.fetch_add(1, Relaxed);
        alarm(&self.settings, evidence, self.known.partition, node).await;
    }
}

/// Tells the operator, and keeps the evidence.
pub(crate) async fn alarm(
    settings: &ScrubberSettings,
    evidence: Evidence,
    partition: GroupId,
    node: Option<NodeId>,
) {
    tracing::error!(
        partition = evidence.partition,
        table = evidence.table,
        finding = evidence.finding,
        done = evidence.done.join("; "),
        "SCRUB: copies of a partition differ"
    );
    let name = evidence::name(evidence.time_ms, partition, node);
    evidence::write(settings, name, &evidence).await;
}

/// Why too few replicas could be compared, in words.
fn absences(parts: &[(Member, Part)]) -> String {
    let words = parts.iter().filter_map(|(member, part)| match part {
        Part::Absent(why) => Some(format!("node {}: {why}", member.node.0)),
        _ => None,
    });
    let words: Vec<String> = words.collect();
    match words.is_empty() {
        true => "there is one replica only".to_owned(),
        false => words.join("; "),
    }
}
