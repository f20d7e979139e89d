//! The lifecycle of a credential, pure: events and the time go in, effects come out.
//!
//! It does no I/O, reads no clock, rolls no dice, and never sees a secret. Little is stored, the rest is derived:
//!
//! ```text
//!                 loaded                     refused, and confirmed
//!  Uninitialised ────────▶ Usable ──────────▶ Suspect ──────────▶ Revoked
//!                          │   ▲                 │ works, or new     │ only new material,
//!            our client is │   │ works           │ material          │ or an operator
//!                    wrong ▼   │                 ▼                   ▼
//!                        Misconfigured         Usable              Usable
//!
//!  Grounded ─▶ Prepared ─▶ Sent ─▶ Received ─▶ Grounded (a new generation)
//!     ▲                      └─▶ Lost ─▶ Prepared … (by the provider's rotation profile)
//!     └── a reply that says no, or nothing was sent
//! ```
//!
//! The words that users see ([`State`]) are computed from these two and the time.

mod doubt;
mod effect;
mod event;
mod lost;
mod machine;
mod pages;
mod plan;
mod probing;
mod recovery;
mod refreshing;
mod schedule;
mod state;
mod stepped;

pub use doubt::Doubt;
pub use effect::{Effect, Incident, Trigger};
pub use event::{Commit, Event, Found, Loaded, Origin, Probed, Promoted};
pub use machine::{Flight, Lifecycle, Probes, Standing, Suspicion, Trouble, Validity, Witness};
pub use plan::{Policy, Settings, advisory_window, mandatory_window};
pub use state::State;
