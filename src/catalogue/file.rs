//! A provider's file: TOML in, a checked [`Provider`] or every problem at once out.

mod facts;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use toml::de::DeTable;

use super::{
    Assertion, ClientAuthentication, Consent, Probe, Provider, RateLimit, Rules, Surface, Token,
    problem::{Problem, did_you_mean},
    rule::{Example, Rule, Test, When},
    toml_reader::{Source, Table, each, scalar},
};
use crate::credential::{Failure, Kind, Reply, Rotation};

/// Kinds of credential as refusals name them.
pub const PRESENTED: [&str; 18] = [
    "oauth_access_token",
    "refresh_token",
    "api_key",
    "pat",
    "bot_token",
    "client_secret",
    "client_credentials",
    "password",
    "session_token",
    "sts_session",
    "service_account_jwt",
    "authorization_code",
    "device_code",
    "obo_assertion",
    "oidc_assertion",
    "signed_url",
    "sas_token",
    "signing_key",
];

/// The words for surfaces.
pub const SURFACES: [(&str, Surface); 5] = [
    ("api", Surface::Api),
    ("token_endpoint", Surface::TokenEndpoint),
    ("graphql", Surface::Graphql),
    ("probe", Surface::Probe),
    ("publish", Surface::Publish),
];

/// Which file this one extends, as far as that can be read.
pub fn extends(text: &str) -> Option<String> {
    top(text, "extends").into_iter().next()
}

/// Other names under which the same service's replies are known.
pub fn aliases(text: &str) -> Vec<String> {
    top(text, "aliases")
}

fn top(text: &str, name: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let value = table.get_ref().iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value);
    let texts = value.into_iter().flat_map(each).filter_map(|item| item.get_ref().as_str().map(str::to_owned));
    texts.collect()
}

/// A provider that knows nothing.
pub fn blank(name: &str) -> Provider {
    Provider {
        name: name.to_owned(),
        title: name.to_owned(),
        docs: None,
        token: Token { scope_separator: " ".into(), ..Token::default() },
        consent: Consent::default(),
        rate_limit: RateLimit::default(),
        unattended: BTreeMap::new(),
        probes: Vec::new(),
        revocation_endpoint: None,
        introspection_endpoint: None,
        narrow: None,
        rotation: Rotation::Unknown,
        grace: None,
        reuse_kills_access_token: true,
        refresh_idle: None,
        refresh_absolute: None,
        default_lifetime: None,
        max_lead: None,
        rules: Rules::default(),
    }
}

/// Reads a file over what it extends. `file` is what problems and rules call it.
pub fn read(name: &str, file: &str, text: &str, base: &Provider) -> Result<Provider, Vec<Problem>> {
    let source = Source { file, text, problems: Default::default() };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        source.wrong(error.span().unwrap_or(0..0), error.message());
    }
    let mut provider = Provider { name: name.to_owned(), title: name.to_owned(), docs: None, ..base.clone() };
    read_root(&Table::new(&source, root.get_ref(), root.span()), &mut provider);
    let mut problems = source.problems.into_inner();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if problems.is_empty() { Ok(provider) } else { Err(problems) }
}

/// Overwrites what the file says; the rest stays as it was.
fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn set_some<T>(target: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *target = value;
    }
}

fn read_root(root: &Table<'_, '_>, provider: &mut Provider) {
    set(&mut provider.title, root.text("title"));
    root.text("extends");
    root.texts("aliases");
    set_some(&mut provider.docs, address(root, "docs"));
    set_some(&mut provider.revocation_endpoint, address(root, "revocation_endpoint"));
    set_some(&mut provider.introspection_endpoint, address(root, "introspection_endpoint"));
    if let Some(token) = root.table("token") {
        read_token(&token, provider);
    }
    set_some(&mut provider.consent.authorization_endpoint, address(root, "authorization_endpoint"));
    set_some(&mut provider.consent.device_authorization_endpoint, address(root, "device_authorization_endpoint"));
    if let Some(authorize) = root.table("authorize") {
        facts::authorize(&authorize, &mut provider.consent);
    }
    if let Some(rate_limit) = root.table("rate_limit") {
        provider.rate_limit = facts::rate_limit(&rate_limit);
    }
    if let Some(unattended) = root.table("unattended") {
        provider.unattended = facts::unattended(&unattended);
    }
    if let Some(assertion) = root.table("assertion") {
        read_assertion(&assertion, &mut provider.token);
    }
    if let Some(narrow) = root.table("narrow") {
        set_some(&mut provider.narrow, facts::narrow(&narrow));
    }
    if let Some(rotation) = root.table("rotation") {
        read_rotation(&rotation, provider);
    }
    if root.members().any(|(name, _)| name == "probe") {
        provider.probes = root.tables("probe").iter().map(read_probe).collect();
    }
    if let Some(mut codes) = root.texts("definitive") {
        codes.append(&mut provider.rules.definitive);
        provider.rules.definitive = codes;
    }
    let mut failures: Vec<Rule> = root.tables("failure").iter().filter_map(read_rule).collect();
    failures.append(&mut provider.rules.failures);
    provider.rules.failures = failures;
    provider.rules.examples = root.tables("example").iter().filter_map(read_example).collect();
    root.finish();
}

