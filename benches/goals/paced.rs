//! Goal 4: reads at a steady pace while a thousand refreshes run and `/metrics` is scraped, beside the same reads in quiet.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::{
    daemon::{self, House, Sandbox},
    load::{self, Connection},
    process::nanoseconds,
    publishing::name,
    table::{Row, Table, median, quantile, thousands, time},
};

const REFRESHES: usize = 1000;
/// So many clients, so that no endpoint's pacing holds the refreshes back.
const CLIENTS: usize = 100;
const AT_ONCE: usize = 32;
const ROUNDS: usize = 3;
/// The slower of two storms begins its refreshes this far apart.
const APART: Duration = Duration::from_millis(10);
const QUIET: Duration = Duration::from_secs(4);
const READERS: usize = 2;
/// Between two reads of one reader.
const PACE: u64 = 1_000_000;
const SCRAPES: Duration = Duration::from_millis(500);

/// As fast as they go, then a hundred a second.
pub fn measure(table: &mut Table) {
    let sandbox = Sandbox::start();
    let house = House::build(&sandbox, REFRESHES, CLIENTS, 86_400, "");
    let (_daemon, _) = house.start();
    // The first reads of a round of quiet would meet the end of the start.
    thread::sleep(QUIET);
    for apart in [Duration::ZERO, APART] {
        table.add(compare(&house, apart));
    }
}

/// Quiet and busy rounds in turn.
fn compare(house: &House, apart: Duration) -> Row {
    let (mut quiet, mut busy, mut took, mut scraped) = (vec![], vec![], vec![], 0);
    for _ in 0..ROUNDS {
        quiet.push(reads(&house.socket(), || thread::sleep(QUIET)));
        let begun = nanoseconds();
        busy.push(reads(&house.socket(), || scraped += refresh_all(house, apart)));
        took.push((nanoseconds() - begun) as f64);
    }
    let p = |rounds: &mut [Vec<u64>], part| median(rounds.iter_mut().map(|round| quantile(round, part)).collect());
    let [q50, q99, b50, b99] = [p(&mut quiet, 0.5), p(&mut quiet, 0.99), p(&mut busy, 0.5), p(&mut busy, 0.99)];
    let ratio = median(quiet.iter_mut().zip(&mut busy).map(|(q, b)| quantile(b, 0.99) / quantile(q, 0.99)).collect());
    let (each, pace) = (median(took) / 1e9, thousands(READERS as f64 * 1e9 / PACE as f64));
    let refreshes = thousands(REFRESHES as f64);
    Row {
        goal: "4",
        what: format!("{pace} reads/s while {refreshes} refreshes run in {each:.1} s and /metrics is scraped"),
        measured: format!("p50 {}, p99 {}; {} scrapes", time(b50), time(b99), scraped / ROUNDS),
        limit: format!("quiet: p50 {}, p99 {}", time(q50), time(q99)),
        ratio: format!("{ratio:.2}"),
        promised: "p99 ≤ 1.5".into(),
        met: ratio <= 1.5,
    }
}

/// Latencies of reads at a steady pace for as long as `meanwhile` takes. A read that could not be sent when it was due
/// counts from when it was due.
fn reads(socket: &Path, meanwhile: impl FnOnce()) -> Vec<u64> {
    let over = Arc::new(AtomicBool::new(false));
    let reader = |number: usize| {
        let (mut connection, over) = (Connection::open(socket), over.clone());
        thread::spawn(move || {
            let (requests, mut latencies) = (load::reads(REFRESHES), Vec::new());
            let mut due = nanoseconds() + PACE * number as u64 / READERS as u64;
            for request in requests.iter().cycle() {
                let now = nanoseconds();
                let on_time = now < due;
                if on_time {
                    thread::sleep(Duration::from_nanos(due - now));
                }
                if over.load(Relaxed) {
                    break;
                }
                let sent = if on_time { nanoseconds() } else { due };
                assert!(load::is_good(connection.exchange(request)), "a read was refused");
                latencies.push(nanoseconds() - sent);
                due += PACE;
            }
            latencies
        })
    };
    let readers: Vec<_> = (0..READERS).map(reader).collect();
    meanwhile();
    over.store(true, Relaxed);
    readers.into_iter().flat_map(|reader| reader.join().expect("no reader failed")).collect()
}

/// Refreshes every credential as an operator would, so many at once and so far apart, and scrapes meanwhile. How often
/// it was scraped.
fn refresh_all(house: &House, apart: Duration) -> usize {
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (admin, health, begun) = (house.admin(), house.health(), nanoseconds());
    let scraped = Mutex::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                assert!(daemon::http(health, "GET", "/metrics", "").contains("credd_credential_state"));
                *scraped.lock().expect("no scrape failed") += 1;
                thread::sleep(SCRAPES);
            }
        });
        let operators: Vec<_> =
            (0..AT_ONCE).map(|_| scope.spawn(|| refresh_some(&admin, &next, begun, apart))).collect();
        for operator in operators {
            operator.join().expect("no refresh failed");
        }
        over.store(true, Relaxed);
    });
    scraped.into_inner().expect("no scrape failed")
}

fn refresh_some(admin: &Path, next: &AtomicUsize, begun: u64, apart: Duration) {
    let mut connection = Connection::open(admin);
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= REFRESHES {
            return;
        }
        let due = Duration::from_nanos(begun) + apart * u32::try_from(number).expect("a thousand");
        thread::sleep(due.saturating_sub(Duration::from_nanos(nanoseconds())));
        let path = format!("/v1/credentials/{}/refresh", name(number));
        let request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
        let answer = connection.exchange(request.as_bytes());
        assert!(load::is_good(answer), "{}", String::from_utf8_lossy(answer));
    }
}
