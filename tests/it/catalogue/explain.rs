//! `credd explain` as a person and a script use it: through the binary.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

fn explain(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_credd"));
    command.args(["explain", "--now", "2026-01-01T00:00:00Z"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn play(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = explain(arguments);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn each_row_is_answered_before_the_next_is_sent_and_a_broken_one_stops_nothing() {
    let mut child = explain(&["--jsonl"]);
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut ask = |line: &str| -> Value {
        writeln!(input, "{line}").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let row = |id: u32, status: u16, body: &str| {
        json!({"id": id, "provider": "nobody-knows-it", "surface": "api", "status": status, "headers": {}, "body": body,
            "credential_kind": "api_key"})
        .to_string()
    };
    let answer = ask(&row(1, 429, "Try again in 1m30s"));
    assert_eq!(
        answer,
        json!({"id": 1, "subtype": "rate_limit_reached", "retryable": true, "retry_after_s": 90, "needs_human": false,
            "cause": answer["cause"], "rule": answer["rule"]})
    );
    let broken = ask(r#"{"id":"two","status":401,"headers":{"#);
    assert_eq!((&broken["id"], &broken["line"]), (&"two".into(), &2.into()));
    assert!(broken["error"].as_str().unwrap().starts_with("not JSON"));
    assert_eq!(ask(&row(3, 401, "API key expired"))["subtype"], "credential_revoked");
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(65));
}

#[test]
fn a_dump_and_an_archive_are_explained_to_a_person_and_to_a_machine() {
    let dump = "HTTP/2 401 \r\nwww-authenticate: Bearer error=\"invalid_token\", error_description=\"The token expired\"\r\n\r\n";
    let (code, text, _) = play(&[], dump);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("credential_expired (expired)\n") && text.contains("need not act"), "{text}");
    let archive = json!({"log": {"entries": [{"response": {"status": 503, "headers": [{"name": "Retry-After", "value": "9"}],
        "content": {"text": "busy"}}}]}});
    let (code, text, _) = play(&["--json"], &archive.to_string());
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &answer["subtype"], &answer["retry_after_s"]),
        (Some(0), &"upstream_unavailable".into(), &9.into())
    );
    let (code, _, error) = play(&[], "neither");
    assert!(code == Some(65) && error.contains("holds no reply"), "{error}");
    let (code, _, error) = play(&["--surface", "publsh"], dump);
    assert!(code == Some(2) && error.contains("publish"), "{error}");
}
