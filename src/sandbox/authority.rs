//! What the sandbox's provider knows: clients, grants, tokens, keys. It acts at once; time is an argument.

use std::{collections::HashMap, time::Duration};

use super::{
    profile::{Dice, Profile},
    terms::{Client, NewGrant, NewKey},
};
use crate::clock::Now;

/// How long the old refresh token of a [`Profile::Sporadic`] grant goes on working.
const SPORADIC_OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Why something presented is no good; the word of the log.
pub(super) type Refused = &'static str;

/// What the token endpoint gives.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) grant: String,
    pub(super) access_token: String,
    pub(super) access: u64,
    /// It is not one that was handed out before.
    pub(super) fresh: bool,
    pub(super) lifetime: Duration,
    pub(super) scope: String,
    /// With its generation, where the grant has one.
    pub(super) refresh_token: Option<(String, u64)>,
    pub(super) rotated: bool,
    /// A token was presented that had been used before.
    pub(super) reuse: bool,
}

/// What stands behind a token or key that the API took.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) grant: String,
    pub(super) access: Option<u64>,
    pub(super) scope: String,
    pub(super) ends: Option<Duration>,
    pub(super) expiry_header: bool,
}

#[derive(Debug)]
struct Grant {
    id: String,
    terms: NewGrant,
    refresh: Vec<Refresh>,
    access_minted: u64,
    /// Access tokens up to this number were killed with the grant.
    access_killed: u64,
    last_access: Option<(String, Duration)>,
    revoked: bool,
    ends: Option<Duration>,
}

impl Grant {
    fn kill(&mut self) {
        self.revoked = true;
        self.last_access = None;
        self.access_killed = self.access_minted;
    }
}

#[derive(Debug)]
struct Refresh {
    text: String,
    spent: Option<Duration>,
    dead: bool,
    parent: Option<usize>,
    ends: Option<Duration>,
}

#[derive(Debug)]
enum Token {
    Refresh {
        grant: usize,
        index: usize,
    },
    Access {
        grant: usize,
        number: u64,
        bought: Option<usize>,
        scope: String,
        begins: Duration,
        ends: Duration,
        revoked: bool,
    },
    Key {
        id: String,
        ends: Option<Duration>,
        expiry_header: bool,
        revoked: bool,
    },
}

/// All that was ever granted. Grants are found by their place; `client:ID` are those of the clients themselves.
#[derive(Debug, Default)]
pub(super) struct Authority {
    pub(super) clients: HashMap<String, Client>,
    grants: Vec<Grant>,
    granted: u64,
    names: HashMap<String, usize>,
    tokens: HashMap<String, Token>,
    keys: HashMap<String, String>,
}

impl Authority {
    /// A grant with its first pair of tokens.
    pub(super) fn grant(&mut self, terms: NewGrant, now: Now) -> (String, Minted) {
        self.granted += 1;
        let id = format!("grant-{}", self.granted);
        self.make_room(&terms.client);
        let grant = self.add(id.clone(), terms, now);
        let index = self.mint_refresh(grant, None, now);
        (id, self.answer(grant, Some(index), true, false, now))
    }

    /// Kills the oldest living grants of a client that has as many as it may.
    fn make_room(&mut self, client: &str) {
        let Some(max) = self.clients.get(client).and_then(|client| client.max_grants) else { return };
        let living: Vec<usize> = (0..self.grants.len())
            .filter(|at| {
                let grant = &self.grants[*at];
                grant.terms.client == client && !grant.revoked && !grant.refresh.is_empty()
            })
            .collect();
        for at in living.iter().take((living.len() + 1).saturating_sub(max)) {
            self.grants[*at].kill();
        }
    }

    fn add(&mut self, id: String, terms: NewGrant, now: Now) -> usize {
        let ends = terms.grant_ttl.map(|ttl| now.boot + ttl);
        let grant = self.grants.len();
        self.names.insert(id.clone(), grant);
        self.grants.push(Grant {
            id,
            terms,
            refresh: Vec::new(),
            access_minted: 0,
            access_killed: 0,
            last_access: None,
            revoked: false,
            ends,
        });
        grant
    }

    /// The grant and the generation of a refresh token, whatever its standing.
    pub(super) fn find(&self, token: &str) -> Option<(&str, u64)> {
        match self.tokens.get(token)? {
            Token::Refresh { grant, index } => Some((&self.grants[*grant].id, *index as u64 + 1)),
            _ => None,
        }
    }

