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

/// Editors and mounted volumes change a file in several steps; it must have been the same for this long.
const SETTLE: Duration = Duration::from_millis(200);
/// So often a file is looked at that does not come to rest.
const MOST_LOOKS: usize = 25;
/// The net below the watch, which sees no change on some network file systems.
const SWEEP: Duration = Duration::from_secs(30);

/// The name of the bytes that were looked at, and the settings in them with the name of their provider files.
type Look = (String, Result<(Loaded, String), Problems>);

/// What somebody who knows more than the settings holds against them.
pub type Judge = Arc<dyn Fn(&Loaded) -> Result<(), Problems> + Send + Sync>;

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file says what holds already.
    Unchanged,
    /// New settings are in force; what they bring, and what of them waits for a restart.
    Applied(String),
    /// The file is bad, or something that it names: all of the old settings stay.
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
    judge: Judge,
    /// Of the provider files that are in force.
    provider_files: String,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    asked: mpsc::Receiver<oneshot::Sender<Outcome>>,
    touched: mpsc::Receiver<()>,
    touch: mpsc::Sender<()>,
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
    /// Handed on, with the name of their provider files; whether they took effect is not known yet.
    proposed: Option<(Loaded, String)>,
}

impl Reloader {
    /// Starts to watch the file's folder, so that files swapped by rename or by link are seen.
    pub fn new(loaded: Loaded, providers: Vec<String>, metrics: Metrics, clock: Arc<dyn Clock>) -> (Reload, Self) {
        let (ask, asked) = mpsc::channel(64);
        let (touch, touched) = mpsc::channel(1);
        let watcher = watch(&loaded, touch.clone());
        let provider_files = mark(loaded.config.providers.as_deref());
        metrics.credd_config_last_reload_successful.set(1);
        metrics.credd_config_last_reload_success_timestamp_seconds.set(clock.now().wall.as_second());
        let seen = loaded.sha256_prefix.clone();
        let reloader = Self {
            current: loaded,
            providers,
            judge: Arc::new(|_| Ok(())),
            provider_files,
            metrics,
            clock,
            asked,
            touched,
            touch,
            _watcher: watcher,
            waiting: vec![],
            dirty: false,
            seen,
            wrong: None,
            proposed: None,
        };
        (Reload(ask), reloader)
    }

    /// Settings are taken over only if this finds nothing wrong with them.
    pub fn judged_by(self, judge: Judge) -> Self {
        Self { judge, ..self }
    }

