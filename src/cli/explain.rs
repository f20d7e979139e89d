//! `credd explain`: what a reply means, and why. From a dump of `curl -i`, from a HAR file, or row by row.

use std::{
    io::{self, BufRead, Read as _, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::out::note;
use crate::{
    catalogue::{Catalogue, PRESENTED, Provider, Refusal, SURFACES, Surface},
    credential::{Reply, Verdict},
};

/// `credd explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Whose reply it is (`credd providers list`); without it, generic knowledge alone judges.
    #[arg(long, default_value = GENERIC)]
    pub provider: String,
    /// Where it was met: api, token_endpoint, graphql, probe or publish.
    #[arg(long, default_value = "api", value_parser = surface)]
    pub surface: Surface,
    /// What was presented: refresh_token, oauth_access_token, api_key, pat …
    #[arg(long, default_value = "oauth_access_token", value_parser = clap::builder::PossibleValuesParser::new(PRESENTED))]
    pub presented: String,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Read rows {id, provider, surface, status, headers, body, credential_kind}, one a line, and answer each in one line.
    #[arg(long)]
    pub jsonl: bool,
    /// The clock, as RFC 3339 or seconds since 1970; default: now.
    #[arg(long, value_parser = clock)]
    pub now: Option<Timestamp>,
    /// A folder of provider files over the built-in ones.
    #[arg(long)]
    pub providers: Option<PathBuf>,
}

/// What judges where no provider is named.
const GENERIC: &str = "rfc6749";
/// Longest row; a longer one is an error line, and its rest is skipped.
const LONGEST_ROW: usize = 4 * 1024 * 1024;

fn surface(word: &str) -> Result<Surface, String> {
    let found = SURFACES.iter().find(|(name, _)| *name == word).map(|(_, surface)| *surface);
    found.ok_or_else(|| format!("one of: {}", SURFACES.map(|(name, _)| name).join(", ")))
}

fn clock(text: &str) -> Result<Timestamp, String> {
    let date = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    date.or_else(|| text.parse().ok())
        .ok_or_else(|| "a date such as 2026-01-01T00:00:00Z, or seconds since 1970".to_owned())
}

/// Reads replies and says what they mean. `now` is the machine's clock, for when `--now` is not given.
pub fn run(args: &Args, now: Timestamp, input: &mut impl BufRead, output: &mut impl Write) -> ExitCode {
    let (catalogue, problems) = match super::providers::catalogue(args.providers.as_deref()) {
        Ok(found) => found,
        Err(code) => return code,
    };
    for problem in &problems {
        note!("warning: {problem} (the file is ignored)");
    }
    let now = args.now.unwrap_or(now);
    let done =
        if args.jsonl { rows(&catalogue, now, input, output) } else { one(args, &catalogue, now, input, output) };
    match done {
        Ok(code) => code,
        // The reader of our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            note!("error: {error}");
            ExitCode::from(74)
        }
    }
}

fn rows(
    catalogue: &Catalogue,
    now: Timestamp,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut line = Vec::new();
    let mut number = 0u64;
    let mut wrong = false;
    let mut providers = Providers { catalogue, generic: catalogue.provider(GENERIC) };
    loop {
        line.clear();
        if read_line(input, &mut line)? == 0 {
            break;
        }
        number += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let answer = explain_row(&mut providers, &line, now);
        wrong |= answer.is_err();
        let answer = answer.unwrap_or_else(|(id, error)| json!({ "id": id, "line": number, "error": error }));
        serde_json::to_writer(&mut *output, &answer)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    Ok(if wrong { ExitCode::from(65) } else { ExitCode::SUCCESS })
}

/// One line, at most a little more than the longest that is read; the rest of a longer one is skipped.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let mut total = 0;
    loop {
        let part = input.fill_buf()?;
        if part.is_empty() {
            return Ok(total);
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(part.len(), |at| at + 1);
        let room = (LONGEST_ROW + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..used.min(room)]);
        input.consume(used);
        total += used;
        if end.is_some() {
            return Ok(total);
        }
    }
}

struct Providers<'a> {
    catalogue: &'a Catalogue,
    generic: Option<Arc<Provider>>,
}

impl Providers<'_> {
    fn get(&self, name: &str) -> Option<Arc<Provider>> {
        self.catalogue.provider(name).or_else(|| self.generic.clone())
    }
}

