//! Runs a model to its end.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::invariant::{INVARIANTS, SIGHTS};
use crate::report::{Steps, steps};
use crate::scenario::Scenario;
use crate::system::System;

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Threads. One makes the first counterexample the shortest, and every number the same in every run.
    pub threads: usize,
    /// Stop at the first broken invariant.
    pub stop_at_violation: bool,
    /// Give up after so many states.
    pub states_max: Option<usize>,
    /// Give up after so long.
    pub time_max: Option<Duration>,
    /// Say how far it is every so often.
    pub progress: Option<Duration>,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            threads: 2,
            stop_at_violation: true,
            states_max: None,
            time_max: None,
            progress: None,
        }
    }
}

/// What a run showed.
pub struct Report {
    /// The model, to tell paths in.
    pub system: System,
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
    /// The longest path, in steps.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Every reachable state was seen.
    pub complete: bool,
    /// Broken invariants, each with the way there.
    pub broken: Vec<(&'static str, Steps)>,
    /// What was to be reached, with a way there if it was.
    pub reached: Vec<(&'static str, Option<Steps>)>,
}

impl Report {
    /// Whether the model shows what it is to show.
    pub fn good(&self) -> bool {
        self.complete && self.broken.is_empty() && self.reached.iter().all(|(_, way)| way.is_some())
    }
}

/// Runs it.
pub fn run(scenario: Scenario, manner: Manner) -> Report {
    let began = Instant::now();
    let system = System::new(scenario);
    let mut builder = system.clone().checker().threads(manner.threads);
    if manner.stop_at_violation {
        builder = builder.finish_when(HasDiscoveries::AnyFailures);
    }
    if let Some(states) = manner.states_max {
        builder = builder.target_state_count(states);
    }
    if let Some(time) = manner.time_max {
        builder = builder.timeout(time);
    }
    let mut checker = builder.spawn_bfs();
    match manner.progress {
        None => checker = checker.join(),
        Some(pause) => {
            let handles = checker.handles();
            while handles.iter().any(|handle| !handle.is_finished()) {
                std::thread::sleep(Duration::from_millis(100));
                if began.elapsed().as_millis() % pause.as_millis().max(1) < 100 {
                    let (states, took) = (checker.unique_state_count(), began.elapsed());
                    let rate = states as f64 / took.as_secs_f64();
                    eprintln!(
                        "{took:.0?}: {states} states, {rate:.0}/s, depth {}",
                        checker.max_depth()
                    );
                }
            }
            for handle in handles {
                if let Err(panic) = handle.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    let mut found = checker.discoveries();
    let mut way = |name: &'static str| Some(steps(&system, found.remove(name)?.into_vec()));
    let broken: Vec<(&'static str, Steps)> = INVARIANTS
        .into_iter()
        .filter_map(|invariant| Some((invariant.name(), way(invariant.name())?)))
        .collect();
    let expected = SIGHTS
        .into_iter()
        .filter(|sight| system.scenario.expects.contains(sight));
    let reached = expected
        .map(|sight| (sight.name(), way(sight.name())))
        .collect();
    let counted = manner
        .states_max
        .is_some_and(|max| checker.state_count() >= max);
    let timed_out = manner.time_max.is_some_and(|max| began.elapsed() >= max);
    Report {
        states: checker.unique_state_count(),
        transitions: checker.state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        complete: broken.is_empty() && !counted && !timed_out,
        broken,
        reached,
        system,
    }
}
