//! The readers' socket, driven by hand: the test publishes, answers the asks and moves the clock.

mod door;
mod flight;
mod read;
mod refused;
mod shortage;
mod uses;
mod watch;

use crate::board::{Board, CANARY};
use credd::{
    credential::Failure,
    credential::Generation,
    publish::Answer,
    publish::{Problem, Subtype},
};
use jiff::SignedDuration;

fn answer(generation: i64, done: bool) -> Answer {
    Answer { done, generation: Generation(generation), verdict: None, message: String::new() }
}

fn problem(board: &Board, failure: Failure) -> Problem {
    Problem {
        failure: Subtype::Failure(failure),
        cause: None,
        detail: format!("{CANARY} evidence"),
        since: board.now() - SignedDuration::from_secs(30),
        retry_at: Some(board.now() + SignedDuration::from_secs(7)),
        remedy: None,
    }
}
