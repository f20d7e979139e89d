//! `credd get NAME`: prints a token, but only when it is asked to, or piped.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    Context,
    client::{Client, no_answer},
    out::{Out, note, say},
};
use crate::{
    clock::{Clock, SystemClock},
    credential::{CredentialId, Secret},
};

/// `credd get NAME`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which credential.
    #[arg(value_parser = CredentialId::new)]
    pub name: CredentialId,
    /// Print the token on a terminal too.
    #[arg(long)]
    pub reveal: bool,
    /// Print the whole answer as JSON; it holds the token.
    #[arg(long)]
    pub json: bool,
    /// Print it as another program expects it: `aws` is what `credential_process` of the AWS CLI and SDKs reads.
    #[arg(long, value_enum, conflicts_with = "json")]
    pub format: Option<Format>,
    /// Time left that the token should have ("90s", "10m"); joins or starts a refresh, and warns where that did not help.
    #[arg(long, value_name = "TIME")]
    pub min_ttl: Option<SignedDuration>,
}

/// Forms of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `credential_process`, version 1.
    Aws,
}

/// Reads the token as any reader does.
pub async fn run(context: Context, args: Args) -> ExitCode {
    let query = args.min_ttl.map(|time| format!("?min_ttl={}s", time.as_secs().max(0))).unwrap_or_default();
    let path = format!("/v1/tokens/{}{query}", args.name);
    let answer = match Client::reader(&context).ask(Method::GET, &path, None).await {
        Ok(answer) => answer,
        Err(error) => return no_answer(&error),
    };
    let json = answer.json();
    if !answer.is_success() {
        note!("error: {}", answer.detail());
        if let Some(next) = answer.next_step() {
            note!("next: {next}");
        }
        return ExitCode::FAILURE;
    }
    let key = json["access_key_id"].is_string();
    let wrong = match args.format {
        Some(Format::Aws) if !key => Some("is no AWS access key, so there is nothing to print in that form"),
        None if key && !args.json => {
            Some("is an AWS access key, which is more than one text; add --format aws, or --json")
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        note!("error: {} {wrong}", args.name);
        return ExitCode::FAILURE;
    }
    if let Some(short) = too_short(&json, args.min_ttl, SystemClock.now().wall) {
        note!("warning: {} {short}", args.name);
    }
    let hidden = std::io::stdout().is_terminal() && !args.reveal;
    let printed = if hidden {
        let end = json["expires_at"].as_str().unwrap_or("no known end");
        say!(
            "{}: generation {}, ends {end}; the token itself is printed with --reveal, or into a pipe",
            args.name,
            json["generation"]
        );
        Ok(())
    } else if args.json {
        print(&answer.body)
    } else if key {
        print(&credential_process(&json))
    } else {
        print(&Secret::new(json["access_token"].as_str().unwrap_or_default()))
    };
    // What became of the output is noted there.
    drop(printed);
    ExitCode::SUCCESS
}

/// That a token does not live as long as it should: the daemon has done what it could.
fn too_short(answer: &Value, wanted: Option<SignedDuration>, now: Timestamp) -> Option<String> {
    let wanted = wanted?;
    let end: Timestamp = answer["expires_at"].as_str()?.parse().ok()?;
    let left = SignedDuration::from_secs(end.duration_since(now).as_secs());
    (left < wanted).then(|| {
        format!(
            "lives {left:#} more, less than the {wanted:#} asked for: no refresh brought more (its provider's tokens may \
             live no longer; `credd status` shows whether refreshing fails)"
        )
    })
}

/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>
fn credential_process(answer: &Value) -> Secret {
    let members = [
        ("AccessKeyId", "access_key_id"),
        ("SecretAccessKey", "secret_access_key"),
        ("SessionToken", "session_token"),
        ("Expiration", "expires_at"),
    ];
    let members = members.iter().filter_map(|(theirs, ours)| {
        let value = answer[*ours].as_str()?;
        Some(((*theirs).to_owned(), Value::from(value)))
    });
    let version = [("Version".to_owned(), Value::from(1))];
    Secret::new(Value::Object(version.into_iter().chain(members).collect()).to_string())
}

#[expect(clippy::disallowed_methods, reason = "the person asked for the token")]
fn print(secret: &Secret) -> std::io::Result<()> {
    let mut out = Out;
    out.write_all(secret.expose().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_lives_too_short_is_told() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let answer = serde_json::json!({ "expires_at": (now + SignedDuration::from_secs(90)).to_string() });
        let told = |wanted| too_short(&answer, Some(SignedDuration::from_secs(wanted)), now);
        assert_eq!(told(90), None);
        assert!(told(91).unwrap().starts_with("lives 1m 30s more, less than the 1m 31s asked for"), "{:?}", told(91));
        assert_eq!(too_short(&answer, None, now), None);
        assert_eq!(too_short(&Value::Null, Some(SignedDuration::from_secs(1)), now), None, "no known end");
    }
}
