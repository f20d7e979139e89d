//! Who appears: the credentials of the demo, and the settings that a person would write for them.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{
    credential::Secret,
    sandbox::{NewGrant, NewKey, Profile, Running},
};

/// What a role is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is renewed ahead of its end, again and again.
    Short,
    /// Its provider says 429.
    Limited,
    /// A reader's call with it is refused.
    Refused,
    /// Its grant is revoked, and a person brings a new one.
    Revoked,
    /// A static key: probed, never refreshed.
    Key,
}

/// One credential of the demo.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub part: Part,
    /// Its provider's file, which says what becomes of a used refresh token.
    provider: &'static str,
    profile: Profile,
    /// How long its access tokens live, in seconds.
    ttl: u64,
}

const GRACE: Duration = Duration::from_secs(30);

/// All of them.
pub const CAST: [Role; 8] = [
    role("crm", Part::Short, "strict", Profile::StrictKillFamily, 20),
    role("mail", Part::Short, "grace", Profile::Grace(GRACE), 20),
    role("calendar", Part::Short, "until_first_use", Profile::UntilFirstUse, 24),
    role("search", Part::Short, "strict", Profile::Strict, 12),
    role("billing", Part::Limited, "strict", Profile::Strict, 20),
    role("support", Part::Refused, "strict", Profile::Strict, 600),
    role("payroll", Part::Revoked, "strict", Profile::Strict, 600),
    role("maps", Part::Key, "rfc6749", Profile::None, 0),
];

const fn role(name: &'static str, part: Part, provider: &'static str, profile: Profile, ttl: u64) -> Role {
    Role { name, part, provider, profile, ttl }
}

/// The one that plays this part.
pub fn who(part: Part) -> &'static str {
    CAST.iter().find(|role| role.part == part).map_or("", |role| role.name)
}

impl Role {
    /// Has the sandbox grant it anew: what the sandbox calls it, and the document for its home store.
    pub fn grant(&self, sandbox: &Running) -> (String, Secret) {
        if self.part == Part::Key {
            return sandbox.admin().key(&NewKey::default());
        }
        let terms =
            NewGrant { profile: self.profile, access_ttl: Duration::from_secs(self.ttl), ..NewGrant::default() };
        let seed = sandbox.admin().grant(terms);
        (seed.id.clone(), seed.document())
    }
}

/// The providers' own files: what a sandbox does, told in the catalogue's words.
pub const PROVIDERS: [(&str, &str); 3] = [
    ("strict", "title = \"Strict rotation\"\nextends = \"rfc6749\"\n\n[rotation]\nprofile = \"strict\"\n"),
    ("grace", "title = \"Grace of 30 s\"\nextends = \"rfc6749\"\n\n[rotation]\nprofile = \"grace\"\ngrace = \"30s\"\n"),
    (
        "until_first_use",
        "title = \"Until first use\"\nextends = \"rfc6749\"\n\n[rotation]\nprofile = \"until_first_use\"\n",
    ),
];

/// Where the rest of the demo listens.
pub struct Addresses<'a> {
    /// The sandbox's token endpoint.
    pub token_endpoint: &'a str,
    /// Its API.
    pub probe_url: &'a str,
    /// Port of the SMTP receiver.
    pub smtp: u16,
    /// URL of the webhook receiver.
    pub webhook: &'a str,
    /// File of the webhook's signing secret.
    pub webhook_secret: &'a Path,
}

/// The settings file.
pub fn settings(addresses: &Addresses<'_>) -> String {
    let Addresses { token_endpoint, probe_url, smtp, webhook, webhook_secret } = addresses;
    let mut text = format!(
        r#"# Written by `credd demo`; it goes with the folder when the demo ends.
providers = "providers"

[server]
health = "127.0.0.1:0"
socket = "run/credd.sock"

[ledger]
path = "state/ledger.db"

[policies.default]
probe = "*/2 * * * * *"
ttl_fail = "1s"

[pager.channels.mail]
kind = "email"
host = "127.0.0.1"
port = {smtp}
tls = "none"
from = "credd <credd@demo.invalid>"
to = ["on-call@demo.invalid"]

[pager.channels.hook]
kind = "webhook"
url = "{webhook}"
secrets = [{{ file = "{}" }}]
"#,
        webhook_secret.display()
    );
    for Role { name, part, provider, .. } in CAST {
        let (kind, endpoint) = match part {
            Part::Key => ("api_key", String::new()),
            _ => ("refresh_token", format!("token_endpoint = \"{token_endpoint}\"\n")),
        };
        let _ = write!(
            text,
            "\n[credentials.{name}]\nprovider = \"{provider}\"\nkind = \"{kind}\"\n[credentials.{name}.upstream]\n\
             {endpoint}probe_url = \"{probe_url}\"\n"
        );
    }
    text
}
