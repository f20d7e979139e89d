//! What the sandbox does with a refresh token that was used, and the dice it throws.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// What becomes of a refresh token once it was used. As text: `none`, `grace(30)`, `until_first_use`, `strict`,
/// `strict_kill_family`, `sporadic(0.04)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Profile {
    /// It stays the same.
    None,
    /// A new one each time; the old one works for this long after its first use.
    Grace(Duration),
    /// A new one each time; the old one works until a token that it bought is used, at the token endpoint or the API.
    UntilFirstUse,
    /// A new one each time; the old one is refused, and nothing else happens.
    #[default]
    Strict,
    /// A new one each time; presenting the old one kills the grant with all its tokens (RFC 9700 §4.14.2).
    StrictKillFamily,
    /// A new one with this probability; the old one works for 24 hours.
    Sporadic(f64),
}

/// A text that names no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rotation profile: none, grace(SECONDS), until_first_use, strict, strict_kill_family, sporadic(PROBABILITY)"
)]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;
    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        let unknown = || UnknownProfile(text.chars().take(80).collect());
        let (name, number) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((name, number)) => (name, Some(number.parse::<f64>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, number) {
            ("none", None) => Ok(Self::None),
            ("until_first_use", None) => Ok(Self::UntilFirstUse),
            ("strict", None) => Ok(Self::Strict),
            ("strict_kill_family", None) => Ok(Self::StrictKillFamily),
            ("grace", Some(seconds)) => Duration::try_from_secs_f64(seconds).map(Self::Grace).map_err(|_| unknown()),
            ("sporadic", Some(p)) if (0.0..=1.0).contains(&p) => Ok(Self::Sporadic(p)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Grace(time) => write!(f, "grace({})", time.as_secs_f64()),
            Self::UntilFirstUse => f.write_str("until_first_use"),
            Self::Strict => f.write_str("strict"),
            Self::StrictKillFamily => f.write_str("strict_kill_family"),
            Self::Sporadic(p) => write!(f, "sporadic({p})"),
        }
    }
}

impl TryFrom<String> for Profile {
    type Error = UnknownProfile;
    fn try_from(text: String) -> Result<Self, UnknownProfile> {
        text.parse()
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.to_string()
    }
}

/// Reproducible chance (SplitMix64): the same seed and the same order of calls give the same misbehaviour.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly spread in `[0, 1)`.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_spelt_as_they_are_read() {
        for text in
            ["none", "grace(30)", "grace(0.5)", "until_first_use", "strict", "strict_kill_family", "sporadic(0.04)"]
        {
            assert_eq!(text.parse::<Profile>().unwrap().to_string(), text);
        }
        for text in ["", "grace", "grace(-1)", "grace(x)", "sporadic(2)", "strict(1)", "lenient"] {
            assert!(text.parse::<Profile>().is_err(), "{text}");
        }
    }

    #[test]
    fn dice_are_fair_and_reproducible() {
        let throw = |seed| {
            let mut dice = Dice::new(seed);
            (0..10_000).map(|_| dice.fraction()).collect::<Vec<_>>()
        };
        let values = throw(7);
        assert_eq!(values, throw(7));
        assert_ne!(values, throw(8));
        let mean = values.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
    }
}