    /// Waits for settings that differ from those in force. Whoever applies them says with [`Reloader::ended`] how that
    /// went: nobody is told of a success before. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Loaded {
        if self.proposed.take().is_some() {
            // Nobody said what became of them: they are looked at again.
            (self.dirty, self.seen) = (true, String::new());
        }
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
            let read = self.read().await;
            self.dirty = false;
            if let Some(loaded) = self.judge(read) {
                return loaded;
            }
        }
    }

    /// `None`: the very bytes that were looked at before, and nobody asked.
    async fn read(&mut self) -> Option<Look> {
        let providers = self.providers.clone();
        let Some(path) = self.current.path.clone() else {
            // There was no file at the start; one may have come, and only who asks shall begin to use it.
            self.clock.sleep(SETTLE).await;
            self.drain();
            if self.waiting.is_empty() {
                return None;
            }
            return Some((String::new(), self.judged(move || load(None, &providers)).await));
        };
        let bytes = match self.settled(&path).await {
            Ok(bytes) => bytes,
            Err(problems) => return Some((String::new(), Err(problems))),
        };
        let seen = fingerprint(&bytes);
        let folder = self.current.config.providers.clone();
        let files = self.aside(move || Ok(mark(folder.as_deref()))).await;
        let alike = files.is_ok_and(|files| files == self.provider_files);
        if seen == self.seen && alike && self.waiting.is_empty() {
            return None;
        }
        // A full disk or a careless redirection leaves an empty file, and that must not withdraw every token.
        if bytes.trim_ascii().is_empty() && !self.current.config.credentials.is_empty() {
            let help = "write a comment into it if no credential shall be left, or restore it";
            return Some((seen, Err(Problems(vec![Problem::of_file(&path, "has become empty", help)]))));
        }
        let judged = self.judged(move || load_bytes(&path, bytes, &providers)).await;
        // What its references lead to may come later without a change of the file: it is looked at again.
        let seen = if judged.is_ok() { seen } else { String::new() };
        Some((seen, judged))
    }

    /// Well-formed settings that can come to something.
    async fn judged(
        &self,
        read: impl FnOnce() -> Result<Loaded, Problems> + Send + 'static,
    ) -> Result<(Loaded, String), Problems> {
        let judge = self.judge.clone();
        self.aside(move || read().and_then(|loaded| judge(&loaded).map(|()| with_mark(loaded)))).await
    }

    /// The file, once it has been the same for a while: an editor that writes in place is not read halfway.
    async fn settled(&mut self, path: &Path) -> Result<Vec<u8>, Problems> {
        let mut before = None;
        for _ in 0..MOST_LOOKS {
            let path = path.to_owned();
            let bytes = self.aside(move || read(&path)).await;
            let mark = bytes.as_deref().map(fingerprint).map_err(Clone::clone);
            if before.as_ref() == Some(&mark) {
                return bytes;
            }
            before = Some(mark);
            self.clock.sleep(SETTLE).await;
            self.drain();
        }
        let help = "let whatever writes it finish; it is read again when it rests";
        Err(Problems(vec![Problem::of_file(path, "keeps changing while it is read", help)]))
    }

    /// Whoever asked meanwhile shares this look.
    fn drain(&mut self) {
        while let Ok(answer) = self.asked.try_recv() {
            self.waiting.push(answer);
        }
        while self.touched.try_recv().is_ok() {}
    }

    /// Reads files where that holds nobody up. A panic there is a bad file, not the end of the daemon.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problems> + Send + 'static,
    ) -> Result<T, Problems> {
        let panicked = |_| {
            let path = self.current.path.clone().unwrap_or_default();
            let help = "this is a bug in credd, please report it";
            Err(Problems(vec![Problem::of_file(&path, "reading it panicked", help)]))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(panicked)
    }

    fn judge(&mut self, read: Option<Look>) -> Option<Loaded> {
        let (seen, result) = read?;
        self.seen = seen;
        match result {
            Ok((loaded, provider_files)) => {
                if loaded.config == self.current.config && provider_files == self.provider_files {
                    if self.wrong.take().is_some() || !self.waiting.is_empty() {
                        let sha256 = loaded.sha256_prefix.as_str();
                        tracing::info!(sha256, "the settings file is good and says what holds already");
                    }
                    self.current = loaded;
                    self.is_good();
                    self.answer(&Outcome::Unchanged);
                    return None;
                }
                self.proposed = Some((loaded.clone(), provider_files));
                Some(loaded)
            }
            Err(problems) => {
                self.refuse(problems);
                None
            }
        }
    }

    /// What became of the settings that were handed on last: all of them are in force, or nothing of them is.
    pub fn ended(&mut self, result: Result<(), Problems>) {
        let Some((loaded, provider_files)) = self.proposed.take() else { return };
        match result {
            Ok(()) => {
                let before = std::mem::replace(&mut self.current, loaded);
                let same_files = std::mem::replace(&mut self.provider_files, provider_files) == self.provider_files;
                if before.config.providers != self.current.config.providers {
                    self._watcher = watch(&self.current, self.touch.clone());
                }
                let changes = difference(&before.config, &self.current.config).summary();
                let sha256 = self.current.sha256_prefix.as_str();
                tracing::info!(sha256, changes, provider_files_changed = !same_files, "new settings are in force");
                self.wrong = None;
                self.is_good();
                let now = self.clock.now().wall.as_second();
                self.metrics.credd_config_last_reload_success_timestamp_seconds.set(now);
                self.answer(&Outcome::Applied(changes));
            }
            Err(problems) => {
                // What was in the way may go without a change of the file: it is looked at again.
                self.seen.clear();
                self.refuse(problems);
            }
        }
    }

    fn is_good(&self) {
        self.metrics.credd_config_last_reload_successful.set(1);
        self.metrics.credd_provider_file_problems.set(0);
    }

    fn refuse(&mut self, problems: Problems) {
        self.metrics.credd_config_last_reload_successful.set(0);
        let elsewhere = problems.0.iter().filter(|problem| Some(&problem.file) != self.current.path.as_ref()).count();
        self.metrics.credd_provider_file_problems.set(i64::try_from(elsewhere).unwrap_or(i64::MAX));
        if !self.waiting.is_empty() || self.wrong.as_ref() != Some(&problems) {
            let list: Vec<_> = problems.0.iter().take(20).map(Problem::one_line).collect();
            let (count, problems) = (problems.0.len(), list.join(" | "));
            tracing::error!(count, problems, "the new settings are refused: all of the old ones stay in force");
        }
        self.answer(&Outcome::Kept(problems.clone()));
        self.wrong = Some(problems);
    }

    fn answer(&mut self, outcome: &Outcome) {
        for waiting in self.waiting.drain(..) {
            // Who hung up meanwhile does not want to know.
            let _ = waiting.send(outcome.clone());
        }
    }
}

fn with_mark(loaded: Loaded) -> (Loaded, String) {
    let mark = mark(loaded.config.providers.as_deref());
    (loaded, mark)
}

/// Names what the files of the provider folder say, together.
fn mark(folder: Option<&Path>) -> String {
    let Some(folder) = folder else { return String::new() };
    let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => vec![folder.to_owned()],
    };
    files.retain(|file| file.extension().is_some_and(|end| end == "toml"));
    files.sort();
    // What cannot be read now may be readable later, and that is a change.
    let said = files.iter().map(|file| {
        format!(
            "{}={}\n",
            file.display(),
            std::fs::read(file).map_or_else(|_| String::new(), |text| fingerprint(&text))
        )
    });
    fingerprint(said.collect::<String>().as_bytes())
}

/// Watches the folder of the file, that of the file it links to, and that of the providers.
fn watch(loaded: &Loaded, touch: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let path = loaded.path.as_deref()?;
    let folder =
        |path: &Path| path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")).to_owned();
    let mut folders: Vec<PathBuf> = vec![folder(path)];
    folders.extend(path.canonicalize().ok().map(|target| folder(&target)));
    folders.extend(loaded.config.providers.clone().filter(|folder| folder.exists()));
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