    /// A refresh (RFC 6749 §6). With `keep` the old refresh token is not replaced this time.
    /// Whether that scope names anything that the grant of a refresh token does not hold.
    pub(super) fn exceeds(&self, token: &str, scope: &str) -> bool {
        let Some(Token::Refresh { grant, .. }) = self.tokens.get(token) else { return false };
        let granted: Vec<&str> = self.grants[*grant].terms.scope.split(' ').collect();
        scope.split_whitespace().any(|word| !granted.contains(&word))
    }

    pub(super) fn refresh(
        &mut self,
        client: &str,
        token: &str,
        keep: bool,
        now: Now,
        dice: &mut Dice,
    ) -> Result<Minted, (Refused, bool)> {
        let Some(Token::Refresh { grant, index }) = self.tokens.get(token) else {
            return Err(("unknown_token", false));
        };
        let (grant, index) = (*grant, *index);
        let it = &mut self.grants[grant];
        if it.terms.client != client {
            return Err(("wrong_client", false));
        }
        if it.revoked {
            return Err(("revoked", it.refresh[index].spent.is_some()));
        }
        let profile = it.terms.profile;
        let presented = &mut it.refresh[index];
        let over = |ends: Option<Duration>| ends.is_some_and(|ends| now.boot >= ends);
        if over(it.ends) || over(presented.ends) {
            return Err(("expired", presented.spent.is_some()));
        }
        let since = presented.spent.map(|spent| now.boot.saturating_sub(spent));
        let reuse = since.is_some();
        let good = match profile {
            Profile::None => true,
            Profile::Grace(time) => since.is_none_or(|since| since <= time),
            Profile::UntilFirstUse => !presented.dead,
            Profile::Strict | Profile::StrictKillFamily => !reuse,
            Profile::Sporadic(_) => since.is_none_or(|since| since <= SPORADIC_OVERLAP),
        };
        if !good {
            if profile == Profile::StrictKillFamily {
                it.kill();
                return Err(("reuse_killed_family", true));
            }
            return Err(("reuse", true));
        }
        self.used(grant, Some(index));
        let latest = self.grants[grant].refresh.len() - 1;
        let rotate = match profile {
            Profile::None => false,
            Profile::Sporadic(p) => !reuse && !keep && dice.fraction() < p,
            _ => !keep,
        };
        let index = match (rotate, reuse) {
            (true, _) => {
                self.grants[grant].refresh[index].spent.get_or_insert(now.boot);
                self.mint_refresh(grant, Some(index), now)
            }
            (false, true) => latest,
            (false, false) => index,
        };
        Ok(self.answer(grant, Some(index), rotate, reuse, now))
    }

    /// An access token for a client itself.
    pub(super) fn issue(&mut self, client: &str, scope: &str, now: Now) -> Option<Minted> {
        let access_ttl = self.clients.get(client)?.access_ttl;
        let id = format!("client:{client}");
        let terms = NewGrant { client: client.into(), access_ttl, scope: scope.into(), ..NewGrant::default() };
        let grant = match self.names.get(&id) {
            Some(grant) => *grant,
            None => self.add(id, terms.clone(), now),
        };
        // A client may always ask again: what was killed stays dead, what comes now lives.
        self.grants[grant].terms = terms;
        self.grants[grant].revoked = false;
        Some(self.answer(grant, None, false, false, now))
    }

    /// A token that somebody uses proves that the pair has arrived: the token that bought it is dead for good.
    fn used(&mut self, grant: usize, index: Option<usize>) {
        let it = &mut self.grants[grant];
        if let Some(parent) = index.and_then(|index| it.refresh[index].parent) {
            it.refresh[parent].dead = true;
        }
    }

    fn mint_refresh(&mut self, grant: usize, parent: Option<usize>, now: Now) -> usize {
        let text = random("sbx_rt_");
        let it = &mut self.grants[grant];
        let index = it.refresh.len();
        let ends = it.terms.refresh_ttl.map(|ttl| now.boot + ttl);
        it.refresh.push(Refresh { text: text.clone(), spent: None, dead: false, parent, ends });
        self.tokens.insert(text, Token::Refresh { grant, index });
        index
    }

