//! Settings: the broken files of `tests/config/`, mutations of good ones, reloads under fire, and the sample.

mod sample;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use credd::{
    clock::{Clock, Now, SystemClock},
    config::{self, Config, Outcome, Problem, Problems, Reloader},
    metrics::Metrics,
};
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use tokio::sync::{Semaphore, watch};

fn providers() -> Vec<String> {
    ["github", "gitlab", "google", "slack", "rfc6749"].map(String::from).to_vec()
}

fn check(text: &str) -> Result<Config, Problems> {
    config::check(Path::new("credd.toml"), text, &providers())
}

/// Each file begins with the words that it must produce (`#! words`), and those that it must not (`#! not: words`).
#[test]
fn fm71_broken_settings_say_what_is_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut failures = vec![];
    let mut played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let problems = check(&text).expect_err(&path.display().to_string());
        let (long, short) =
            (problems.to_string(), problems.0.iter().map(|one| one.one_line()).collect::<Vec<_>>().join("\n"));
        for words in text.lines().map_while(|line| line.strip_prefix("#! ")) {
            let good = match words.strip_prefix("not: ") {
                Some(words) => !long.contains(words) && !short.contains(words),
                None => long.contains(words) && short.contains(words),
            };
            if !good {
                failures.push(format!("{}: {words}\n--- said:\n{long}", path.display()));
            }
        }
        played += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(played >= 15, "only {played} files");
}

#[test]
fn problems_are_shown_where_they_are_and_without_values() {
    let text = "[pager.channels.mail]\nkind = \"email\"\nhost = \"localhost\"\nfrom = \"a\"\nto = [\"b\"]\n  passwort = \"CANARY\"\n";
    let shown = check(text).unwrap_err().to_string();
    let wanted = "credd.toml:6:3: pager.channels.mail.passwort: unknown setting\n  |\n6 |   passwort = …\n  |   ^^^^^^^^\n  = did you mean `password`?";
    assert!(shown.starts_with(wanted), "{shown}");
}

/// What a mutated file may do: be refused with words, or be taken whole. Never panic, never repeat a secret.
fn survive(text: &str) {
    match check(text) {
        Ok(config) => assert_eq!(check(text).unwrap(), config),
        Err(problems) => {
            assert!(!problems.0.is_empty());
            let said = problems.to_string();
            assert!(!said.contains("CANARY"), "{said}");
            for problem in &problems.0 {
                assert!(problem.line <= text.lines().count() + 1, "{problem:?}");
            }
        }
    }
}

const GOOD: &str = r#"
startup = "warn"
[log]
level = "info"
[ledger]
key = { file = "CANARY-path" }
[policies.default]
probe = "0 */5 * * * *"
ttl_warn = "60m"
[stores.vault]
kind = "vault"
address = "https://vault.example.com"
auth = { method = "approle", role_id = { env = "A" }, secret_id = { file = "b" } }
[pager.channels.mail]
kind = "email"
host = "localhost"
from = "credd@example.com"
to = ["ops@example.com"]
password = { store = "vault", at = "smtp#password" }
[credentials.github-bot]
provider = "github"
kind = "refresh_token"
store = "vault"
expires_at = 2027-01-31T00:00:00Z
readers = [{ uid = 1000, name = "CANARY-name" }]
upstream.with = { tenant = "CANARY-tenant" }
"#;