/// An absolute `https` address, placeholders allowed; `http` only for this machine.
fn address(table: &Table<'_, '_>, name: &'static str) -> Option<String> {
    table.read(name, "an https address", |item| {
        let text = item.get_ref().as_str()?;
        let good = text.starts_with("https://") || text.starts_with("http://127.0.0.1") || text.starts_with("{");
        good.then(|| text.to_owned())
    })
}

fn header_name(table: &Table<'_, '_>, name: &'static str) -> Option<String> {
    table.text(name).map(|header| header.to_ascii_lowercase())
}

fn pointer(table: &Table<'_, '_>, name: &'static str) -> Option<String> {
    table.read(name, "a JSON pointer such as \"/data/token\"", |item| {
        let text = item.get_ref().as_str()?;
        text.starts_with('/').then(|| text.to_owned())
    })
}

fn read_token(table: &Table<'_, '_>, provider: &mut Provider) {
    let token = &mut provider.token;
    set_some(&mut token.endpoint, address(table, "endpoint"));
    let styles = [
        ("client_secret_basic", ClientAuthentication::Basic),
        ("client_secret_post", ClientAuthentication::Post),
        ("none", ClientAuthentication::None),
    ];
    set(&mut token.client_authentication, table.word("client_authentication", &styles));
    set(&mut token.scope_separator, table.text("scope_separator"));
    set_some(&mut provider.default_lifetime, table.duration("default_lifetime"));
    set_some(&mut provider.max_lead, table.duration("max_lead"));
    if let Some(request) = table.table("request") {
        set(&mut token.request.json, request.flag("json"));
        set(&mut token.request.headers, request.map("headers"));
        set(&mut token.request.parameters, request.map("parameters"));
        request.finish();
    }
    if let Some(response) = table.table("response") {
        set_some(&mut token.response.access_token, pointer(&response, "access_token"));
        set_some(&mut token.response.refresh_token, pointer(&response, "refresh_token"));
        set_some(&mut token.response.expires, pointer(&response, "expires"));
        set_some(&mut token.response.refresh_expires, pointer(&response, "refresh_expires"));
        set(&mut token.response.form, response.flag("form"));
        response.finish();
    }
    table.finish();
}

fn read_assertion(table: &Table<'_, '_>, token: &mut Token) {
    let mut assertion = token.assertion.clone().unwrap_or(Assertion {
        algorithm: "RS256".into(),
        audience: None,
        issuer: None,
        subject: None,
        lifetime: Duration::from_secs(300),
        bearer: false,
    });
    let algorithms = [("RS256", "RS256"), ("ES256", "ES256"), ("EdDSA", "EdDSA")];
    set(&mut assertion.algorithm, table.word("algorithm", &algorithms).map(str::to_owned));
    set_some(&mut assertion.audience, table.text("audience"));
    set_some(&mut assertion.issuer, table.text("issuer"));
    set_some(&mut assertion.subject, table.text("subject"));
    set(&mut assertion.lifetime, table.duration("lifetime"));
    set(&mut assertion.bearer, table.flag("bearer"));
    table.finish();
    token.assertion = Some(assertion);
}

fn read_rotation(table: &Table<'_, '_>, provider: &mut Provider) {
    let profiles = [
        ("none", Rotation::None),
        ("grace", Rotation::Grace),
        ("until_first_use", Rotation::UntilFirstUse),
        ("strict", Rotation::Strict),
        ("sporadic", Rotation::Sporadic),
        ("unknown", Rotation::Unknown),
    ];
    set(&mut provider.rotation, table.word("profile", &profiles));
    set_some(&mut provider.grace, table.duration("grace"));
    set(&mut provider.reuse_kills_access_token, table.flag("reuse_kills_access_token"));
    set_some(&mut provider.refresh_idle, table.duration("idle"));
    set_some(&mut provider.refresh_absolute, table.duration("absolute"));
    if provider.rotation == Rotation::Grace && provider.grace.is_none() {
        table.wrong("\"profile\" is \"grace\": say for how long, grace = \"30s\"");
    }
    table.finish();
}

fn read_probe(table: &Table<'_, '_>) -> Probe {
    let method = table.word("method", &[("GET", "GET"), ("POST", "POST")]).unwrap_or("GET").to_owned();
    let url = address(table, "url");
    if url.is_none() {
        table.wrong("a probe needs its \"url\"");
    }
    let basic = table.table("basic").map(|basic| {
        let both = (basic.text("username").unwrap_or_default(), basic.text("password").unwrap_or_default());
        if !format!("{}{}", both.0, both.1).contains("{access_token}") {
            basic.wrong("one of \"username\" and \"password\" must hold {access_token}");
        }
        basic.finish();
        both
    });
    let probe = Probe {
        kinds: table.words("kinds", &Kind::ALL.map(|kind| (kind.as_str(), kind))),
        method,
        url: url.unwrap_or_default(),
        headers: table.map("headers").unwrap_or_default(),
        basic,
        body: table.text("body"),
        expires: pointer(table, "expires"),
        expires_header: header_name(table, "expires_header"),
        scopes: pointer(table, "scopes"),
        scopes_header: header_name(table, "scopes_header"),
        proves: table.table("proves").map(|when| read_when(&when)),
    };
    table.finish();
    probe
}

