use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const CANARY: &str = "canary-7f3a";

/// A server that reads each request whole and then does as told; it counts requests.
async fn server<F, D>(then: D) -> (u16, Arc<AtomicUsize>)
where
    D: Fn(TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let then = Arc::new(then);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, then) = (Arc::clone(&seen), Arc::clone(&then));
            tokio::spawn(async move {
                if read_request(&mut stream).await.is_some() {
                    seen.fetch_add(1, Ordering::SeqCst);
                    then(stream).await;
                }
            });
        }
    });
    (port, count)
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        text.extend_from_slice(&buffer[..n]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length =
                head.to_ascii_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(whole);
            }
        }
    }
}

/// A server that says the same each time, and then closes.
async fn says(reply: impl Into<Vec<u8>>) -> (u16, Arc<AtomicUsize>) {
    let reply = Arc::new(reply.into());
    server(move |mut stream| {
        let reply = Arc::clone(&reply);
        async move {
            stream.write_all(&reply).await.ok();
        }
    })
    .await
}

fn post(port: u16) -> Call {
    Call {
        method: http::Method::POST,
        url: format!("http://127.0.0.1:{port}/token?secret={CANARY}").parse().unwrap(),
        headers: vec![(http::header::AUTHORIZATION, Secret::new(format!("Basic {CANARY}")))],
        body: Some(Secret::new(format!("grant_type=refresh_token&refresh_token={CANARY}"))),
        timeout: Duration::from_secs(20),
    }
}

fn client() -> Fetch {
    Fetch::new(FetchSettings::default()).unwrap()
}

async fn ask(call: Call) -> Exchange {
    let exchange = client().exchange(call).await;
    assert!(!format!("{exchange:?}").contains(CANARY), "{exchange:?}");
    exchange
}

#[track_caller]
fn ambiguous(exchange: Exchange) -> Trouble {
    let Exchange::Ambiguous(trouble) = exchange else { panic!("{exchange:?}") };
    trouble
}

#[track_caller]
fn not_sent(exchange: Exchange) -> Trouble {
    let Exchange::NotSent(trouble) = exchange else { panic!("{exchange:?}") };
    trouble
}

#[track_caller]
fn replied(exchange: Exchange) -> Reply {
    let Exchange::Replied(reply) = exchange else { panic!("{exchange:?}") };
    reply
}

#[tokio::test]
async fn a_complete_reply_comes_as_it_was() {
    let (port, _) = says(b"HTTP/1.1 400 Bad\r\nX-Tag: a\r\nX-Tag: \xffb\r\nContent-Length: 5\r\n\r\nhello").await;
    let reply = replied(ask(post(port)).await);
    assert_eq!((reply.status, reply.body.as_slice(), reply.header("x-tag")), (400, b"hello".as_slice(), Some("a")));
    assert_eq!(reply.headers.iter().filter(|(name, _)| name == "x-tag").count(), 2);
}

#[tokio::test]
async fn the_request_is_sent_as_given_and_nothing_is_added_that_matters() {
    let (send, mut receive) = tokio::sync::mpsc::channel(2);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            send.send(request).await.unwrap();
        }
    });
    replied(ask(post(port)).await);
    let request = receive.recv().await.unwrap();
    assert!(request.starts_with("POST /token?secret="), "{request}");
    assert!(request.ends_with(&format!("refresh_token={CANARY}")), "{request}");
    let head = request.to_ascii_lowercase();
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{request}");
    assert!(head.contains(concat!("\r\nuser-agent: credd/", env!("CARGO_PKG_VERSION"), "\r\n")), "{request}");
    assert!(!head.contains("transfer-encoding"), "{request}");
    assert!(!head.contains("referer"), "{request}");

    replied(ask(Call { body: None, ..post(port) }).await);
    assert!(receive.recv().await.unwrap().to_ascii_lowercase().contains("\r\ncontent-length: 0\r\n"));
}

#[tokio::test]
async fn rf42_refused_and_unresolved_were_never_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let trouble = not_sent(ask(post(port)).await);
    assert_eq!(trouble, Trouble { reason: "connect", detail: format!("connection refused by 127.0.0.1:{port}") });

    let url = "https://no-such-host.invalid/token?q=canary-7f3a".parse().unwrap();
    let trouble = not_sent(ask(Call { url, ..post(port) }).await);
    assert_eq!(trouble.reason, "dns", "{trouble:?}");
    assert!(trouble.detail.starts_with("no-such-host.invalid does not resolve"), "{trouble:?}");
}

#[tokio::test]
async fn rf42_a_local_name_reaches_whichever_family_listens() {
    let (port, _) = says("HTTP/1.1 204 No\r\n\r\n").await;
    let url = format!("http://localhost:{port}/").parse().unwrap();
    assert_eq!(replied(ask(Call { url, ..post(port) }).await).status, 204);
}

