//! A few threads for work that blocks on disks, fed by one bounded queue. Owns the threads and the queue; knows nothing about
//! the work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

struct Queue<J> {
    jobs: VecDeque<J>,
    closed: bool,
}

struct Shared<J> {
    queue: Mutex<Queue<J>>,
    wake: Condvar,
    len_max: usize,
}

/// Where jobs are handed in. Cheap to clone.
pub(crate) struct Jobs<J>(Arc<Shared<J>>);

impl<J> Clone for Jobs<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The threads; closing waits for them.
pub(crate) struct Pool<J> {
    jobs: Jobs<J>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> Pool<J> {
    /// Starts `threads` threads named `name` that run `work` on each job.
    pub(crate) fn start(
        name: &str,
        threads: usize,
        len_max: usize,
        work: impl Fn(J) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let queue = Mutex::new(Queue {
            jobs: VecDeque::new(),
            closed: false,
        });
        let jobs = Jobs(Arc::new(Shared {
            queue,
            wake: Condvar::new(),
            len_max,
        }));
        let work = Arc::new(work);
        let start = |_| {
            let (jobs, work) = (jobs.clone(), work.clone());
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    // A job that panics leaves a group in a state that nobody knows: fail-stop.
                    let _guard = AbortOnPanic("a disk job");
                    while let Some(job) = jobs.next() {
                        work(job);
                    }
                })
        };
        let threads = (0..threads.max(1))
            .map(start)
            .collect::<std::io::Result<_>>()?;
        Ok(Self { jobs, threads })
    }

    /// Where to hand jobs in.
    pub(crate) fn jobs(&self) -> Jobs<J> {
        self.jobs.clone()
    }

    /// Runs what is queued, then ends the threads. Blocks.
    pub(crate) fn close(self) {
        self.jobs.0.queue.lock().closed = true;
        self.jobs.0.wake.notify_all();
        for thread in self.threads {
            // Its panic would have aborted the process.
            let _ = thread.join();
        }
    }
}

impl<J> Jobs<J> {
    /// Queues a job, or gives it back: the queue is full or closed.
    pub(crate) fn submit(&self, job: J) -> Result<(), J> {
        let mut queue = self.0.queue.lock();
        if queue.closed || queue.jobs.len() >= self.0.len_max {
            return Err(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.0.queue.lock().jobs.len()
    }

    fn next(&self) -> Option<J> {
        let mut queue = self.0.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            self.0.wake.wait(&mut queue);
        }
    }
}

/// Ends the process if the thread it lives on panics: a shard or disk thread that died half-way would leave its groups in a
/// state that was never on any disk.
pub(crate) struct AbortOnPanic(pub(crate) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                what = self.0,
                "panic in the storage node, stopping the process"
            );
            eprintln!("fatal: panic in {} of the storage node", self.0);
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn runs_everything_that_was_taken_and_gives_back_the_rest() {
        let (done, results) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        let gate = Mutex::new(gate);
        let pool = Pool::start("test", 1, 2, move |number: u32| {
            entered.send(()).expect("the test listens");
            gate.lock().recv().expect("the test opens the gate");
            done.send(number).expect("the test listens");
        })
        .expect("threads");
        let jobs = pool.jobs();
        assert_eq!(jobs.submit(1), Ok(()));
        inside.recv().expect("the first job is running");
        assert_eq!((jobs.submit(2), jobs.submit(3)), (Ok(()), Ok(())));
        assert_eq!(jobs.submit(4), Err(4), "two may wait");
        assert_eq!(jobs.len(), 2);
        for _ in 0..3 {
            open.send(()).expect("the job waits");
        }
        pool.close();
        assert_eq!(results.iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(jobs.submit(5), Err(5), "closed");
    }
}
