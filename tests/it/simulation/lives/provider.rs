//! A model of the upstream: what it does with refresh tokens, by rotation profile.

use credd::credential::{Kind, Rotation};

use super::Dice;

/// What the token endpoint says.
pub enum Answer {
    /// A new token.
    Token(Token),
    /// The grant is dead.
    Dead,
}

/// A pair as the provider made it.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub family: u32,
    pub refresh: u32,
    pub life_ms: u64,
    /// The answer's lifetime was malformed.
    pub malformed: bool,
}

pub struct Provider {
    kind: Kind,
    rotation: Rotation,
    /// Which consent; a new one replaces the old family.
    pub family: u32,
    minted: u32,
    /// Refresh tokens that work, and until when.
    alive: Vec<(u32, u64)>,
    pub dead: bool,
    /// Calls that are being answered now.
    pub busy: u32,
    /// Adversities since a committed reply that nobody has seen.
    pub unseen: Option<u32>,
    /// A consumed token of a strict family was presented.
    pub reused: bool,
    pub life_ms: u64,
    dice: Dice,
}

impl Provider {
    pub fn new(kind: Kind, rotation: Rotation, dice: &mut Dice) -> Self {
        let life_ms = [300, 900, 3_600, 3_600, 3_600, 28_800, 28_800, 28_800]
            [usize::try_from(dice.between(0, 8)).unwrap()]
            * 1_000;
        let mut new = Self {
            kind,
            rotation,
            family: 0,
            minted: 0,
            alive: vec![],
            dead: true,
            busy: 0,
            unseen: None,
            reused: false,
            life_ms,
            dice: Dice::new(dice.next()),
        };
        new.consent();
        new
    }

    /// A person signs in again.
    pub fn consent(&mut self) -> Token {
        self.family += 1;
        self.minted += 1;
        self.alive = vec![(self.minted, u64::MAX)];
        (self.dead, self.unseen) = (false, None);
        Token { family: self.family, refresh: self.minted, life_ms: self.life_ms, malformed: false }
    }

    pub fn exchange(&mut self, presented: Token, now: u64, malformed: bool) -> Answer {
        if self.dead || presented.family != self.family {
            return Answer::Dead;
        }
        if self.kind.spends_grant()
            && !self.alive.iter().any(|(token, until)| *token == presented.refresh && *until >= now)
        {
            // Reuse detection: the whole family dies.
            (self.dead, self.reused) = (true, true);
            return Answer::Dead;
        }
        let old = presented.refresh;
        // One in 24 answers brings a new one, as of a provider that rotates once a day for a token of an hour.
        let now_and_then = self.rotation == Rotation::Sporadic && !self.dice.chance(1.0 / 24.0);
        let refresh = if !self.kind.spends_grant() || self.rotation == Rotation::None || now_and_then {
            if now_and_then { self.minted } else { old }
        } else {
            self.minted += 1;
            match self.rotation {
                Rotation::Grace => {
                    self.alive.retain(|(_, until)| *until >= now);
                    for (token, until) in &mut self.alive {
                        if *token == old {
                            *until = (*until).min(now + 30_000);
                        }
                    }
                }
                Rotation::Sporadic => {
                    self.alive.retain(|(_, until)| *until >= now);
                    for (token, until) in &mut self.alive {
                        if *token == old {
                            *until = (*until).min(now + 24 * 3_600_000);
                        }
                    }
                }
                Rotation::UntilFirstUse => self.alive.retain(|(token, _)| *token == old),
                _ => self.alive.clear(),
            }
            self.alive.push((self.minted, u64::MAX));
            self.minted
        };
        let life_ms = if malformed { 60_000 } else { self.life_ms };
        Answer::Token(Token { family: self.family, refresh, life_ms, malformed })
    }
}