fn failure(table: &Table<'_, '_>) -> Option<Failure> {
    let words = Failure::ALL.map(|failure| (failure.as_str(), failure));
    let found = table.word("subtype", &words);
    if found.is_none() && !table.members().any(|(name, _)| name == "subtype") {
        table.wrong("\"subtype\" is missing: what does the reply mean?");
    }
    found
}

fn read_rule(table: &Table<'_, '_>) -> Option<Rule> {
    let failure = failure(table);
    let when = match table.table("when") {
        Some(when) => read_when(&when),
        None => {
            table.wrong("a rule needs \"when\": without it every reply would match");
            When::default()
        }
    };
    if when == When::default() && table.members().any(|(name, _)| name == "when") {
        table.wrong("\"when\" is empty: every reply would match");
    }
    let rule = Rule {
        place: table.line(),
        failure: failure.unwrap_or(Failure::Unclassified),
        cause: table.text("cause"),
        definitive: table.flag("definitive").unwrap_or(false),
        retryable: table.flag("retryable"),
        needs_human: table.flag("needs_human"),
        when,
    };
    if rule.definitive && rule.failure != Failure::CredentialRevoked {
        table.wrong("\"definitive\" is about dead credentials: only with subtype = \"credential_revoked\"");
    }
    table.finish();
    failure.map(|_| rule)
}

fn read_when(table: &Table<'_, '_>) -> When {
    let presented: Vec<_> = PRESENTED.iter().chain(&["static", "refreshable"]).map(|word| (*word, *word)).collect();
    let when = When {
        status: table.statuses("status"),
        surface: table.words("surface", &SURFACES),
        presented: table.words("presented", &presented).into_iter().map(str::to_owned).collect(),
        header: table.table("header").map(|tests| read_tests(&tests, false)).unwrap_or_default(),
        body: table.table("body").map(|tests| read_tests(&tests, true)).unwrap_or_default(),
        text: table.texts("text").unwrap_or_default(),
    };
    table.finish();
    when
}

fn read_tests(table: &Table<'_, '_>, pointers: bool) -> Vec<(String, Test)> {
    let mut tests = Vec::new();
    for (name, item) in table.members() {
        if pointers && !name.starts_with('/') {
            table.wrong_at(item.span(), format!("{name:?} is no JSON pointer; write \"/{name}\""));
        }
        let name = if pointers { name.to_owned() } else { name.to_ascii_lowercase() };
        let test = match item.get_ref().as_table() {
            Some(inner) => {
                let inner_table = table.inside(inner, item.span());
                let prefix = inner_table.texts("prefix").map(Test::Prefix);
                let contains = inner_table.texts("contains").map(Test::Contains);
                let exists = inner_table.flag("exists").map(Test::Present);
                let past = inner_table.flag("past").map(Test::Past);
                inner_table.finish();
                prefix.or(contains).or(exists).or(past)
            }
            None => each(item)
                .into_iter()
                .map(|item| scalar(item.get_ref()))
                .collect::<Option<Vec<Value>>>()
                .map(Test::OneOf),
        };
        match test {
            Some(test) => tests.push((name, test)),
            None => table.wrong_at(
                item.span(),
                "must be a value, a list of values, or one of { prefix = … }, { contains = … }, { exists = … }, { past = … }",
            ),
        }
    }
    tests
}

fn read_example(table: &Table<'_, '_>) -> Option<Example> {
    let failure = failure(table);
    let surface = table.word("surface", &SURFACES).unwrap_or(Surface::Api);
    let presented = table.text("presented").unwrap_or_else(|| {
        if surface == Surface::TokenEndpoint { "refresh_token" } else { "oauth_access_token" }.to_owned()
    });
    if !PRESENTED.contains(&presented.as_str()) {
        table.wrong(format!("\"presented\" is no kind of credential{}", did_you_mean(&presented, PRESENTED)));
    }
    let cause = table.text("cause");
    let reply = table.table("reply").map(|reply| {
        let status = reply.statuses("status").first().copied().unwrap_or(200);
        let headers = reply.map("headers").unwrap_or_default();
        let body = reply.text("body").unwrap_or_default();
        reply.finish();
        Reply::new(status, headers.iter().map(|(name, value)| (name.as_str(), value.as_str())), body)
    });
    if reply.is_none() {
        table.wrong("an example needs its reply = { status = …, body = '…' }");
    }
    table.finish();
    Some(Example { place: table.line(), surface, presented, reply: reply?, failure: failure?, cause })
}
