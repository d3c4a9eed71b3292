//! Carries out one stream of requests: sends each at its time, whatever became of earlier ones, and records what came of it. The schedule
//! itself is the queue: whoever has a free connection takes the next number that is due, so nothing grows when the endpoint is slow.
//! Decides nothing: times come from `schedule`, items from `keys`, verdicts from `knowledge`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng, rngs::SmallRng};
use tokio::sync::Semaphore;

use super::items::Items;
use super::keys::Keys;
use super::knowledge::{self, Ended, Item, Seen};
use super::outcome::{self, Kind, Outcome};
use super::record::{Class, Record};
use super::scenario::StreamSpec;
use super::schedule::Schedule;
use super::workload::Action;
use crate::connection::Connection;
use signature::Signer;

/// The pacer looks this often whether the run was stopped.
const NAP_MAX: Duration = Duration::from_millis(100);

/// A stream under way.
pub struct Stream {
    /// What it does.
    pub spec: StreamSpec,
    /// When.
    pub schedule: Schedule,
    /// What came of it.
    pub record: Mutex<Record>,
    endpoints: Vec<String>,
    keys: Keys,
    items: Items,
    known: Arc<knowledge::Table>,
    signer: Signer,
    seed: u64,
    /// Requests whose time has come and that nobody has taken yet.
    due: Semaphore,
    next: AtomicU64,
}

/// What a stream needs to know besides its specification.
pub struct Surroundings {
    /// host:port; at least one.
    pub endpoints: Vec<String>,
    /// Its table's items.
    pub items: Items,
    /// Number of items that the table was filled with.
    pub loaded: u64,
    /// What is known of them.
    pub known: Arc<knowledge::Table>,
    /// Signs.
    pub signer: Signer,
    /// Draws items and kinds.
    pub seed: u64,
}

impl Stream {
    /// A stream that has not begun.
    pub fn new(spec: StreamSpec, schedule: Schedule, record: Record, with: Surroundings) -> Self {
        Self {
            keys: Keys::new(spec.choice(), with.loaded),
            spec,
            schedule,
            record: Mutex::new(record),
            endpoints: with.endpoints,
            items: with.items,
            known: with.known,
            signer: with.signer,
            seed: with.seed,
            due: Semaphore::new(0),
            next: AtomicU64::new(0),
        }
    }

    /// The client's patience.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.spec.timeout_ms)
    }

    /// The draws of one request: the same, whoever sends it.
    fn random(&self, request: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed ^ request.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Runs until every request has ended; `stop` ends it early. Starts a thread that keeps the time, and a task a connection.
    pub async fn run(self: Arc<Self>, start: Instant, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let pacer = self.clone();
        // A thread of its own: timers of the runtime are whole milliseconds.
        let pacing = std::thread::Builder::new()
            .name(format!("pace {}", self.spec.name))
            .spawn(move || pacer.pace(start, &stop))?;
        let workers: Vec<_> = (0..self.spec.connections)
            .map(|number| tokio::spawn(self.clone().work(start, number)))
            .collect();
        for worker in workers {
            worker.await?;
        }
        pacing
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that keeps the time failed"))
    }

    /// Says when requests are due.
    fn pace(&self, start: Instant, stop: &AtomicBool) {
        let mut next = 0;
        while let Some(at) = self.schedule.at(next) {
            if stop.load(Ordering::Relaxed) {
                // What is left is not taken any more.
                self.next.store(u64::MAX / 2, Ordering::Relaxed);
                break;
            }
            let now = start.elapsed();
            if at > now {
                std::thread::sleep((at - now).min(NAP_MAX));
                continue;
            }
            let first = next;
            while self.schedule.at(next).is_some_and(|at| at <= now) {
                next += 1;
            }
            self.due.add_permits((next - first) as usize);
        }
        if self.spec.closed {
            while start.elapsed() < self.schedule.length() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(NAP_MAX);
            }
            self.next.store(u64::MAX / 2, Ordering::Relaxed);
            return;
        }
        // Everybody finds out that there is nothing more.
        self.due.add_permits(self.spec.connections as usize);
    }

    async fn work(self: Arc<Self>, start: Instant, number: u64) {
        let mut client = Client {
            stream: &self,
            place: number as usize,
            connection: None,
        };
        if self.spec.closed {
            return self.work_closed(start, &mut client).await;
        }
        loop {
            match self.due.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return,
            }
            let request = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(mut at) = self.schedule.at(request) else {
                return;
            };
            let mut random = self.random(request);
            if self.spec.jitter {
                // Up to one gap later.
                let gap_s = 1.0 / self.schedule.rate(at).max(1.0);
                at += Duration::from_secs_f64(gap_s * random.random::<f64>());
                tokio::time::sleep_until((start + at).into()).await;
            }
            let intended = start + at;
            let (class, outcome) = client.request(intended, &mut random).await;
            let latency = intended.elapsed();
            self.record.lock().add(at, class, &outcome, latency);
        }
    }

    /// Sends the next request as soon as the one before has ended, until the pacer says that it is over.
    async fn work_closed(&self, start: Instant, client: &mut Client<'_>) {
        tokio::time::sleep_until(start.into()).await;
        while self.next.load(Ordering::Relaxed) < u64::MAX / 2 {
            let request = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = Instant::now().max(start);
            let (class, outcome) = client.request(sent, &mut self.random(request)).await;
            let at = sent - start;
            self.record.lock().add(at, class, &outcome, sent.elapsed());
        }
    }
}