    fn answer(&mut self, grant: usize, index: Option<usize>, rotated: bool, reuse: bool, now: Now) -> Minted {
        let it = &mut self.grants[grant];
        if let Some(index) = index {
            // A use begins a refresh token's idle time anew.
            it.refresh[index].ends = it.terms.refresh_ttl.map(|ttl| now.boot + ttl);
        }
        let again = it.last_access.clone().filter(|(_, ends)| it.terms.same_access && *ends > now.boot);
        let fresh = again.is_none();
        let (access_token, ends) = again.unwrap_or_else(|| (random("sbx_at_"), now.boot + it.terms.access_ttl));
        if fresh {
            it.access_minted += 1;
            it.last_access = Some((access_token.clone(), ends));
            let (number, begins) = (it.access_minted, now.boot + it.terms.settling);
            let scope = it.terms.scope.clone();
            let token = Token::Access { grant, number, bought: index, scope, begins, ends, revoked: false };
            self.tokens.insert(access_token.clone(), token);
        }
        Minted {
            grant: it.id.clone(),
            access_token,
            access: it.access_minted,
            fresh,
            lifetime: ends.saturating_sub(now.boot),
            scope: it.terms.scope.clone(),
            refresh_token: index.map(|index| (it.refresh[index].text.clone(), index as u64 + 1)),
            rotated,
            reuse,
        }
    }

    /// What the API makes of a token or key. `look` leaves no trace (introspection).
    pub(super) fn present(&mut self, text: &str, look: bool, now: Now) -> Result<Holder, (Refused, Option<Holder>)> {
        let over = |ends: Option<Duration>| ends.is_some_and(|ends| now.boot >= ends);
        match self.tokens.get(text) {
            Some(Token::Access { grant, number, bought, scope, begins, ends, revoked }) => {
                let (grant, number, bought) = (*grant, *number, *bought);
                let (begins, ends, revoked) = (*begins, *ends, *revoked);
                let it = &self.grants[grant];
                let holder = Holder {
                    grant: it.id.clone(),
                    access: Some(number),
                    scope: scope.clone(),
                    ends: Some(ends),
                    expiry_header: it.terms.expiry_header,
                };
                if revoked || number <= it.access_killed || (it.terms.single_access && number < it.access_minted) {
                    return Err(("revoked", Some(holder)));
                }
                if over(Some(ends)) {
                    return Err(("expired", Some(holder)));
                }
                if now.boot < begins {
                    return Err(("settling", Some(holder)));
                }
                if !look {
                    self.used(grant, bought);
                }
                Ok(holder)
            }
            Some(Token::Key { id, ends, expiry_header, revoked }) => {
                let holder = Holder {
                    grant: id.clone(),
                    access: None,
                    scope: "read write".into(),
                    ends: *ends,
                    expiry_header: *expiry_header,
                };
                match (revoked, over(*ends)) {
                    (true, _) => Err(("revoked", Some(holder))),
                    (_, true) => Err(("expired", Some(holder))),
                    _ => Ok(holder),
                }
            }
            _ => Err(("unknown_token", None)),
        }
    }

    /// RFC 7009: a refresh token takes its grant along, an access token goes alone. Whether it was known.
    pub(super) fn revoke_token(&mut self, text: &str) -> bool {
        match self.tokens.get_mut(text) {
            Some(Token::Refresh { grant, .. }) => self.grants[*grant].kill(),
            Some(Token::Access { grant, revoked, .. }) => {
                *revoked = true;
                self.grants[*grant].last_access = None;
            }
            Some(Token::Key { revoked, .. }) => *revoked = true,
            None => return false,
        }
        true
    }

    /// Kills a grant or a key by its id. Whether there is one.
    pub(super) fn revoke(&mut self, id: &str) -> bool {
        if let Some(key) = self.keys.get(id).cloned() {
            return self.revoke_token(&key);
        }
        match self.names.get(id) {
            Some(grant) => self.grants[*grant].kill(),
            None => return false,
        }
        true
    }

    /// A static key, with its id.
    pub(super) fn key(&mut self, terms: &NewKey, now: Now) -> (String, String) {
        let (id, text) = (format!("key-{}", self.keys.len() + 1), random("sbx_key_"));
        let ends = terms.ttl.map(|ttl| now.boot + ttl);
        let token = Token::Key { id: id.clone(), ends, expiry_header: terms.expiry_header, revoked: false };
        self.tokens.insert(text.clone(), token);
        self.keys.insert(id.clone(), text.clone());
        (id, text)
    }

    /// Whether a refresh would be granted for this token now; nothing changes.
    pub(super) fn is_live(&self, token: &str, now: Now) -> bool {
        let Some(Token::Refresh { grant, index }) = self.tokens.get(token) else { return false };
        let it = &self.grants[*grant];
        let presented = &it.refresh[*index];
        let over = |ends: Option<Duration>| ends.is_some_and(|ends| now.boot >= ends);
        !it.revoked && !over(it.ends) && !over(presented.ends) && presented.spent.is_none()
    }
}

/// 192 random bits behind a prefix that secret scanners and people recognise.
fn random(prefix: &str) -> String {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes.iter().fold(prefix.to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
