//! What is renewed ahead of time, and what is renewed because a reader was refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use super::Script;
use crate::{
    credential::Reply,
    demo::{
        cast::{CAST, Part, who},
        reader::{Judged, request},
    },
};

/// Readers that are refused at once.
const REFUSED: usize = 5;

impl Script {
    /// Every short-lived token is renewed before it ends.
    pub(super) async fn proactive(&self) -> Result<String, String> {
        let short = || CAST.iter().filter(|role| matches!(role.part, Part::Short | Part::Limited));
        self.view.say("Tokens that live 12 to 24 seconds: each is renewed ahead of its end, and nobody waits.");
        self.until("a refresh of each short-lived token", || {
            let renewed = short().all(|role| self.calls(role.name).iter().any(|call| call.committed.is_some()));
            renewed.then_some(())
        })
        .await?;
        Ok(format!("{} tokens of 12 to 24 s renewed ahead of their end, again and again", short().count()))
    }

    /// A session ends at the provider before its time; readers that are refused hand that in.
    pub(super) async fn refusal(&self) -> Result<String, String> {
        let name = who(Part::Refused);
        self.at(0.08).await;
        let mut reader = self.reader();
        let token = reader.token(name).await?;
        expect(self.api.call(&self.sandbox.probe_url(), &token.access_token).await?, 200, "the first call")?;
        self.view.say(&format!("Somebody signs {name} out at the provider: its token is dead long before its date."));
        let url = format!("{}/revoke", self.sandbox.url);
        expect(self.api.sign_out(&url, &token.access_token).await?, 200, "the sign-out")?;
        let refused =
            expect(self.api.call(&self.sandbox.probe_url(), &token.access_token).await?, 401, "the next call")?;
        self.view.say(&format!("{REFUSED} readers of {name} got 401 from the API, and all hand that in at once."));
        let headers: BTreeMap<&str, &str> = refused.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let body = String::from_utf8_lossy(&refused.body);
        let document = json!({ "generation": token.generation, "status": 401, "headers": headers, "body": body });
        let document = Bytes::from(document.to_string());
        let path = format!("/v1/tokens/{name}/refused");
        let judged = join_all((0..REFUSED).map(|_| async {
            let answer = self.reader().ask(request(Method::POST, &path, document.clone())).await?;
            if answer.status == 200 { answer.read::<Judged>() } else { Err(answer.reason()) }
        }));
        let mut newest = None;
        for judged in judged.await {
            newest = judged?.token.filter(|new| new.generation > token.generation).or(newest);
        }
        let newest = newest.ok_or("handing in a refusal brought no newer token")?;
        expect(
            self.api.call(&self.sandbox.probe_url(), &newest.access_token).await?,
            200,
            "a call with the new token",
        )?;
        let refreshes = self.sandbox.admin().counters_of(self.grant(name)).refresh_calls;
        if refreshes != 1 {
            return Err(format!("{REFUSED} refusals of one token made {refreshes} refreshes"));
        }
        self.view.good(&format!("{name}: one refresh mended it, and the API takes the new token"));
        Ok(format!("{REFUSED} readers handed in the same 401: 1 refresh, and the API takes the new token"))
    }
}

fn expect(reply: Reply, status: u16, what: &str) -> Result<Reply, String> {
    if reply.status == status { Ok(reply) } else { Err(format!("{what} was answered with {}", reply.status)) }
}
