//! Whole journeys: what a user of credd lives through, from the settings file to the token in a reader's hand.

mod alone;
mod asker;
#[cfg(feature = "aws")]
mod aws;
mod cached;
mod clock;
mod commands;
mod cuts;
mod durable;
mod ends;
mod files;
mod garbage;
mod homes;
mod lost;
mod moved;
mod orphans;
mod outages;
mod reading;
mod restored;
mod revocation;
mod room;
mod scopes;
mod settings;
mod slow;
mod starting;
mod stranger;
mod twins;
mod unclassified;
mod unsaved;
mod untold;
mod uses;
mod ways;
mod words;
