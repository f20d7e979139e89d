//! The systemd unit, before systemd's own judge.

use std::{path::Path, process::Command};

const UNIT: &str = "deploy/systemd/credd.service";

fn analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("tests/components/systemd-analyze.sh"));
    let output = command.current_dir(root).args(arguments).arg(root.join(unit)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn t34_the_unit_leaves_little_exposed() {
    let (good, said) = analyze(&["security", "--offline=true", "--threshold=15"], Path::new(UNIT));
    assert!(good, "exposure must be at most 1.5:\n{said}");
    let (too_strict, _) = analyze(&["security", "--offline=true", "--threshold=1"], Path::new(UNIT));
    assert!(!too_strict, "the threshold is not looked at");
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    // The program may not be installed where tests run; anything else that is said of the unit is a mistake in it.
    let mistakes = |unit: &Path| {
        let (_, said) = analyze(&["verify"], unit);
        let about = |line: &&str| line.contains("credd.service") && !line.contains("/usr/bin/credd");
        said.lines().filter(about).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(mistakes(Path::new(UNIT)), Vec::<String>::new());
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("credd.service");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT)).unwrap();
    std::fs::write(&broken, text.replace("WatchdogSec=", "WatchdogSek=")).unwrap();
    assert_eq!(mistakes(&broken).len(), 1);
}
