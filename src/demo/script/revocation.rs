//! A grant dies, on-call is paged, and a person brings a new one.

use std::time::Duration;

use http::Method;

use super::{Promise, Script};
use crate::{
    cli::{self, client::Client},
    demo::{
        cast::{CAST, Part, who},
        sinks::{By, Says},
    },
    lifecycle::State,
};

impl Script {
    /// A grant dies, and a person brings a new one.
    pub(super) async fn revocation(&self) {
        let name = who(Part::Revoked);
        self.at(0.38).await;
        self.view.say(&format!("Somebody revokes the grant of {name} at the provider. Nobody tells credd."));
        self.withdrawn.begin(name);
        let began = self.clock.now().boot;
        self.sandbox.admin().revoke(self.grant(name));
        let outcome = self.paged(name, began).await;
        let revoked = outcome.is_ok();
        self.note(Promise::Revocation, outcome);
        // A person needs longer than that, and the audience wants to see it red.
        self.clock.sleep(self.length.mul_f64(0.05)).await;
        self.at(0.65).await;
        let healed =
            if revoked { self.healed(name).await } else { Err("nothing to heal: the revocation was not seen".into()) };
        self.note(Promise::Healing, healed);
    }

    async fn paged(&self, name: &str, began: Duration) -> Result<String, String> {
        let since = |at: Duration| at.saturating_sub(began).as_secs_f64();
        self.until("the revocation", || self.view_of(name).filter(|view| view.state == State::Revoked)).await?;
        let seen = since(self.clock.now().boot);
        let red = self
            .until("/health turning red", || self.health.changes().last().copied().filter(|(_, status)| *status == 503))
            .await?;
        let mail = self.until("the page by e-mail", || self.inbox.first(By::Mail, Says::Opened)).await?;
        self.view.bad("PAGE by e-mail: somebody is woken");
        let hook = self.until("the page by webhook", || self.inbox.first(By::Hook, Says::Opened)).await?;
        self.view.bad("PAGE by webhook, its signature is good");
        Ok(format!(
            "found by a probe and confirmed after {seen:.1} s; /health 503 after {:.1} s; paged after {:.1} s (mail) and \
             {:.1} s (webhook)",
            since(red.0),
            since(mail.at),
            since(hook.at)
        ))
    }

    async fn healed(&self, name: &'static str) -> Result<String, String> {
        let before = self.view_of(name).ok_or("the credential is gone")?.generation;
        let role = CAST.iter().find(|role| role.name == name).ok_or("nobody plays this part")?;
        let (_, document) = role.grant(&self.sandbox);
        self.view.say(&format!("A person has connected {name} anew, and puts the new secret into the embedded store."));
        let began = self.clock.now().boot;
        let since = |at: Duration| at.saturating_sub(began).as_secs_f64();
        let client = Client::operator(&cli::Context { config: None, socket: Some(self.socket.clone()) });
        let path = format!("/v1/embedded/{name}");
        let put = client.ask(Method::PUT, &path, Some(&document)).await.map_err(|error| error.to_string())?;
        if !put.is_success() {
            return Err(put.detail());
        }
        let view = |state| self.view_of(name).filter(|view| view.generation > before && view.state == state);
        self.until("the new secret being served", || view(State::Fresh)).await?;
        self.withdrawn.end(name);
        let green = self
            .until("/health turning green", || {
                self.health.changes().last().copied().filter(|(_, status)| *status == 200)
            })
            .await?;
        let mail = self.until("the resolve by e-mail", || self.inbox.first(By::Mail, Says::Resolved)).await?;
        let hook = self.until("the resolve by webhook", || self.inbox.first(By::Hook, Says::Resolved)).await?;
        self.view.good("The incident is resolved, by e-mail and by webhook.");
        Ok(format!(
            "/health 200 after {:.1} s; resolved after {:.1} s (mail) and {:.1} s (webhook)",
            since(green.0),
            since(mail.at),
            since(hook.at)
        ))
    }
}