/// One connection and its place among the endpoints.
struct Client<'a> {
    stream: &'a Stream,
    place: usize,
    connection: Option<Connection>,
}

/// How a call ended: status and where its body is, or why there is none.
type Called = Result<Vec<u8>, Outcome>;

impl Client<'_> {
    async fn request(&mut self, intended: Instant, random: &mut SmallRng) -> (Class, Outcome) {
        let stream = self.stream;
        let until = intended + stream.patience();
        let action = stream.spec.workload.draw(random);
        let class = match action {
            Action::Read => Class::Read,
            _ => Class::Write,
        };
        if Instant::now() >= until {
            return (
                class,
                Outcome::new(Kind::TimedOut, "never sent: all connections were busy"),
            );
        }
        let existing = |random: &mut SmallRng| stream.keys.pick(stream.known.there(), random);
        let outcome = match action {
            Action::Read => self.read(existing(random), until).await.map(|_| ()),
            Action::Update => self.write(existing(random), until, None).await,
            Action::Insert => match stream.known.insert() {
                Some(item) => {
                    let written = self.write(item, until, None).await;
                    stream.known.inserted(item);
                    written
                }
                None => self.write(existing(random), until, None).await,
            },
            Action::Modify => {
                let item = existing(random);
                match self.read(item, until).await {
                    Ok(seen) => self.write(item, until, Some(seen)).await,
                    Err(outcome) => Err(outcome),
                }
            }
        };
        (class, outcome.err().unwrap_or(Outcome::OK))
    }

    async fn read(&mut self, item: u64, until: Instant) -> Result<Seen, Outcome> {
        let stream = self.stream;
        let strong = stream.spec.strong;
        let before = stream.known.item(item);
        let body = stream.items.get(item, strong);
        let (answer, _) = self.call("GetItem", &body, until).await;
        let answer = answer?;
        if !stream.spec.verify {
            return Ok(Seen::Earlier);
        }
        let wrong = |what: String| Outcome::new(Kind::Wrong, format!("item {item}: {what}"));
        let seen = stream.items.read(item, &answer).map_err(wrong)?;
        let after: Item = stream.known.item(item);
        knowledge::verify(strong, before, after, seen).map_err(wrong)?;
        Ok(seen)
    }

    async fn write(
        &mut self,
        item: u64,
        until: Instant,
        seen: Option<Seen>,
    ) -> Result<(), Outcome> {
        let stream = self.stream;
        let version = stream.known.begin(item);
        let body = match seen {
            None => stream.items.put(item, version),
            Some(seen) => stream.items.replace(item, version, seen),
        };
        let (answer, unknown) = self.call("PutItem", &body, until).await;
        let ended = match &answer {
            Ok(_) => Ended::Done,
            Err(outcome) => outcome.ended(),
        };
        // An earlier try without an answer may still be done, after this one.
        let ended = if unknown { Ended::Unknown } else { ended };
        stream.known.end(item, version, ended);
        match answer {
            // The own earlier try was the one that was faster.
            Err(outcome) if unknown && outcome.kind == Kind::Conflict => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// The answer's body, after as many tries as there may be; and whether the outcome of any of them is unknown.
    async fn call(&mut self, operation: &str, body: &[u8], until: Instant) -> (Called, bool) {
        let mut unknown = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = match self.attempt(operation, body, until).await {
                Ok(answer) => return (Ok(answer), unknown),
                Err(outcome) => outcome,
            };
            let again =
                outcome.retriable() && tries < self.stream.spec.tries && Instant::now() < until;
            unknown |= outcome.ended() == Ended::Unknown;
            if !again {
                return (Err(outcome), unknown);
            }
        }
    }

    async fn attempt(&mut self, operation: &str, body: &[u8], until: Instant) -> Called {
        let stream = self.stream;
        let mut left = until.saturating_duration_since(Instant::now());
        if let Some(ms) = stream.spec.try_timeout_ms {
            left = left.min(Duration::from_millis(ms));
        }
        let endpoint = &stream.endpoints[self.place % stream.endpoints.len()];
        let exchange = async {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(Connection::open(endpoint, stream.signer.clone()).await?),
            };
            let (status, answer) = connection.call(operation, body).await?;
            anyhow::Ok(match status {
                200 => Ok(answer.to_vec()),
                status => Err(outcome::of_error(status, answer)),
            })
        };
        let failure = match tokio::time::timeout(left, exchange).await {
            Ok(Ok(Err(outcome))) if outcome.kind == Kind::Failed => {
                self.place += 1;
                self.connection = None;
                return Err(outcome);
            }
            Ok(Ok(called)) => return called,
            Ok(Err(error)) => {
                Outcome::new(Kind::Failed, format!("connection: {}", error.root_cause()))
            }
            Err(_) => Outcome::new(Kind::TimedOut, "no answer in time"),
        };
        // What may still come on it belongs to nobody; the next endpoint may be better.
        self.connection = None;
        self.place += 1;
        Err(failure)
    }
}
