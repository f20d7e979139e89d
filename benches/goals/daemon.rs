//! The real daemon and the sandbox as its provider, each in a process of its own.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
};

use serde_json::{Value, json};

use super::{
    load::{self, Connection},
    process::{Role, credd, folder, nanoseconds},
    publishing::name,
};

/// A provider with as many clients as are asked for.
pub struct Sandbox {
    _role: Role,
    token_endpoint: String,
    probe_url: String,
    admin: String,
}

impl Sandbox {
    /// Starts it, out of the way: in life the provider's processor is not ours.
    pub fn start() -> Self {
        let mut role = Role::credd(&["sandbox", "--json", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--grants=0"]);
        let pid = rustix::process::Pid::from_raw(i32::try_from(role.id()).expect("small"));
        let _ = rustix::process::setpriority_process(pid, 10);
        let said: Value = serde_json::from_str(&role.hear()).expect("it says JSON");
        let text = |key: &str| said[key].as_str().expect("it is said").to_owned();
        let (token_endpoint, probe_url, admin) = (text("token_endpoint"), text("probe_url"), text("admin"));
        Self { _role: role, token_endpoint, probe_url, admin }
    }

    /// Asks its admin API.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let address = self.admin.strip_prefix("http://").expect("it is plain HTTP");
        serde_json::from_str(&http(address, method, path, &body.to_string())).expect("it answers JSON")
    }

    /// Grants of so many clients in turn, as the documents of a home store, by the names of their credentials.
    pub fn grants(&self, count: usize, clients: usize, access_ttl: u64) -> Vec<(String, Value)> {
        for client in 0..clients {
            let client = json!({"id": client_id(client, clients), "secret": "s", "access_ttl": access_ttl});
            self.ask("POST", "/admin/clients", &client);
        }
        let grant = |number| {
            let terms = json!({"client": client_id(number, clients), "access_ttl": access_ttl, "profile": "strict"});
            let mut document = self.ask("POST", "/admin/grants", &terms);
            document.as_object_mut().expect("an object").remove("id");
            (name(number), document)
        };
        (0..count).map(grant).collect()
    }
}

fn client_id(number: usize, clients: usize) -> String {
    format!("client-{}", number % clients)
}

/// Folders and settings of a daemon.
pub struct House {
    folder: tempfile::TempDir,
    sockets: tempfile::TempDir,
    health: String,
    credentials: usize,
}

impl House {
    /// For credentials of that sandbox; their grants are put into the embedded store. `more` is added to the policy.
    pub fn build(sandbox: &Sandbox, credentials: usize, clients: usize, access_ttl: u64, more: &str) -> Self {
        // A port that was free a moment ago: whoever asks for readiness must know it before the daemon says so.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free");
        let sockets = tempfile::tempdir().expect("a folder");
        let house = Self { folder: folder(), sockets, health: port.to_string(), credentials };
        let ledger = house.folder.path().join("ledger.db");
        let mut settings = format!(
            "startup = \"warn\"\n[server]\nhealth = \"{port}\"\nsocket = {:?}\nconnections_per_uid = 20000\n\
             [ledger]\npath = {ledger:?}\n[policies.default]\nprobe = \"0 0 0 1 1 *\"\n{more}\n",
            house.socket(),
        );
        for number in 0..credentials {
            let (name, client) = (name(number), client_id(number, clients));
            let Sandbox { token_endpoint, probe_url, .. } = sandbox;
            write!(
                settings,
                "[credentials.{name}]\nprovider = \"rfc6749\"\nkind = \"refresh_token\"\nupstream = {{ token_endpoint = \
                 {token_endpoint:?}, probe_url = {probe_url:?}, client_id = {client:?} }}\n"
            )
            .expect("it fits");
        }
        fs::write(house.settings(), settings).expect("ours");
        for some in sandbox.grants(credentials, clients, access_ttl).chunks(2000) {
            house.import(&some.iter().cloned().collect::<serde_json::Map<_, _>>().into());
        }
        house
    }

    fn import(&self, documents: &Value) {
        let settings = self.settings();
        let mut command = credd(&["--config", settings.to_str().expect("text"), "credential", "import"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(documents.to_string().as_bytes()).expect("it reads");
        assert!(child.wait().expect("it ends").success(), "the secrets cannot be imported");
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("credd.toml")
    }

    /// The readers' socket.
    pub fn socket(&self) -> PathBuf {
        self.sockets.path().join("credd.sock")
    }

    /// The operator's socket.
    pub fn admin(&self) -> PathBuf {
        self.sockets.path().join("admin.sock")
    }

    /// Starts the daemon; it serves when it is ready and a read of its last credential brings a token. Says how long
    /// that took.
    pub fn start(&self) -> (Role, u64) {
        let settings = self.settings();
        let begun = nanoseconds();
        let role = Role::credd(&["--config", settings.to_str().expect("text"), "run"]);
        while !is_ready(&self.health) {
            assert!(nanoseconds() - begun < 120_000_000_000, "the daemon is not ready within two minutes");
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
        let read = load::request(&format!("/v1/tokens/{}", name(self.credentials - 1)));
        assert!(load::is_good(Connection::open(&self.socket()).exchange(&read)), "it is ready and serves no token");
        (role, nanoseconds() - begun)
    }

    /// Where health and metrics are.
    pub fn health(&self) -> &str {
        &self.health
    }
}

fn is_ready(health: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(health) else { return false };
    let mut head = [0; 13];
    stream.write_all(&load::request("/readyz")).and_then(|()| stream.read_exact(&mut head)).is_ok()
        && load::is_good(&head)
}

/// One exchange on a connection of its own.
pub fn http(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    // Whoever closes at once after the answer may reset.
    let _ = stream.read_to_end(&mut answer);
    assert!(load::is_good(&answer), "{method} {path}: {}", String::from_utf8_lossy(&answer));
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    String::from_utf8_lossy(&answer[head..]).into_owned()
}
