//! Whole journeys: what a user of credd lives through, from the settings file to the token in a reader's hand.

mod clock;
mod commands;
mod ends;
mod homes;
mod lost;
mod orphans;
mod outages;
mod reading;
mod restored;
mod revocation;
mod settings;
mod starting;
mod unclassified;
mod ways;
