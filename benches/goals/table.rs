//! What is printed at the end, and how many rounds become one figure.

use std::fmt;

/// One line of the table.
pub struct Row {
    /// Of the list of goals.
    pub goal: &'static str,
    /// What was measured.
    pub what: String,
    /// Ours: the median of the rounds.
    pub measured: String,
    /// What it is held against, measured in the same rounds; or nothing.
    pub limit: String,
    /// Ours to the limit, where both are of one kind.
    pub ratio: String,
    /// What was promised.
    pub promised: String,
    /// Whether it was kept.
    pub met: bool,
}

/// All lines, in the order in which they were measured.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a line, and shows it at once.
    pub fn add(&mut self, row: Row) {
        eprintln!("  {row}");
        self.0.push(row);
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { goal, what, measured, limit, ratio, promised, met } = self;
        let met = if *met { "yes" } else { "**no**" };
        write!(f, "| {goal} | {what} | {measured} | {limit} | {ratio} | {promised} | {met} |")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| goal | what | measured | bare limit | ratio | promised | met |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// The middle one; of an even number, the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which that part of them lies; they need not be in order.
pub fn quantile(values: &mut [u64], part: f64) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_unstable();
    let last = values.len() - 1;
    values[((last as f64) * part).round() as usize] as f64
}

/// 123456 as `123,456`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in the unit that suits them.
pub fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        small if small < 99_500.0 => format!("{:.1} µs", small / 1e3),
        middle if middle < 1e6 => format!("{:.0} µs", middle / 1e3),
        large if large < 1e8 => format!("{:.2} ms", large / 1e6),
        huge => format!("{:.0} ms", huge / 1e6),
    }
}
