//! A real `warren-apid`, asked over its unix socket and its probes.

use std::net::SocketAddr;
use std::process::Command;

use link::ServerAddress;
use link::https::{Bounds, Method, Request, Server, header, request};
use model::Fingerprint;
use model::token::OnboardingToken;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::started::{Started, free};
use crate::{PATIENCE, soon};

pub struct Apid {
    started: Started,
    dir: TempDir,
    pub address: ServerAddress,
    probes: SocketAddr,
    fingerprint: Fingerprint,
    flags: Vec<String>,
}

impl Apid {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(flags: &[&str]) -> Self {
        let (listen, probes) = (free(), free());
        let mut all = vec!["--allow-root".to_owned(), "--public-url".into(), format!("https://{listen}")];
        all.extend(["--listen".into(), listen.to_string(), "--metrics-listen".into(), probes.to_string()]);
        all.extend(flags.iter().copied().map(str::to_owned));
        Self::again(tempfile::tempdir().expect("a directory"), &all)
    }

    /// With the state and the flags of one that was killed.
    pub fn again(dir: TempDir, flags: &[String]) -> Self {
        let arrange = |command: &mut Command| {
            command.args(flags);
        };
        let started = Started::new(dir.path(), arrange, |_| false);
        let after = |flag: &str| {
            let at = flags.iter().position(|given| given == flag).expect("given") + 1;
            flags[at].parse::<SocketAddr>().expect("an address")
        };
        Self {
            fingerprint: started.field("fingerprint").parse().expect("a fingerprint"),
            started,
            dir,
            address: after("--listen").into(),
            probes: after("--metrics-listen"),
            flags: flags.to_vec(),
        }
    }

    /// Of its TLS key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub fn id(&self) -> u32 {
        self.started.child.id()
    }

    /// Ends it at once, and gives back what it keeps and how it was started.
    pub fn kill(mut self) -> (TempDir, Vec<String>) {
        self.started.child.kill().expect("alive");
        self.started.child.wait().expect("waited for");
        (self.dir, self.flags)
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, serde_json::to_vec(&body).expect("JSON")).await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, Vec::new()).await
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Value {
        let wish = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.into())
            .expect("a request");
        let server = Server::Unix(self.dir.path().join("apid.sock"));
        let bounds = Bounds { time_max: PATIENCE, ..Bounds::default() };
        let response = request(&server, wish, bounds).await.expect("an answer");
        assert!(response.status().is_success(), "{path}: {response:?}");
        serde_json::from_slice(response.body()).expect("JSON")
    }

    pub async fn token(&self, tenant: &str, needs_approval: bool) -> OnboardingToken {
        let wish = json!({"ttl_seconds": 600, "uses": 10, "approve": needs_approval});
        let made = self.post(&format!("/api/v1/tokens?tenant={tenant}"), wish).await;
        made["secret"].as_str().expect("a secret").parse().expect("a token")
    }

    pub async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.probes).await.expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("text");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {name}"));
        value.parse().expect("a number")
    }

    /// Waits until a metric has this value.
    pub async fn wait_for(&self, name: &str, value: u64) {
        soon(async { while self.metric(name).await != value {} }).await;
    }
}
