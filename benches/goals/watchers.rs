//! Goal 7: from the commit of a new generation to its watchers, beside the same bytes written by a bare server.

use std::path::Path;

use super::{
    process::{self, Role},
    table::{Row, Table, median, time},
};

const CHANGES: usize = 25;

/// With one watcher and with a thousand.
pub fn measure(table: &mut Table) {
    for (watchers, goal) in [(1, 0.5e6), (1000, 15e6)] {
        let (ours, bare) = compare(watchers);
        let (of_ours, of_bare) = (median(ours.clone()), median(bare.clone()));
        let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect());
        table.add(Row {
            goal: "7",
            what: format!("commit of a new generation → the last of {watchers} watchers has it"),
            measured: time(of_ours),
            limit: format!("the same bytes from bare tasks: {}", time(of_bare)),
            ratio: format!("{ratio:.2}"),
            promised: format!("≤ {}", time(goal)),
            met: of_ours <= goal,
        });
    }
}

/// Nanoseconds from each change to its last watcher: ours, and the bare server's, in turn.
fn compare(watchers: usize) -> (Vec<f64>, Vec<f64>) {
    let (folder, sockets) = (process::folder(), tempfile::tempdir().expect("a folder"));
    let text = |path: &Path| path.to_str().expect("it is text").to_owned();
    let (ours, bare) = (text(&sockets.path().join("ours")), text(&sockets.path().join("bare")));
    let ledger = text(&folder.path().join("ledger.db"));
    let mut servers = [Role::play("credd", &[&ours, &ledger, "1000"]), Role::play("bare-watch", &[&bare])];
    servers.iter_mut().for_each(|server| assert_eq!(server.hear(), "ready"));
    let path = format!("/v1/watch?names={}", super::publishing::name(0));
    let (count, mut took) = (watchers.to_string(), [vec![], vec![]]);
    let mut crowds = [Role::play("watchers", &[&ours, &path, &count]), Role::play("watchers", &[&bare, "", &count])];
    crowds.iter_mut().for_each(|crowd| assert_eq!(crowd.hear(), "followed"));
    for change in 0..CHANGES {
        for ((server, crowd), took) in servers.iter_mut().zip(&mut crowds).zip(&mut took) {
            server.tell("change");
            let durable = server.hear_number();
            let [_first, last] = [(); 2].map(|()| crowd.hear_number());
            // The first change warms up.
            if change > 0 {
                took.push(last.saturating_sub(durable) as f64);
            }
        }
    }
    took.into()
}
