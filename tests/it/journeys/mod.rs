//! Whole journeys: what a user of credd lives through, from the settings file to the token in a reader's hand.

mod alone;
#[cfg(feature = "aws")]
mod aws;
mod clock;
mod commands;
mod cuts;
mod ends;
mod garbage;
mod homes;
mod lost;
mod orphans;
mod outages;
mod reading;
mod restored;
mod revocation;
mod scopes;
mod settings;
mod starting;
mod stranger;
mod unclassified;
mod uses;
mod ways;
mod words;
