//! A whole daemon in this process: that its settings reach the parts they are for.

use std::{fs, sync::Arc};

use credd::{
    clock::SystemClock,
    config,
    daemon::{Daemon, Environment},
    telemetry::Redactor,
};

use crate::board::{Client, soon};

#[tokio::test]
async fn connections_per_uid_is_what_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let settings = format!(
        "[server]\nhealth = \"127.0.0.1:0\"\nsocket = {:?}\nconnections_per_uid = 2\n[ledger]\npath = {:?}\n",
        path("credd.sock"),
        path("ledger.db"),
    );
    fs::write(path("credd.toml"), settings).unwrap();
    let loaded = config::load(Some(&path("credd.toml")), &[]).unwrap();
    let environment = Environment {
        clock: Arc::new(SystemClock),
        redactor: Redactor::default(),
        dice: Arc::new(|| 0.5),
        machine: None,
        telemetry: None,
    };
    let daemon = soon(Box::pin(Daemon::start(loaded, environment))).await.unwrap();
    let mut clients = Vec::new();
    for expected in [200, 200, 503] {
        let mut client = Client::connect(&daemon.socket).await;
        assert_eq!(client.get("/v1/credentials").await.status, expected);
        clients.push(client);
    }
    drop(clients);
    soon(daemon.stop()).await;
}