/// A million mutated files in all: `CREDD_LONG=1 cargo test --release --test it config::p10_`.
fn mutations() -> u32 {
    if std::env::var_os("CREDD_LONG").is_some() { 500_000 } else { ProptestConfig::default().cases }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: mutations(), failure_persistence: None, ..ProptestConfig::default() })]

    /// P-10: bytes cut, doubled, swapped and replaced.
    #[test]
    fn p10_mutated_settings_are_refused_or_taken_whole(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "[\\x00-\\x7fä\"'={}\\[\\].#]{0,6}"), 1..4),
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, length, with) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, with.chars());
        }
        survive(&text.into_iter().collect::<String>());
    }

    /// P-10: whole values replaced by values of another kind.
    #[test]
    fn p10_values_of_any_kind_anywhere(
        line in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "1", "-1", "1e400", "nan", "99999999999999999999", "true", "\"\"", "\"CANARY\"", "[]", "[[1]]", "{}", "{ a = { b = 1 } }",
            "2027-01-01", "07:32:00", "'''\nCANARY\n'''", "{ file = 1 }", "{ store = \"x\" }", "\"0 0 0 30 2 *\"",
        ]),
    ) {
        let lines: Vec<&str> = GOOD.lines().collect();
        let index = line.index(lines.len());
        let changed = lines[index].split_once('=').map(|(key, _)| format!("{key}= {value}"));
        let text: Vec<&str> = lines.iter().enumerate().map(|(at, line)| changed.as_deref().filter(|_| at == index).unwrap_or(line)).collect();
        survive(&text.join("\n"));
    }
}

#[test]
fn a_good_file_is_taken() {
    let config = check(GOOD).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.credentials.len(), 1);
    assert!(config.credentials["github-bot"].expires_at.is_some());
    assert_eq!(check("").unwrap(), Config::default());
}

/// A settings file of our own in a folder of our own.
fn home(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credd.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn n092_a_file_that_others_can_write_is_refused() {
    let (_folder, path) = home("");
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    let refused = config::load(Some(&path), &providers()).unwrap_err().to_string();
    assert!(
        refused.contains("mode 0666") && refused.contains("chmod go-w") && refused.contains("credd.toml"),
        "{refused}"
    );
    mode(0o640);
    let loaded = config::load(Some(&path), &providers()).unwrap();
    assert_eq!(loaded.sha256_prefix, "e3b0c44298fc");
}

#[test]
fn fm71_what_cannot_be_read_is_said() {
    let (folder, path) = home("");
    let words = |path: &Path| config::load(Some(path), &providers()).unwrap_err().to_string();
    assert!(words(folder.path()).contains("is not a file"));
    assert!(words(&folder.path().join("none.toml")).contains("there is no such file"));
    std::fs::write(&path, b"[log]\nlevel = \"\xff\"").unwrap();
    assert!(words(&path).contains("not UTF-8 text on line 2"));
    std::fs::write(&path, "providers = \"nowhere\"").unwrap();
    assert!(words(&path).contains("providers: the folder cannot be read"));
}

#[test]
fn providers_of_the_settings_own_folder_count_and_paths_are_beside_the_file() {
    let (folder, path) = home(
        "providers = \"own\"\n[ledger]\npath = \"l.db\"\n[credentials.a]\nprovider = \"intranet\"\nkind = \"pat\"",
    );
    std::fs::create_dir(folder.path().join("own")).unwrap();
    std::fs::write(folder.path().join("own/intranet.toml"), "").unwrap();
    let config = config::load(Some(&path), &providers()).unwrap_or_else(|problems| panic!("{problems}")).config;
    assert_eq!(config.providers, Some(folder.path().join("own")));
    assert_eq!(config.ledger.path, Some(folder.path().join("l.db")));
}

fn numbered(number: usize) -> String {
    format!(
        "[log]\nlevel = \"info,credd={}\"\n[policies.p{number}]\n[credentials.c{number}]\nprovider = \"github\"\nkind = \"pat\"\npolicy = \"p{number}\"\n",
        ["info", "debug"][number % 2]
    )
}

/// Whether all of the settings come from one file of [`numbered`].
fn whole(config: &Config) -> bool {
    let (policy, credential) = (config.policies.keys().next().unwrap(), config.credentials.keys().next().unwrap());
    config.policies.len() == 1 && config.credentials.len() == 1 && policy[1..] == credential.as_str()[1..]
}

fn reloader(path: &Path, metrics: &Metrics) -> (config::Reload, Reloader) {
    let loaded = config::load(Some(path), &providers()).unwrap();
    Reloader::new(loaded, providers(), metrics.clone(), Arc::new(SystemClock))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("within 20 s")
}

#[tokio::test]
async fn fm71_a_changed_file_is_seen_and_a_swapped_link_too() {
    let folder = tempfile::tempdir().unwrap();
    // As Kubernetes mounts it: credd.toml -> ..data/credd.toml, ..data -> ..1
    for number in 1..=2 {
        std::fs::create_dir(folder.path().join(format!("..{number}"))).unwrap();
        std::fs::write(folder.path().join(format!("..{number}/credd.toml")), numbered(number)).unwrap();
    }
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, folder.path().join("..tmp")).unwrap();
        std::fs::rename(folder.path().join("..tmp"), folder.path().join("..data")).unwrap();
    };
    link("..1");
    let path = folder.path().join("credd.toml");
    std::os::unix::fs::symlink("..data/credd.toml", &path).unwrap();
    let metrics = Metrics::new();
    let (_reload, mut reloader) = reloader(&path, &metrics);
    link("..2");
    let loaded = soon(reloader.next()).await;
    assert!(loaded.config.credentials.contains_key("c2"));
    reloader.ended(Ok(()));
    // Replaced by rename, as editors do.
    std::fs::write(folder.path().join("new"), numbered(3)).unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(soon(reloader.next()).await.config.credentials.contains_key("c3"));
}

