//! On-call's loops over the channels of the settings.

use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Resources, house, ports};
use crate::{clock::Clock, metrics::Metrics, oncall::Oncall};

/// On-call's loops and how to stop them; replaced when the channels change.
pub(super) type Running = Arc<Mutex<Option<(JoinHandle<()>, CancellationToken)>>>;

/// Starts them, in place of those that run.
pub(super) fn start(
    running: &Mutex<Option<(JoinHandle<()>, CancellationToken)>>,
    known: &house::Channels,
    ledger: &crate::ledger::Ledger,
    resources: &Resources,
    metrics: &Metrics,
    clock: Arc<dyn Clock>,
) {
    let channels: Vec<_> = resources.channels.values().cloned().collect();
    known.lock().expect("nothing panics while it is held").clone_from(&channels);
    let outbox = Arc::new(ports::LedgerOutbox::new(ledger.clone()));
    let oncall = Oncall::new(outbox, channels, clock, metrics.clone());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let mut running = running.lock().expect("nothing panics while it is held");
    let before = running.take();
    let task = tokio::spawn(async move {
        if let Some((task, stop)) = before {
            stop.cancel();
            let _ = task.await;
        }
        oncall.run(&stopped).await;
    });
    *running = Some((task, stop));
}
