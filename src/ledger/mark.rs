//! The high-water mark: how far each grant had come, in a file of its own beside the ledger (RF-49).
//!
//! A ledger that is put back from a backup does not know that it is old. This file, which such a restore leaves alone,
//! does: a generation that is lower than the mark was overtaken, and its refresh token is spent. A line is
//! `["NAME",GENERATION,"GRANT","FINGERPRINT"]`. The last one of a name counts, and those before tell what was spent.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{LedgerError, Rotation, place};
use crate::credential::{CredentialId, Fingerprint, Generation};

/// Fewer lines than this are never too many; more are written anew when half of them say nothing any more.
const FEW_LINES: usize = 4096;

/// Spent tokens of one name that are remembered.
const MOST_SPENT: usize = 16;

/// How far a credential had come, whatever the ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The highest generation that was ever durable.
    pub generation: Generation,
    /// Of which grant, as our markers in home stores name it.
    pub grant: Option<String>,
    /// The token of that generation, and before it those that were spent, the oldest first.
    tokens: VecDeque<Fingerprint>,
}

/// One line: name, generation, grant, fingerprint.
type Line = (String, Generation, Option<String>, Option<Fingerprint>);

impl Reached {
    /// Whether this token has a successor.
    pub fn has_spent(&self, token: &Fingerprint) -> bool {
        self.tokens.iter().rev().skip(1).any(|spent| spent == token) && self.tokens.back() != Some(token)
    }

    fn moves(&mut self, (_, generation, grant, token): Line) {
        (self.generation, self.grant) = (generation, grant);
        if token.is_some() && self.tokens.back() != token.as_ref() {
            self.tokens.extend(token);
            self.tokens.drain(..self.tokens.len().saturating_sub(MOST_SPENT + 1));
        }
    }

    fn lines<'m>(&'m self, name: &'m str) -> impl Iterator<Item = Line> + 'm {
        let tokens = self.tokens.iter().map(Some).chain(self.tokens.is_empty().then_some(None));
        tokens.map(|token| (name.to_owned(), self.generation, self.grant.clone(), token.cloned()))
    }
}

/// The marks of one ledger; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    reached: BTreeMap<String, Reached>,
    lines: usize,
    file: Option<File>,
}

impl Marks {
    /// Reads what is there. A last line that was cut off by a power loss is no line.
    pub(super) fn open(path: PathBuf) -> Result<Self, LedgerError> {
        let text = match fs::read(&path) {
            Ok(text) => {
                place::check_owner(&path, 0o077, "0600")?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(LedgerError::Unusable(format!(
                    "{} cannot be read: {error}; it tells a restored ledger from the newest one, so mend its rights",
                    path.display()
                )));
            }
        };
        let mut state = State::default();
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            state.lines += 1;
            match serde_json::from_slice::<Line>(line) {
                Ok(line) => state.reached.entry(line.0.clone()).or_default().moves(line),
                Err(_) => {
                    tracing::warn!(file = %path.display(), line = state.lines, "a line of the marks is not readable")
                }
            }
        }
        if !text.is_empty() && !text.ends_with(b"\n") {
            // The next line must not run into what was cut off.
            state.lines = usize::MAX;
        }
        Ok(Self { path, state: Arc::new(Mutex::new(state)) })
    }

    fn reached(&self, id: &CredentialId) -> Option<Reached> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reached.get(id.as_str()).cloned()
    }

    fn spent_by_another(&self, id: &CredentialId, token: &Fingerprint) -> Option<CredentialId> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut others = state.reached.iter().filter(|(name, _)| name.as_str() != id.as_str());
        others.find(|(_, mark)| mark.has_spent(token)).and_then(|(name, _)| CredentialId::new(name).ok())
    }

    /// Not synced: after a power loss the mark may lag behind, which costs protection and never makes a false alarm.
    fn set(&self, mark: Line) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = text(&mark)?;
        state.reached.entry(mark.0.clone()).or_default().moves(mark);
        if state.lines > FEW_LINES.max(2 * (MOST_SPENT + 1) * state.reached.len()) {
            return self.write_anew(&mut state);
        }
        if state.file.is_none() {
            state.file = Some(options().append(true).create(true).open(&self.path)?);
        }
        let written = state.file.as_mut().map_or(Ok(()), |file| file.write_all(&line));
        state.lines = state.lines.saturating_add(1);
        if written.is_err() {
            // What was cut off must not run into the next line.
            state.lines = usize::MAX;
            state.file = None;
        }
        written
    }

    fn write_anew(&self, state: &mut State) -> io::Result<()> {
        let fresh = place::beside(&self.path, ".new");
        let lines = state.reached.iter().flat_map(|(name, mark)| mark.lines(name)).map(|line| text(&line));
        let lines = lines.collect::<io::Result<Vec<_>>>()?;
        options().write(true).create(true).truncate(true).open(&fresh)?.write_all(&lines.concat())?;
        fs::rename(&fresh, &self.path)?;
        (state.lines, state.file) = (lines.len(), None);
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn text(line: &Line) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    Ok(line)
}