#[tokio::test]
async fn fm71_a_bad_file_changes_nothing_and_says_so() {
    let (folder, path) = home(&numbered(1));
    let metrics = Metrics::new();
    let (reload, mut reloader) = reloader(&path, &metrics);
    let applied = metrics.credd_config_last_reload_success_timestamp_seconds.get();
    assert!(applied > 0);
    let (next, outcomes) = tokio::join!(soon(reloader.next()), async {
        let mut outcomes = vec![];
        outcomes.push(soon(reload.reload()).await.unwrap());
        for bad in ["[log", "[log]\nlevle = 1", "[credentials.a]\n[credentials.a]\n", "\0"] {
            std::fs::write(&path, bad).unwrap();
            let outcome = soon(reload.reload()).await.unwrap();
            assert!(matches!(&outcome, Outcome::Kept(problems) if !problems.0.is_empty()), "{bad}: {outcome:?}");
            assert_eq!(metrics.credd_config_last_reload_successful.get(), 0);
        }
        std::fs::write(&path, " \n").unwrap();
        let Some(Outcome::Kept(emptied)) = soon(reload.reload()).await else { panic!("an empty file was taken") };
        assert!(emptied.to_string().contains("has become empty"), "{emptied}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(soon(reload.reload()).await.unwrap(), Outcome::Kept(_)));
        std::fs::write(&path, format!("# a comment\n{}", numbered(1))).unwrap();
        outcomes.push(soon(reload.reload()).await.unwrap());
        assert_eq!(metrics.credd_config_last_reload_successful.get(), 1);
        std::fs::write(&path, numbered(2)).unwrap();
        outcomes
    });
    assert_eq!(outcomes, [Outcome::Unchanged, Outcome::Unchanged]);
    assert!(next.config.credentials.contains_key("c2"));
    // Good as a file is no success yet: whoever applies it has the last word.
    let ask = || {
        tokio::spawn(soon({
            let reload = reload.clone();
            async move { reload.reload().await.unwrap() }
        }))
    };
    let why = Problems(vec![Problem::of_file(&path, "a part cannot be opened", "mend it")]);
    reloader.ended(Err(why.clone()));
    assert_eq!(metrics.credd_config_last_reload_successful.get(), 0);
    for (result, outcome) in [(Err(why.clone()), Some(Outcome::Kept(why))), (Ok(()), None)] {
        let asked = ask();
        assert!(soon(reloader.next()).await.config.credentials.contains_key("c2"), "it is looked at again");
        assert!(!asked.is_finished(), "nobody is told before it is known");
        reloader.ended(result);
        let told = asked.await.unwrap();
        match outcome {
            Some(outcome) => assert_eq!(told, outcome),
            None => {
                assert!(matches!(&told, Outcome::Applied(what) if what.contains("credentials: 1 added")), "{told:?}")
            }
        }
    }
    assert_eq!(metrics.credd_config_last_reload_successful.get(), 1);
    drop(folder);
}

/// A clock whose sleeps end when the test says so; it counts them, so that a test writes exactly between two looks.
#[derive(Debug)]
struct Gate {
    open: Arc<Semaphore>,
    arrived: watch::Sender<usize>,
}

impl Clock for Gate {
    fn now(&self) -> Now {
        SystemClock.now()
    }
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        if time > Duration::from_secs(1) {
            return Box::pin(std::future::pending());
        }
        self.arrived.send_modify(|count| *count += 1);
        let open = self.open.clone();
        Box::pin(async move { open.acquire().await.unwrap().forget() })
    }
}

