//! `credd sandbox`: a provider to rehearse with.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Args;

use super::out::{note, say};
use crate::{
    credential::Secret,
    sandbox::{Client, NewGrant, Options, Profile, Running, Sandbox},
};

/// Run an OAuth provider and API that misbehaves on demand
#[derive(Args, Clone, Debug)]
pub struct SandboxArgs {
    /// Where the provider and its API listen
    #[arg(long, default_value = "127.0.0.1:7430")]
    listen: SocketAddr,
    /// Where the admin API listens (loopback only)
    #[arg(long, default_value = "127.0.0.1:7431")]
    admin: SocketAddr,
    /// Mint so many grants at start and print them
    #[arg(long, default_value_t = 1)]
    grants: usize,
    /// What becomes of used refresh tokens: none, grace(SECONDS), until_first_use, strict, strict_kill_family,
    /// sporadic(PROBABILITY)
    #[arg(long, default_value = "strict")]
    profile: Profile,
    /// How long access tokens live, in seconds
    #[arg(long, default_value_t = 60)]
    access_ttl: u64,
    /// Client id; its secret is `<id>-secret`
    #[arg(long, default_value = "sandbox")]
    client: String,
    /// Ordinary bad weather on every call, and endpoints under a random path
    #[arg(long)]
    misbehave: bool,
    /// Seed of all chance, to repeat a run
    #[arg(long)]
    seed: Option<u64>,
    /// Print one line of JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Serves until interrupted.
pub async fn run(args: SandboxArgs) -> ExitCode {
    open_more_files();
    let secret = Secret::new(format!("{}-secret", args.client));
    let client = Client {
        id: args.client.clone(),
        secret: Some(secret),
        access_ttl: Duration::from_secs(args.access_ttl),
        ..Client::default()
    };
    let options = Options {
        listen: args.listen,
        admin: args.admin,
        clients: vec![client],
        misbehave: args.misbehave,
        seed: args.seed,
        ..Options::default()
    };
    let sandbox = match Sandbox::start(options).await {
        Ok(sandbox) => sandbox,
        Err(error) => {
            note!("credd sandbox: {error}");
            return ExitCode::FAILURE;
        }
    };
    let terms = NewGrant {
        client: args.client.clone(),
        profile: args.profile,
        access_ttl: Duration::from_secs(args.access_ttl),
        ..NewGrant::default()
    };
    let text = if args.json { json(&sandbox, &args, &terms) } else { words(&sandbox, &args, &terms) };
    say!("{text}");
    tokio::signal::ctrl_c().await.ok();
    ExitCode::SUCCESS
}

/// The tokens of a sandbox open nothing but the sandbox: here they are shown on purpose.
#[expect(clippy::disallowed_methods, reason = "whoever rehearses gets the secrets made for it")]
fn json(sandbox: &Running, args: &SandboxArgs, terms: &NewGrant) -> String {
    let grants: Vec<serde_json::Value> = (0..args.grants)
        .map(|_| {
            let seed = sandbox.admin().grant(terms.clone());
            let document: serde_json::Value = serde_json::from_str(seed.document().expose()).unwrap_or_default();
            serde_json::json!({"id": seed.id, "secret": document})
        })
        .collect();
    serde_json::json!({
        "token_endpoint": sandbox.token_endpoint(),
        "probe_url": sandbox.probe_url(),
        "admin": sandbox.admin_url,
        "seed": sandbox.seed,
        "grants": grants,
    })
    .to_string()
}

#[expect(clippy::disallowed_methods, reason = "whoever rehearses gets the secrets made for it")]
fn words(sandbox: &Running, args: &SandboxArgs, terms: &NewGrant) -> String {
    let admin = &sandbox.admin_url;
    let mut text = format!(
        "The sandbox is open. Ctrl-C ends it, and everything in it is forgotten.\n\n  \
         token endpoint  {}\n  API to probe    {}\n  admin API       {admin}/admin\n  seed            {}\n  \
         client          {} / {}-secret\n",
        sandbox.token_endpoint(),
        sandbox.probe_url(),
        sandbox.seed,
        args.client,
        args.client,
    );
    for _ in 0..args.grants {
        let seed = sandbox.admin().grant(terms.clone());
        text += &format!(
            "\n{id}, {}: paste this into credd.toml, and then put its secret.\n{}\n  \
             echo '{}' | credd credential put {id}\n",
            terms.profile,
            table(sandbox, &seed.id),
            seed.document().expose(),
            id = seed.id,
        );
    }
    text + &format!(
        "\nTry meanwhile (`curl -s {admin}/admin` lists every fault):\n  curl -s {admin}/admin/log\n  curl -s {admin}/admin/counters\n  \
         curl -s {admin}/admin/faults -d '{{\"fault\":\"drop_after_commit\",\"calls\":1}}'\n  \
         curl -s -X DELETE {admin}/admin/grants/grant-1"
    )
}

/// The settings of a grant, to paste.
fn table(sandbox: &Running, id: &str) -> String {
    format!(
        "\n[credentials.{id}]\nprovider = \"rfc6749\"\nkind = \"refresh_token\"\nupstream.token_endpoint = \"{}\"\n\
         upstream.probe_url = \"{}\"\n",
        sandbox.token_endpoint(),
        sandbox.probe_url(),
    )
}

/// Ten thousand connections need as many descriptors; the usual soft limit is 1,024.
fn open_more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where the system says no, the limit stays as it was.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SandboxArgs,
    }

    fn args(line: &[&str]) -> Result<SandboxArgs, clap::Error> {
        Line::try_parse_from([&["sandbox"], line].concat()).map(|line| line.args)
    }

    #[tokio::test]
    async fn what_is_printed_opens_the_sandbox() {
        let args = args(&["--grants", "2", "--profile", "grace(30)", "--access-ttl", "5"]).unwrap();
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let terms = NewGrant { profile: args.profile, ..NewGrant::default() };
        let printed: serde_json::Value = serde_json::from_str(&json(&sandbox, &args, &terms)).unwrap();
        assert_eq!(printed["grants"].as_array().unwrap().len(), 2);
        let token = Secret::new(printed["grants"][1]["secret"]["refresh_token"].as_str().unwrap());
        assert_eq!(sandbox.admin().find(&token), Some(("grant-2".into(), 1)));
        let said = words(&sandbox, &args, &terms);
        assert!(said.contains(&sandbox.token_endpoint()) && said.contains("grant-3, grace(30)"), "{said}");
        let settings = table(&sandbox, "grant-3");
        assert!(said.contains(&settings), "{said}");
        let checked = crate::config::check(std::path::Path::new("credd.toml"), &settings, &["rfc6749".to_owned()]);
        assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }

    #[test]
    fn a_profile_that_does_not_exist_is_named_with_those_that_do() {
        let error = args(&["--profile", "lenient"]).unwrap_err().to_string();
        assert!(error.contains("until_first_use"), "{error}");
    }
}