#[tokio::test]
async fn rf13_a_hang_up_after_the_request_is_ambiguous_and_asked_once() {
    let (port, count) = server(|stream| async move { drop(stream) }).await;
    assert_eq!(ambiguous(ask(post(port)).await).reason, "reset");
    assert_eq!(count.load(Ordering::SeqCst), 1);

    let (port, count) = server(|stream| async move { stream.set_zero_linger().unwrap() }).await;
    assert_eq!(ambiguous(ask(post(port)).await).reason, "reset");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn rf13_no_connection_is_used_twice() {
    let connections = Arc::new(AtomicUsize::new(0));
    let (listener, seen) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::clone(&connections));
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                // Kept open on purpose: a pooling client would come back on it.
                while read_request(&mut stream).await.is_some() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
                }
            });
        }
    });
    let fetch = client();
    for _ in 0..3 {
        replied(fetch.exchange(post(port)).await);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn rf14_redirects_are_handed_over_and_not_followed() {
    let (other, elsewhere) = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    for status in [301, 302, 303, 307, 308] {
        let head =
            format!("HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{other}/\r\nContent-Length: 0\r\n\r\n");
        let (port, count) = says(head).await;
        assert_eq!(replied(ask(post(port)).await).status, status);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
    assert_eq!(elsewhere.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn rf22_broken_replies_are_ambiguous_with_their_reason() {
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'x'; BODY_LIMIT + 1]].concat();
    let table: &[(&[u8], &str)] = &[
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\"", "truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "truncated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\n", "too_large"),
        (&endless, "too_large"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 O", "reset"),
        (b"", "reset"),
    ];
    for (reply, reason) in table {
        let (port, count) = says(*reply).await;
        let trouble = ambiguous(ask(post(port)).await);
        assert_eq!(trouble.reason, *reason, "{trouble:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn rf22_a_body_of_exactly_the_limit_passes() {
    let whole = [b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n".as_slice(), &vec![b'x'; BODY_LIMIT]].concat();
    let (port, _) = says(whole).await;
    assert_eq!(replied(ask(post(port)).await).body.len(), BODY_LIMIT);
}

#[tokio::test]
async fn rf23_silence_and_dripping_end_with_the_budget() {
    let (silent, count) = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let call = Call { timeout: Duration::from_millis(300), ..post(silent) };
    assert_eq!(ambiguous(ask(call).await).reason, "timeout");
    assert_eq!(count.load(Ordering::SeqCst), 1);

    let (dripping, _) = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n").await.ok();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let call = Call { timeout: Duration::from_millis(300), ..post(dripping) };
    assert_eq!(ambiguous(ask(call).await).reason, "timeout");
}

#[tokio::test]
async fn fm08_a_compressed_reply_is_never_inflated() {
    let (port, _) = says("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x08x").await;
    let reply = replied(ask(post(port)).await);
    assert_eq!((reply.body.as_slice(), reply.header("content-encoding")), (b"\x1f\x08x".as_slice(), Some("gzip")));
}

#[tokio::test]
async fn rf43_no_tls_no_request() {
    // A peer that speaks anything but TLS, and one that hangs up during the handshake.
    for reply in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = vec![0; 4096];
            let n = stream.read(&mut first).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
            stream.shutdown().await.ok();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            [&first[..n], &rest].concat()
        });
        let url = format!("https://127.0.0.1:{port}/token").parse().unwrap();
        let trouble = not_sent(ask(Call { url, ..post(port) }).await);
        assert_eq!(trouble.reason, "tls", "{trouble:?}");
        let heard = heard.await.unwrap();
        assert!(!heard.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    }
}

#[tokio::test]
async fn rf43_a_proxy_that_refuses_means_not_sent() {
    for reply in
        ["HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 502 Bad\r\n\r\n", ""]
    {
        let (port, count) = says(reply).await;
        let proxy = Some(format!("http://127.0.0.1:{port}").parse().unwrap());
        let fetch = Fetch::new(FetchSettings { proxy, ..FetchSettings::default() }).unwrap();
        let url = "https://api.example.com/token".parse().unwrap();
        let trouble = not_sent(fetch.exchange(Call { url, ..post(port) }).await);
        assert_eq!(trouble.reason, "proxy", "{trouble:?}");
        assert!(trouble.detail.contains("api.example.com:443"), "{trouble:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_header_that_http_cannot_carry_is_not_sent_and_not_quoted() {
    let (port, count) = says("HTTP/1.1 200 OK\r\n\r\n").await;
    let headers = vec![(http::header::AUTHORIZATION, Secret::new(format!("Bearer {CANARY}\r\nX: y")))];
    let trouble = not_sent(ask(Call { headers, ..post(port) }).await);
    assert_eq!(trouble.reason, "malformed");
    assert!(trouble.detail.contains("authorization"), "{trouble:?}");
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_that_never_stands_in_time_sends_nothing() {
    // Nobody accepts, and the queue is full: the handshake of TCP stays open.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(("127.0.0.1", port))).await
    {
        waiting.push(stream);
    }
    let trouble = not_sent(ask(Call { timeout: Duration::from_millis(300), ..post(port) }).await);
    assert_eq!(trouble.reason, "timeout", "{trouble:?}");
}

#[tokio::test]
async fn a_body_that_was_withdrawn_is_never_sent() {
    use http_body_util::BodyExt;
    let (body, mark) = Watched::new(Secret::new(CANARY));
    assert!(mark.withdraw());
    assert!(body.collect().await.is_err());
    let (body, mark) = Watched::new(Secret::new(CANARY));
    assert_eq!(body.collect().await.unwrap().to_bytes(), CANARY);
    assert!(!mark.withdraw());
}

#[test]
fn settings_print_no_login() {
    let proxy = Some("http://user:canary-7f3a@proxy:3128".parse().unwrap());
    let settings = FetchSettings { proxy, ..FetchSettings::default() };
    assert!(!format!("{settings:?} {:?}", Fetch::new(settings.clone()).unwrap()).contains(CANARY));
}

#[test]
fn a_call_prints_method_and_host_alone() {
    assert_eq!(format!("{:?}", post(80)), "Call(POST 127.0.0.1)");
}

#[test]
fn settings_that_make_no_client_say_why() {
    let bad = FetchSettings { private_ca: vec![b"no PEM".to_vec()], ..FetchSettings::default() };
    assert_eq!(Fetch::new(bad).unwrap_err(), FetchError::Bundle(1));
}
