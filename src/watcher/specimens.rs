//! Keeps replies that no rule matched. It is housekeeping: nobody waits for it, and a storm of one reply is one note a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::House;
use crate::{
    catalogue::{Refusal, Specimen},
    ledger::specimen_name,
};

const AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// Different replies that are told apart in one minute; more are not kept.
const MOST: usize = 256;

/// When which reply was noted last.
#[derive(Debug, Default)]
pub(super) struct Noted(Mutex<HashMap<String, Timestamp>>);

impl Noted {
    /// Whether this one is to be noted now.
    fn is_due(&self, name: &str, now: Timestamp) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now.duration_since(*at).abs() < AGAIN);
        if noted.contains_key(name) || noted.len() >= MOST {
            return false;
        }
        noted.insert(name.to_owned(), now);
        true
    }
}

impl House {
    /// Notes a reply that no rule matched.
    pub(super) fn keep_unclassified(&self, provider: &str, refusal: &Refusal<'_>) {
        let specimen = Specimen::of(provider, refusal);
        let (now, name) = (refusal.now, specimen_name(&specimen));
        if !self.unclassified.is_due(&name, now) {
            return;
        }
        let ledger = self.ledger.clone();
        tokio::spawn(async move {
            if let Err(error) = ledger.unclassified().note(&specimen, now).await {
                tracing::warn!(provider = specimen.provider, %error, "a reply that no rule matched could not be kept");
            }
        });
    }
}
