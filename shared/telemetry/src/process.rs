//! Process-wide set-up: the runtime, signals, and a number that tells this run of the process from all others.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The runtime that a service's actor system runs on: messages are dispatched by all cores, actors live on their arbiters.
///
/// # Panics
/// When the operating system gives no threads: nothing can run then.
pub fn runtime() -> tokio::runtime::Runtime {
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("evenkeel")
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => panic!("the runtime's threads can't be started: {error}"),
    }
}

/// A number that no other run of the process has.
pub fn incarnation() -> u64 {
    // The hasher's keys are random for each instance.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}

/// Resolves on SIGTERM or SIGINT.
pub async fn wait_for_shutdown() {
    use tokio::signal::unix::{SignalKind, signal};
    let (terminate, interrupt) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
                _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals can't be caught; running until killed");
            std::future::pending::<()>().await;
        }
    }
}
