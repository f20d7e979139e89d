//! Goals 1 and 2: a token read over the Unix socket, beside bare hyper with the same bytes.

use std::{path::Path, time::Duration};

use super::{
    load::{self, Load},
    process::{self, Role},
    table::{Row, Table, median, quantile, thousands, time},
};

const CREDENTIALS: usize = 10_000;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1200);
const WARM_UP: Duration = Duration::from_millis(300);

/// One round of one server.
struct Round {
    per_second: f64,
    p50: f64,
    p99: f64,
}

impl From<Load> for Round {
    fn from(mut load: Load) -> Self {
        let (p50, p99) = (quantile(&mut load.latencies, 0.5), quantile(&mut load.latencies, 0.99));
        Self { per_second: load.per_second, p50, p99 }
    }
}

/// Measures both.
pub fn measure(table: &mut Table) {
    let requests = load::reads(CREDENTIALS);
    let alone = |socket: &Path, time| load::alone(socket, &requests, time);
    let (ours, bare) = process::on_one_core(|| compare(alone));
    let (what, met) = (row("1 connection, one core", &ours, &bare), 0.85);
    table.add(Row { goal: "1", promised: "≥ 0.85".into(), met: ratio(&ours, &bare) >= met, ..what });

    let together = |socket: &Path, time| load::together(socket, &requests, 16, time);
    let (ours, bare) = compare(together);
    let tail = median(ours.iter().zip(&bare).map(|(ours, bare)| ours.p99 / bare.p99).collect());
    let mut what = row("16 connections", &ours, &bare);
    what.ratio += &format!("; p99 {tail:.2}");
    let met = ratio(&ours, &bare) >= 0.75 && tail <= 2.0;
    table.add(Row { goal: "2", promised: "≥ 0.75; p99 ≤ 2".into(), met, ..what });
}

/// Both servers run all the time; the load goes to one, then to the other, round by round.
fn compare(load: impl Fn(&Path, Duration) -> Load) -> (Vec<Round>, Vec<Round>) {
    let (folder, sockets) = (process::folder(), tempfile::tempdir().expect("a folder"));
    let path = |name: &str| sockets.path().join(name);
    let (ours, bare) = (path("ours"), path("bare"));
    let text = |path: &Path| path.to_str().expect("it is text").to_owned();
    let ledger = text(&folder.path().join("ledger.db"));
    let mut server = Role::play("credd", &[&text(&ours), &ledger, &CREDENTIALS.to_string()]);
    assert_eq!(server.hear(), "ready");
    let answer = load::Connection::open(&ours).exchange(&load::reads(1)[0]).to_vec();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let body = String::from_utf8(answer[head..].to_vec()).expect("JSON is text");
    let mut server_bare = Role::play("bare", &[&text(&bare), &body]);
    assert_eq!(server_bare.hear(), "ready");
    let mut rounds = (vec![], vec![]);
    load(&ours, WARM_UP);
    load(&bare, WARM_UP);
    for _ in 0..ROUNDS {
        rounds.0.push(load(&ours, ROUND).into());
        rounds.1.push(load(&bare, ROUND).into());
    }
    rounds
}

/// The median of the ratios of each round.
fn ratio(ours: &[Round], bare: &[Round]) -> f64 {
    median(ours.iter().zip(bare).map(|(ours, bare)| ours.per_second / bare.per_second).collect())
}

fn row(how: &str, ours: &[Round], bare: &[Round]) -> Row {
    let of = |rounds: &[Round], what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
    let words = |rounds: &[Round]| {
        let (p50, p99) = (of(rounds, |round| round.p50), of(rounds, |round| round.p99));
        format!("{} req/s, p50 {}, p99 {}", thousands(of(rounds, |round| round.per_second)), time(p50), time(p99))
    };
    Row {
        goal: "",
        what: format!("token read over the Unix socket, {how}"),
        measured: words(ours),
        limit: format!("bare hyper: {}", words(bare)),
        ratio: format!("{:.2}", ratio(ours, bare)),
        promised: String::new(),
        met: false,
    }
}
