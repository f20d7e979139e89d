//! Tells at once when a watched file changes: the kernel's events say only *that* something moved; what moved is found by
//! reading again, because one swap of a link makes half a dozen events.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};

use super::{Files, Folder};
use crate::store::Location;

/// From the first event of a change to the look, so that one change is one look.
const SETTLE: Duration = Duration::from_millis(200);
/// The net below the events: network file systems send none, a full queue loses some, and a folder may be replaced.
const NET: Duration = Duration::from_secs(30);

/// A watch and the folder it holds on to.
type Watch = ((u64, u64), RecommendedWatcher);

/// Runs until dropped, or until nobody listens.
pub(super) async fn run(files: &Files, changed: mpsc::Sender<Location>) {
    let moved = Arc::new(Notify::new());
    let mut watch = None;
    loop {
        let tell = Arc::clone(&moved);
        let look = move |folder: &Folder| {
            let watch = renewed(watch, &folder.settings.folder, &tell);
            Ok((watch, folder.changes()))
        };
        // A folder that hangs is watched anew when it answers.
        let (next, found) = files.on_disk("the folder", look).await.unwrap_or_default();
        watch = next;
        for at in found {
            if changed.send(at).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = moved.notified() => files.clock.sleep(SETTLE).await,
            () = files.clock.sleep(NET) => {}
        }
    }
}

/// The folder itself may be mounted late, or replaced by another, while a watch holds on to the old one.
fn renewed(watch: Option<Watch>, folder: &Path, moved: &Arc<Notify>) -> Option<Watch> {
    let present = std::fs::metadata(folder).map(|it| (it.dev(), it.ino())).ok()?;
    match watch {
        Some((held, watcher)) if held == present => Some((held, watcher)),
        _ => Some((present, start(folder, moved)?)),
    }
}

fn start(folder: &Path, moved: &Arc<Notify>) -> Option<RecommendedWatcher> {
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
    let complain = |error: &notify::Error| {
        let folder = folder.display();
        tracing::warn!(%folder, reason = ?error.kind, "no events of this folder; it is read every 30 s instead");
    };
    watcher.inspect_err(complain).ok()
}
