//! What a person sees: a live table on a terminal, lines with the time elsewhere. No secret comes this way: names,
//! states, generations and counts alone.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::SignedDuration;

use super::{
    cast::CAST,
    crowd::{self, Tally},
    sinks::Inbox,
    stage::Stage,
};
use crate::{
    clock::{Clock, Now},
    lifecycle::State,
    metrics::Metrics,
    publish::Subscriber,
};

/// Between two pictures.
const PICTURE: Duration = Duration::from_millis(200);

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What the script does.
    Step,
    /// Daily business.
    Plain,
    /// Something went well.
    Good,
    /// Something is not as it should be.
    Warn,
    /// Something is bad.
    Bad,
}

/// What the live table is drawn from.
pub struct Looks {
    /// What is published.
    pub subscriber: Subscriber,
    /// What the crowd counts.
    pub tally: Arc<Tally>,
    /// What was paged.
    pub inbox: Arc<Inbox>,
    /// Our own counts.
    pub metrics: Metrics,
}

/// Where everything is told.
pub struct View {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// When the demo began.
    pub began: Now,
    screen: Option<Screen>,
}

struct Screen {
    all: MultiProgress,
    rows: Vec<ProgressBar>,
    counts: ProgressBar,
    colours: bool,
    gone: AtomicBool,
}

impl View {
    /// Live on a terminal, plain lines elsewhere.
    pub fn new(clock: Arc<dyn Clock>, live: bool) -> Arc<Self> {
        let began = clock.now();
        Arc::new(Self { clock, began, screen: live.then(Screen::new) })
    }

    /// What this is, and what to try meanwhile.
    pub fn introduce(&self, stage: &Stage, length: Duration) {
        let time = if length.is_zero() { "until Ctrl-C".to_owned() } else { format!("{} s", length.as_secs()) };
        let me = std::env::args().next().unwrap_or_else(|| "credd".into());
        let (socket, health) = (stage.socket().display(), stage.health_url());
        let base = health.trim_end_matches("/health");
        self.write(&format!(
            "credd demo, {time}: {} credentials of a provider that misbehaves on purpose, {} readers on the socket.\n\
             Everything is on loopback and in {}, which goes at the end.\n\n\
             Try meanwhile:\n  \
             {me} --socket {socket} status --watch\n  \
             curl -i {health}\n  \
             curl -s {base}/metrics | grep credd_credential_generation\n  \
             curl --unix-socket {socket} http://credd/v1/credentials\n  \
             curl -s --unix-socket {socket} -o /dev/null -w '%{{http_code}}\\n' http://credd/v1/tokens/crm\n  \
             curl -s {}/admin/counters\n",
            CAST.len(),
            crowd::size(),
            stage.folder().display(),
            stage.sandbox.admin_url,
        ));
    }

    /// Text as it is.
    pub fn write(&self, text: &str) {
        // Whoever closes the pipe has seen enough.
        let _ = match &self.screen {
            Some(screen) if !screen.gone.load(Relaxed) => screen.all.println(text),
            _ => writeln!(std::io::stdout(), "{text}"),
        };
    }

    /// A step of the script.
    pub fn say(&self, text: &str) {
        self.tell(Tone::Step, text);
    }

    /// Something went well.
    pub fn good(&self, text: &str) {
        self.tell(Tone::Good, text);
    }

    /// Something is bad.
    pub fn bad(&self, text: &str) {
        self.tell(Tone::Bad, text);
    }

    /// A line, with the date's time and the time since the beginning.
    pub fn tell(&self, tone: Tone, text: &str) {
        let now = self.clock.now();
        let passed = now.boot.saturating_sub(self.began.boot).as_secs_f64();
        let colours = self.screen.as_ref().is_some_and(|screen| screen.colours);
        let style = if colours { tone.style() } else { Style::new() };
        let mark = if tone == Tone::Step { "▶ " } else { "  " };
        // Who watches knows the day; who reads it in a file does not.
        let date = match &self.screen {
            Some(_) => now.wall.strftime("%H:%M:%SZ").to_string(),
            None => format!("{:.0}", now.wall),
        };
        self.write(&format!("{date} {passed:+6.1}s {style}{mark}{text}{style:#}"));
    }

    /// Draws the table until it is stopped.
    pub async fn draw(self: Arc<Self>, looks: Looks) {
        let Some(screen) = &self.screen else { return };
        loop {
            screen.show(&looks, self.clock.now());
            self.clock.sleep(PICTURE).await;
        }
    }

    /// Takes the table away; what is written from here on stands below all the rest.
    pub fn end(&self) {
        if let Some(screen) = &self.screen
            && screen.all.clear().is_ok()
        {
            screen.gone.store(true, Relaxed);
        }
    }
}

impl Screen {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10));
        let line = |template: &str| {
            let style = ProgressStyle::with_template(template).expect("the template is ours");
            let style = style.progress_chars("━━─");
            all.add(ProgressBar::new(1).with_style(style))
        };
        line("{msg}").finish_with_message("");
        let rows = CAST.iter().map(|role| line("  {prefix:10}{bar:24} {msg}").with_prefix(role.name)).collect();
        let counts = line("\n  {msg}");
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { all, rows, counts, colours, gone: AtomicBool::new(false) }
    }

    fn show(&self, looks: &Looks, now: Now) {
        for (role, row) in CAST.iter().zip(&self.rows) {
            let Some(slot) = looks.subscriber.get(role.name) else { continue };
            let edition = slot.current();
            let (view, state) = (&edition.view, edition.state(now));
            let time = view.left(now.wall).filter(|left| *left > SignedDuration::ZERO && edition.has_token());
            let life = view.issued_at.zip(view.expires_at).map(|(from, to)| to.duration_since(from));
            let part = |time: SignedDuration| u64::try_from(time.as_millis()).unwrap_or(0);
            // A value without an end has all of its time left; one that is gone has none.
            let (position, length) = match (time, life) {
                (Some(time), Some(life)) => (part(time), part(life).max(1)),
                _ => (u64::from(edition.has_token() && view.expires_at.is_none()), 1),
            };
            row.set_length(length);
            row.set_position(position);
            let style = if self.colours { colour(state) } else { Style::new() };
            row.set_message(format!(
                "{:>7}  {style}{:15}{style:#} generation {}",
                time.map(left).unwrap_or_else(|| if edition.has_token() { "no end".into() } else { "none".into() }),
                state.as_str(),
                view.generation
            ));
        }
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let refreshes: u64 = CAST
            .iter()
            .map(|role| looks.metrics.credd_rotations_total.with_label_values(&[role.name, "refresh"]).get())
            .sum();
        self.counts.set_message(format!(
            "reads {} · failed {} · pushed {} · refreshes {refreshes} · pages and resolves {}",
            count(&looks.tally.good),
            count(&looks.tally.failed),
            count(&looks.tally.pushed),
            looks.inbox.len(),
        ));
    }
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Step => Style::new().bold(),
            Self::Plain => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

fn colour(state: State) -> Style {
    match state {
        State::Fresh | State::RefreshDue | State::Refreshing => AnsiColor::Green.on_default(),
        State::Uninitialised | State::Expired | State::Revoked => AnsiColor::Red.on_default(),
        _ => AnsiColor::Yellow.on_default(),
    }
}

/// "8.4 s", "12 s", "9 min".
pub fn left(time: SignedDuration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        seconds if seconds < 180.0 => format!("{seconds:.0} s"),
        seconds => format!("{:.0} min", seconds / 60.0),
    }
}
