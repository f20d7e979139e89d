//! The goals that can be measured on one machine, each beside its limit in the same run: `cargo bench`.
//!
//! Without arguments all goals are measured; names choose some (`cargo bench -- 1 2 classify`). The table that is printed is
//! Markdown. Servers and crowds are processes of their own: this program starts itself again with a role.

mod classify;
mod commit;
mod crowd;
mod daemon;
mod expired;
mod load;
mod paced;
mod process;
mod publishing;
mod reads;
mod schedule;
mod serve;
mod start;
mod table;
mod watchers;
mod year;

/// The tests' own.
#[path = "../../tests/it/simulation/lives/mod.rs"]
mod lives;

use table::Table;

/// The goals that it answers, and how.
type Measurement = (&'static [&'static str], fn(&mut Table));

const MEASUREMENTS: &[Measurement] = &[
    (&["1", "2"], reads::measure),
    (&["4"], paced::measure),
    (&["5", "6"], expired::measure),
    (&["7"], watchers::measure),
    (&["10"], schedule::measure),
    (&["11"], start::measure),
    (&["13"], commit::measure),
    (&["classify"], classify::measure),
    (&["year"], year::measure),
];

fn main() {
    process::open_more_files();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(role) = arguments.first().and_then(|first| first.strip_prefix("--role=")) {
        return play(role, &arguments[1..]);
    }
    let chosen = |goals: &[&str]| arguments.is_empty() || arguments.iter().any(|wish| goals.contains(&wish.as_str()));
    let mut table = Table::default();
    for (goals, measure) in MEASUREMENTS {
        if chosen(goals) {
            eprintln!("measuring goal {} …", goals.join(", "));
            measure(&mut table);
        }
    }
    println!("{table}");
}

/// What a child process does.
fn play(role: &str, arguments: &[String]) {
    let argument = |place: usize| arguments.get(place).map(String::as_str).unwrap_or_default();
    let number = |place: usize| argument(place).parse().expect("a number");
    match role {
        "credd" => serve::credd(argument(0), argument(1), number(2)),
        "bare" => serve::bare(argument(0), argument(1)),
        "bare-watch" => serve::bare_watch(argument(0)),
        "crowd" => crowd::readers(argument(0), argument(1), number(2)),
        "watchers" => crowd::watchers(argument(0), argument(1), number(2)),
        "queue" => schedule::queue(number(0)),
        other => panic!("there is no role {other:?}"),
    }
}
