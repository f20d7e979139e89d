//! Replies in the forms that people have at hand: `curl -i`, HAR.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::credential::Reply;

/// The replies in a dump: every failed or suspicious entry of a HAR file, or the last reply of a `curl -i`.
pub fn replies(dump: &[u8]) -> Vec<Reply> {
    let start = dump.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(dump.len());
    let dump = &dump[start..];
    if dump.starts_with(b"HTTP/") {
        return http(dump).into_iter().collect();
    }
    match serde_json::from_slice::<Value>(dump) {
        Ok(har) => har
            .pointer("/log/entries")
            .and_then(Value::as_array)
            .map(|entries| entries.iter().filter_map(|entry| archived(entry.get("response")?)).collect())
            .unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// `HTTP/1.1 401 …`, headers, an empty line, the body. Interim replies and proxies' before it are skipped.
fn http(mut dump: &[u8]) -> Option<Reply> {
    loop {
        let (head, body) = split(dump);
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let first = lines.next()?;
        let status: u16 = first.split_whitespace().nth(1)?.parse().ok()?;
        let passing = (100..200).contains(&status) || first.to_ascii_lowercase().contains("connection established");
        if (passing || (300..400).contains(&status)) && body.starts_with(b"HTTP/") {
            dump = body;
            continue;
        }
        let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()));
        return Some(Reply::new(status, headers, body));
    }
}

fn split(dump: &[u8]) -> (&[u8], &[u8]) {
    let crlf = dump.windows(4).position(|window| window == b"\r\n\r\n").map(|at| (at, at + 4));
    let lf = dump.windows(2).position(|window| window == b"\n\n").map(|at| (at, at + 2));
    let (end, start) = match (crlf, lf) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b).unwrap_or((dump.len(), dump.len())),
    };
    (&dump[..end], &dump[start..])
}

fn archived(response: &Value) -> Option<Reply> {
    let status = u16::try_from(response.get("status")?.as_u64()?).ok()?;
    let headers = response.get("headers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let headers =
        headers.iter().filter_map(|header| Some((header.get("name")?.as_str()?, header.get("value")?.as_str()?)));
    let text = response.pointer("/content/text").and_then(Value::as_str).unwrap_or_default();
    let encoded = response.pointer("/content/encoding").and_then(Value::as_str) == Some("base64");
    let body = if encoded { STANDARD.decode(text).unwrap_or_default() } else { text.as_bytes().to_vec() };
    Some(Reply::new(status, headers, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reply_of_a_curl_dump_counts() {
        let dump = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2 401\r\nRetry-After: 3\r\nX: a:b\r\n\r\n{\"a\":\n\n1}";
        let [reply] = &replies(dump)[..] else { panic!("one reply") };
        assert_eq!((reply.status, reply.header("retry-after"), reply.header("x")), (401, Some("3"), Some("a:b")));
        assert_eq!(reply.body, b"{\"a\":\n\n1}");
        assert!(replies(b"").is_empty());
        assert!(replies(b"hello").is_empty());
        assert_eq!(replies(b"HTTP/1.1 503 x").len(), 1);
    }

    #[test]
    fn a_har_file_brings_each_of_its_replies() {
        let har = br#"{"log":{"entries":[{"response":{"status":429,"headers":[{"name":"Retry-After","value":"9"}],"content":{"text":"aGk=","encoding":"base64"}}}]}}"#;
        let [reply] = &replies(har)[..] else { panic!("one reply") };
        assert_eq!((reply.header("retry-after"), &reply.body[..]), (Some("9"), &b"hi"[..]));
    }
}
