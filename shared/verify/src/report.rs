//! Paths through a model: how they are printed, and run again.

use stateright::Model;

use crate::action::Action;
use crate::state::State;
use crate::system::System;
use crate::words;

/// A path from the first state, as the places of its actions among those possible in each state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(pub Vec<usize>);

impl std::fmt::Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&steps.join("."))
    }
}

impl std::str::FromStr for Steps {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let steps = text.split('.').filter(|step| !step.is_empty());
        steps.map(str::parse).collect::<Result<_, _>>().map(Steps)
    }
}

/// The steps of a path that the checker found.
pub fn steps(system: &System, path: Vec<(State, Option<Action>)>) -> Steps {
    let place = |(state, action): (State, Option<Action>)| {
        let mut actions = Vec::new();
        system.actions(&state, &mut actions);
        actions.into_iter().position(|other| Some(other) == action)
    };
    Steps(path.into_iter().filter_map(place).collect())
}

/// A path in words: every action, and the hosts after it. The error says which step is not possible.
pub fn tell(system: &System, steps: &Steps) -> Result<String, String> {
    let mut state = system
        .init_states()
        .pop()
        .ok_or("the model has no first state")?;
    let mut text = format!("    at first\n{}", words::state(system, &state));
    for (step, number) in steps.0.iter().zip(1..) {
        let mut actions = Vec::new();
        system.actions(&state, &mut actions);
        let action = *actions
            .get(*step)
            .ok_or(format!("step {number}: no action {step}"))?;
        let next = system
            .next_state(&state, action)
            .ok_or(format!("step {number}: action {step} changes nothing"))?;
        text.push_str(&format!(
            "{number:>4} {}\n",
            words::action(system, &state, action)
        ));
        for (before, after) in state.hosts.iter().zip(&next.hosts) {
            if before != after {
                let one = State {
                    hosts: vec![*after],
                    ..next.clone()
                };
                text.push_str(&words::state(system, &one));
            }
        }
        if let Some(violation) = &next.violation {
            text.push_str(&format!(
                "     BROKEN: {}: {}\n",
                violation.invariant.name(),
                violation.detail
            ));
        }
        state = next;
    }
    Ok(text)
}
