//! Goal 10: a million deadlines. A million credentials would take minutes to fill and gigabytes of tokens, so this
//! measures the shards' queue alone: the same heap in the same 64 tasks, with the same sleeps.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use credd::{
    clock::{Clock, SystemClock},
    credential::CredentialId,
};
use jiff::Timestamp;

use super::{
    process::{self, Role, listen, say},
    table::{Row, Table, quantile, thousands, time},
};

const SHARDS: usize = 64;
const MANY: usize = 1_000_000;
const AT_ONCE: usize = 10_000;
const SPREAD: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(10);
/// A shard's longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

type Queue = BinaryHeap<Reverse<(Timestamp, CredentialId)>>;

/// Fills the queue in a process of its own and looks at it in three moods.
pub fn measure(table: &mut Table) {
    let mut queue = Role::play("queue", &[&MANY.to_string()]);
    let before = queue.hear_number();
    let bytes = (queue.hear_number() - before) as f64 * 1024.0 / MANY as f64;
    queue.tell("idle");
    let idle = queue.hear_number() as f64 / LOOK.as_nanos() as f64;
    queue.tell("busy");
    let [ran, p99, busy] = [(); 3].map(|()| queue.hear_number());
    queue.tell("burst");
    let [burst, last] = [(); 2].map(|()| queue.hear_number());
    let row = |what: &str, measured, promised: &str, met| Row {
        goal: "10",
        what: format!("the shards' deadline queue, {what}"),
        measured,
        limit: "–".into(),
        ratio: "–".into(),
        promised: promised.into(),
        met,
    };
    table.add(row(
        "a million entries, none due: CPU",
        format!("{:.3} % of a core", idle * 100.0),
        "≤ 1 %",
        idle <= 0.01,
    ));
    table.add(row("memory an entry", format!("{bytes:.0} B"), "≤ 100 B", bytes <= 100.0));
    let cost = busy as f64 / LOOK.as_nanos() as f64 * 100.0;
    let words = format!("p99 {} over {} deadlines ({cost:.1} % of a core)", time(p99 as f64), thousands(ran as f64));
    table.add(row("a million due within 300 s: late", words, "p99 ≤ 50 ms", p99 as f64 <= 50e6 && ran > 0));
    let words = format!("{} ran, the last {} late", thousands(burst as f64), time(last as f64));
    table.add(row("10,000 more due at once", words, "none lost", burst == AT_ONCE as u64));
}

/// What the shards' tasks found.
#[derive(Default)]
struct Found {
    late: std::sync::Mutex<Vec<u64>>,
    bursts: AtomicU64,
    last: AtomicU64,
}

/// The child: says its memory before and after filling, then what each mood cost.
pub fn queue(entries: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    let _inside = runtime.enter();
    // The names belong to the credentials; the queue holds a reference to each.
    let ids: Vec<CredentialId> = (0..entries).map(|number| id(&format!("c{number:07}"))).collect();
    let far = SystemClock.now().wall + Duration::from_secs(86_400);
    say(process::resident(std::process::id()));
    let mut queues: Vec<Queue> = (0..SHARDS).map(|_| Queue::new()).collect();
    for (number, id) in ids.iter().enumerate() {
        queues[number % SHARDS]
            .push(Reverse((far + Duration::from_millis(number as u64 * 7919 % 1_000_000), id.clone())));
    }
    say(process::resident(std::process::id()));

    expect("idle");
    let spent = cpu();
    run(&runtime, queues);
    say(cpu() - spent);

    expect("busy");
    // The first is due when the queues have been dealt.
    let now = SystemClock.now().wall + Duration::from_secs(2);
    let step = SPREAD / u32::try_from(entries).expect("a million");
    let queues =
        deal(ids.iter().enumerate().map(|(number, id)| (now + step * u32::try_from(number).expect("small"), id)));
    let spent = cpu();
    let found = run(&runtime, queues);
    let spent = cpu() - spent;
    let mut late = found.late.lock().expect("no task panicked");
    say(late.len());
    say(quantile(&mut late, 0.99) as u64);
    say(spent);
    drop(late);

    expect("burst");
    let due = SystemClock.now().wall + Duration::from_secs(2);
    let burst: Vec<CredentialId> = (0..AT_ONCE).map(|number| id(&format!("burst-{number}"))).collect();
    let queues = deal(ids.iter().map(|id| (far, id)).chain(burst.iter().map(|id| (due, id))));
    let found = run(&runtime, queues);
    say(found.bursts.load(Relaxed));
    say(found.last.load(Relaxed));
}

fn id(name: &str) -> CredentialId {
    CredentialId::new(name).expect("it has the form of a name")
}

fn expect(mood: &str) {
    assert_eq!(listen().as_deref(), Some(mood));
}

fn deal<'a>(entries: impl Iterator<Item = (Timestamp, &'a CredentialId)>) -> Vec<Queue> {
    let mut queues: Vec<Queue> = (0..SHARDS).map(|_| Queue::new()).collect();
    for (number, (due, id)) in entries.enumerate() {
        queues[number % SHARDS].push(Reverse((due, id.clone())));
    }
    queues
}

/// Lets the shards' tasks run for a while.
fn run(runtime: &tokio::runtime::Runtime, queues: Vec<Queue>) -> Arc<Found> {
    let found = Arc::new(Found::default());
    let tasks: Vec<_> = queues.into_iter().map(|queue| runtime.spawn(shard(queue, found.clone()))).collect();
    runtime.block_on(SystemClock.sleep(LOOK));
    for task in tasks {
        task.abort();
        let _ = runtime.block_on(task);
    }
    found
}

/// A shard's loop, as far as it is about time.
async fn shard(mut queue: Queue, found: Arc<Found>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    loop {
        while let Some(Reverse((due, _))) = queue.peek().filter(|Reverse((due, _))| *due <= clock.now().wall) {
            let late = u64::try_from(clock.now().wall.duration_since(*due).as_nanos()).unwrap_or(0);
            if let Some(Reverse((_, id))) = queue.pop() {
                if id.as_str().starts_with("burst") {
                    found.bursts.fetch_add(1, Relaxed);
                    found.last.fetch_max(late, Relaxed);
                }
                found.late.lock().expect("no task panicked").push(late);
            }
        }
        let now = clock.now().wall;
        let wait = queue.peek().map_or(LONGEST_SLEEP, |Reverse((due, _))| {
            Duration::try_from(due.duration_since(now)).unwrap_or(Duration::from_millis(1)).min(LONGEST_SLEEP)
        });
        clock.sleep(wait).await;
    }
}

/// CPU time of this process, in nanoseconds.
fn cpu() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec.unsigned_abs() * 1_000_000_000 + spent.tv_nsec.unsigned_abs()
}
