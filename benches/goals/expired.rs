//! Goals 5 and 6: a crowd that reads one expired token while its only refresh is out.

use credd::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{
    daemon::{House, Sandbox},
    process::{self, Role},
    publishing::name,
    table::{Row, Table, median, thousands, time},
};

const ROUNDS: usize = 3;
/// The token's life; it is refreshed just before its end, and the provider takes its time.
const LIFE: u64 = 8;
const PROVIDER: u64 = 2_500;

/// What one crowd saw.
struct Crowd {
    good: u64,
    refreshes: u64,
    /// From the provider's reply to the first answer and to the last one, in nanoseconds.
    overtime: [f64; 2],
    memory: f64,
}

/// Ten thousand connections of one process, then two processes with fifty each.
pub fn measure(table: &mut Table) {
    // One descriptor each in the crowd's process and in the daemon's; some are needed for other things.
    let most = process::most_files().saturating_sub(500).min(10_000);
    for (processes, each) in [(1, most), (2, 50)] {
        let crowds: Vec<Crowd> = (0..ROUNDS).map(|_| crowd(processes, each)).collect();
        let expected = (processes * each) as u64;
        let exact = crowds.iter().all(|crowd| crowd.good == expected && crowd.refreshes == 1);
        let good = crowds.iter().map(|crowd| crowd.good).min().unwrap_or(0);
        let refreshes = crowds.iter().map(|crowd| crowd.refreshes).max().unwrap_or(0);
        let row = |goal, what: &str, measured, promised: &str, met| Row {
            goal,
            what: what.into(),
            measured,
            limit: "–".into(),
            ratio: "–".into(),
            promised: promised.into(),
            met,
        };
        let what =
            format!("{} readers of one expired token, {processes} × {each} connections", thousands(expected as f64));
        let words = format!("{refreshes} upstream refresh, {} served (worst of {ROUNDS})", thousands(good as f64));
        table.add(row("5", &what, words, "1 refresh, all served", exact));
        if processes == 1 {
            let [first, overtime] = [0, 1].map(|end| median(crowds.iter().map(|crowd| crowd.overtime[end]).collect()));
            let memory = median(crowds.iter().map(|crowd| crowd.memory).collect());
            table.add(row(
                "6",
                "the last of them, after the provider's reply",
                format!("{} (the first {})", time(overtime), time(first)),
                "≤ 150 ms",
                overtime <= 150e6,
            ));
            table.add(row("6", "memory a waiting connection", format!("{memory:.1} KB"), "≤ 40 KB", memory <= 40.0));
        }
    }
}

fn crowd(processes: usize, each: usize) -> Crowd {
    let sandbox = Sandbox::start();
    let house = House::build(&sandbox, 1, 1, LIFE, "refresh_lead = \"1s\"");
    let delay = json!({"fault": "delay", "ms": PROVIDER, "calls": 1});
    let (daemon, _) = house.start();
    let before = process::resident(daemon.id());
    sandbox.ask("POST", "/admin/faults", &delay);
    let (socket, path) = (house.socket(), format!("/v1/tokens/{}", name(0)));
    let arguments = [socket.to_str().expect("text"), &path, &each.to_string()];
    let mut crowd: Vec<Role> = (0..processes).map(|_| Role::play("crowd", &arguments)).collect();
    crowd.iter_mut().for_each(|role| assert_eq!(role.hear(), "connected"));
    await_expiry(&sandbox);
    crowd.iter_mut().for_each(|role| role.tell("read"));
    // Half a second before the provider answers, all have asked.
    std::thread::sleep(std::time::Duration::from_millis(PROVIDER - 1_600));
    let waiting = process::resident(daemon.id());
    let mut seen = Crowd { good: 0, refreshes: 0, overtime: [0.0; 2], memory: 0.0 };
    let (mut first, mut last) = (u64::MAX, 0);
    for role in &mut crowd {
        let [good, its_first, its_last] = [(); 3].map(|()| role.hear_number());
        seen.good += good;
        first = first.min(its_first);
        last = last.max(its_last);
    }
    let replied = replied(&sandbox);
    seen.overtime = [first as f64 - replied, last as f64 - replied];
    seen.refreshes = refreshes(&sandbox);
    seen.memory = waiting.saturating_sub(before) as f64 / (processes * each) as f64;
    seen
}

fn refreshes(sandbox: &Sandbox) -> u64 {
    let counted = sandbox.ask("GET", "/admin/counters", &Value::Null);
    counted["total"]["refresh_calls"].as_u64().expect("it counts")
}

/// When the provider had replied, in nanoseconds since boot. Its log has dates; both clocks are read at one moment.
fn replied(sandbox: &Sandbox) -> f64 {
    let calls = sandbox.ask("GET", "/admin/log", &Value::Null);
    let refresh = calls.as_array().into_iter().flatten().find(|call| call["endpoint"] == "token");
    let replied = refresh.and_then(|call| call["replied"].as_str()).expect("it has replied");
    let replied: jiff::Timestamp = replied.parse().expect("a time");
    let now = SystemClock.now();
    now.boot.as_nanos() as f64 - now.wall.duration_since(replied).as_nanos() as f64
}

/// Until the refresh is out and the old token has ended.
fn await_expiry(sandbox: &Sandbox) {
    while refreshes(sandbox) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // It is refreshed at most 1.2 s before its end, by the dice.
    std::thread::sleep(std::time::Duration::from_millis(1_250));
}
