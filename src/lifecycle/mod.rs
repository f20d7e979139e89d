//! The lifecycle of a credential, pure: events and the time in, effects out.

mod plan;
mod state;

pub use plan::{Settings, advisory_window, mandatory_window};
pub use state::State;
