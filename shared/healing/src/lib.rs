//! How a group heals: what its leader does about a member that fell silent, a learner that is in step again, and a replacement
//! that the admin ordered. Owns the decisions for one group (docs/adr/0003-membership-and-healing.md) and the view of the nodes that
//! they rest on. Pure: never reads a clock, never sends anything; the replication core makes every change, and refuses a wrong one.

mod change;
mod nodes;
mod planner;
mod replacement;
mod settings;
mod view;

pub use nodes::{Node, Nodes};
pub use planner::{Action, Planner};
pub use replacement::{Replacement, ReplacementRefusal};
pub use settings::Settings;
pub use view::View;
