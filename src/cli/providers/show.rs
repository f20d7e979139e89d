//! What a provider's file tells, for people: one line each in the list, all of one on a page.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::{
    catalogue::{Answer, Catalogue, ClientAuthentication, Pkce, Provider, Reset, Topic},
    credential::Rotation,
};

/// One line for each provider.
pub fn list(catalogue: &Catalogue, output: &mut impl Write) -> io::Result<()> {
    let columns = Topic::ALL.map(|(name, _)| name[..3].to_uppercase()).join(" ");
    writeln!(output, "{:<24} {:<34} {:<16} {:<6} {columns} {:>6}", "NAME", "TITLE", "ROTATION", "PROBE", "SCORE")?;
    for provider in catalogue.names().filter_map(|name| catalogue.provider(name)) {
        let marks = Topic::ALL.map(|(_, topic)| format!("{:<3}", mark(&provider, topic))).join(" ");
        writeln!(
            output,
            "{:<24} {:<34} {:<16} {:<6} {marks} {:>6}",
            provider.name,
            provider.title,
            rotation(provider.rotation),
            if !provider.probes.is_empty() { "yes" } else { "no" },
            score(&provider)
        )?;
    }
    writeln!(
        output,
        "\nWithout a person: the expiry is told, a refresh, a rotation or a revocation by API, keys by scope,"
    )?;
    writeln!(output, "changes are announced, errors can be told apart.  ● yes  ◐ partly  ○ no  · not known")
}

fn mark(provider: &Provider, topic: Topic) -> &'static str {
    match provider.unattended.get(&topic).map(|fact| fact.answer) {
        Some(Answer::Yes) => "●",
        Some(Answer::Partly) => "◐",
        Some(Answer::No) => "○",
        None => "·",
    }
}

/// `4½/7`: a point for each yes, half a one for each partly.
fn score(provider: &Provider) -> String {
    let halves: u32 = provider
        .unattended
        .values()
        .map(|fact| match fact.answer {
            Answer::Yes => 2,
            Answer::Partly => 1,
            Answer::No => 0,
        })
        .sum();
    format!("{}{}/{}", halves / 2, if halves % 2 == 1 { "½" } else { "" }, Topic::ALL.len())
}

/// All that is known of one, and what is not.
pub fn show(provider: &Provider, output: &mut impl Write) -> io::Result<()> {
    let unknown = || "not known".to_owned();
    let time = |time: Option<Duration>| time.map_or_else(unknown, words);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(unknown);
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let authentication = match provider.token.client_authentication {
        ClientAuthentication::Basic => "client_secret_basic",
        ClientAuthentication::Post => "client_secret_post",
        ClientAuthentication::None => "none (a public client)",
    };
    let pkce = match provider.consent.pkce {
        Some(Pkce::Required) => "required",
        Some(Pkce::Supported) => "supported",
        Some(Pkce::Unsupported) => "unsupported",
        None => "not known",
    };
    let separator = match provider.token.scope_separator.as_str() {
        " " => "a space",
        "," => "a comma",
        other => other,
    };
    let probes = provider.probes.iter().map(|probe| {
        let kinds: Vec<_> = probe.kinds.iter().map(|kind| kind.as_str()).collect();
        let whose = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        format!("{} {}{whose}", probe.method, probe.url)
    });
    let probes: Vec<_> = probes.collect();
    let told = |header: fn(&crate::catalogue::Probe) -> [&Option<String>; 2]| {
        provider.probes.iter().flat_map(header).flatten().next().cloned().unwrap_or_else(unknown)
    };
    let definitive = &provider.rules.definitive;
    let parameters = &provider.consent.parameters;
    writeln!(output, "{} – {}", provider.name, provider.title)?;
    for (name, value) in [
        ("documentation", text(&provider.docs)),
        ("authorization endpoint", text(&provider.consent.authorization_endpoint)),
        ("authorize parameters", if parameters.is_empty() { "none".into() } else { pairs(parameters) }),
        ("PKCE", pkce.to_owned()),
        ("device endpoint", text(&provider.consent.device_authorization_endpoint)),
        ("token endpoint", text(&provider.token.endpoint)),
        ("client authentication", authentication.to_owned()),
        ("between scopes", separator.to_owned()),
        ("rotation", rotation(provider.rotation).to_owned()),
        ("narrowed by", provider.narrow.as_ref().map_or_else(unknown, |narrowing| narrowing.members.join(", "))),
        ("grace", time(provider.grace)),
        ("dies unused after", time(provider.refresh_idle)),
        ("dies at the latest after", time(provider.refresh_absolute)),
        ("usual lifetime", time(provider.default_lifetime)),
        (
            "refreshed at the earliest",
            provider.max_lead.map_or_else(unknown, |lead| format!("{} before the end", words(lead))),
        ),
        ("probe", if probes.is_empty() { unknown() } else { probes.join("; ") }),
        ("expiry told by probe", told(|probe| [&probe.expires_header, &probe.expires])),
        ("scopes told by probe", told(|probe| [&probe.scopes_header, &probe.scopes])),
        ("calls left", text(&provider.rate_limit.remaining)),
        ("limit ends", limit_ends(provider).unwrap_or_else(unknown)),
        ("revocation endpoint", text(&provider.revocation_endpoint)),
        ("introspection endpoint", text(&provider.introspection_endpoint)),
        ("definitive codes", if definitive.is_empty() { unknown() } else { definitive.join(", ") }),
        ("rules", provider.rules.failures.len().to_string()),
        ("examples", provider.rules.examples.len().to_string()),
    ] {
        writeln!(output, "  {name:<26} {value}")?;
    }
    writeln!(output, "  without a person: {}", score(provider))?;
    for (name, topic) in Topic::ALL {
        let fact = provider.unattended.get(&topic);
        let answer = fact.map_or("not known", |fact| match fact.answer {
            Answer::Yes => "yes",
            Answer::Partly => "partly",
            Answer::No => "no",
        });
        let more = fact.into_iter().flat_map(|fact| [&fact.note, &fact.source]).flatten();
        let more = more.map(|more| format!(" – {more}")).collect::<String>();
        writeln!(output, "    {name:<24} {answer}{more}")?;
    }
    Ok(())
}

fn limit_ends(provider: &Provider) -> Option<String> {
    let written = match provider.rate_limit.reset_is? {
        Reset::Seconds => "seconds from now",
        Reset::Milliseconds => "milliseconds from now",
        Reset::Epoch => "seconds since 1970",
        Reset::EpochMilliseconds => "milliseconds since 1970",
        Reset::Date => "a date",
    };
    Some(format!("{} ({written})", provider.rate_limit.reset.as_ref()?))
}

fn rotation(rotation: Rotation) -> &'static str {
    match rotation {
        Rotation::None => "none",
        Rotation::Grace => "grace",
        Rotation::UntilFirstUse => "until_first_use",
        Rotation::Strict => "strict",
        Rotation::Sporadic => "sporadic",
        Rotation::Unknown => "not known",
    }
}

/// `8 h`, `180 d`, `90 s`.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        s if s >= 2 * 86_400 && s.is_multiple_of(86_400) => format!("{} d", s / 86_400),
        s if s >= 3600 && s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if s >= 120 && s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}
