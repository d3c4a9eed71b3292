//! The bounded queue in front of the log thread. Owns waiting and bounds; never touches a file.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use paxos::{GroupId, PersistOp};

use crate::error::{Overloaded, WalError};
use crate::record;

/// Called once with the outcome.
pub(crate) type Done = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// What is to be made durable.
pub(crate) enum Change {
    /// Operations, and their encoding with its CRC32C.
    Ops {
        ops: Vec<PersistOp>,
        body: Vec<u8>,
        crc: u32,
    },
    /// The group goes.
    Remove,
}

/// A change that waits.
pub(crate) struct Job {
    pub(crate) group: GroupId,
    pub(crate) change: Change,
    pub(crate) done: Done,
}

impl Job {
    /// Bytes that it will take in the log.
    pub(crate) fn bytes(&self) -> usize {
        match &self.change {
            Change::Ops { body, .. } => record::record_len(body.len()),
            Change::Remove => record::HEADER_BYTES,
        }
    }
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

/// What the log thread gets.
pub(crate) enum Taken {
    /// At least one job.
    Jobs(Vec<Job>),
    /// Nothing came in time.
    Idle,
    /// Closed, and all jobs are taken.
    Closed,
}

/// The queue.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    len_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(len_max: usize, bytes_max: usize) -> Self {
        let waiting = Mutex::new(Waiting::default());
        Self {
            waiting,
            arrived: Condvar::new(),
            len_max,
            bytes_max,
        }
    }

    /// Adds a job. A single job larger than the bound passes an empty queue, so nothing waits for ever.
    pub(crate) fn push(&self, job: Job) -> Result<(), Overloaded> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            (job.done)(Err(WalError::Stopped));
            return Ok(());
        }
        let bytes = job.bytes();
        let full = waiting.jobs.len() >= self.len_max || waiting.bytes + bytes > self.bytes_max;
        if full && !waiting.jobs.is_empty() {
            return Err(Overloaded);
        }
        waiting.bytes += bytes;
        waiting.jobs.push_back(job);
        // The log thread waits only for an empty queue.
        if waiting.jobs.len() == 1 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes jobs of at most `bytes_max` bytes together (but at least one), waiting for the first; for ever if `wait` is none.
    pub(crate) fn take(&self, bytes_max: usize, wait: Option<Duration>) -> Taken {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return Taken::Closed;
            }
            match wait {
                None => self.arrived.wait(&mut waiting),
                Some(wait) => {
                    let timed_out = self.arrived.wait_for(&mut waiting, wait).timed_out();
                    if timed_out && waiting.jobs.is_empty() && !waiting.closed {
                        return Taken::Idle;
                    }
                }
            }
        }
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while let Some(job) = waiting.jobs.front() {
            bytes += job.bytes();
            if bytes > bytes_max && !jobs.is_empty() {
                break;
            }
            jobs.extend(waiting.jobs.pop_front());
        }
        waiting.bytes -= jobs.iter().map(Job::bytes).sum::<usize>();
        Taken::Jobs(jobs)
    }

    /// Takes no more jobs; those that wait are still handed out.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Closes and answers all that wait with `Stopped`.
    pub(crate) fn fail(&self) {
        let jobs = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            waiting.bytes = 0;
            std::mem::take(&mut waiting.jobs)
        };
        self.arrived.notify_all();
        jobs.into_iter()
            .for_each(|job| (job.done)(Err(WalError::Stopped)));
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().jobs.len()
    }
}
