//! Listeners and problems: what every HTTP face needs.

mod accept;
mod body;
mod ending;
mod patience;
mod problem;
mod pulse;
mod readiness;
mod serve;
mod unix;

pub use accept::{Caller, Listener};
pub use body::{BODY_CAP, BodyError, read};
pub use problem::{Action, AuthFailure, Problem};
pub use pulse::{Beat, Pulse};
pub use readiness::{Guard, Readiness};
pub use serve::{Limits, serve, serve_router};
pub use unix::{BindError, UnixDoor};
