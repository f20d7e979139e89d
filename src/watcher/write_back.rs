//! Carries rotated secrets from the outbox to their home stores, by compare-and-swap (FAULTS §4.4).

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{House, Message};
use crate::{
    failpoint,
    ledger::{Fact, FactChange, WRITEBACK_FAILING, WriteBack},
    store::{StoreError, Version},
};

/// The outbox is looked at this often even if nobody calls.
const ROUND: Duration = Duration::from_secs(5);

/// Until stopped; what is left then is carried after the next start.
pub(super) async fn carry(house: Arc<House>, stop: CancellationToken) {
    loop {
        let pause = house.clock.sleep(ROUND);
        tokio::select! {
            () = stop.cancelled() => return,
            () = house.stores.write_back_wanted() => {}
            () = pause => {}
        }
        if let Err(error) = round(&house).await {
            tracing::error!(%error, "the outbox of write-backs could not be worked off; trying again");
        }
    }
}

async fn round(house: &Arc<House>) -> Result<(), crate::ledger::LedgerError> {
    let now = house.clock.now();
    if house.stores.has_returned() {
        house.ledger.outbox().retry_unreachable(now.wall).await?;
    }
    let mut silent = HashSet::new();
    for due in house.ledger.outbox().due_write_backs(now.wall).await? {
        let Some(home) = house.stores.home(&due.credential) else { continue };
        if silent.contains(&home.store_name) {
            // One patience with a store that hangs is enough for a round: others wait behind it.
            let again = now.wall + pause(due.tries, house);
            house.ledger.outbox().write_back_later(&due.credential, again, "unreachable").await?;
            continue;
        }
        let Some(expected) = due.store_version.clone().map(Version) else {
            // Never read from its store: the shard looks first, and what it finds decides.
            let _ = home.inbox.send(Message::StoreChanged(due.credential.clone()));
            house
                .ledger
                .outbox()
                .write_back_later(&due.credential, now.wall + Duration::from_secs(10), "not_read_yet")
                .await?;
            continue;
        };
        let turn = house.stores.turn(&due.credential);
        let _turn = turn.lock().await;
        match home.store.write(&home.at, &due.material, &expected, due.attempt).await {
            Ok(version) => {
                failpoint::reach("CP-17");
                house.stores.seen(&home.store_name, &due.credential, &version);
                house.ledger.outbox().write_back_done(&due.credential, due.generation, &version.0).await?;
                tracing::info!(credential = %due.credential, store = home.store_name, generation = due.generation.0, "written back");
                let message =
                    Message::WrittenBack { id: due.credential, generation: due.generation, version: version.0 };
                let _ = home.inbox.send(message);
            }
            Err(error) => {
                let metrics = &house.metrics.credd_store_errors_total;
                metrics.with_label_values(&[home.store_name.as_str(), error.reason()]).inc();
                if matches!(error, StoreError::Unreachable { .. }) {
                    silent.insert(home.store_name.clone());
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
                house.ledger.outbox().write_back_later(&due.credential, now.wall + wait, error.reason()).await?;
                if !matches!(error, StoreError::Conflict { .. }) {
                    house.ledger.incidents().facts(vec![failing(&due, &home.store_name, &error)]).await?;
                }
                let _ = home.inbox.send(Message::WriteBackWaits { id: due.credential });
            }
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
