//! One conversation with an SMTP server, and what its failing means.

use std::{error::Error as _, io, net::SocketAddr, path::Path, time::Duration};

use lettre::{
    address::Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::ClientId,
    },
};

use super::{Settings, Tls};
use crate::{credential::Resolve, incident::words::one_line, pager::Delivery};

/// For each address of the server.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a conversation ended early.
#[derive(Debug)]
pub(super) struct Failed {
    reason: &'static str,
    detail: String,
    /// The server's answer will be the same next time.
    for_good: bool,
}

impl From<Failed> for Delivery {
    fn from(Failed { reason, detail, for_good }: Failed) -> Self {
        if for_good { Self::Never { reason, detail } } else { Self::Later { reason, detail, after: None } }
    }
}

impl Failed {
    pub(super) fn later(reason: &'static str, detail: String) -> Self {
        Self { reason, detail, for_good: false }
    }

    pub(super) fn into_detail(self) -> String {
        self.detail
    }

    /// A reply counts by its class; anything else is the network's. What the server says is repeated, except about AUTH.
    fn of(place: &str, stage: &str, error: &Error) -> Self {
        if let Some(code) = error.status() {
            let said = match error.source() {
                Some(text) if stage != "AUTH" => format!(" {}", one_line(&text.to_string(), 200)),
                _ => String::new(),
            };
            // A wrong password is not for good: it is read anew at each connection, and somebody may be rotating it.
            let for_good = error.is_permanent() && stage != "AUTH";
            let reason = if error.is_permanent() { "rejected" } else { "unavailable" };
            let next = if stage == "AUTH" { "; check username and password" } else { "" };
            return Self { reason, detail: format!("{place} refused {stage}: {code}{said}{next}"), for_good };
        }
        let tls = is_tls(error);
        let reason = match stage {
            _ if error.is_timeout() => "timeout",
            _ if tls => "tls",
            _ if error.is_client() => "rejected",
            "STARTTLS" | "TLS" => "tls",
            _ => "connect",
        };
        let next = if tls { "; a private CA is named by `ca`" } else { "" };
        Self::later(reason, format!("{place} at {stage}: {}{next}", one_line(&error.to_string(), 200)))
    }
}

/// Whether rustls is at the bottom of it (an io error hides it from `source`).
fn is_tls(error: &Error) -> bool {
    std::iter::successors(error.source(), |e| (*e).source()).any(|e| {
        e.is::<rustls::Error>()
            || e.downcast_ref::<io::Error>().and_then(io::Error::get_ref).is_some_and(|e| e.is::<rustls::Error>())
    })
}

/// A connection that is ready for mail: greeted, encrypted, authenticated.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    place: String,
}

impl Session {
    /// Connects, and reads certificate and password anew, so that a rotated one counts at once.
    #[expect(clippy::disallowed_methods, reason = "the mail server's password")]
    pub(super) async fn open(settings: &Settings, resolve: &dyn Resolve) -> Result<Self, Failed> {
        let port = settings.port.unwrap_or(settings.tls.usual_port());
        let place = format!("{}:{port}", settings.host);
        let addresses = lookup(settings, port, &place).await?;
        let tls = match settings.tls {
            Tls::None => None,
            Tls::Starttls | Tls::Implicit => Some(parameters(&settings.host, settings.ca.as_deref())?),
        };
        let hello = ClientId::default();
        let (implicit, upgrade) = if settings.tls == Tls::Implicit { (tls, None) } else { (None, tls) };
        let stage = if implicit.is_some() { "TLS" } else { "connect" };
        let mut connection = AsyncSmtpConnection::connect_tokio1(&addresses[..], Some(CONNECT), &hello, implicit, None)
            .await
            .map_err(|error| Failed::of(&place, if is_tls(&error) { stage } else { "connect" }, &error))?;
        if let Some(tls) = upgrade {
            if !connection.can_starttls() {
                connection.abort().await;
                let detail = format!(
                    "{place} does not offer STARTTLS, and without it nothing is sent; is `tls = \"implicit\"` meant?"
                );
                return Err(Failed::later("tls", detail));
            }
            connection.starttls(tls, &hello).await.map_err(|error| Failed::of(&place, "STARTTLS", &error))?;
        }
        if let (Some(user), Some(password)) = (&settings.username, &settings.password) {
            let password = resolve
                .resolve(password)
                .await
                .map_err(|why| Failed::later("rejected", format!("the password for {place}: {why}")))?;
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            if let Err(error) = connection.auth(DEFAULT_MECHANISMS, &credentials).await {
                connection.abort().await;
                return Err(Failed::of(&place, "AUTH", &error));
            }
        }
        Ok(Self { connection, place })
    }

    /// Sends one mail. A refused recipient does not keep the mail from the others; without any, nothing is sent.
    pub(super) async fn send(&mut self, from: &Address, to: &[Address], mail: &[u8]) -> Result<(), Failed> {
        let Self { connection, place } = self;
        connection
            .command(Mail::new(Some(from.clone()), vec![]))
            .await
            .map_err(|error| Failed::of(place, "the sender", &error))?;
        let (mut accepted, mut refused) = (0, None::<Failed>);
        for address in to {
            match connection.command(Rcpt::new(address.clone(), vec![])).await {
                Ok(_) => accepted += 1,
                Err(error) => {
                    let failed = Failed::of(place, &format!("recipient {address}"), &error);
                    tracing::warn!(reason = failed.reason, "{}", failed.detail);
                    // One recipient who may be accepted later is worth another try.
                    if refused.as_ref().is_none_or(|before| before.for_good) {
                        refused = Some(failed);
                    }
                }
            }
        }
        if let (0, Some(failed)) = (accepted, refused) {
            return Err(failed);
        }
        connection.command(Data).await.map_err(|error| Failed::of(place, "DATA", &error))?;
        connection.message(mail).await.map_err(|error| Failed::of(place, "the mail", &error))?;
        Ok(())
    }

    /// What was found at the other end, for a person.
    pub(super) fn found(&self) -> String {
        let encrypted = if self.connection.is_encrypted() { "encrypted" } else { "not encrypted (loopback)" };
        let server = one_line(self.connection.server_info().name(), 80);
        format!("{} ({server}) is ready for mail, {encrypted}", self.place)
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        self.connection.abort().await;
    }
}

async fn lookup(settings: &Settings, port: u16, place: &str) -> Result<Vec<SocketAddr>, Failed> {
    let found = tokio::net::lookup_host((settings.host.as_str(), port)).await;
    let addresses: Vec<SocketAddr> = found
        .map_err(|error| Failed::later("dns", format!("{place} has no address: {error}; check `host` and DNS")))?
        .collect();
    if addresses.is_empty() {
        return Err(Failed::later("dns", format!("{place} has no address; check `host` and DNS")));
    }
    if settings.tls == Tls::None && !addresses.iter().all(|address| address.ip().to_canonical().is_loopback()) {
        let detail = format!("{place} is not on loopback, and `tls = \"none\"` is for loopback only; nothing was sent");
        return Err(Failed { reason: "tls", detail, for_good: true });
    }
    Ok(addresses)
}

/// Trust in the private CA alone where one is named, in the system's otherwise.
fn parameters(host: &str, ca: Option<&Path>) -> Result<TlsParameters, Failed> {
    let tls = |why: String| Failed::later("tls", why);
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|error| tls(format!("ca {}: {error}", path.display())))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|_| tls(format!("ca {}: not a PEM certificate", path.display())))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| tls(format!("TLS cannot be set up: {error}")))
}
