//! Tells at once when a watched file changes: the kernel's events say only *that* something moved; what moved is found by
//! reading again, because one swap of a link makes half a dozen events.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};

use crate::{clock::Clock, store::Location};

/// From the first event of a change to the look, so that one change is one look.
const SETTLE: Duration = Duration::from_millis(200);
/// The net below the events: network file systems send none, a full queue loses some, and a folder may be replaced.
const NET: Duration = Duration::from_secs(30);

/// Runs until dropped, or until nobody listens.
pub(super) async fn run(
    folder: &Path,
    clock: &dyn Clock,
    changes: impl Fn() -> Vec<Location>,
    changed: mpsc::Sender<Location>,
) {
    let moved = Arc::new(Notify::new());
    let mut watched = None;
    loop {
        // The folder itself may be mounted late, or replaced by another: a watch holds on to the old one.
        let present = std::fs::metadata(folder).ok().map(|it| (it.dev(), it.ino()));
        if watched.as_ref().map(|(id, _)| *id) != present {
            watched = present.and_then(|id| Some((id, watch(folder, &moved)?)));
        }
        for at in changes() {
            if changed.send(at).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = moved.notified() => clock.sleep(SETTLE).await,
            () = clock.sleep(NET) => {}
        }
    }
}

fn watch(folder: &Path, moved: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let moved = Arc::clone(moved);
    let tell = move |event: notify::Result<notify::Event>| match event {
        // Our own reading makes these.
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(_) | Err(_) => moved.notify_one(),
    };
    let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), reason = ?error.kind, "no events of this folder; it is read every 30 s instead");
        })
        .ok()
}
