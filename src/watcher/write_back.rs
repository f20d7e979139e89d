//! Carries rotated secrets from the outbox to their home stores, by compare-and-swap.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{House, Message};
use crate::{
    failpoint,
    ledger::{Fact, FactChange, LedgerError, WRITEBACK_FAILING, WriteBack},
    store::{StoreError, Version},
};

/// The outbox is looked at this often even if nobody calls.
const ROUND: Duration = Duration::from_secs(5);
/// Writes under way at once: a slow store must not make the others late.
const AT_ONCE: usize = 8;
/// At a stop, writes under way have so long to end: readers are without refreshes until the next start. What is cut off
/// is carried then, as after a crash.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Until stopped; what is left then is carried after the next start.
pub(super) async fn carry(house: Arc<House>, stop: CancellationToken) {
    loop {
        let pause = house.clock.sleep(ROUND);
        tokio::select! {
            () = stop.cancelled() => return,
            () = house.stores.write_back_wanted() => {}
            () = pause => {}
        }
        let cut_off = async {
            stop.cancelled().await;
            house.clock.sleep(LAST_WRITES).await;
        };
        tokio::select! {
            biased;
            done = round(&house, &stop) => {
                if let Err(error) = done {
                    tracing::error!(%error, "the outbox of write-backs could not be worked off; trying again");
                }
            }
            () = cut_off => return,
        }
    }
}

async fn round(house: &House, stop: &CancellationToken) -> Result<(), LedgerError> {
    let now = house.clock.now().wall;
    if house.stores.has_returned() {
        house.ledger.outbox().retry_unreachable(now).await?;
    }
    // Stores that gave no answer in this round: one patience with each of them is enough.
    let silent = Mutex::new(HashSet::new());
    let due = stream::iter(house.ledger.outbox().due_write_backs(now).await?);
    let mut carried = due
        .map(|due| async { if stop.is_cancelled() { Ok(()) } else { carry_one(house, due, now, &silent).await } })
        .buffer_unordered(AT_ONCE);
    while let Some(done) = carried.next().await {
        done?;
    }
    Ok(())
}

async fn carry_one(
    house: &House,
    due: WriteBack,
    now: Timestamp,
    silent: &Mutex<HashSet<String>>,
) -> Result<(), LedgerError> {
    let Some(home) = house.stores.home(&due.credential) else { return Ok(()) };
    if silent.lock().unwrap_or_else(PoisonError::into_inner).contains(&home.store_name) {
        let again = now + pause(due.tries, house);
        return house.ledger.outbox().write_back_later(&due.credential, again, "unreachable").await;
    }
    let Some(expected) = due.store_version.clone().map(Version) else {
        // Never read from its store: the shard looks first, and what it finds decides.
        let _ = home.inbox.send(Message::StoreChanged(due.credential.clone()));
        let again = now + Duration::from_secs(10);
        return house.ledger.outbox().write_back_later(&due.credential, again, "not_read_yet").await;
    };
    let turn = house.stores.turn(&due.credential);
    let _turn = turn.lock().await;
    match home.store.write(&home.at, &due.material, &expected, due.attempt).await {
        Ok(version) => {
            failpoint::reach("CP-17");
            house.stores.seen(&due.credential, &version);
            house.ledger.outbox().write_back_done(&due.credential, due.generation, &version.0).await?;
            failpoint::reach("CP-19");
            tracing::info!(credential = %due.credential, store = home.store_name, generation = due.generation.0, "written back");
            let message = Message::WrittenBack { id: due.credential, generation: due.generation, version: version.0 };
            let _ = home.inbox.send(message);
        }
        Err(error) => {
            let metrics = &house.metrics.credd_store_errors_total;
            metrics.with_label_values(&[home.store_name.as_str(), error.reason()]).inc();
            if matches!(error, StoreError::Unreachable { .. }) {
                silent.lock().unwrap_or_else(PoisonError::into_inner).insert(home.store_name.clone());
            }
            if matches!(error, StoreError::Conflict { .. }) {
                // Somebody wrote there since we read: the shard looks whose word it is, then this one is tried again.
                let _ = home.inbox.send(Message::StoreChanged(due.credential.clone()));
            }
            let wait = match &error {
                StoreError::Throttled { retry_after: Some(wait), .. } => *wait,
                StoreError::Conflict { .. } => Duration::from_millis(500).mul_f64(1.0 + (house.dice)()),
                _ => pause(due.tries, house),
            };
            if !matches!(error, StoreError::Throttled { .. }) {
                tracing::warn!(credential = %due.credential, store = home.store_name, %error, "not written back yet; the ledger holds it");
            }
            house.ledger.outbox().write_back_later(&due.credential, now + wait, error.reason()).await?;
            // A conflict is somebody else's word, and a store that asks for patience is well.
            if !matches!(error, StoreError::Conflict { .. } | StoreError::Throttled { .. }) {
                house.ledger.incidents().facts(vec![failing(&due, &home.store_name, &error)]).await?;
            }
            let _ = home.inbox.send(Message::WriteBackWaits { id: due.credential });
        }
    }
    Ok(())
}

/// Before the next try, 5 s to 5 min; a store that is seen to answer again ends it early.
fn pause(tries: i64, house: &House) -> Duration {
    Duration::from_secs(5 << tries.clamp(0, 6)).mul_f64(0.5 + 0.5 * (house.dice)())
}

/// What on-call is told, if this lasts: it counts from the day of the value that waits.
fn failing(due: &WriteBack, store: &str, error: &StoreError) -> Fact {
    let name = &due.credential;
    let change = FactChange::Raise {
        severity: "warning".into(),
        summary: format!("{name}: its rotated secret cannot be written back to {store}"),
        body: format!(
            "Credential: {name}\nHome store: {store}\nEvidence: {error}\nTried: written {} times; the ledger holds the \
             value, and readers have it. A host that loses its ledger now loses the grant.\nTo mend it: make {store} \
             writable for credd again; credd check names the reason\n",
            due.tries + 1
        ),
    };
    let (kind, credential) = (WRITEBACK_FAILING.to_owned(), name.to_string());
    Fact { kind, credential, group: format!("store {store}"), change, at: due.since }
}