/// The id of a row that is broken further on.
fn readable_id(line: &[u8]) -> Value {
    let text = String::from_utf8_lossy(&line[..line.len().min(4096)]);
    let after = text.split_once("\"id\"").and_then(|(_, after)| after.trim_start().strip_prefix(':'));
    let first = after.map(|after| serde_json::Deserializer::from_str(after).into_iter::<Value>().next());
    match first {
        Some(Some(Ok(id @ (Value::String(_) | Value::Number(_))))) => id,
        _ => Value::Null,
    }
}

type RowError = (Value, String);

fn explain_row(providers: &mut Providers<'_>, line: &[u8], now: Timestamp) -> Result<Value, RowError> {
    if line.len() > LONGEST_ROW {
        return Err((Value::Null, format!("the row is longer than {} MiB", LONGEST_ROW >> 20)));
    }
    // Some editors begin a file with a byte-order mark.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let row: Value = serde_json::from_slice(line.trim_ascii())
        .map_err(|error| (readable_id(line), format!("not JSON (column {})", error.column())))?;
    let id = row.get("id").cloned().unwrap_or(Value::Null);
    let fail = |reason: &str| (id.clone(), reason.to_owned());
    if !row.is_object() {
        return Err(fail("a row must be a JSON object"));
    }
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let status = row.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    let status = status
        .filter(|status| (100..1000).contains(status))
        .ok_or_else(|| fail("\"status\" must be an HTTP status"))?;
    let surface =
        surface(text("surface").unwrap_or("api")).map_err(|words| fail(&format!("\"surface\" must be {words}")))?;
    let body = match row.get("body") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(body)) => body.clone(),
        Some(value) => value.to_string(),
    };
    let headers = match row.get("headers") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(headers)) => headers
            .iter()
            .flat_map(|(name, value)| {
                let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                values.into_iter().map(|value| {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    (name.to_ascii_lowercase(), value)
                })
            })
            .collect(),
        Some(Value::Array(pairs)) => pairs
            .iter()
            .map(|pair| {
                let text = |at: usize| pair.get(at).and_then(Value::as_str);
                Some((text(0)?.to_ascii_lowercase(), text(1)?.to_owned()))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| fail("\"headers\" must be an object, or a list of pairs [name, value]"))?,
        Some(_) => return Err(fail("\"headers\" must be an object, or a list of pairs [name, value]")),
    };
    let reply = Reply { status, headers, body: body.into_bytes() };
    let provider = providers.get(text("provider").unwrap_or(GENERIC)).ok_or_else(|| fail("the catalogue is empty"))?;
    let presented = text("credential_kind").unwrap_or("oauth_access_token");
    if !PRESENTED.contains(&presented) {
        return Err(fail(&format!("\"credential_kind\" must be one of: {}", PRESENTED.join(", "))));
    }
    let verdict = provider.classify(&Refusal { surface, presented, reply: &reply, now });
    Ok(json!({
        "id": id,
        "subtype": verdict.failure,
        "retryable": verdict.retryable,
        "retry_after_s": verdict.retry_after.map(|wait| wait.as_secs()),
        "needs_human": verdict.needs_human,
        "cause": verdict.cause,
        "rule": verdict.rule,
    }))
}

