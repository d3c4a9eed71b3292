//! Process-wide set-up: the runtime, signals, the connection to the bus, and a number that tells this run of the process from all others.

use std::hash::{BuildHasher, Hasher, RandomState};

use mesh::{BusSettings, Identity, Mesh, MeshError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The runtime that a service's actor system runs on: messages are dispatched by all cores, actors live on their arbiters. Raises the
/// limit of open files first.
///
/// # Panics
/// When the operating system gives no threads: nothing can run then.
pub fn runtime() -> tokio::runtime::Runtime {
    raise_open_files();
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("evenkeel")
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => panic!("the runtime's threads can't be started: {error}"),
    }
}

/// Raises the soft limit of open files to the hard one: the usual 1,024 are used up by some 300 replicas (three files each) or a
/// thousand clients. Where it can't be raised, the process goes on with what it has.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit of open files can't be raised");
    }
}

/// A number that no other run of the process has.
pub fn incarnation() -> u64 {
    // The hasher's keys are random for each instance.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}

/// Connects a service's process to the bus, and exports what the connection counts.
///
/// # Errors
/// When the settings cannot be used, or the bus does not take the connection.
pub async fn connect(
    bus: &BusSettings,
    service: &str,
    instance: u64,
    incarnation: u64,
) -> Result<Mesh, MeshError> {
    let identity = Identity {
        service: service.to_owned(),
        instance,
        incarnation,
    };
    let mesh = Mesh::connect(bus, identity).await?;
    let stats = mesh.stats().clone();
    crate::export("evenkeel_mesh", mesh::Stats::WORDS, move || stats.values());
    Ok(mesh)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_as_high_as_it_may_be() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
