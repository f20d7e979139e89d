//! Follows the settings file: the next whole settings, or the old ones and a loud line in the log.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::Watcher;
use tokio::sync::{mpsc, oneshot};

use super::{
    difference,
    load::{Loaded, fingerprint, load, load_bytes, read},
    problem::{Problem, Problems},
};
use crate::{clock::Clock, metrics::Metrics};

/// Editors and mounted volumes change a file in several steps; this long after the first one it is read.
const SETTLE: Duration = Duration::from_millis(200);
/// The net below the watch, which sees no change on some network file systems.
const SWEEP: Duration = Duration::from_secs(30);

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file says what holds already.
    Unchanged,
    /// New settings were handed on.
    Applied,
    /// The file is bad: the old settings stay.
    Kept(Problems),
}

/// Asks for a reload (SIGHUP, an operator). Clones ask the same reloader.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<oneshot::Sender<Outcome>>);

impl Reload {
    /// Reads the file now; many askers at once share one reading. `None` when the daemon is going down.
    pub async fn reload(&self) -> Option<Outcome> {
        let (answer, outcome) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        outcome.await.ok()
    }
}

/// Reads the settings again whenever they may have changed.
pub struct Reloader {
    current: Loaded,
    providers: Vec<String>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    asked: mpsc::Receiver<oneshot::Sender<Outcome>>,
    touched: mpsc::Receiver<()>,
    /// Ends the watch when dropped.
    _watcher: Option<notify::RecommendedWatcher>,
    /// Who waits for an answer.
    waiting: Vec<oneshot::Sender<Outcome>>,
    /// Something happened that was not looked at yet.
    dirty: bool,
    /// Of the bytes looked at last, good or bad.
    seen: String,
    /// What was wrong last time, if anything.
    wrong: Option<Problems>,
}

impl Reloader {
    /// Starts to watch the file's folder, so that files swapped by rename or by link are seen.
    pub fn new(loaded: Loaded, providers: Vec<String>, metrics: Metrics, clock: Arc<dyn Clock>) -> (Reload, Self) {
        let (ask, asked) = mpsc::channel(64);
        let (touch, touched) = mpsc::channel(1);
        let watcher = loaded.path.as_deref().and_then(|path| watch(path, touch));
        metrics.credd_config_last_reload_successful.set(1);
        metrics.credd_config_last_reload_success_timestamp_seconds.set(clock.now().wall.as_second());
        let seen = loaded.sha256_prefix.clone();
        let reloader = Self {
            current: loaded,
            providers,
            metrics,
            clock,
            asked,
            touched,
            _watcher: watcher,
            waiting: vec![],
            dirty: false,
            seen,
            wrong: None,
        };
        (Reload(ask), reloader)
    }

    /// Waits for settings that differ from those in force. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Loaded {
        loop {
            if !self.dirty {
                let sweep = self.clock.sleep(SWEEP);
                tokio::select! {
                    Some(answer) = self.asked.recv() => self.waiting.push(answer),
                    Some(()) = self.touched.recv() => {}
                    () = sweep => {}
                }
                self.dirty = true;
            }
            self.clock.sleep(SETTLE).await;
            while let Ok(answer) = self.asked.try_recv() {
                self.waiting.push(answer);
            }
            while self.touched.try_recv().is_ok() {}
            let read = self.read().await;
            self.dirty = false;
            if let Some(loaded) = self.judge(read) {
                return loaded;
            }
        }
    }

    /// `None`: the very bytes that were looked at before, and nobody asked.
    async fn read(&self) -> Option<(String, Result<Loaded, Problems>)> {
        let (path, providers) = (self.current.path.clone(), self.providers.clone());
        let (seen, asked) = (self.seen.clone(), !self.waiting.is_empty());
        let reading = move || match path {
            Some(path) => {
                let bytes = match read(&path) {
                    Ok(bytes) => bytes,
                    Err(problems) => return Some((String::new(), Err(problems))),
                };
                let found = fingerprint(&bytes);
                let known = found == seen && !asked;
                (!known).then(|| (found, load_bytes(&path, bytes, &providers)))
            }
            // There was no file at the start; one may have come, and only who asks shall begin to use it.
            None => asked.then(|| (String::new(), load(None, &providers))),
        };
        let panicked = |_| {
            let path = self.current.path.clone().unwrap_or_default();
            let problem = Problem::of_file(&path, "reading it panicked", "this is a bug in credd, please report it");
            Some((String::new(), Err(Problems(vec![problem]))))
        };
        tokio::task::spawn_blocking(reading).await.unwrap_or_else(panicked)
    }

    fn judge(&mut self, read: Option<(String, Result<Loaded, Problems>)>) -> Option<Loaded> {
        let (seen, result) = read?;
        self.seen = seen;
        match result {
            Ok(loaded) => {
                let again = self.wrong.take().is_some();
                let now = self.clock.now().wall.as_second();
                self.metrics.credd_config_last_reload_successful.set(1);
                self.metrics.credd_config_last_reload_success_timestamp_seconds.set(now);
                let before = std::mem::replace(&mut self.current, loaded);
                let sha256 = self.current.sha256_prefix.as_str();
                if before.config == self.current.config {
                    if again || !self.waiting.is_empty() {
                        tracing::info!(sha256, "the settings file is good and says what holds already");
                    }
                    self.answer(&Outcome::Unchanged);
                    return None;
                }
                let changes = difference(&before.config, &self.current.config).summary();
                tracing::info!(sha256, changes, "new settings");
                self.answer(&Outcome::Applied);
                Some(self.current.clone())
            }
            Err(problems) => {
                self.metrics.credd_config_last_reload_successful.set(0);
                if !self.waiting.is_empty() || self.wrong.as_ref() != Some(&problems) {
                    let list: Vec<_> = problems.0.iter().take(20).map(Problem::one_line).collect();
                    let (count, problems) = (problems.0.len(), list.join(" | "));
                    tracing::error!(count, problems, "the settings file is bad: the old settings stay in force");
                }
                self.answer(&Outcome::Kept(problems.clone()));
                self.wrong = Some(problems);
                None
            }
        }
    }

    fn answer(&mut self, outcome: &Outcome) {
        for waiting in self.waiting.drain(..) {
            // Who hung up meanwhile does not want to know.
            let _ = waiting.send(outcome.clone());
        }
    }
}

/// Watches the folder of the file, and that of the file it links to.
fn watch(path: &Path, touch: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let folder =
        |path: &Path| path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")).to_owned();
    let mut folders: Vec<PathBuf> = vec![folder(path)];
    folders.extend(path.canonicalize().ok().map(|target| folder(&target)));
    folders.dedup();
    let seen = move |event: notify::Result<notify::Event>| {
        if !matches!(event, Ok(notify::Event { kind: notify::EventKind::Access(_), .. })) {
            // Full means that a look is due anyway.
            let _ = touch.try_send(());
        }
    };
    let watching = notify::recommended_watcher(seen).and_then(|mut watcher| {
        folders.iter().try_for_each(|folder| watcher.watch(folder, notify::RecursiveMode::NonRecursive))?;
        Ok(watcher)
    });
    let lost = |error: &notify::Error| {
        tracing::warn!(%error, "the settings' folder cannot be watched; changes are found within 30 s, or at once by SIGHUP");
    };
    watching.inspect_err(lost).ok()
}