fn one(
    args: &Args,
    catalogue: &Catalogue,
    now: Timestamp,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut dump = Vec::new();
    input.take(64 << 20).read_to_end(&mut dump)?;
    let replies = super::dump::replies(&dump);
    if replies.is_empty() {
        note!("error: standard input holds no reply; pipe `curl -si …` into it, or a HAR file");
        return Ok(ExitCode::from(65));
    }
    let Some(provider) = catalogue.provider(&args.provider) else {
        note!("error: no provider is called {:?}; `credd providers list` names them", args.provider);
        return Ok(ExitCode::from(64));
    };
    for (at, reply) in replies.iter().enumerate() {
        let refusal = Refusal { surface: args.surface, presented: &args.presented, reply, now };
        let verdict = provider.classify(&refusal);
        if args.json {
            serde_json::to_writer(&mut *output, &json(&verdict))?;
            writeln!(output)?;
        } else {
            if at > 0 {
                writeln!(output)?;
            }
            write!(output, "{}", sentence(reply.status, &verdict))?;
        }
    }
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn json(verdict: &Verdict) -> Value {
    json!({
        "subtype": verdict.failure,
        "retryable": verdict.retryable,
        "retry_after_s": verdict.retry_after.map(|wait| wait.as_secs()),
        "needs_human": verdict.needs_human,
        "cause": verdict.cause,
        "definitive": verdict.definitive,
        "code": verdict.code,
        "rule": verdict.rule,
        "evidence": verdict.evidence,
    })
}

fn sentence(status: u16, verdict: &Verdict) -> String {
    let mut text = format!("{}", verdict.failure);
    if let Some(cause) = &verdict.cause {
        text += &format!(" ({cause})");
    }
    text += "\n";
    let mut line = |name: &str, value: &str| text += &format!("  {name:<10} {value}\n");
    line("status", &status.to_string());
    line("retryable", if verdict.retryable { "yes" } else { "no" });
    if let Some(wait) = verdict.retry_after {
        line("wait", &format!("{} s", wait.as_secs()));
    }
    line("a person", if verdict.needs_human { "must act" } else { "need not act" });
    if verdict.definitive {
        line("definitive", "this code alone proves it");
    }
    if let Some(code) = &verdict.code {
        line("code", code);
    }
    line("because", &verdict.evidence);
    line("rule", &verdict.rule);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(input: &str) -> Vec<Value> {
        let catalogue = Catalogue::embedded().unwrap();
        let mut output = Vec::new();
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        rows(&catalogue, now, &mut input.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_malformed_row_is_an_error_line_and_no_stop() {
        let good = r#"{"id":"b","provider":"nobody","surface":"token_endpoint","status":400,"headers":{},"body":"{\"error\":\"invalid_grant\"}","credential_kind":"refresh_token"}"#;
        let answers = play(&format!(
            "\u{feff}{{\"id\":\n\n[]\n{{\"id\":\"a\",\"status\":\"x\"}}\n{good}\n\
             {{\"id\":\"c\",\"status\":401,}}\n{{\"id\":7,\"status\":401,\"credential_kind\":\"kee\"}}\n\
             {{\"id\":8,\"status\":429,\"headers\":[[\"Retry-After\",\"7\"]]}}\n"
        ));
        assert_eq!(answers.len(), 7);
        assert_eq!(answers[0]["error"], "not JSON (column 6)");
        assert_eq!(answers[1]["line"], 3);
        assert_eq!(answers[2]["id"], "a");
        assert_eq!(answers[3]["subtype"], "credential_revoked");
        assert_eq!(answers[3]["rule"], "generic/invalid_grant");
        assert_eq!((&answers[4]["id"], &answers[4]["line"]), (&"c".into(), &6.into()));
        assert!(answers[5]["error"].as_str().unwrap().contains("service_account_jwt"));
        assert_eq!((&answers[6]["id"], &answers[6]["retry_after_s"]), (&8.into(), &7.into()));
    }

    #[test]
    fn a_dump_of_curl_is_explained_in_words_and_in_json() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let play = |line: &[&str], input: &str| {
            let args =
                <Line as clap::Parser>::try_parse_from([&["explain", "--now", "2026-01-01T00:00:00Z"], line].concat())
                    .unwrap()
                    .args;
            let mut output = Vec::new();
            let code = run(&args, Timestamp::UNIX_EPOCH, &mut input.as_bytes(), &mut output);
            (code == ExitCode::SUCCESS, String::from_utf8(output).unwrap())
        };
        let dump = "HTTP/2 403\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1767225660\r\n\r\n{\"message\":\"API rate limit exceeded\"}";
        let (good, text) = play(&["--provider", "github", "--presented", "pat"], dump);
        assert!(good && text.starts_with("rate_limit_reached (rate_limit)\n"), "{text}");
        assert!(text.contains("wait       60 s") && text.contains("generic/rate_limit"), "{text}");
        let (good, text) = play(&["--json"], dump);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(
            good && answer["retry_after_s"] == 60 && answer["evidence"] == "body message: API rate limit exceeded",
            "{text}"
        );
        assert!(!play(&[], "nothing").0);
        assert!(!play(&["--provider", "nobody"], dump).0);
    }

    #[test]
    fn a_row_too_long_is_skipped_whole() {
        let answers = play(&format!("{}\n{{\"status\":503}}\n", "x".repeat(LONGEST_ROW + 10)));
        assert!(answers[0]["error"].as_str().unwrap().contains("longer"));
        assert_eq!(answers[1]["subtype"], "upstream_unavailable");
    }
}
