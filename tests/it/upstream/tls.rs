//! TLS: private authorities are trusted when named, and nobody else.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use credd::{
    credential::Secret,
    fetch::{Call, Exchange, Fetch, FetchSettings},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::replied;
use crate::components::folder;

/// HTTPS on loopback with a certificate of the test authority; counts the requests that it could read.
async fn tls_server(folder: &Path) -> (u16, Arc<AtomicUsize>) {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.ok();
                stream.shutdown().await.ok();
            }
        }
    });
    (port, heard)
}

fn certificates(environment: &[(&str, &str)]) -> tempfile::TempDir {
    let made = tempfile::tempdir().unwrap();
    let run =
        Command::new(folder().join("tls.sh")).arg(made.path()).envs(environment.iter().copied()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    made
}

#[tokio::test]
async fn rf43_no_secret_reaches_a_peer_that_is_not_proven() {
    let call = |url: String| Call {
        method: http::Method::POST,
        url: url.parse().unwrap(),
        headers: Vec::new(),
        body: Some(Secret::new("refresh_token=canary")),
        timeout: Duration::from_secs(20),
    };
    let trusting = |folder: &Path| {
        let bundle = std::fs::read(folder.join("ca.pem")).unwrap();
        Fetch::new(FetchSettings { private_ca: vec![bundle], ..FetchSettings::default() }).unwrap()
    };
    let good = certificates(&[]);
    let (port, heard) = tls_server(good.path()).await;
    assert_eq!(replied(trusting(good.path()).exchange(call(format!("https://127.0.0.1:{port}/"))).await).status, 200);
    assert_eq!(heard.swap(0, Ordering::SeqCst), 1);

    let expired = certificates(&[("NOT_AFTER", "20240101000000Z")]);
    let (old_port, old_heard) = tls_server(expired.path()).await;
    let strangers = Fetch::new(FetchSettings::default()).unwrap();
    for (fetch, url) in [
        (&strangers, format!("https://127.0.0.1:{port}/")),
        (&trusting(good.path()), format!("https://other.localhost:{port}/")),
        (&trusting(expired.path()), format!("https://127.0.0.1:{old_port}/")),
    ] {
        let exchange = fetch.exchange(call(url.clone())).await;
        let Exchange::NotSent(trouble) = exchange else { panic!("{url}: {exchange:?}") };
        assert_eq!(trouble.reason, "tls", "{url}: {trouble:?}");
        assert!(trouble.detail.contains("certificate"), "{trouble:?}");
    }
    assert_eq!((heard.load(Ordering::SeqCst), old_heard.load(Ordering::SeqCst)), (0, 0));
}
