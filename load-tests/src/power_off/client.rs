//! The client of one zone, as an SDK behaves: a pool of connections, time-outs, and another router when one does not answer. One try at a
//! time; whoever calls decides about the next one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use std::sync::Mutex;

use crate::connection::Connection;
use signature::Signer;

/// For a connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// For one try to be answered: SDKs are commonly set to a few seconds. Longer than an election.
const TRY_MAX: Duration = Duration::from_secs(4);
/// A client that left its own zone's router tries it again after this.
const HOME_AGAIN: Duration = Duration::from_secs(5);
/// Connections kept open to one router.
const IDLE_MAX: usize = 64;

/// What came of one try.
#[derive(Clone, Debug)]
pub enum Answer {
    /// HTTP status and body.
    Said(u16, Value),
    /// It was never sent.
    NotSent(String),
    /// It was sent, and no answer came.
    Silence(String),
}

/// A client of a zone.
pub struct Client {
    routers: Vec<Router>,
    /// Router in use: the own zone's is number 0.
    current: AtomicUsize,
    left_home: Mutex<Instant>,
    signer: Signer,
}

struct Router {
    endpoint: String,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// `endpoints`: the own zone's router first.
    pub fn new(endpoints: Vec<String>, signer: Signer) -> Self {
        let routers = endpoints.into_iter().map(|endpoint| Router {
            endpoint,
            idle: Mutex::default(),
        });
        Self {
            routers: routers.collect(),
            current: AtomicUsize::new(0),
            left_home: Mutex::new(Instant::now()),
            signer,
        }
    }

    /// One try at the router in use; the next one in turn is used from then on if it does not answer.
    pub async fn attempt(&self, operation: &str, body: &[u8]) -> Answer {
        let number = self.choose();
        let answer = self.attempt_at(number, operation, body).await;
        match answer {
            Answer::Said(..500, _) if number == 0 => self.current.store(0, Ordering::Relaxed),
            Answer::Said(..500, _) => {}
            // Whoever else failed at the same router may have moved on already.
            _ if self.current.load(Ordering::Relaxed) == number => self.move_on(),
            _ => {}
        }
        answer
    }

    fn move_on(&self) {
        let next = (self.current.load(Ordering::Relaxed) + 1) % self.routers.len();
        self.current.store(next, Ordering::Relaxed);
        *self.left_home.lock().expect("never panics while held") = Instant::now();
    }

    fn choose(&self) -> usize {
        let current = self.current.load(Ordering::Relaxed);
        if current == 0 {
            return 0;
        }
        let mut left_home = self.left_home.lock().expect("never panics while held");
        if left_home.elapsed() < HOME_AGAIN {
            return current;
        }
        // One request finds out; the others stay.
        *left_home = Instant::now();
        0
    }

    /// One try at this router.
    pub async fn attempt_at(&self, number: usize, operation: &str, body: &[u8]) -> Answer {
        let router = &self.routers[number];
        let idle = router.idle.lock().expect("never panics while held").pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => match open(&router.endpoint, &self.signer).await {
                Ok(connection) => connection,
                Err(error) => return Answer::NotSent(format!("{error:#}")),
            },
        };
        let said = match tokio::time::timeout(TRY_MAX, connection.call(operation, body)).await {
            Ok(Ok((status, body))) => {
                let body = if body.is_empty() {
                    Ok(Value::Null)
                } else {
                    serde_json::from_slice(body)
                };
                body.map(|body| (status, body)).context("not JSON")
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(anyhow::anyhow!("no answer within {} s", TRY_MAX.as_secs())),
        };
        let mut idle = router.idle.lock().expect("never panics while held");
        match said {
            Ok((status, body)) => {
                if idle.len() < IDLE_MAX {
                    idle.push(connection);
                }
                Answer::Said(status, body)
            }
            Err(error) => {
                // The others are most likely broken as well.
                idle.clear();
                Answer::Silence(format!("{error:#}"))
            }
        }
    }
}

async fn open(endpoint: &str, signer: &Signer) -> anyhow::Result<Connection> {
    let opened =
        tokio::time::timeout(CONNECT_MAX, Connection::open(endpoint, signer.clone())).await;
    opened.with_context(|| {
        format!(
            "no connection to {endpoint} within {} s",
            CONNECT_MAX.as_secs()
        )
    })?
}
