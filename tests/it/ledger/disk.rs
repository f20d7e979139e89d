//! Disks that are full, that fail, and that lose power.

use std::{fs, path::Path, process::Command};

use credd::{
    credential::Generation,
    ledger::{LedgerError, Transition},
};
use uuid::Uuid;

use super::bench::*;

pub fn component(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("bash");
    command.arg(root.join("tests/components").join(script));
    if std::env::var_os("TOOLS_DIR").is_none() {
        command.env("TOOLS_DIR", root.join("target/tools"));
    }
    command
}

/// Runs an ignored test of this binary under a command; answers what it said.
pub fn inner(mut under: Command, test: &str, variable: &str, folder: &Path) -> String {
    let output = under
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(variable, folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    said
}

/// Runs [`on_a_full_disk`] in a process of its own, on a small file system of its own.
#[test]
fn fm31_fm32_a_full_disk_loses_no_reply() {
    let folder = tempfile::tempdir().unwrap();
    let mut under = component("diskfull.sh");
    under.arg("16m").arg(folder.path());
    inner(under, "ledger::disk::on_a_full_disk", "LEDGER_ON_SMALL_DISK", folder.path());
}

#[tokio::test]
#[ignore = "fills the file system that it is given; the test above gives it one"]
async fn on_a_full_disk() {
    let disk = std::path::PathBuf::from(std::env::var_os("LEDGER_ON_SMALL_DISK").expect("a small disk"));
    let ledger = open_at(&disk.join("state/ledger.db")).await.unwrap();
    let rotation = ledger.rotation();
    for name in ["a", "b"] {
        rotation.commit(loaded(name)).await.unwrap();
    }
    rotation.preflight().await.unwrap();
    for (number, name) in [(1, "a"), (2, "b")] {
        rotation.commit(prepared(name, number, 2)).await.unwrap();
    }
    let mut filler = fs::File::create(disk.join("filler")).unwrap();
    let block = [7_u8; 4096];
    while std::io::Write::write_all(&mut filler, &block).is_ok() {}
    // Each reply fills most of what a reserve of one reply would be: both find room all the same.
    let large = |text: &str| credd::credential::Reply::new(200, [], text.repeat(60_000));
    for (number, name) in [(1, "a"), (2, "b")] {
        rotation.received(&id(name), Uuid::from_u128(number), &large(name), at(5)).await.unwrap();
        rotation.commit(promoted(name, number, 1)).await.unwrap();
    }
    // FM-31: but nothing new is begun.
    let LedgerError::Unwritable(text) = rotation.preflight().await.unwrap_err() else { panic!() };
    assert!(text.contains("free some space"), "{text}");
    drop(filler);
    fs::remove_file(disk.join("filler")).unwrap();
    rotation.preflight().await.unwrap();
    ledger.close().await;
    let ledger = open_at(&disk.join("state/ledger.db")).await.unwrap();
    let records = ledger.rotation().load_all().await.unwrap();
    assert!(records.iter().all(|record| record.material == Some(material("2"))));
    ledger.audit().verify().await.unwrap();
}

/// Each thread's Nth sync fails with EIO, as `strace` injects it. Whatever was answered "durable" is there afterwards.
#[tokio::test]
async fn fm33_a_failed_sync_is_never_called_durable() {
    for nth in [1, 2, 3, 4, 7, 12] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let ledger = open_at(&file).await.unwrap();
        ledger.rotation().commit(loaded("a")).await.unwrap();
        ledger.close().await;
        let mut under = component("strace.sh");
        under.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"]);
        under.arg(format!("inject=fsync,fdatasync:error=EIO:when={nth}"));
        let said = inner(under, "ledger::disk::on_a_failing_disk", "LEDGER_ON_FAILING_DISK", &file);
        let generations = |word: &str| -> Vec<i64> {
            said.lines().filter_map(|line| line.split_once(word)?.1.trim().parse().ok()).collect()
        };
        let durable = generations("durable ").last().copied().unwrap_or(1);
        assert!(nth < 7 || durable == 40, "after one error in {nth} the ledger goes on: {said}");
        let ledger = open_at(&file).await.unwrap();
        let record = ledger.rotation().load(&id("a")).await.unwrap().unwrap();
        assert!(record.generation >= Generation(durable), "{:?} < {durable}: {said}", record.generation);
        ledger.audit().verify().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a disk that fails; the test above gives it one"]
async fn on_a_failing_disk() {
    let file = std::path::PathBuf::from(std::env::var_os("LEDGER_ON_FAILING_DISK").expect("a ledger"));
    let Ok(ledger) = open_at(&file).await else { return };
    let rotation = ledger.rotation();
    for generation in 1..40 {
        let step = || Transition { audit: vec![entry("a", "refreshed")], ..with_value(generation) };
        for _ in 0..8 {
            match rotation.commit(step()).await {
                Ok(()) => {
                    println!("durable {}", generation + 1);
                    break;
                }
                // It had happened, although we were told otherwise: allowed, as long as nobody counted on it.
                Err(LedgerError::Fenced { found, .. }) if found == Generation(generation + 1) => break,
                Err(error) => assert!(matches!(error, LedgerError::Unwritable(_)), "{error}"),
            }
        }
    }
    ledger.close().await;
}

/// The process is killed while it writes: the next one gets the ledger at once, with everything that was durable.
#[tokio::test]
async fn p1_a_killed_process_loses_nothing_that_was_durable() {
    use std::io::{BufRead, BufReader};
    for kill_at in [2_i64, 9, 23] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let ledger = open_at(&file).await.unwrap();
        ledger.rotation().commit(loaded("a")).await.unwrap();
        ledger.close().await;
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::disk::on_a_failing_disk", "--ignored", "--nocapture"])
            .env("LEDGER_ON_FAILING_DISK", &file)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut generations = lines.filter_map(|line| line.split_once("durable ")?.1.trim().parse::<i64>().ok());
        let durable = generations.find(|generation| *generation >= kill_at).expect("it comes that far");
        writer.kill().unwrap();
        writer.wait().unwrap();
        let ledger = open_at(&file).await.unwrap();
        let record = ledger.rotation().load(&id("a")).await.unwrap().unwrap();
        let Generation(found) = record.generation;
        assert!(found >= durable, "{found} < {durable}");
        assert_eq!(record.material, Some(material(&found.to_string())));
        assert_eq!(ledger.audit().verify().await.unwrap().entries.cast_signed(), found);
    }
}

fn with_value(replaces: i64) -> Transition {
    Transition { value: Some(value(replaces, &(replaces + 1).to_string())), ..step("a") }
}

/// Power fails while the log is being written: whatever part of the unsynced end reached the disk, the ledger opens,
/// is whole, and holds everything that was durable before.
#[tokio::test]
async fn fm34_a_torn_log_loses_nothing_that_was_durable() {
    let bench = Bench::sqlite();
    let ledger = bench.open().await;
    ledger.rotation().commit(loaded("a")).await.unwrap();
    let log = bench.folder.path().join("ledger.db-wal");
    let length = || fs::metadata(&log).unwrap().len();
    let mut durable = vec![length()];
    for generation in 1..=8_i64 {
        let number = generation.unsigned_abs().into();
        ledger.rotation().commit(prepared("a", number, generation + 1)).await.unwrap();
        ledger.rotation().commit(promoted("a", number, generation)).await.unwrap();
        durable.push(length());
    }
    let whole = fs::read(&log).unwrap();
    for cut in (durable[0] + 7..=length()).step_by(2_999) {
        let copy = bench.after_power_loss();
        let mut torn = whole[..usize::try_from(cut).unwrap()].to_vec();
        // The last sector that arrived holds something else.
        let end = torn.len();
        torn[end - 7..].fill(0xa5);
        fs::write(copy.folder.path().join("ledger.db-wal"), &torn).unwrap();
        let survivor = copy.open().await;
        let record = survivor.rotation().load(&id("a")).await.unwrap().unwrap();
        let promised = durable.iter().filter(|end| **end + 7 <= cut).count();
        let Generation(found) = record.generation;
        assert!(found >= i64::try_from(promised).unwrap(), "cut at {cut}: generation {found}, promised {promised}");
        assert_eq!(record.material, Some(material(&found.to_string())), "cut at {cut}");
        let entries = survivor.audit().verify().await.unwrap().entries.cast_signed();
        let open = i64::from(record.open_attempt.is_some());
        assert_eq!(entries, 2 * found - 1 + open, "cut at {cut}: the log says what was done");
        survivor.close().await;
    }
}
