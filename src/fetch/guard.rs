//! Where calls may go: HTTPS anywhere; plain HTTP only to this machine, or to hosts that the settings name.
//!
//! Endpoints come from the operator's settings and the catalogue, never from a reply, so private networks are allowed:
//! many upstreams live there. What must not happen is a secret in clear on a wire.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::Trouble;

/// Says no to addresses that would carry secrets in clear, and to those with a login inside.
pub(super) fn check(url: &Url, plain_http: &[String]) -> Result<(), Trouble> {
    let host = url.host_str().unwrap_or("?");
    let refuse = |detail: String| Err(Trouble { reason: "forbidden", detail });
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(format!("the address of {host} holds a login; put it into the credential instead"));
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url.host()) || plain_http.iter().any(|name| name == host) => Ok(()),
        "http" => refuse(format!(
            "plain http to {host} would send secrets in clear: use https, or allow this host for plain http"
        )),
        scheme => refuse(format!("{scheme} is not https")),
    }
}

fn is_loopback(host: Option<Host<&str>>) -> bool {
    match host {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => is_local_name(name),
        None => false,
    }
}

/// Names that RFC 6761 §6.3 reserves for this machine.
fn is_local_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// The system's resolver, except that local names never leave the machine: plain HTTP to them is allowed, so what
/// they mean is not left to DNS. Nothing is cached here, neither answers nor errors (RF-42).
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if is_local_name(name.as_str()) {
                let both = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
                return Ok(Box::new(both.into_iter()) as Addrs);
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        let allowed = ["vault.internal".to_owned()];
        let says = |url: &str| check(&Url::parse(url).unwrap(), &allowed).map_err(|trouble| trouble.reason);
        for good in [
            "https://api.example.com/token",
            "https://10.0.0.1/",
            "http://127.0.0.1:9/",
            "http://127.9.9.9/",
            "http://[::1]:9/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost:9/",
            "http://a.localhost./",
            "http://2130706433/",
            "http://vault.internal/v1",
        ] {
            assert_eq!(says(good), Ok(()), "{good}");
        }
        for bad in [
            "http://api.example.com/token",
            "http://10.0.0.1/",
            "http://0.0.0.0/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://[::ffff:10.0.0.1]/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "https://user@api.example.com/",
            "https://user:canary@api.example.com/",
        ] {
            assert_eq!(says(bad), Err("forbidden"), "{bad}");
        }
        let error = check(&Url::parse("https://u:canary@h/?q=canary").unwrap(), &[]).unwrap_err();
        assert!(!error.detail.contains("canary"), "{error:?}");
    }
}