/// The file of a ledger's marks.
pub(super) fn beside(ledger: &Path) -> PathBuf {
    place::beside(ledger, ".reached")
}

impl Rotation<'_> {
    /// How far a credential had come, as the file beside the ledger knows it.
    pub fn reached(&self, id: &CredentialId) -> Option<Reached> {
        self.0.marks().reached(id)
    }

    /// Which other credential has had this token, and another after it: presenting it would look like a theft.
    pub fn spent_by_another(&self, id: &CredentialId, token: &Fingerprint) -> Option<CredentialId> {
        self.0.marks().spent_by_another(id, token)
    }

    /// A credential has come so far. A lower generation than the mark's changes nothing.
    pub(super) async fn has_reached(
        &self,
        id: &CredentialId,
        generation: Generation,
        grant: Option<String>,
        token: Fingerprint,
    ) {
        if self.reached(id).is_none_or(|known| known.generation < generation) {
            self.set_mark((id.to_string(), generation, grant, Some(token))).await;
        }
    }

    /// Puts a mark back to where the ledger stands: a person vouches for what it holds.
    pub async fn vouch(&self, id: &CredentialId, generation: Generation) {
        let grant = self.reached(id).and_then(|mark| mark.grant);
        self.set_mark((id.to_string(), generation, grant, None)).await;
    }

    async fn set_mark(&self, mark: Line) {
        let marks = self.0.marks().clone();
        let path = marks.path.clone();
        let done = tokio::task::spawn_blocking(move || marks.set(mark)).await;
        if let Err(error) = done.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(file = %path.display(), %error, "the mark of how far a credential has come was not written: a restored ledger would not be noticed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rf49_marks_survive_a_cut_off_line_and_are_written_anew_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db.reached");
        let id = CredentialId::new("bot").unwrap();
        let token = |number: i64| Fingerprint::from_ledger(format!("token-{number}"));
        let line = |number| ("bot".to_owned(), Generation(number), Some("g \"1\"".to_owned()), Some(token(number)));
        let marks = Marks::open(path.clone()).unwrap();
        assert_eq!(marks.reached(&id), None);
        for number in 1..=5000 {
            marks.set(line(number)).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 5000 * 20, "it does not grow for ever");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"[\"bot\",9").unwrap();
        let again = Marks::open(path.clone()).unwrap();
        let mark = again.reached(&id).unwrap();
        assert_eq!((mark.generation, mark.grant.as_deref()), (Generation(5000), Some("g \"1\"")));
        assert!(mark.has_spent(&token(4999)) && !mark.has_spent(&token(5000)) && !mark.has_spent(&token(7)));
        again.set(line(5001)).unwrap();
        let mark = Marks::open(path).unwrap().reached(&id).unwrap();
        assert_eq!(mark.generation, Generation(5001));
        assert!(mark.has_spent(&token(5000)));
    }
}