#[tokio::test]
async fn fm71_half_a_file_is_never_taken() {
    let (_folder, path) = home(&numbered(1));
    let loaded = config::load(Some(&path), &providers()).unwrap();
    let gate = Arc::new(Gate { open: Arc::new(Semaphore::new(0)), arrived: watch::Sender::new(0) });
    let (_reload, mut reloader) = Reloader::new(loaded, providers(), Metrics::new(), gate.clone());
    let (new, mut arrived) = (numbered(2), gate.arrived.subscribe());
    let (loaded, ()) = tokio::join!(soon(reloader.next()), async {
        // Each part is good TOML by itself, and without the credential.
        for (looks, part) in ["[log]\n", "[log]\nlevel = \"info\"\n", new.as_str()].into_iter().enumerate() {
            std::fs::write(&path, part).unwrap();
            gate.open.add_permits(looks.min(1));
            soon(arrived.wait_for(|count| *count > looks)).await.unwrap();
        }
        gate.open.add_permits(1);
    });
    assert!(loaded.config.credentials.contains_key("c2") && whole(&loaded.config));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_a_storm_of_reloads_is_coalesced_and_never_mixed() {
    let (folder, path) = home(&numbered(0));
    let metrics = Metrics::new();
    let (reload, mut reloader) = reloader(&path, &metrics);
    let last = 300;
    let storm = tokio::spawn(async move {
        let mut asked = tokio::task::JoinSet::new();
        for number in 1..=last {
            let beside = path.with_extension(format!("{number}"));
            // Some in place (half a file may be seen), some by rename, some broken.
            match number % 3 {
                0 => std::fs::write(&path, numbered(number)).unwrap(),
                1 => std::fs::write(&path, &numbered(number)[..40]).unwrap(),
                _ => std::fs::write(&beside, numbered(number)).and_then(|()| std::fs::rename(&beside, &path)).unwrap(),
            }
            let reload = reload.clone();
            asked.spawn(async move { reload.reload().await });
            tokio::task::yield_now().await;
        }
        asked.join_all().await
    });
    let mut handed_on = 0;
    let settled = soon(async {
        loop {
            let loaded = reloader.next().await;
            reloader.ended(Ok(()));
            handed_on += 1;
            assert!(whole(&loaded.config), "{:?}", loaded.config);
            if loaded.config.credentials.contains_key(format!("c{last}").as_str()) {
                return loaded;
            }
        }
    });
    let loaded = settled.await;
    drop(reloader);
    let answers = soon(storm).await.unwrap();
    assert!(whole(&loaded.config));
    assert!(handed_on < 100, "{handed_on} settings for {last} changes");
    assert_eq!(answers.len(), last);
    drop(folder);
}
